"""`RedisShare`: one limit for the processes of many machines, kept by Redis (extra ``redis``)."""

from __future__ import annotations

import asyncio
import hashlib
import math
import os
import ssl
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary, WeakSet

from elluminate_async.batch.share import (
    LONGEST_GUARD,
    Reservation,
    SharedPace,
    ShareState,
    Slots,
    checked_name,
)
from elluminate_async.batch.share_clock import ShareClock
from elluminate_async.errors import ConfigurationError, MissingExtraError
from elluminate_async.integrations import redis_scripts as scripts

try:
    from redis import exceptions as failures
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
except ImportError as _error:
    raise MissingExtraError("a limit shared by Redis", "redis") from _error

if TYPE_CHECKING:
    _Client: TypeAlias = Redis

TIMEOUT: Final = 2.0
"""Seconds for one question, a connection included; what is late by more than that is void."""

_SCHEMES = ("redis", "rediss", "unix")
_LEAP: Final = 0.02  # seconds; less is that of a clock that is being corrected
_LONG: Final = 1e9  # seconds
_MOST: Final = 1e12  # of any figure: of more, sums and powers have no end
_HASHES: dict[str, str] = {}

# What may be otherwise in a moment: Redis starts, is full, was made a replica, is elsewhere.
_PASSING = (
    failures.BusyLoadingError,
    failures.ReadOnlyError,
    failures.OutOfMemoryError,
    failures.TryAgainError,
    failures.ClusterDownError,
    failures.MasterDownError,
)
_PASSING_WORDS = ("BUSY", "LOADING", "MASTERDOWN", "NOREPLICAS", "MISCONF", "UNKILLABLE")
_WRONG_KEY = (
    failures.AuthenticationError,
    failures.AuthorizationError,
    failures.NoPermissionError,
)


