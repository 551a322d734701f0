"""The start of a job: the POST of a chunk, and the id that its answer names."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

import anyio
from pydantic import RootModel

from elluminate_async.engine.item_errors import unknown_outcome
from elluminate_async.engine.operation import ChunkRefusedError
from elluminate_async.errors import ElluminateError, ProtocolError, ServerError
from elluminate_async.limits.backoff import back_off
from elluminate_async.operations.chunk_log import ResentChunk
from elluminate_async.operations.connection import decode
from elluminate_async.schemas.version import Capability
from elluminate_async.transport.exchange import Answer

if TYPE_CHECKING:
    from elluminate_async.operations.connection import Connection
    from elluminate_async.transport.retry import Policy

logger = logging.getLogger("elluminate_async")


class _JobId(RootModel[str | None]):
    """A bare JSON string, or null for "nothing to do"."""


async def start_job(
    connection: Connection,
    *segments: str,
    body: bytes,
    empty: bytes,
    sending: ResentChunk,
    operation: str,
    policy: Policy,
    items: int,
) -> str:
    """POST a chunk under its idempotency key; the id of its job.

    Where the service honours keys, an answer without a readable id is asked for again. Of what
    is sent, ``items`` count towards the limit on items. ``empty`` is the body of no items.

    Raises:
        OutcomeUnknownError: It was sent, and whether a job was made is not known. This is
            where a look at the service's own rows may settle it.
        ChunkRefusedError: It was answered 500, which one of its items may cause.
        ElluminateError: It was not accepted.
    """
    failures = 0

    async def post(body: bytes, sending: ResentChunk, items: int = 0) -> Answer:
        return await connection.call(
            "POST", *segments, body=body, policy=policy, keyed=True, sending=sending, items=items
        )

    keyed = await connection.has(Capability.IDEMPOTENCY_KEYS, policy)
    async with connection.work.awaited(*segments, key=sending.key, is_out=lambda: sending.is_out):
        while True:
            try:
                answer = await post(body, sending, items)
                return _job_id(answer, failures, connection, sending.key)
            except _IdUnreadableError as error:
                failures += 1
                # A 2xx: there may be a job, and only its key can name it. Its intent stands.
                sending = ResentChunk(sending.key)
                again = failures < policy.max_attempts and keyed
                wait = back_off(failures)
                if not again or not policy.allows(wait):
                    connection.limits.chunk_failed(str(error), lost=True)
                    raise unknown_outcome(error, operation) from None
                await anyio.sleep(wait)
            except ElluminateError as error:
                if keyed and not failures:
                    await check_halves(error, sending, partial(post, empty))
                # After an unreadable 2xx no later refusal proves that nothing was done.
                if error.ambiguous or failures:
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


def _job_id(answer: Answer, failures: int, connection: Connection, key: str) -> str:
    job_id, problem = None, "the service accepted the items and named no job for them"
    try:
        job_id = checked_job_id(decode(_JobId, answer).root, connection.blotted)
    except ProtocolError as error:
        problem = str(error)
    if job_id is not None and not connection.claim_job(job_id, key):
        job_id, problem = None, "the items were accepted as a job that other items had become"
    if job_id is None:
        raise _IdUnreadableError(
            problem,
            sent=True,
            attempts=answer.attempts + failures,
            request_id=answer.request_id,
        )
    return job_id


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
