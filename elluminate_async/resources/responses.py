"""``client.responses``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Unpack

from elluminate_async.batch import Batch, Outcome
from elluminate_async.batch.options import check_progress
from elluminate_async.engine.run import run_batch, stream_batch
from elluminate_async.operations.chunk_log import JournalPath, journal_path
from elluminate_async.operations.coalescing import Coalescer, generation
from elluminate_async.operations.connection import Connection, decode
from elluminate_async.operations.context import CallContext
from elluminate_async.operations.filters import FigureRanges
from elluminate_async.operations.generate import Generate
from elluminate_async.operations.item_keys import ItemKeys
from elluminate_async.operations.json_input import checked_input
from elluminate_async.operations.listing import Listing
from elluminate_async.operations.parts import list_entries, list_responses
from elluminate_async.operations.references import id_of
from elluminate_async.operations.response_items import ResponsePlan, Variables, one_source
from elluminate_async.operations.response_query import response_query
from elluminate_async.operations.samples import compare_samples, list_samples, usage_stats
from elluminate_async.operations.single_responses import add_one, generate_one
from elluminate_async.operations.stored_items import Output, optional_epoch, stored_specs
from elluminate_async.resources.base import Resource, shown
from elluminate_async.schemas.collections import Collection
from elluminate_async.schemas.criteria import Criterion
from elluminate_async.schemas.experiments import Experiment
from elluminate_async.schemas.generation_metadata import GenerationMetadata
from elluminate_async.schemas.llm_configs import LLMConfig
from elluminate_async.schemas.prompt_templates import PromptTemplate
from elluminate_async.schemas.ratings import RatingValue
from elluminate_async.schemas.responses import (
    AnnotateRequest,
    Prompt,
    PromptResponse,
    ResponsesSample,
    ResponsesStats,
    SampleSort,
)
from elluminate_async.schemas.template_variables import TemplateVariables
from elluminate_async.tables.reading import length_of

if TYPE_CHECKING:
    from elluminate_async.batch import BatchOptions, ProgressCallback
    from elluminate_async.engine.stream import OutcomeStream


class ResponsesResource(Resource):
    """The model's answers.

    ``Variables`` are rows of a collection, or their ids: an iterable, plain or async, or a
    `Batch`. An ``Output`` is a text, or a sequence of messages, which are mappings. A
    ``JournalPath`` is a `str` or an `os.PathLike`. ``ItemKeys`` are texts: an iterable, plain or
    async. ``FigureRanges`` are pairs of the least and
    the most, by figure.
    """

    def __init__(self, connection: Connection, coalescer: Coalescer | None = None) -> None:
        super().__init__(connection)
        self._coalescer = coalescer

    def list(
        self,
        *,
        experiment: Experiment | int | None = None,
        prompt_template: PromptTemplate | int | None = None,
        template_variables: TemplateVariables | int | None = None,
        collection: Collection | int | None = None,
        prompt: Prompt | int | None = None,
        llm_model_name: str | None = None,
        epoch: int | None = None,
        strict: bool = False,
        **figures: Unpack[FigureRanges],
    ) -> Listing[PromptResponse]:
        """Responses with their ratings, all or those that match every given filter.

        Figures have a least and a most, such as ``input_tokens=(100, None)``; see `FigureRanges`.
        With ``strict`` a row that this version cannot read raises; see `Listing`.
        """
        query = response_query(
            *(experiment, prompt_template, template_variables, collection, prompt),
            *(llm_model_name, epoch, figures),
        )
        return list_responses(self._connection, query, strict=strict)

    async def get(self, id: int) -> PromptResponse:
        """The response of that id, with its ratings."""
        return decode(
            PromptResponse,
            await self._connection.call("GET", "responses", id_of(id, PromptResponse, "id")),
        )

    async def samples(
        self,
        experiment: Experiment | int,
        *,
        sort_by: SampleSort | str | None = None,
        verdicts: Mapping[Criterion | int, RatingValue | str] | None = None,
        exclude_perfect: bool = False,
        only_annotated: bool = False,
        **figures: Unpack[FigureRanges],
    ) -> list[ResponsesSample]:
        """An experiment's responses by the rows that they are to, as ids; one request.

        They come in the rows' order, or as a `SampleSort` says, and rows without any that matches
        are left out. ``verdicts`` are such as ``{criterion: "NO"}``. ``exclude_perfect`` leaves
        those that do not meet some criterion; what failed, or has no rating, is not among them.
        Figures have a least and a most: see `FigureRanges`. A criterion that the experiment is not
        rated by is a `RejectedError`.
        """
        whole = (sort_by, verdicts, exclude_perfect, only_annotated, figures)
        return await list_samples(self._connection, experiment, *whole)

    async def compare_samples(
        self,
        baseline: Experiment | int,
        candidate: Experiment | int,
        *,
        show: Literal["improved", "regressed"] | None = None,
        criteria: Sequence[Criterion | int] | None = None,
        categorical_filters: Mapping[str, Sequence[str]] | None = None,
    ) -> list[ResponsesSample]:
        """The samples of two experiments for the rows that both answered, row by row; one request.

        The baseline's comes first for each row. ``show`` leaves rows whose share of YES, by
        ``criteria`` or by all, is higher, or lower, with the candidate, and the filters those that
        match, such as ``{"kind": ["A", "B"]}``. One that there is not is a `RejectedError`.
        """
        return await compare_samples(
            self._connection, baseline, candidate, show, criteria, categorical_filters
        )

    async def stats(
        self, *, days: int = 30, llm_config: LLMConfig | int | None = None
    ) -> ResponsesStats:
        """Usage of the last 1 to 90 days, today included, by UTC.

        With None as the configuration the service decides; the embedded server takes all.
        """
        return await usage_stats(self._connection, days, llm_config)

    async def generate(
        self,
        *,
        template_variables: TemplateVariables | int,
        experiment: Experiment | int,
        prompt_template: PromptTemplate | int | None = None,
        llm_config: LLMConfig | int | None = None,
        options: BatchOptions | None = None,
    ) -> PromptResponse:
        """Generate one response.

        By one request; with the client's ``coalesce``, in one chunk with those that others ask for.

        Args:
            template_variables: The row, or its id.
            experiment: Where the response belongs.
            prompt_template: The template; None takes the experiment's.
            llm_config: Model and sampling; None takes the experiment's.
            options: Instead of the client's; its deadline, and 300 s at most.

        Raises:
            GenerationError: The model gave no answer.
            OutcomeUnknownError: Sent, and whether it was processed is not known.
            ServiceUnavailableError: It was not sent, as the service answers nobody.
        """
        plan = ResponsePlan.check(experiment, prompt_template, llm_config)
        return await generate_one(
            self._connection, self._coalescer, plan, template_variables, options
        )

    async def add(
        self,
        response: Output,
        *,
        template_variables: TemplateVariables | int,
        experiment: Experiment | int,
        metadata: GenerationMetadata | None = None,
        epoch: int | None = None,
        options: BatchOptions | None = None,
    ) -> PromptResponse:
        """Store one response that was made elsewhere.

        Args:
            response: Its text, or its messages, the last one the assistant's.
            template_variables: What it was made for.
            experiment: Where it belongs.
            metadata: How it was made; a mapping of the fields will do.
            epoch: Which repetition of the same variables it is, from 1; None for the first, or the
                next where this client has a batch on the experiment.
            options: Instead of the client's; its deadline, and 300 s at most.

        Raises:
            InputError: An argument cannot work.
            OutcomeUnknownError: Sent, and whether it was stored is not known.
            ServiceUnavailableError: It was not sent, as the service answers nobody.
        """
        plan = ResponsePlan.check(experiment, None, None)
        made = (response, template_variables, metadata, epoch)
        return await add_one(self._connection, plan, *made, options)

    async def generate_many(
        self,
        *,
        experiment: Experiment | int,
        template_variables: Variables | None = None,
        collection: Collection | int | None = None,
        prompt_template: PromptTemplate | int | None = None,
        llm_config: LLMConfig | int | None = None,
        run: str | None = None,
        item_keys: ItemKeys | None = None,
        journal: JournalPath | None = None,
        options: BatchOptions | None = None,
        progress: bool | ProgressCallback = False,
    ) -> Batch[PromptResponse]:
        """Generate one response per entry of ``template_variables``.

        Args:
            experiment: Where the responses belong.
            template_variables: n rows or their ids, duplicates allowed; a `Batch`, whose
                failed positions pass through; or a plain or async iterable.
            collection: Instead of ``template_variables``: all rows of a collection.
            prompt_template: The template; None takes the experiment's.
            llm_config: Model and sampling; None takes the experiment's.
            run: The name of the run that the call belongs to: in whatever process, and however
                often, a call of the run asks for an item, it is made once, where the service
                honours that as the embedded server does; see ``docs/how-to/runs.md``.
            item_keys: What tells each item from all others of the run, n texts in step with the
                input; None takes the ids of the rows, and how often each comes.
            journal: Path of a file that remembers the call: the same call again, also after a
                crash, takes what is done and sends the rest. What failed for good stays so
                until `Batch.retry_failed`; without idempotency keys, what is unknown too. It
                is of this server, experiment, template and configuration, and of the contents
                of the rows: what the service has for one that was edited since is
                ``no_result``.
            options: Instead of the client's.
            progress: True shows it, a function is told of it: see `AsyncClient.evaluate`.

        Returns:
            n outcomes, outcome i for ``template_variables[i]``. Reading one that failed
            raises its `ItemError`: `GenerationError` when the model gave no answer,
            `OutcomeUnknownError` when it was sent and nothing proves what became of it,
            else with the ``code`` of what happened. With n = 0 nothing is sent.

        Raises:
            InputError: The arguments do not fit each other, or an entry gives no value for
                a placeholder. Of a sequence all are looked at before anything is sent.
            AuthenticationError, PermissionDeniedError, NotFoundError: True of all items;
                ``error.partial`` is what had arrived.
            JournalError: The journal cannot be used, or is of another call or other inputs,
                or what the call works with was changed since; the text has the difference.

        Cost: about two requests per chunk (the chunk, its job's stream). A service that
        sends no results with a job's status costs listings of the experiment as well, and a
        journal two to four requests for what it is of.
        Memory: O(n) results, ``max_concurrency`` chunks in flight.

        Source: ``POST responses/batches`` and its event stream, protocol of SDK 1.5.2.
        """
        check_progress(progress)
        context = CallContext.begin(self._connection, options)
        plan = ResponsePlan.check(
            experiment, prompt_template, llm_config, run=run, item_keys=item_keys
        )
        variables = template_variables
        if not one_source(template_variables, collection):
            variables = await list_entries(self._connection, collection, context.policy)
        assert variables is not None
        if isinstance(variables, Sequence):
            plan.check_variables(variables)
        plan, path = plan.fitted(variables), journal_path(journal)
        operation = Generate(context, plan, total=length_of(variables), journal=path)
        call = operation.call(plan.upstream(variables))
        if self._coalescer is not None and plan.run is None:
            call = self._coalescer.joined(call, generation(plan))
        with shown(call, progress) as call:
            return await run_batch(call, plan.source(variables))

    def stream_generate_many(
        self,
        *,
        experiment: Experiment | int,
        template_variables: Variables | None = None,
        collection: Collection | int | None = None,
        prompt_template: PromptTemplate | int | None = None,
        llm_config: LLMConfig | int | None = None,
        run: str | None = None,
        item_keys: ItemKeys | None = None,
        journal: JournalPath | None = None,
        options: BatchOptions | None = None,
    ) -> OutcomeStream[tuple[int, Outcome[PromptResponse]]]:
        """`generate_many` as a stream of (position, outcome), as chunks finish.

        Memory: O(``max_concurrency`` chunks), however long the input is. Leaving the loop
        early cancels what runs; ``async with`` around it waits for that too.

        Raises:
            DeadlineError: At the deadline, where a batch marks what is left.
        """
        context = CallContext.begin(self._connection, options)
        plan = ResponsePlan.check(
            experiment, prompt_template, llm_config, run=run, item_keys=item_keys
        )
        variables = template_variables
        if not one_source(template_variables, collection):
            variables = aiter(list_entries(self._connection, collection, context.policy))
        assert variables is not None
        plan, path = plan.fitted(variables), journal_path(journal)
        operation = Generate(context, plan, total=length_of(variables), journal=path)
        return stream_batch(operation.call(), plan.source(variables), self._connection.tasks)

    async def add_many(
        self,
        responses: Sequence[Output],
        *,
        template_variables: Sequence[TemplateVariables | int],
        experiment: Experiment | int,
        metadata: Sequence[GenerationMetadata | None] | None = None,
        epoch: int | None = None,
        run: str | None = None,
        item_keys: ItemKeys | None = None,
        journal: JournalPath | None = None,
        options: BatchOptions | None = None,
        progress: bool | ProgressCallback = False,
    ) -> Batch[PromptResponse]:
        """Store responses that were made elsewhere, for example to have them rated.

        Args:
            responses: n texts, or n lists of messages.
            template_variables: What each was made for, n of them.
            experiment: Where they belong.
            metadata: How each was made.
            epoch: Which repetition of their rows all of them are, from 1; each row comes once then.
            run: As of `generate_many`: of equal items of a run one is stored.
            item_keys: As of `generate_many`.
            journal: As of `generate_many`.
            options: Instead of the client's.
            progress: True shows it, a function is told of it: see `AsyncClient.evaluate`.

        Returns:
            n outcomes, outcome i for ``responses[i]``. With n = 0 nothing is sent.

        Raises:
            InputError: The lists differ in length, or an entry cannot work.
            JournalError: The journal cannot be used, or is of another call or other inputs.
        """
        context = CallContext.begin(self._connection, options)
        plan = ResponsePlan.check(experiment, None, None, run=run, item_keys=item_keys)
        plan = plan.with_epoch(optional_epoch(epoch))
        items = stored_specs(plan, responses, template_variables, metadata)
        path = journal_path(journal)
        operation = Generate(context, plan, name="add", total=len(items), journal=path)
        with shown(operation.call(), progress) as call:
            return await run_batch(call, items)

    def stream_add_many(
        self,
        responses: Sequence[Output],
        *,
        template_variables: Sequence[TemplateVariables | int],
        experiment: Experiment | int,
        metadata: Sequence[GenerationMetadata | None] | None = None,
        epoch: int | None = None,
        run: str | None = None,
        item_keys: ItemKeys | None = None,
        journal: JournalPath | None = None,
        options: BatchOptions | None = None,
    ) -> OutcomeStream[tuple[int, Outcome[PromptResponse]]]:
        """`add_many` as a stream of (position, outcome), as chunks finish."""
        context = CallContext.begin(self._connection, options)
        plan = ResponsePlan.check(experiment, None, None, run=run, item_keys=item_keys)
        plan = plan.with_epoch(optional_epoch(epoch))
        items = stored_specs(plan, responses, template_variables, metadata)
        path = journal_path(journal)
        operation = Generate(context, plan, name="add", total=len(items), journal=path)
        return stream_batch(operation.call(), items, self._connection.tasks)

    async def update(self, response: PromptResponse | int, *, annotation: str) -> PromptResponse:
        """Change a response's note, or take it away by ""; `ConflictError` while it is retried."""
        id = id_of(response, PromptResponse, "response")
        with checked_input("the response"):
            body = AnnotateRequest(annotation=annotation)
        answer = await self._connection.call("PATCH", "responses", id, body=body, harmless=True)
        return decode(PromptResponse, answer)

    async def delete(self, response: PromptResponse | int) -> None:
        """Delete a response and its ratings."""
        await self._delete("responses", id_of(response, PromptResponse, "response"))
