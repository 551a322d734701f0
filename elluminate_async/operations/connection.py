"""`Connection`: what all resources share, and the start-up exchanges."""

from __future__ import annotations

import asyncio
import logging
import math
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from pydantic import BaseModel

from elluminate_async.engine.tasks import RunningTasks, begin_task, end_tasks
from elluminate_async.errors import (
    DeadlineError,
    ElluminateError,
    NotFoundError,
    ProtocolError,
    RejectedError,
    ServerError,
    ServiceUnavailableError,
    TransportError,
)
from elluminate_async.limits.limits import Limits
from elluminate_async.limits.strict import StrictLimits
from elluminate_async.operations.deadline import bounded_at, holding
from elluminate_async.operations.json_input import (
    QueryValue,
    check_json,
    encode,
    encode_query,
)
from elluminate_async.operations.leaving import Awaited, WorkInFlight
from elluminate_async.operations.project_choice import chosen_project, visible_projects
from elluminate_async.operations.reading import decode as decode
from elluminate_async.operations.reading import decode_list as decode_list
from elluminate_async.operations.reading import decoded as decoded
from elluminate_async.operations.standing import standing_policy
from elluminate_async.schemas.base import Page
from elluminate_async.schemas.projects import Project
from elluminate_async.schemas.version import Capability, CompatibilityAnswer, CompatibilityRequest
from elluminate_async.transport.exchange import Answer, Request, SendLog
from elluminate_async.transport.http import HttpTransport
from elluminate_async.transport.retry import Policy
from elluminate_async.transport.session import PROTOCOL_VERSION

if TYPE_CHECKING:
    from elluminate_async.batch import BatchOptions
    from elluminate_async.transport.sse import Decoder, Event

T = TypeVar("T")

logger = logging.getLogger("elluminate_async")

SINGLE_CALL_DEADLINE = 300.0
"""Seconds for a call that is not a batch, its retries included; a shorter deadline rules."""

ENTERING_PATIENCE = 5.0
"""Seconds for which ``async with`` waits for a service that is away: nothing is lost by then."""

_VERSION_CHECK_DEADLINE = 10.0
_VERSION_CHECK_PAUSE = 60.0  # seconds until one that an outage failed is made again
_JOBS_KNOWN = 64
_ROOT = ("api", "v0")


