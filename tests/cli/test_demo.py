"""The demo: once as a user runs it, in a process of its own; else within this one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from elluminate_async.cli.rows import read_rows, shipped_rows
from tests.cli.command import Command

LAST = re.compile(r"demo: (\d+) generated, (\d+) rated, (\d+) failed in [\d.]+ s")


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("ELLUMINATE_")}
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "elluminate_async", *arguments],
        cwd=folder,
        env={**kept, "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_the_demo_generates_and_rates_everything_and_reuses_it(tmp_path: Path) -> None:
    """Two runs: at least 120 generated and rated, 0 failed; the second makes only an experiment."""
    first = run("demo", folder=tmp_path)
    second = run("demo", folder=tmp_path)

    experiments: list[str] = []
    for done, state in ((first, "new"), (second, "reused")):
        assert done.returncode == 0, done.stderr
        shown = [line.split(",")[0] for line in done.stderr.splitlines()]
        lines = done.stdout.splitlines()
        match = LAST.fullmatch(lines[-1])
        assert match, lines[-1]
        generated, rated, failed = map(int, match.groups())
        assert (generated, rated, failed) == (len(shipped_rows()), generated, 0)
        assert generated >= 120
        for what in ("template", "criteria", "collection"):
            assert re.search(rf"^{what} .*{state}", done.stdout, re.MULTILINE), what
        assert f"database {Path('.elluminate', 'demo.db')}" in done.stdout
        assert f"generating  {generated} of {generated} items" in shown
        assert f"rating  {generated} of {generated} items" in shown
        assert done.stdout.count("[offline model") == 2
        assert "Pass rate by criterion" in done.stdout
        experiments += re.findall(r"^experiment  '(.*)', new", done.stdout, re.MULTILINE)
    assert f"0 rows added, {len(shipped_rows())} reused" in second.stdout
    assert len(set(experiments)) == 2


def test_limit_takes_the_first_rows(command: Command) -> None:
    """`--limit 3` generates three."""
    done = command("demo", "--limit", "3", "--db", str(command.folder / "x.db"))

    assert done.code == 0, done.err
    assert LAST.search(done.out)
    assert "3 generated, 3 rated, 0 failed" in done.out


def test_criteria_may_be_given(command: Command) -> None:
    """`--criteria FILE` takes the place of those that a model proposes, also of earlier ones."""
    command.write("criteria.txt", "Is there code?\n\nIs it right?\nIs there code?\n")
    command("demo", "--limit", "2")
    done = command("demo", "--limit", "2", "--criteria", "criteria.txt")

    assert done.code == 0, done.err
    assert re.search(r"^criteria +2, given", done.out, re.MULTILINE)
    assert "Is there code?" in done.out
    assert "2 generated, 2 rated, 0 failed" in done.out


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "cannot read criteria.txt: No such file"),
        (b"\n \n", "holds no criteria: write one question a line"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_bad_criteria_are_one_line_and_exit_status_2(
    command: Command, content: bytes | None, text: str
) -> None:
    """The text says what is wrong with the file."""
    path = command.folder / "criteria.txt"
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_bytes(content)

    done = command("demo", "--criteria", "criteria.txt")

    assert done.code == 2
    assert text in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "cannot read rows.csv: No such file"),
        (b"language,quirk\nC,a,b\n", "line 2: 3 cells, and the header has 2"),
        (b"language,quirk\nC\n", "line 2: 1 cells, and the header has 2"),
        (b'language,quirk\nC,"open\n', "no CSV"),
        (b"language,quirk\n", "a header and no rows"),
        (b"\n", "must name the columns"),
        (b"language,language\na,b\n", "two columns have the same name"),
        (b"language,quirk\n\xff\xfe,b\n", "not UTF-8"),
        (b"lang,quirk\na,b\n", "lack the columns language; they have lang, quirk"),
    ],
)
def test_a_bad_csv_is_one_line_and_exit_status_2(
    command: Command, content: bytes | None, text: str
) -> None:
    """The text says what is wrong and where; nothing else is printed as an error."""
    path = command.folder / "rows.csv"
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_bytes(content)

    done = command("demo", "--csv", "rows.csv")

    assert done.code == 2
    assert text in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "environment", "text"),
    [
        (["--hosted"], {}, "ELLUMINATE_API_KEY"),
        (
            ["--hosted"],
            {"ELLUMINATE_API_KEY": "k", "ELLUMINATE_BASE_URL": "http://127.0.0.1:9"},
            "cannot reach http://127.0.0.1:9",
        ),
        (["--hosted", "--llm-model", "m"], {"ELLUMINATE_API_KEY": "k"}, "leave out --llm-"),
        (["--llm-model", "m"], {"OPENAI_API_KEY": ""}, "where is the model 'm'"),
        (["--llm-base-url", "http://127.0.0.1:9/v1"], {}, "needs the name of a model"),
        (["--limit", "0"], {}, "--limit"),
        (["--db", "/proc/nowhere/demo.db"], {}, "cannot be opened"),
    ],
)
def test_bad_settings_end_with_status_2(
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    environment: dict[str, str],
    text: str,
) -> None:
    """Each says what to do on stderr."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    done = command("demo", *arguments)

    assert done.code == 2
    assert text in done.err
    assert "Traceback" not in done.err


def test_a_model_that_is_not_there_fails_the_items_not_the_program(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an unreachable endpoint every row fails with its reason, and the status is 1."""
    monkeypatch.setenv("LLM_API_KEY", "canary-key")

    done = command(
        "demo", "--limit", "2", "--llm-base-url", "http://127.0.0.1:9/v1", "--llm-model", "m",
        "--db", "x.db",
    )  # fmt: skip

    assert "Traceback" not in done.err
    assert "canary-key" not in done.out + done.err
    assert done.code in (1, 2)


def test_help_names_every_command(command: Command) -> None:
    """`--help` of the program and of its commands explains the options."""
    top = command("--help")
    demo = command("demo", "--help")
    serve = command("serve", "--help")

    assert "demo" in top.out
    assert "serve" in top.out
    assert all(option in demo.out for option in ("--limit", "--hosted", "--llm-base-url"))
    assert all(option in serve.out for option in ("--host", "--port", "--db", "--api-key"))
    assert command("--version").out.startswith("elluminate-async ")


def test_the_shipped_rows_are_many_and_distinct() -> None:
    """At least 120 pairs over at least 20 languages, none twice."""
    rows = shipped_rows()

    assert len(rows) >= 120
    assert len({row["language"] for row in rows}) >= 20
    assert len({(row["language"], row["quirk"].lower()) for row in rows}) == len(rows)


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    """Spreadsheets write one; quoted commas and line ends within cells are kept."""
    path = tmp_path / "rows.csv"
    path.write_bytes('\ufefflanguage,quirk\r\nC,"a, b\nc"\r\n\r\n'.encode())

    assert read_rows(path) == [{"language": "C", "quirk": "a, b\nc"}]
