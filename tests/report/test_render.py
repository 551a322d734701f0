"""The text of a report: what it says, and that no text of a model is ever markup."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import re
import subprocess
import sys
from datetime import date
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from elluminate_async import InputError, RatingMode
from elluminate_async.evaluation.reporting import report_data, report_data_of_records
from elluminate_async.report.render import render_report, write_report
from tests.evaluation.scene import CRITERIA, PROMPT, evaluating, words
from tests.report.runs import failed, ratings, record, run, unrated

CRITERIA_SHOWN = ("own feature?", "statement about the language")
HOSTILE = (
    "</script><script>alert(1)</script><!-- {{271*373}} {% raw %} <img src=x onerror=alert(1)>"
)


class Page(HTMLParser):
    """The elements of a page, and the texts of its scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.raw: list[tuple[str, dict[str, str | None], str]] = []
        self.seen = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self.raw.append((tag, dict(attrs), ""))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] in ("script", "style") and self.cdata_elem:
            tag, attributes, text = self.raw[-1]
            self.raw[-1] = (tag, attributes, text + data)
        else:
            self.seen += data

    @property
    def policy(self) -> str:
        return next(
            str(attributes["content"])
            for tag, attributes in self.tags
            if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
        )

    @property
    def index(self) -> dict[str, Any]:
        return next(json.loads(text) for _, a, text in self.raw if a.get("id") == "index")

    @property
    def parts(self) -> list[list[Any]]:
        return [json.loads(text) for _, a, text in self.raw if a.get("class") == "part"]


def page_of(records: list[dict[str, Any]], name: str = "run", **arguments: Any) -> Page:
    return Page(render_report(report_data_of_records(records, name, **arguments)))


def everywhere(text: str) -> list[dict[str, Any]]:
    """Two configurations with ``text`` in every field that is one."""
    return [
        record(
            0, 0, text, input={text: text, "nested": {text: [text]}}, response=text,
            ratings=ratings("NO", "YES", names=[text, "other"], why=text),
        ),
        failed(1, 0, "b", error={"code": text, "text": text, "operation": text, "attempts": 1}),
        unrated(2, 1, text, rating_error={"code": text, "text": text, "operation": text}),
        record(3, 1, "b", ratings=ratings("YES", "YES", names=[text, "other"])),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text", [HOSTILE, "javascript:alert(1)", "'\"><svg onload=alert(1)>", "{{ data }}"]
)
def test_a_text_is_never_markup(text: str) -> None:
    """Whatever field it is in, the page has the elements that a harmless text gives it."""
    page = page_of(everywhere(text), text, pass_rate=0.9)
    plain = page_of(everywhere("harmless"), "harmless", pass_rate=0.9)

    def shape(of: Page) -> list[tuple[str, list[str]]]:
        return [(tag, sorted(attributes)) for tag, attributes in of.tags]

    assert shape(page) == shape(plain)
    assert not any(
        (value or "").startswith("javascript:") for _, a in page.tags for value in a.values()
    )
    assert text in page.index["criteria"]
    assert page.parts[0][0][0][0] == [text, text]
    assert "101083" not in page.seen


