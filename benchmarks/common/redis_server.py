"""Debian's redis-server as a child process: on loopback, at a random port, without a disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

FOUND = shutil.which("redis-server")
"""Where it is installed; None where it is not."""

_TRIES = 5
_PATIENCE = 20.0  # seconds, on a busy machine
# Its end is that of its input, which is this program's end too, however that comes.
_KEEPER = (
    'redis-server "$@" & pid=$!; echo $pid; read -r _; kill -CONT $pid; kill -KILL $pid; wait $pid'
)


class RedisServer:
    """A Redis of one's own, which keeps nothing and ends with this process.

    Args:
        arguments: More options of ``redis-server``, such as ``["--requirepass", "x"]``.

    Attributes:
        port: Where it listens, on 127.0.0.1; the same after a restart.
        pid: Of its process.
    """

    def __init__(self, arguments: Sequence[str] = ()) -> None:
        self.port = 0
        self._arguments = [*arguments]
        self._keeper: subprocess.Popen[str] | None = None
        self.pid = 0
        self._folder = tempfile.TemporaryDirectory(prefix="redis-")

    @property
    def url(self) -> str:
        """Its address, without credentials."""
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> Self:
        for _ in range(_TRIES):
            # The port may be another's by the time it is listened at.
            self.port = _free_port()
            if self._try_start():
                return self
        raise RuntimeError("redis-server did not start")

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        self._folder.cleanup()

    def start(self) -> None:
        """Start it, with no data, where it was.

        Raises:
            RuntimeError: It did not start.
        """
        if not self._try_start():
            raise RuntimeError("redis-server did not start again")

    def stop(self) -> None:
        """Kill it, and lose what it had."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.communicate("\n")

    def pause(self) -> None:
        """Leave it connected, and without an answer."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """End a pause."""
        os.kill(self.pid, signal.SIGCONT)

    def command(self, *words: str) -> str:
        """What it says to a command, in its own protocol's words.

        Raises:
            OSError: It does not answer.
        """
        with socket.create_connection(("127.0.0.1", self.port), timeout=_PATIENCE) as connected:
            parts = "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
            connected.sendall(f"*{len(words)}\r\n{parts}".encode())
            return connected.recv(1 << 16).decode()

    def _try_start(self) -> bool:
        options = {
            "--bind": "127.0.0.1", "--port": str(self.port), "--dir": self._folder.name,
            "--save": "", "--appendonly": "no", "--daemonize": "no", "--logfile": "redis.log",
        }  # fmt: skip
        words = [word for option in options.items() for word in option]
        self._keeper = subprocess.Popen(
            ["sh", "-c", _KEEPER, "redis", *words, *self._arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert self._keeper.stdout is not None
        self.pid = int(self._keeper.stdout.readline())
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                if self._listens():
                    return True
            if not _runs(self.pid):
                break
            time.sleep(0.01)
        self.stop()
        return False

    def _listens(self) -> bool:
        # Whether it wants a password or not, it says who it is.
        return self.command("PING").startswith(("+PONG", "-NOAUTH"))


def _runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port
