"""What the ``*_many`` methods have in common."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from elluminate_async.batch import BatchOptions
from elluminate_async.engine.call import Call, LastLook, ResumeChunk, SendChunk, Upstream
from elluminate_async.engine.chunks import AnswerSizes
from elluminate_async.engine.memory import Memory
from elluminate_async.errors import ConfigurationError

if TYPE_CHECKING:
    from elluminate_async.engine.recovery import Recovery
    from elluminate_async.resources.connection import Connection
    from elluminate_async.transport.retry import Policy

V = TypeVar("V")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class BatchSetting:
    """Options, budget and clocks of one ``*_many`` call.

    Attributes:
        policy: Shared by all requests of the call; its deadline is the call's.
        memory: Of the chunks that the call, or one that it repeats, has sent.
    """

    connection: Connection
    options: BatchOptions
    policy: Policy
    memory: Memory = field(default_factory=Memory)

    @classmethod
    def begin(
        cls,
        connection: Connection,
        options: BatchOptions | None,
        memory: Memory | None = None,
    ) -> BatchSetting:
        """The setting of a call that begins now.

        Raises:
            ConfigurationError: ``options`` is something else.
            ClientClosedError, WrongEventLoopError: The client cannot be used here.
        """
        chosen = connection.options if options is None else checked_options(options)
        connection.transport.check_usable()
        for limit in (chosen.item_limit, connection.options.item_limit):
            if limit is not None and limit.requests < chosen.chunk_size:
                # It could never be sent inside the limit.
                chosen = chosen.replace(chunk_size=limit.requests)
        deadline_at = time.monotonic() + chosen.deadline
        policy = connection.policy(chosen, deadline_at=deadline_at)
        return cls(connection, chosen, policy, memory if memory is not None else Memory())

    def call(
        self,
        operation: str,
        send_chunk: SendChunk[V, R],
        resume: ResumeChunk[V, R],
        *,
        total: int | None,
        options: BatchOptions | None = None,
        max_in_flight: int | None = None,
        last_look: LastLook[R] | None = None,
        recovery: Recovery[V, R] | None = None,
        again: Callable[[BatchSetting], Call[V, R]] | None = None,
        upstream: Upstream[V] | None = None,
        sizes: AnswerSizes | None = None,
    ) -> Call[V, R]:
        """The engine's view of the call; ``again`` makes it with another setting."""

        def anew(options: BatchOptions | None) -> Call[V, R]:
            assert again is not None
            chosen = options or self.options
            call = again(BatchSetting.begin(self.connection, chosen, self.memory))
            if call.recovery is not None:
                call.recovery.of_retry = call.recovery.anew = True
            return dataclasses.replace(call, total=None)

        return Call(
            operation=operation,
            send_chunk=send_chunk,
            options=options or self.options,
            limits=self.connection.limits,
            deadline_at=self.policy.deadline_at,
            total=total,
            max_in_flight=max_in_flight,
            last_look=last_look,
            recovery=recovery,
            again=anew if again is not None else None,
            resume=resume,
            memory=self.memory,
            upstream=upstream,
            sizes=sizes or AnswerSizes(),
        )


def checked_options(options: object) -> BatchOptions:
    """``options``, or `ConfigurationError` when they are something else."""
    if not isinstance(options, BatchOptions):
        raise ConfigurationError(
            "options must be a BatchOptions, such as client.options.replace(chunk_size=10), "
            f"not {options!r:.80}"
        )
    return options


def known_length(values: object) -> int | None:
    """How many there are, where that is known without reading them."""
    # Not of anything with a `len`: of a progress bar it is an estimate.
    return len(values) if isinstance(values, Sequence) else None  # pyright: ignore[reportUnknownArgumentType]


def first_problems(problems: Sequence[str], limit: int = 3) -> str:
    """The first few of several problems, for one line of error text."""
    rest = len(problems) - limit
    return "; ".join(problems[:limit]) + (f"; and {rest} more" if rest > 0 else "")
