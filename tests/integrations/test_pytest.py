"""The plugin for evaluations, in suites of their own against an embedded server."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio

from tests.evaluation.scene import Scene, evaluating, judging
from tests.faults.test_processes import environment

CONFTEST = 'pytest_plugins = ["elluminate_async.integrations.pytest"]\n'

BY_PARAMETER = """
import pytest

pytestmark = pytest.mark.elluminate(
    prompt="Say {{word}}", criteria=["Does it say the word?", "Is it short?"]
)

@pytest.mark.parametrize("word", ["one", "two", "bad", "mute"])
def test_word(word, elluminate_record):
    assert elluminate_record.input == {"word": word}
    assert elluminate_record.response_str == f"echo Say {word}"
    assert elluminate_record.passed
"""

OF_ALL = """
import pytest

ROWS = [{"word": word} for word in ("one", "two", "bad", "mute")]

def asked(**more):
    return pytest.mark.elluminate(
        prompt="Say {{word}}", criteria=["Does it say the word?", "Is it short?"], rows=ROWS, **more
    )

@asked(pass_rate=0.5)
def test_low():
    pass

@asked(pass_rate=0.9)
def test_high():
    raise AssertionError("not reached")

@asked(pass_rate=0.9, max_error_rate=0.1)
def test_strict():
    raise AssertionError("not reached")

@asked()
def test_by_hand(elluminate_evaluation):
    assert len(elluminate_evaluation) == 4
    assert elluminate_evaluation.gate(pass_rate=0.5)

@asked()
def test_each(elluminate_record, elluminate_row):
    assert elluminate_record.input == elluminate_row
"""


@dataclass(frozen=True, slots=True)
class Done:
    """What a run of pytest left.

    Attributes:
        outcomes: Of the tests, by their names: passed, failed, error or skipped.
        properties: Of the tests, by their names.
    """

    code: int
    said: str
    outcomes: dict[str, str]
    properties: dict[str, dict[str, str]]


@dataclass(slots=True)
class Suite:
    """A folder of tests, beside the service that they are evaluated by."""

    scene: Scene
    folder: Path

    async def run(self, *arguments: str, **changed: str) -> Done:
        """Run pytest there; warnings are errors."""
        report = self.folder / "report.xml"
        known = {
            "ELLUMINATE_BASE_URL": self.scene.server.url,
            "ELLUMINATE_API_KEY": self.scene.server.api_key,
        }
        found = {name: value for name, value in (known | changed).items() if value}
        program = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider",
            "--strict-markers", "--rootdir", str(self.folder), f"--junitxml={report}",
            "-o", "junit_family=xunit1", *arguments,
            cwd=self.folder, env=environment(**found),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        with anyio.fail_after(600):
            said, _ = await program.communicate()
        outcomes: dict[str, str] = {}
        properties: dict[str, dict[str, str]] = {}
        for case in ElementTree.parse(report).iter("testcase") if report.exists() else ():
            tags = [child.tag for child in case]
            name = case.attrib["name"]
            known_tags = ("error", "failure", "skipped")
            outcomes[name] = next((tag for tag in known_tags if tag in tags), "passed")
            properties[name] = {
                one.attrib["name"]: one.attrib["value"] for one in case.iter("property")
            }
        assert program.returncode is not None
        return Done(program.returncode, said.decode(), outcomes, properties)


@asynccontextmanager
async def a_suite(folder: Path, *files: str, conftest: str = CONFTEST) -> AsyncGenerator[Suite]:
    """One of these files, whose judge says NO to what is bad, and nothing of what is mute."""
    (folder / "conftest.py").write_text(conftest)
    for number, text in enumerate(files):
        (folder / f"test_{number}.py").write_text(text)
    async with evaluating() as scene:
        # Criteria are judged one by one: only the second is silent.
        judging(
            scene, lambda prompt: "Say bad" not in prompt, silent=lambda prompt: "mute" in prompt
        )
        yield Suite(scene, folder)


async def experiments(scene: Scene) -> int:
    return len(await scene.client.experiments.list())


async def test_each_test_has_its_own_record(tmp_path: Path) -> None:
    """One batch for all: a NO is a failure, and what was not measured an error of the set-up."""
    async with a_suite(tmp_path, BY_PARAMETER) as suite:
        done = await suite.run()
        count = await experiments(suite.scene)

    assert done.outcomes == {
        "test_word[one]": "passed", "test_word[two]": "passed",
        "test_word[bad]": "failure", "test_word[mute]": "error",
    }, done.said  # fmt: skip
    assert done.code == 1
    assert "could not be measured: " in done.said
    assert "Say {{word}}: 2 passed, 1 failed, 1 not measured" in done.said
    assert count == 1
    assert set(suite.scene.model.answered.values()) == {1}


async def test_what_a_report_knows(tmp_path: Path) -> None:
    """JUnit's properties: what was asked and answered, how it was rated, and why not."""
    async with a_suite(tmp_path, BY_PARAMETER) as suite:
        done = await suite.run()
        [experiment] = await suite.scene.client.experiments.list()
        responses = await suite.scene.client.responses.list(experiment=experiment)

    good, bad, mute = (done.properties[f"test_word[{word}]"] for word in ("one", "bad", "mute"))
    ids = {one.response_str: str(one.id) for one in responses}
    assert good["elluminate_input"] == '{"word": "one"}'
    assert good["elluminate_response_id"] == ids["echo Say one"]
    assert good["elluminate_experiment_id"] == str(experiment.id)
    assert good["elluminate_passed"] == "True"
    assert good["elluminate_ratings"] == '{"Does it say the word?": "YES", "Is it short?": "YES"}'
    assert bad["elluminate_passed"] == "False"
    assert "elluminate_passed" not in mute
    assert mute["elluminate_ratings"] == '{"Does it say the word?": "YES"}'
    assert mute["elluminate_not_measured_because"]


