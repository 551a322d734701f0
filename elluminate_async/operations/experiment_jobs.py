"""Jobs of experiments, followed to their end, and told of as they go."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import anyio

from elluminate_async.engine.stream import OutcomeStream
from elluminate_async.errors import ElluminateError, NotFoundError, UnsupportedError
from elluminate_async.errors.arguments import flag
from elluminate_async.operations.connection import decode
from elluminate_async.operations.context import timed_policy
from elluminate_async.operations.experiment_starts import JobStart, start_experiment_job
from elluminate_async.operations.jobs import follow_job, job_failure
from elluminate_async.operations.starting import checked_job_id
from elluminate_async.schemas.experiments import Experiment, GenerationStatus
from elluminate_async.schemas.jobs import TERMINAL, JobStatusName
from elluminate_async.schemas.version import Capability

if TYPE_CHECKING:
    from elluminate_async.operations.connection import Connection


@dataclass(frozen=True, slots=True)
class ExperimentEvent:
    """How far the job of an experiment is; one of a stream of them.

    Attributes:
        status: A `JobStatusName` such as ``"STARTED"``, or a word this version does not know.
        completed_responses: Responses generated so far, of ``total_responses``; None where the
            service does not say.
        completed_ratings: Responses fully rated so far.
        total_responses: Those that the job is about: of a retry, what failed.
        logs: The lines of the experiment's log that came since the event before; those of all
            events together are the log.
        error_msg: Why it failed, or what of it failed.
        experiment: With its results, in the last event; None there where it cannot be read.
    """

    status: JobStatusName | str
    completed_responses: int | None = None
    completed_ratings: int | None = None
    total_responses: int | None = None
    logs: str = field(default="", repr=False)
    error_msg: str | None = field(default=None, repr=False)
    experiment: Experiment | None = field(default=None, repr=False)

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended, well or not: it is the last event."""
        return self.status in TERMINAL


Deliver: TypeAlias = Callable[[list[ExperimentEvent]], Awaitable[None]]


class ExperimentJobs:
    """The jobs of one call: begun, followed, told of, all by one deadline.

    Args:
        connection: Where to.
        timeout: Seconds for all of it; None takes the deadline of the client's options.

    Raises:
        InputError: ``timeout`` is no finite number above 0.
    """

    def __init__(self, connection: Connection, timeout: float | None) -> None:
        self._connection = connection
        self._policy = timed_policy(connection, timeout)
        connection.transport.check_usable()

    async def done(self, start: JobStart, *, wait: bool) -> Experiment:
        """`ended`, or without ``wait`` `begun`."""
        if flag(wait, "wait"):
            return await self.ended(start)
        begun = await self.begun(start)
        return begun if begun.generation_task_id is not None else await self._read(begun.id)

    async def begun(self, start: JobStart) -> Experiment:
        """Begin a job and leave it; the experiment as the service has accepted that.

        Raises:
            OutcomeUnknownError: Whether it began is not known.
        """
        if start.has_own_epochs and isinstance(start.experiment, int):
            start = start.with_epochs(await self._read(start.experiment))
        return await start_experiment_job(self._connection, start, self._policy)

    async def ended(self, start: JobStart) -> Experiment:
        """Begin a job and wait for its end; the experiment as it is then.

        Raises:
            JobError: It ended without success.
            OutcomeUnknownError: Whether it began is not known, or it had not ended in time.
        """
        begun = await self.begun(start)
        if (job_id := begun.generation_task_id) is not None:
            await self._follow(begun.id, job_id, start.operation)
        return await self._read(begun.id)

    async def awaited(self, experiment_id: int, job_id: str | None) -> Experiment:
        """Wait for the end of a job that runs already, the experiment's own by default.

        Raises:
            JobError: It ended without success.
            OutcomeUnknownError: It had not ended in time.
        """
        if job_id is None:
            job_id, found = await self._now(experiment_id)
            if job_id is None:
                return found
        await self._follow(experiment_id, job_id, "wait", watches=True)
        return await self._read(experiment_id)

    async def cancelled(self, experiment_id: int, job_id: str | None) -> Experiment:
        """End a job, the experiment's own by default; the experiment as it is then.

        Raises:
            UnsupportedError: The service cannot end it.
        """
        connection = self._connection
        if not await connection.has(Capability.CANCELLATION, self._policy):
            raise UnsupportedError(
                f"the service cannot cancel the job of experiment {experiment_id}: it goes on to "
                "its end, which client.experiments.wait waits for"
            )
        if job_id is None:
            job_id, found = await self._now(experiment_id)
            if job_id is None:
                return found
        # Of one that has ended and is forgotten nothing is left to end.
        with suppress(NotFoundError):
            await connection.call("DELETE", *_path(experiment_id, job_id), policy=self._policy)
        return await self._read(experiment_id)

    def stream(self, start: JobStart) -> OutcomeStream[ExperimentEvent]:
        """Begin a job, and tell of it until it ends; leaving early cancels it."""
        produce = partial(self._begin_and_tell, start)
        return OutcomeStream(produce, self._connection.tasks, of=start.operation)

    def watch(self, experiment_id: int, job_id: str | None) -> OutcomeStream[ExperimentEvent]:
        """Tell of a job that runs already, the experiment's own by default, and leave it alone."""
        produce = partial(self._watch, experiment_id, job_id)
        return OutcomeStream(produce, self._connection.tasks, of="watch")

    async def _begin_and_tell(self, start: JobStart, deliver: Deliver) -> None:
        begun = await self.begun(start)
        if (job_id := begun.generation_task_id) is not None:
            await self._follow(begun.id, job_id, start.operation, deliver)
            return
        experiment = await self._read(begun.id)
        # Nothing to do, which is a success.
        await deliver([ExperimentEvent(JobStatusName.SUCCESS, experiment=experiment)])

    async def _watch(self, experiment_id: int, job_id: str | None, deliver: Deliver) -> None:
        if job_id is None:
            job_id, _ = await self._now(experiment_id)
        if job_id is not None:
            await self._follow(experiment_id, job_id, "watch", deliver, watches=True)

    async def _follow(
        self,
        experiment_id: int,
        job_id: str,
        operation: str,
        deliver: Deliver | None = None,
        *,
        watches: bool = False,
    ) -> None:
        """Wait for the end of a job, and tell ``deliver`` of it."""
        teller = None if deliver is None else _Teller(deliver, self._connection.blotted)
        status = await follow_job(
            self._connection,
            GenerationStatus,
            *_path(experiment_id, job_id),
            operation=operation,
            policy=self._policy,
            listener=teller,
            watches=watches,
        )
        failure = job_failure(job_id, status.status, status.error_msg)
        if teller is not None:
            experiment = None
            with suppress(*([ElluminateError] if failure else [])):
                experiment = await self._read(experiment_id)
            await teller.last(status, experiment)
        if failure:
            raise failure

    async def _now(self, experiment_id: int) -> tuple[str | None, Experiment]:
        """The job that an experiment has, None where none runs, and the experiment."""
        found = await self._read(experiment_id)
        return checked_job_id(found.generation_task_id, self._connection.blotted), found

    async def _read(self, experiment_id: int) -> Experiment:
        # Not by the call's deadline: what is done is told of also where that has just passed.
        return decode(Experiment, await self._connection.call("GET", "experiments", experiment_id))


