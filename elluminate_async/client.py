"""`AsyncClient`: settings, limits and transport made into resources; open and close."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Self

from elluminate_async.batch import BatchOptions
from elluminate_async.batch.options import shown
from elluminate_async.config import Settings, checked_ssl_context
from elluminate_async.errors import ConfigurationError
from elluminate_async.errors.arguments import flag
from elluminate_async.evaluation.calls import EvaluationCalls
from elluminate_async.limits.limits import Limits, Traffic
from elluminate_async.operations.coalescing import coalescer_of
from elluminate_async.operations.connection import ENTERING_PATIENCE, Connection
from elluminate_async.operations.context import checked_options, checked_seconds
from elluminate_async.operations.deadline import Deadline, bounded_at
from elluminate_async.resources.agent_results import AgentResultsResource
from elluminate_async.resources.collections import CollectionsResource
from elluminate_async.resources.criteria import CriteriaResource
from elluminate_async.resources.criterion_sets import CriterionSetsResource
from elluminate_async.resources.experiments import ExperimentsResource
from elluminate_async.resources.llm_configs import LLMConfigsResource
from elluminate_async.resources.projects import ProjectsResource
from elluminate_async.resources.prompt_templates import PromptTemplatesResource
from elluminate_async.resources.ratings import RatingsResource
from elluminate_async.resources.responses import ResponsesResource
from elluminate_async.resources.scenario_sets import ScenarioSetsResource
from elluminate_async.resources.scenarios import ScenariosResource
from elluminate_async.resources.template_variables import TemplateVariablesResource
from elluminate_async.schemas.version import CompatibilityAnswer
from elluminate_async.telemetry import Observer, Telemetry
from elluminate_async.telemetry.console import show_log
from elluminate_async.transport.http import HttpTransport

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping
    from types import TracebackType


_CONNECTIONS_BESIDE_CHUNKS = 16  # for pages of listings, which are fetched ahead


class AsyncClient(EvaluationCalls):
    """The service, asynchronously.

    Use it as ``async with AsyncClient() as client``: entering selects the project and so
    finds a wrong key at once, and within a few seconds a wrong address; leaving ends all that
    still runs. Without the ``with``, the first call does what entering does, and `close` what
    leaving does.

    A client belongs to the event loop of its first call, which is one of asyncio's: under trio
    that call raises `WrongEventLoopError`. Making one sends nothing and needs no loop. One that
    was used and is dropped unclosed warns (`ResourceWarning`) of the line that made it. Its
    resources are its attributes, named as the service names them.

    Args:
        api_key: The key; else from ``ELLUMINATE_API_KEY``.
        base_url: Where the service is; else from ``ELLUMINATE_BASE_URL``, else the hosted
            service.
        token: An OAuth token instead of a key; else from ``ELLUMINATE_OAUTH_TOKEN``.
        project: Id or name of the project, or ``"newest"``, that of the highest id. None takes
            the one that the key belongs to, the first that it sees; of a token, which belongs to a
            person, the only one: of several none is taken silently, see `AmbiguousProjectError`.
        options: Defaults for batches: concurrency, limits, timeouts, attempts.
        env_file: An ``.env`` file to read settings from that are found nowhere else. None
            is read unless it is named here.
        skip_version_check: Send no version check. Then a service's own extensions, such as
            idempotency keys, are not used either.
        allow_insecure_http: Allow plain http to another machine, which shows it the key.
        ssl_context: For a private certificate authority. Verification is always on.
        observers: Are told of calls, chunks, attempts and outages: see
            `elluminate_async.telemetry`. The log is one without being named.
        proxy: A forward proxy, ``http://user:password@host:port`` or https, which is asked for a
            tunnel to an https service and sees nothing of what is in it.
        trust_env: Take the proxy from ``HTTPS_PROXY`` or ``ALL_PROXY`` where none is given, but
            for what ``NO_PROXY`` names. As they are when the client is made; for https only,
            never for this machine. ``.netrc`` is never read.
        default_headers: Sent to the service besides its own, such as a gateway's. Their values
            are shown nowhere.
        coalesce: Seconds, such as 0.005, that single calls of ``responses.generate`` and
            ``ratings.rate``, and batches smaller than a chunk, wait for others like them to share
            a chunk with: same experiment, template, configuration or mode, and same options but
            for ``deadline`` and ``on_progress``. None or 0: each goes by itself, at once.

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
        scenario_sets: Named sets of scenarios for simulated users, and their fields.
        scenarios: The rows of scenario sets; add many at once.
        agent_results: What agents did with the tasks of an experiment, to be judged.

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
        observers: Iterable[Observer] = (),
        proxy: str | None = None,
        trust_env: bool = True,
        default_headers: Mapping[str, str] | None = None,
        coalesce: float | None = None,
    ) -> None:
        settings = Settings.resolve(
            api_key=api_key,
            base_url=base_url,
            token=token,
            env_file=env_file,
            allow_insecure_http=allow_insecure_http,
            proxy=proxy,
            trust_env=trust_env,
            default_headers=default_headers,
        )
        is_told = isinstance(project, int | str)  # pyright: ignore[reportUnnecessaryIsInstance]
        if project is not None and (not is_told or isinstance(project, bool)):
            raise ConfigurationError(f"project must be its id or its name, not {shown(project)}")
        chosen = checked_options(BatchOptions() if options is None else options)
        show_log()
        telemetry = Telemetry(settings.base_url, observers)
        limits = Limits(
            chosen.max_concurrency,
            chosen.rate_limit,
            chosen.item_limit,
            telemetry,
            chosen.share,
            chosen.chunk_size,
        )
        transport = HttpTransport(
            settings,
            limits=limits,
            connections=chosen.max_concurrency + _CONNECTIONS_BESIDE_CHUNKS,
            ssl_context=None if ssl_context is None else checked_ssl_context(ssl_context),
            telemetry=telemetry,
        )
        connection = Connection(
            transport,
            limits,
            chosen,
            project=project,
            by_token=settings.token is not None,
            skip_version_check=flag(skip_version_check, "skip_version_check", ConfigurationError),
        )
        coalescer = coalescer_of(connection, coalesce)
        self._settings = settings
        super().__init__(connection)
        self.projects = ProjectsResource(connection)
        self.prompt_templates = PromptTemplatesResource(connection)
        self.criteria = CriteriaResource(connection)
        self.criterion_sets = CriterionSetsResource(connection)
        self.collections = CollectionsResource(connection)
        self.template_variables = TemplateVariablesResource(connection)
        self.llm_configs = LLMConfigsResource(connection)
        self.experiments = ExperimentsResource(connection)
        self.responses = ResponsesResource(connection, coalescer)
        self.ratings = RatingsResource(connection, coalescer)
        self.scenario_sets = ScenarioSetsResource(connection)
        self.scenarios = ScenariosResource(connection)
        self.agent_results = AgentResultsResource(connection)

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

    @property
    def telemetry(self) -> Telemetry:
        """Where observers are subscribed, and the state of the limits is read."""
        return self._connection.telemetry

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
            DeadlineError: The client's own limits held it back for so long, or a `deadline`
                around it passed.
            InputError: ``timeout`` is no finite number above 0.
        """
        seconds, within = checked_seconds(timeout), bounded_at(self._connection)
        return await self._connection.transport.ping(seconds, within)

    def deadline(self, seconds: float) -> Deadline:
        """One deadline for all of this client's calls that are begun within a block.

        ``async with client.deadline(0.3):`` bounds them in the block itself and in every task
        that is begun in it, together. Each ends then as by a deadline of its own: a batch gives
        what it has, and its other items have the code ``deadline``; where there is no batch,
        a `DeadlineError` is raised, with what had arrived as its ``partial``. Of two blocks, one
        in the other, the sooner deadline rules, and so it does of a block's and
        ``BatchOptions.deadline``. Nothing else in the block is interrupted, and leaving it
        raises nothing.

        A stream belongs to the block that it is made in, a listing to that in which it is read.

        In a synchronous program ``with client.deadline(0.3):`` bounds what the thread has its
        portal call.

        Args:
            seconds: From entering the block.

        Raises:
            InputError: ``seconds`` is no finite number above 0.
        """
        return Deadline(self._connection, seconds)

    async def compatibility(self) -> CompatibilityAnswer | None:
        """The service's word on this client's version, and its own capabilities.

        Returns:
            None of a service that has no version check.

        Raises:
            ElluminateError: It does not answer, or refuses the key.
        """
        return await self._connection.compatibility(self._connection.policy())

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