async def test_a_failed_test_shows_what_was_answered(tmp_path: Path) -> None:
    """The response and the verdicts, below the assertion."""
    async with a_suite(tmp_path, BY_PARAMETER) as suite:
        done = await suite.run("-k", "bad")

    assert "echo Say bad\nNO  Does it say the word?" in done.said


async def test_a_threshold(tmp_path: Path) -> None:
    """Below it is a failure, too much not measured an error, and neither calls the function."""
    async with a_suite(tmp_path, OF_ALL) as suite:
        done = await suite.run()

    assert done.outcomes == {
        "test_low": "passed", "test_high": "failure", "test_strict": "error",
        "test_by_hand": "passed", "test_each[row0]": "passed", "test_each[row1]": "passed",
        "test_each[row2]": "passed", "test_each[row3]": "error",
    }, done.said  # fmt: skip
    assert "a rate of" in done.said
    assert "not reached" not in done.said.replace('AssertionError("not reached")', "")
    assert set(suite.scene.model.answered.values()) == {1}
    assert len(suite.scene.model.answered) == 4
    low = done.properties["test_low"]
    assert low["elluminate_not_measured"] == "1"
    assert low["elluminate_passed_verdicts"] == str(round(7 * float(low["elluminate_pass_rate"])))


async def test_what_is_deselected_is_not_sent(tmp_path: Path) -> None:
    """Neither by a name, nor where another file is left out."""
    async with a_suite(tmp_path, BY_PARAMETER) as suite:
        done = await suite.run("-k", "one or two")

    assert done.code == 0, done.said
    assert sorted(suite.scene.model.answered) == ["Say one", "Say two"]


async def test_workers_of_xdist_share_a_batch(tmp_path: Path) -> None:
    """What one has done the other takes: every row is generated and rated once."""
    words = [f"word{number}" for number in range(12)]
    text = BY_PARAMETER.replace('["one", "two", "bad", "mute"]', repr(words))
    async with a_suite(tmp_path, text, text) as suite:
        done = await suite.run("-n", "2", "--dist", "loadscope", "-v")
        ratings = 0
        for experiment in await suite.scene.client.experiments.list():
            async for response in suite.scene.client.responses.list(experiment=experiment):
                ratings += len(response.ratings)
        count = await experiments(suite.scene)

    assert done.code == 0, done.said
    assert len(done.outcomes) == 12
    assert "[gw0]" in done.said
    assert "[gw1]" in done.said
    assert "Say {{word}}: 24 passed" in done.said
    assert suite.scene.model.answered == {f"Say {word}": 1 for word in words}
    assert (count, ratings) == (1, 24)


