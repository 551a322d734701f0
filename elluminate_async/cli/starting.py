"""From what the options say to a run that was carried out, its files and its document."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from elluminate_async.cli.data import STANDARD_INPUT, Row, file_of, read_data
from elluminate_async.cli.documents import PlanDocument, RunDocument
from elluminate_async.cli.evaluating import Runner
from elluminate_async.cli.exits import EXIT_INTERRUPTED, EXIT_MISUSE, EXIT_PASSED
from elluminate_async.cli.interrupts import run_interruptible
from elluminate_async.cli.options import merged
from elluminate_async.cli.plan import plan_of
from elluminate_async.cli.reporting import check_report, write_report
from elluminate_async.cli.runs import RunFile, SavedRun, find_run, last_run, new_run
from elluminate_async.cli.service import Where, checked_where, of_environment
from elluminate_async.cli.spec import Spec, checked_spec, is_spec, read_spec
from elluminate_async.cli.talk import Talk
from elluminate_async.cli.writing import check_suffix, make_folder, write_results
from elluminate_async.errors import ElluminateError, InputError
from elluminate_async.tables.files import written
from elluminate_async.tables.texts import json_text

if TYPE_CHECKING:
    from elluminate_async import Evaluation

_ROWS: Final = "rows.jsonl"
"""In a run's folder: rows of standard input, which cannot be read a second time."""

_FROM_STDIN: Final = ("data", STANDARD_INPUT)


@dataclass(frozen=True, slots=True)
class Wish:
    """The arguments of the command line.

    Attributes:
        source: A spec, rows, or with ``resumes`` a run's name.
        given: Gives the parts of the spec that options say.
        where: As the options say.
    """

    source: str
    given: Callable[[], dict[str, Any]]
    where: Where
    resumes: bool = False


@dataclass(frozen=True, slots=True)
class _Job:
    """The work: the spec, its rows, and the run where it was begun before."""

    file: RunFile
    rows: list[Row]
    begun: SavedRun | None


def carry_out(wish: Wish, *, dry_run: bool, as_json: bool, is_quiet: bool) -> int:
    """Do it, print what came of it, and return the exit code."""
    talk = Talk(is_quiet=is_quiet)
    document = RunDocument(status="interrupted", exit_code=EXIT_INTERRUPTED)
    try:
        job = _prepared(wish, talk)
        plan = plan_of(job.file, job.rows)
        if dry_run:
            talk.plan(plan)
            _refuse(plan)
            document = RunDocument(status="planned", exit_code=EXIT_PASSED, plan=plan)
        else:
            _refuse(plan)
            _make_folders(job.file.spec)
            talk.warnings(plan)
            document = _evaluated(job, talk)
    except KeyboardInterrupt:
        pass
    except (ElluminateError, OSError) as error:
        text = " ".join(str(error).split())
        document = RunDocument(status="error", exit_code=EXIT_MISUSE, error=text)
    talk.outcome(document)
    if as_json:
        typer.echo(document.model_dump_json(indent=2))
    return document.exit_code


def _refuse(plan: PlanDocument) -> None:
    if plan.problems:
        raise InputError("; ".join(plan.problems))


def _prepared(wish: Wish, talk: Talk) -> _Job:
    given = wish.given()
    if wish.resumes and (run := find_run(wish.source)) is not None:
        return _of_run(run, {}, given, wish.where)
    content = read_spec(wish.source) if is_spec(wish.source) else {"data": wish.source}
    title = _title(given, content, wish.source)
    if wish.resumes and (run := last_run(title)) is not None:
        return _of_run(run, content, given, wish.where)
    spec = checked_spec(merged(content, given), wish.source)
    if wish.resumes:
        talk.say(f"There is no run {title!r} to go on with: beginning one.", always=True)
    _check_files(spec)
    file = RunFile(title=title, spec=spec, where=checked_where(of_environment(wish.where)))
    return _Job(file, _rows(spec), None)


def _title(given: dict[str, Any], content: dict[str, Any], source: str) -> str:
    """The name of the run."""
    name: object = given.get("name") or content.get("name")
    if isinstance(name, str) and name:
        return name
    return "stdin" if source == STANDARD_INPUT else Path(file_of(source)).stem


def _of_run(run: SavedRun, content: dict[str, Any], given: dict[str, Any], where: Where) -> _Job:
    """The spec of an earlier run, with the options that are given anew.

    What cannot be changed any more, such as its prompt, its journal refuses.
    """
    file = run.read()
    before = file.spec.model_dump(exclude_unset=True)
    anew = {name: value for name, value in content.items() if (name, value) != _FROM_STDIN}
    spec = checked_spec(merged(merged(before, anew), given), str(run.file))
    _check_files(spec)
    place = checked_where(file.where.changed_by(where))
    file = file.model_copy(update={"spec": spec, "where": place})
    return _Job(file, _rows(spec), run)


def _check_files(spec: Spec) -> None:
    """Raise where a file could not be written in the end."""
    for path in spec.out:
        check_suffix(path)
    if spec.report is not None:
        check_report()


def _make_folders(spec: Spec) -> None:
    """Make the folders of all files, before anything is paid for."""
    for path in (*spec.out, *([] if spec.report is None else [spec.report])):
        make_folder(path)


def _rows(spec: Spec) -> list[Row]:
    rows = read_data(spec.data)
    return rows if spec.limit is None else rows[: spec.limit]


def _begun(job: _Job) -> tuple[SavedRun, RunFile]:
    """The run of a job, and what it is."""
    if job.begun is not None:
        return job.begun, job.file
    run = new_run(job.file)
    if job.file.spec.data != STANDARD_INPUT:
        return run, job.file
    kept = run.folder / _ROWS
    with written(kept) as file:
        for row in job.rows:
            file.write((json_text(row) + "\n").encode())
    spec = job.file.spec.model_copy(update={"data": str(kept)})
    found = job.file.model_copy(update={"spec": spec})
    run.write(found)
    return run, found


def _evaluated(job: _Job, talk: Talk) -> RunDocument:
    run, file = _begun(job)
    runner = Runner(run, file, job.rows, resumes=job.begun is not None, talk=talk)
    try:
        run_interruptible(runner.run)
        if runner.evaluation is None:
            return runner.document
        talk.result(runner.evaluation, runner.document)
        files = _written(runner.evaluation, job.file.spec)
    except KeyboardInterrupt:
        return runner.document.model_copy(
            update={"status": "interrupted", "exit_code": EXIT_INTERRUPTED}
        )
    except (ElluminateError, OSError) as error:
        # The run is kept, so nothing is lost.
        text = " ".join(str(error).split())
        changes = {"status": "error", "exit_code": EXIT_MISUSE, "error": text}
        return runner.document.model_copy(update=changes)
    return runner.document.model_copy(update={"written": files})


def _written(evaluation: Evaluation, spec: Spec) -> list[str]:
    files: list[str] = []
    for path in spec.out:
        write_results(evaluation, path)
        files.append(path)
    if spec.report is not None:
        write_report(evaluation, spec.report, spec.gate)
        files.append(spec.report)
    return files
