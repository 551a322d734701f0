"""The sending of one chunk: by its operation, in smaller parts where it is refused as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from elluminate_async.engine import item_errors
from elluminate_async.engine.call import Call
from elluminate_async.engine.chunks import Chunk, Item
from elluminate_async.engine.operation import ChunkRefusedError, ChunkRevokedError
from elluminate_async.engine.outcomes import Pairs
from elluminate_async.errors import DeadlineError, ElluminateError, JobError

if TYPE_CHECKING:
    from elluminate_async.engine.operation import Outcomes

V = TypeVar("V")
R = TypeVar("R")


def observed(call: Call[V, R], chunk: Chunk[V], pairs: Pairs[R]) -> AbstractContextManager[None]:
    """Around the sending of ``chunk``, whose outcomes are in ``pairs`` by then."""
    operation = call.operation
    job = chunk.unfinished.job_id if chunk.unfinished is not None else None
    rated = cache(lambda: {i.position: operation.rated(i.value) for i in chunk.items})
    return call.telemetry.chunk(
        len(chunk.items),
        pairs,
        rated=lambda p: rated().get(p),
        kind=chunk.kind,
        queued=chunk.queued,
        job=job,
    )


async def send_chunk(call: Call[V, R], chunk: Chunk[V], pairs: Pairs[R]) -> Chunk[V]:
    """Send a chunk, halved where the service refuses it as a whole, and add its outcomes.

    Returns:
        The chunk, which is none of an earlier run any more where that proved to be undone.
    """
    todo: list[Sequence[Item[V]]] = [chunk.items]
    if not chunk.is_of_earlier_run:
        # It was made before the answers to others were known.
        todo = call.sizes.parts_of(chunk.items)[::-1]
    while todo:
        part = todo.pop()
        pending = {item.position: item for item in part}
        failure: ElluminateError | None = None
        try:
            async for position, outcome in _sending(call, chunk, part):
                del pending[position]
                pairs.append((position, outcome))
        except ChunkRevokedError:
            call.release(list(pending))
            chunk = replace(chunk, unfinished=None)
            todo.append(list(pending.values()))
            continue
        except ChunkRefusedError as refused:
            left = list(pending.values())
            call.release(list(pending))
            chunk = replace(chunk, unfinished=None)
            if len(left) > 1:
                middle = len(left) // 2
                todo += [left[middle:], left[:middle]]
                continue
            failure = refused.error
        except ElluminateError as error:
            if isinstance(error, item_errors.FATAL):
                raise
            # The end of its own job tells of a chunk, whoever sent it; nothing else does.
            error.ambiguous |= chunk.is_of_earlier_run and not isinstance(error, JobError)
            if isinstance(error, DeadlineError):
                error.retry_after = call.limits.kept_for() or None
            failure = error
        pairs += [(p, item_errors.failed(failure, p, call.name)) for p in pending]
    return chunk


def _sending(call: Call[V, R], chunk: Chunk[V], part: Sequence[Item[V]]) -> Outcomes[R]:
    operation, recovery = call.operation, call.recovery
    if recovery is not None:
        recovery.before_sending(chunk, part)
    if chunk.done is not None:
        return operation.fetch(part, chunk.done)
    if chunk.unfinished is not None:
        return operation.resume(part, chunk.unfinished)
    return (call.send or operation.send)(part)
