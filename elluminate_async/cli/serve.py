"""``elluminate-async serve``: the embedded server as a program."""

from __future__ import annotations

import asyncio
import gc
import shlex
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from elluminate_async import ConfigurationError
from elluminate_async.cli.database import DEFAULT
from elluminate_async.cli.models import OFFLINE, model_named
from elluminate_async.cli.server_key import VARIABLE, given_key

if TYPE_CHECKING:
    from elluminate_async.server import LocalServer, Model

_COLLECT_AFTER = 20_000


def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on; beyond this machine only with a given key.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8000,
    db: Annotated[
        Path,
        typer.Option(
            "--db",
            "--database",
            help="Database file; made if missing. One server at a time has it. Keys of model "
            "configurations are encrypted under FILE.key beside it.",
        ),
    ] = DEFAULT,
    api_key: Annotated[
        str | None,
        typer.Option(
            help="A key that clients may use, from now on; process lists show it here: give it by "
            f"--api-key-file or {VARIABLE}. Without one, the first start makes a key and shows it "
            "once. Only hashes are stored: for a lost key add another, by elluminate-async keys "
            "add --database FILE.",
        ),
    ] = None,
    api_key_file: Annotated[
        Path | None, typer.Option(help="The same, from a file that holds nothing else.")
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            help="'offline' is a stand-in without network that says so in every answer; any other "
            "name is a model behind an OpenAI-compatible endpoint.",
        ),
    ] = OFFLINE,
    llm_base_url: Annotated[
        str | None,
        typer.Option(
            help="That endpoint, e.g. http://localhost:11434/v1; OpenAI's own without it. Its key "
            "is read from LLM_API_KEY or OPENAI_API_KEY.",
        ),
    ] = None,
    max_model_calls: Annotated[
        int, typer.Option(min=1, help="Calls of the model in flight, over all clients.")
    ] = 64,
    allow_private_endpoints: Annotated[
        bool,
        typer.Option(
            "--allow-private-endpoints",
            help="Let model configurations, which clients make, name endpoints in private networks "
            "and on this machine. On this machine they may anyway when --host is loopback.",
        ),
    ] = False,
) -> None:
    """Serve the Elluminate API on this machine, until SIGINT or SIGTERM."""
    # Here, as the other commands do not need the extra, nor its time to import.
    from elluminate_async.server import LocalServer

    key = given_key(api_key, api_key_file)
    answering = model_named(model, llm_base_url)
    server = LocalServer(
        db=db,
        model=answering,
        host=host,
        port=port,
        api_key=key,
        max_model_calls=max_model_calls,
        allow_private_endpoints=allow_private_endpoints,
    )
    try:
        asyncio.run(_serve(server, answering, own_key=key))
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {host}:{port}: {error.strerror}") from None


async def _serve(server: LocalServer, model: Model, *, own_key: str | None) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    try:
        async with server:
            _spare_collector()
            typer.echo(await _announce_key(server, own_key))
            # Flushed by echo: whoever starts this program waits for the line.
            typer.echo(f"Listening on {server.url}")
            await stopped.wait()
    finally:
        await model.aclose()


def _spare_collector() -> None:
    # What was imported stays to the end, and what a batch makes is freed by reference counts:
    # little is found by looking through both again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 20, 20)


async def _announce_key(server: LocalServer, own_key: str | None) -> str:
    if own_key is not None:
        await server.keys.store(own_key)
        return "API key: the one given"
    if server.keys.has_stored_keys:
        return (
            f"API key: the one made earlier for {server.db} is still valid; if it is lost: "
            f"elluminate-async keys add --database {shlex.quote(str(server.db))}"
        )
    await server.keys.store(server.api_key)
    return f"API key: {server.api_key} (shown once)"
