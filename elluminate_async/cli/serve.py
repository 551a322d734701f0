"""``elluminate-async serve``: the embedded server as a program."""

from __future__ import annotations

import asyncio
import gc
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from elluminate_async import ConfigurationError
from elluminate_async.cli.models import OFFLINE, model_named

if TYPE_CHECKING:
    from elluminate_async.server import LocalServer, Model

_COLLECT_AFTER = 20_000


def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on; beyond this machine only with --api-key.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8000,
    db: Annotated[
        Path, typer.Option(help="Database file; made if missing. One server at a time has it.")
    ] = Path(".elluminate/server.db"),
    api_key: Annotated[
        str | None,
        typer.Option(
            help="A key that clients may use, from now on. Without one, the first start makes a "
            "key and shows it once. Only hashes are stored.",
        ),
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
) -> None:
    """Serve the Elluminate API on this machine, until SIGINT or SIGTERM."""
    # Here, as the other commands do not need the extra, nor its time to import.
    from elluminate_async.server import LocalServer

    answering = model_named(model, llm_base_url)
    server = LocalServer(
        db=db,
        model=answering,
        host=host,
        port=port,
        api_key=api_key,
        max_model_calls=max_model_calls,
    )
    try:
        asyncio.run(_serve(server, answering, given_key=api_key))
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {host}:{port}: {error.strerror}") from None


async def _serve(server: LocalServer, model: Model, *, given_key: str | None) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    try:
        async with server:
            _spare_collector()
            typer.echo(await _announce_key(server, given_key))
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


async def _announce_key(server: LocalServer, given_key: str | None) -> str:
    if given_key is not None:
        await server.keys.store(given_key)
        return "API key: the one given"
    if server.keys.has_stored_keys:
        return f"API key: the one made earlier for {server.db} is still valid"
    await server.keys.store(server.api_key)
    return f"API key: {server.api_key} (shown once)"
