"""`CallContext`: the options, the budget and the clocks of one ``*_many`` call."""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from elluminate_async.batch import BatchOptions
from elluminate_async.batch.options import is_finite, shown
from elluminate_async.engine.memory import Memory
from elluminate_async.errors import ConfigurationError, InputError
from elluminate_async.limits.shared_window import heaviest
from elluminate_async.tables.reading import check_awaited

if TYPE_CHECKING:
    from elluminate_async.operations.connection import Connection
    from elluminate_async.transport.retry import Policy


@dataclass(frozen=True, slots=True)
class CallContext:
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
    ) -> CallContext:
        """The context of a call that begins now.

        Raises:
            ConfigurationError: ``options`` is something else.
            ClientClosedError, WrongEventLoopError: The client cannot be used here.
        """
        chosen = narrowed(connection.options, options)
        connection.transport.check_usable()
        deadline_at = time.monotonic() + chosen.deadline
        policy = connection.policy(chosen, deadline_at=deadline_at)
        return cls(connection, chosen, policy, memory if memory is not None else Memory())

    def renewed(self, options: BatchOptions | None) -> CallContext:
        """The context of a call that repeats some of this one, with clocks of its own."""
        return CallContext.begin(self.connection, options or self.options, self.memory)


def narrowed(clients: BatchOptions, options: BatchOptions | None) -> BatchOptions:
    """The options of a call: ``options`` or the client's, with chunks that its limits let through.

    Raises:
        ConfigurationError: ``options`` is something else.
    """
    chosen = clients if options is None else checked_options(options)
    check_share(clients, chosen)
    fits = [limit.requests for limit in (chosen.item_limit, clients.item_limit) if limit]
    if clients.share is not None and clients.item_limit is not None:
        # What others send beside the largest chunk must fit too.
        fits += [heaviest(clients.item_limit), clients.chunk_size]
    if fits and min(fits) < chosen.chunk_size:
        # It could never be sent inside the limit.
        chosen = chosen.replace(chunk_size=min(fits))
    return chosen


def check_share(clients: BatchOptions, chosen: BatchOptions) -> None:
    """Raise `ConfigurationError` where a call has another share than its client."""
    if chosen.share is not None and chosen.share != clients.share:
        raise ConfigurationError(
            "BatchOptions.share is one of the client, for all its calls: make the client with it, "
            "as in AsyncClient(options=BatchOptions(share=...))"
        )


def checked_options(options: object) -> BatchOptions:
    """``options``, or `ConfigurationError` when they are something else."""
    if not isinstance(options, BatchOptions):
        raise ConfigurationError(
            "options must be a BatchOptions, such as client.options.replace(chunk_size=10), "
            f"not {options!r:.80}"
        )
    return options


def check_many(values: object, what: str) -> None:
    """Raise `InputError` when ``values`` cannot be read one by one."""
    if isinstance(values, Iterable | AsyncIterable) and not isinstance(values, str | bytes):
        return
    check_awaited(values, what)
    raise InputError(f"{what} must be a list, not {shown(values)}")


def checked_seconds(timeout: float, what: str = "timeout") -> float:
    """A number of seconds that can be waited for, or `InputError`."""
    is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)  # pyright: ignore[reportUnnecessaryIsInstance]
    if not is_number or not is_finite(timeout) or timeout <= 0:
        raise InputError(f"{what} must be a finite number of seconds above 0, not {shown(timeout)}")
    return timeout


def first_problems(problems: Sequence[str], limit: int = 3) -> str:
    """The first few of several problems, for one line of error text."""
    rest = len(problems) - limit
    return "; ".join(problems[:limit]) + (f"; and {rest} more" if rest > 0 else "")


def single_policy(connection: Connection, options: BatchOptions | None) -> Policy:
    """Budget and clocks of one request that is no batch, by ``options`` or the client's.

    Raises:
        ConfigurationError: ``options`` is something else.
    """
    if options is not None:
        check_share(connection.options, checked_options(options))
    return connection.policy(options)


def timed_policy(connection: Connection, timeout: float | None) -> Policy:
    """Budget and clocks of a call that may take ``timeout`` seconds.

    Without, it may take as long as the client's options say.

    Raises:
        InputError: ``timeout`` is no finite number above 0.
    """
    seconds = connection.options.deadline if timeout is None else checked_seconds(timeout)
    return connection.policy(deadline_at=time.monotonic() + seconds)
