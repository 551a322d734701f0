"""Calls, chunks and attempts as an observer sees them.

One object each, from beginning to end: what is known only at the end is filled in by then. None
holds an input, an answer or the credential.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from elluminate_async.errors import ItemError
from elluminate_async.telemetry.routes import route_of

CallKind: TypeAlias = Literal["batch", "stream", "single", "retry"]
ChunkKind: TypeAlias = Literal["sent", "resumed", "fetched"]

MOST_NAMED = 3
"""Failed items of a call that are named one by one."""


def new_id() -> str:
    """An id of a call, for the logs of several processes in one place."""
    return secrets.token_hex(6)


@dataclass(frozen=True, slots=True)
class FailedItem:
    """An item that was given up.

    Attributes:
        position: In the caller's list, from 0.
        code: An `ItemErrorCode`.
        cause: The class of the error behind it, with its status; None where the code says it all.
    """

    position: int
    code: str
    cause: str | None

    def __str__(self) -> str:
        return f"{self.position} {self.code}" + (f" ({self.cause})" if self.cause else "")


@dataclass(slots=True, eq=False, kw_only=True)
class Counts:
    """Outcomes so far.

    Attributes:
        succeeded: Items with a value.
        codes: Items that failed, by code.
        first_failed: The first few of these.
    """

    succeeded: int = 0
    codes: Counter[str] = field(default_factory=Counter[str])
    first_failed: list[FailedItem] = field(default_factory=list[FailedItem])

    @property
    def failed(self) -> int:
        """Items without a value."""
        return self.codes.total()

    @property
    def most_frequent_code(self) -> str:
        """The code of most failures, of which there are some."""
        return self.codes.most_common(1)[0][0]

    def count(self, pairs: Sequence[tuple[int, object]]) -> None:
        """Count outcomes by position."""
        failed = [(p, outcome) for p, outcome in pairs if isinstance(outcome, ItemError)]
        self.succeeded += len(pairs) - len(failed)
        for position, error in failed:
            self._note(position, error)

    def settle(self, failed: Mapping[int, ItemError], length: int) -> None:
        """Put what became of all ``length`` items in the place of what was counted so far."""
        self.codes.clear()
        self.first_failed.clear()
        self.succeeded = length - len(failed)
        for position, error in failed.items():
            self._note(position, error)

    def _note(self, position: int, error: ItemError) -> None:
        self.codes[error.code] += 1
        if len(self.first_failed) < MOST_NAMED:
            self.first_failed.append(FailedItem(position, error.code, error.cause))


@dataclass(slots=True, eq=False, kw_only=True, weakref_slot=True)
class ObservedCall(Counts):
    """One call of the client that has items generated, rated, stored or evaluated.

    Attributes:
        operation: ``"generate"``, ``"rate"``, ``"add"`` or ``"evaluate"``.
        kind: A ``"batch"`` as a whole, a ``"stream"``, a ``"single"`` item, or the ``"retry"`` of a
            batch.
        total: Items, where that is known beforehand.
        parent: The call that this one is a part of: a step's is its evaluation, and the call that
            makes the input of another is within that.
        id: Of this call, in any log.
        seconds: That it took; 0 before its end.
        error: The class of what it raised; None for nothing. `asyncio.CancelledError` where it was
            cancelled.
    """

    operation: str
    kind: CallKind = "batch"
    total: int | None = None
    parent: ObservedCall | None = None
    id: str = field(default_factory=new_id)
    began_at: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    error: type[BaseException] | None = None
    chunks: int = 0
    is_over: bool = False

    @property
    def is_step(self) -> bool:
        """Whether it is a step of an evaluation, which tells of its items itself."""
        return self.parent is not None and self.parent.operation == "evaluate"


@dataclass(slots=True, eq=False, kw_only=True, weakref_slot=True)
class ObservedChunk(Counts):
    """The items of a call that are sent together, from their permit to their outcomes.

    Attributes:
        call: None where it is sent outside of every call.
        number: Of the call's chunks, from 1.
        items: Items in it.
        kind: It is ``"sent"``, an earlier run's is ``"resumed"``, or its results are ``"fetched"``,
            as an earlier run finished it.
        queued: Seconds that it waited for its permit.
        jobs: Ids of the service's jobs that do it: several, where it was halved.
        error: The class of what ended it without outcomes; None for nothing.
    """

    call: ObservedCall | None
    number: int
    items: int
    kind: ChunkKind = "sent"
    queued: float = 0.0
    jobs: list[str] = field(default_factory=list[str])
    began_at: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    error: type[BaseException] | None = None


@dataclass(slots=True, eq=False, kw_only=True, weakref_slot=True)
class ObservedAttempt:
    """One sending of one request, from its first byte to the last of its answer.

    Attributes:
        within: The chunk that it is of, or the call; None outside of both.
        method: Of the request.
        host, port: Of the service.
        number: Of the request's sendings, from 1; a redirect that is followed counts.
        after: The sending before this one, of the same request.
        waited: Seconds that it waited for a connection, the limits, a hold or an outage.
        is_stream: Whether it is an event stream, which lasts as long as its job.
        may_exist: Whether it creates what may be there already, so that a 409 is an answer like
            another: that of ``get_or_create``.
        headers: Added to the request; for context that is propagated.
        status: Of the answer; None for no answer.
        verdict: Whether it was ``"accepted"``, ``"rejected"``, ``"not sent"`` or is
            ``"ambiguous"``; None where it was ended from within this process.
        cause: Why it failed: a status such as ``"503"``, or the class of an error; None where it
            did not.
        text: The same in words, without the credential. It may quote an answer.
        request_id: The service's id of the exchange.
        is_observed: Whether anybody is told of it; if not, nothing is noted in it.
    """

    within: ObservedCall | ObservedChunk | None
    method: str
    path: Sequence[str | int] = field(repr=False)
    host: str = ""
    port: int = 0
    number: int = 1
    after: ObservedAttempt | None = None
    waited: float = 0.0
    is_stream: bool = False
    may_exist: bool = False
    headers: dict[str, str] = field(default_factory=dict[str, str], repr=False)
    began_at: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    status: int | None = None
    verdict: str | None = None
    cause: str | None = None
    text: str | None = field(default=None, repr=False)
    request_id: str | None = None
    is_observed: bool = field(default=True, repr=False)
    _route: str | None = field(default=None, init=False, repr=False)

    @property
    def route(self) -> str:
        """The path of the request, with ``{id}`` for what differs from one to the next."""
        if self._route is None:
            self._route = route_of(self.path)
        return self._route

    @property
    def chunk(self) -> ObservedChunk | None:
        """The chunk that it is of."""
        return self.within if isinstance(self.within, ObservedChunk) else None

    @property
    def call(self) -> ObservedCall | None:
        """The call that it is of."""
        return self.within.call if isinstance(self.within, ObservedChunk) else self.within
