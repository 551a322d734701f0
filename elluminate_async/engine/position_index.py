"""`PositionIndex`: what a journal has of each position, in 17 bytes.

Of a million positions no object is kept, only what tells them from each other: a hash of the
input, what became of it, and where in the file the record with the rest begins.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from typing import Final

NOTHING: Final = 0
"""A position without an outcome, which may be sent."""
SENT: Final = 1
"""A position that was sent, and whose outcome is not known."""
DONE: Final = 2
FAILED: Final = 3

_BITS = 10
_PAGE = 1 << _BITS  # positions; a lone one of a sparse call costs a page
_WITHIN = _PAGE - 1


class _Page:
    """Consecutive positions.

    Attributes:
        fingerprints: Hashes of their inputs; 0 for none. One that is 0 itself, as of 2**64 one
            is, counts as none.
        states: What became of them.
        offsets: Where the records that say so begin.
    """

    __slots__ = ("fingerprints", "offsets", "states")

    def __init__(self) -> None:
        self.fingerprints = array("Q", bytes(8 * _PAGE))
        self.offsets = array("Q", bytes(8 * _PAGE))
        self.states = bytearray(_PAGE)


class PositionIndex:
    """State, offset and fingerprint by position, in pages that are made when they are needed."""

    def __init__(self) -> None:
        self._pages: dict[int, _Page] = {}

    def state(self, position: int) -> int:
        """The state of a position."""
        page = self._pages.get(position >> _BITS)
        return NOTHING if page is None else page.states[position & _WITHIN]

    def offset(self, position: int) -> int:
        """Where the record that says so begins."""
        page = self._pages.get(position >> _BITS)
        return 0 if page is None else page.offsets[position & _WITHIN]

    def move(self, positions: Iterable[int], state: int, offset: int) -> list[int]:
        """Note what became of ``positions``; the offsets of those that were `SENT`."""
        were_sent: list[int] = []
        for position in positions:
            page, within = self._page(position), position & _WITHIN
            if page.states[within] == SENT:
                were_sent.append(page.offsets[within])
            page.states[within] = state
            page.offsets[within] = offset
        return were_sent

    def fingerprint(self, position: int) -> int:
        """The hash of a position's input; 0 where none is known."""
        page = self._pages.get(position >> _BITS)
        return 0 if page is None else page.fingerprints[position & _WITHIN]

    def note_fingerprint(self, position: int, fingerprint: int) -> None:
        """Note the hash of a position's input."""
        self._page(position).fingerprints[position & _WITHIN] = fingerprint

    def count(self, state: int) -> int:
        """How many positions are in a state other than `NOTHING`."""
        return sum(page.states.count(state) for page in self._pages.values())

    def positions(self, state: int) -> Iterator[int]:
        """The positions of a state, in ascending order."""
        for number in sorted(self._pages):
            for within, found in enumerate(self._pages[number].states):
                if found == state:
                    yield number << _BITS | within

    def known_from(self, first: int) -> list[int]:
        """The positions from ``first`` on that have an outcome or were sent, in order."""
        return [
            position
            for number in sorted(self._pages)
            if number >= first >> _BITS
            for within, state in enumerate(self._pages[number].states)
            if state != NOTHING and (position := number << _BITS | within) >= first
        ]

    def _page(self, position: int) -> _Page:
        number = position >> _BITS
        page = self._pages.get(number)
        if page is None:
            if number < 0:
                raise ValueError(f"no position: {position!r}")
            page = self._pages[number] = _Page()
        return page
