"""`Background`: work that outlives the request that asked for it, and the process.

Each job has a directory of its own below that of the `Background`::

    nightly/request.json    what was asked for; once it is there, the job is accepted
    nightly/lock            held by the process that does the job, however that process ends
    nightly/...             what the work keeps there: its journals
    nightly/outcome.json    the result, or the problem; once it is there, the job is done

A job without an outcome is taken up by any process that looks into the directory: at its start,
and every few seconds, so that jobs of a worker that was killed or replaced go on in another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import json
import logging
import os
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

import anyio
from pydantic import BaseModel, PydanticUserError, StringConstraints, TypeAdapter
from pydantic_core import to_jsonable_python

from elluminate_async import AsyncClient, Progress
from elluminate_async.engine.filelock import lock_file, unlock_file
from elluminate_async.engine.journal import sync_folder
from elluminate_async.engine.threads import run_to_end
from elluminate_async.errors import ClientClosedError, ConfigurationError, InputError
from elluminate_async.integrations.problems import Problem, internal_problem, problem_of
from elluminate_async.tables.files import replacing

_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
_LOOK_SECONDS: Final = 5.0
_REQUEST, _OUTCOME, _LOCK = "request.json", "outcome.json", "lock"
_JSON: Final[TypeAdapter[Any]] = TypeAdapter(Any)

_log = logging.getLogger(__name__)

JobName: TypeAlias = Annotated[str, StringConstraints(pattern=_NAME)]
"""A name that a job may have: letters, digits, ``.``, ``_`` and ``-``, 100 at most."""


class NameTakenError(InputError):
    """There is a job of that name, and it was asked for something else."""


class BackgroundStatus(BaseModel):
    """How far a job is.

    Attributes:
        name: Of the job.
        status: ``running`` in this process; ``pending`` where it is accepted and another process
            has it, or the next to look takes it up; ``succeeded``; ``failed``.
        done: Positions with an outcome, of the call that the work last told of; None where it
            does not run here.
        total: Positions of that call.
        result: What the work returned.
        error: Why it failed.
    """

    name: str
    status: Literal["pending", "running", "succeeded", "failed"]
    done: int | None = None
    total: int | None = None
    result: Any = None
    error: Problem | None = None


@dataclass(slots=True)
class Job:
    """One job, as its work is handed it.

    Attributes:
        name: Of the job.
        request: What it was asked for, as read back from JSON.
        directory: Its own: the place for journals.
        progress: The last that `note` was told.
    """

    name: str
    request: Any
    directory: Path
    progress: Progress | None = None

    def note(self, progress: Progress) -> None:
        """Show this in the job's status; to be passed on as ``progress=job.note``."""
        self.progress = progress


_Again: TypeAlias = Literal["never", "passing", "failed"]
"""Which of the failed jobs are begun again: those whose failure was of the moment, or all."""

Work: TypeAlias = Callable[[AsyncClient, Job], Awaitable[Any]]


