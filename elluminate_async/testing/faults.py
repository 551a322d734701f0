"""Faults for a scripted service: what goes wrong with an exchange, with which, how often."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar, cast

from elluminate_async.testing.documents import JobScript
from elluminate_async.testing.exchange import (
    BATCH_ROUTES,
    ROUTES,
    START_ROUTES,
    STREAM_ROUTES,
    ConnectionCut,
    Exchange,
    Process,
    Reply,
)
from elluminate_async.testing.service import Behaviour

F = TypeVar("F", bound=Callable[..., object])

Predicate: TypeAlias = Callable[[Exchange], bool]

_LOGIN = b"<!DOCTYPE html><html><body>Please log in.</body></html>"
_UPSTREAM = b"upstream connect error or disconnect/reset before headers"


def refuse(status: int, *, retry_after: str | None = None, text: str = "scripted") -> Behaviour:
    """Answer this status; nothing is done."""
    headers = {} if retry_after is None else {"Retry-After": retry_after}

    async def behave(exchange: Exchange, process: Process) -> Reply:
        return Reply(status, f'{{"detail":"{text}"}}'.encode(), headers=headers)

    return behave


def lose(reply: Reply) -> Behaviour:
    """Do what was asked, and answer this instead."""

    async def behave(exchange: Exchange, process: Process) -> Reply:
        await process()
        return replace(reply)

    return behave


def cut(*, processed: bool) -> Behaviour:
    """Reset the connection instead of an answer."""

    async def behave(exchange: Exchange, process: Process) -> Reply:
        if processed:
            await process()
        raise ConnectionCut

    return behave


def hang(*, processed: bool) -> Behaviour:
    """Answer nothing until the client gives up."""

    async def behave(exchange: Exchange, process: Process) -> Reply:
        if processed:
            await process()
        await exchange.client_left()
        raise ConnectionCut

    return behave


async def truncate(exchange: Exchange, process: Process) -> Reply:
    """Do what was asked, and break off in the middle of the answer."""
    reply = await process()
    if reply.events is not None:
        return await break_stream(exchange, process)
    return replace(reply, sent_bytes=len(reply.body) // 2)


def script_job(script: JobScript) -> Behaviour:
    """Accept the chunk, and have its job go wrong."""

    async def behave(exchange: Exchange, process: Process) -> Reply:
        exchange.job_script = replace(script)
        return await process()

    return behave


async def end_stream(exchange: Exchange, process: Process) -> Reply:
    """End the stream cleanly, before the terminal event."""
    return replace(await process(), events=_without_end(await process(), broken=False))


async def break_stream(exchange: Exchange, process: Process) -> Reply:
    """Reset the stream's connection before the terminal event."""
    return replace(await process(), events=_without_end(await process(), broken=True))


async def _without_end(reply: Reply, *, broken: bool) -> AsyncIterator[bytes]:
    yield b'data: {"status":"STARTED","error_msg":null}\n\ndata: {"stat'
    if broken:
        raise ConnectionCut


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault.

    Attributes:
        behave: What it does.
        on: The exchanges it makes sense for.
    """

    behave: Behaviour
    on: Predicate


def _any(exchange: Exchange) -> bool:
    return exchange.route not in START_ROUTES


def _chunk(exchange: Exchange) -> bool:
    return exchange.route in BATCH_ROUTES


def _stream(exchange: Exchange) -> bool:
    return exchange.route in STREAM_ROUTES


KINDS: Mapping[str, Kind] = {
    "429": Kind(refuse(429), _any),
    "429-retry-after": Kind(refuse(429, retry_after="1"), _any),
    "408": Kind(refuse(408), _any),
    "500": Kind(refuse(500), _any),
    "502": Kind(refuse(502), _any),
    "503": Kind(refuse(503), _any),
    "reset": Kind(cut(processed=False), _any),
    "hang": Kind(hang(processed=False), _any),
    "502-processed": Kind(lose(Reply(502)), _any),
    "503-processed": Kind(lose(Reply(503, _UPSTREAM, "text/plain")), _any),
    "reset-processed": Kind(cut(processed=True), _any),
    "hang-processed": Kind(hang(processed=True), _any),
    "truncated": Kind(truncate, _any),
    "empty": Kind(lose(Reply(200, b"")), _any),
    "null": Kind(lose(Reply(200, b"null")), _chunk),
    "garbage": Kind(lose(Reply(200, b'\x00\xff{"items":[')), _any),
    "html": Kind(lose(Reply(200, _LOGIN, "text/html")), _any),
    "job-fails": Kind(script_job(JobScript(fail_after=3)), _chunk),
    "job-forgotten": Kind(script_job(JobScript(forget=True)), _chunk),
    "row-missing": Kind(script_job(JobScript(hide=7)), _chunk),
    "stream-ends": Kind(end_stream, _stream),
    "stream-breaks": Kind(break_stream, _stream),
    "stream-refused": Kind(refuse(503), _stream),
    "stream-204": Kind(lose(Reply(204, b"")), _stream),
}
"""Every kind by its name.

