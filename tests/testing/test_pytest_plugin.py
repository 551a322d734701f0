"""The fixtures work in a suite of somebody else's, whatever runs its async tests."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from elluminate_async.testing import ScriptedService
from elluminate_async.testing.pytest_plugin import ThreadedService

ROOT = Path(__file__).parent.parent.parent

CONFTEST = 'pytest_plugins = ["elluminate_async.testing.pytest_plugin"]\n'

PROGRAM = """
from elluminate_async import AsyncClient
from elluminate_async.testing import Fault, check_batch

INPUTS = [{"x": str(number)} for number in range(5)]

async def run(service):
    async with AsyncClient(base_url=service.url, api_key=service.api_key) as client:
        template, _ = await client.prompt_templates.get_or_create("say {{x}}", name="T")
        collection, _ = await client.collections.get_or_create("C")
        variables = await client.template_variables.add_many(INPUTS, collection=collection)
        experiment, _ = await client.experiments.get_or_create(
            "E", prompt_template=template, collection=collection
        )
        batch = await client.responses.generate_many(
            template_variables=variables, experiment=experiment
        )
    report = check_batch(batch, INPUTS, service.ledger)
    assert report.clean and len(report.ok) == 5, report
    assert service.traffic.total > 5
"""

SYNC = """
import asyncio

def test_sync(elluminate_service):
    fault = Fault("502-processed", on="POST responses/batches", times=1)
    elluminate_service.faults.append(fault)
    asyncio.run(run(elluminate_service))
    assert fault.fired == 1

def test_each_test_has_its_own(elluminate_service):
    assert elluminate_service.traffic.total == 0

def test_factory(elluminate_service_factory):
    services = [elluminate_service_factory(keys=False, results=False) for _ in range(2)]
    assert services[0].url != services[1].url
    assert not services[0].script.keys
    for service in services:
        asyncio.run(run(service))
"""

ANYIO = """
import pytest

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.mark.anyio
async def test_async(elluminate_service):
    await run(elluminate_service)
"""

# What pytest-asyncio does, and is not installed here: a loop of its own around the test's
# function, with the fixtures made outside of it.
OWN_LOOP = """
import asyncio
import functools
import pytest

def in_a_loop(function):
    @functools.wraps(function)
    def test(elluminate_service):
        with asyncio.Runner(debug=True) as runner:
            runner.run(function(elluminate_service))
    return test

@in_a_loop
async def test_async(elluminate_service):
    await run(elluminate_service)
"""


@pytest.mark.parametrize(("tests", "passed"), [(SYNC, 3), (ANYIO, 1), (OWN_LOOP, 1)])
def test_in_a_suite_of_its_own(tmp_path: Path, tests: str, passed: int) -> None:
    """Sync tests, anyio's plugin and a runner per test use the same fixtures."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text(PROGRAM + tests)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )

    assert done.returncode == 0, done.stdout
    assert f"{passed} passed" in done.stdout


def test_leaving_ends_the_thread() -> None:
    """No thread outlives the fixture."""
    before = threading.active_count()
    with ThreadedService(ScriptedService()) as hosted:
        assert hosted.url.startswith("http://127.0.0.1:")
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_without_the_plugin_pytest_is_not_imported() -> None:
    """A program may use the test bench where pytest is not installed."""
    code = "import sys, elluminate_async.testing; assert 'pytest' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)

    assert done.returncode == 0