class Background:
    """Jobs that a restart takes up.

    ::

        async def answer(client: AsyncClient, job: Job) -> list[str]:
            batch = await client.responses.generate_many(
                ..., journal=job.directory / "answers.journal", progress=job.note
            )
            return [response.response_str for response in batch]

        answers = Background("state/answers", answer)

        async with answers.running(client):
            await answers.start("nightly", {"rows": [...]})

    Args:
        directory: Of all jobs of this work, on a local disk. Several processes may have it: each
            job is done by one of them at a time.
        work: Does one job. It is called again after a crash, with the same job: whatever is to be
            done once it does by calls with a journal in ``job.directory``. What it returns is
            kept as JSON.
    """

    def __init__(self, directory: str | os.PathLike[str], work: Work) -> None:
        self._directory = Path(directory)
        self._work = work
        self._client: AsyncClient | None = None
        self._context = contextvars.Context()
        self._jobs: dict[str, tuple[Job, asyncio.Task[None]]] = {}

    @asynccontextmanager
    async def running(self, client: AsyncClient) -> AsyncGenerator[Self]:
        """Do jobs while in here, those first that were left unfinished.

        A failed one that is worth it, as after an outage, is begun again, too. On leaving, what
        runs is stopped where it is.
        """
        if self._client is not None:
            raise ConfigurationError(f"the jobs in {self._directory} run already")
        await run_to_end(partial(self._directory.mkdir, parents=True, exist_ok=True))
        # Not that of a request, whose deadline would be the job's.
        self._client, self._context = client, contextvars.copy_context()
        looking = None
        try:
            await self._look("passing")
            looking = asyncio.create_task(self._keep_looking())
            yield self
        finally:
            self._client = None
            tasks = {task for _, task in self._jobs.values()}
            if looking is not None:
                tasks.add(looking)
            for task in tasks:
                task.cancel()
            if tasks:
                with anyio.CancelScope(shield=True):
                    await asyncio.wait(tasks)

    async def start(self, name: str, request: Any) -> BackgroundStatus:
        """Accept a job; when this returns it is on the disk, and done sooner or later.

        The same name and request again is the same job: one that failed is begun again.

        Args:
            name: Of the job, see `JobName`.
            request: What it is about: anything that JSON has, or a pydantic model. Without NaN.

        Raises:
            NameTakenError: There is a job of that name with another request.
            InputError: The name is none, or the request has no form in JSON, as NaN has none.
            ClientClosedError: No jobs are done any more, or not yet.
        """
        folder = self._folder(name)
        if self._client is None:
            raise ClientClosedError(f"no jobs are done in {self._directory} now")
        try:
            # As it is on the disk: of NaN, JSON would have null.
            plain = _plain(request)
            wanted = json.dumps(plain, ensure_ascii=False, allow_nan=False).encode()
        except ValueError as error:
            raise InputError(f"the request of a job must be plain JSON: {error}") from None
        is_same = await run_to_end(partial(_accept, folder, wanted))
        if not is_same:
            why = "is about something else" if is_same is False else "cannot be read any more"
            raise NameTakenError(f"there is a job {name!r} already, which {why}")
        await self._take(folder, "failed")
        status = await self.status(name)
        assert status is not None
        return status

    async def status(self, name: str) -> BackgroundStatus | None:
        """How far the job of that name is; None where there is none.

        Raises:
            InputError: The name is none.
        """
        folder = self._folder(name)
        if (running := self._jobs.get(name)) is not None:
            progress = running[0].progress
            done, total = (progress.done, progress.total) if progress else (None, None)
            return BackgroundStatus(name=name, status="running", done=done, total=total)
        outcome = await run_to_end(partial(_read, folder / _OUTCOME))
        if outcome is not None:
            return BackgroundStatus.model_validate({"name": name, **outcome})
        accepted = await run_to_end((folder / _REQUEST).exists)
        return BackgroundStatus(name=name, status="pending") if accepted else None

    def _folder(self, name: str) -> Path:
        if not re.match(_NAME, name) or name.endswith("\n"):
            raise InputError("a job's name has letters, digits, '.', '_' and '-', 100 at most")
        return self._directory / name

    async def _keep_looking(self) -> None:
        while True:
            await anyio.sleep(_LOOK_SECONDS)
            # A full disk, or a directory that is gone for a while, ends nothing.
            try:
                await self._look("never")
            except OSError:
                _log.exception("the jobs in %s cannot be looked at", self._directory)

    async def _look(self, again: _Again) -> None:
        """Take up what is unfinished and nobody has."""
        for folder in await run_to_end(partial(_unfinished, self._directory, again)):
            if folder.name not in self._jobs:
                # What is wrong with one is nothing to the others.
                try:
                    await self._take(folder, again)
                except OSError:
                    _log.exception("the job %s cannot be taken up", folder.name)

    async def _take(self, folder: Path, again: _Again) -> None:
        """Begin the job, unless it is done or somebody has it."""
        taken = await run_to_end(partial(_take, folder, again), left=_give_back)
        if taken is None:
            return
        descriptor, request = taken
        if self._client is None:
            _release(descriptor)
            return
        job = Job(folder.name, request, folder)
        running = self._run(self._client, job)
        task = asyncio.create_task(running, name=f"job {job.name}", context=self._context.copy())
        self._jobs[job.name] = job, task
        # Also where it is cancelled before its first step.
        task.add_done_callback(partial(self._end, job.name, descriptor))

    def _end(self, name: str, descriptor: int, task: asyncio.Task[None]) -> None:
        del self._jobs[name]
        _release(descriptor)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("the outcome of the job %s was not kept", name, exc_info=error)

    async def _run(self, client: AsyncClient, job: Job) -> None:
        try:
            result = await self._work(client, job)
            outcome = _JSON.dump_json({"status": "succeeded", "result": _plain(result)})
        except (Exception, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
            # Another one is of something that the work awaited.
            _log.exception("the job %s failed", job.name)
            outcome = _failure(problem_of(error) or internal_problem())
        await run_to_end(partial(_write, job.directory / _OUTCOME, outcome))


def _plain(value: Any) -> Any:
    """``value`` in JSON's types, an `Evaluation` or a `Batch` in it as the document it is.

    Raises:
        ValueError: Something in it has no form in JSON; the text names its type.
    """
    return to_jsonable_python(value, fallback=_document)


def _document(value: object) -> Any:
    try:
        return TypeAdapter[Any](type(value)).dump_python(value, mode="json")
    except PydanticUserError:
        name = f"{type(value).__module__}.{type(value).__qualname__}"
        raise ValueError(
            f"a {name} has no form in JSON: pydantic models, dataclasses, this package's results "
            "and JSON's own types have one"
        ) from None


def _failure(problem: Problem) -> bytes:
    return _JSON.dump_json({"status": "failed", "error": problem})


def _accept(folder: Path, wanted: bytes) -> bool | None:
    """Have the request on the disk; False where another is there, None one that is damaged."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _REQUEST
    if not path.exists():
        beside = folder / f".{_REQUEST}.{os.urandom(8).hex()}"
        _write(beside, wanted)
        try:
            # Of several that ask at once, one is the first; and it is there as a whole.
            with suppress(FileExistsError):
                os.link(beside, path)
        finally:
            beside.unlink()
        _sync(folder)
        _sync(folder.parent)
    try:
        return json.loads(path.read_bytes()) == json.loads(wanted)
    except ValueError:
        return None


def _unfinished(directory: Path, again: _Again) -> list[Path]:
    """The jobs that are to be done."""
    folders = sorted(path.parent for path in directory.glob(f"*/{_REQUEST}"))
    return [folder for folder in folders if _is_to_do(folder, again)]


def _is_to_do(folder: Path, again: _Again) -> bool:
    if again == "never":
        return not (folder / _OUTCOME).exists()
    outcome = _read(folder / _OUTCOME)
    if outcome is None:
        return True
    error = outcome.get("error")
    return error is not None and (again == "failed" or error["retryable"])


def _take(folder: Path, again: _Again) -> tuple[int, Any] | None:
    """The lock on a job that is to be done, and its request; None where another has it."""
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, descriptor)
        # By now it may have been done by who had the lock before.
        if not lock_file(descriptor) or not _is_to_do(folder, again):
            return None
        (folder / _OUTCOME).unlink(missing_ok=True)
        try:
            request = json.loads((folder / _REQUEST).read_bytes())
        except ValueError as error:
            _log.error("the request of the job %s is damaged: %s", folder.name, error)
            _write(folder / _OUTCOME, _failure(internal_problem()))
            return None
        stack.pop_all()
    return descriptor, request


def _give_back(taken: tuple[int, Any] | None) -> None:
    if taken is not None:
        _release(taken[0])


def _release(descriptor: int) -> None:
    unlock_file(descriptor)
    os.close(descriptor)


def _read(path: Path) -> dict[str, Any] | None:
    """An outcome; None of a job that has none, and of a damaged one, as it is to be made again."""
    try:
        outcome = json.loads(path.read_bytes())
        BackgroundStatus.model_validate({"name": "", **outcome})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        _log.warning("%s is damaged, and the job is done again: %s", path, error)
        return None
    return outcome


def _write(path: Path, data: bytes) -> None:
    with replacing(path, mode=0o600) as file:
        file.write(data)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Have the folder's names on the disk, where the system can."""
    with suppress(OSError):
        sync_folder(folder)