A status alone refuses and does nothing. The ``-processed`` kinds, and ``truncated``, ``empty``,
``null``, ``garbage`` and ``html``, lose the answer to work that was done. The ``job-`` kinds and
``row-missing`` accept a chunk whose job then goes wrong; the ``stream-`` kinds spoil its events.
"""


class Fault:
    """One kind of fault, placed on some exchanges.

    Args:
        kind: A name of the table below, or a behaviour of your own: an async function, or what
            `elluminate_async.testing.faults` makes, such as ``refuse(418)``.
        on: Which exchanges; a route such as ``"POST responses/batches"``, one of
            `elluminate_async.testing.exchange.ROUTES`, or a predicate: a function of an
            `Exchange`. None takes those that the kind makes sense for,
            and never what a client begins with: the version check and ``GET projects``, by which
            it also asks whether the service is there. ``on=lambda exchange: True`` takes all.
        times: How often at most; None for no bound.
        skip: Let so many of those exchanges pass first.
        share: Of the exchanges, how many it takes, 0 to 1.
        seed: Of that choice.

    Attributes:
        fired: How often it did.

    Raises:
        ValueError: There is no such kind or route, or a number cannot work.

    | kind | what it does |
    |---|---|
    | ``429`` | Refuses: too many requests, without a word on when to come again. |
    | ``429-retry-after`` | Refuses, with ``Retry-After: 1``. |
    | ``408``, ``500``, ``502``, ``503`` | Answers that status; nothing is done. |
    | ``reset`` | Resets the connection; nothing is done. |
    | ``hang`` | Answers nothing until the client gives up; nothing is done. |
    | ``502-processed``, ``503-processed`` | Does the work, and answers that status as a gateway. |
    | ``reset-processed`` | Does the work, and resets the connection. |
    | ``hang-processed`` | Does the work, and answers nothing until the client gives up. |
    | ``truncated`` | Does the work, and breaks off in the middle of the answer. |
    | ``empty`` | Does the work, and answers 200 without a body. |
    | ``null`` | Does the work, and names no job for it: ``null``. |
    | ``garbage`` | Does the work, and answers 200 with bytes that are no JSON. |
    | ``html`` | Does the work, and answers 200 with a page to log in. |
    | ``job-fails`` | Accepts a chunk whose job ends as FAILURE after 3 of its items. |
    | ``job-forgotten`` | Accepts a chunk, and answers 404 for its job. |
    | ``row-missing`` | Accepts a chunk, and never shows every seventh of its rows. |
    | ``stream-ends`` | Ends a job's events cleanly, before the last. |
    | ``stream-breaks`` | Resets the connection of a job's events before the last. |
    | ``stream-refused`` | Answers 503 instead of a job's events. |
    | ``stream-204`` | Answers 204 instead of a job's events. |
    """

    def __init__(
        self,
        kind: str | Behaviour,
        *,
        on: str | Predicate | None = None,
        times: int | None = None,
        skip: int = 0,
        share: float = 1.0,
        seed: int = 0,
    ) -> None:
        _check_count("skip", skip)
        if times is not None:
            _check_count("times", times)
        known = _kind(kind) if isinstance(kind, str) else Kind(_checked(kind, "kind"), _any)
        self.name = kind if isinstance(kind, str) else getattr(kind, "__name__", "own")
        self.times = times
        self.fired = 0
        self._behave = known.behave
        self._on = known.on if on is None else _predicate(on)
        self._skip = skip
        self._share = _checked_share(share)
        self._random = random.Random(f"{seed} {self.name}")

    def take(self, exchange: Exchange) -> Behaviour | None:
        """The behaviour, when it is this exchange's turn."""
        if not self._on(exchange) or self.fired == self.times:
            return None
        if self._skip > 0:
            self._skip -= 1
            return None
        if self._random.random() >= self._share:
            return None
        self.fired += 1
        return self._behave

    def __repr__(self) -> str:
        return f"<Fault {self.name}, fired {self.fired} times>"


