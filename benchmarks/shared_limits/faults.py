"""Faults in the middle of a run: each says that it happened, and what it saw of it."""

from __future__ import annotations

import asyncio
import math
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from benchmarks.common.children import Child
from benchmarks.shared_limits.shares import Backend, is_stopped, kill_actor


@dataclass
class Scene:
    """The things that a fault may act on.

    Attributes:
        seconds: How long what ends again lasts; a hold in whole ones.
    """

    server: Child
    workers: list[Child]
    backend: Backend
    seconds: float

    def redis_says(self, *words: str) -> str:
        """The answer of Redis."""
        assert self.backend.redis is not None
        return self.backend.redis.command(*words)


Fault: TypeAlias = Callable[[Scene], Awaitable[bool]]


async def killed(scene: Scene) -> bool:
    """``kill -9`` of a process."""
    process = scene.workers[-1].process
    process.kill()
    return await process.wait() == -signal.SIGKILL


async def stopped(scene: Scene) -> bool:
    """A process stands still."""
    process = scene.workers[-1].process
    process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(scene.seconds)
    did = is_stopped(process.pid)
    process.send_signal(signal.SIGCONT)
    return did


async def redis_away(scene: Scene) -> bool:
    """Redis is not there for a while, and comes back empty."""
    redis = scene.backend.redis
    assert redis is not None
    redis.stop()
    try:
        scene.redis_says("PING")
        did = False
    except ConnectionRefusedError:
        did = True
    await asyncio.sleep(scene.seconds)
    await asyncio.to_thread(redis.start)
    return did


async def redis_paused(scene: Scene) -> bool:
    """Redis answers nobody for a while, and then goes on."""
    redis = scene.backend.redis
    assert redis is not None
    redis.pause()
    await asyncio.sleep(scene.seconds)
    did = is_stopped(redis.pid)
    redis.go_on()
    return did


async def redis_flushed(scene: Scene) -> bool:
    """Redis forgets all keys."""
    script = "local had = redis.call('DBSIZE') redis.call('FLUSHALL') return had"
    return scene.redis_says("EVAL", script, "0") != ":0\r\n"


async def redis_restarted(scene: Scene) -> bool:
    """Redis is killed and begins anew at once, empty."""
    redis = scene.backend.redis
    assert redis is not None
    before = redis.pid
    redis.stop()
    await asyncio.to_thread(redis.start)
    return redis.pid != before


async def actor_killed(scene: Scene) -> bool:
    """``kill -9`` of the actor."""
    before, after = await asyncio.to_thread(kill_actor)
    return before > 0 and after > 0


async def held(scene: Scene) -> bool:
    """One request is refused, with a ``Retry-After``."""
    await scene.server.ask(refuse=1, hold=math.ceil(scene.seconds))
    for _ in range(200):
        await asyncio.sleep(0.02)
        found: dict[str, Any] = await scene.server.ask()
        if found["refused"]:
            return True
    return False


@dataclass(frozen=True)
class Kind:
    """One kind of fault.

    Attributes:
        name: In the table.
        happen: Makes it happen, and says whether it did.
        seconds: How long it lasts at most, where it ends again.
    """

    name: str
    happen: Fault
    seconds: float = 0.0


OF_PROCESSES = [
    Kind("a process killed", killed),
    Kind("a process stopped", stopped, 3.0),
    Kind("a shared hold", held, 2.0),
]
OF_BACKENDS = {
    "redis": [
        Kind("Redis away", redis_away, 5.0),
        Kind("Redis paused", redis_paused, 5.0),
        Kind("Redis flushed", redis_flushed),
        Kind("Redis restarted empty", redis_restarted),
    ],
    "file": [],
    "ray": [Kind("the actor killed", actor_killed, 4.0)],  # another one takes three
}
