"""``client.responses``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from elluminate_async.batch import Batch, Outcome
from elluminate_async.engine.call import Call, ChunkRefusedError, Upstream
from elluminate_async.engine.chunks import Item
from elluminate_async.engine.endings import unknown_outcome
from elluminate_async.engine.memory import whole_request
from elluminate_async.engine.run import run_batch, stream_batch
from elluminate_async.errors import (
    ElluminateError,
    ItemError,
    JobError,
    OutcomeUnknownError,
)
from elluminate_async.resources.batches import BatchSetting, known_length
from elluminate_async.resources.connection import Resource, decode, id_of, optional_id
from elluminate_async.resources.jobs import accepted_work, doubt_left_by
from elluminate_async.resources.journaling import (
    Journal,
    Sending,
    earlier_sending,
    journal_path,
)
from elluminate_async.resources.matching import Wanted
from elluminate_async.resources.pages import Listing
from elluminate_async.resources.parts import list_entries, list_responses
from elluminate_async.resources.response_plan import (
    Output,
    ResponsePlan,
    Spec,
    Variables,
    one_source,
    output_messages,
    stored_specs,
)
from elluminate_async.resources.response_run import ResponseRun, whole_of
from elluminate_async.resources.singles import one_response
from elluminate_async.schemas.collections import Collection
from elluminate_async.schemas.experiments import Experiment
from elluminate_async.schemas.llm_configs import LLMConfig
from elluminate_async.schemas.prompt_templates import PromptTemplate
from elluminate_async.schemas.responses import (
    AnnotateRequest,
    GenerationMetadata,
    PromptResponse,
)
from elluminate_async.schemas.template_variables import TemplateVariables

if TYPE_CHECKING:
    from pathlib import Path

    from elluminate_async.batch import BatchOptions
    from elluminate_async.engine.records import OpenChunk
    from elluminate_async.engine.stream import HostedStream


class ResponsesResource(Resource):
    """What the model answered."""

    def list(
        self,
        *,
        experiment: Experiment | int | None = None,
        prompt_template: PromptTemplate | int | None = None,
        template_variables: TemplateVariables | int | None = None,
        collection: Collection | int | None = None,
        epoch: int | None = None,
        strict: bool = False,
    ) -> Listing[PromptResponse]:
        """Responses with their ratings, all or those that match every given filter.

        With ``strict`` a row that this version cannot read raises; see `Listing`.
        """
        query = {
            "experiment_id": optional_id(experiment, "experiment"),
            "prompt_template_id": optional_id(prompt_template, "prompt_template"),
            "template_variables_id": optional_id(template_variables, "template_variables"),
            "collection_id": optional_id(collection, "collection"),
            "epoch": epoch,
        }
        return list_responses(self._connection, query, strict=strict)

    async def get(self, id: int) -> PromptResponse:
        """The response of that id, with its ratings."""
        return decode(
            PromptResponse, await self._connection.call("GET", "responses", id_of(id, "id"))
        )

    async def generate(
        self,
        *,
        template_variables: TemplateVariables | int,
        experiment: Experiment | int,
        prompt_template: PromptTemplate | int | None = None,
        llm_config: LLMConfig | int | None = None,
    ) -> PromptResponse:
        """Generate one response.

        Raises:
            GenerationError: The model gave no answer.
            OutcomeUnknownError: Sent, and whether it was processed is not known.
            ServiceUnavailableError: It was not sent, as the service answers nobody.
        """
        plan = ResponsePlan.check(experiment, prompt_template, llm_config)
        plan.check_variables([template_variables])
        spec = Spec(template_variables)
        return await one_response(self._connection, "generate", plan, spec, "generate")

    async def add(
        self,
        response: Output,
        *,
        template_variables: TemplateVariables | int,
        experiment: Experiment | int,
        metadata: GenerationMetadata | None = None,
        epoch: int | None = None,
    ) -> PromptResponse:
        """Store one response that was made elsewhere.

        Args:
            response: Its text, or its messages, the last one the assistant's.
            template_variables: What it was made for.
            experiment: Where it belongs.
            metadata: How it was made.
            epoch: Which repetition of the same variables it is; None for the first, or the
                next where this client has a batch on the experiment.
        """
        plan = ResponsePlan.check(experiment, None, None)
        spec = Spec(template_variables, output_messages(response, 0), metadata, epoch)
        return await one_response(self._connection, "add", plan, spec)

    async def generate_many(
        self,
        *,
        experiment: Experiment | int,
        template_variables: Variables | None = None,
        collection: Collection | int | None = None,
        prompt_template: PromptTemplate | int | None = None,
        llm_config: LLMConfig | int | None = None,
        journal: Journal | None = None,
        options: BatchOptions | None = None,
    ) -> Batch[PromptResponse]:
        """Generate one response per entry of ``template_variables``.

        Args:
            experiment: Where the responses belong.
            template_variables: n rows or their ids, duplicates allowed; a `Batch`, whose
                failed positions pass through; or a plain or async iterable.
            collection: Instead of ``template_variables``: all rows of a collection.
            prompt_template: The template; None takes the experiment's.
            llm_config: Model and sampling; None takes the experiment's.
            journal: Path of a file that remembers the call: the same call again, also after a
                crash, takes what is done and sends the rest. What failed for good stays so
                until `Batch.retry_failed`; without idempotency keys, what is unknown too. It
                is of this server, experiment, template and configuration, and of the contents
                of the rows: what the service has for one that was edited since is
                ``no_result``.
            options: Instead of the client's.

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
        setting = BatchSetting.begin(self._connection, options)
        plan = ResponsePlan.check(experiment, prompt_template, llm_config)
        variables = template_variables
        if not one_source(template_variables, collection):
            variables = await list_entries(self._connection, collection, setting.policy)
        assert variables is not None
        if isinstance(variables, Sequence):
            plan.check_variables(variables)
        path = journal_path(journal)
        source = plan.source(variables)
        call = self._call(
            "generate", setting, plan, known_length(variables), path, plan.upstream(variables)
        )
        return await run_batch(call, source)

    def stream_generate_many(
        self,
        *,
        experiment: Experiment | int,
        template_variables: Variables | None = None,
        collection: Collection | int | None = None,
        prompt_template: PromptTemplate | int | None = None,
        llm_config: LLMConfig | int | None = None,
        journal: Journal | None = None,
        options: BatchOptions | None = None,
    ) -> HostedStream[tuple[int, Outcome[PromptResponse]]]:
        """`generate_many` as a stream of (position, outcome), as chunks finish.

        Memory: O(``max_concurrency`` chunks), however long the input is. Leaving the loop
        early cancels what runs; ``async with`` around it waits for that too.

        Raises:
            DeadlineError: At the deadline, where a batch marks what is left.
        """
        setting = BatchSetting.begin(self._connection, options)
        plan = ResponsePlan.check(experiment, prompt_template, llm_config)
        variables = template_variables
        if not one_source(template_variables, collection):
            variables = aiter(list_entries(self._connection, collection, setting.policy))
        assert variables is not None
        path = journal_path(journal)
        call = self._call("generate", setting, plan, known_length(variables), path)
        return stream_batch(call, plan.source(variables), self._connection.tasks)

    async def add_many(
        self,
        responses: Sequence[Output],
        *,
        template_variables: Sequence[TemplateVariables | int],
        experiment: Experiment | int,
        metadata: Sequence[GenerationMetadata | None] | None = None,
        journal: Journal | None = None,
        options: BatchOptions | None = None,
    ) -> Batch[PromptResponse]:
        """Store responses that were made elsewhere, for example to have them rated.

        Args:
            responses: n texts, or n lists of messages.
            template_variables: What each was made for, n of them.
            experiment: Where they belong.
            metadata: How each was made.
            journal: As of `generate_many`.
            options: Instead of the client's.

        Returns:
            n outcomes, outcome i for ``responses[i]``. With n = 0 nothing is sent.

        Raises:
            InputError: The lists differ in length, or an entry cannot work.
            JournalError: The journal cannot be used, or is of another call or other inputs.
        """
        setting = BatchSetting.begin(self._connection, options)
        plan = ResponsePlan.check(experiment, None, None)
        items = stored_specs(plan, responses, template_variables, metadata)
        path = journal_path(journal)
        return await run_batch(self._call("add", setting, plan, len(items), path), items)

    def stream_add_many(
        self,
        responses: Sequence[Output],
        *,
        template_variables: Sequence[TemplateVariables | int],
        experiment: Experiment | int,
        metadata: Sequence[GenerationMetadata | None] | None = None,
        journal: Journal | None = None,
        options: BatchOptions | None = None,
    ) -> HostedStream[tuple[int, Outcome[PromptResponse]]]:
        """`add_many` as a stream of (position, outcome), as chunks finish."""
        setting = BatchSetting.begin(self._connection, options)
        plan = ResponsePlan.check(experiment, None, None)
        items = stored_specs(plan, responses, template_variables, metadata)
        call = self._call("add", setting, plan, len(items), journal_path(journal))
        return stream_batch(call, items, self._connection.tasks)

    def _call(
        self,
        operation: str,
        setting: BatchSetting,
        plan: ResponsePlan,
        total: int | None,
        journal: Path | None,
        upstream: Upstream[Spec] | None = None,
    ) -> Call[Spec, PromptResponse]:
        run = ResponseRun(operation, setting, plan, sized=total is not None)
        recovery = run.log.open_with(
            journal,
            arguments=plan.arguments,
            total=total,
            fingerprint=plan.fingerprint,
            reference=run.reference,
            fetch=run.fetch,
            pins=run.pins,
            resume=partial(self._send_chunk, run),
        )
        return setting.call(
            operation,
            partial(self._send_chunk, run),
            partial(self._send_chunk, run),
            total=total,
            last_look=run.last_look,
            recovery=recovery,
            again=lambda anew: self._call(operation, anew, plan, total, journal),
            upstream=upstream,
            sizes=run.sizes,
        )

    async def _send_chunk(
        self, run: ResponseRun, items: Sequence[Item[Spec]], earlier: OpenChunk | None = None
    ) -> AsyncIterator[tuple[int, PromptResponse | ItemError]]:
        """POST a chunk, follow its job, yield an outcome for every row there is.

        Where nothing is known of a sending, what rows there are tell; what has none is
        unknown, or sent again by `BatchOptions.replay_after_settle`. A chunk of an
        ``earlier`` run is gone on with where the journal says that it was left.
        """
        wanted = await run.prepare(items, earlier)
        problem: ElluminateError | None = None
        for sending in range(run.max_sendings):
            try:
                found, latest = await self._send_once(run, wanted, items, earlier)
            except (ChunkRefusedError, ElluminateError):
                if sending == 0:
                    run.release(wanted)
                    raise
                # What is not known of the first sending stays so.
                break
            earlier = None
            problem = problem or latest
            wanted = [entry for entry in wanted if entry.position not in found]
            for position, outcome in found.items():
                yield position, outcome
            if not wanted or not isinstance(latest, OutcomeUnknownError) or run.is_late:
                break
        if problem is not None and wanted:
            raise problem

    async def _send_once(
        self,
        run: ResponseRun,
        wanted: Sequence[Wanted],
        items: Sequence[Item[Spec]],
        earlier: OpenChunk | None,
    ) -> tuple[dict[int, PromptResponse | ItemError], ElluminateError | None]:
        """Outcomes by position, and what is wrong with the positions that have none."""
        found: dict[int, PromptResponse | ItemError] = {}
        problem: ElluminateError | None = None
        try:
            job_id = await self._start_job(run, wanted, items, earlier)
            with accepted_work():
                found, problem = await run.follow(job_id, wanted, items, earlier)
        except ElluminateError as error:
            problem = doubt_left_by(error, run.operation)
        left = [entry for entry in wanted if entry.position not in found]
        if left and run.can_settle:
            with accepted_work():
                found |= await run.settle(left, run.settling_after(problem))
            if isinstance(problem, JobError) and run.is_late:
                # There was no time to see what it did before it failed.
                problem = unknown_outcome(problem, run.operation)
        return found, problem or run.no_row()

    async def _start_job(
        self,
        run: ResponseRun,
        wanted: Sequence[Wanted],
        items: Sequence[Item[Spec]],
        earlier: OpenChunk | None,
    ) -> str:
        if earlier is not None and earlier.job_id is not None:
            return earlier.job_id
        if earlier is not None:
            # A key belongs to the whole request, whatever is known of its items by now.
            request = whole_request(earlier, items)
            asked = wanted if request is items else whole_of(earlier)
            body = run.body(asked, request)
            await run.log.require_same(earlier, body)
            with earlier_sending():
                return await run.post(body, Sending(earlier.key), len(asked))
        body = run.body(wanted, items)
        return await run.post(body, run.intend(wanted, body), len(wanted))

    async def update_annotation(
        self, response: PromptResponse | int, annotation: str
    ) -> PromptResponse:
        """Attach a note to a response."""
        id = id_of(response, "response")
        body = AnnotateRequest(annotation=annotation)
        answer = await self._connection.call("PATCH", "responses", id, body=body, harmless=True)
        return decode(PromptResponse, answer)

    async def delete(self, response: PromptResponse | int) -> None:
        """Delete a response and its ratings."""
        await self._connection.call("DELETE", "responses", id_of(response, "response"))
