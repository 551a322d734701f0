"""Do the reads of responses cost the same with 10^5 of them stored as with 10^3?

    python -m benchmarks.reads --stored 100000

The server has a process and a core of its own and a durable file; bare aiohttp asks from another.
The same requests are timed with 1,000 responses of an experiment, each rated by two criteria, and
again in the same run of an experiment of `--stored` in the same project, with as many rows in its
collection. Of each the least of the repeats is taken, warm, and of some also once a response was
stored since.
The goal: at most 1.3 times the time, for a page; what has no pages (samples, comparison) is told
for each of its samples. Each answer's count is compared with what is stored.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sqlite3
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.common.children import CLIENT_CORE, pin
from benchmarks.common.report import emit, number, write_table
from benchmarks.server import Service, chunks, service, set_up, to_generate

FEW = 1_000
GOAL = 1.3
SMALL, LARGE, OTHER = 2, 3, 1
"""Experiments: measured with few, measured with many, and what both are compared with."""


def reads(experiment: int, count: int, entry: int) -> dict[str, str]:
    """Paths below the project, by what they are called."""
    own = f"/responses?experiment_id={experiment}"
    last = -(-count // 100)
    return {
        "listing, first page": own,
        "listing, last page": f"{own}&page={last}",
        "listing by model": f"{own}&llm_model_name=instant",
        "listing by model, middle": f"{own}&llm_model_name=instant&page={(last + 1) // 2}",
        "listing by template": f"{own}&prompt_template_id=1",
        "listing by epoch": f"{own}&epoch=1",
        "listing of one row": f"{own}&template_variables_id={entry}",
        "map, first page": f"/experiments/{experiment}/map?limit=100",
        "map, last page": f"/experiments/{experiment}/map?limit=100&page={last}",
        "samples": f"/responses/samples?experiment_id={experiment}",
        "samples, sorted": f"/responses/samples?experiment_id={experiment}&sort_by=rating-desc",
        "comparison": "/responses/comparison/samples"
        f"?experiment_a_id={experiment}&experiment_b_id={OTHER}",
        "statistics": "/responses/stats?days=30",
        "experiment": f"/experiments/{experiment}",
        "experiments": "/experiments",
        "ratings of one": "/ratings?prompt_response_id=1",
    }


PER_SAMPLE = ("samples", "samples, sorted", "comparison")


def load(db: Path, stored: int) -> int:
    """Have ``LARGE`` and ``OTHER`` so many more rated responses, copied past the server.

    Returns:
        The first new row's id.
    """
    with contextlib.closing(sqlite3.connect(db)) as raw:
        raw.execute("PRAGMA synchronous = OFF")
        raw.execute("PRAGMA foreign_keys = ON")
        first: dict[str, int] = {}
        for table, step in (("entries", 1), ("prompts", 1), ("responses", 2), ("ratings", 4)):
            (first[table],) = raw.execute(f"SELECT max(id) + 1 FROM {table}").fetchone()
            more = (first[table] + stored * step, table)
            raw.execute("UPDATE sequences SET next_id = ? WHERE name = ?", more)
        (made,) = raw.execute(
            "SELECT min(id) FROM responses WHERE experiment_id = ?", (SMALL,)
        ).fetchone()
        (of_made,) = raw.execute("SELECT prompt_id FROM responses WHERE id = ?", (made,)).fetchone()
        entry, prompt = f"{first['entries']} + n", f"{first['prompts']} + n"
        copied = {"id": entry, "digest": "'copy ' || n"}
        _copy(raw, "entries", stored, "r.id = 1", copied)
        copied = {"id": prompt, "template_variables_id": entry, "digest": "'copy ' || n"}
        _copy(raw, "prompts", stored, f"r.id = {of_made}", copied)
        for place, experiment in enumerate((LARGE, OTHER)):
            response = f"{first['responses'] + place * stored} + n"
            copied = {
                "id": response,
                "experiment_id": str(experiment),
                "prompt_id": prompt,
                "template_variables_id": entry,
            }
            _copy(raw, "responses", stored, f"r.id = {made}", copied)
            rating = f"{first['ratings'] + 2 * place * stored} + 2 * n + r.id % 2"
            copied = {"id": rating, "response_id": response, "job_id": "NULL"}
            _copy(raw, "ratings", stored, f"r.response_id = {made} AND r.is_current", copied)
        raw.commit()
    return first["entries"]


def _copy(
    raw: sqlite3.Connection, table: str, count: int, what: str, values: Mapping[str, str]
) -> None:
    names = [row[1] for row in raw.execute(f"PRAGMA table_info({table})")]
    chosen = ", ".join(values.get(name, f"r.{name}") for name in names)
    raw.execute(
        f"""
        WITH RECURSIVE numbers (n) AS (
         SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < ?)
        INSERT INTO {table} ({", ".join(names)}) SELECT {chosen}
        FROM numbers CROSS JOIN {table} AS r ON {what}""",
        (count,),
    )


async def measured(
    at: Service, paths: Mapping[str, str], count: int, entry: int, repeats: int
) -> dict[str, float]:
    """Milliseconds of each read, warm, and of some after a change; others' noise only adds."""
    found: dict[str, float] = {}
    for name, path in paths.items():
        is_whole = name in PER_SAMPLE or name in ("statistics", "experiment", "experiments")
        times = min(repeats, 5) if is_whole and count > FEW else repeats
        found[name] = await _least(at, path, times)
        check(name, json.loads(await at.get(path)), count)
    for name in ("listing by model", "map, first page", "statistics"):
        took: list[float] = []
        for _ in range(5):
            await at.job("/responses/batches", to_generate(OTHER, [entry]))
            took.append(await _timed(at, paths[name]))
        found[f"{name}, after a change"] = min(took)
    return found


