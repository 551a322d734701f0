"""What tests of programs on this client need: servers that fail as asked, and a clock.

Everything listens on loopback only, and needs no extra.
"""

from __future__ import annotations

from elluminate_async.testing.clock import VIRTUAL_TIME, VirtualLoop, run_virtually
from elluminate_async.testing.raw import Connection, RawServer, Received, Script, replies, reply

__all__ = [
    "VIRTUAL_TIME",
    "Connection",
    "RawServer",
    "Received",
    "Script",
    "VirtualLoop",
    "replies",
    "reply",
    "run_virtually",
]
