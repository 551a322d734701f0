"""Evaluations as tests; a suite opts in by ``pytest_plugins`` or ``-p``, naming this module.

Marked tests that share prompt, criteria and configuration are one batch, which is run for the
first of them; each then looks at its own record::

    @pytest.mark.elluminate(prompt="Answer: {{question}}", criteria=["Is it right?"])
    @pytest.mark.parametrize("question", ["Why is the sky blue?", "Who wrote Faust?"])
    def test_answer(question, elluminate_record):
        assert elluminate_record.passed

What could not be measured is an error at the test's set-up, and never a pass or a failure.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import pytest

from elluminate_async import Evaluation, EvaluationRecord, Gate, InputError
from elluminate_async.integrations.pytest_groups import (
    MARK,
    OWN,
    SHARED,
    Case,
    asked_by,
    canonical,
    grouped,
)

# Properties of a report.
_GROUP, _COST = f"{MARK}_group", f"{MARK}_cost"
_NOT_MEASURED = f"{MARK}_not_measured_because"
_KEPT = f"{MARK}_kept"
_SERVER_STARTS = "Listening on "


class _Run:
    """The run of all tests, as far as this process knows it."""

    def __init__(self, config: pytest.Config) -> None:
        self.undo = ExitStack()
        self.cases: dict[pytest.Item, Case] = {}
        self.misused: dict[pytest.Item, str] = {}
        self.gates: dict[pytest.Item, Gate] = {}
        # Of a run whose workers were told to end, why.
        self.told_by_workers: list[str] = []
        self.base_url: str | None = config.getini("elluminate_base_url") or None
        # Options of a plugin that a test's module names come too late to be there.
        given = config.getoption("elluminate_journal", None)
        self.journals = None if given is None else Path(given).absolute()
        worker: Mapping[str, Any] = getattr(config, "workerinput", {})
        if MARK in worker:
            self.journals = Path(worker[MARK])
        # Those of earlier runs: a worker is told of them, as another may have begun some by then.
        self.kept: list[str] = worker.get(_KEPT, _names_in(self.journals))

    def shared_journals(self) -> Path:
        """Those by which workers know what each of them has done."""
        if self.journals is None:
            folder = self.undo.enter_context(TemporaryDirectory(prefix="elluminate-"))
            self.journals = Path(folder)
        return self.journals

    def evaluation(self, item: pytest.Item, case: Case) -> Evaluation:
        """The evaluation of the test's group; where there is none the test ends here."""
        try:
            return case.group.evaluation(self.base_url, self.journals, self.kept)
        except InputError as error:
            pytest.fail(f"{MARK}: {error}", pytrace=False)
        except Exception as error:
            _not_measured(item, case, f"{type(error).__name__}: {error}")


def _names_in(folder: Path | None) -> list[str]:
    return [] if folder is None or not folder.is_dir() else os.listdir(folder)


