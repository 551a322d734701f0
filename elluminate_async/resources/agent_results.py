"""``client.agent_results``."""

from __future__ import annotations

from functools import partial

from elluminate_async.batch import BatchOptions
from elluminate_async.engine.stream import OutcomeStream
from elluminate_async.errors import RejectedError
from elluminate_async.errors.arguments import flag
from elluminate_async.operations.agent_evaluation import Deliver, follow_evaluation
from elluminate_async.operations.connection import decode
from elluminate_async.operations.context import CallContext, timed_policy
from elluminate_async.operations.jobs import job_failure
from elluminate_async.operations.json_input import checked_input, optional_text
from elluminate_async.operations.listing import Listing
from elluminate_async.operations.new_agent_results import (
    NewResults,
    TaskRefs,
    check_whole,
    refs_of,
    refused,
    results_of,
)
from elluminate_async.operations.references import id_of
from elluminate_async.operations.replaying import Post
from elluminate_async.operations.singles import make
from elluminate_async.resources.base import Resource
from elluminate_async.schemas.agent_results import (
    AgentResultsDefinition,
    AgentResultsPreview,
    AgentResultsPreviewRequest,
    AgentResultsUpload,
    AgentResultsUploadRequest,
)
from elluminate_async.schemas.experiments import Experiment, GenerationStatus
from elluminate_async.schemas.responses import PromptResponse


class AgentResultsResource(Resource):
    """Results of agents, uploaded to an experiment whose tasks they worked on, and judged there.

    An experiment takes results when it was made with ``evaluation_mode="AGENTIC"``; its tasks are
    the rows that its collection had then, with their names in the column ``task``. A ``NewResult``
    is an `AgentResult`, or a mapping of its fields; ``NewResults`` are an iterable of them. Where
    only tasks are named, in ``TaskRefs``, that is all that is read of each.
    """

    def list(
        self, experiment: Experiment | int, *, strict: bool = False
    ) -> Listing[PromptResponse]:
        """The responses that results became, in the order of their uploads.

        With ``strict`` a row that this version cannot read raises; see `Listing`.
        """
        query = {"experiment_id": id_of(experiment, Experiment, "experiment")}
        return Listing(self._connection, PromptResponse, "responses", query=query, strict=strict)

    async def definition(self, experiment: Experiment | int) -> AgentResultsDefinition:
        """The tasks and criteria that results may name.

        Raises:
            RejectedError: The experiment takes no results of agents.
        """
        answer = await self._connection.call("GET", *_path(experiment), "definition")
        return decode(AgentResultsDefinition, answer)

    async def preview(
        self,
        experiment: Experiment | int,
        results: TaskRefs,
    ) -> AgentResultsPreview:
        """The tasks that results would be stored for; nothing is stored.

        Args:
            experiment: Where to.
            results: As for `upload`. Only what names their tasks is sent.

        Raises:
            RejectedError: The experiment takes no results of agents.
            InputError: A result names no task.
        """
        body = AgentResultsPreviewRequest(results=refs_of(results))
        path = (*_path(experiment), "preview")
        answer = await self._connection.call("POST", *path, body=body, harmless=True)
        return decode(AgentResultsPreview, answer)

    async def upload(
        self,
        experiment: Experiment | int,
        results: NewResults,
        *,
        epoch: int = 1,
        evaluate: bool = True,
        raise_on_partial: bool = False,
        options: BatchOptions | None = None,
    ) -> AgentResultsUpload:
        """Store results as responses of the experiment, and have the judge rate them.

        Each upload appends. What cannot be taken, such as a result of no task, a trajectory that is
        none or a rating without ``criterion_id``, is in the answer's ``errors``, and the log warns
        of it; the rest is stored. A result of which nothing else is left, that has neither text,
        ratings nor an ``error``, or two ratings by one criterion, is not stored at all.

        Args:
            experiment: Where to.
            results: All in one request; for very long trajectories use several.
            epoch: Which repetition of the tasks they are.
            evaluate: Have results without ratings of their own judged, by their trajectories; see
                `wait`. Those with an ``error`` are kept and never judged.
            raise_on_partial: Raise for what was not taken.
            options: Instead of the client's; its deadline bounds the request.

        Raises:
            TaskMatchError: No result is of a task of the experiment. Nothing was stored.
            PartialUploadError: Some of it was not taken, and ``raise_on_partial``.
            OutcomeUnknownError: It was sent, and whether it was stored is not known. Where the
                service has idempotency keys it is sent again instead, and stored once.
            PayloadTooLargeError: It is too much for one request.
            InputError: Something is no result.
        """
        raises = flag(raise_on_partial, "raise_on_partial")
        judges = flag(evaluate, "evaluate")
        with checked_input("the upload"):
            body = AgentResultsUploadRequest(
                results=results_of(results), epoch=epoch, evaluate=judges
            )
        policy = CallContext.begin(self._connection, options).policy
        try:
            upload = await make(
                self._connection,
                "upload agent results",
                Post(_path(experiment), body),
                partial(decode, AgentResultsUpload),
                policy,
            )
        except RejectedError as error:
            raise refused(error) from None
        blotted = [self._connection.blotted(text) for text in upload.errors]
        upload = upload.model_copy(update={"errors": blotted})
        check_whole(upload, raises=raises)
        return upload

    async def wait(
        self,
        experiment: Experiment | int,
        task_id: str | None = None,
        *,
        timeout: float | None = None,
    ) -> GenerationStatus:
        """Wait until an evaluation has ended; where the service gives it to another job, for that.

        Args:
            experiment: Of which.
            task_id: `AgentResultsUpload.evaluation_task_id`; None for the evaluation that goes on
                now. Where none does, nothing is waited for.
            timeout: Seconds; None takes the deadline of the client's options.

        Returns:
            Its last status; ``completed_ratings`` counts the judged responses.

        Raises:
            JobError: It ended without success.
            NotFoundError: The experiment has no such evaluation.
            InputError: ``task_id`` is no text, or ``timeout`` no finite number above 0.
            DeadlineError: It had not ended in time; it goes on at the service.
            OutcomeUnknownError: It has shown nothing new for ``job_stall`` seconds.
        """
        id = id_of(experiment, Experiment, "experiment")
        task_id = optional_text(task_id, "task_id", may_be_empty=False)

        async def nobody(_: object) -> None:
            pass

        policy = timed_policy(self._connection, timeout)
        last = await follow_evaluation(self._connection, id, task_id, policy, nobody)
        if failure := job_failure(task_id or "", last.status, last.error_msg):
            raise failure
        return last

    def stream(
        self,
        experiment: Experiment | int,
        task_id: str | None = None,
        *,
        timeout: float | None = None,
    ) -> OutcomeStream[GenerationStatus]:
        """`wait` as a stream of each status that differs from the one before.

        The last one tells how it ended; a failure is not raised.
        """
        id = id_of(experiment, Experiment, "experiment")
        task_id = optional_text(task_id, "task_id", may_be_empty=False)
        policy = timed_policy(self._connection, timeout)
        connection = self._connection

        async def produce(deliver: Deliver) -> None:
            await follow_evaluation(connection, id, task_id, policy, deliver)

        return OutcomeStream(produce, connection.tasks, of="evaluation")


def _path(experiment: Experiment | int) -> tuple[str | int, ...]:
    return ("experiments", id_of(experiment, Experiment, "experiment"), "agent-results")