class RedisShare:
    """A share of limits that Redis keeps, for all processes that reach it.

    Give it to `BatchOptions(share=...)`, with the same limits or with none: whoever has the
    same ``name`` in the same database keeps these limits together. Redis 5 or later, or what
    speaks like it, without cluster mode; its own clock decides. Nothing is connected before it is
    used. The state is one small key, ``elluminate-async:share:{name}``, which is forgotten a day
    after it was last used.

    Where Redis cannot be reached nothing is sent, until it can or the call's deadline is over.
    Where it has lost its data or was started anew the first slot begins a second later, as what was
    given away is over by then; so it does where its clock was set forward, once a client asks that
    knew it before.

    Args:
        url: ``redis://user:password@host:6379/0``, ``rediss://`` for TLS, or
            ``unix:///path?db=0``, with the options that redis-py takes in a query, such as
            ``ssl_ca_certs``. The user and password are in no text of this package's, but in a
            pickle of the share.
        name: Of the limits: that of the API key that they are for, or of the service.

    Raises:
        ConfigurationError: The URL is none of Redis, or the name is empty.
    """

    def __init__(self, url: str, *, name: str) -> None:
        self._url = url
        self._name = checked_name(name)
        self._shown = _checked_url(url)
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, _Client] = WeakKeyDictionary()
        self._pid = os.getpid()
        self._clock = ShareClock()
        self._has_leapt = False  # that clock, and Redis was not told
        self._guarded = -math.inf  # when it was
        # Found out here, not by the first call: options that are none, or have another form.
        self._new_client()

    @property
    def name(self) -> str:
        """Of the limits in it: who gives the same name shares them."""
        return self._name

    @property
    def key(self) -> str:
        """The key in Redis. The braces keep it in one place where keys are distributed."""
        return f"elluminate-async:share:{{{self._name}}}"

    async def reserve(
        self, wanted: Sequence[Slots], *, earliest: float, latest: float
    ) -> Reservation:
        """Take slots, see `LimitShare.reserve`."""
        arguments: list[str | float] = [earliest, latest]
        for slots in wanted:
            # Redis reads no infinity.
            idle = min(slots.idle, _LONG)
            arguments += slots.limit, slots.interval, slots.number, slots.guard, idle
        (taken, delay, hold, now), asked = await self._figures(4, scripts.RESERVE, *arguments)
        moment = self._clock.moment(now, asked=asked, answered=time.monotonic())
        if moment.ahead > _LEAP:
            self._has_leapt = True
        if self._has_leapt:
            # Slots that others still have look as if they were over. It is known until all know.
            await self._run(scripts.GUARD)
            self._has_leapt, self._guarded = False, time.monotonic()
        if asked < self._guarded:
            return Reservation(False, 0.0 if hold > 0 else LONGEST_GUARD, hold, 0.0)
        return moment.reservation(bool(taken), delay, hold)

    async def hold(self, seconds: float) -> None:
        """Give no slots away for so long; a longer hold in force stays."""
        await self._run(scripts.HOLD, seconds)

    async def held(self) -> float:
        """Seconds left of a hold; 0 for none."""
        (left,), _ = await self._figures(1, scripts.HELD)
        return left

    async def pace(self, *, accepted: int = 0, refused: float | None = None) -> SharedPace:
        """Tell what the service did, and learn the pace of all, see `LimitShare.pace`."""
        told = "" if refused is None else refused
        answer, _ = await self._figures(4, scripts.PACE, accepted, told)
        return SharedPace(*answer)

    async def state(self) -> ShareState:
        """The state now; nothing is changed by it."""
        answer, asked = await self._run(scripts.STATE)
        took = time.monotonic() - asked
        pace, names = SharedPace(*self._numbers(answer[:4], 4)), answer[4::2]
        slots = dict(zip(names, self._numbers(answer[5::2], len(names)), strict=True))
        return ShareState(took, slots, pace.hold, pace)

    async def aclose(self) -> None:
        """Close what is open in the running loop and not in use; a later call opens it anew."""
        client = self._of_this_process().get(asyncio.get_running_loop())
        if client is not None:
            await client.connection_pool.disconnect(inuse_connections=False)

    def __repr__(self) -> str:
        return f"RedisShare({self._shown!r}, name={self._name!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RedisShare):
            return NotImplemented
        return (self._url, self._name) == (other._url, other._name)

    def __hash__(self) -> int:
        return hash((RedisShare, self._url, self._name))

    def __reduce__(self) -> tuple[object, ...]:
        return (_share, (self._url, self._name))

    async def _figures(
        self, count: int, script: str, *arguments: str | float
    ) -> tuple[list[float], float]:
        """The answer of a script that gives so many numbers, as `_run`."""
        answer, asked = await self._run(script, *arguments)
        return self._numbers(answer, count), asked

    def _numbers(self, words: list[str], count: int) -> list[float]:
        try:
            figures = [float(word) for word in words]
        except ValueError:
            figures = []
        if len(figures) != count or not all(abs(figure) < _MOST for figure in figures):
            text = f"{count} numbers were asked for, not {words!r:.100}"
            raise ConfigurationError(f"{self} does not speak like Redis ({text})")
        return figures

    async def _run(self, script: str, *arguments: str | float) -> tuple[list[str], float]:
        """The answer of a script, and `time.monotonic` before the question.

        Raises:
            OSError: Redis cannot be reached at the moment, or cannot do it now.
            ConfigurationError: It can, and will never do this.
        """
        client = self._client()
        problem = None
        try:
            async with asyncio.timeout(TIMEOUT), _heeding_cancellation():
                asked = time.monotonic()
                try:
                    answer = await client.evalsha(_hash(script), 1, self.key, *arguments)
                except failures.NoScriptError:
                    # The first time, and after a restart. What is run so is known from then on.
                    asked = time.monotonic()
                    answer = await client.eval(script, 1, self.key, *arguments)
                return [_text(word) for word in answer], asked
        except TimeoutError:
            problem = TimeoutError(f"{self} did not answer within {TIMEOUT:g} s")
        except (failures.RedisError, OSError, ssl.SSLError) as error:
            problem = self._problem(error)
        except Exception as error:
            # The library trusts what it reads: by odd answers it fails in ways of its own.
            text = f"{type(error).__name__}: {error}"
            problem = ConfigurationError(f"{self} does not speak like Redis ({text})")
        # Without the library's own, whose parts nobody here knows.
        raise problem

    def _problem(self, error: Exception) -> OSError | ConfigurationError:
        """The error to raise instead, which tells whether to ask again."""
        text = f"{type(error).__name__}: {error}"
        causes = tuple(_causes(error))
        if isinstance(error, _WRONG_KEY):
            return ConfigurationError(
                f"{self} refuses the user or the password of the URL, or what the scripts need: "
                f"grant EVAL, EVALSHA, TIME, HGETALL, HSET and EXPIRE on its key ({text})"
            )
        if any(isinstance(one, ssl.SSLCertVerificationError) for one in causes):
            return ConfigurationError(
                f"{self} has a certificate that is not trusted: name its authority by "
                f"ssl_ca_certs= in the URL's query ({text})"
            )
        if any(isinstance(one, FileNotFoundError) for one in causes) and "unix" not in self._shown:
            return ConfigurationError(f"{self} names a file that is not there ({text})")
        if isinstance(error, failures.TimeoutError):
            return TimeoutError(f"{self} did not answer in time ({text})")
        passing = isinstance(error, _PASSING) or str(error).startswith(_PASSING_WORDS)
        if isinstance(error, failures.ConnectionError | OSError) or passing:
            return ConnectionError(
                f"{self} cannot be reached at the moment, or cannot do it now ({text})"
            )
        return ConfigurationError(f"{self} cannot keep a share of limits ({text})")

    def _client(self) -> _Client:
        """The connections of the running loop."""
        clients, loop = self._of_this_process(), asyncio.get_running_loop()
        client = clients.get(loop)
        if client is None:
            client = clients[loop] = self._new_client()
            _in_use.add(self)
        return client

    def _new_client(self) -> _Client:
        problem = ""
        try:
            # The options of the URL's query come before these. Nobody asks again but the limits.
            from_url = cast("Callable[..., _Client]", Redis.from_url)  # pyright: ignore[reportUnknownMemberType]
            client = from_url(
                self._url, protocol=2, retry=Retry(NoBackoff(), 0),
                # With one of its own the library sends by `asyncio.wait_for`, which loses a
                # cancellation before Python 3.12; `_run` has a clock around it all.
                socket_timeout=None, socket_connect_timeout=TIMEOUT,
            )  # fmt: skip
            client.connection_pool.make_connection()
            return client
        except failures.RedisError as error:
            problem = str(error)
        except (TypeError, ValueError) as error:
            # Of a value that is wrong the text may hold it.
            problem = "an option of its query is none, or its value has another form"
            if isinstance(error, TypeError) and "keyword argument" in str(error):
                problem = str(error).rpartition("() ")[2]
        raise ConfigurationError(f"{self._shown!r} is no URL that redis-py takes: {problem}")

    def _of_this_process(self) -> WeakKeyDictionary[asyncio.AbstractEventLoop, _Client]:
        if self._pid != os.getpid():
            self.leave_to_parent()
        return self._clients

    def leave_to_parent(self) -> None:
        """Keep what a fork brought along untouched: to close it would end the parent's wait."""
        _of_parents.extend(self._clients.values())
        self._clients = WeakKeyDictionary()
        self._pid = os.getpid()