def test_nothing_is_run_but_one_style_and_one_script_by_their_hash() -> None:
    """The policy names what the page has, and allows no address."""
    page = page_of(run(10))

    def hash_of(text: str) -> str:
        return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    script = [text for tag, a, text in page.raw if tag == "script" and "type" not in a]
    style = [text for tag, _, text in page.raw if tag == "style"]
    assert len(script) == len(style) == 1
    assert page.policy == (
        f"default-src 'none'; style-src '{hash_of(style[0])}'; "
        f"script-src '{hash_of(script[0])}'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    assert not any(name == "style" or name.startswith("on") for _, a in page.tags for name in a)
    addresses = [a[name] for _, a in page.tags for name in ("src", "href") if name in a]
    assert all(str(address).startswith(("#", "data:,")) for address in addresses)


def test_what_is_not_seen_is_written_out() -> None:
    """Controls, overrides of direction and half characters are told by their number."""
    page = page_of([record(0, 0, input={"a": "x\u202ey\ud800z\x00\x1b"}, response="\u2066a\u2069")])

    (input, (one, *_)), *_ = page.parts[0]
    assert input == [["a", "x[U+202E]y[U+D800]z[U+0000][U+001B]"]]
    assert one[2] == "[U+2066]a[U+2069]"


def test_texts_are_bounded() -> None:
    """A megabyte is cut, and told to be; the page stays small."""
    long = "x" * 1_000_000
    text = render_report(
        report_data_of_records([record(0, 0, input={"a": long}, response=long)], "r")
    )

    assert len(text) < 150_000
    assert "(cut: 1,000,000 characters in all)" in text


def test_cells_of_any_kind_are_texts() -> None:
    """Nested values, dates, NaN, large numbers and 200 columns."""
    given = {"nested": {"a": [1, None]}, "when": date(2026, 1, 2), "nan": math.nan, "big": 2**70}
    given |= {f"c{i}": i for i in range(200)}
    page = page_of([record(0, 0, input=given, cost=math.nan, duration_seconds=math.inf)])

    (input, (one, *_)), *_ = page.parts[0]
    cells = dict(input)
    assert json.loads(cells["nested"]) == {"a": [1, None]}
    assert (cells["when"], cells["nan"], cells["big"]) == ("2026-01-02", "nan", str(2**70))
    assert len(cells) == 204
    assert one[-2:] == [None, None]
    assert page.index["rows"][0][1].endswith("200 more columns")


def test_what_was_not_measured_is_never_a_no() -> None:
    """A failed response and a failed judge count as neither."""
    page = page_of([
        record(0, 0, ratings=ratings("YES", "NO")), failed(1, 1), unrated(2, 2),
        record(3, 3, ratings=ratings("YES")), record(4, 4, ratings=ratings("MAYBE", "YES")),
    ])  # fmt: skip

    assert [line[7] for line in page.index["lines"]] == [
        [1, 0, 0, 0, 1, 0], [0, 0, 1, 0, 0, 1], [0, 0, 1, 0, 0, 1], [1, 0, 0, 0, 0, 1],
        [0, 0, 1, 1, 0, 0],
    ]  # fmt: skip
    assert [line[2] for line in page.index["lines"]][1:3] == [
        "no response, llm_timeout: no answer in 30 s", "not rated, failed: echo word2"
    ]  # fmt: skip


def test_epochs_are_one_line() -> None:
    """Their verdicts are counted in its cells, and their measurements are means."""
    epochs = [
        record(i, 0, epoch=i + 1, ratings=ratings(said, "YES"), duration_seconds=float(i))
        for i, said in enumerate(["YES", "NO", "YES", "NO", "NO"])
    ]
    page = page_of(epochs)

    assert [line[4:] for line in page.index["lines"]] == [[2.0, 60, 0.001, [2, 3, 0, 5, 0, 0]]]


def test_an_unknown_cost_is_unknown() -> None:
    """Of a configuration without prices, and in a sum that lacks a part."""
    page = page_of([record(0, 0, cost=None), record(1, 1)])

    assert [line[6] for line in page.index["lines"]] == [None, 0.001]
    assert re.search(r"Cost.*1 unknown.*0\.001.*unknown", page.seen, re.DOTALL)


def test_the_verdict_stands_first() -> None:
    """With its reason, and by how much each configuration is off."""
    seen = page_of([record(0, 0), record(1, 1, ratings=ratings("NO", "NO"))], pass_rate=0.9).seen

    assert seen.index("Gate failed") < seen.index("Where it fails") < seen.index("Rows")
    assert "all criteria: 2 of 4 verdicts passed" in seen
    assert "−40.0 points from the 90 % asked for" in seen
    assert "Gate passed" in page_of([record(0, 0)], pass_rate=0.9).seen
    assert "Gate not measured" in page_of([failed(0, 0)], pass_rate=0.9).seen
    assert "No gate was set" in page_of([record(0, 0)]).seen


def test_each_criterion_may_be_held_against_the_threshold() -> None:
    """Where all together pass and one alone does not, as `Evaluation.gate` tells."""
    records = [record(0, 0), record(1, 1, ratings=ratings("YES", "NO"))]

    assert "Gate passed" in page_of(records, pass_rate=0.7).seen
    assert "Gate failed" in page_of(records, pass_rate=0.7, per_criterion=True).seen


@pytest.mark.parametrize(
    "records",
    [
        [],
        [failed(0, 0), failed(1, 1)],
        run(4, ["only"]),
        run(9, [f"config {i}" for i in range(6)]),
        run(6, epochs=5),
        [{"row": 0, "config": "a"}],
        [{"row": 0, "config": "a", "response": 3, "input": [], "error": "x", "epoch": None}],
    ],
    ids=["none", "all failed", "one configuration", "six", "epochs", "bare", "odd"],
)
def test_a_run_of_any_shape_has_a_report(records: list[dict[str, Any]]) -> None:
    """Even one without records passes no gate, and breaks no page."""
    page = page_of(records, pass_rate=0.9)

    assert len(page.index["lines"]) == len({(r["row"], r["config"]) for r in records})
    assert ("Gate passed" in page.seen) is False


def test_configurations_are_compared_with_the_first() -> None:
    """The worst criterion stands first, with the rows that regressed."""
    records = [
        record(2 * row + index, row, config, ratings=ratings(first, second))
        for row in range(20)
        for index, (config, first, second) in enumerate(
            [("a", "YES", "NO"), ("b", "NO" if row < 9 else "YES", "YES")]
        )
    ]
    page = page_of(records)

    assert page.index["changes"] == [
        {"regressed": [*range(9)], "improved": [*range(20)]}
    ]  # fmt: skip
    comparison = page.seen[page.seen.index("Comparison: b against a") :]
    assert comparison.index(CRITERIA_SHOWN[0]) < comparison.index(CRITERIA_SHOWN[1])
    assert "▼ worse" in comparison
    assert "▲ better" in comparison


def test_runs_are_paired_by_the_content_of_their_rows() -> None:
    """Whatever their order was, and the rows are those of the run that is reported."""
    before = [record(i, i, ratings=ratings("YES", "YES")) for i in range(10)]
    after = [
        record(
            9 - i,
            9 - i,
            input={"word": f"word{i}"},
            ratings=ratings("NO" if i < 3 else "YES", "YES"),
        )
        for i in range(10)
    ]
    page = page_of(after, compare_with=before)

    assert page.index["changes"] == [{"regressed": [7, 8, 9], "improved": []}]
    assert "default (this run) against default (earlier run)" in page.seen


def test_the_worst_comparison_stands_first() -> None:
    """Of several configurations the one that is furthest below the first."""
    said = {"a": "YES", "b": "YES", "c": "NO"}
    records = [
        record(3 * row + index, row, config, ratings=ratings(value, "YES"))
        for row in range(4)
        for index, (config, value) in enumerate(said.items())
    ]
    data = report_data_of_records(records, "run")

    assert [(one.a, one.b) for one in data.comparisons] == [("a", "c"), ("a", "b")]


def test_runs_without_a_configuration_in_common_are_not_compared() -> None:
    """And the report says so."""
    page = page_of(run(3, ["a", "b"]), compare_with=run(3, ["c", "d"]))

    assert page.index["changes"] == []
    assert "no configuration in common" in page.seen


NO_RECORDS: list[Any] = [
    {"row": "0", "config": "a"},
    {"row": 0},
    3,
    {"row": 0, "config": "a", "ratings": [{}]},
]


@pytest.mark.parametrize("wrong", NO_RECORDS)
def test_what_is_no_record_is_named(wrong: Any) -> None:
    """By its index, before anything is written."""
    with pytest.raises(InputError, match=r"records\[1\]"):
        report_data_of_records([record(0, 0), wrong], "run")


async def test_an_evaluation_writes_its_report(tmp_path: Path) -> None:
    """The same as of its records, once they were saved and read."""
    async with evaluating() as scene:
        scene.model.failing = lambda prompt: prompt.endswith("word3")
        evaluation = await scene.client.evaluate(
            words(6), prompt=PROMPT, criteria=CRITERIA, rating_mode=RatingMode.FAST
        )
    evaluation.report(tmp_path / "report.html", pass_rate=0.5, max_error_rate=0.5)

    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    lines = [json.dumps(one.to_dict()) for one in evaluation]
    saved = page_of([json.loads(line) for line in lines], pass_rate=0.5, max_error_rate=0.5)
    assert page.index == saved.index
    assert page.parts == saved.parts
    assert [line[3] for line in page.index["lines"]] == [0, 0, 0, 1, 0, 0]
    assert report_data(evaluation).gate is None
    assert os.listdir(tmp_path) == ["report.html"]


def test_an_old_report_stays_where_a_new_one_cannot_be_made(tmp_path: Path) -> None:
    """It is replaced as a whole."""
    path = tmp_path / "report.html"
    path.write_text("old")
    data = report_data_of_records([record(0, 0)], "run")
    code = (
        "import resource, sys, pickle, signal\n"
        "from elluminate_async.report.render import write_report\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "from elluminate_async.evaluation.reporting import report_data_of_records\n"
        "try:\n"
        "    write_report(sys.argv[1], report_data_of_records([], 'run'))\n"
        "except OSError:\n"
        "    print('refused')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )

    assert done.stdout == "refused\n", done.stderr
    assert path.read_text() == "old"
    write_report(path, data)
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert os.listdir(tmp_path) == ["report.html"]


@pytest.mark.parametrize(
    ("missing", "told"),
    [("jinja2", "a report needs the extra 'report'"), ("numpy", "needs the extra 'stats'")],
)
def test_an_extra_that_is_missing_is_named(missing: str, told: str) -> None:
    """Without the template's library there is no report, and without numpy no comparison."""
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from elluminate_async import MissingExtraError\n"
        "from elluminate_async.evaluation.reporting import report_data_of_records\n"
        "from elluminate_async.report.render import render_report\n"
        "records = [{'row': 0, 'config': 'a'}, {'row': 0, 'config': 'b'}]\n"
        "try:\n"
        "    text = render_report(report_data_of_records(records, 'run'))\n"
        "    print(text.replace('&#39;', chr(39)))\n"
        "except MissingExtraError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert told in done.stdout, done.stderr
