"""``elluminate-async run``."""

from __future__ import annotations

from typing import Annotated

import typer

from elluminate_async.cli import options as o
from elluminate_async.cli.documents import RunDocument
from elluminate_async.cli.models import OFFLINE
from elluminate_async.cli.service import Where
from elluminate_async.cli.starting import Wish, carry_out


def run(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SPEC|DATA|RUN",
            help="A spec (.yaml, .toml), or rows (.csv, .tsv, .jsonl, .json, .parquet, .xlsx "
            "or .xlsx#sheet; or - for JSONL from standard input); with --resume also a run's name.",
        ),
    ],
    prompt: o.PromptOption = None,
    criteria: o.CriteriaOption = None,
    model: o.ModelOption = None,
    epochs: o.EpochsOption = None,
    response_column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Rate the answers in this column; see `rate`."),
    ] = None,
    run: o.RunOption = None,
    key: o.KeyOption = None,
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
    max_cost: o.MaxCostOption = None,
    output_tokens: o.OutputTokensOption = None,
    dry_run: o.DryRunOption = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with the last run of that name: what is done is taken, what failed is "
            "sent again.",
        ),
    ] = False,
    base_url: o.BaseUrlOption = None,
    hosted: o.HostedOption = False,
    project: o.ProjectOption = None,
    db: o.DbOption = o.DEFAULT_DB,
    llm_base_url: o.LlmBaseUrlOption = None,
    llm_model: o.LlmModelOption = OFFLINE,
    judge_base_url: o.JudgeBaseUrlOption = None,
    judge_model: o.JudgeModelOption = None,
    as_json: o.JsonOption = False,
    quiet: o.QuietOption = False,
    json_schema: Annotated[bool, o.json_schema_option(RunDocument)] = False,
) -> None:
    """Evaluate rows: generate an answer to each, have it judged, and hold a gate against it.

    Exit codes: 0 passed, 1 less passed than wanted, 2 misuse, 3 could not be measured, 130
    interrupted. Everything for people is on standard error.
    """
    wish = Wish(
        source,
        # In the spec as it is, whatever is given here takes its place.
        lambda: o.overrides(
            prompt=prompt,
            criteria=criteria,
            models=model,
            fast=fast,
            fail_under=fail_under,
            max_error_rate=max_error_rate,
            per_criterion=per_criterion,
            concurrency=concurrency,
            requests_per_second=requests_per_second,
            deadline=deadline,
            max_cost=max_cost,
            output_tokens=output_tokens,
            epochs=epochs,
            responses=response_column,
            run=run,
            key=key,
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
            judge_base_url=judge_base_url,
            judge_model=judge_model,
        ),
        resumes=resume,
    )
    raise typer.Exit(carry_out(wish, dry_run=dry_run, as_json=as_json, is_quiet=quiet))
