"""The report of an evaluation as a file."""

from __future__ import annotations

from collections.abc import Callable

from elluminate_async import ConfigurationError, Evaluation


def check_report() -> None:
    """Raise `ConfigurationError` where this version has no report, before anything is done."""
    if not hasattr(Evaluation, "report"):
        raise ConfigurationError("this version writes no reports: leave out --report")


def write_report(evaluation: Evaluation, path: str) -> None:
    """Write the report of ``evaluation``, one HTML file.

    Raises:
        ConfigurationError: This version has no report.
        OSError: It cannot be written.
    """
    check_report()
    write: Callable[[str], object] = getattr(evaluation, "report")  # noqa: B009
    write(path)
