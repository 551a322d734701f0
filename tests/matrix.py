"""The fault matrix: which test injects which row, how often it fired, and the table of it.

A test of a row carries ``@pytest.mark.row(7)`` and calls the fixture ``fired`` where its
fault happens. One whose fault never fired fails, whatever else it asserted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Generator
from typing import Any, TypeAlias

import pytest

from tests.faults.rows import NOT_HERE, ROWS

Fired: TypeAlias = Callable[..., None]

_PROPERTY = "rows of the fault matrix"
_FIRINGS = pytest.StashKey[Counter[int]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--matrix", action="store_true", help="print the fault matrix; every row must have fired"
    )


def rows_of(item: pytest.Item) -> list[int]:
    """The rows that a test injects."""
    return [row for mark in item.iter_markers("row") for row in mark.args]


@pytest.fixture
def fired(request: pytest.FixtureRequest) -> Fired:
    """Call it where the fault happens: ``fired()``, or ``fired(row=22, times=3)``."""
    counts = request.node.stash.setdefault(_FIRINGS, Counter[int]())
    rows = rows_of(request.node)

    def fire(row: int | None = None, times: int = 1) -> None:
        for number in rows if row is None else [row]:
            assert number in rows, f"this test is not marked with row {number}"
            counts[number] += times

    return fire


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if rows := rows_of(item):
        counts = item.stash.get(_FIRINGS, Counter[int]())
        # Travels from a worker's process to the one that prints.
        report.user_properties.append((_PROPERTY, {row: counts[row] for row in rows}))
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    result = yield
    counts = item.stash.get(_FIRINGS, Counter[int]())
    silent = [row for row in rows_of(item) if not counts[row]]
    assert not silent, f"the fault of row {silent[0]} never fired"
    return result


class Table:
    """What became of each row in this run."""

    def __init__(self) -> None:
        self.fired = Counter[int]()
        self.outcomes: defaultdict[int, Counter[str]] = defaultdict(Counter)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        fired: Any = dict(report.user_properties).get(_PROPERTY, {})
        for row, times in fired.items():
            if report.when == "call" or not report.passed:
                self.outcomes[int(row)][report.outcome] += 1
            if report.when == "call":
                self.fired[int(row)] += times

    def lines(self) -> list[str]:
        """One line a row: number, times fired, tests, result, what it is."""
        lines = [" row   fired  tests  result      fault"]
        for row, title in sorted(ROWS.items()):
            tests = sum(self.outcomes[row].values())
            result = self.result(row)
            title = f"{title} ({NOT_HERE[row]})" if result == "not here" else title
            lines.append(f"{row:4} {self.fired[row]:7} {tests:6}  {result:10}  {title}")
        results = Counter(map(self.result, ROWS))
        counts = ", ".join(f"{n} {result}" for result, n in sorted(results.items()))
        lines.append(f"{len(ROWS)} rows: {counts}; {self.fired.total()} faults fired")
        return lines

    def result(self, row: int) -> str:
        """Of all tests of a row."""
        outcomes = self.outcomes[row]
        if not outcomes:
            return "not here" if row in NOT_HERE else "MISSING"
        return "passed" if set(outcomes) == {"passed"} else "FAILED"

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if any(self.result(row) == "MISSING" for row in ROWS) and session.exitstatus == 0:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("the fault matrix")
        for line in self.lines():
            terminalreporter.write_line(line)


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--matrix") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Table(), "fault-matrix")