def _path(experiment_id: int, job_id: str) -> tuple[str | int, ...]:
    return "experiments", experiment_id, "generation", job_id


class _Log:
    """A log as far as it was told, and so the part of each piece that is new.

    A stream that is opened anew tells the log from its beginning, or goes on with what is new.
    """

    def __init__(self) -> None:
        self._told = ""
        self._is_opened = True

    def opened(self) -> None:
        """The next piece may be from the beginning."""
        self._is_opened = True

    def new_of(self, delta: str | None) -> str:
        """As much of the next piece as is new."""
        if not delta:
            return ""
        if self._is_opened:
            self._is_opened = False
            delta = delta.removeprefix(self._told)
        self._told += delta
        return delta

    def rest_of(self, whole: str | None) -> str:
        """As much of the whole log as was in no piece."""
        whole = whole or ""
        at = whole.rfind(self._told) if self._told else 0
        return "" if at < 0 else whole[at + len(self._told) :]


class _Teller:
    """Delivers what is new of a job's statuses; the `Listener` of one stream."""

    def __init__(self, deliver: Deliver, blotted: Callable[[str], str]) -> None:
        self._deliver_all = deliver
        self._blotted = blotted
        self._log = _Log()
        self._before: ExperimentEvent | None = None
        self._news = 0

    @property
    def news(self) -> int:
        """How many statuses said something new."""
        return self._news

    def opened(self) -> None:
        """The statuses are those of another connection from now on."""
        self._log.opened()

    async def told(self, status: GenerationStatus) -> None:
        """Deliver a status that says something new."""
        event = self._event(status, self._log.new_of(status.logs_delta))
        if event != self._before:
            self._before = event
            self._news += 1
            await self._deliver(event)

    async def last(self, status: GenerationStatus, experiment: Experiment | None) -> None:
        """Deliver the last status, with all of the log that is not told yet."""
        logs = self._log.new_of(status.logs_delta)
        if experiment is not None:
            logs += self._log.rest_of(experiment.logs)
        await self._deliver(self._event(status, logs, experiment))

    def _event(
        self, status: GenerationStatus, logs: str, experiment: Experiment | None = None
    ) -> ExperimentEvent:
        return ExperimentEvent(
            status.status,
            status.completed_responses,
            status.completed_ratings,
            status.total_responses,
            self._blotted(logs),
            status.error_msg and self._blotted(status.error_msg),
            experiment,
        )

    async def _deliver(self, event: ExperimentEvent) -> None:
        try:
            await self._deliver_all([event])
        except anyio.BrokenResourceError:
            # Who read it has left, and cancels this next: then the job is left as by any call.
            await anyio.sleep_forever()