async def test_without_a_key_nothing_is_measured(tmp_path: Path) -> None:
    """Each test is an error that says what to do."""
    async with a_suite(tmp_path, BY_PARAMETER) as suite:
        done = await suite.run("-k", "one or two", ELLUMINATE_API_KEY="")

    assert set(done.outcomes.values()) == {"error"}
    assert done.said.count("could not be measured: ConfigurationError: no API key") >= 2
    assert "elluminate-async serve" in done.said
    assert "Say {{word}}: 2 not measured" in done.said


async def test_offline(tmp_path: Path) -> None:
    """An embedded server of the run's own, whose stand-in answers; the given one is not asked."""
    text = BY_PARAMETER.split("@pytest.mark.parametrize")[0] + (
        "@pytest.mark.parametrize('row', [{'word': 'one'}, {'word': 'two'}])\n"
        "def test_word(row, elluminate_record):\n    assert elluminate_record.response_str\n"
    )
    async with a_suite(tmp_path, text) as suite:
        done = await suite.run("--elluminate-offline", "-n", "2")

    assert done.code == 0, done.said
    assert len(done.outcomes) == 2
    assert not suite.scene.model.answered


async def test_a_journal_outlives_a_crash(tmp_path: Path) -> None:
    """A run that is killed in the midst is taken up by the next: no row is generated twice."""
    crash = BY_PARAMETER.replace(
        "def test_word(word, elluminate_record):",
        "def test_word(word, elluminate_record):\n"
        "    import os; os.environ.get('CRASH') and os._exit(9)",
    )
    async with a_suite(tmp_path, crash) as suite:
        crashed = await suite.run("--elluminate-journal=kept", CRASH="1")
        done = await suite.run("--elluminate-journal=kept")

    assert crashed.code == 9
    assert [*done.outcomes.values()] == ["passed", "passed", "failure", "error"]
    assert set(suite.scene.model.answered.values()) == {1}


async def test_a_service_of_the_suites_file(tmp_path: Path) -> None:
    """Where the service is may stand in pytest's own configuration."""
    async with a_suite(tmp_path, BY_PARAMETER) as suite:
        (tmp_path / "pytest.ini").write_text(
            f"[pytest]\nelluminate_base_url = {suite.scene.server.url}\n"
        )
        done = await suite.run("-k", "one", ELLUMINATE_BASE_URL="")

    assert done.code == 0, done.said


async def test_tests_with_a_loop_of_their_own(tmp_path: Path) -> None:
    """The records of async tests come from a loop beside theirs."""
    text = BY_PARAMETER.replace("def test", "async def test").replace(
        "pytestmark = ", "pytestmark = [pytest.mark.anyio, "
    )
    text = text.replace("\n)\n", "\n)]\n", 1)
    backend = "\n@__import__('pytest').fixture\ndef anyio_backend():\n    return 'asyncio'\n"
    async with a_suite(tmp_path, text, conftest=CONFTEST + backend) as suite:
        done = await suite.run("-k", "one or bad")

    assert done.outcomes == {"test_word[one]": "passed", "test_word[bad]": "failure"}, done.said


def marked(arguments: str, takes: str = "elluminate_record") -> str:
    """A file with one test of such a mark."""
    return f"import pytest\n@pytest.mark.elluminate({arguments})\ndef test_it({takes}):\n    pass\n"


async def test_a_mark_that_cannot_work(tmp_path: Path) -> None:
    """Each is told where it stands when tests are collected; nothing is sent."""
    files = ["promt='x'", "criteria=['x']", "prompt='x', rows='abc'"]
    async with a_suite(tmp_path, *map(marked, files)) as suite:
        done = await suite.run()

    assert done.code == 4, done.said
    assert "Traceback" not in done.said
    for number, told in enumerate(["prompt, criteria", "prompt=", "rows= of the mark"]):
        assert f"test_{number}.py::test_it: " in done.said
        assert told in done.said
    assert not suite.scene.model.answered


async def test_a_mark_that_would_check_nothing(tmp_path: Path) -> None:
    """The run ends as one with wrong usage, as a test that measures nothing would pass."""
    async with a_suite(tmp_path, marked("prompt='x', rows=[{}]", takes="")) as suite:
        done = await suite.run()

    assert done.code == 4
    assert "test_0.py::test_it: nothing would be checked" in done.said


