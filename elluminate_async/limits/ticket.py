"""The place of an admitted request."""

from __future__ import annotations

from typing import NamedTuple


class Ticket(NamedTuple):
    """The place of an admitted request.

    Attributes:
        service: Among all requests.
        chunk: Among those that send a chunk; None for another.
    """

    service: int
    chunk: int | None = None
