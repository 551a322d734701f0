"""``elluminate-async rate``: answers that exist, judged and held against a gate."""

from __future__ import annotations

from typing import Annotated

import typer

from elluminate_async.cli import options as o
from elluminate_async.cli.models import OFFLINE
from elluminate_async.cli.service import Where
from elluminate_async.cli.starting import Wish, carry_out


def rate(
    source: Annotated[str, typer.Argument(metavar="DATA", help="Rows with answers, as for `run`.")],
    response_column: Annotated[
        str, typer.Option(metavar="NAME", help="The column that has the answers.")
    ],
    criteria: o.CriteriaOption = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT|@FILE",
            help="What they are answers to, with {{placeholders}} for columns; else the other "
            "columns, each with its name.",
        ),
    ] = None,
    name: o.NameOption = None,
    limit: o.LimitOption = None,
    fast: o.FastOption = False,
    out: o.OutOption = None,
    report: o.ReportOption = None,
    fail_under: o.FailUnderOption = None,
    max_error_rate: o.MaxErrorRateOption = None,
    per_criterion: o.PerCriterionOption = False,
    concurrency: o.ConcurrencyOption = None,
    requests_per_second: o.RateOption = None,
    deadline: o.DeadlineOption = None,
    dry_run: o.DryRunOption = False,
    base_url: o.BaseUrlOption = None,
    hosted: o.HostedOption = False,
    project: o.ProjectOption = None,
    db: o.DbOption = o.DEFAULT_DB,
    llm_base_url: o.LlmBaseUrlOption = None,
    llm_model: o.LlmModelOption = OFFLINE,
    as_json: o.JsonOption = False,
    quiet: o.QuietOption = False,
) -> None:
    """Judge answers that are in a column, and hold a gate against them.

    Exit codes and --json as in `run`, which also goes on with it: run NAME --resume.
    """
    wish = Wish(
        source,
        lambda: o.overrides(
            prompt=prompt,
            criteria=criteria,
            fast=fast,
            fail_under=fail_under,
            max_error_rate=max_error_rate,
            per_criterion=per_criterion,
            concurrency=concurrency,
            requests_per_second=requests_per_second,
            deadline=deadline,
            responses=response_column,
            name=name,
            limit=limit,
            out=out,
            report=report,
        ),
        Where(
            base_url=base_url,
            hosted=hosted,
            project=project,
            db=db,
            llm_base_url=llm_base_url,
            llm_model=llm_model,
        ),
    )
    raise typer.Exit(carry_out(wish, dry_run=dry_run, as_json=as_json, is_quiet=quiet))
