"""`evaluate`, `stream_evaluate` and `plan`: the client's methods that take rows to records."""

from __future__ import annotations

from collections.abc import Iterable

from elluminate_async.batch import BatchOptions, ProgressCallback
from elluminate_async.engine.stream import OutcomeStream
from elluminate_async.evaluation.evaluation import Evaluation
from elluminate_async.evaluation.planning.plan import EvaluationPlan
from elluminate_async.evaluation.planning.planner import Planner, checked_output_tokens, limits_of
from elluminate_async.evaluation.planning.tokens import CountTokens
from elluminate_async.evaluation.records import EvaluationRecord
from elluminate_async.evaluation.request import (
    Answers,
    Configs,
    Criteria,
    Prompt,
    Rows,
    checked_request,
)
from elluminate_async.evaluation.run import Evaluator
from elluminate_async.operations.chunk_log import JournalPath, journal_path
from elluminate_async.operations.connection import Connection
from elluminate_async.operations.context import narrowed
from elluminate_async.schemas.collections import Collection
from elluminate_async.schemas.ratings import RatingMode


class EvaluationCalls:
    """The half of `AsyncClient` that evaluates."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def evaluate(
        self,
        rows: Rows | None = None,
        *,
        prompt: Prompt,
        criteria: Criteria | None = None,
        llm_configs: Configs | None = None,
        collection: Collection | int | None = None,
        responses: Answers | None = None,
        name: str | None = None,
        epochs: int = 1,
        rating_mode: RatingMode = RatingMode.DETAILED,
        run: str | None = None,
        item_keys: str | Iterable[str] | None = None,
        journal: JournalPath | None = None,
        max_cost: float | None = None,
        options: BatchOptions | None = None,
        progress: bool | ProgressCallback = False,
    ) -> Evaluation:
        """Generate a response to each row and have it rated, under each configuration.

        Responses are rated while others are generated, under one deadline, one retry budget
        and the client's limits. The template, the criteria, a collection of the rows and an
        experiment for each configuration are made at the service, under ``name``.

        Args:
            rows: n mappings with a value for each placeholder; an iterable, plain or async, is
                read as the evaluation goes.
            prompt: A text with ``{{placeholders}}``, chat messages, or a template or its id.
            criteria: The judge's questions as texts, or a set of them or its id; None takes
                those of the template, which are generated where it has none.
            llm_configs: Configurations by name, object or id; several are compared. None takes
                the project's default.
            collection: Instead of ``rows``: all rows of a collection.
            responses: Answers that were made elsewhere, which are stored and rated and not
                generated: the name of the column that has them, or a list of n.
            name: Of the evaluation; where it is taken at the service, the time is added.
            epochs: Responses to each row under each configuration.
            rating_mode: With (DETAILED) or without (FAST) the judge's reasoning.
            run: The name of the run that the evaluation belongs to. Calls of one run, whatever
                process makes them, of the same rows or of others, share the objects at the service
                and what was made there, where it honours that as the embedded server does; see
                ``docs/how-to/runs.md``. No journal is needed then.
            item_keys: The name of the column whose texts or whole numbers tell the rows of the run
                from each other, or a list of n texts; None tells them by their contents.
            journal: Path of a directory that remembers the evaluation: the same call again,
                also after a crash, takes what is done and sends the rest. What failed for good
                stays so until `Evaluation.retry_failed`.
            max_cost: What the generations may cost, in the currency of the configurations'
                prices; the judge is not in it. A response is asked for only while the most that
                it may cost fits in what is left, that of its prompt's length and of the
                configuration's ``max_tokens``; without ``max_tokens`` that of the longest answer
                so far, so that what is in flight may pass it. The rest is ``not_sent``. What
                earlier runs of a journal have cost counts; `Evaluation.retry_failed` and the same
                call with a larger one go on.
            options: Instead of the client's. ``on_progress`` is told of records, and chunks are
                smaller than ``chunk_size`` where there are too few rows to keep all steps busy.
            progress: True shows it: a live line on a terminal, a widget in a notebook (extra
                ``progress``), else a line on standard error every 5 seconds. A function is told
                of it, as ``on_progress`` is besides.

        Returns:
            n × configurations × epochs records, in this order. Whatever fails of one is its
            own error; an error of the response is that of its ratings too, and never a NO.

        Raises:
            InputError: An argument or a row cannot work; of a list all rows are looked at
                before anything is sent. Or ``max_cost`` is given and a price is not known.
            AuthenticationError, PermissionDeniedError: True of all rows; ``error.partial`` is
                the evaluation with what had arrived, as it is where the caller cancels.
            DeadlineError: The deadline passed before the set-up was done, or before an iterable
                came to its end.
            JournalError: The journal cannot be used, or is of another evaluation.

        Cost: for the set-up four requests, one more for each further configuration, and up to ten
        more where names are taken; each call makes a collection and experiments of its own. Then
        those of the upload, and for each configuration those of `responses.generate_many` and of
        `ratings.rate_many`. A row alone has 9 to 19 in all, most of them one after the other:
        `responses.generate` and `ratings.rate` have one each. Memory: O(n) records.
        """
        request = checked_request(
            rows,
            prompt=prompt,
            criteria=criteria,
            llm_configs=llm_configs,
            collection=collection,
            responses=responses,
            name=name,
            epochs=epochs,
            rating_mode=rating_mode,
            journal=journal_path(journal),
            max_cost=max_cost,
            run=run,
            item_keys=item_keys,
        )
        return await Evaluator(self._connection, request, options, progress).evaluate()

    def stream_evaluate(
        self,
        rows: Rows | None = None,
        *,
        prompt: Prompt,
        criteria: Criteria | None = None,
        llm_configs: Configs | None = None,
        collection: Collection | int | None = None,
        responses: Answers | None = None,
        name: str | None = None,
        epochs: int = 1,
        rating_mode: RatingMode = RatingMode.DETAILED,
        run: str | None = None,
        item_keys: str | Iterable[str] | None = None,
        journal: JournalPath | None = None,
        max_cost: float | None = None,
        options: BatchOptions | None = None,
        progress: bool | ProgressCallback = False,
    ) -> OutcomeStream[EvaluationRecord]:
        """`evaluate` as a stream of records, as they finish, of rows without end if need be.

        Memory: O(``max_concurrency`` chunks). Leaving the loop early cancels what runs;
        ``async with`` around it waits for that too.

        Raises:
            DeadlineError: At the deadline, where an `Evaluation` marks what is left.
        """
        request = checked_request(
            rows,
            prompt=prompt,
            criteria=criteria,
            llm_configs=llm_configs,
            collection=collection,
            responses=responses,
            name=name,
            epochs=epochs,
            rating_mode=rating_mode,
            journal=journal_path(journal),
            max_cost=max_cost,
            run=run,
            item_keys=item_keys,
        )
        return Evaluator(self._connection, request, options, progress).stream()

    async def plan(
        self,
        rows: Rows,
        *,
        prompt: Prompt,
        criteria: Criteria | None = None,
        llm_configs: Configs | None = None,
        responses: Answers | None = None,
        name: str | None = None,
        epochs: int = 1,
        rating_mode: RatingMode = RatingMode.DETAILED,
        journal: JournalPath | None = None,
        max_cost: float | None = None,
        options: BatchOptions | None = None,
        output_tokens: int | None = None,
        count_tokens: CountTokens | None = None,
    ) -> EvaluationPlan:
        """Tell what `evaluate` with these arguments would do, take and cost. Nothing is sent.

        Of the whole, whatever a journal has of it already.

        Args:
            rows: As for `evaluate`; what can be read only once is used up.
            prompt: As for `evaluate`. Of a template that is given by its id neither
                placeholders nor tokens are known.
            criteria: As for `evaluate`, as all that follow.
            llm_configs: Those that are objects tell prices, limits and models.
            responses: Then nothing is generated.
            name: Of the evaluation.
            epochs: Responses to each row under each configuration.
            rating_mode: With or without the judge's reasoning.
            journal: Takes some requests more.
            max_cost: A plan that may pass it says so.
            options: Instead of the client's; chunks, and the least time, are by them.
            output_tokens: Tokens that one response is expected to have; None takes the
                configuration's ``max_tokens``, and without these the cost is not known.
            count_tokens: Counts the tokens of a text; None takes tiktoken, where it is installed
                and has the model's vocabulary on this machine, else an estimate by length.

        Returns:
            The plan. What is wrong with rows and placeholders is in its ``problems``.

        Raises:
            InputError: Another argument cannot work.

        Cost: one pass over the rows, and memory for their values.
        """
        request = checked_request(
            rows,
            prompt=prompt,
            criteria=criteria,
            llm_configs=llm_configs,
            collection=None,
            responses=responses,
            name=name,
            epochs=epochs,
            rating_mode=rating_mode,
            journal=journal_path(journal),
            max_cost=max_cost,
        )
        planner = Planner(
            request,
            narrowed(self._connection.options, options),
            limits_of(self._connection.options, options),
            output_tokens=checked_output_tokens(output_tokens),
            count_tokens=count_tokens,
        )
        return await planner.plan()
