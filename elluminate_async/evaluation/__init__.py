"""Evaluations as a whole: the statistics of a judge's verdicts."""