def _kind(name: str) -> Kind:
    if name not in KINDS:
        raise ValueError(f"no kind of fault named {name!r}; the kinds are {', '.join(KINDS)}")
    return KINDS[name]


def _kinds(names: Iterable[str]) -> dict[str, Kind]:
    chosen = {name: _kind(name) for name in ([names] if isinstance(names, str) else names)}
    # A set's order is another in each process, and the seed's choice is by order.
    return {name: kind for name, kind in KINDS.items() if name in chosen}


def _checked_share(share: float) -> float:
    if not 0 <= share <= 1:
        raise ValueError(f"share must be from 0 to 1, not {share!r}")
    return share


def _predicate(on: str | Predicate) -> Predicate:
    if not isinstance(on, str):
        return _checked(on, "on")
    if on not in ROUTES:
        raise ValueError(f"no route {on!r}; the routes are {', '.join(ROUTES)}")
    return lambda exchange: exchange.route == on


def _checked(function: F, what: str) -> F:
    if not callable(function):
        wanted = {"kind": "one of " + ", ".join(KINDS), "on": "a route, such as " + ROUTES[-1]}
        raise ValueError(f"{what} must be {wanted[what]}, or a function, not {function!r}")
    return function


def _check_count(name: str, count: object) -> None:
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise ValueError(f"{name} must be a whole number of at least 0, not {count!r}")


class FaultPlan:
    """A seeded mix: of the exchanges that any kind makes sense for, this share goes wrong.

    Kinds that hang last for the client's ``attempt_timeout``, and refusals with 429 slow it
    down: shorten the one, or leave the others out, where a test is to be quick.

    Args:
        seed: Of the choice; the same seed on the same exchanges takes the same ones.
        share: 0 to 1.
        kinds: Names of `KINDS`, or a mapping of names to kinds of your own; None for all.

    Attributes:
        exchanges: How many could have been taken.
        fired: How often each kind did.

    Raises:
        ValueError: There is no such kind, or ``share`` is not from 0 to 1.
    """

    def __init__(
        self,
        seed: int,
        share: float = 0.3,
        kinds: Iterable[str] | Mapping[str, Kind] | None = None,
    ) -> None:
        self.exchanges = 0
        self.fired = Counter[str]()
        self._kinds: Mapping[str, Kind]
        if isinstance(kinds, Mapping):
            self._kinds = cast("Mapping[str, Kind]", kinds)
        else:
            self._kinds = KINDS if kinds is None else _kinds(kinds)
        self._share = _checked_share(share)
        self._random = random.Random(seed)

    def take(self, exchange: Exchange) -> Behaviour | None:
        """A behaviour for this exchange, or None."""
        fitting = [name for name, kind in self._kinds.items() if kind.on(exchange)]
        if not fitting:
            return None
        self.exchanges += 1
        if self._random.random() >= self._share:
            return None
        name = self._random.choice(fitting)
        self.fired[name] += 1
        return self._kinds[name].behave

    def __repr__(self) -> str:
        return f"<FaultPlan, fired {dict(self.fired)}>"
