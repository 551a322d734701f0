"""The report of an evaluation as a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from elluminate_async.cli.writing import make_folder
from elluminate_async.report.render import check_library

if TYPE_CHECKING:
    from elluminate_async import Evaluation
    from elluminate_async.cli.spec import GateSpec


def check_report() -> None:
    """Raise `MissingExtraError` where no report could be written, before anything is done."""
    check_library()


def write_report(evaluation: Evaluation, path: str, gate: GateSpec | None = None) -> None:
    """Write the report of ``evaluation`` and of its gate, one HTML file.

    Raises:
        InputError: Its folder cannot be made.
        OSError: It cannot be written.
    """
    make_folder(path)
    evaluation.report(path, **({} if gate is None else gate.model_dump()))