async def test_a_mark_that_cannot_work_under_xdist(tmp_path: Path) -> None:
    """One line and the code of wrong usage, as without workers; nothing is sent."""
    async with a_suite(tmp_path, marked("prompt='x', rows=[{}]", takes=""), BY_PARAMETER) as suite:
        done = await suite.run("-n", "2")

    assert done.code == 4, done.said
    assert done.said.count("test_0.py::test_it: nothing would be checked") == 1
    assert "INTERNALERROR" not in done.said
    assert not suite.scene.model.answered


async def test_a_threshold_that_nobody_would_look_at(tmp_path: Path) -> None:
    """Beside a record it is wrong usage, and so is one that is no share; nothing is sent."""
    files = [
        marked("prompt='x', rows=[{'a': 1}], pass_rate=1.0"),
        marked("prompt='x', rows=[{'a': 1}], max_error_rate=1.5", takes=""),
    ]
    async with a_suite(tmp_path, *files) as suite:
        beside = await suite.run("test_0.py")
        no_share = await suite.run("test_1.py")

    assert beside.code == 4
    assert "test_0.py::test_it: pass_rate of the mark elluminate would not be" in beside.said
    assert no_share.code == 4
    assert "max_error_rate= of the mark elluminate must be a number from 0 to 1" in no_share.said
    assert not suite.scene.model.answered


BAD_ROWS = """
import pytest

def asked(rows, **more):
    criteria = ["Does it say the word?", "Is it short?"]
    return pytest.mark.elluminate(prompt="Say {{word}}", criteria=criteria, rows=rows, **more)

@asked([{"word": "one"}, {"wrod": "two"}])
def test_each(elluminate_record):
    assert elluminate_record.passed

@asked([{"word": "three"}, {"word": object()}], pass_rate=0.5)
def test_all():
    pass

@asked([])
def test_none(elluminate_record):
    pass

def test_unmarked(elluminate_record):
    pass
"""


async def test_what_cannot_be_sent_is_an_error_of_its_own_tests(tmp_path: Path) -> None:
    """A bad row, a list without any, a record without a mark: each names itself; the rest runs."""
    async with a_suite(tmp_path, BAD_ROWS) as suite:
        done = await suite.run()

    assert done.outcomes == {
        "test_each[row0]": "passed", "test_each[row1]": "error", "test_all": "error",
        "test_none": "error", "test_unmarked": "error",
    }, done.said  # fmt: skip
    assert "has no value for {{word}}, did you mean {{wrod}}? it has wrod" in done.said
    assert "rows[1]['word']" in done.said
    assert "rows= of the mark elluminate is empty" in done.said
    assert "elluminate_record is for tests with the mark" in done.said
    assert "not measured" not in done.said
    assert [*suite.scene.model.answered] == ["Say one"]


async def test_what_was_not_measured_is_measured_by_the_next_run(tmp_path: Path) -> None:
    """With the same journal; what was measured is taken from there, and nothing is generated."""
    async with a_suite(tmp_path, BY_PARAMETER) as suite:
        ill = await suite.run("--elluminate-journal=kept")
        judging(suite.scene, lambda prompt: "Say bad" not in prompt)
        well = await suite.run("--elluminate-journal=kept", "-n", "2")

    assert ill.outcomes["test_word[mute]"] == "error"
    assert [*well.outcomes.values()].count("passed") == 3, well.said
    assert well.outcomes["test_word[bad]"] == "failure"
    assert set(suite.scene.model.answered.values()) == {1}


async def test_a_record_without_a_row(tmp_path: Path) -> None:
    """The text says how a row is given."""
    async with a_suite(tmp_path, marked("prompt='x'")) as suite:
        done = await suite.run()

    assert done.code == 4
    assert "which row is it about? Give the mark rows=" in done.said


async def test_a_suite_without_marks_is_as_it_was(tmp_path: Path) -> None:
    """No summary, no thread, no request; and the plugin can be left out."""
    text = "import threading\ndef test_it():\n    assert threading.active_count() == 1\n"
    async with a_suite(tmp_path, text) as suite:
        done = await suite.run(ELLUMINATE_API_KEY="")
        without = await suite.run("-p", "no:elluminate_async.integrations.pytest")

    assert (done.code, without.code) == (0, 0)
    assert "elluminate" not in done.said.partition("test session starts")[2].partition("rootdir")[2]
