"""Jobs of the service: started by a POST, followed by its event stream or by polling."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

import anyio
from pydantic import RootModel, ValidationError

from elluminate_async.engine.run import FATAL
from elluminate_async.errors import (
    APIError,
    AuthenticationError,
    DeadlineError,
    ElluminateError,
    ItemError,
    JobError,
    NotFoundError,
    OutcomeUnknownError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitError,
    ServerError,
    TransportError,
    item_error,
    unknown_outcome,
)
from elluminate_async.resources.connection import adapter, decode
from elluminate_async.schemas.jobs import TERMINAL
from elluminate_async.transport.exchange import Request

if TYPE_CHECKING:
    from pydantic import BaseModel

    from elluminate_async.resources.connection import Connection
    from elluminate_async.transport.retry import Policy

logger = logging.getLogger("elluminate_async")

POLL_FIRST = 0.2
POLL_GROWTH = 1.5
POLL_LONGEST = 3.0
SENSELESS_POLLS = 5
"""Answers in a row that no wait will change, before a job is given up."""

STREAM_OPENINGS = 2
"""Times a stream is opened; one that ended early is opened once more, then polling takes over."""


class _JobId(RootModel[str | None]):
    """A bare JSON string, or null for "nothing to do"."""


class StatusDocument(Protocol):
    """What a poll answers and a stream's event holds."""

    @property
    def status(self) -> str:
        """A `JobStatusName`, or a word this version does not know."""
        ...


S = TypeVar("S", bound=StatusDocument)


async def start_job(
    connection: Connection,
    *segments: str,
    body: BaseModel | bytes,
    operation: str,
    policy: Policy,
    items: int,
) -> str:
    """POST a chunk; the id of its job. ``items`` of it count towards the limit on items.

    Raises:
        JobError: The service says that there is nothing to do.
        OutcomeUnknownError: It was sent, and whether a job was made is not known. This is
            where a look at the service's own rows may settle it.
        ElluminateError: It was not accepted.
    """
    try:
        answer = await connection.call(
            "POST", *segments, body=body, policy=policy, keyed=True, items=items
        )
    except ElluminateError as error:
        if error.ambiguous:
            raise unknown_outcome(error, operation) from None
        raise
    try:
        job_id = decode(_JobId, answer).root
    except ProtocolError as error:
        # A 2xx: the job exists, and its id cannot be read.
        raise unknown_outcome(error, operation) from None
    if job_id is None:
        raise JobError("the service made no job for these items", job_id="", job_status="NONE")
    return job_id


def doubt_left_by(error: ElluminateError, operation: str) -> ItemError:
    """What a failed sending leaves unknown of its items; raises ``error`` if it leaves no doubt."""
    doubtful = error.ambiguous or isinstance(error, OutcomeUnknownError)
    if isinstance(error, FATAL) or not doubtful:
        raise error
    return item_error(error, position=0, operation=operation)


@contextmanager
def accepted_work() -> Generator[None]:
    """From an accepted job on: a failure does not mean that nothing was done."""
    try:
        yield
    except ElluminateError as error:
        error.ambiguous = True
        raise


async def follow_job(
    connection: Connection, kind: type[S], *segments: str | int, operation: str, policy: Policy
) -> S:
    """The terminal status document of a job.

    Its event stream is followed; where that is refused, breaks or falls silent, it is polled.

    Raises:
        OutcomeUnknownError: The service does not know the job any more, or the job had not
            ended by the deadline; then the code is ``deadline``, and the job goes on.
        AuthenticationError, PermissionDeniedError: The key was refused.
    """
    try:
        for _ in range(STREAM_OPENINGS):
            try:
                if found := await _stream_job(connection, kind, *segments, policy=policy):
                    return found
            except (AuthenticationError, PermissionDeniedError):
                raise
            except (APIError, TransportError) as error:
                logger.debug("following a job by polling: %s", error)
                break
        return await _poll_job(connection, kind, *segments, policy=policy)
    except DeadlineError:
        code, text = "deadline", "had not ended by the deadline, and goes on at the service"
    except NotFoundError:
        code, text = None, "was accepted, and the service does not know it any more"
    raise OutcomeUnknownError(
        f"the job {segments[-1]} {text}", position=0, operation=operation, code=code
    )


async def _stream_job(
    connection: Connection, kind: type[S], *segments: str | int, policy: Policy
) -> S | None:
    """The terminal document; None when the stream ended without one."""
    path = await connection.path(*segments, "stream", policy=policy)
    async with connection.transport.stream(Request("GET", path), policy) as events:
        async for event in events:
            try:
                found = adapter(kind).validate_json(event.data)
            except ValidationError:
                logger.debug("an event that is no status document was skipped")
                continue
            if found.status in TERMINAL:
                return found
    return None


async def _poll_job(
    connection: Connection, kind: type[S], *segments: str | int, policy: Policy
) -> S:
    interval, senseless = POLL_FIRST, 0
    while True:
        found = None
        try:
            found = decode(kind, await connection.call("GET", *segments, policy=policy))
        except (AuthenticationError, PermissionDeniedError, NotFoundError):
            raise
        except (APIError, TransportError) as error:
            # The job goes on at the service, so an outage is waited out; an answer that waiting
            # does not change is not.
            passing = isinstance(error, ServerError | RateLimitError)
            passing = passing or not isinstance(error, APIError | ProtocolError)
            senseless = 0 if passing else senseless + 1
            if senseless >= SENSELESS_POLLS:
                raise
            logger.debug("a job's status could not be read, trying again: %s", error)
        if found is not None and found.status in TERMINAL:
            return found
        policy.remaining()
        await anyio.sleep(policy.clock(interval))
        interval = min(POLL_LONGEST, interval * POLL_GROWTH)


def job_failure(job_id: str, status: str, message: str | None) -> JobError | None:
    """The error of a job that ended without success; None for one that succeeded."""
    if status == "SUCCESS":
        return None
    return JobError(
        f"the job ended as {status}: {message or 'no reason given'}",
        job_id=job_id,
        job_status=status,
    )
