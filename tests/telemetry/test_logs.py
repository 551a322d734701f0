"""The client's log: which events, at which level, with which fields; and ``ELLUMINATE_LOG``."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from elluminate_async import BatchOptions
from elluminate_async.limits.limits import Limits
from elluminate_async.telemetry import Telemetry
from elluminate_async.telemetry.logs import FIELDS
from elluminate_async.testing import VIRTUAL_TIME
from tests.evaluation.scene import CRITERIA, PROMPT, evaluating, words
from tests.faults.test_processes import environment
from tests.flow.bench import Once
from tests.flow.conftest import staged

OPTIONS = BatchOptions(chunk_size=10)
VALUES = [f"v{number}" for number in range(25)]
PLAIN = set(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """What an event has besides its text."""
    return {
        name.removeprefix("elluminate_"): value
        for name, value in vars(record).items()
        if name not in PLAIN
    }


def events(caplog: pytest.LogCaptureFixture) -> list[tuple[str, object]]:
    """Level and event of each record."""
    return [(one.levelname, fields_of(one).get("event")) for one in caplog.records]


def seen_at(caplog: pytest.LogCaptureFixture, level: int) -> None:
    """Look at this level from now on, at nothing of before."""
    caplog.clear()
    caplog.set_level(level, "elluminate_async")


async def test_a_batch_tells_its_beginning_and_its_end(caplog: pytest.LogCaptureFixture) -> None:
    """Two lines at INFO, with what they are of and what came."""
    async with staged(options=OPTIONS) as stage:
        rows = await stage.variables(VALUES)
        seen_at(caplog, logging.INFO)
        await stage.client.responses.generate_many(
            template_variables=rows, experiment=stage.experiment
        )

    assert events(caplog) == [("INFO", "call_began"), ("INFO", "call_ended")]
    began, ended = map(fields_of, caplog.records)
    assert (began["operation"], began["items"], began["kind"]) == ("generate", 25, "batch")
    assert ended["call"] == began["call"]
    assert (ended["succeeded"], ended["failed"], ended["codes"]) == (25, 0, {})
    said = [record.getMessage() for record in caplog.records]
    assert re.fullmatch(r"generate \w{12}: began, 25 items", said[0])
    assert re.fullmatch(r"generate \w{12}: ended in \S+ s, 25 of 25 items succeeded", said[1])


async def test_a_single_call_tells_its_end(caplog: pytest.LogCaptureFixture) -> None:
    """One line at INFO, as it is paid for; a request that is not says nothing."""
    async with staged() as stage:
        (row,) = await stage.variables(["v"])
        seen_at(caplog, logging.INFO)
        await stage.client.responses.generate(template_variables=row, experiment=stage.experiment)
        await stage.client.experiments.get(id=stage.experiment.id)

    assert events(caplog) == [("INFO", "call_ended")]


async def test_an_evaluation_tells_of_itself_and_not_of_its_steps(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Two lines at INFO and one WARNING for all its failures; the steps are at DEBUG."""
    async with evaluating(options=OPTIONS) as scene:
        scene.model.failing = lambda prompt: prompt.endswith("word3")
        seen_at(caplog, logging.INFO)
        await scene.client.evaluate(words(12), prompt=PROMPT, criteria=CRITERIA)

    assert events(caplog) == [
        ("INFO", "call_began"), ("INFO", "call_ended"), ("WARNING", "items_failed")
    ]  # fmt: skip
    failed = fields_of(caplog.records[2])
    assert (failed["items"], failed["codes"]) == (12, {"generation_failed": 1})


@pytest.mark.parametrize("kind", ["batch", "stream"])
async def test_items_given_up_are_one_warning(caplog: pytest.LogCaptureFixture, kind: str) -> None:
    """However many: by code, with the first few, and the call that they are of."""
    async with staged(options=OPTIONS) as stage:
        rows = await stage.variables(VALUES)
        stage.model.failing = lambda prompt: True
        seen_at(caplog, logging.WARNING)
        if kind == "batch":
            await stage.client.responses.generate_many(
                template_variables=rows, experiment=stage.experiment
            )
        else:
            stream = stage.client.responses.stream_generate_many(
                template_variables=rows, experiment=stage.experiment
            )
            assert len([pair async for pair in stream]) == 25

    assert events(caplog) == [("WARNING", "items_failed")]
    (record,) = caplog.records
    assert fields_of(record)["codes"] == {"generation_failed": 25}
    assert fields_of(record)["kind"] == kind
    # A stream's chunks end in any order.
    first = r"(\d+ generation_failed; ){3}…"
    said = record.getMessage().split(": ", 1)[1]
    assert re.fullmatch(rf"25 of 25 items failed: 25 generation_failed; at {first}", said)


