"""The service that a command speaks to: the embedded server by itself, or one at an address."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from elluminate_async import AsyncClient, BatchOptions, ConfigurationError, InputError
from elluminate_async.cli.database import DEFAULT
from elluminate_async.cli.models import OFFLINE, model_named
from elluminate_async.config import BASE_URL_VARIABLE

if TYPE_CHECKING:
    from elluminate_async.server import LocalServer, Model

HOME = DEFAULT.parent
"""Where the embedded server's database and the runs are."""


class Where(BaseModel):
    """Which service, and which models are behind it. Holds no keys.

    Attributes:
        base_url: None for the embedded server, or with ``hosted`` for the hosted service.
        db: The embedded server's database.
        llm_model: That of the embedded server.
        judge_model: None for the same one.
    """

    model_config = ConfigDict(frozen=True)

    base_url: str | None = None
    hosted: bool = False
    project: str | None = None
    db: str = str(DEFAULT)
    llm_base_url: str | None = None
    llm_model: str = OFFLINE
    judge_base_url: str | None = None
    judge_model: str | None = None

    @property
    def is_embedded(self) -> bool:
        """Whether the command starts the server itself."""
        return self.base_url is None and not self.hosted

    def changed_by(self, other: Where) -> Where:
        """This one with what ``other`` says; the stand-in has no address."""
        changes = other.model_dump(exclude_defaults=True)
        if other.judge_model == OFFLINE:
            changes["judge_base_url"] = None
        return self.model_copy(update=changes)

    @property
    def has_offline_model(self) -> bool:
        """Whether a stand-in answers where no other model is named."""
        return self.is_embedded and self.llm_model == OFFLINE

    @property
    def has_offline_judge(self) -> bool:
        """Whether a stand-in judges, whose verdicts mean nothing."""
        return self.is_embedded and (self.judge_model or self.llm_model) == OFFLINE


@dataclass(frozen=True, slots=True)
class OpenService:
    """A client of the service.

    Attributes:
        server: The embedded server, where the command started it.
        told: In words.
    """

    client: AsyncClient
    server: LocalServer | None
    told: str


def make_home() -> None:
    """Make the folder, which no version control is to take.

    Raises:
        InputError: It cannot be made.
    """
    try:
        HOME.mkdir(exist_ok=True)
        ignored = HOME / ".gitignore"
        if not ignored.exists():
            ignored.write_text("*\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot make {HOME}: {error.strerror or error}") from None


def of_environment(where: Where) -> Where:
    """``where``, at the address of the environment if no option tells one."""
    if where.hosted or where.base_url is not None:
        return where
    return where.model_copy(update={"base_url": os.environ.get(BASE_URL_VARIABLE) or None})


def checked_where(where: Where) -> Where:
    """``where`` as it is.

    Raises:
        ConfigurationError: The options do not go together.
    """
    if where.hosted and where.base_url:
        raise ConfigurationError("give --hosted or --base-url, not both")
    own = (where.llm_base_url, where.judge_base_url, where.judge_model)
    if not where.is_embedded and (any(own) or where.llm_model != OFFLINE):
        raise ConfigurationError(
            "--llm-... and --judge-... are for the embedded server; a service elsewhere has its "
            "own models, see --model. To use the embedded one leave out --base-url and --hosted, "
            f"and unset {BASE_URL_VARIABLE}"
        )
    if where.judge_base_url and where.judge_model is None:
        raise ConfigurationError("--judge-base-url needs --judge-model as well")
    return where


@asynccontextmanager
async def opened(where: Where, options: BatchOptions) -> AsyncGenerator[OpenService]:
    """The service, started where it is the embedded one, and a client of it."""
    async with AsyncExitStack() as stack:
        server = await _embedded(stack, where) if where.is_embedded else None
        client = AsyncClient(
            base_url=where.base_url if server is None else server.url,
            api_key=None if server is None else server.api_key,
            project=where.project,
            options=options,
        )
        await stack.enter_async_context(client)
        told = client.base_url
        if server is not None:
            told = f"embedded, at {server.url}, database {where.db}"
        yield OpenService(client, server, told)


async def _embedded(stack: AsyncExitStack, where: Where) -> LocalServer:
    # Here, as `--help` needs neither the extra nor its time to import.
    from elluminate_async.server import LocalServer, WireProfile

    make_home()
    model = _model(stack, where.llm_model, where.llm_base_url)
    judge = None
    if where.judge_model is not None:
        judge = _model(stack, where.judge_model, where.judge_base_url)
    # It ends with the command, and waits for the answers in flight then: none is to be abandoned.
    profile = WireProfile(cancellation=False)
    server = LocalServer(db=where.db, model=model, judge=judge, profile=profile)
    return await stack.enter_async_context(server)


def _model(stack: AsyncExitStack, name: str, base_url: str | None) -> Model:
    model = model_named(name, base_url)
    stack.push_async_callback(model.aclose)
    return model
