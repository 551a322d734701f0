"""The official clients, unchanged, against a real ``elluminate-async serve``."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from elluminate_async import AsyncClient
from elluminate_async.server import LocalServer
from tests.flow.bench import EchoModel
from tests.server.program import REPOSITORY, serving
from tests.server.test_server_validity import poison

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Iterator

    from tests.matrix import Fired
    from tests.server.program import Program

pytestmark = pytest.mark.official

PROGRAMS = Path(__file__).parent / "programs"
KEY = "official-test-key"
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Program]:
    with serving("--db", str(tmp_path / "s.db"), "--api-key", KEY) as program:
        yield program
        assert program.end() == 0


def environment(version: str, url: str = "") -> tuple[Path, dict[str, str]]:
    """The interpreter with the official client of that version, and its variables."""
    python = REPOSITORY / ".venv-official" / version / "bin" / "python"
    if not python.exists():
        reason = f"no environment with elluminate {version}; make it with: make official"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    known = {
        name: value
        for name, value in os.environ.items()
        if name.lower() not in _PROXIES and name not in ("PYTHONPATH", "ELLUMINATE_BASE_URL")
    }
    there = {"ELLUMINATE_BASE_URL": url} if url else {}
    return python, {**known, "ELLUMINATE_API_KEY": KEY, "LOGURU_LEVEL": "WARNING", **there}


def run(version: str, program: str, url: str, *arguments: str) -> str:
    """Run a program with the official client of that version; what it printed."""
    python, variables = environment(version, url)
    done = subprocess.run(
        [python, PROGRAMS / program, *arguments],
        check=False,
        capture_output=True,
        text=True,
        env=variables,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def official(version: str, program: str) -> Process:
    """Start a program that is told line by line what to do."""
    python, variables = environment(version)
    return await asyncio.create_subprocess_exec(
        python, PROGRAMS / program, stdin=PIPE, stdout=PIPE, env=variables
    )


def answers(printed: str) -> list[str]:
    """The text of each response that the guide's program printed, ratings included."""
    return printed.split("\n\nResponse: ")[1:]


def test_batch_guide_with_0_6_12(server: Program) -> None:
    """The guide's program runs as it is, and again: each language has its own response."""
    first = answers(run("0.6.12", "guide.py", server.url))
    assert len(first) == 2
    for text, language, quirk in (
        (first[0], "Python", "mutable default arguments"),
        (first[1], "JavaScript", "type coercion"),
    ):
        assert f"Explain why {language}'s {quirk}" in text
        assert text.count("Criteria: ") == text.count("Rating: ") >= 3
    # This version returns all responses of the experiment, those of the first run included.
    again = answers(run("0.6.12", "guide.py", server.url))
    assert again == first * 2


def test_flow_with_1_5_2(server: Program) -> None:
    """Template to streamed ratings, twice; the program itself checks what belongs to what."""
    assert run("1.5.2", "flow_1_5_2.py", server.url).endswith("ok\n")
    assert run("1.5.2", "flow_1_5_2.py", server.url).endswith("ok\n")


def test_conversations_with_1_5_2(server: Program) -> None:
    """Cells that the client makes are prompts, alone and with a template; the program checks."""
    assert run("1.5.2", "conversations_1_5_2.py", server.url) == "ok\n"


@pytest.mark.parametrize("version", ["0.6.12", "0.7.3", "1.0.6", "1.5.2"])
def test_every_document_is_whole(server: Program, version: str) -> None:
    """The client's own models read each one, and none of their fields is left to its default."""
    seen = json.loads(run(version, "documents.py", server.url))
    assert seen["Experiment"] == 3
    assert seen["ExperimentResults"] == 3
    assert seen["PromptResponse"] == 10
    assert seen["Rating"] == 22
    assert seen["GenerationMetadata"] == 32


def test_reads_with_1_5_2(server: Program) -> None:
    """Samples, comparisons, statistics, maps and filters; the program itself checks them."""
    assert run("1.5.2", "reads_1_5_2.py", server.url).endswith("ok\n")


def test_keys_and_deletions_with_1_5_2(server: Program) -> None:
    """Every key is honoured or refused, and no deletion takes paid work along."""
    assert run("1.5.2", "validity_1_5_2.py", server.url) == "ok\n"


def test_upgrade_with_1_5_2(tmp_path: Path) -> None:
    """Every listing of a database that holds words which 1.5.2 does not know can be read."""
    db = tmp_path / "s.db"
    options = ("--db", str(db), "--api-key", KEY)
    with serving(*options) as program:
        fill(program.url)
        assert program.end() == 0
    poison(db)
    with serving(*options) as program:
        assert run("1.5.2", "validity_1_5_2.py", program.url, "poisoned") == "ok\n"
        assert program.end() == 0


def fill(url: str) -> None:
    """An experiment with two responses."""

    async def work() -> None:
        async with AsyncClient(base_url=url, api_key=KEY) as client:
            template, _ = await client.prompt_templates.get_or_create("Say {{word}}.", "T")
            rows = [{"word": "a"}, {"word": "b"}]
            collection = await client.collections.create("C", variables=rows)
            experiment = await client.experiments.create(
                "E", prompt_template=template, collection=collection
            )
            await client.responses.generate_many(experiment=experiment, collection=collection)

    asyncio.run(work())


@pytest.mark.row(128)
@pytest.mark.parametrize("version", ["0.6.12", "1.5.2"])
def test_long_rows(server: Program, version: str, fired: Fired) -> None:
    """A hundred rows of 200 KB come in pages of fewer: each comes once, with its rating."""
    printed = run(version, f"long_{version.replace('.', '_')}.py", server.url)
    fired(times=100)
    assert printed == "100 100 100\n"


async def test_retry_failed_with_1_5_2() -> None:
    """Of a streamed experiment: what failed is made again, the good ones keep ids and ratings."""
    model = EchoModel()
    model.failing = lambda prompt: "bad" in prompt and model.answered[prompt] == 1
    async with LocalServer(model=model, api_key=KEY) as server:
        printed = await asyncio.to_thread(run, "1.5.2", "retry_1_5_2.py", server.url)
    assert printed == "ok\n"
    assert sorted(model.answered.values()) == [1, 1, 2, 2]