_in_use: WeakSet[RedisShare] = WeakSet()
_of_parents: list[Any] = []


@asynccontextmanager
async def _heeding_cancellation() -> AsyncGenerator[None]:
    """Around what may lose a cancellation of its task: then it is raised at the end."""
    task = asyncio.current_task()
    assert task is not None
    before = task.cancelling()
    try:
        yield
    finally:
        if task.cancelling() > before:
            raise asyncio.CancelledError


def _in_child() -> None:
    for share in list(_in_use):
        share.leave_to_parent()


# There is no fork on Windows.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


def _share(url: str, name: str) -> RedisShare:
    return RedisShare(url, name=name)


def _hash(script: str) -> str:
    if script not in _HASHES:
        # The name that Redis gives it, no secret.
        _HASHES[script] = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
    return _HASHES[script]


def _text(word: str | bytes) -> str:
    return word if isinstance(word, str) else word.decode()


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _checked_url(url: str) -> str:
    """``url`` as texts show it: without user, password and query.

    Raises:
        ConfigurationError: It is none.
    """
    wanted = "redis://host:6379/0, rediss://host:6380/0 or unix:///path/to/redis.sock"
    if not isinstance(url, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"url must be a string such as {wanted}, not {type(url).__name__}")
    try:
        parts = urlsplit(url)
        path, is_socket = parts.path, parts.scheme == "unix"
        # To read the port raises where it is none.
        host = parts.port is not None or parts.hostname
    except ValueError:
        # Its text may quote a password.
        path, is_socket, host, parts = "", False, False, urlsplit("")
    if parts.scheme not in _SCHEMES or not (path if is_socket else host):
        raise ConfigurationError(f"the URL of a RedisShare must look like {wanted}")
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path}"
    database = path.strip("/")
    if not is_socket and database and not database.isdecimal():
        raise ConfigurationError(f"{shown!r} names no database: its path is a number, such as /0")
    return shown