class Connection:
    """One client's way to one project.

    Args:
        transport: Sends requests.
        limits: Shared by all calls.
        options: The client's defaults.
        project: Id, name, "newest", or None; see `chosen_project`.
        by_token: Whether the credential is an OAuth token.
        skip_version_check: Send no version check; then the service is taken for one
            without capabilities.
    """

    def __init__(
        self,
        transport: HttpTransport,
        limits: Limits,
        options: BatchOptions,
        *,
        project: int | str | None,
        by_token: bool,
        skip_version_check: bool,
    ) -> None:
        self.transport = transport
        self.telemetry = transport.telemetry
        self.limits = limits
        self.options = options
        self.tasks: RunningTasks = set()
        self._awaited = Awaited()
        self._closing = asyncio.Lock()
        self._kept: dict[tuple[type, int], Any] = {}
        self._jobs: dict[str, str] = {}
        self._wanted = project
        self._by_token = by_token
        self._project: Project | None = None
        self._selecting = anyio.Lock()
        self._skip_version_check = skip_version_check
        self._version_check: asyncio.Task[None] | None = None
        self._check_version_at = 0.0
        self._capabilities: frozenset[str] = frozenset()

    def kept(self, kind: type[T], id: int) -> T | None:
        """The object of that kind and id which all calls of this client share, if any made it."""
        return self._kept.get((kind, id))

    def keep(self, kind: Callable[[int], T], id: int) -> T:
        """The same, made by the first that asks."""
        assert isinstance(kind, type)
        if (kind, id) not in self._kept:
            self._kept[kind, id] = kind(id)
        return self._kept[kind, id]

    def all_kept(self, kind: type[T]) -> list[T]:
        """The objects of that kind, of all ids."""
        return [one for (of, _), one in self._kept.items() if of is kind]

    def claim_job(self, job_id: str, key: str) -> bool:
        """Take a job for that of the chunk which was sent under ``key``.

        Returns:
            False where a chunk that was sent lately under another key was told that it became
            this job: then something on the way has answered with what it had before.
        """
        if self._jobs.setdefault(job_id, key) != key:
            return False
        if len(self._jobs) > _JOBS_KNOWN:
            del self._jobs[next(iter(self._jobs))]
        return True

    @property
    def work(self) -> WorkInFlight:
        """The work that calls wait for."""
        return WorkInFlight(self, self._awaited)

    async def open(self, policy: Policy | None = None) -> Project:
        """Select the project, once; the version check runs beside it.

        Args:
            policy: Of the call that needs it first; None for that of a single call.

        Raises:
            AuthenticationError: The service refuses the key.
            NotFoundError: The key sees no project, or not the one that was asked for.
            AmbiguousProjectError: It sees several that may be meant.
        """
        self.transport.check_usable()
        if self._project is not None:
            return self._project
        policy = policy or self.policy()
        async with holding(self._selecting, policy):
            self._begin_version_check()
            if self._project is None:
                self._project = await self._select_project(policy)
        return self._project

    async def _select_project(self, policy: Policy | None) -> Project:
        projects = await visible_projects(partial(self._projects_page, policy))
        return chosen_project(projects, self._wanted, by_token=self._by_token, blotted=self.blotted)

    async def _projects_page(self, policy: Policy | None, number: int) -> Page[Project]:
        # The first as the official clients ask for it.
        query = {"page": number} if number > 1 else None
        answer = await self.call("GET", "projects", query=query, policy=policy, of_project=False)
        return decode(Page[Project], answer)

    def _begin_version_check(self) -> None:
        """Have it run beside what is asked for, unless it was made or need not be."""
        if self._skip_version_check or time.monotonic() < self._check_version_at:
            return
        self._check_version_at = math.inf
        self._version_check = begin_task(self._check_version(), self.tasks)

    def open_ahead(self, count: int, policy: Policy) -> None:
        """Have ``count`` connections opened beside what is asked for meanwhile.

        For work that is to begin with so many requests together.
        """
        begin_task(self.transport.open_ahead(count, policy), self.tasks)

    async def server_id(self, policy: Policy) -> str | None:
        """The service's own id, wherever it is served; None when it advertises nothing.

        Asked for anew each time: another server may have taken the address since.

        Raises:
            ElluminateError: It does not answer, or refuses this client.
        """
        await self.open(policy)
        if self._skip_version_check:
            return None
        answer = await self.compatibility(policy)
        return None if answer is None else answer.server_id

    async def compatibility(self, policy: Policy) -> CompatibilityAnswer | None:
        """The answer to the version check, asked for anew; None of a service that has none."""
        try:
            answer = await self.transport.send(_version_request(), policy)
            return decode(CompatibilityAnswer, answer)
        except (NotFoundError, RejectedError, ProtocolError):
            # It has no such route, or another one there.
            return None

    async def _check_version(self) -> None:
        request = _version_request()
        give_up_at = time.monotonic() + self.options.retry_for
        while True:
            try:
                policy = self.policy(deadline=_VERSION_CHECK_DEADLINE)
                found = decode(CompatibilityAnswer, await self.transport.send(request, policy))
            except ElluminateError as error:
                # While the service answers nothing else either, that says nothing of this.
                waits = self._project is None and time.monotonic() < give_up_at
                if waits and _is_outage(error) and not isinstance(error, ServiceUnavailableError):
                    continue
                if _is_outage(error):
                    self._check_version_at = time.monotonic() + _VERSION_CHECK_PAUSE
                # Nothing is known then, and nothing assumed; the calls themselves will tell.
                logger.info("the version check failed: %s", error)
                return
            break
        self._capabilities = found.capabilities
        if not found.is_compatible:
            logger.warning(
                "the service asks for clients of version %s or later, and this package speaks "
                "the protocol of %s: look for a newer elluminate-async",
                self.blotted(str(found.required_sdk_version)),
                PROTOCOL_VERSION,
            )

    def blotted(self, text: str) -> str:
        """``text`` of the service's, for an error or a log, without the credential."""
        return self.transport.blotted(text)

    async def has(self, capability: Capability, policy: Policy) -> bool:
        """Whether the service advertises ``capability``; waits for the version check."""
        await self.open(policy)
        self._begin_version_check()
        if self._version_check is not None and not self._version_check.done():
            await asyncio.wait({self._version_check}, timeout=policy.remaining())
        return capability in self._capabilities

    def offers(self, capability: Capability) -> bool:
        """`has`, of what the version check has told so far."""
        return capability in self._capabilities

    def policy(
        self,
        options: BatchOptions | None = None,
        *,
        deadline: float | None = None,
        deadline_at: float | None = None,
        patience: float = math.inf,
    ) -> Policy:
        """Budget and clocks by ``options``, those of a single call unless a deadline is given.

        Args:
            options: Instead of the client's.
            deadline: Seconds for what the client does for all calls: that of the caller who
                happened to begin it does not bound it.
            deadline_at: `time.monotonic`, of a call that is no single one.
            patience: Seconds; an outage is not waited out for longer.
        """
        whole = standing_policy(self)
        if whole is not None and options is None and deadline is None and deadline_at is None:
            return whole  # of the call that this is a part of, as an evaluation's set-up
        chosen = options or self.options
        if deadline is not None:
            deadline_at = time.monotonic() + deadline
        else:
            if deadline_at is None:
                deadline_at = time.monotonic() + min(SINGLE_CALL_DEADLINE, chosen.deadline)
            deadline_at = min(deadline_at, bounded_at(self))
        limits = None
        rate = chosen.rate_limit if chosen.rate_limit != self.options.rate_limit else None
        items = chosen.item_limit if chosen.item_limit != self.options.item_limit else None
        if rate is not None or items is not None:
            limits = self.limits.narrowed(StrictLimits(rate, items))
        return Policy(
            deadline_at=deadline_at,
            max_attempts=chosen.max_attempts,
            retry_for=min(chosen.retry_for, patience),
            max_retry_after=chosen.max_retry_after,
            connect_timeout=chosen.connect_timeout,
            attempt_timeout=chosen.attempt_timeout,
            stream_silence=chosen.stream_silence,
            job_stall=chosen.job_stall,
            limits=limits,
            share=self.limits.share(chosen.priority),
        )

    async def path(
        self, *segments: str | int, policy: Policy | None = None
    ) -> tuple[str | int, ...]:
        """``segments`` below the project."""
        await self.open(policy)
        return self.known_path(*segments)

    def known_path(self, *segments: str | int) -> tuple[str | int, ...]:
        """`path`, of who has asked for it before."""
        assert self._project is not None, "not open"
        return (*_ROOT, "projects", self._project.id, *segments)

    async def call(
        self,
        method: str,
        *segments: str | int,
        query: Mapping[str, QueryValue] | None = None,
        body: BaseModel | bytes | None = None,
        content_type: str = "application/json",
        omit_nulls: bool = False,
        policy: Policy | None = None,
        keyed: bool = False,
        sending: SendLog | None = None,
        harmless: bool = False,
        items: int = 0,
        of_project: bool = True,
    ) -> Answer:
        """Send one request below the project; with ``keyed``, under an idempotency key.

        That is the key of ``sending``, or a new one. ``items`` count towards the limit on items.
        What is ``harmless`` may be sent again whatever became of it. Without ``of_project`` it goes
        below the service's root, and no project is selected.
        """
        policy = policy or self.policy()
        if isinstance(body, BaseModel):
            check_json(body, "")
        request = Request(
            method,
            await self.path(*segments, policy=policy) if of_project else (*_ROOT, *segments),
            query=encode_query(query or {}),
            body=encode(body, omit_nulls=omit_nulls) if isinstance(body, BaseModel) else body,
            content_type=content_type,
            idempotency_key=(sending.key if sending else new_key()) if keyed else None,
            key_honoured=keyed and await self.has(Capability.IDEMPOTENCY_KEYS, policy),
            harmless=harmless,
            items=items,
            log=sending,
        )
        return await self.send(request, policy)

    async def send(self, request: Request, policy: Policy | None = None) -> Answer:
        """Send ``request`` as it is."""
        return await self.transport.send(request, policy or self.policy())

    def stream(
        self, request: Request, policy: Policy, decoder: Decoder
    ) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """The events that the service answers ``request`` with."""
        return self.transport.stream(request, policy, decoder)

    async def close(self) -> None:
        """End everything that still runs, then the connections; again does nothing."""
        with anyio.CancelScope(shield=True):
            async with self._closing:
                await self._close()

    async def _close(self) -> None:
        # In another loop, as in a forked child, there is nothing of it to be ended.
        with suppress(ElluminateError):
            self.transport.check_usable()
            left = self.work.take_all()
            self.transport.end_calls()
            await self.work.cancel_last(left)
            await end_tasks(set(self.tasks))
            await self.limits.aclose()
        await self.transport.close()


def _version_request() -> Request:
    body = CompatibilityRequest(current_sdk_version=PROTOCOL_VERSION)
    path = (*_ROOT, "version", "compatible")
    return Request("POST", path, body=encode(body), harmless=True)


def _is_outage(error: ElluminateError) -> bool:
    passing = DeadlineError | ServiceUnavailableError | TransportError | ServerError
    return isinstance(error, passing) and not isinstance(error, ProtocolError)


def new_key() -> str:
    """An idempotency key: the same for every sending of one request, never used again."""
    return uuid.uuid4().hex
