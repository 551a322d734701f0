"""`Lane`: one configuration's way through an evaluation, from rows to ratings."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from elluminate_async.batch import Batch
from elluminate_async.engine.chunks import Cut
from elluminate_async.engine.run import deliver_all, run_batch
from elluminate_async.errors import ItemError
from elluminate_async.evaluation.channel import Channel, StepUpstream
from elluminate_async.evaluation.inputs import Specs
from elluminate_async.evaluation.row_keys import keying_of
from elluminate_async.operations.generate import Generate
from elluminate_async.operations.rate import Rate
from elluminate_async.operations.rating_items import entry_of, repaired
from elluminate_async.operations.response_items import ResponsePlan
from elluminate_async.schemas.prices import cost_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable

    from elluminate_async.batch import Outcome
    from elluminate_async.engine.chunks import Entry
    from elluminate_async.engine.operation import Operation
    from elluminate_async.engine.outcomes import Pairs, ProgressReporter
    from elluminate_async.evaluation.inputs import Inputs
    from elluminate_async.evaluation.request import EvaluationRequest
    from elluminate_async.evaluation.setup import Configuration, Setup
    from elluminate_async.evaluation.spending import LaneSpending
    from elluminate_async.operations.context import CallContext
    from elluminate_async.operations.echoes import Subject
    from elluminate_async.schemas.ratings import Rating
    from elluminate_async.schemas.responses import PromptResponse
    from elluminate_async.schemas.template_variables import TemplateVariables

T = TypeVar("T")

Finished: TypeAlias = "Callable[[Lane, Pairs[list[Rating]]], Awaitable[None]]"
"""Takes the ratings of a lane, by its positions: with them a record is whole."""


class Lane:
    """One configuration: its rows are generated, and rated while others are generated.

    Its positions are row × epochs + epoch, from 0.

    Args:
        index: Which of the configurations it is.
        setup: The objects at the service.
        request: What is evaluated.
        inputs: The rows.
        contexts: For the two steps; they share budget and deadline.
        progress: Is told what responses take.
        spending: What it may cost; None where that is not bounded.
        keep: Whether batches are made, which can be retried.

    Attributes:
        generated: Responses whose ratings are still to come, where no batches are made.
        responses, ratings: The batches, once there are any.
        steps: The two operations, by the names of their journals.
    """

    def __init__(
        self,
        index: int,
        setup: Setup,
        request: EvaluationRequest,
        inputs: Inputs,
        contexts: tuple[CallContext, CallContext],
        progress: ProgressReporter,
        *,
        spending: LaneSpending | None,
        keep: bool,
    ) -> None:
        self.index = index
        self.configuration: Configuration = setup.configurations[index]
        self.generated: dict[int, Outcome[PromptResponse]] = {}
        self.responses: Batch[PromptResponse] | None = None
        self.ratings: Batch[list[Rating]] | None = None
        self._keep = keep
        self._progress = progress
        self._to_generate = Channel["TemplateVariables"](
            keep=keep, is_cut=request.total is not None
        )
        self._to_rate = Channel["PromptResponse"](keep=keep, is_cut=request.total is not None)
        is_given = request.answers is not None
        experiment = self.configuration.experiment
        plan = replace(
            ResponsePlan.check(experiment, setup.template, None), keying=keying_of(request.keys)
        )
        total = None if request.total is None else request.total * request.epochs
        responses, ratings = f"responses-{index}", f"ratings-{index}"
        self._generate = Generate(
            contexts[0],
            plan,
            name="add" if is_given else "generate",
            total=total,
            journal=request.step_journal(responses),
            allowance=spending,
        )
        self._rate = Rate(
            contexts[1],
            request.rating_mode,
            plan.run,
            total=total,
            journal=request.step_journal(ratings),
            # Those of a set are in the journal of the whole.
            pins_criteria=experiment.criterion_set is None,
        )
        self.steps: dict[str, Operation[Any, Any]] = {
            responses: self._generate,
            ratings: self._rate,
        }
        self._specs = Specs(plan, inputs, request.epochs, is_given=is_given)
        self.before_generating = StepUpstream(self._specs.items, request.epochs)
        self._before_rating = StepUpstream(
            lambda position, response: repaired({position: response}, ())
        )

    @property
    def rows(self) -> Channel[TemplateVariables]:
        """Where its rows go in."""
        return self._to_generate

    def close(self) -> None:
        """Close its channels, whatever is left in them."""
        self._to_generate.close()
        self._to_rate.close()

    async def generate(self) -> None:
        """Generate, or store, a response for each epoch of each row."""
        call = self._generate.call(self.before_generating)
        source = self._specs.source(self._to_generate)
        if not self._keep:
            await deliver_all(call, source, self._pass_on)
            return await self._to_rate.finish(None)
        try:
            self.responses = await run_batch(call, source, self._pass_on)
        except BaseException as error:
            self.responses = getattr(error, "partial", None)
            raise
        self._before_rating.follow(self.responses)
        await self._to_rate.finish(self.responses)

    async def rate(self, finished: Finished) -> None:
        """Rate the responses as they come, and give ``finished`` what becomes of each."""

        async def deliver(pairs: Pairs[list[Rating]]) -> None:
            await finished(self, pairs)

        call = self._rate.call(self._before_rating)
        source = self._subjects()
        if not self._keep:
            return await deliver_all(call, source, deliver)
        try:
            self.ratings = await run_batch(call, source, deliver)
        except BaseException as error:
            self.ratings = getattr(error, "partial", None)
            raise

    async def _subjects(self) -> AsyncGenerator[Entry[Subject] | Cut]:
        """The responses that come, to be rated; what failed passes through."""
        async with aclosing(self._to_rate.read()) as pairs:
            async for pair in pairs:
                yield pair if isinstance(pair, Cut) else entry_of(*pair)

    async def _pass_on(self, pairs: Pairs[PromptResponse]) -> None:
        for _, outcome in pairs:
            self._spend(outcome)
        if not self._keep:
            self.generated.update(pairs)
        await self._to_rate.deliver(pairs)

    def _spend(self, outcome: Outcome[PromptResponse]) -> None:
        metadata = None if isinstance(outcome, ItemError) else outcome.generation_metadata
        if metadata is not None:
            tokens = (metadata.input_tokens or 0) + (metadata.output_tokens or 0)
            self._progress.spend(tokens, cost_of(metadata, self.configuration.llm_config))


def whole(
    batch: Batch[T] | None, length: int, operation: str, error: BaseException | None
) -> Batch[T]:
    """``batch``, or one of ``length`` where the run ended before it had all its positions."""
    if batch is not None and len(batch) == length:
        return batch
    outcomes = [] if batch is None else list(batch.outcomes[:length])
    text = f"the evaluation ended before this item was sent: {error or 'it was cut short'}"
    rest: Iterable[ItemError] = (
        ItemError(text, position=p, code="not_sent", operation=operation, attempts=0)
        for p in range(len(outcomes), length)
    )
    return Batch([*outcomes, *rest])