async def test_each_attempt_is_a_line_at_debug(
    caplog: pytest.LogCaptureFixture, quick_back_off: None
) -> None:
    """As many as the server saw; one that is sent again says so, and why."""
    async with staged(options=OPTIONS) as stage:
        rows = await stage.variables(VALUES)
        stage.recorder.before = Once(503)
        stage.recorder.requests.clear()
        seen_at(caplog, logging.DEBUG)
        await stage.client.responses.generate_many(
            template_variables=rows, experiment=stage.experiment
        )
        requests = len(stage.recorder.requests)

    found = Counter(events(caplog))
    assert found["DEBUG", "attempt_ended"] == requests == 7
    assert found["DEBUG", "retry"] == 1
    assert found["DEBUG", "chunk_ended"] == 3
    attempts = [fields_of(one) for one in caplog.records if "attempt_ended" in vars(one).values()]
    refused = next(one for one in attempts if one["status"] == 503)
    assert (refused["verdict"], refused["cause"], refused["attempt"]) == ("ambiguous", "503", 1)
    assert refused["route"] == "/api/v0/projects/{id}/responses/batches"
    assert refused["chunk"] in {1, 2, 3}
    chunks = [fields_of(one) for one in caplog.records if "chunk_ended" in vars(one).values()]
    jobs = [str(one["jobs"]) for one in chunks]
    assert len(set(jobs)) == 3


@pytest.mark.parametrize("anyio_backend", [VIRTUAL_TIME])
async def test_a_hold_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    """However many requests are told to wait."""
    async with staged(options=OPTIONS) as stage:
        rows = await stage.variables(VALUES)
        stage.recorder.before = Once(429, times=3, retry_after="1")
        seen_at(caplog, logging.WARNING)
        await stage.client.responses.generate_many(
            template_variables=rows, experiment=stage.experiment
        )

    assert events(caplog) == [("WARNING", "hold")]
    (record,) = caplog.records
    assert fields_of(record)["wait"] == 1.0
    assert record.getMessage() == (
        "the service asked for a wait of 1 s: nothing is sent until then"
    )


@pytest.mark.parametrize("anyio_backend", [VIRTUAL_TIME])
async def test_an_outage_is_told_when_it_begins_and_when_it_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Two warnings, however many requests fail meanwhile."""
    import anyio

    limits = Limits(10, None, telemetry=Telemetry())
    seen_at(caplog, logging.WARNING)
    for _ in range(60):
        limits.failed("HTTP 503")
        await anyio.sleep(0.2)
    assert limits.readings().service_open
    limits.answered()

    assert events(caplog) == [("WARNING", "breaker")] * 2
    opened, closed = map(fields_of, caplog.records)
    assert (opened["is_open"], opened["breaker"], opened["cause"]) == (True, "service", "HTTP 503")
    assert closed["is_open"] is False
    assert closed["seconds"] == pytest.approx(12.0)
    assert not limits.readings().service_open


async def test_every_field_is_documented_and_none_is_the_loggers_own(
    caplog: pytest.LogCaptureFixture, quick_back_off: None
) -> None:
    """All begin with ``elluminate_``; the how-to page has them all."""
    async with staged(options=OPTIONS) as stage:
        rows = await stage.variables(VALUES)
        stage.recorder.before = Once(503)
        stage.model.failing = lambda prompt: prompt.endswith("3")
        seen_at(caplog, logging.DEBUG)
        await stage.client.responses.generate_many(
            template_variables=rows, experiment=stage.experiment
        )

    told = {
        name
        for record in caplog.records
        for name in vars(record)
        if "elluminate_event" in vars(record) and name not in PLAIN
    }
    assert told <= {f"elluminate_{field}" for field in FIELDS}
    page = (Path(__file__).parents[2] / "docs/how-to/telemetry.md").read_text()
    assert [field for field in sorted(FIELDS) if f"`{field}`" not in page] == []


LOOK = """
import asyncio, logging, sys
from elluminate_async import AsyncClient
from elluminate_async.testing import ScriptedService

async def main():
    async with ScriptedService() as service:
        for _ in range(2):
            async with AsyncClient(base_url=service.url, api_key=service.api_key) as client:
                await client.projects.current()

asyncio.run(main())
"""


def looked(value: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """A program in whose environment the variable has that value."""
    return subprocess.run(
        [sys.executable, "-c", before + LOOK],
        env=environment() | {"ELLUMINATE_LOG": value},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_quick_look_shows_the_log_on_standard_error() -> None:
    """Each request once, of both clients."""
    done = looked("debug")

    assert done.returncode == 0, done.stderr
    shown = [line for line in done.stderr.splitlines() if "GET /api/v0/projects: 200" in line]
    assert len(shown) == 2
    assert re.fullmatch(r"\S+ \S+ DEBUG elluminate_async: GET .* in \S+ s", shown[0])


def test_a_quick_look_leaves_a_programs_own_handlers_to_show_it() -> None:
    """No line comes twice."""
    done = looked("debug", "import logging; logging.basicConfig(format='own %(message)s')\n")

    shown = [line for line in done.stderr.splitlines() if "GET /api/v0/projects: 200" in line]
    assert len(shown) == 2
    assert all(line.startswith("own ") for line in shown)


@pytest.mark.parametrize("value", ["", "warning"])
def test_a_quick_look_shows_no_more_than_is_asked_for(value: str) -> None:
    """Nothing, of a run in which nothing went wrong."""
    done = looked(value)

    assert (done.returncode, done.stderr) == (0, "")


def test_a_quick_look_at_no_level_is_an_error() -> None:
    """It names the variable, the levels and the value."""
    done = looked("loud")

    assert done.returncode == 1
    assert (
        "ConfigurationError: ELLUMINATE_LOG must be one of debug, info, warning, or not be set, "
        "not 'loud'"
    ) in done.stderr
