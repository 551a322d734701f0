"""The processes of one job, found by a mark in their environment: their memory, and their end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from pathlib import Path

MARK = "ELLUMINATE_RAY_JOB"
"""The variable whose value all processes of a job have."""

_OWN = re.compile(r"^Rss(?:Anon|File):\s+(\d+) kB$", re.M)


class Watch:
    """Sees the processes with this mark.

    Args:
        mark: The value of `MARK`.

    Attributes:
        actor_mb: The most that any actor was seen to have, the object store's pages left out.
        driver_mb: The same of the driver.
    """

    def __init__(self, mark: str) -> None:
        self.mark = mark
        self._needle = f"{MARK}={mark}".encode()
        self._marked: dict[int, bool] = {}
        self.actor_mb = 0
        self.driver_mb = 0

    def look(self, driver: int) -> list[int]:
        """Note what they have; the pids of the actors that work."""
        self.driver_mb = max(self.driver_mb, _memory(driver))
        actors = [pid for pid, command in self.processes() if command.startswith("ray::MapWorker")]
        self.actor_mb = max([self.actor_mb, *map(_memory, actors)])
        return actors

    def processes(self) -> list[tuple[int, str]]:
        """Pid and command of each that lives."""
        found: list[tuple[int, str]] = []
        for folder in Path("/proc").glob("[0-9]*"):
            pid = int(folder.name)
            try:
                if pid not in self._marked:
                    environment = (folder / "environ").read_bytes().split(b"\0")
                    self._marked[pid] = self._needle in environment
                if self._marked[pid]:
                    found.append((pid, (folder / "cmdline").read_text().replace("\0", " ")))
            except OSError:
                continue
        return found

    def end_all(self) -> None:
        """Kill what is left of a job that was killed."""
        for pid, _ in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _memory(pid: int) -> int:
    """MB that a process has, but for what it shares by the object store."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return sum(map(int, _OWN.findall(status))) // 1024
