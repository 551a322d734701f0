"""``run``: exit codes, files, resuming, and its document."""

from __future__ import annotations

import json
import re
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from elluminate_async.cli.runs import SavedRun
from tests.cli.command import CRITERIA, PROMPT, REPOSITORY, Command, endpoint
from tests.cli.schemas import misfit
from tests.server.endpoint import refusal

RUN = ("run", "rows.csv", *PROMPT, *CRITERIA)


def document(command: Command, *arguments: str) -> tuple[dict[str, Any], int]:
    """The one document on standard output, held against the published schema, and the code."""
    schema = json.loads(command("run", "--json-schema").out)
    done = command(*arguments, "--json")
    found = json.loads(done.out)
    assert not misfit(found, schema, schema)
    assert found["exit_code"] == done.code
    return found, done.code


def test_rows_become_a_table_and_a_gate_in_one_command(command: Command) -> None:
    """Passed is 0; people read standard error, and standard output stays empty."""
    done = command(*RUN)

    assert done.code == 0
    assert done.out == ""
    assert re.search(r"Is it right\? +\d of 3 ", done.err)
    assert "3 of 3 items evaluated" in done.err
    assert "run rows: passed" in done.err
    assert "No model was asked" in done.err
    assert "means nothing" in done.err


def test_quiet_leaves_the_result(command: Command) -> None:
    """The table, the note on the stand-in and the decision."""
    err = command(*RUN, "--quiet").err

    assert "evaluating" not in err
    assert "service" not in err
    assert "all criteria" in err
    assert "means nothing" in err
    assert err.endswith("run rows: passed\n")


def test_the_shipped_example_passes_its_gate(command: Command) -> None:
    """`run examples/support_tickets.yaml` needs nothing but a clone, and has at least 200 rows."""
    for path in (REPOSITORY / "examples").glob("support_tickets.*"):
        shutil.copy(path, command.folder)
    found, code = document(command, "run", "support_tickets.yaml", "--quiet")

    assert code == 0
    assert found["records"] >= 200
    assert found["failed"] == 0
    assert found["gate"]["pass_rate"] == 0.5
    assert found["is_offline"]


def test_a_column_that_no_placeholder_can_name_is_told(command: Command) -> None:
    """In braces it would be sent as it stands, row after row: the text has the name to take."""
    command.write("spaces.csv", "first name,b\nx,y\n")
    found, code = document(command, "run", "spaces.csv", "--prompt", "{{ first name }} {{b}}")

    assert code == 2
    assert found["error"].startswith("{{ first name }} would not be filled in")
    assert "rename the column 'first name' to 'first_name'" in found["error"]


def test_below_the_threshold_is_1(command: Command) -> None:
    """The reason is told in numbers."""
    done = command(*RUN, "--fail-under", "1")

    assert done.code == 1
    assert re.search(r"gate: all criteria: \d of 6 verdicts passed.* and below 1", done.err)
    assert "run rows: failed" in done.err


