"""A pseudo-terminal as standard error, and what is to be seen on it."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import IO

import pytest

_CONTROL = re.compile(r"\x1b\[(\?25[lh]|[0-9;]*[A-Za-z])|\r\n|\r|\n|[^\x1b\r\n]+")


class Screen:
    """The lines of a terminal that is wide enough, with those that scrolled away."""

    def __init__(self) -> None:
        self.lines = [""]
        self.has_cursor = True
        self._row = self._column = 0

    def feed(self, text: str) -> None:
        """Do what ``text`` says; it knows what rich writes, and no more."""
        for match in _CONTROL.finditer(text):
            piece, control = match[0], match[1]
            if control is None:
                self._put(piece)
            elif control in ("?25l", "?25h"):
                self.has_cursor = control == "?25h"
            elif control.endswith("A"):
                self._row -= int(control[:-1] or 1)
            elif control == "2K":
                self.lines[self._row] = ""
            else:
                assert control.endswith("m"), control

    def _put(self, piece: str) -> None:
        if piece in ("\r", "\r\n"):
            self._column = 0
        if piece in ("\n", "\r\n"):
            self._row += 1
            self.lines += [""] * (self._row + 1 - len(self.lines))
        if piece[0] in "\r\n":
            return
        line = self.lines[self._row].ljust(self._column)
        end = self._column + len(piece)
        self.lines[self._row] = line[: self._column] + piece + line[end:]
        self._column = end


class Terminal:
    """A pseudo-terminal that somebody looks at."""

    def __init__(self, ours: int, its: IO[str]) -> None:
        self.file = its
        self.raw = b""
        self._ours = ours
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                piece = os.read(self._ours, 65_536)
            except OSError:  # the end of a terminal on Linux
                return
            if not piece:
                return
            with self._news:
                self.raw += piece
                self._news.notify_all()

    async def shows(self, text: str) -> None:
        """Wait until it has shown ``text``."""
        await asyncio.to_thread(self._wait_for, text)

    def _wait_for(self, text: str) -> None:
        with self._news:
            came = self._news.wait_for(lambda: text in self.raw.decode(errors="ignore"), 30)
        assert came, f"{text!r} is not in ...{self.raw[-500:]!r}"

    def close(self) -> Screen:
        """What is on it at last."""
        self.file.close()
        self._reader.join()
        screen = Screen()
        screen.feed(self.raw.decode())
        return screen


@contextmanager
def terminal(
    monkeypatch: pytest.MonkeyPatch, encoding: str = "utf-8", errors: str = "strict"
) -> Generator[Terminal]:
    """Standard error of this process as a terminal, until it is closed."""
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    # Colours would come amid the text.
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    ours, its = pty.openpty()
    file = open(its, "w", encoding=encoding, errors=errors)  # noqa: SIM115 - until it is closed
    one = Terminal(ours, file)
    monkeypatch.setattr(sys, "stderr", file)
    try:
        yield one
    finally:
        one.close()
        os.close(ours)
