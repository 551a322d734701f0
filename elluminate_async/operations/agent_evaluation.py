"""The evaluation of agents' results, followed to its end, whichever job of the service does it."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import anyio

from elluminate_async.errors import (
    AnswerTooLargeError,
    APIError,
    AuthenticationError,
    NotFoundError,
    OutcomeUnknownError,
    PermissionDeniedError,
    TransportError,
)
from elluminate_async.operations.connection import decode, decoded
from elluminate_async.operations.jobs import POLL_FIRST, POLL_GROWTH, POLL_LONGEST, SENSELESS_POLLS
from elluminate_async.operations.reading import read_status
from elluminate_async.schemas.experiments import Experiment, GenerationStatus
from elluminate_async.schemas.jobs import TERMINAL, JobStatusName
from elluminate_async.transport.exchange import Request
from elluminate_async.transport.sse import Decoder

if TYPE_CHECKING:
    from elluminate_async.operations.connection import Connection
    from elluminate_async.transport.retry import Policy

logger = logging.getLogger("elluminate_async")

Deliver: TypeAlias = Callable[[list[GenerationStatus]], Awaitable[None]]
"""Takes each status that differs from the one before, the last included."""


async def follow_evaluation(
    connection: Connection,
    experiment_id: int,
    task_id: str | None,
    policy: Policy,
    deliver: Deliver,
) -> GenerationStatus:
    """The last status of an evaluation, which goes on at the service when this is cut short.

    Args:
        connection: Where it is.
        experiment_id: Whose.
        task_id: Its job; None for the one that the experiment has now.
        policy: Its deadline bounds the wait.
        deliver: Gets each status.

    Raises:
        NotFoundError: The experiment has no such job.
        DeadlineError: It had not ended by the deadline.
        OutcomeUnknownError: It has shown nothing new for ``job_stall`` seconds.
    """
    if task_id is None:
        answer = await connection.call("GET", "experiments", experiment_id, policy=policy)
        experiment = decode(Experiment, answer)
        if experiment.generation_task_id is None:
            ended = _ended(GenerationStatus(status="SUCCESS"), experiment.has_internal_error)
            await deliver([ended])
            return ended
        task_id = experiment.generation_task_id
        return await _Follower(connection, experiment_id, task_id, policy, deliver, True).follow()
    return await _Follower(connection, experiment_id, task_id, policy, deliver, False).follow()


class _Follower:
    """Follows from job to job: the service may give the work to another one."""

    def __init__(
        self,
        connection: Connection,
        experiment_id: int,
        task_id: str,
        policy: Policy,
        deliver: Deliver,
        is_known: bool,
    ) -> None:
        self._connection = connection
        self._path = ("experiments", experiment_id, "generation")
        self._task_id = task_id
        self._policy = policy
        self._deliver = deliver
        self._is_known = is_known
        self._last: GenerationStatus | None = None
        self._changed_at = time.monotonic()

    async def follow(self) -> GenerationStatus:
        """The last status, by the job's stream where there is one, else by polls."""
        interval, failures = POLL_FIRST, 0
        while True:
            followed = self._task_id
            ended = None
            try:
                ended = await self._by_stream() or await self._by_poll()
                failures = 0
            except (AuthenticationError, PermissionDeniedError, NotFoundError, AnswerTooLargeError):
                raise
            except (APIError, TransportError) as error:
                failures += 1
                if failures >= SENSELESS_POLLS:
                    raise
                logger.debug("an evaluation's status could not be read, trying again: %s", error)
            if ended is not None:
                return ended
            if self._task_id != followed:
                continue
            await anyio.sleep(self._policy.clock(interval))
            interval = min(POLL_LONGEST, interval * POLL_GROWTH)

    async def _by_stream(self) -> GenerationStatus | None:
        """The last status; None where the stream told of none, or of another job."""
        path = await self._connection.path(
            *self._path, self._task_id, "stream", policy=self._policy
        )
        followed = self._task_id
        # What the stream does not tell, a poll does.
        with suppress(APIError, TransportError):
            async with self._connection.stream(
                Request("GET", path), self._policy, Decoder()
            ) as events:
                async for event in events:
                    self._policy.remaining()
                    with suppress(ValueError, AnswerTooLargeError):
                        status = read_status(GenerationStatus, event.data.encode())
                        ended = await self._seen(status)
                        if ended is not None or self._task_id != followed:
                            return ended
        return None

    async def _by_poll(self) -> GenerationStatus | None:
        answer = await self._connection.call("GET", *self._path, self._task_id, policy=self._policy)
        return await self._seen(decoded(answer, partial(read_status, GenerationStatus)))

    async def _seen(self, status: GenerationStatus) -> GenerationStatus | None:
        """The status as delivered, where it is the last one."""
        followed = self._task_id
        ended = self._end_of(status)
        if self._task_id == followed:
            shown = self._blotted(ended or status)
            if shown != self._last:
                self._last, self._changed_at = shown, time.monotonic()
                await self._deliver([shown])
            ended = shown if ended is not None else None
        if ended is None and time.monotonic() - self._changed_at > self._policy.job_stall:
            raise OutcomeUnknownError(
                f"the evaluation {self._task_id} has shown nothing new for "
                f"{self._policy.job_stall:.0f} s",
                position=0,
                operation="evaluate agents",
                code="stalled",
            )
        return ended

    def _end_of(self, status: GenerationStatus) -> GenerationStatus | None:
        """The status that it ended with, if it did; notes the job that does it from now on."""
        is_terminal = status.status in TERMINAL
        if is_terminal and status.status != JobStatusName.SUCCESS:
            return status
        if "generation_task_id" not in status.model_fields_set:
            return status if is_terminal else None
        current = status.generation_task_id
        if current is None:
            if not self._is_known and not is_terminal:
                # So the service tells of ids that it has never heard of.
                raise NotFoundError(
                    f"{self._task_id!r:.80} is no evaluation of this experiment, or has ended",
                    status=404,
                    method="GET",
                    path="/".join(map(str, (*self._path, self._task_id))),
                )
            return _ended(status, status.has_internal_error)
        self._is_known = True
        if current != self._task_id:
            self._task_id = current
            return None
        return status if is_terminal else None

    def _blotted(self, status: GenerationStatus) -> GenerationStatus:
        if not status.error_msg:
            return status
        return status.model_copy(update={"error_msg": self._connection.blotted(status.error_msg)})


def _ended(status: GenerationStatus, has_internal_error: bool) -> GenerationStatus:
    """``status`` of an evaluation that the experiment is rid of."""
    if has_internal_error:
        text = status.error_msg or "the service failed"
        return status.model_copy(update={"status": JobStatusName.FAILURE, "error_msg": text})
    return status.model_copy(update={"status": JobStatusName.SUCCESS})