def test_a_judge_that_is_down_is_3_and_no_no(command: Command) -> None:
    """Nothing was measured, so nothing failed; with a judge the run goes on and measures."""
    with endpoint(lambda _: refusal(401, "no such key")) as down:
        judge = ("--judge-base-url", down.url, "--judge-model", "j")
        found, code = document(command, *RUN, *judge, "--fail-under", "0.5")

    assert code == 3
    assert found["status"] == "not measured"
    assert found["failures"] == {"rating_failed": 3}
    assert found["configurations"]["default"]["overall"]["rate"] is None
    assert found["resume"] == "elluminate-async run rows --resume"

    found, code = document(command, "run", "rows", "--resume", "--judge-model", "offline")

    assert found["failed"] == 0
    assert found["status"] in ("passed", "failed")
    assert found["configurations"]["default"]["overall"]["measured"] == 6


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["run", "none.csv", *PROMPT], "cannot read none.csv: No such file"),
        (["run", "rows.txt", *PROMPT], "a file of rows ends in .csv"),
        (["run", "rows.csv"], "there is no prompt: give --prompt"),
        (["run", "rows.csv", "--prompt", "{{nope}}"], "no row has a column 'nope'; the columns"),
        (
            ["run", "rows.csv", "--prompt", "{{quesion}}"],
            "did you mean {{question}}? the columns",
        ),
        ([*RUN, "--response-column", "Anwser"], "'Anwser', did you mean 'answer'? the columns"),
        (["run", "rows.csv", "--prompt", "@none.txt"], "cannot read none.txt"),
        ([*RUN, "--out", "x.doc"], "results are written as .jsonl, .csv"),
        ([*RUN, "--hosted"], "no API key"),
        ([*RUN, "--hosted", "--llm-model", "m"], "are for the embedded server"),
        ([*RUN, "--hosted", "--base-url", "http://x"], "not both"),
        ([*RUN, "--judge-base-url", "http://127.0.0.1:9/v1"], "needs --judge-model"),
        ([*RUN, "--response-column", "answer", "--epochs", "2"], "leave out models and epochs"),
        (["run", "nothing", "--resume"], "a file of rows ends in"),
    ],
)
def test_misuse_is_2_and_says_what_to_do(command: Command, arguments: list[str], text: str) -> None:
    """In one line on standard error, and in the document; nothing is left behind."""
    found, code = document(command, *arguments)

    assert code == 2
    assert found["status"] == "error"
    assert text in found["error"]
    done = command(*arguments)
    assert text in done.err
    assert done.err.count("elluminate-async: ") == 1


@pytest.mark.parametrize(
    "arguments", [["run"], [*RUN, "--fail-under", "80"], [*RUN, "--epochs", "0"], ["walk"]]
)
def test_options_that_cannot_be_are_2(command: Command, arguments: list[str]) -> None:
    """As the option parser tells them."""
    assert command(*arguments).code == 2


