"""`Resource`: the base of the nouns."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from elluminate_async.operations.connection import Connection


class Resource:
    """One noun of the service."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
