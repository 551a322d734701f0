"""``elluminate-async doctor``: whether a run would find all that it needs."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from elluminate_async.cli import options as o
from elluminate_async.cli.checks import DoctorDocument, checks_of
from elluminate_async.cli.models import OFFLINE
from elluminate_async.cli.service import Where, checked_where, of_environment
from elluminate_async.cli.shares import VARIABLE
from elluminate_async.cli.talk import Talk

_MARKS = {"ok": "ok     ", "warning": "warning", "failed": "FAILED "}


def doctor(
    base_url: o.BaseUrlOption = None,
    hosted: o.HostedOption = False,
    project: o.ProjectOption = None,
    db: o.DbOption = o.DEFAULT_DB,
    llm_base_url: o.LlmBaseUrlOption = None,
    llm_model: o.LlmModelOption = OFFLINE,
    share: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE",
            help="Limits that several processes keep together, as file:PATH#NAME or "
            f"redis://HOST:PORT/0#NAME; else those of {VARIABLE}.",
        ),
    ] = None,
    as_json: o.JsonOption = False,
    json_schema: Annotated[bool, o.json_schema_option(DoctorDocument)] = False,
) -> None:
    """Check key, server, version, clock, limits, their share and the model's endpoint.

    Asks the service for what costs nothing; of a model that --llm-model names, one short answer.
    Exit codes: 0, 2 where a setting is wrong, 3 where something does not answer.
    """
    where = checked_where(
        of_environment(
            Where(
                base_url=base_url,
                hosted=hosted,
                project=project,
                db=db,
                llm_base_url=llm_base_url,
                llm_model=llm_model,
            )
        )
    )
    checks = asyncio.run(checks_of(where, share))
    talk = Talk()
    for check in checks:
        talk.say(f"{_MARKS[check.status]}  {check.name:<9}  {check.detail}")
    code = max((check.exit_code for check in checks), default=0)
    if as_json:
        document = DoctorDocument(exit_code=code, checks=checks)
        typer.echo(document.model_dump_json(indent=2))
    raise typer.Exit(code)