_RUN = pytest.StashKey[_Run]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options, all named after the service."""
    group = parser.getgroup(MARK, "evaluations by elluminate-async")
    group.addoption(
        "--elluminate-offline",
        action="store_true",
        help="evaluate on an embedded server, whose stand-in for a model knows nothing",
    )
    group.addoption(
        "--elluminate-journal",
        metavar="DIR",
        help="remember what was done: the same tests again, also after a crash, take it from there",
    )
    parser.addini("elluminate_base_url", "where the service is, instead of ELLUMINATE_BASE_URL")


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known, and start the embedded server where it is asked for."""
    config.addinivalue_line(
        "markers", f"{MARK}({', '.join(f'{name}=' for name in SHARED + OWN)}): an evaluation"
    )
    run = config.stash[_RUN] = _Run(config)
    is_worker = hasattr(config, "workerinput")
    offline = config.getoption("elluminate_offline", False)
    if offline:
        run.base_url = None
    if offline and not is_worker and not config.getoption("collectonly"):
        # Workers inherit the environment.
        run.undo.enter_context(_serving())


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the embedded server, and leave no temporary files."""
    if run := config.stash.get(_RUN, None):
        run.undo.close()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist where the workers' journals are, and which were there."""
    run = node.config.stash[_RUN]
    node.workerinput[MARK] = str(run.shared_journals())
    node.workerinput[_KEPT] = run.kept


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Hear from a worker of pytest-xdist why it has no tests."""
    told = node.config.stash[_RUN].told_by_workers
    told += [why for why in getattr(node, "workeroutput", {}).get(MARK, ()) if why not in told]


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """As without workers: a mark that cannot work is wrong usage of the whole."""
    if session.config.stash[_RUN].told_by_workers:
        session.exitstatus = pytest.ExitCode.USAGE_ERROR


@contextmanager
def _serving() -> Generator[None]:
    """An embedded server in a process of its own, and the environment that leads to it."""
    key = f"offline-{os.urandom(16).hex()}"
    with (
        TemporaryDirectory(prefix="elluminate-") as folder,
        Path(folder, "errors").open("w+") as errors,
        subprocess.Popen(
            [sys.executable, "-m", "elluminate_async", "serve", "--port", "0"],
            cwd=folder,
            env={**os.environ, "ELLUMINATE_SERVER_API_KEY": key},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as server,
        pytest.MonkeyPatch.context() as environment,
    ):
        try:
            assert server.stdout is not None
            lines = [line.strip() for line in _until_listening(server.stdout)]
            if not lines or not lines[-1].startswith(_SERVER_STARTS):
                server.wait()
                told = Path(folder, "errors").read_text().splitlines()
                raise pytest.UsageError(f"--elluminate-offline: no server: {' '.join(told[-1:])}")
            environment.setenv("ELLUMINATE_BASE_URL", lines[-1].removeprefix(_SERVER_STARTS))
            environment.setenv("ELLUMINATE_API_KEY", key)
            environment.delenv("ELLUMINATE_OAUTH_TOKEN", raising=False)
            yield
        finally:
            server.terminate()


def _until_listening(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        yield line
        if line.startswith(_SERVER_STARTS):
            return


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes a record is one test for each of the mark's ``rows``."""
    if "elluminate_record" not in metafunc.fixturenames:
        return
    try:
        asked = asked_by(metafunc.definition) or {}
    except pytest.UsageError:
        # Told of when all tests are there, in a line that no traceback hides.
        return
    if asked.get("rows"):
        ids = asked.get("ids") or [f"row{number}" for number in range(len(asked["rows"]))]
        metafunc.parametrize("elluminate_row", asked["rows"], ids=ids, indirect=True)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Put together what is left after ``-k`` and the like, so that nothing else is sent."""
    run = session.config.stash[_RUN]
    try:
        run.cases, run.misused = grouped(session.items)
    except pytest.UsageError as error:
        output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
        if output is None:
            raise
        # A worker that raises is one that crashed, to pytest-xdist, whose words tell nothing.
        output[MARK] = [*map(str, error.args)]
        session.items.clear()


@pytest.fixture
def elluminate_row(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    """The row that the test is about."""
    case = _case(request)
    if case.index is None:
        pytest.fail("a test of the whole evaluation has no row of its own", pytrace=False)
    return case.group.rows[case.index]


@pytest.fixture
def elluminate_record(
    request: pytest.FixtureRequest, elluminate_row: Mapping[str, Any]
) -> EvaluationRecord:
    """The record of the test's row: its response, its ratings, and whether it passed.

    Where that could not be measured the test ends as an error, before its function is called.
    """
    case, item = _case(request), request.node
    evaluation = request.config.stash[_RUN].evaluation(item, case)
    assert case.index is not None
    record = evaluation[case.index]
    _note(item, case, _told_of(record, evaluation))
    item.add_report_section("setup", MARK, _text_of(record))
    if record.passed is None:
        _not_measured(item, case, str(record.error or "there is no verdict"))
    return record


@pytest.fixture
def elluminate_evaluation(request: pytest.FixtureRequest) -> Evaluation:
    """The evaluation of all rows of the mark, or of all tests that share its arguments."""
    return request.config.stash[_RUN].evaluation(request.node, _case(request))


def _case(request: pytest.FixtureRequest) -> Case:
    run = request.config.stash[_RUN]
    case = run.cases.get(request.node)
    if case is None:
        # The row is asked for by the record.
        name = "elluminate_record"
        asked = name if name in request.fixturenames else request.fixturename
        why = run.misused.get(request.node, f"{asked} is for tests with the mark {MARK}")
        pytest.fail(why, pytrace=False)
    return case


@pytest.hookimpl(trylast=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test of a whole evaluation: what could not be measured is an error of its set-up."""
    run = item.config.stash[_RUN]
    if item in run.misused:
        pytest.fail(run.misused[item], pytrace=False)
    case = run.cases.get(item)
    if case is None or case.index is not None:
        return
    evaluation = run.evaluation(item, case)
    overall = evaluation.summary()[evaluation.configs[0]].overall
    _note(item, case, _told_of_all(evaluation))
    if case.thresholds:
        gate = evaluation.gate(
            pass_rate=case.thresholds.get("pass_rate"),
            max_error_rate=case.thresholds.get("max_error_rate"),
        )
        if gate.status == "not measured":
            _not_measured(item, case, "; ".join(gate.reasons))
        run.gates[item] = gate
    elif not overall.n:
        _not_measured(item, case, f"none of {overall.not_measured} verdicts was measured")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Below the threshold: a failure, before the test's own function has its say."""
    gate = item.config.stash[_RUN].gates.get(item)
    if gate is not None and not gate:
        pytest.fail("; ".join(gate.reasons), pytrace=False)


