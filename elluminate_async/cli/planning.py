"""``elluminate-async plan``: what a run would do."""

from __future__ import annotations

from typing import Annotated

import typer

from elluminate_async.cli import options as o
from elluminate_async.cli.service import Where
from elluminate_async.cli.starting import Wish, carry_out


def plan(
    source: Annotated[str, typer.Argument(metavar="SPEC|DATA", help="As for `run`.")],
    prompt: o.PromptOption = None,
    criteria: o.CriteriaOption = None,
    model: o.ModelOption = None,
    epochs: o.EpochsOption = None,
    response_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="As for `rate`.")
    ] = None,
    limit: o.LimitOption = None,
    output_tokens: o.OutputTokensOption = None,
    concurrency: o.ConcurrencyOption = None,
    requests_per_second: o.RateOption = None,
    max_cost: o.MaxCostOption = None,
    base_url: o.BaseUrlOption = None,
    hosted: o.HostedOption = False,
    as_json: o.JsonOption = False,
) -> None:
    """Say what `run` would do, take and cost: rows, placeholders, requests, tokens, prices, time.

    Nothing is started, sent or written; exit code 2 tells that it could not be run.
    """
    wish = Wish(
        source,
        lambda: o.overrides(
            prompt=prompt,
            criteria=criteria,
            models=model,
            epochs=epochs,
            responses=response_column,
            limit=limit,
            output_tokens=output_tokens,
            concurrency=concurrency,
            requests_per_second=requests_per_second,
            max_cost=max_cost,
        ),
        Where(base_url=base_url, hosted=hosted),
    )
    raise typer.Exit(carry_out(wish, dry_run=True, as_json=as_json, is_quiet=False))
