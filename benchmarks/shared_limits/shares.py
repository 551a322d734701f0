"""The shares of the processes: Redis, a file or an actor of Ray, and what can happen to each."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.common import ray_cluster
from benchmarks.common.redis_server import FOUND, RedisServer

_names = count(1)


@dataclass
class Backend:
    """A kind of share.

    Attributes:
        kind: ``"redis"``, ``"file"`` or ``"ray"``.
        spec: By which a process makes its own, but for the name.
        redis: The server, where it is Redis.
        environment: Variables that its processes need.
    """

    kind: str
    spec: dict[str, Any] = field(default_factory=dict[str, Any])
    redis: RedisServer | None = None
    environment: dict[str, str] = field(default_factory=dict[str, str])

    def fresh(self) -> dict[str, Any]:
        """One that nobody has used; what kept the one before is gone."""
        if self.kind == "ray":
            end_actors()
        return {"kind": self.kind, "name": f"run {next(_names)}", **self.spec}


@contextmanager
def of_redis() -> Generator[Backend]:
    """Debian's Redis, on loopback."""
    with RedisServer() as redis:
        yield Backend("redis", {"url": redis.url}, redis)


@contextmanager
def of_file() -> Generator[Backend]:
    """A file in a directory that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        yield Backend("file", {"path": str(Path(folder) / "limits")})


@contextmanager
def of_ray() -> Generator[Backend]:
    """A cluster of Ray, whose drivers the processes are."""
    with tempfile.TemporaryDirectory() as folder:
        # Who is to be a driver of it has its token.
        path = Path(folder) / "token"
        path.write_text(secrets.token_hex())
        path.chmod(0o600)
        environment = {
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(path),
        }
        os.environ.update(environment)
        ray = ray_cluster.begin(folder)
        try:
            address = ray.get_runtime_context().gcs_address
            yield Backend("ray", {"cluster": address}, environment=environment)
        finally:
            ray.shutdown()


BACKENDS = {"redis": of_redis, "file": of_file, "ray": of_ray}


def available(kind: str) -> bool:
    """Whether it is installed here."""
    return kind != "redis" or FOUND is not None


def end_actors() -> None:
    """End the actors of earlier runs: killed together, they would start anew together."""
    ray: Any = import_module("ray")
    for one in ray.util.list_named_actors(all_namespaces=True):
        ray.kill(ray.get_actor(**one))


def kill_actor() -> tuple[int, int]:
    """Kill the processes of the actors, and wait until others have taken their place.

    Returns:
        How many were killed, and how many there are instead.
    """
    before = _actor_pids()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    until = time.monotonic() + 30
    while not (after := _actor_pids() - before) and time.monotonic() < until:
        time.sleep(0.05)
    return len(before), len(after)


def _actor_pids() -> set[int]:
    # Of this program's own cluster only: Ray's processes are its children.
    psutil: Any = import_module("psutil")
    found: set[int] = set()
    for one in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            # With the method after it, while it does one.
            if "".join(one.cmdline()[:1]).startswith("ray::SharedTable"):
                found.add(one.pid)
    return found


def is_stopped(pid: int) -> bool:
    """Whether a process was stopped by a signal."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "T"