def test_a_service_that_is_not_there_is_3(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its address comes from the environment; the same command may work later."""
    monkeypatch.setenv("ELLUMINATE_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("ELLUMINATE_API_KEY", "k")
    found, code = document(command, *RUN)

    assert code == 3
    assert "127.0.0.1:9" in found["error"]
    assert found["resume"] == "elluminate-async run rows --resume"


def test_results_are_written_as_the_suffix_says(command: Command) -> None:
    """JSONL, CSV, Parquet and JUnit have each record."""
    names = ("out/r.jsonl", "r.csv", "r.parquet", "r.xml")
    found, _ = document(command, *RUN, *(part for name in names for part in ("--out", name)))

    assert found["written"] == list(names)
    lines = Path("out/r.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["input"]["question"] for line in lines][2] == "Wer war Gauß?"
    assert Path("r.csv").read_text("utf-8").count("Answer briefly") == 3
    assert Path("r.parquet").read_bytes()[:4] == b"PAR1"
    suite = ET.parse("r.xml").getroot()[0]
    assert (suite.get("name"), suite.get("tests")) == ("rows", "3")


def test_folders_of_files_are_made(command: Command) -> None:
    """Those of a report too."""
    found, _ = document(command, *RUN, "--report", "new/deep/x.html", "--out", "other/x.csv")

    assert found["written"] == ["other/x.csv", "new/deep/x.html"]
    assert command("report", "rows", "--out", "third/x.html").code == 0
    assert Path("third/x.html").is_file()


@pytest.mark.parametrize("option", ["--report", "--out"])
def test_a_file_that_cannot_be_is_told_before_anything_is_paid_for(
    command: Command, option: str
) -> None:
    """As misuse: a folder in the file's place, or a file in that of its folder."""
    command.write("file", "")
    Path("folder.csv").mkdir()
    for path, text in (("file/x.csv", "cannot write file/x.csv"), ("folder.csv", "is a folder")):
        with endpoint() as model:
            llm = ("--llm-base-url", model.url, "--llm-model", "m", "--judge-model", "offline")
            found, code = document(command, *RUN, *llm, option, path)

        assert (code, found["status"]) == (2, "error")
        assert text in found["error"]
        assert not model.requests


def test_a_run_at_the_service_is_of_many_calls(command: Command) -> None:
    """Another call of it, with rows that come again, asks the model for nothing of these."""
    with endpoint() as model:
        llm = ("--llm-base-url", model.url, "--llm-model", "m", "--judge-model", "offline")
        keyed = (*llm, "--run", "nightly", "--key", "question")
        found, _ = document(command, *RUN, *keyed, "--limit", "1")
        asked = len(model.requests)
        again, _ = document(command, *RUN, *keyed)
        other = command(*RUN, *llm, "--key", "question")

    assert (asked, len(model.requests)) == (found["records"], again["records"]) == (1, 3)
    assert other.code == 2
    assert "item_keys= needs run=" in other.err


def test_a_dry_run_sends_nothing(command: Command) -> None:
    """It has the numbers, and leaves no trace; `plan` says the same."""
    found, code = document(command, *RUN, "--epochs", "2", "--model", "a", "--model", "b",
                           "--dry-run")  # fmt: skip

    assert code == 0
    assert (found["plan"]["generations"], found["plan"]["criteria"]) == (12, 2)
    assert found["plan"]["unused"] == ["answer"]
    assert not (command.folder / ".elluminate").exists()
    done = command("plan", "rows.csv", "--prompt", "{{question}} {{first name}}")
    assert done.code == 0
    assert "{{first name}} looks like a placeholder" in done.err
    assert not (command.folder / ".elluminate").exists()


def test_options_take_the_place_of_what_the_spec_says(command: Command) -> None:
    """Paths in a spec are beside it; what it does not say is as it would be without."""
    (command.folder / "below").mkdir()
    command.write("below/rows.jsonl", '{"q": "a"}\n{"q": "b"}\n')
    command.write(
        "below/spec.toml",
        'data = "rows.jsonl"\nprompt = "{{q}}"\ncriteria = ["ok?"]\nrating_mode = "fast"\n'
        'out = "r.jsonl"\n[gate]\npass_rate = 1\nper_criterion = true\n',
    )
    found, _ = document(command, "run", "below/spec.toml", "--limit", "1", "--fail-under", "0")

    assert found["records"] == 1
    assert found["gate"]["pass_rate"] == 0
    assert found["gate"]["per_criterion"] is True
    assert found["written"] == [str(Path("below/r.jsonl"))]
    assert (command.folder / "below/r.jsonl").exists()


def test_models_are_compared_by_name(command: Command) -> None:
    """The embedded server makes what a spec describes, and a name alone."""
    command.write(
        "s.yaml",
        "data: rows.csv\nprompt: '{{question}}'\ncriteria: [Is it so]\nmodels:\n"
        "  - small\n  - {name: large, llm_model_name: gpt-large, temperature: 0.5}\n",
    )
    found, _ = document(command, "run", "s.yaml")

    assert list(found["configurations"]) == ["small", "large"]
    assert found["records"] == 6
    assert document(command, "run", "s.yaml")[1] == 0
    command.write("s.yaml", (command.folder / "s.yaml").read_text().replace("0.5", "0.6"))
    found, code = document(command, "run", "s.yaml")
    assert code == 2
    assert "'large' is there with another temperature: 0.5" in found["error"]


def test_a_key_comes_from_the_environment(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A spec names its variable; it is in no file of the run's."""
    with endpoint() as model:
        command.write(
            "s.yaml",
            "data: rows.csv\nprompt: '{{question}}'\ncriteria: [Is it so]\nmodels:\n"
            f"  - {{name: m, base_url: '{model.url}', api_key_env: MY_KEY}}\n",
        )
        found, code = document(command, "run", "s.yaml")
        assert code == 2
        assert "MY_KEY, which is not set" in found["error"]

        monkeypatch.setenv("MY_KEY", "sesame-1")
        found, code = document(command, "run", "s.yaml")

    assert code == 0
    assert set(model.keys) == {"Bearer sesame-1"}
    assert found["usage"] == {
        "input_tokens": 9, "output_tokens": 12, "responses": 3, "unknown": 0
    }  # fmt: skip
    kept = [path for path in command.folder.rglob("*") if path.is_file()]
    assert not [path for path in kept if b"sesame" in path.read_bytes()]


def test_resume_takes_what_is_done(command: Command) -> None:
    """Each row is asked for once, however often the run goes on; other inputs are refused."""
    with endpoint() as model:
        llm = ("--llm-base-url", model.url, "--llm-model", "m", "--judge-model", "offline")
        first, _ = document(command, *RUN, *llm)
        again, _ = document(command, "run", "rows", "--resume", "--fail-under", "1")
        by_file, _ = document(command, "run", "rows.csv", "--resume")

    assert len(model.requests) == 3
    assert [one["name"] for one in (first, again, by_file)] == ["rows"] * 3
    assert again["gate"]["pass_rate"] == 1
    assert again["configurations"] == first["configurations"]
    found, code = document(command, "run", "rows", "--resume", "--prompt", "{{answer}}")
    assert code == 2
    assert "begun with another prompt=" in found["error"]


def test_what_was_refused_is_not_kept(command: Command) -> None:
    """Nor is what a dry run was told: the run can be gone on with as it was."""
    document(command, *RUN)
    file = Path(".elluminate/runs/rows/run.json")
    before = file.read_text("utf-8")

    assert document(command, "run", "rows", "--resume", "--prompt", "{{answer}}")[1] == 2
    assert document(command, "run", "rows", "--resume", "--limit", "1", "--dry-run")[1] == 0
    assert file.read_text("utf-8") == before
    assert document(command, "run", "rows", "--resume")[1] == 0


def test_a_run_is_gone_on_with_by_its_own_title(command: Command) -> None:
    """`rows-2.csv` is not the second run of `rows.csv`, though its folder has that name."""
    Path("rows-2.csv").write_text(Path("rows.csv").read_text("utf-8"), "utf-8")
    document(command, *RUN)
    document(command, "run", "rows-2.csv", *RUN[2:])

    assert document(command, "run", "rows.csv", "--resume")[0]["name"] == "rows"


def test_a_journal_of_what_is_gone_is_2_and_says_how_to_begin_anew(command: Command) -> None:
    """A database that was deleted, or another one, has nothing to go on with."""
    assert document(command, *RUN)[1] == 0
    found, code = document(command, "run", "rows", "--resume", "--db", "other.db")

    assert code == 2
    assert found["error"].endswith("to begin anew leave out --resume")
    assert found["resume"] is None


def test_runs_do_not_take_each_others_place(command: Command) -> None:
    """A second one of the same title gets a number; the folder is kept from version control."""
    names = [document(command, *RUN, "--name", "Night ly")[0]["name"] for _ in range(2)]

    assert names == ["Night-ly", "Night-ly-2"]
    assert (command.folder / ".elluminate/.gitignore").read_text() == "*\n"
    assert len(SavedRun(Path(".elluminate/runs/Night-ly-2")).evaluation()) == 3


def test_answers_that_exist_are_rated(command: Command) -> None:
    """`rate` generates nothing; without a prompt the judge is shown the other columns."""
    with endpoint() as model:
        llm = ("--llm-base-url", model.url, "--llm-model", "m", "--judge-model", "offline")
        found, code = document(
            command, "run", "rows.csv", "--response-column", "answer", *CRITERIA, *llm
        )
    rated = command(
        "rate", "rows.csv", "--response-column", "answer", *CRITERIA, "--out", "r.jsonl"
    )

    assert (code, rated.code) == (0, 0)
    assert not model.requests
    assert list(found["configurations"]) == ["given"]
    lines = (command.folder / "r.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["response"] for line in lines] == ["2", "Blue", "Ein\nRechner"]


@pytest.mark.parametrize(
    "name",
    ["run", "rate", "plan", "compare", "export", "report", "doctor", "demo", "serve", "keys"],
)
def test_each_command_has_help(command: Command, name: str) -> None:
    """And it is named in the help of the whole."""
    done = command(name, "--help")

    assert done.code == 0
    assert f"elluminate-async {name}" in done.out
    assert f"\n  {name} " in command("--help").out
