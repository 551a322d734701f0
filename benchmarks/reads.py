"""Do the reads of responses cost the same with 10^5 of them stored as with 10^3?

    python -m benchmarks.reads --stored 100000
    python -m benchmarks.reads --stored 1000000 --reads experiment experiments statistics

Two servers have a process each, on one core, and a durable file: one with 1,000 responses to each
of three experiments, each rated by two criteria, and one with `--stored` in two of them (in one,
where nothing is compared) and as many rows in their collection. Bare aiohttp asks the same of both
from another core, by turns, so that what else the machine does is in both. Of each the least of the
repeats is taken, warm, and of some also once a response was stored since.
The goals: at most 1.3 times the time, for a page, and 1.2 times for the results of experiments;
what has no pages (samples, comparison) is told for each of its samples. Each answer's count is
compared with what is stored.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.common.children import CLIENT_CORE, pin
from benchmarks.common.report import emit, number, write_table
from benchmarks.server import Service, chunks, service, set_up, to_generate

FEW = 1_000
GOAL, GOAL_OF_RESULTS = 1.3, 1.2
SMALL, LARGE, OTHER = 2, 3, 1
"""Experiments: one that stays small, the measured one, and what that is compared with."""


def reads(count: int, entry: int) -> dict[str, str]:
    """Paths below the project, by what they are called."""
    experiment = LARGE
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
RESULTS = ("experiment", "experiments")
CHANGED = ("listing by model", "map, first page", "statistics", "experiment")


def load(db: Path, stored: int, experiments: Sequence[int]) -> int:
    """Have each of the experiments so many more rated responses, copied past the server.

    The database's own triggers count them.

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
        for place, experiment in enumerate(experiments):
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


@dataclass(frozen=True, slots=True)
class Side:
    """A server, the paths that it is asked for, and how many responses ``LARGE`` has there."""

    at: Service
    paths: Mapping[str, str]
    count: int


async def measured(
    sides: Sequence[Side], chosen: Sequence[str], entry: int, repeats: int
) -> dict[str, list[float]]:
    """Milliseconds of each read on each side; others' noise only adds."""
    found: dict[str, list[float]] = {}
    for name in chosen:
        for side in sides:
            check(name, json.loads(await side.at.get(side.paths[name])), side.count)
        times = min(repeats, 11) if name in PER_SAMPLE else repeats
        found[name] = await _least(
            [partial(_timed, one.at, one.paths[name]) for one in sides], times
        )
    for name in (name for name in CHANGED if name in chosen):
        after = [partial(_timed_after_a_change, one.at, one.paths[name], entry) for one in sides]
        found[f"{name}, after a change"] = await _least(after, repeats)
    return found


async def _least(timed: Sequence[Callable[[], Awaitable[float]]], repeats: int) -> list[float]:
    took = [[await one() for one in timed] for _ in range(repeats)]
    return [min(times) for times in zip(*took, strict=True)]


async def _timed_after_a_change(at: Service, path: str, entry: int) -> float:
    await at.job("/responses/batches", to_generate(OTHER, [entry]))
    return await _timed(at, path)


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


async def run(stored: int, chosen: Sequence[str], repeats: int) -> list[list[str]]:
    """Both sizes; the lines of the table."""
    chosen = chosen or list(reads(FEW, 1))
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        few_db, many_db = Path(folder) / "few.db", Path(folder) / "many.db"
        async with aiohttp.ClientSession() as session:
            with service(few_db, session) as at:
                entries = await set_up(at, FEW)
                for experiment in (SMALL, LARGE, OTHER):
                    await rate_all(at, experiment, entries)
            shutil.copyfile(few_db, many_db)
            grown = (LARGE, OTHER) if "comparison" in chosen else (LARGE,)
            first = load(many_db, stored - FEW, grown)
            with service(few_db, session) as few, service(many_db, session) as many:
                sides = (
                    Side(few, reads(FEW, entries[3]), FEW),
                    Side(many, reads(stored, first + 3), stored),
                )
                found = await measured(sides, chosen, entries[3], repeats)
    rows: list[list[str]] = []
    missed: list[str] = []
    for name, (few_ms, many_ms) in found.items():
        share = stored / FEW if name in PER_SAMPLE else 1.0
        ratio = many_ms / few_ms / share
        emit(benchmark="reads", read=name, few_ms=few_ms, many_ms=many_ms, ratio=ratio)
        each = " (each sample)" if name in PER_SAMPLE else ""
        rows.append([name + each, number(few_ms), number(many_ms), number(ratio)])
        goal = GOAL_OF_RESULTS if name.partition(",")[0] in RESULTS else GOAL
        if ratio > goal:
            missed.append(name)
    emit(benchmark="reads", stored=stored, goals=[GOAL, GOAL_OF_RESULTS], missed=missed)
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
    parser.add_argument(
        "--reads", nargs="+", default=[], choices=list(reads(FEW, 1)), metavar="READ"
    )
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--table", action="store_true", help="write the table of the README")
    arguments = parser.parse_args()
    pin(CLIENT_CORE)
    lines = asyncio.run(run(arguments.stored, arguments.reads, arguments.repeats))
    if arguments.table:
        head = ["read", "1,000 stored, ms", f"{arguments.stored:,} stored, ms", "ratio"]
        write_table("reads of some" if arguments.reads else "reads", head, lines)
