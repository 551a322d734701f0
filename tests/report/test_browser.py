"""The report in a browser: headless Chromium, as a user opens the file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from elluminate_async.evaluation.reporting import report_data_of_records
from elluminate_async.report.render import write_report
from tests.browser import browser as browser
from tests.browser import keeping
from tests.report.runs import ratings, record, run
from tests.report.test_render import HOSTILE, everywhere

ROOT = Path(__file__).parent.parent.parent
READY = "html[data-ready]"


@pytest.fixture(scope="module")
def axe() -> str:
    """The script of axe-core."""
    return (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")


@dataclass(slots=True)
class Opened:
    """A report in a tab, and what the tab said and asked for."""

    page: Any
    said: list[str] = field(default_factory=list[str])
    asked: list[str] = field(default_factory=list[str])

    def rows(self) -> list[str]:
        """The numbers of the rows that are shown."""
        return [text.split()[1] for text in self.page.locator(".open").all_inner_texts()]

    def count(self) -> str:
        """What a screen reader is told of the search."""
        return self.page.locator("#count").inner_text()


@pytest.fixture
def opening(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """Opens a report of records; at the end the tab had no error and asked for nothing else."""
    tabs: list[tuple[Opened, str]] = []

    def opened(
        records: Sequence[dict[str, Any]], *, options: dict[str, Any] | None = None, **given: Any
    ) -> Opened:
        path = tmp_path / f"report{len(tabs)}.html"
        write_report(path, report_data_of_records(records, given.pop("name", "run"), **given))
        tab = Opened(browser.new_context(**(options or {})).new_page())
        for event, kept, what in (
            ("console", tab.said, "text"),
            ("pageerror", tab.said, "message"),
            ("dialog", tab.said, "message"),
            ("request", tab.asked, "url"),
        ):
            tab.page.on(event, keeping(kept, what))
        tabs.append((tab, path.as_uri()))
        tab.page.goto(path.as_uri())
        if (options or {}).get("java_script_enabled", True):
            tab.page.wait_for_selector(READY, state="attached")
        return tab

    yield opened
    for tab, address in tabs:
        assert tab.said == []
        assert [url for url in tab.asked if not url.startswith("data:")] == [address]
        tab.page.context.close()


@pytest.mark.parametrize("rows", [136, 10_000])
def test_failures_stand_first(opening: Any, rows: int) -> None:
    """Of any number of rows fifty lines are there, those with most NO first."""
    tab = opening(run(rows), pass_rate=0.9)

    assert tab.page.locator("tr.line").count() == 50
    assert tab.page.locator("tr.line").first.locator("td.cell.no").count() == 3
    assert tab.count().startswith(f"{2 * rows:,} of {2 * rows:,} lines: ")
    tab.page.get_by_role("searchbox").fill("perl")
    tab.page.get_by_text(f"{rows // 4:,} of {2 * rows:,} lines").wait_for()


def test_hostile_texts_stay_texts(opening: Any) -> None:
    """In every field, with every row open: as they are, in no attribute, as no element."""
    tab = opening(everywhere(HOSTILE), name=HOSTILE, pass_rate=0.9)
    for index in range(tab.page.locator(".open").count()):
        tab.page.locator(".open").nth(index).click()
    for summary in tab.page.locator("summary").all():
        summary.click()

    assert tab.page.locator("main script, main img, main iframe, main a").count() == 0
    assert HOSTILE in tab.page.locator("h1").inner_text()
    assert HOSTILE in tab.page.locator(".details pre").all_inner_texts()
    assert "101083" not in tab.page.locator("main").inner_text()


def test_links_of_models_are_no_links(opening: Any) -> None:
    """`javascript:` and addresses are shown, and nothing can be followed."""
    text = "javascript:alert(1) https://example.org [x](javascript:alert(2))"
    tab = opening([record(0, 0, input={"a": text}, response=text)])
    tab.page.locator(".open").click()

    assert text in tab.page.locator(".details pre").all_inner_texts()
    assert [link.get_attribute("href") for link in tab.page.locator("a").all()] == ["#grid-title"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(opening: Any, axe: str, scheme: str) -> None:
    """With a row open, a comparison, and something that was not measured."""
    tab = opening(run(136), options={"color_scheme": scheme}, pass_rate=0.9)
    tab.page.locator(".open").nth(1).click()
    tab.page.locator("#state").select_option("missing")
    tab.page.locator(".open").nth(0).click()
    tab.page.evaluate(axe + "; 0")

    found = tab.page.evaluate(
        "axe.run().then(r => r.violations.map(v => [v.id, v.impact, v.nodes[0].html]))"
    )
    assert found == []


def test_keys_alone_are_enough(opening: Any) -> None:
    """The arrows go from row to row, Enter opens one, Escape closes it."""
    page = opening(run(20)).page
    page.locator(".open").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")

    second = page.locator(".open").nth(1)
    assert second.get_attribute("aria-expanded") == "true"
    assert page.locator(f"#{second.get_attribute('aria-controls')}").is_visible()
    page.keyboard.press("Escape")
    assert second.get_attribute("aria-expanded") == "false"
    assert page.locator(".details").count() == 0


def test_a_row_tells_all_of_it(opening: Any) -> None:
    """Input, response, ratings with their reasons, tokens, time; an unknown cost is unknown."""
    said = ratings("NO", "YES", why="it rambles")
    page = opening(
        [record(0, 0, input={"q": "why?", "n": {"a": [1]}}, ratings=said, cost=None)]
    ).page
    page.locator(".open").click()

    text = page.locator(".details").inner_text()
    for part in ("why?", '"a"', "echo word0", "✗ NO", "✓ YES", "it rambles", "1.50 s",
                 "input tokens 40", "output tokens 20", "cost unknown"):  # fmt: skip
        assert part in text, part


def test_a_long_word_is_whole(opening: Any) -> None:
    """It is broken where the lines end, and what is copied is the text."""
    word = "👍x" * 5_000
    said = ratings("NO", why=word)
    page = opening([record(0, 0, input={"q": word}, response=word, ratings=said)]).page
    page.locator(".open").click()

    for place in (".inputs pre", ".block > pre", ".reasoning"):
        assert page.locator(place).text_content() == word


def test_filters_and_sorting(opening: Any) -> None:
    """By result, criterion and column; what is unknown stands last, whichever way."""
    records = [
        record(0, 0, ratings=ratings("YES", "NO"), duration_seconds=2.0),
        record(1, 1, duration_seconds=None),
        record(2, 2, ratings=ratings("NO", "NO"), duration_seconds=1.0),
        record(3, 3, ratings=None, rating_error={"code": "x", "text": "y"}, duration_seconds=3.0),
    ]
    tab = opening(records)
    assert tab.rows() == ["2", "0", "3", "1"]
    latency = tab.page.locator('[data-sort="seconds"]')
    latency.click()
    assert tab.rows() == ["3", "0", "2", "1"]
    latency.click()
    assert tab.rows() == ["2", "0", "3", "1"]
    tab.page.locator("#state").select_option("missing")
    assert tab.rows() == ["3"]
    tab.page.locator("#state").select_option("all")
    tab.page.locator("#criterion").select_option("0")
    assert tab.rows() == ["2"]
    assert tab.count() == "1 of 4 lines: 1 failed, 0 not measured, 0 passed"


def test_regressed_rows_are_one_click_away(opening: Any) -> None:
    """From the comparison to the grid, which shows them under each configuration."""
    records = [
        record(2 * row + index, row, config, ratings=ratings(said, "YES"))
        for row in range(9)
        for index, (config, said) in enumerate([("a", "YES"), ("b", "NO" if row < 2 else "YES")])
    ]
    tab = opening(records)
    tab.page.get_by_role("button", name="Show the regressed rows").click()

    assert tab.rows() == ["0", "1", "0", "1"]
    assert tab.page.locator("#change").input_value() == "0 regressed"


def test_it_reads_without_a_script_and_on_paper(opening: Any) -> None:
    """The rates and the first failures are there, and no control that does nothing."""
    records = [record(0, 0), record(1, 1, ratings=ratings("NO", "YES"))]
    plain = opening(records, options={"java_script_enabled": False}).page
    printed = opening(records).page
    printed.emulate_media(media="print")

    for page in (plain, printed):
        assert page.locator(".static tbody tr").all_inner_texts()[0].startswith("1\tdefault")
        assert page.locator(".static").is_visible()
        assert page.locator("button:visible, #grid:visible").count() == 0
        assert page.locator(".rates").is_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_theme_can_be_chosen(opening: Any, theme: str) -> None:
    """Against that of the system, too."""
    other = {"light": "dark", "dark": "light"}[theme]
    page = opening([record(0, 0)], options={"color_scheme": other}).page
    page.locator("#theme").click(click_count={"light": 1, "dark": 2}[theme])

    assert page.locator("#theme").inner_text() == f"Theme: {theme}"
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (back == "rgb(255, 255, 255)") is (theme == "light")
