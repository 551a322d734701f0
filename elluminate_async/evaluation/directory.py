"""The directory of an evaluation's journals: its lock, its note, and what of it was begun.

``evaluation.json`` notes what the evaluation is, what was made for it, and which journals of
steps were begun. These are made before the first step sends anything, and noted after that::

    evaluation.json                 the setup: a kill here leaves nothing that was paid for
    rows.journal, ...               with their headers, on the disk
    evaluation.json                 that they were begun, with their sizes
    what is uploaded, generated, rated
    evaluation.json                 their sizes when the call came to its end

So a journal that was begun and is not there, or is shorter than it was, is one that was lost. It
is not one to begin, as all that it knew would be paid for once more.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from elluminate_async.engine.filelock import lock_file, unlock_file
from elluminate_async.engine.journal import Journal, has_header
from elluminate_async.engine.threads import run_to_end
from elluminate_async.errors import JournalError
from elluminate_async.tables.files import replacing

if TYPE_CHECKING:
    from pathlib import Path

    from elluminate_async.engine.operation import Operation
    from elluminate_async.engine.records import Header

FILE = "evaluation.json"
"""In the directory: what the evaluation is, what was made for it, and which journals were begun."""

LOCK = "evaluation.lock"
"""Held by the call that uses the directory."""

_VERSION = 1


def journal_name(step: str) -> str:
    """The name of one step's journal in its directory."""
    return f"{step}.journal"


@asynccontextmanager
async def locked(directory: Path | None) -> AsyncGenerator[None]:
    """Hold the journal of an evaluation, so that no other call begins with it.

    Raises:
        JournalError: Another call has it, or it cannot be made.
    """
    if directory is None:
        yield
        return
    descriptor = await run_to_end(partial(_lock, directory), left=os.close)
    try:
        yield
    finally:
        # By itself, as a process that was forked meanwhile has the file open too.
        unlock_file(descriptor)
        os.close(descriptor)


@asynccontextmanager
async def journals_of(
    directory: Path | None, operations: Mapping[str, Operation[Any, Any]]
) -> AsyncGenerator[None]:
    """Hold the journals of all steps to what was noted of them, and note what they are.

    Those that were never begun are made. At a good end their sizes are noted.

    Args:
        directory: Of the journals, with a note of the setup; None where there are none.
        operations: That of each step, by its name.

    Raises:
        JournalError: One that was begun is missing, or was cut; nothing is to be sent then.
    """
    if directory is None:
        yield
        return
    await _begin(directory, operations)
    yield
    await run_to_end(partial(_note_sizes, directory, operations))


async def _begin(directory: Path, operations: Mapping[str, Operation[Any, Any]]) -> None:
    known = await run_to_end(partial(read_noted, directory))
    assert known is not None
    begun: dict[str, int] = known.get("begun", {})
    await run_to_end(partial(_check_begun, directory, begun))
    headers = {
        name: await operation.header()
        for step, operation in operations.items()
        if (name := journal_name(step)) not in begun
    }
    if headers:
        await run_to_end(partial(_create, directory, headers))
        await run_to_end(partial(_note_sizes, directory, operations))


def _note_sizes(directory: Path, steps: Iterable[str]) -> None:
    """Note that these journals were begun, and that they are no shorter than now."""
    known = read_noted(directory)
    assert known is not None
    names = map(journal_name, steps)
    try:
        begun = {name: (directory / name).stat().st_size for name in names}
    except OSError as error:
        raise JournalError(f"{directory} cannot be used: {error}", path=directory) from error
    note(directory, {**known, "begun": begun})


def _create(directory: Path, headers: Mapping[str, Header]) -> None:
    for name, header in headers.items():
        # One that a kill left there before it was noted is opened, and is as good.
        Journal.open(directory / name, header).discard()


def _check_begun(directory: Path, begun: Mapping[str, int]) -> None:
    for name, least in begun.items():
        path = directory / name
        try:
            size = path.stat().st_size
            if size >= least and has_header(path):
                continue
            what = f"was cut: it has {size} bytes, and had {least}"
            if size >= least:
                what = "was damaged: it does not begin as a journal does"
        except FileNotFoundError:
            what = "is missing"
        except OSError as error:
            what = f"cannot be read ({error})"
        raise JournalError(
            f"{name} of the journal {directory} {what}. All that it knew would be paid for once "
            "more, so nothing was sent: put it back, or pass another path to begin anew",
            path=path,
        )


def _lock(directory: Path) -> int:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except FileExistsError:
        raise _no_directory(directory) from None
    except OSError as error:
        raise JournalError(f"{directory} cannot be used: {error}", path=directory) from error
    if lock_file(descriptor):
        return descriptor
    os.close(descriptor)
    raise JournalError(
        f"the journal {directory} is in use by another call: await that, or pass another path",
        path=directory,
        in_use=True,
    )


def _no_directory(path: Path) -> JournalError:
    return JournalError(
        f"the journal of an evaluation is a directory, and {path} is none: pass another path",
        path=path,
    )


def read_noted(directory: Path) -> dict[str, Any] | None:
    """The last note; None where nothing was.

    Raises:
        JournalError: It cannot be read, or is not of an evaluation.
    """
    path = directory / FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise _no_directory(directory) from None
    except (OSError, UnicodeDecodeError) as error:
        raise JournalError(f"{path} cannot be read: {error}", path=path) from error
    try:
        known: object = json.loads(text)
    except ValueError:
        known = None
    if not _is_complete(known):
        raise JournalError(f"{path} is not of an evaluation: pass another path", path=path)
    return cast("dict[str, Any]", known)


def _is_complete(known: object) -> bool:
    if not isinstance(known, dict):
        return False
    parts = cast("dict[str, object]", known)
    experiments, begun = parts.get("experiments"), parts.get("begun", {})
    return (
        parts.get("version") == _VERSION
        and isinstance(parts.get("call"), dict)
        and isinstance(parts.get("criteria"), str)
        and all(isinstance(parts.get(key), int) for key in ("template", "collection"))
        and isinstance(experiments, list)
        and all(isinstance(id, int) for id in cast("list[object]", experiments))
        and isinstance(begun, dict)
        and all(isinstance(size, int) for size in cast("dict[str, object]", begun).values())
    )


def note(directory: Path, known: Mapping[str, Any]) -> None:
    """Write the file, whole or not at all.

    Raises:
        JournalError: It cannot be written.
    """
    path = directory / FILE
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with replacing(path, mode=0o600) as file:
            file.write(json.dumps({"version": _VERSION, **known}).encode())
    except OSError as error:
        raise JournalError(f"{path} cannot be written: {error}", path=path) from error