def _not_measured(item: pytest.Item, case: Case, why: str) -> NoReturn:
    """End a test in its set-up, which makes it an error and no failure."""
    item.user_properties += [(_GROUP, case.group.label), (_NOT_MEASURED, why)]
    pytest.fail(f"could not be measured: {why}", pytrace=False)


def _note(item: pytest.Item, case: Case, told: Mapping[str, object]) -> None:
    """Properties of the test's report: in JUnit XML, and on their way from a worker."""
    item.user_properties.append((_GROUP, case.group.label))
    item.user_properties += [
        (f"{MARK}_{name}", value) for name, value in told.items() if value is not None
    ]


def _told_of(record: EvaluationRecord, evaluation: Evaluation) -> dict[str, object]:
    ratings = {str(one.criterion.criterion_str): str(one.rating) for one in record.ratings or ()}
    return {
        "input": canonical(dict(record.input)),
        "experiment_id": ", ".join(str(one.id) for one in evaluation.experiments) or None,
        "response_id": None if record.response is None else record.response.id,
        "passed": record.passed,
        "ratings": canonical(ratings),
        "cost": record.cost,
        "error": None if record.error is None else record.error.code,
    }


def _told_of_all(evaluation: Evaluation) -> dict[str, object]:
    overall = evaluation.summary()[evaluation.configs[0]].overall
    return {
        "experiment_id": ", ".join(str(one.id) for one in evaluation.experiments) or None,
        "measured": overall.n,
        "passed_verdicts": overall.passed,
        "not_measured": overall.not_measured,
        "pass_rate": overall.rate if overall.n else None,
    }


def _text_of(record: EvaluationRecord) -> str:
    """The response and its verdicts, for a test that fails."""
    lines = [record.response_str or "(no response)"]
    for one in record.ratings or ():
        reasoning = f": {one.reasoning}" if one.reasoning else ""
        lines.append(f"{one.rating}  {one.criterion.criterion_str}{reasoning}")
    lines += [f"not measured  {one.criterion_str}" for one in record.not_measured]
    return "\n".join(lines)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """A line for each evaluation: what became of its tests, and what it cost."""
    for why in terminalreporter.config.stash[_RUN].told_by_workers:
        terminalreporter.write_line(f"ERROR: {why}", red=True)
    counts: dict[str, Counter[str]] = {}
    costs: dict[str, dict[object, float]] = {}
    for category in ("passed", "failed", "error"):
        for report in terminalreporter.stats.get(category, ()):
            told: dict[str, Any] = dict(getattr(report, "user_properties", ()))
            if category == "error" and _NOT_MEASURED not in told:
                continue
            if (label := told.get(_GROUP)) is not None:
                word = "not measured" if category == "error" else category
                counts.setdefault(label, Counter())[word] += 1
                if _COST in told:
                    # Several tests may be about one response.
                    response = told.get(f"{MARK}_response_id")
                    costs.setdefault(label, {})[response] = told[_COST]
    if counts:
        terminalreporter.section(MARK)
    for label, found in counts.items():
        parts = [f"{number} {word}" for word, number in found.items()]
        if label in costs:
            parts.append(f"cost {sum(costs[label].values()):.4g}")
        terminalreporter.write_line(f"{label}: {', '.join(parts)}")
