"""`AsyncClient`: settings, limits and transport made into resources; open and close."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Self

from elluminate_async.batch import BatchOptions, ProgressCallback
from elluminate_async.batch.options import shown
from elluminate_async.config import Settings, checked_ssl_context
from elluminate_async.engine.stream import OutcomeStream
from elluminate_async.errors import ConfigurationError
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
from elluminate_async.limits.limits import Limits, Traffic
from elluminate_async.operations.chunk_log import JournalPath, journal_path
from elluminate_async.operations.connection import ENTERING_PATIENCE, Connection
from elluminate_async.operations.context import checked_options, checked_seconds, narrowed
from elluminate_async.resources.collections import CollectionsResource
from elluminate_async.resources.criteria import CriteriaResource
from elluminate_async.resources.criterion_sets import CriterionSetsResource
from elluminate_async.resources.experiments import ExperimentsResource
from elluminate_async.resources.llm_configs import LLMConfigsResource
from elluminate_async.resources.projects import ProjectsResource
from elluminate_async.resources.prompt_templates import PromptTemplatesResource
from elluminate_async.resources.ratings import RatingsResource
from elluminate_async.resources.responses import ResponsesResource
from elluminate_async.resources.template_variables import TemplateVariablesResource
from elluminate_async.schemas.collections import Collection
from elluminate_async.schemas.ratings import RatingMode
from elluminate_async.schemas.version import CompatibilityAnswer
from elluminate_async.transport.http import HttpTransport

if TYPE_CHECKING:
    import ssl
    from types import TracebackType


_CONNECTIONS_BESIDE_CHUNKS = 16  # for pages of listings, which are fetched ahead


class AsyncClient:
    """The service, asynchronously.

    Use it as ``async with AsyncClient() as client``: entering selects the project and so
    finds a wrong key at once, and within a few seconds a wrong address; leaving ends all that
    still runs. Without the ``with``, the first call does what entering does, and `close` what
    leaving does.

    A client belongs to the event loop of its first call. Making one sends nothing and needs
    no loop. Its resources are its attributes, named as the service names them.

    Args:
        api_key: The key; else from ``ELLUMINATE_API_KEY``.
        base_url: Where the service is; else from ``ELLUMINATE_BASE_URL``, else the hosted
            service.
        token: An OAuth token instead of a key; else from ``ELLUMINATE_OAUTH_TOKEN``.
        project: Id or name of the project; None takes the first that the key sees.
        options: Defaults for batches: concurrency, limits, timeouts, attempts.
        env_file: An ``.env`` file to read settings from that are found nowhere else. None
            is read unless it is named here.
        skip_version_check: Send no version check. Then a service's own extensions, such as
            idempotency keys, are not used either.
        allow_insecure_http: Allow plain http to another machine, which shows it the key.
        ssl_context: For a private certificate authority. Verification is always on.

    Raises:
        ConfigurationError: No key was found, or a setting cannot work.

    Attributes:
        projects: The projects that the key sees.
        prompt_templates: Prompts with placeholders, in versions.
        criteria: The judge's questions about the responses to a template.
        criterion_sets: Named sets of criteria, for several templates.
        collections: Named tables of template variables.
        template_variables: The rows of collections; upload many at once.
        llm_configs: Models and sampling settings.
        experiments: Named runs of a template over a collection.
        responses: The models' answers; generate or store many at once.
        ratings: The judge's verdicts on responses; rate many at once.

    Each call of a resource may raise `ServiceUnavailableError`, once the service has answered
    nobody for ``retry_for`` seconds. Those that give a `Batch` return it, as its items tell; but
    for ``criteria.add_many``, which is one request and raises it.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        token: str | None = None,
        project: int | str | None = None,
        options: BatchOptions | None = None,
        env_file: str | os.PathLike[str] | None = None,
        skip_version_check: bool = False,
        allow_insecure_http: bool = False,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        settings = Settings.resolve(
            api_key=api_key,
            base_url=base_url,
            token=token,
            env_file=env_file,
            allow_insecure_http=allow_insecure_http,
        )
        is_told = isinstance(project, int | str)  # pyright: ignore[reportUnnecessaryIsInstance]
        if project is not None and (not is_told or isinstance(project, bool)):
            raise ConfigurationError(f"project must be its id or its name, not {shown(project)}")
        chosen = checked_options(BatchOptions() if options is None else options)
        limits = Limits(chosen.max_concurrency, chosen.rate_limit, chosen.item_limit)
        transport = HttpTransport(
            settings,
            limits=limits,
            connections=chosen.max_concurrency + _CONNECTIONS_BESIDE_CHUNKS,
            ssl_context=None if ssl_context is None else checked_ssl_context(ssl_context),
        )
        connection = Connection(
            transport, limits, chosen, project=project, skip_version_check=skip_version_check
        )
        self._settings = settings
        self._connection = connection
        self.projects = ProjectsResource(connection)
        self.prompt_templates = PromptTemplatesResource(connection)
        self.criteria = CriteriaResource(connection)
        self.criterion_sets = CriterionSetsResource(connection)
        self.collections = CollectionsResource(connection)
        self.template_variables = TemplateVariablesResource(connection)
        self.llm_configs = LLMConfigsResource(connection)
        self.experiments = ExperimentsResource(connection)
        self.responses = ResponsesResource(connection)
        self.ratings = RatingsResource(connection)

    @property
    def base_url(self) -> str:
        """Where the service is."""
        return self._settings.base_url

    @property
    def options(self) -> BatchOptions:
        """The defaults for batches; derive a call's own with ``client.options.replace(...)``."""
        return self._connection.options

    @property
    def traffic(self) -> Traffic:
        """The client's requests now: in flight, throttled, sent again."""
        return self._connection.limits.traffic

    async def ping(self, timeout: float = 2.0) -> float:
        """Ask the service for the least that it can be asked for, once, and wait for its answer.

        For a health check. It is sent whatever is known of an outage, and an answer ends one.

        Args:
            timeout: Seconds.

        Returns:
            Seconds until the answer.

        Raises:
            ServiceUnavailableError: No answer in time, or one of 5xx.
            AuthenticationError, PermissionDeniedError: The service is there and refuses the key.
            DeadlineError: The client's own limits held it back for so long.
            InputError: ``timeout`` is no finite number above 0.
        """
        return await self._connection.transport.ping(checked_seconds(timeout))

    async def compatibility(self) -> CompatibilityAnswer | None:
        """The service's word on this client's version, and its own capabilities.

        Returns:
            None of a service that has no version check.

        Raises:
            ElluminateError: It does not answer, or refuses the key.
        """
        return await self._connection.compatibility(self._connection.policy())

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

        Cost: some six requests for the set-up, then for each configuration those of
        `responses.generate_many` and of `ratings.rate_many`. Memory: O(n) records.
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
            narrowed(self.options, options),
            limits_of(self.options, options),
            output_tokens=checked_output_tokens(output_tokens),
            count_tokens=count_tokens,
        )
        return await planner.plan()

    async def close(self) -> None:
        """End everything that still runs and close all connections; again does nothing."""
        await self._connection.close()

    async def __aenter__(self) -> Self:
        try:
            await self._connection.open(self._connection.policy(patience=ENTERING_PATIENCE))
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<AsyncClient {self.base_url}>"
