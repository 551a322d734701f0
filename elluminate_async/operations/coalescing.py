"""`Coalescer`: calls of few items that come together, sent as the items of one chunk.

It brings together those that differ in nothing but their items, their deadlines and who is told of
their progress. A single call to which nobody comes in time goes by itself, as ever.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from elluminate_async.batch.options import is_finite, shown
from elluminate_async.engine.chunks import Item
from elluminate_async.errors import ConfigurationError, ItemError, JobError, OutcomeUnknownError
from elluminate_async.operations.context import narrowed
from elluminate_async.operations.generate import Generate
from elluminate_async.operations.rate import Rate, Ratings
from elluminate_async.operations.response_items import BODY_BYTES, ResponsePlan, ResponseSpec
from elluminate_async.operations.shared_call import SharedCall, Work
from elluminate_async.operations.singles import one_sending, way_on
from elluminate_async.schemas.responses import PromptResponse
from elluminate_async.schemas.version import Capability

if TYPE_CHECKING:
    from elluminate_async.batch import BatchOptions
    from elluminate_async.engine.call import Call
    from elluminate_async.engine.operation import Outcomes
    from elluminate_async.operations.caller import Caller
    from elluminate_async.operations.connection import Connection
    from elluminate_async.operations.echoes import Subject
    from elluminate_async.schemas.ratings import RatingMode
    from elluminate_async.transport.retry import Policy

V = TypeVar("V")
R = TypeVar("R")


def generation(plan: ResponsePlan) -> Work[ResponseSpec, PromptResponse]:
    """Work of one experiment, template and configuration."""
    return Work(
        ("generate", plan.experiment_id, plan.template_id, plan.llm_config_id),
        lambda context: Generate(context, plan, total=None, journal=None),
        adapt=_Numbering,
    )


def rating(mode: RatingMode) -> Work[Subject, Ratings]:
    """Work of one rating mode."""
    return Work(
        ("rate", mode),
        lambda context: Rate(context, mode, total=None, journal=None),
        # Several may ask for the same response, which is rated once.
        each=lambda ratings: [*ratings],
    )


class _Numbering:
    """Gives equal rows of several callers distinct epochs."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}

    def __call__(self, spec: ResponseSpec) -> ResponseSpec:
        epoch = self._seen[spec.variables_id] = self._seen.get(spec.variables_id, 0) + 1
        return replace(spec, epoch=epoch)


class Coalescer:
    """A client's calls of few items, brought together.

    Args:
        connection: The client's.
        seconds: How long the first of them waits for others.
    """

    def __init__(self, connection: Connection, seconds: float) -> None:
        self._connection = connection
        self._seconds = seconds
        self._defaults = self._shared(None)
        self._open: dict[Hashable, SharedCall[Any, Any]] = {}

    def _shared(self, options: BatchOptions | None) -> BatchOptions:
        """The options of a call without those that are each caller's own."""
        chosen = narrowed(self._connection.options, options)
        return chosen.replace(deadline=1.0, on_progress=None)

    def join(
        self,
        work: Work[V, R],
        items: Sequence[Item[V]],
        options: BatchOptions | None,
        deadline_at: float,
        **how: Any,
    ) -> Caller[R]:
        """Have ``items`` sent with those of others; for ``how`` see `SharedCall.join`."""
        shared = self._defaults if options is None else self._shared(options)
        key = (work.key, shared)
        call: SharedCall[V, R] | None = self._open.get(key)
        if call is not None and not call.has_room(len(items)):
            call.close()
            call = None
        if call is None:
            call = self._open[key] = SharedCall(
                self._connection,
                shared,
                work,
                seconds=self._seconds,
                closed=lambda closed: self._forget(key, closed),
            )
        return call.join(items, deadline_at, **how)

    def _forget(self, key: Hashable, call: SharedCall[Any, Any]) -> None:
        if self._open.get(key) is call:
            del self._open[key]

    def joined(self, call: Call[V, R], work: Work[V, R]) -> Call[V, R]:
        """``call``, whose chunk goes with those of others where it is small enough.

        What it gives is the same, and what failed is sent once more by itself.
        """
        is_small = call.total is not None and 0 < call.total < call.options.chunk_size
        # Of surplus rows nobody could tell whose they are.
        if not is_small or call.recovery is not None or call.options.replay_after_settle:
            return call

        async def send(items: Sequence[Item[V]]) -> Outcomes[R]:
            caller = self.join(work, items, call.options, call.deadline_at, memory=call.memory)
            async with aclosing(caller.outcomes()) as outcomes:
                async for position, outcome, _ in outcomes:
                    yield position, outcome

        return replace(call, send=send, takes_permits=False)

    async def generate(
        self,
        plan: ResponsePlan,
        spec: ResponseSpec,
        options: BatchOptions | None,
        policy: Policy,
    ) -> PromptResponse | None:
        """One response, with those of others; None where nobody else came, and nothing was sent.

        Raises:
            ElluminateError: As of a call by itself.
        """
        answer = plan.answer_bytes(spec.variables)
        # By its id, as where it goes alone: the service's values count.
        spec = replace(spec, variables=spec.variables_id)
        item = Item(0, spec, BODY_BYTES, (), answer)
        return await self._single("generate", generation(plan), item, options, policy)

    async def rate(
        self,
        item: Item[Subject],
        mode: RatingMode,
        options: BatchOptions | None,
        policy: Policy,
    ) -> Ratings | None:
        """The ratings of one response, with those of others; else as `generate`."""
        id = item.value.id
        return await self._single("rate", rating(mode), item, options, policy, response_id=id)

    async def _single(
        self,
        operation: str,
        work: Work[V, R],
        item: Item[V],
        options: BatchOptions | None,
        policy: Policy,
        response_id: int | None = None,
    ) -> R | None:
        if not await self._connection.has(Capability.RESULTS_WITH_STATUS, policy):
            # There a chunk is not done with one answer, and a single call is.
            return None
        caller = self.join(work, [item], options, policy.deadline_at, may_go_alone=True)
        with one_sending(operation, response_id=response_id):
            async with aclosing(caller.outcomes()) as outcomes:
                async for _, outcome, cause in outcomes:
                    if not isinstance(outcome, ItemError):
                        return outcome
                    if cause is not None and not isinstance(cause, JobError):
                        raise cause
                    raise _as_single(outcome, operation, response_id)
        return None


def coalescer_of(connection: Connection, coalesce: Any) -> Coalescer | None:
    """The `Coalescer` of a client whose calls wait so many seconds for others; None for 0.

    Raises:
        ConfigurationError: ``coalesce`` is no number of seconds.
    """
    if coalesce is None:
        return None
    is_number = isinstance(coalesce, int | float) and not isinstance(coalesce, bool)
    if not is_number or not is_finite(coalesce) or coalesce < 0:
        raise ConfigurationError(
            f"coalesce must be a number of seconds, such as 0.005, or None, not {shown(coalesce)}"
        )
    return Coalescer(connection, coalesce) if coalesce else None


def _as_single(error: ItemError, operation: str, response_id: int | None) -> ItemError:
    """The error of an item as that of a call which has no batch to retry it by."""
    if not isinstance(error, OutcomeUnknownError):
        return error
    twin = copy.copy(error)
    twin.args = (f"{error.text}; {way_on(operation)}",)
    twin.retryable, twin.response_id = False, error.response_id or response_id
    return twin
