"""One call: every position gets exactly one outcome, as a batch or as a stream."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar

from elluminate_async.batch import Batch, Outcome
from elluminate_async.engine.batch_run import BatchRun, Deliver
from elluminate_async.engine.call import Call
from elluminate_async.engine.chunks import Chunk, CutSource, Item
from elluminate_async.engine.item_errors import NOT_SENT_IN_TIME
from elluminate_async.engine.outcomes import OutcomeCollector, Pairs, bare
from elluminate_async.engine.retrier import Retrier
from elluminate_async.engine.stream import OutcomeStream
from elluminate_async.engine.tasks import RunningTasks
from elluminate_async.errors.deadlines import deadline_passed
from elluminate_async.telemetry import ObservedCall

V = TypeVar("V")
R = TypeVar("R")


async def run_batch(
    call: Call[V, R], source: CutSource[V], deliver: Deliver[R] | None = None
) -> Batch[R]:
    """All outcomes of ``call``, in input order.

    ``deliver`` is given each outcome too, as soon as it is there; but for those of positions
    that were never sent, which are in the batch alone.

    Raises:
        ElluminateError: One that is true of all items.
        DeadlineError: The deadline passed and ``source`` is of unknown length, so that not
            all positions are known.
        BaseException: What ``source`` or ``on_progress`` raised, unchanged; but for a
            `StopIteration`, which Python lets out of no coroutine: it is the cause of a
            `RuntimeError`.

    Whatever is raised, cancellation included, has what had arrived as its ``partial``: what
    was in flight is unknown there, and what was never sent has the code ``not_sent``.
    """
    with call.telemetry.call(call.name, total=call.total) as observed:
        return await _run_batch(call, source, deliver, observed)


async def _run_batch(
    call: Call[V, R],
    source: CutSource[V],
    deliver: Deliver[R] | None,
    observed: ObservedCall,
) -> Batch[R]:
    collector = OutcomeCollector[R](call.name, call.total, call.operation.of)
    call.memory.is_kept = call.can_be_retried

    async def take(pairs: Pairs[R]) -> None:
        await collector.fill(pairs)
        if deliver is not None:
            await deliver(pairs)

    run = BatchRun(call, take, keep_failed=call.memory.is_kept)
    try:
        await bare(run.run(source))
        if run.out_of_time and call.total is None and not run.exhausted:
            raise deadline_passed("before the input came to its end")
        if not run.out_of_time:
            await collector.final_reconcile(call.operation)
    except BaseException as error:
        # An exception of the caller's own may take no attributes.
        partial = collector.cut_short(run.cut, run.positions, error)
        observed.settle(partial.failed, len(partial))
        with suppress(AttributeError, TypeError):
            error.partial = partial  # pyright: ignore[reportAttributeAccessIssue]
        raise
    resend = Retrier(call, run.failed_items, _run_again) if call.can_be_retried else None
    if run.out_of_time:
        late = deadline_passed()
        result = collector.filled(run.positions, "deadline", NOT_SENT_IN_TIME, late, resend)
    else:
        result = collector.batch(run.positions, resend)
    observed.settle(result.failed, len(result))
    if call.can_be_retried:
        call.memory.keep_only(result.failed)
    return result


async def _run_again(
    call: Call[V, R],
    chunks: Sequence[Chunk[V]],
    items: Sequence[Item[V]],
    outcomes: dict[int, Outcome[R]],
) -> None:
    """Go on with ``chunks``, send ``items``, and fill in what becomes of both."""

    async def take(pairs: Pairs[R]) -> None:
        outcomes.update(pairs)

    run = BatchRun(call, take, keep_failed=True)
    total = len(items) + sum(len(chunk.items) for chunk in chunks)
    with call.telemetry.call(call.name, kind="retry", total=total) as observed:
        try:
            await bare(run.run(items, sent_before=chunks))
        finally:
            outcomes.update(run.cut)
            observed.count([*outcomes.items()])


def stream_batch(
    call: Call[V, R],
    source: CutSource[V],
    running: RunningTasks,
) -> OutcomeStream[tuple[int, Outcome[R]]]:
    """The outcomes of ``call`` as (position, outcome), as chunks finish.

    At most ``max_concurrency`` chunks are read ahead of the consumer. Raises as `run_batch`
    does, and `DeadlineError` when the deadline leaves entries of ``source`` unsent.
    """
    return OutcomeStream(partial(deliver_all, call, source), running, of=call.name)


async def deliver_all(call: Call[V, R], source: CutSource[V], deliver: Deliver[R]) -> None:
    """Give ``deliver`` the outcomes of ``call`` as chunks finish, and keep none.

    Raises:
        DeadlineError: The deadline left entries of ``source`` unsent.
    """
    with call.telemetry.call(call.name, kind="stream", total=call.total) as observed:

        async def counted(pairs: Pairs[R]) -> None:
            observed.count(pairs)
            await deliver(pairs)

        run = BatchRun(call, counted)
        try:
            await run.run(source)
        finally:
            observed.count(run.cut)
        if run.out_of_time:
            late = deadline_passed("before all items were sent")
            # Made again, the call would send again what it had sent.
            late.ambiguous = bool(observed.succeeded or observed.failed)
            raise late
