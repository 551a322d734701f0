"""The parts of a running server, opened and closed in order."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from elluminate_async.errors import ConfigurationError
from elluminate_async.server.answers import LargeAnswers
from elluminate_async.server.expiry import Expiry
from elluminate_async.server.idempotency import InFlight
from elluminate_async.server.jobs import Jobs
from elluminate_async.server.keyring import KeyRing
from elluminate_async.server.llms.endpoints import Endpoints
from elluminate_async.server.llms.pool import ModelPool
from elluminate_async.server.log_cursors import LogCursors
from elluminate_async.server.store import llm_configs, projects, sealing
from elluminate_async.server.store.database import Database
from elluminate_async.server.store.in_flight import Calls
from elluminate_async.server.store.trouble import TroubleError
from elluminate_async.server.vault import Vault

if TYPE_CHECKING:
    from elluminate_async.server.llms.addresses import Reach
    from elluminate_async.server.llms.base import Model
    from elluminate_async.server.profile import WireProfile


class Service:
    """Database, keys, models and jobs of one server.

    Attributes:
        calls: Single calls of models in flight, and what they refer to.
        in_flight: Idempotent requests being worked on.
        large_answers: Where those of many megabytes take their turn.
        log_cursors: Who was told how much of which log.
    """

    def __init__(
        self,
        path: Path,
        *,
        durable: bool,
        model: Model,
        judge: Model,
        max_model_calls: int,
        profile: WireProfile,
        reach: Reach,
    ) -> None:
        self.profile = profile
        self.database = Database(path, durable=durable)
        # A private database is gone with its server, and so are the keys in it.
        self.vault = Vault(_key_file(path) if durable else None)
        endpoints = Endpoints(reach, self.vault)
        self.models = ModelPool(model, judge, max_calls=max_model_calls, endpoints=endpoints)
        self.jobs = Jobs(self.database, self.models)
        self.expiry = Expiry(self.database)
        self.keys = KeyRing(self.database)
        self.large_answers = LargeAnswers()
        self.log_cursors = LogCursors()
        self.calls = Calls()
        self.in_flight: dict[tuple[int, str, str], InFlight] = {}

    async def open(self) -> None:
        """Take the database and take up unfinished jobs."""
        await self.database.open()
        try:
            name = self.models.default.name
            await self.database.write(projects.ensure_first, name)
            await sealing.seal_stored(self.database, self.vault)
            await self.keys.load()
            for url in await self.database.read(llm_configs.endpoints):
                self.models.expect(url)
            await self.jobs.resume()
            self.expiry.start()
        except TroubleError as trouble:
            await self.close()
            raise ConfigurationError(f"{self.database.path}: {trouble.detail}") from None
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Stop the jobs, then give everything back."""
        await self.expiry.close()
        await self.jobs.close()
        await self.models.aclose()
        await self.database.close()


def _key_file(database: Path) -> Path:
    """Beside the file itself, by whatever name it is opened."""
    real = Path(os.path.realpath(database))
    return real.with_name(f"{real.name}.key")
