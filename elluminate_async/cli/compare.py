"""``elluminate-async compare``."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from elluminate_async import Comparison, Difference, Evaluation, InputError, PairingWarning
from elluminate_async.cli import options as o
from elluminate_async.cli.comparisons import CompareDocument, DifferenceDocument
from elluminate_async.cli.exits import EXIT_FAILED, EXIT_NOT_MEASURED, EXIT_PASSED
from elluminate_async.cli.output import in_one_line
from elluminate_async.cli.saved import load
from elluminate_async.cli.talk import Talk

if TYPE_CHECKING:
    from collections.abc import Sequence


def compare(
    a: Annotated[
        str, typer.Argument(metavar="A", help="A run's name, folder, or results as .jsonl.")
    ],
    b: Annotated[
        str | None,
        typer.Argument(metavar="[B]", help="The run in question; without it two models of A."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Of two runs: the model to compare. Of one: twice, the earlier and the one in "
            "question; not needed where it has two.",
        ),
    ] = None,
    confidence: Annotated[
        float, typer.Option(min=0.5, max=0.9999, help="Of intervals and of what counts as shown.")
    ] = 0.95,
    fail_if_worse: Annotated[
        bool,
        typer.Option("--fail-if-worse", help="Exit with 1 where it is shown that B is worse."),
    ] = False,
    as_json: o.JsonOption = False,
    json_schema: Annotated[bool, o.json_schema_option(CompareDocument)] = False,
) -> None:
    """Compare two runs over the same rows, or two models of one run, pair by pair.

    Exit codes: 0, or 1 by --fail-if-worse; 2 misuse; 3 where no row was measured on both sides.
    """
    first = load(a)
    if b is None:
        names = _two_models(first, model or [])
        comparison = first.compare(*names, confidence=confidence)
    else:
        config = _one_model(model or [])
        names = (a, b)
        with warnings.catch_warnings():
            # The table has the same line below it.
            warnings.simplefilter("ignore", PairingWarning)
            comparison = load(b).compare(first, config, confidence=confidence)
    _show(comparison, names)
    document = _document(comparison, names, fail_if_worse=fail_if_worse)
    if as_json:
        typer.echo(document.model_dump_json(indent=2))
    raise typer.Exit(document.exit_code)


def _two_models(evaluation: Evaluation, given: Sequence[str]) -> tuple[str, str]:
    names = given or evaluation.configs
    if len(names) != 2:
        raise InputError(
            "one run is compared within itself by two --model, or give another run; it has "
            f"{', '.join(evaluation.configs)}"
        )
    return names[0], names[1]


def _one_model(given: Sequence[str]) -> str | None:
    if len(given) > 1:
        raise InputError("two runs are compared by one --model, which both have")
    return given[0] if given else None


def _document(
    comparison: Comparison, names: tuple[str, str], *, fail_if_worse: bool
) -> CompareDocument:
    differences = {**comparison.criteria, "": comparison.overall}
    is_worse = any(one.verdict == "worse" for one in differences.values())
    code = EXIT_FAILED if is_worse and fail_if_worse else EXIT_PASSED
    if not comparison.overall.n:
        code = EXIT_NOT_MEASURED
    return CompareDocument(
        exit_code=code,
        a=names[0],
        b=names[1],
        confidence=comparison.confidence,
        criteria={name: DifferenceDocument.of(one) for name, one in comparison.criteria.items()},
        overall=DifferenceDocument.of(comparison.overall),
        reason=comparison.reason,
    )


def _show(comparison: Comparison, names: tuple[str, str]) -> None:
    table = Table("criterion", box=SIMPLE_HEAD)
    for name in ("A", "B", "B - A, interval", "up, down"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    rows = [*comparison.criteria.items(), ("all criteria", comparison.overall)]
    for name, one in rows:
        table.add_row(
            escape(in_one_line(name)), *_cells(one), one.verdict.replace("no difference ", "not ")
        )
    talk = Talk()
    talk.say(f"A           {names[0]}")
    talk.say(f"B           {names[1]}")
    talk.console.print(table)
    overall = comparison.overall
    left_out = f"; {overall.unpaired} left out" if overall.unpaired else ""
    talk.say(f"{overall.n} rows were measured on both sides{left_out}.")
    if comparison.reason is not None:
        talk.say(f"Nothing is compared: {comparison.reason}.")


def _cells(one: Difference) -> tuple[str, ...]:
    if one.rate_a is None or one.rate_b is None or one.difference is None or not one.interval:
        return ("-", "-", "-", "-")
    low, high = 100 * one.interval.low, 100 * one.interval.high
    return (
        f"{100 * one.rate_a:.1f} %",
        f"{100 * one.rate_b:.1f} %",
        f"{100 * one.difference:+.1f}, {low:+.1f} to {high:+.1f}",
        f"{len(one.improved)}, {len(one.regressed)}",
    )
