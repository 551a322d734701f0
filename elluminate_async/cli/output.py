"""The output of the demo: answers, rates and failures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from elluminate_async import RatingValue

if TYPE_CHECKING:
    from elluminate_async.cli.flow import FlowResult


def printable(text: str) -> str:
    """``text`` without the control characters that would drive a terminal."""
    return "".join(
        character if character in "\n\t" or character.isprintable() else "�" for character in text
    )


def in_one_line(text: str) -> str:
    """The same in one line, so that it cannot pass for a line of the program's own."""
    return " ".join(printable(text).split())


def show_examples(console: Console, result: FlowResult, count: int = 2) -> None:
    """The first responses that were rated, whole, with their ratings."""
    rated = list(result.ratings.succeeded.items())[:count]
    for position, ratings in rated:
        response = result.responses[position]
        values = response.prompt.template_variables.input_values
        title = ", ".join(f"{name}: {value}" for name, value in values.items())
        console.rule(escape(in_one_line(title)), align="left")
        console.print(escape(printable(response.response_str)), soft_wrap=True)
        console.print()
        for rating in ratings:
            criterion = escape(in_one_line(rating.criterion.criterion_str))
            console.print(f"  {rating.rating:<4} {criterion}", soft_wrap=True)
        console.print()


def show_pass_rates(console: Console, result: FlowResult) -> None:
    """The share of YES by criterion, over what was rated; failed rows do not count."""
    table = Table("criterion", title="Pass rate by criterion", title_justify="left")
    for name in ("YES", "rated", "pass rate"):
        table.add_column(name, justify="right", no_wrap=True)
    for criterion in result.criteria:
        verdicts = [
            rating.rating
            for ratings in result.ratings.succeeded.values()
            for rating in ratings
            if rating.criterion.id == criterion.id
        ]
        passed = sum(verdict == RatingValue.YES for verdict in verdicts)
        share = f"{passed / len(verdicts):.0%}" if verdicts else "-"
        table.add_row(
            escape(in_one_line(criterion.criterion_str)), str(passed), str(len(verdicts)), share
        )
    console.print(table)


def show_failures(console: Console, result: FlowResult, limit: int = 5) -> None:
    """The first failed rows, a line each."""
    failed = list(result.ratings.failed.values())
    for error in failed[:limit]:
        console.print(f"failed: {escape(in_one_line(str(error)))}", soft_wrap=True)
    if len(failed) > limit:
        console.print(f"failed: and {len(failed) - limit} more", soft_wrap=True)
