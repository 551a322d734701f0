"""The keys that open a server, and the projects that each opens."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import secrets
import time
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from elluminate_async.server.store import keys

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from elluminate_async.server.store.database import Database

_LOG = logging.getLogger(__name__)

FRESH_SECONDS = 1.0
"""After so long a change by another process counts for the next request."""


def new_key() -> str:
    """A key of 256 random bits."""
    return f"local-{secrets.token_urlsafe(32)}"


def hash_of(key: str) -> str:
    """The SHA-256 of a key, which is all that is kept of it."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


class KeyRing:
    """The keys that open this server, known by their SHA-256 only.

    Keys are added and revoked on the command line too, while the server runs: what is
    stored is read again before a request, at most once in `FRESH_SECONDS`.

    Attributes:
        project_ids: All projects there are.
        clock: Seconds that only grow.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.clock = time.monotonic
        self._passing: set[str] = set()
        self._stored: dict[str, int | None] = {}
        self._begun = self._applied = 0
        self._fresh_until = 0.0
        self._reading: asyncio.Task[None] | None = None
        self.project_ids: set[int] = set()

    @property
    def has_stored_keys(self) -> bool:
        """Whether there is a key that outlives the server."""
        return bool(self._stored)

    async def load(self) -> None:
        """Read the stored keys and the projects."""
        self._begun += 1
        mine = self._begun
        stored, projects = await self._database.read(_load)
        self.project_ids.update(projects)  # none is ever deleted
        if mine > self._applied:  # one that began later may have overtaken it
            self._applied, self._stored = mine, stored
        self._fresh_until = self.clock() + FRESH_SECONDS

    async def refresh(self) -> None:
        """Read them again where it is time to; those who come meanwhile wait for the same."""
        if self.clock() < self._fresh_until:
            return
        if self._reading is None:
            self._reading = asyncio.create_task(self._reload())
        await asyncio.shield(self._reading)

    def accept(self, key: str) -> None:
        """Let a key open all projects until the server ends."""
        self._passing.add(hash_of(key))

    async def store(self, key: str) -> None:
        """Let a key open all projects from now on, also after a restart, until it is revoked."""
        digest = hash_of(key)
        await self._database.write(keys.add, digest, None)
        await self.load()
        self._passing.discard(digest)

    def projects_of(self, key: str) -> frozenset[int]:
        """The projects that a key opens; none for an unknown key.

        The time this takes tells nothing of how much of a key was right.
        """
        given = hash_of(key)
        opened: set[int] = set()
        for known in self._passing:
            if hmac.compare_digest(known, given):
                opened.update(self.project_ids)
        for known, project_id in self._stored.items():
            if hmac.compare_digest(known, given):
                opened.update(self.project_ids if project_id is None else (project_id,))
        return frozenset(opened)

    async def _reload(self) -> None:
        try:
            await self.load()
        except SQLAlchemyError as error:
            # The known ones go on being valid: a busy disk is not a reason to shut all out.
            _LOG.warning("the keys could not be read again: %s", error)
            self._fresh_until = self.clock() + FRESH_SECONDS
        finally:
            self._reading = None


def _load(connection: Connection) -> tuple[dict[str, int | None], set[int]]:
    return keys.load(connection), keys.project_ids(connection)
