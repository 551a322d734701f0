"""Results as a file, in the format that its suffix names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from elluminate_async.errors import InputError
from elluminate_async.tables.files import written
from elluminate_async.tables.texts import json_text

if TYPE_CHECKING:
    from elluminate_async import Evaluation

_WRITERS: Final[Mapping[str, Callable[[Evaluation, str], None]]] = {
    ".jsonl": lambda evaluation, path: write_records(evaluation, path),
    ".csv": lambda evaluation, path: evaluation.write_csv(path),
    ".parquet": lambda evaluation, path: evaluation.write_parquet(path),
    ".xml": lambda evaluation, path: evaluation.write_junit(path, name=evaluation.name),
}


def write_records(evaluation: Evaluation, path: str | Path) -> None:
    """Write a line of JSON for each record, as `EvaluationRecord.to_dict` has it."""
    with written(path) as file:
        for record in evaluation:
            file.write((json_text(record.to_dict()) + "\n").encode())


def check_suffix(path: str) -> None:
    """Raise `InputError` where no format has the suffix of ``path``."""
    if Path(path).suffix.lower() not in _WRITERS:
        raise InputError(
            f"{path}: results are written as {', '.join(_WRITERS)}; .xml is JUnit's, for CI"
        )


def write_results(evaluation: Evaluation, path: str) -> None:
    """Write the results; the file that is there is kept until the new one is whole.

    Raises:
        InputError: The suffix is none, or it cannot be written.
        MissingExtraError: The format needs a library that is not installed.
    """
    check_suffix(path)
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        _WRITERS[Path(path).suffix.lower()](evaluation, path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None
