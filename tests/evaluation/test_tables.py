"""Evaluations of tables, and evaluations as tables."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from elluminate_async import Evaluation, InputError, RatingMode
from tests.evaluation.scene import CRITERIA, PROMPT, Scene, evaluating, words
from tests.tables.libraries import np, pd, pl


async def evaluate(scene: Scene, rows: Any, **arguments: Any) -> Evaluation:
    return await scene.client.evaluate(
        rows, prompt=PROMPT, criteria=CRITERIA, rating_mode=RatingMode.FAST, **arguments
    )


async def test_a_table_goes_round(tmp_path: Path) -> None:
    """Pandas to Parquet to polars keeps every column and type, and a missing cell is missing."""
    frame = pd.DataFrame({
        "word": ["one", "two", "three"],
        "count": np.array([1, 2, 3]),
        "share": [0.5, np.nan, 1.5],
        "when": pd.to_datetime(["2026-01-01", "2026-01-02", None]),
        "known": [True, False, True],
    })  # fmt: skip
    async with evaluating() as scene:
        evaluation = await evaluate(scene, frame)
        evaluation.write_parquet(tmp_path / "out.parquet")

    table = pl.read_parquet(tmp_path / "out.parquet")
    inputs = table.select(pl.col("^input\\..*$"))
    assert [str(kind) for kind in inputs.dtypes[:3]] == ["String", "Int64", "Float64"]
    assert inputs.dtypes[3] == pl.Datetime
    assert inputs.dtypes[4] == pl.Boolean
    assert inputs["input.count"].to_list() == [1, 2, 3]
    assert inputs["input.share"].to_list() == [0.5, None, 1.5]
    assert inputs["input.when"].to_list() == [datetime(2026, 1, 1), datetime(2026, 1, 2), None]
    assert table["response"].to_list() == [f"echo Say {w}" for w in ("one", "two", "three")]


async def test_a_cell_that_json_does_not_have_is_named() -> None:
    """By row and column, before anything is sent."""
    async with evaluating() as scene:
        scene.recorder.requests.clear()
        frame = pl.DataFrame({"word": ["one", "two"], "price": [1.0, float("nan")]})
        with pytest.raises(InputError, match=r"rows\[1\]\['price'\] is nan"):
            await evaluate(scene, frame)

        assert not scene.recorder.requests


async def test_the_columns_are_the_same_whatever_failed() -> None:
    """A failure has its code and text, and no NO."""
    async with evaluating() as scene:
        scene.model.failing = lambda prompt: prompt.endswith("word1")
        scene.model.judge_failing = lambda prompt: "word2" in prompt
        table = (await evaluate(scene, words(4))).to_dicts()

    assert list(table[0]) == [
        "position", "row", "config", "epoch", "input.word", "input.number", "response_id",
        "response", "input_tokens", "output_tokens", "duration_seconds", "cost",
        "rating.Does it say the word?", "rating.Is it short?", "reasoning.Does it say the word?",
        "reasoning.Is it short?", "passed", "error_step", "error_code", "error",
    ]  # fmt: skip
    steps = [(r["error_step"], r["error_code"], r["passed"] is None) for r in table]
    assert steps == [
        (None, None, False), ("generate", "generation_failed", True),
        ("rate", "rating_failed", True), (None, None, False),
    ]  # fmt: skip
    assert table[2]["response"] == "echo Say word2"
    assert table[2]["rating.Is it short?"] is None


async def test_files_have_every_record(tmp_path: Path) -> None:
    """JSON lines, CSV and JUnit, a line or a case each."""
    async with evaluating() as scene:
        scene.model.failing = lambda prompt: prompt.endswith("word1")
        evaluation = await evaluate(scene, words(5))
        evaluation.write_jsonl(tmp_path / "out.jsonl")
        evaluation.write_csv(tmp_path / "out.csv")
        evaluation.write_junit(tmp_path / "out.xml")

    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["input.word"] for line in lines] == [f"word{n}" for n in range(5)]
    frame = pd.read_csv(tmp_path / "out.csv")
    assert frame["error_code"].notna().sum() == 1
    suite = ElementTree.parse(tmp_path / "out.xml").getroot()
    assert len(suite.findall(".//testcase")) == 5
    assert len(suite.findall(".//error")) == 1


async def test_a_notebook_shows_it() -> None:
    """As a table whose texts are no markup."""
    async with evaluating() as scene:
        rows = [{"word": "<script>alert(1)</script>"}]
        html = (await evaluate(scene, rows))._repr_html_()

    assert "<table" in html
    assert "<script>" not in html
