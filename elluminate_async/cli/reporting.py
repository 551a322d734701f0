"""The report of an evaluation as a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from elluminate_async.errors import ConfigurationError

if TYPE_CHECKING:
    from elluminate_async import Evaluation


def write_report(evaluation: Evaluation, path: str) -> None:
    """Write the report of ``evaluation``, one HTML file.

    Raises:
        ConfigurationError: This version has no report.
        OSError: It cannot be written.
    """
    report = getattr(evaluation, "report", None)
    if report is None:
        raise ConfigurationError("this version writes no reports: leave out --report")
    report(path)
