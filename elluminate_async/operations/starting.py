"""The start of a job: the POST of a chunk, and the id that its answer names."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from pydantic import RootModel

from elluminate_async.engine.item_errors import unknown_outcome
from elluminate_async.engine.operation import ChunkRefusedError
from elluminate_async.errors import ElluminateError, ProtocolError, ServerError
from elluminate_async.operations.chunk_log import ResentChunk
from elluminate_async.operations.connection import decode
from elluminate_async.operations.replaying import Post, replayed
from elluminate_async.schemas.version import Capability
from elluminate_async.transport.exchange import Answer

if TYPE_CHECKING:
    from elluminate_async.operations.connection import Connection
    from elluminate_async.transport.retry import Policy

logger = logging.getLogger("elluminate_async")


class _JobId(RootModel[str | None]):
    """A bare JSON string, or null for "nothing to do"."""


class StartedJob(NamedTuple):
    """The job that a chunk became.

    Attributes:
        is_known: Whether an earlier request had begun it, which this client does not know of.
    """

    id: str
    is_known: bool = False


async def start_job(
    connection: Connection,
    *segments: str,
    body: bytes,
    empty: bytes,
    sending: ResentChunk,
    operation: str,
    policy: Policy,
    items: int,
) -> StartedJob:
    """POST a chunk under its idempotency key; its job.

    Where the service honours keys, an answer without a readable id is asked for again. Of what
    is sent, ``items`` count towards the limit on items. ``empty`` is the body of no items.

    Raises:
        OutcomeUnknownError: It was sent, and whether a job was made is not known. This is
            where a look at the service's own rows may settle it.
        ChunkRefusedError: It was answered 500, which one of its items may cause.
        ElluminateError: It was not accepted.
    """
    post = Post(segments, body, items=items)
    read = partial(_started, connection, sending.key)

    async def seal(sending: ResentChunk) -> Answer:
        return await connection.call(
            "POST", *segments, body=empty, policy=policy, keyed=True, sending=sending
        )

    keyed = await connection.has(Capability.IDEMPOTENCY_KEYS, policy)
    async with connection.work.awaited(*segments, key=sending.key, is_out=lambda: sending.is_out):
        try:
            return await replayed(connection, post, read, policy, sending)
        except ElluminateError as error:
            if isinstance(error, _IdUnreadableError):
                connection.limits.chunk_failed(str(error), lost=True)
            elif keyed and not sending.was_taken:
                await check_halves(error, sending, seal)
            if error.ambiguous:
                raise unknown_outcome(error, operation) from None
            raise
    raise AssertionError("unreachable")


async def check_halves(
    error: ElluminateError, sending: ResentChunk, seal: Callable[[ResentChunk], Awaitable[object]]
) -> None:
    """Have a chunk halved, all attempts at which were answered 500, as an item may cause that.

    But one of the answers may have been lost on the way, with the work done. So an empty chunk
    is sent under the same key: where the service takes it, the key is bound to that, which
    proves that the chunk itself was not applied, and never will be.

    Args:
        error: How the chunk ended.
        sending: Of the chunk.
        seal: Sends the empty chunk, where the service honours keys.

    Raises:
        ChunkRefusedError: It is to be halved.
        ServerError: It was not applied, and halving has not helped others.
    """
    if not isinstance(error, ServerError) or error.status != 500 or error.attempts < 2:
        return
    try:
        await seal(ResentChunk(sending.key))
    except ElluminateError as unsealed:
        logger.debug("a chunk that failed may have been applied: %s", unsealed)
        return
    error.ambiguous = False
    if not sending.may_halve():
        raise error
    raise ChunkRefusedError(error) from None


class _IdUnreadableError(ProtocolError):
    """A chunk was accepted, and its answer does not name its job."""


def _started(connection: Connection, key: str, answer: Answer) -> StartedJob:
    job_id, problem = None, "the service accepted the items and named no job for them"
    try:
        job_id = checked_job_id(decode(_JobId, answer).root, connection.blotted)
    except ProtocolError as error:
        problem = str(error)
    if job_id is not None and not connection.claim_job(job_id, key):
        job_id, problem = None, "the items were accepted as a job that other items had become"
    if job_id is None:
        raise _IdUnreadableError(
            problem, sent=True, attempts=answer.attempts, request_id=answer.request_id
        )
    # Of what was sent several times the first may have begun it.
    return StartedJob(job_id, is_known=answer.is_replayed and answer.attempts == 1)


def checked_job_id(job_id: str | None, blotted: Callable[[str], str]) -> str | None:
    """``job_id``, which goes into URLs and into the journal.

    Raises:
        ProtocolError: It holds the credential.
    """
    if job_id is not None and blotted(job_id) != job_id:
        # What is raised takes this frame along.
        job_id = None
        raise ProtocolError("the service named a job by the key it was asked with", sent=True)
    return job_id
