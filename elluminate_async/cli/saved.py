"""``elluminate-async export`` and ``report``: files from a run that is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from elluminate_async import Evaluation, InputError
from elluminate_async.cli.reporting import write_report
from elluminate_async.cli.runs import known_run
from elluminate_async.cli.talk import Talk
from elluminate_async.cli.writing import write_results

if TYPE_CHECKING:
    from typing import TypeAlias

RunArgument: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="A run's name or folder, or results that were written as .jsonl."
    ),
]


def load(name: str) -> Evaluation:
    """The results of a run, or those in a file of JSONL.

    Raises:
        InputError: There are none; the text lists the runs that there are.
    """
    if not name.endswith(".jsonl"):
        return known_run(name).evaluation()
    try:
        lines = Path(name).read_text("utf-8").split("\n")
        documents = [json.loads(line) for line in lines if line]
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror or error}") from None
    except ValueError:
        raise InputError(f"{name} holds no results: write them by --out {name}") from None
    return Evaluation.from_records(documents, name=Path(name).stem)


def export(
    run: RunArgument,
    out: Annotated[
        list[str],
        typer.Option(
            metavar="FILE", help="A .jsonl, .csv, .parquet, or .xml for JUnit; repeatable."
        ),
    ],
) -> None:
    """Write the results of a run again, in another format."""
    evaluation, talk = load(run), Talk()
    for path in out:
        write_results(evaluation, path)
        talk.say(f"written     {path}")


def report(
    run: RunArgument,
    out: Annotated[str, typer.Option(metavar="FILE", help="The report, one HTML file.")],
) -> None:
    """Write the report of a run, with its gate."""
    gate = None if run.endswith(".jsonl") else known_run(run).read().spec.gate
    write_report(load(run), out, gate)
    Talk().say(f"written     {out}")
