"""`RayShare`: one limit for the workers of a Ray cluster, kept by an actor."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from elluminate_async.batch.share import Reservation, SharedPace, ShareState, Slots, checked_name
from elluminate_async.batch.share_clock import ShareClock
from elluminate_async.batch.share_table import ShareTable
from elluminate_async.errors import ConfigurationError, MissingExtraError

try:
    import ray
    from ray import exceptions as failures
except ImportError as _error:
    raise MissingExtraError("a limit shared by Ray", "ray") from _error

TIMEOUT: Final = 2.0
"""Seconds for one question; what is late by more than that is void."""

NAMESPACE: Final = "elluminate-async"
"""Of the actors."""

_START_TIMEOUT = 60.0  # seconds, as a worker's process may have to start first


class SharedTable:
    """The actor: a `ShareTable`, by the clock of the process that has it.

    One that died starts anew, elsewhere perhaps, and knows nothing: the guard of each limit is
    what keeps it then.
    """

    def __init__(self) -> None:
        self._table = ShareTable()

    # None waits for anything, so that each is done at once; as coroutines they need no threads.

    async def reserve(
        self, wanted: Sequence[Slots], earliest: float, latest: float
    ) -> tuple[bool, float, float, float]:
        """Whether slots were taken, the delay, the hold and the clock."""
        now = time.monotonic()
        is_taken, delay, hold = self._table.reserve(now, wanted, earliest=earliest, latest=latest)
        return is_taken, delay, hold, now

    async def hold(self, seconds: float) -> None:
        """Begin a hold."""
        self._table.hold(time.monotonic(), seconds)

    async def held(self) -> float:
        """Seconds left of it."""
        return self._table.hold_left(time.monotonic())

    async def pace(self, accepted: int, refused: float | None) -> tuple[float, ...]:
        """The fields of `SharedPace`."""
        return tuple(self._table.pace(time.monotonic(), accepted, refused))

    async def state(self) -> tuple[dict[str, float], tuple[float, ...]]:
        """Seconds that are given away of each limit, and the fields of `SharedPace`."""
        now = time.monotonic()
        slots = {limit: end - now for limit, end in self._table.ends.items()}
        return slots, tuple(self._table.pace(now))


_actors: dict[tuple[str, str, str], Any] = {}
"""Those that this process has found, by node, job and name."""

_clocks: defaultdict[tuple[str, str, str], ShareClock] = defaultdict(ShareClock)
"""Theirs."""


@dataclass(frozen=True, slots=True)
class RayShare:
    """A share of limits that an actor keeps, for all workers and drivers of a Ray cluster.

    Give it to `BatchOptions(share=...)` with ``rate_limit`` or ``item_limit``: whoever has the
    same ``name`` in the same cluster keeps these limits together. The actor is made when it is
    first needed. It takes no CPU of the cluster's, outlives the job that made it (it is
    detached), and is started anew wherever it dies, with a second in which nothing is given away.
    ``ray.kill(ray.get_actor(share.actor_name, namespace="elluminate-async"))`` ends it.

    Attributes:
        name: Of the limits: that of the API key that they are for, or of the service.

    Raises:
        ConfigurationError: The name is empty.
    """

    name: str

    def __post_init__(self) -> None:
        checked_name(self.name)

    @property
    def actor_name(self) -> str:
        """The name of the actor, in the namespace ``elluminate-async``."""
        return f"share:{self.name}"

    async def reserve(
        self, wanted: Sequence[Slots], *, earliest: float, latest: float
    ) -> Reservation:
        """Take slots, see `LimitShare.reserve`."""
        actor = await self._actor()
        asked = time.monotonic()
        answer = await self._answer(actor.reserve.remote([*wanted], earliest, latest))
        answered = time.monotonic()
        is_taken, delay, hold, now = answer
        moment = _clocks[self._place()].moment(now, asked=asked, answered=answered)
        return moment.reservation(is_taken, delay, hold)

    async def hold(self, seconds: float) -> None:
        """Give no slots away for so long; a longer hold in force stays."""
        await self._answer((await self._actor()).hold.remote(seconds))

    async def held(self) -> float:
        """Seconds left of a hold; 0 for none."""
        return await self._answer((await self._actor()).held.remote())

    async def pace(self, *, accepted: int = 0, refused: float | None = None) -> SharedPace:
        """Tell what the service did, and learn the pace of all, see `LimitShare.pace`."""
        answer = await self._answer((await self._actor()).pace.remote(accepted, refused))
        return SharedPace(*answer)

    async def state(self) -> ShareState:
        """The state now; nothing is changed by it, and no actor made."""
        actor = await self._actor(make=False)
        asked = time.monotonic()
        slots: dict[str, float] = {}
        pace = SharedPace(0.0, 0.0, 0.0, 0.0)
        if actor is not None:
            slots, told = await self._answer(actor.state.remote())
            pace = SharedPace(*told)
        return ShareState(time.monotonic() - asked, slots, pace.hold, pace)

    async def aclose(self) -> None:
        """Do nothing: a connection to the cluster is Ray's own."""

    async def _actor(self, *, make: bool = True) -> Any:
        """The actor, which is looked up once in a process; None where it is not to be made.

        Raises:
            ConfigurationError: This process is in no cluster.
            OSError: The cluster has no answer.
        """
        if not ray.is_initialized():
            raise ConfigurationError(
                f"{self!r} needs a Ray cluster, and this process is in none: call ray.init() first"
            )
        if (actor := _actors.get(self._place())) is not None:
            return actor
        problem: Exception
        try:
            async with asyncio.timeout(_START_TIMEOUT):
                # Ray waits for an answer of the cluster here, and would hold up all of the loop.
                actor = await asyncio.to_thread(self._make if make else self._find)
                if actor is not None:
                    # Until it has started.
                    await actor.held.remote()
                    _actors[self._place()] = actor
                return actor
        except (failures.RayError, OSError, RuntimeError) as error:
            problem = self._problem(error)
        raise problem

    def _place(self) -> tuple[str, str, str]:
        # A program may leave a cluster for another: what it found there is not here.
        context = ray.get_runtime_context()
        return context.get_node_id(), context.get_job_id(), self.name

    def _make(self) -> Any:
        options = {
            "name": self.actor_name, "namespace": NAMESPACE, "get_if_exists": True,
            "lifetime": "detached", "max_restarts": -1, "num_cpus": 0,
        }  # fmt: skip
        actor: Any = ray.remote(SharedTable)
        return actor.options(**options).remote()

    def _find(self) -> Any:
        library: Any = ray
        try:
            return library.get_actor(self.actor_name, namespace=NAMESPACE)
        except ValueError:
            return None

    async def _answer(self, asked: Awaitable[Any]) -> Any:
        """The answer of the actor.

        Raises:
            OSError: It has none at the moment.
            ConfigurationError: It has, and will never do this.
        """
        problem: Exception
        try:
            async with asyncio.timeout(TIMEOUT):
                return await asked
        except (failures.RayError, OSError) as error:
            problem = self._problem(error)
        raise problem

    def _problem(self, error: Exception) -> OSError | ConfigurationError:
        """The error to raise instead, which tells whether to ask again."""
        if isinstance(error, TimeoutError):
            return TimeoutError(f"the actor of {self!r} did not answer in time")
        if isinstance(error, failures.RayTaskError):
            return ConfigurationError(
                f"the actor of {self!r} fails: this package, of this version, is to be installed "
                f"on all nodes ({error})"
            )
        # Where it has died for good another one is made.
        _actors.pop(self._place(), None)
        return ConnectionError(f"the actor of {self!r} is away ({type(error).__name__}: {error})")
