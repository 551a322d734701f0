"""Marked tests put together: one evaluation for all that share its arguments."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from anyio.from_thread import start_blocking_portal

from elluminate_async import AsyncClient, Evaluation, JournalError, RatingMode

MARK = "elluminate"
SHARED = ("prompt", "criteria", "llm_config", "rating_mode", "name", "options")
"""Arguments of a mark by which its tests are of one evaluation."""

OWN = ("rows", "ids", "pass_rate", "max_error_rate")
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

    def evaluation(self, base_url: str | None, journals: Path | None) -> Evaluation:
        """The evaluation, which is run for the first that asks.

        Args:
            base_url: Of the service; None for that of the environment.
            journals: Where its journal is, which other processes may share; None for none.

        Raises:
            Exception: What ended it, the same each time.
        """
        if self._outcome is None:
            # A thread of its own, as this one may have a loop; it is gone before a test can fork.
            with start_blocking_portal() as portal:
                try:
                    self._outcome = portal.call(partial(self._evaluate, base_url, journals))
                except Exception as error:
                    self._outcome = error
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome

    async def _evaluate(self, base_url: str | None, journals: Path | None) -> Evaluation:
        asked = self.asked
        async with AsyncClient(base_url=base_url) as client:
            while True:
                try:
                    return await client.evaluate(
                        self.rows,
                        prompt=asked["prompt"],
                        criteria=asked.get("criteria"),
                        llm_configs=asked.get("llm_config"),
                        name=asked.get("name"),
                        rating_mode=RatingMode(asked.get("rating_mode", RatingMode.DETAILED)),
                        options=asked.get("options"),
                        journal=None if journals is None else journals / self.key,
                    )
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


def asked_by(node: pytest.Item | pytest.Function) -> dict[str, Any] | None:
    """The arguments of a test's marks, of which the closest counts; None without a mark.

    Raises:
        pytest.UsageError: They cannot work.
    """
    marks = [*node.iter_markers(MARK)]
    asked: dict[str, Any] = {}
    for mark in reversed(marks):
        unknown = [*map(repr, mark.args), *(mark.kwargs.keys() - {*SHARED, *OWN})]
        if unknown:
            raise pytest.UsageError(
                f"{node.nodeid}: the mark {MARK} takes {', '.join(SHARED + OWN)} by name, "
                f"and not {', '.join(unknown)}"
            )
        asked |= mark.kwargs
    if not marks:
        return None
    if "prompt" not in asked:
        raise pytest.UsageError(f"{node.nodeid}: the mark {MARK} needs prompt=")
    if "rows" in asked:
        asked["rows"] = _checked_rows(asked["rows"], node.nodeid)
    return asked


def _checked_rows(rows: object, where: str) -> Sequence[Mapping[str, Any]]:
    if isinstance(rows, Sequence) and not isinstance(rows, str | bytes):
        found = cast("Sequence[object]", rows)
        if found and all(isinstance(row, Mapping) for row in found):
            return cast("Sequence[Mapping[str, Any]]", found)
    raise pytest.UsageError(f"{where}: rows= of the mark {MARK} must be a list of mappings")


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


def grouped(items: Sequence[pytest.Item]) -> dict[pytest.Item, Case]:
    """The cases of the tests that are to run.

    Raises:
        pytest.UsageError: A test asks for what cannot be.
    """
    groups: dict[str, Group] = {}
    cases: dict[pytest.Item, Case] = {}
    for item in items:
        asked = asked_by(item)
        if asked is None:
            continue
        fixtures: Sequence[str] = getattr(item, "fixturenames", ())
        about_one = "elluminate_record" in fixtures
        thresholds = {
            name: asked[name] for name in ("pass_rate", "max_error_rate") if name in asked
        }
        if not (about_one or thresholds or "elluminate_evaluation" in fixtures):
            if any(mark.name == MARK for mark in item.own_markers):
                raise pytest.UsageError(
                    f"{item.nodeid}: nothing would be checked. Take the fixture elluminate_record "
                    "or elluminate_evaluation, or give the mark a pass_rate="
                )
            continue
        shared = {name: asked[name] for name in SHARED if name in asked}
        # Of a list that several tests share, each has its own row or all.
        listed: Sequence[Mapping[str, Any]] = asked.get("rows", ())
        group = groups.setdefault(canonical([shared, listed]), Group(shared))
        if not about_one:
            for row in listed:
                group.add(row)
            cases[item] = Case(group, None, thresholds)
        elif row := row_of(item):
            cases[item] = Case(group, group.add(row))
        else:
            raise pytest.UsageError(
                f"{item.nodeid}: which row is it about? Give the mark rows=, or parametrize the "
                "test by row or by the placeholders of the prompt"
            )
    for item, case in cases.items():
        if not case.group.rows:
            raise pytest.UsageError(
                f"{item.nodeid}: there are no rows. Give the mark rows=, or have tests of the "
                "same mark that are parametrized and take elluminate_record"
            )
    return cases


def canonical(value: object) -> str:
    """A text that is the same for what is equal, in each process."""
    return json.dumps(value, sort_keys=True, default=_plain)


def _plain(value: Any) -> object:
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else repr(value)
