"""Results as a file, in the format that its suffix names."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from elluminate_async.errors import InputError

if TYPE_CHECKING:
    from elluminate_async import Evaluation

_WRITERS: Final[Mapping[str, Callable[[Evaluation, str], None]]] = {
    ".jsonl": lambda evaluation, path: evaluation.write_records(path),
    ".csv": lambda evaluation, path: evaluation.write_csv(path),
    ".parquet": lambda evaluation, path: evaluation.write_parquet(path),
    ".xml": lambda evaluation, path: evaluation.write_junit(path, name=evaluation.name),
}


def check_suffix(path: str) -> None:
    """Raise `InputError` where no format has the suffix of ``path``."""
    if Path(path).suffix.lower() not in _WRITERS:
        raise InputError(
            f"{path}: results are written as {', '.join(_WRITERS)}; .xml is JUnit's, for CI"
        )


def make_folder(path: str) -> None:
    """Make the folder that the file is to be in.

    Raises:
        InputError: It cannot be made or written into, or ``path`` is a folder itself.
    """
    folder = Path(path).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {path}: {folder}: {error.strerror or error}") from None
    if Path(path).is_dir():
        raise InputError(f"cannot write {path}: it is a folder; name a file in it")
    if not os.access(folder, os.W_OK):
        raise InputError(f"cannot write {path}: the folder may not be written into")


def write_results(evaluation: Evaluation, path: str) -> None:
    """Write the results; the file that is there is kept until the new one is whole.

    Raises:
        InputError: The suffix is none, or it cannot be written.
        MissingExtraError: The format needs a library that is not installed.
    """
    check_suffix(path)
    make_folder(path)
    try:
        _WRITERS[Path(path).suffix.lower()](evaluation, path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None
