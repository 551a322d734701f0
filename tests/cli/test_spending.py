"""``--max-cost``, and what ``plan`` says of tokens, cost and time."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from tests.cli.command import Command, endpoint

SPEC = """
data: rows.csv
prompt: "Answer: {{question}}"
criteria: ["Is it right?"]
models:
  - {name: priced, base_url: "URL", max_tokens: 10,
     input_price_per_mtok: 1000, output_price_per_mtok: 1000}
rating_mode: fast
gate: {max_error_rate: 0.0}
"""


def spec(command: Command, url: str = "http://127.0.0.1:9/v1", **more: Any) -> str:
    path = command.folder / "priced.yaml"
    lines = [f"{name}: {json.dumps(value)}" for name, value in more.items()]
    path.write_text(SPEC.replace("URL", url) + "\n".join(lines))
    return path.name


def questions(command: Command) -> list[str]:
    with open(command.folder / "rows.csv", newline="") as file:
        return [row["question"] for row in csv.DictReader(file)]


def planned(command: Command, *arguments: str) -> dict[str, Any]:
    done = command("plan", *arguments, "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)["plan"]


def test_a_plan_has_its_cost_and_time(command: Command) -> None:
    """By the models' prices and lengths, and by the limits that are given."""
    plan = planned(command, spec(command), "--requests-per-second", "2")

    assert plan["output_tokens"] == 3 * 10
    assert plan["cost"] == (plan["input_tokens"] + 30) * 1000 / 1e6
    assert plan["seconds"] == (plan["requests"] + 1) // 2 - 1
    assert planned(command, spec(command), "--output-tokens", "7")["output_tokens"] == 21
    assert planned(command, spec(command, output_tokens=8))["output_tokens"] == 24


def test_a_cost_that_is_not_known_is_null(command: Command) -> None:
    """And on standard error it is unknown."""
    arguments = ("rows.csv", "--prompt", "{{question}}", "--criteria", "Is it right?")
    assert planned(command, *arguments)["cost"] is None
    err = command("plan", *arguments).err
    assert "cost          unknown" in err
    assert "note: prices of default: not known" in err


def test_a_run_that_reached_its_cost_goes_on_with_more(command: Command) -> None:
    """What was left is not measured, which says why; `--resume` with more sends just that."""
    # A little more than the most that one may cost: no second one fits beside what it did cost.
    most = f"{(max(map(len, questions(command))) + len('Answer: ') + 2 * 16 + 10) / 1000 + 0.005}"
    with endpoint() as server:
        name = spec(command, server.url)
        first = command("run", name, "--max-cost", most, "--json")
        found = json.loads(first.out)
        asked = len(server.requests)

        assert (first.code, found["status"]) == (3, "not measured")
        assert found["failures"].keys() == {"not_sent"}
        assert 0 < found["failures"]["not_sent"] < 3
        assert f"max_cost={most} might have been passed" in first.err
        assert len(server.requests) * 0.007 <= float(most)
        assert found["cost"] == 0.007 * len(server.requests)

        second = json.loads(command("run", name, "--resume", "--max-cost", "5", "--json").out)
        assert second["failed"] == 0
        assert len(server.requests) > asked
        prompts = [str(one["messages"]) for one in server.requests]
        assert len({*prompts}) == len(prompts) == 3


def test_a_bound_without_prices_is_misuse(command: Command) -> None:
    """Nothing is asked, and the text says what is missing."""
    done = command("run", "rows.csv", "--prompt", "{{question}}", "--max-cost", "1")
    assert done.code == 2
    assert "max_cost needs the prices" in done.err


def test_an_amount_that_is_none_is_misuse(command: Command, tmp_path: Path) -> None:
    """As an option and in a spec."""
    for amount in ("0", "-1", "nan", "a lot"):
        assert command("run", spec(command), "--max-cost", amount).code == 2
    assert command("run", spec(command, max_cost="5")).code == 2


def test_a_plan_tells_that_a_bound_cannot_hold(command: Command) -> None:
    """Of a model without a price; where only the service may know them it is a warning."""
    named = ("--prompt", "{{question}}", "--criteria", "Is it right?", "--max-cost", "1")
    command.write(
        "free.yaml",
        "data: rows.csv\nprompt: '{{question}}'\nmodels: [{name: m, input_price_per_mtok: 1}]\n",
    )
    done = command("plan", "free.yaml", "--max-cost", "1")
    assert done.code == 2
    assert "max_cost needs the prices of 'm'" in done.err
    done = command("plan", "rows.csv", *named)
    assert done.code == 0
    assert "warning: max_cost needs prices, and those of default are not known" in done.err


def test_what_was_refused_is_not_to_be_gone_on_with(command: Command) -> None:
    """No command to resume is told, which would be refused as well."""
    done = command("run", "rows.csv", "--prompt", "{{question}}", "--max-cost", "1", "--json")
    assert json.loads(done.out)["resume"] is None
    assert "To go on" not in done.err


def test_empty_cells_are_warned_of(command: Command) -> None:
    """A CSV tells no missing cell from an empty text."""
    command.write("gaps.csv", "q,a\nx,1\n,2\n")
    done = command("plan", "gaps.csv", "--prompt", "{{q}}")
    assert done.code == 0
    assert "warning: 1 row is empty in 'q'" in done.err


def test_a_file_that_is_no_run_is_told(command: Command) -> None:
    """Which files are read is in the text."""
    done = command("compare", "rows.csv", "rows.csv")
    assert done.code == 2
    assert "rows.csv is no run: of files those are read that" in done.err
