"""``elluminate-async demo``."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from elluminate_async import AsyncClient, ConfigurationError, InputError
from elluminate_async.cli.exits import EXIT_FAILED, EXIT_PASSED
from elluminate_async.cli.flow import COLUMNS, run_flow
from elluminate_async.cli.models import OFFLINE, model_named
from elluminate_async.cli.output import show_examples, show_failures, show_pass_rates
from elluminate_async.cli.rows import read_criteria, read_rows, shipped_rows
from elluminate_async.cli.signals import run

DEFAULT_DB = Path(".elluminate") / "demo.db"


def demo(
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Take the first N rows only.")
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(
            help="Your own rows instead of the shipped ones: a CSV file with the columns "
            "language and quirk.",
        ),
    ] = None,
    criteria: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Your own criteria, one question a line, instead of those that the model "
            "proposes: they take the place of the template's.",
        ),
    ] = None,
    db: Annotated[Path, typer.Option(help="The embedded server's database file.")] = DEFAULT_DB,
    llm_base_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="An OpenAI-compatible endpoint to answer and to judge, such as "
            "http://127.0.0.1:11434/v1. Its key is read from LLM_API_KEY or OPENAI_API_KEY. "
            "Without an endpoint and a model the offline stand-in answers.",
        ),
    ] = None,
    llm_model: Annotated[
        str, typer.Option(metavar="NAME", help="The model's name at that endpoint.")
    ] = OFFLINE,
    hosted: Annotated[
        bool,
        typer.Option(
            "--hosted",
            help="Use the hosted service, with the key in ELLUMINATE_API_KEY, instead of "
            "the embedded server. This costs money there.",
        ),
    ] = False,
) -> None:
    """Generate and rate answers about programming languages' quirks.

    The main job of this package, end to end: a template, criteria, a collection of rows, one
    response per row, and the judge's ratings. It starts the embedded server and needs no
    network and no account. A second run uses template, criteria and rows again.
    """
    if hosted and (llm_base_url or llm_model != OFFLINE):
        raise ConfigurationError("--hosted uses the service's own models: leave out --llm-...")
    rows = (shipped_rows() if csv is None else read_rows(csv))[:limit]
    if missing := sorted(set(COLUMNS) - rows[0].keys()):
        raise InputError(
            f"the rows lack the columns {', '.join(missing)}; they have {', '.join(rows[0])}"
        )
    questions = [] if criteria is None else read_criteria(criteria)
    console = Console(highlight=False)
    service = _hosted(console) if hosted else _embedded(console, db, llm_base_url, llm_model)
    raise typer.Exit(run(_run(console, rows, questions, service)))


async def _run(
    console: Console,
    rows: list[dict[str, str]],
    criteria: list[str],
    service: AbstractAsyncContextManager[AsyncClient],
) -> int:
    started = time.monotonic()
    async with service as client:
        result = await run_flow(
            client,
            rows,
            criteria=criteria,
            say=lambda line: console.print(line, soft_wrap=True),
        )
    console.print()
    show_examples(console, result)
    show_pass_rates(console, result)
    show_failures(console, result)
    generated, rated = len(result.responses.succeeded), len(result.ratings.succeeded)
    seconds = time.monotonic() - started
    console.print(
        f"demo: {generated} generated, {rated} rated, {result.failed} failed in {seconds:.1f} s",
        soft_wrap=True,
    )
    return EXIT_FAILED if result.failed else EXIT_PASSED


@asynccontextmanager
async def _hosted(console: Console) -> AsyncGenerator[AsyncClient]:
    async with AsyncClient() as client:
        console.print(f"service     {client.base_url}", soft_wrap=True)
        yield client


@asynccontextmanager
async def _embedded(
    console: Console, db: Path, llm_base_url: str | None, llm_model: str
) -> AsyncGenerator[AsyncClient]:
    from elluminate_async.server import LocalServer

    model = model_named(llm_model, llm_base_url)
    answers = f"{llm_model} at {llm_base_url or 'its provider'}"
    if llm_model == OFFLINE:
        answers = "the offline stand-in: no LLM is called, and its ratings mean nothing"
    try:
        async with (
            LocalServer(db=db, model=model) as server,
            AsyncClient(base_url=server.url, api_key=server.api_key) as client,
        ):
            console.print(f"server      embedded, at {server.url}, database {db}", soft_wrap=True)
            console.print(f"model       {answers}", soft_wrap=True)
            yield client
    finally:
        await model.aclose()
