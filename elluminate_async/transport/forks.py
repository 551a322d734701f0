"""A fork: what is connected stays the parent's, and its child is told so.

A child inherits the parent's sockets, and with them its sessions of TLS and its selector. To close
one there in the ordinary way, be it by `close` or as garbage, would end the connection for the
parent too, or take it out of the selector that both have: the parent would wait without end.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class ParentsOwn(Protocol):
    """A holder of connections."""

    def leave_to_parent(self) -> None:
        """Let go of them, in a child, without a word to anybody."""


_connected: WeakSet[ParentsOwn] = WeakSet()


def left_to_parent_on_fork(one: ParentsOwn) -> None:
    """Have ``one`` told in each process that is forked from here on."""
    _connected.add(one)


def let_go_of(descriptor: int) -> None:
    """Have ``descriptor`` stand for nothing, so that the parent's own end is one for the peer.

    Who has it may close it yet: its number is not given to another file before.
    """
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.dup2(nothing, descriptor, inheritable=False)
    finally:
        os.close(nothing)


def _in_child() -> None:
    while _connected:
        _connected.pop().leave_to_parent()


# There is no fork on Windows.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
