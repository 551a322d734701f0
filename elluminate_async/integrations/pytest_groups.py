"""Marked tests put together: one evaluation for all that share its arguments."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from anyio.from_thread import start_blocking_portal

from elluminate_async import (
    AsyncClient,
    Evaluation,
    InputError,
    JournalError,
    PromptTemplate,
    RatingMode,
)
from elluminate_async.errors.closest import did_you_mean
from elluminate_async.schemas.prompt_templates import placeholders_in
from elluminate_async.tables.json_checks import is_missing
from elluminate_async.tables.values import json_cell

MARK = "elluminate"
SHARED = ("prompt", "criteria", "llm_config", "rating_mode", "name", "options")
"""Arguments of a mark by which its tests are of one evaluation."""

_THRESHOLDS = ("pass_rate", "max_error_rate")
OWN = ("rows", "ids", *_THRESHOLDS)
"""The others."""

_PAUSE = 0.2  # seconds until the batch that another worker runs is looked for again


class Group:
    """The tests of one evaluation, and its rows.

    Attributes:
        asked: The shared arguments.
        rows: Each once, in the order of the tests.
        key: The same in each process that has the same tests.
    """

    def __init__(self, asked: Mapping[str, Any]) -> None:
        self.asked = asked
        self.rows: list[Mapping[str, Any]] = []
        self._indices: dict[str, int] = {}
        self._outcome: Evaluation | Exception | None = None

    def add(self, row: Mapping[str, Any]) -> int:
        """The index of ``row``, which is sent once however many tests are about it."""
        index = self._indices.setdefault(canonical(row), len(self.rows))
        if index == len(self.rows):
            self.rows.append(row)
        return index

    @property
    def key(self) -> str:
        """A hash of what is asked, and of which rows."""
        told = canonical([self.asked, self.rows])
        return hashlib.blake2b(told.encode(errors="surrogatepass"), digest_size=8).hexdigest()

    @property
    def label(self) -> str:
        """One line for a summary: its name, or the beginning of its prompt."""
        told = self.asked.get("name") or self.asked.get("prompt")
        return " ".join((told if isinstance(told, str) else canonical(told)).split())[:60]

    def evaluation(
        self, base_url: str | None, journals: Path | None, kept: Container[str] = ()
    ) -> Evaluation:
        """The evaluation, which is run for the first that asks.

        Args:
            base_url: Of the service; None for that of the environment.
            journals: Where its journal is, which other processes may share; None for none.
            kept: Keys of those that an earlier run of pytest left: what failed there, and may do
                better, is sent again.

        Raises:
            Exception: What ended it, the same each time.
        """
        if self._outcome is None:
            # A thread of its own, as this one may have a loop; it is gone before a test can fork.
            with start_blocking_portal() as portal:
                try:
                    again = self.key in kept
                    work = partial(self._evaluate, base_url, journals, again=again)
                    self._outcome = portal.call(work)
                except Exception as error:
                    self._outcome = error
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome

    async def _evaluate(
        self, base_url: str | None, journals: Path | None, *, again: bool
    ) -> Evaluation:
        asked = self.asked
        async with AsyncClient(base_url=base_url) as client:
            while True:
                try:
                    evaluation = await client.evaluate(
                        self.rows,
                        prompt=asked["prompt"],
                        criteria=asked.get("criteria"),
                        llm_configs=asked.get("llm_config"),
                        name=asked.get("name"),
                        rating_mode=RatingMode(asked.get("rating_mode", RatingMode.DETAILED)),
                        options=asked.get("options"),
                        journal=None if journals is None else journals / self.key,
                    )
                    if again and any(error.retryable for error in evaluation.failed.values()):
                        await evaluation.retry_failed()
                    return evaluation
                except JournalError as error:
                    if not error.in_use:
                        raise
                # Another worker is at it. What it does is in the journal, and not done again.
                await anyio.sleep(_PAUSE)


@dataclass(frozen=True, slots=True)
class Case:
    """One test, and its part of its group.

    Attributes:
        index: Of its row; None where it is about all of them.
        thresholds: For the gate; empty for none.
    """

    group: Group
    index: int | None
    thresholds: Mapping[str, float] = field(default_factory=dict[str, float])


def _function(node: pytest.Item | pytest.Function) -> str:
    """The function of a test, whatever it is parametrized by."""
    return node.nodeid.partition("[")[0]


def asked_by(node: pytest.Item | pytest.Function) -> dict[str, Any] | None:
    """The arguments of a test's marks, of which the closest counts; None without a mark.

    Raises:
        pytest.UsageError: They cannot work.
    """
    where = _function(node)
    marks = [*node.iter_markers(MARK)]
    asked: dict[str, Any] = {}
    for mark in reversed(marks):
        unknown = [*map(repr, mark.args), *(mark.kwargs.keys() - {*SHARED, *OWN})]
        if unknown:
            raise pytest.UsageError(
                f"{where}: the mark {MARK} takes {', '.join(SHARED + OWN)} by name, "
                f"and not {', '.join(unknown)}"
            )
        asked |= mark.kwargs
    if not marks:
        return None
    if "prompt" not in asked:
        raise pytest.UsageError(f"{where}: the mark {MARK} needs prompt=")
    for name in _THRESHOLDS:
        _check_threshold(name, asked.get(name), where)
    if "rows" in asked:
        asked["rows"] = _checked_rows(asked["rows"], where)
    return asked


def _check_record(thresholds: Iterable[str], where: str) -> None:
    """Raise `pytest.UsageError` for thresholds of a test of one record, which nobody looks at."""
    if given := [*thresholds]:
        raise pytest.UsageError(
            f"{where}: {' and '.join(given)} of the mark {MARK} would not be looked at, as the "
            "test takes elluminate_record and so is about one row: give it to a test of all rows, "
            "which takes none"
        )


def _check_threshold(name: str, value: object, where: str) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise pytest.UsageError(
            f"{where}: {name}= of the mark {MARK} must be a number from 0 to 1, not {value!r:.60}"
        )


def _checked_rows(rows: object, where: str) -> Sequence[Mapping[str, Any]]:
    if isinstance(rows, Sequence) and not isinstance(rows, str | bytes):
        found = cast("Sequence[object]", rows)
        if all(isinstance(row, Mapping) for row in found):
            return cast("Sequence[Mapping[str, Any]]", found)
    raise pytest.UsageError(f"{where}: rows= of the mark {MARK} must be a list of mappings")


def _problem_of_row(row: Mapping[str, Any], prompt: object, where: str) -> str | None:
    """Why a row cannot be sent with this prompt; None where it can, as far as is known here."""
    for name, cell in row.items():
        try:
            json_cell(cell, f"{where}[{name!r:.60}]")
        except InputError as error:
            return str(error)
    messages: object = prompt.messages if isinstance(prompt, PromptTemplate) else prompt
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    if not isinstance(messages, Sequence):
        return None
    if not all(isinstance(one, Mapping) for one in cast("Sequence[object]", messages)):
        return None  # no prompt, of which `evaluate` tells
    for name in placeholders_in(cast("list[dict[str, Any]]", messages)):
        if name not in row:
            has = ", ".join(sorted(map(str, row))) or "nothing"
            meant = did_you_mean(name, map(str, row), "{{{{{}}}}}") or ";"
            return f"{where} has no value for {{{{{name}}}}}{meant} it has {has}"
        if is_missing(row[name]):
            return (
                f"{where}[{name!r:.60}] is missing ({row[name]!r:.20}), and the prompt asks for it"
            )
    return None


def row_of(item: pytest.Item) -> Mapping[str, Any] | None:
    """The row that a test is parametrized by; None where it is by none.

    It is what is called ``row``, else all that the test is parametrized by.
    """
    callspec: Any = getattr(item, "callspec", None)
    params: dict[str, Any] = {} if callspec is None else dict(callspec.params)
    row = params.get("elluminate_row", params.get("row", params))
    if not isinstance(row, Mapping):
        raise pytest.UsageError(f"{item.nodeid}: row must be a mapping, not {row!r:.60}")
    return cast("Mapping[str, Any]", row) or None


def grouped(
    items: Sequence[pytest.Item],
) -> tuple[dict[pytest.Item, Case], dict[pytest.Item, str]]:
    """The cases of the tests that are to run, and of tests that cannot be asked for why not.

    A row that cannot be sent is in no case: it is an error of the tests that are about it alone.

    Raises:
        pytest.UsageError: Tests ask for what cannot be, whatever their rows are; a line for each.
    """
    groups: dict[str, Group] = {}
    cases: dict[pytest.Item, Case] = {}
    misused: dict[pytest.Item, str] = {}
    # Of the parametrized tests of one function it is the same.
    wrong: dict[str, None] = {}
    for item in items:
        try:
            case = _case_of(item, groups)
        except pytest.UsageError as error:
            wrong[str(error)] = None
            continue
        if isinstance(case, Case):
            cases[item] = case
        elif case is not None:
            misused[item] = case
    for item, case in cases.items():
        if not case.group.rows:
            wrong[
                f"{item.nodeid}: there are no rows. Give the mark rows=, or have tests of the "
                "same mark that are parametrized and take elluminate_record"
            ] = None
    if wrong:
        raise pytest.UsageError(*wrong)
    return cases, misused


def _case_of(item: pytest.Item, groups: dict[str, Group]) -> Case | str | None:
    """The case of a test, or why it has none; None of a test that asks for nothing."""
    asked = asked_by(item)
    if asked is None:
        return None
    fixtures: Sequence[str] = getattr(item, "fixturenames", ())
    about_one = "elluminate_record" in fixtures
    thresholds = {name: asked[name] for name in _THRESHOLDS if name in asked}
    if about_one:
        _check_record(thresholds, _function(item))
    elif not (thresholds or "elluminate_evaluation" in fixtures):
        if any(mark.name == MARK for mark in item.own_markers):
            raise pytest.UsageError(
                f"{item.nodeid}: nothing would be checked. Take the fixture elluminate_record "
                "or elluminate_evaluation, or give the mark a pass_rate="
            )
        return None
    if not asked.get("rows", True):
        return f"rows= of the mark {MARK} is empty: there is nothing to measure"
    shared = {name: asked[name] for name in SHARED if name in asked}
    # Of a list that several tests share, each has its own row or all.
    listed: Sequence[Mapping[str, Any]] = asked.get("rows", ())
    rows = [_own_row(item)] if about_one else [*listed]
    for number, row in enumerate(rows):
        where = "its row" if about_one else f"rows[{number}]"
        if problem := _problem_of_row(row, asked["prompt"], where):
            return problem
    group = groups.setdefault(canonical([shared, listed]), Group(shared))
    indices = [group.add(row) for row in rows]
    return Case(group, indices[0]) if about_one else Case(group, None, thresholds)


def _own_row(item: pytest.Item) -> Mapping[str, Any]:
    if row := row_of(item):
        return row
    raise pytest.UsageError(
        f"{item.nodeid}: which row is it about? Give the mark rows=, or parametrize the "
        "test by row or by the placeholders of the prompt"
    )


def canonical(value: object) -> str:
    """A text that is the same for what is equal, in each process."""
    return json.dumps(value, sort_keys=True, default=_plain)


def _plain(value: Any) -> object:
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else repr(value)
