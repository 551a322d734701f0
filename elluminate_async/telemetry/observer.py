"""`Observer`: the base of who is told of a client's calls; and the events beside these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from elluminate_async.telemetry.scopes import ObservedAttempt, ObservedCall, ObservedChunk
    from elluminate_async.telemetry.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class Hold:
    """The service asked for a wait, with ``Retry-After``.

    Attributes:
        seconds: That it asked for.
        is_waited_out: Whether requests wait for its end; otherwise it is too long for that, and
            what would begin meanwhile fails at once.
    """

    seconds: float
    is_waited_out: bool


@dataclass(frozen=True, slots=True)
class BreakerChange:
    """Requests are held back now, as the service does not answer; or not any more.

    Attributes:
        of: All requests to the ``"service"``, or those that send ``"chunks"``.
        is_open: Whether they are held back.
        reason: Of the last failure, in a few words.
        seconds: Since the first failure in a row.
    """

    of: Literal["service", "chunks"]
    is_open: bool
    reason: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Readings:
    """The state of a client's limits now.

    Attributes:
        in_flight: Chunks that were sent and whose jobs have not ended.
        permits: How many may be, by what the service has refused so far.
        pace: Requests a second; None while the service has refused none.
        held: Seconds that are left of the wait that the service asked for.
        service_open, chunks_open: Whether requests, or chunks, are held back in an outage.
        throttled: Answers of 429 since the client was made.
        retried: Requests that were sent again since then.
    """

    in_flight: int = 0
    permits: int = 0
    pace: float | None = None
    held: float = 0.0
    service_open: bool = False
    chunks_open: bool = False
    throttled: int = 0
    retried: int = 0


Rated: TypeAlias = Callable[[int], int | None]
"""Position to the id of the response that was rated; None where none was."""


class Observer:
    """Is told of a client's calls, in its event loop: each method is to be quick.

    Derive from it, and write those methods that matter; the others do nothing. One that raises
    is logged, once, and disturbs no call. Whoever is subscribed while something runs may see its
    end without its beginning.

    A call's or a chunk's beginning and end are told in the same task and context, so that a
    context variable that is set at the one can be reset at the other.
    """

    def subscribed(self, telemetry: Telemetry) -> None:
        """It is told of a client from now on, whose readings it may ask for."""

    def unsubscribed(self, telemetry: Telemetry) -> None:
        """It is told of no more of that client than the ends of what it saw begin."""

    def call_began(self, call: ObservedCall) -> None:
        """A call began."""

    def call_ended(self, call: ObservedCall, error: BaseException | None) -> None:
        """A call ended, with its counts; ``error`` is what it raises."""

    def chunk_began(self, chunk: ObservedChunk) -> None:
        """A chunk has its permit and is about to be sent."""

    def chunk_ended(self, chunk: ObservedChunk, error: BaseException | None) -> None:
        """A chunk ended, with its counts; ``error`` is what it raises."""

    def outcomes(
        self,
        of: ObservedChunk | ObservedCall,
        outcomes: Sequence[tuple[int, object]],
        rated: Rated,
    ) -> None:
        """Values and errors by position: of a chunk that ends, or of a single call.

        Of ratings, ``rated`` tells the id of the response at a position.
        """

    def attempt_began(self, attempt: ObservedAttempt) -> None:
        """A request is about to leave; ``attempt.headers`` may be added to."""

    def attempt_ended(self, attempt: ObservedAttempt) -> None:
        """It was answered, or was not."""

    def retrying(self, attempt: ObservedAttempt, wait: float) -> None:
        """The request of an attempt is sent again, after ``wait`` seconds."""

    def hold_began(self, hold: Hold) -> None:
        """The service asked for a wait."""

    def breaker_changed(self, change: BreakerChange) -> None:
        """Requests are held back in an outage, or not any more."""
