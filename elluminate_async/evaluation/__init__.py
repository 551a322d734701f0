"""From rows to verdicts: generate and rate in one call, with a record for each row."""