async def _least(at: Service, path: str, repeats: int) -> float:
    await at.get(path)
    return min([await _timed(at, path) for _ in range(repeats)])


async def _timed(at: Service, path: str) -> float:
    started = time.perf_counter()
    await at.get(path)
    return (time.perf_counter() - started) * 1e3


def check(name: str, document: Any, count: int) -> None:
    """Whether an answer is of as many responses as there are."""
    if name.startswith("listing"):
        assert document["count"] == (1 if name == "listing of one row" else count), name
    elif name.startswith("map"):
        assert document["num_responses"] == document["num_samples"] == count
    elif name in PER_SAMPLE:
        assert len(document) == count * (2 if name == "comparison" else 1)
    elif name == "experiment":
        assert document["results"]["num_rated_responses"] == count


async def run(stored: int, repeats: int) -> list[list[str]]:
    """Both sizes; the lines of the table."""
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        db = Path(folder) / "server.db"
        async with aiohttp.ClientSession() as session:
            with service(db, session) as at:
                entries = await set_up(at, FEW)
                for experiment in (SMALL, OTHER):
                    await rate_all(at, experiment, entries)
                paths = reads(SMALL, FEW, entries[3])
                before = await measured(at, paths, FEW, entries[3], repeats)
            first = load(db, stored)
            with service(db, session) as at:
                paths = reads(LARGE, stored, first + 3)
                after = await measured(at, paths, stored, entries[3], repeats)
    for name, few in before.items():
        share = stored / FEW if name in PER_SAMPLE else 1.0
        ratio = after[name] / few / share
        emit(benchmark="reads", read=name, few_ms=few, many_ms=after[name], ratio=ratio)
        each = " (each sample)" if share > 1 else ""
        rows.append([name + each, number(few), number(after[name]), number(ratio)])
    missed = [row[0] for row in rows if float(row[3]) > GOAL]
    emit(benchmark="reads", stored=stored, goal=GOAL, missed=missed)
    return rows


async def rate_all(at: Service, experiment: int, entries: Sequence[int]) -> None:
    """Generate and rate a response to each row."""
    bodies = [to_generate(experiment, some) for some in chunks(entries)]
    made, _, _ = await at.results("/responses/batches", bodies)
    ratings = [
        {"prompt_response_ids": some, "rating_mode": "fast"}
        for some in chunks([one["id"] for one in made])
    ]
    await at.results("/ratings/batches", ratings)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--stored", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--table", action="store_true", help="write the table of the README")
    arguments = parser.parse_args()
    pin(CLIENT_CORE)
    lines = asyncio.run(run(arguments.stored, arguments.repeats))
    if arguments.table:
        head = ["read", "1,000 stored, ms", f"{arguments.stored:,} stored, ms", "ratio"]
        write_table("reads", head, lines)
