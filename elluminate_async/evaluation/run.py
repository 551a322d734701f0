"""`Evaluator`: one evaluation, as a whole or as a stream of records.

Three rows, one configuration, two epochs::

    rows       0         1         2              uploaded, as they are read
    responses  0 1       2 3       4 5            row × epochs + epoch, as rows are there
    ratings    0 1       2 3       4 5            as responses are there

Each step is a batch of its own, which takes what the step before gives as soon as it gives it.
All share one deadline, one retry budget and the client's limits.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import anyio

from elluminate_async.batch import Batch
from elluminate_async.engine.memory import Memory
from elluminate_async.engine.outcomes import ProgressReporter
from elluminate_async.engine.run import deliver_all, run_batch
from elluminate_async.engine.stream import OutcomeStream
from elluminate_async.errors import DeadlineError, ItemError
from elluminate_async.errors.deadlines import deadline_passed
from elluminate_async.evaluation.directory import journals_of, locked
from elluminate_async.evaluation.evaluation import Evaluation
from elluminate_async.evaluation.inputs import Inputs
from elluminate_async.evaluation.lane import Lane, whole
from elluminate_async.evaluation.records import EvaluationRecord, LaneResult, at
from elluminate_async.evaluation.request import placeholders_of
from elluminate_async.evaluation.setup import Begin, Setup, SetupMaker
from elluminate_async.evaluation.spending import LaneSpending, Spending, spending_of
from elluminate_async.operations.context import CallContext
from elluminate_async.operations.parts import list_entries
from elluminate_async.operations.run_keys import checked_run, honours_items
from elluminate_async.operations.standing import standing
from elluminate_async.operations.upload import Upload
from elluminate_async.progress import Showing
from elluminate_async.schemas.template_variables import TemplateVariables, prompt_values

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from anyio.abc import TaskGroup

    from elluminate_async.batch import BatchOptions, ProgressCallback
    from elluminate_async.engine.operation import Operation
    from elluminate_async.engine.outcomes import Pairs
    from elluminate_async.evaluation.request import EvaluationRequest
    from elluminate_async.operations.connection import Connection
    from elluminate_async.schemas.collections import Collection
    from elluminate_async.schemas.prompt_templates import PromptTemplate
    from elluminate_async.schemas.ratings import Rating
    from elluminate_async.telemetry import ObservedCall

MOST_OPENED_AHEAD = 32
"""Connections that are opened during the set-up at most, for the first chunks."""

T = TypeVar("T")

DeliverRecords: TypeAlias = Callable[[list[EvaluationRecord]], Awaitable[None]]

_NOT_SET_UP: Final = "before the evaluation was set up"


class Evaluator:
    """One evaluation.

    Args:
        connection: To the service.
        request: What is evaluated.
        options: Instead of the client's.
        progress: Whether its progress is shown, or who is told of it.
    """

    def __init__(
        self,
        connection: Connection,
        request: EvaluationRequest,
        options: BatchOptions | None,
        progress: bool | ProgressCallback = False,
    ) -> None:
        self._connection = connection
        self._request = request
        self._context = CallContext.begin(connection, options)
        self._setup: Setup | None = None
        self._is_keyed = False
        self._has_lanes = anyio.Event()
        self._inputs = Inputs((), None, None)
        self._lanes: list[Lane] = []
        self._uploading: Upload | None = None
        self._rows: Batch[TemplateVariables] | None = None
        self._entries: list[TemplateVariables] | None = None
        self._spending: Spending | None = None
        self._fatal: BaseException | None = None
        total = None if request.total is None else request.total * request.fan_out
        self._progress = ProgressReporter("evaluate", total, None)
        self._showing = Showing(
            progress,
            self._context.options.on_progress,
            operation="evaluate",
            total=total,
            traffic=lambda: connection.limits.traffic,
        )

    async def evaluate(self) -> Evaluation:
        """All records.

        Raises:
            ElluminateError: One that is true of all rows; its ``partial`` is an `Evaluation`.
        """
        telemetry, total = self._connection.telemetry, self._progress.total
        with telemetry.call("evaluate", total=total) as observed:
            try:
                await self._run_shown(None)
            except BaseException as error:
                if self._setup is not None:
                    partial = self._evaluation(error, observed)
                    # An exception of the caller's own may take no attributes.
                    with suppress(AttributeError, TypeError):
                        error.partial = partial  # pyright: ignore[reportAttributeAccessIssue]
                raise
            return self._evaluation(None, observed)

    def stream(self) -> OutcomeStream[EvaluationRecord]:
        """The records as they finish, in the memory of a window of chunks."""
        return OutcomeStream(self._run_streamed, self._connection.tasks)

    async def _run_streamed(self, deliver: DeliverRecords) -> None:
        telemetry, total = self._connection.telemetry, self._progress.total
        with telemetry.call("evaluate", kind="stream", total=total) as observed:

            async def counted(records: list[EvaluationRecord]) -> None:
                observed.count([(record.position, record.error) for record in records])
                await deliver(records)

            try:
                await self._run_shown(counted)
            except DeadlineError as error:
                # Made again, the whole call would do again what was under way.
                error.ambiguous |= self._setup is not None
                raise

    async def _run_shown(self, deliver: DeliverRecords | None) -> None:
        async with locked(self._request.journal):
            with self._showing as self._progress.on_progress:
                await self._run(deliver)

    async def _run(self, deliver: DeliverRecords | None) -> None:
        if not isinstance(self._request.prompt, int):
            # Before anything is sent.
            self._check_rows(placeholders_of(self._request.prompt))
        try:
            async with AsyncExitStack() as journals:
                async with anyio.create_task_group() as tasks:
                    self._start(tasks, lambda: self._begin(tasks, journals, deliver))
                if self._fatal is not None:
                    raise self._fatal
                if self._setup is None:
                    # A request and the set-up were cut at once, by a cancellation of nobody.
                    raise deadline_passed(_NOT_SET_UP)
        finally:
            for lane in self._lanes:
                lane.close()

    async def _begin(
        self, tasks: TaskGroup, journals: AsyncExitStack, deliver: DeliverRecords | None
    ) -> None:
        """Set up, and start the steps.

        Without a journal the upload begins as soon as there is a collection. With one it waits:
        rows in a collection that no journal names would be uploaded again.
        """
        keep, journal = deliver is None, self._request.journal
        self._connection.open_ahead(self._first_chunks(), self._context.policy)

        def begin(template: PromptTemplate, collection: Collection) -> None:
            self._prepare_upload(template, collection, keep=keep)
            if journal is None:
                with standing(self._connection, None):  # the caller's rows may ask for their own
                    self._start(tasks, lambda: self._upload(keep=keep))

        setup = self._setup = await self._make_setup(begin)
        if self._request.rows is None and keep:
            policy = self._context.policy
            self._entries = await list_entries(self._connection, setup.collection, policy)
            self._request = replace(self._request, total=len(self._entries))
            self._progress.total = len(self._entries) * self._request.fan_out
        self._make_lanes(self._for_steps(), setup, keep=keep)
        await journals.enter_async_context(journals_of(journal, self._steps()))
        self._has_lanes.set()

        async def finished(lane: Lane, pairs: Pairs[list[Rating]]) -> None:
            if deliver is not None:
                await deliver([self._record(lane, *pair) for pair in pairs])
            self._progress.count(pairs)

        if journal is not None:
            self._start(tasks, lambda: self._upload(keep=keep))
        if self._uploading is None:
            self._start(tasks, lambda: self._read_collection(setup.collection))
        for lane in self._lanes:
            self._start(tasks, lane.generate)
            self._start(tasks, lambda lane=lane: lane.rate(finished))

    def _prepare_upload(
        self, template: PromptTemplate, collection: Collection, *, keep: bool
    ) -> None:
        """Make the operation of the rows' upload."""
        request = self._request
        uses = None if keep else request.fan_out
        self._inputs = Inputs(template.placeholders, request.answers, uses, request.keys)
        if request.rows is not None:
            self._uploading = Upload(
                _own_memory(self._for_steps()),
                collection.id,
                # The rows of a run are there where another call of it has uploaded them.
                skip_existing=self._is_keyed,
                total=request.total,
                journal=request.step_journal("rows"),
                rows_at_once=request.rows_at_once(self._context.options),
            )

    def _steps(self) -> dict[str, Operation[Any, Any]]:
        """The operation of each step, by the name of its journal."""
        steps: dict[str, Operation[Any, Any]] = {}
        if self._uploading is not None:
            steps["rows"] = self._uploading
        for lane in self._lanes:
            steps |= lane.steps
        return steps

    def _make_lanes(self, context: CallContext, setup: Setup, *, keep: bool) -> None:
        request, inputs, progress = self._request, self._inputs, self._progress
        spendings: Sequence[LaneSpending | None] = [None] * len(setup.configurations)
        if request.max_cost is not None:
            self._spending, spendings = spending_of(request.max_cost, setup)
        for index, spending in enumerate(spendings):
            contexts = (_own_memory(context), _own_memory(context))
            self._lanes.append(
                Lane(
                    index, setup, request, inputs, contexts, progress, spending=spending, keep=keep
                )
            )

    def _check_rows(self, placeholders: Iterable[str]) -> None:
        """Look at all rows, where they are there."""
        if (rows := self._request.listed()) is not None:
            Inputs(placeholders, self._request.answers, None, self._request.keys).check(rows)

    async def _make_setup(self, begin: Begin) -> Setup:
        seconds = self._context.policy.deadline_at - time.monotonic()
        with anyio.move_on_after(max(0.0, seconds)):
            with standing(self._connection, self._context.policy):
                if (keys := self._request.keys) is not None:
                    self._is_keyed = await honours_items(self._context, checked_run(keys.run))
                maker = SetupMaker(
                    self._context, self._request, self._check_rows, is_keyed=self._is_keyed
                )
                return await maker.make(begin)
        raise deadline_passed(_NOT_SET_UP)

    def _for_steps(self) -> CallContext:
        """Chunks small enough to keep every permit busy, and no progress of their own."""
        options = self._request.step_options(self._context.options)
        return replace(self._context, options=options.replace(on_progress=None))

    def _first_chunks(self) -> int:
        """How many chunks begin together, once there are rows."""
        at_once = min(self._context.options.max_concurrency, MOST_OPENED_AHEAD)
        total = self._request.total
        return at_once if total is None else min(at_once, total * self._request.fan_out)

    def _start(self, tasks: TaskGroup, step: Callable[[], Awaitable[None]]) -> None:
        async def run() -> None:
            try:
                await step()
            except anyio.get_cancelled_exc_class():
                raise
            except BaseException as error:
                # Whatever it is: none is to come out as a group.
                self._fatal = self._fatal or error
                tasks.cancel_scope.cancel()

        tasks.start_soon(run)

    async def _upload(self, *, keep: bool) -> None:
        """Give each lane the rows, as they are there."""
        operation = self._uploading
        if operation is None or self._request.rows is None:
            return
        source = self._inputs.uploads(self._request.rows)
        try:
            if not keep:
                await deliver_all(operation.call(), source, self._give_rows)
            else:
                self._rows = await run_batch(operation.call(), source, self._give_rows)
        except BaseException as error:
            self._rows = getattr(error, "partial", None)
            if not isinstance(error, anyio.get_cancelled_exc_class()):
                # What is raised has the evaluation as its partial, with the experiments.
                await self._has_lanes.wait()
            raise
        await self._finish_rows(self._rows)

    async def _read_collection(self, collection: Collection) -> None:
        if (entries := self._entries) is not None:
            for position, row in enumerate(entries):
                self._note_entry(position, row)
            await self._give_rows([*enumerate(entries)])
            return await self._finish_rows(Batch(entries))
        position = 0
        async for row in list_entries(self._connection, collection, self._context.policy):
            self._note_entry(position, row)
            await self._give_rows([(position, row)])
            position += 1
        await self._finish_rows(None)

    def _note_entry(self, position: int, row: TemplateVariables) -> None:
        self._inputs.check_values(position, prompt_values(row))
        self._inputs.note(position, row.input_values)

    async def _give_rows(self, pairs: Pairs[TemplateVariables]) -> None:
        await self._has_lanes.wait()
        for lane in self._lanes:
            await lane.rows.deliver(pairs)

    async def _finish_rows(self, rows: Batch[TemplateVariables] | None) -> None:
        await self._has_lanes.wait()
        for lane in self._lanes:
            if rows is not None:
                lane.before_generating.follow(rows)
            await lane.rows.finish(rows)

    def _position(self, lane: int, within: int) -> int:
        """Of the record at a lane's position."""
        row, epoch = divmod(within, self._request.epochs)
        return (row * len(self._lanes) + lane) * self._request.epochs + epoch

    def _record(self, lane: Lane, within: int, rated: list[Rating] | ItemError) -> EvaluationRecord:
        """The record that a lane's ratings make whole."""
        row, epoch = divmod(within, self._request.epochs)
        position = self._position(lane.index, within)
        outcome = lane.generated.pop(within)
        return EvaluationRecord(
            position=position,
            row=row,
            input=self._inputs.take(row),
            config=lane.configuration.name,
            epoch=epoch + 1,
            outcome=at(outcome, position),
            rated=at(rated, position),
            llm_config=lane.configuration.llm_config,
            paired_by=self._inputs.paired_by,
            criteria=lane.configuration.criteria,
        )

    def _evaluation(self, error: BaseException | None, observed: ObservedCall) -> Evaluation:
        assert self._setup is not None
        inputs: Sequence[Mapping[str, Any]] = self._inputs.kept()
        length = len(inputs) * self._request.epochs
        lanes = [
            LaneResult(
                lane.configuration.name,
                lane.configuration.experiment,
                lane.configuration.llm_config,
                whole(lane.responses, length, "generate", error),
                whole(lane.ratings, length, "rate", error),
                lane.configuration.criteria,
            )
            for lane in self._lanes
        ]
        failed = {
            self._position(lane.index, within): failure
            for lane, result in zip(self._lanes, lanes, strict=True)
            for within, failure in result.ratings.failed.items()
        }
        observed.settle(failed, length * len(lanes))
        return Evaluation(
            self._setup.name,
            inputs,
            self._rows,
            lanes,
            self._request.epochs,
            paired_by=self._inputs.paired_by,
            spending=self._spending,
        )


def _own_memory(context: CallContext) -> CallContext:
    return replace(context, memory=Memory())
