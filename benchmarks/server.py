"""How many items a second does the embedded server take; is a page quick with 10^6 stored?

    python -m benchmarks.server --items 4000 --stored 1000000

The server has a process and a core of its own, a durable file, and a model that answers at
once; what is measured is the server, so the load comes from bare aiohttp on another core.
Rates are with 12 chunks of 100 in flight, best and median of the repeats after a warm-up.
Pages are of 100 responses with 1,000 stored, and again in the same run with `--stored`
responses: of an experiment that has nearly all of them, and of one that has 1,000 among them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import aiohttp

from benchmarks.common.children import CLIENT_CORE, ROOT, SERVER_CORE, pin
from benchmarks.common.report import emit, number, spread, write_table
from elluminate_async.server import LocalServer, ModelAnswer, ModelRequest

CHUNK, IN_FLIGHT, CRITERIA, PAGE = 100, 12, 2, 100
FEW = 1_000

Figures: TypeAlias = dict[str, Any]


class Instant:
    """A model that repeats the prompt, and says YES as a judge."""

    name = "instant"

    async def complete(self, request: ModelRequest) -> ModelAnswer:
        """The answer, at once."""
        if request.json_schema is None:
            return ModelAnswer(f"You said: {request.messages[-1]['content']}")
        keys = request.json_schema.schema["properties"]
        return ModelAnswer(json.dumps({key: {"verdict": "YES"} for key in keys}))

    async def aclose(self) -> None:
        """Nothing to close."""


async def serve(db: str) -> None:
    """The server's process: tells where it listens, and its CPU time for each line it reads."""
    pin(SERVER_CORE)
    async with LocalServer(db=db, model=Instant(), max_model_calls=200) as server:
        print(json.dumps([server.url, server.api_key]), flush=True)
        lines = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(lines)
        await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
        while await lines.readline():
            used = resource.getrusage(resource.RUSAGE_SELF)
            print(used.ru_utime + used.ru_stime, flush=True)


class Service:
    """A running server, and requests to it."""

    def __init__(self, process: subprocess.Popen[str], session: aiohttp.ClientSession) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin, self._stdout = process.stdin, process.stdout
        url, self._key = json.loads(self._stdout.readline())
        self._root = f"{url}/api/v0/projects/1"
        self._session = session
        self._keys = itertools.count()

    def cpu_seconds(self) -> float:
        """What the server's process has used since its start."""
        self._stdin.write("\n")
        self._stdin.flush()
        return float(self._stdout.readline())

    async def post(self, path: str, body: object) -> Any:
        """Send a body under a key of its own."""
        headers = {"X-API-Key": self._key, "Idempotency-Key": f"{time.time()} {next(self._keys)}"}
        async with self._session.post(self._root + path, json=body, headers=headers) as response:
            text = await response.read()
            assert response.status in (201, 202), text
            return json.loads(text)

    async def get(self, path: str) -> bytes:
        """An answer's body."""
        headers = {"X-API-Key": self._key}
        async with self._session.get(self._root + path, headers=headers) as response:
            text = await response.read()
            assert response.status == 200, text
            return text

    async def job(self, route: str, body: object) -> bytes:
        """Accept a batch and follow it; its terminal document."""
        task = await self.post(route, body)
        return (await self.get(f"{route}/{task}/stream?polling_interval=10")).split(b"data: ")[-1]

    async def results(self, route: str, bodies: Sequence[object]) -> tuple[list[Any], float, float]:
        """All results in order, the seconds they took, and the server's CPU seconds."""
        ends: dict[int, bytes] = {}
        todo = iter(enumerate(bodies))

        async def work() -> None:
            for index, body in todo:
                ends[index] = await self.job(route, body)

        cpu, started = self.cpu_seconds(), time.perf_counter()
        await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
        seconds = time.perf_counter() - started
        cpu = self.cpu_seconds() - cpu
        found = [row for n in range(len(bodies)) for row in json.loads(ends[n])["result"]]
        return found, seconds, cpu


@contextlib.contextmanager
def service(db: Path, session: aiohttp.ClientSession) -> Generator[Service]:
    """A server in its own process, until the end of the block."""
    command = [sys.executable, __file__, "--serve", str(db)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            yield Service(process, session)
        finally:
            assert process.stdin is not None
            process.stdin.close()


def chunks(ids: Sequence[int]) -> list[Sequence[int]]:
    return [ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK)]


def to_generate(experiment: int, entries: Sequence[int], epoch: int = 1) -> object:
    items: list[dict[str, Any]] = [
        {"template_variables_id": one, "experiment_id": experiment, "epoch": epoch, "messages": []}
        for one in entries
    ]
    return {"prompt_response_ins": items}


async def set_up(at: Service, items: int) -> list[int]:
    """A template with criteria, a collection, and the experiments 1 to 3; the entries' ids."""
    messages = [{"role": "user", "content": "Say {{n}}, and explain it at some length."}]
    await at.post("/prompt_templates", {"name": "T", "messages": messages})
    criteria = [{"criterion_str": f"Is it good, point {n}?"} for n in range(CRITERIA)]
    await at.post("/criteria", {"prompt_template_id": 1, "criteria": criteria})
    rows = [{"n": str(n)} for n in range(items)]
    collection = await at.post("/collections", {"name": "C", "variables": rows})
    for name in ("rates", "few", "many"):
        body = {"name": name, "prompt_template_id": 1, "collection_id": collection["id"]}
        await at.post("/experiments", body)
    return [one["id"] for one in collection["variables"]]


async def rates(at: Service, entries: Sequence[int], repeats: int) -> list[Figures]:
    """Generated items and rated responses a second, and the CPU time of one."""
    lines: list[Figures] = []
    for repeat in range(repeats + 1):
        bodies = [to_generate(1, some, repeat + 1) for some in chunks(entries)]
        made, seconds, cpu = await at.results("/responses/batches", bodies)
        assert [one["prompt"]["template_variables"]["id"] for one in made] == list(entries)
        for n, one in enumerate(made):
            text = f"You said: Say {n}, and explain it at some length."
            assert one["messages"][0]["content"] == text
        bodies = [
            {"prompt_response_ids": some, "rating_mode": "fast"}
            for some in chunks([one["id"] for one in made])
        ]
        rated, rate_seconds, rate_cpu = await at.results("/ratings/batches", bodies)
        assert [[one["rating"] for one in ratings] for ratings in rated] == [
            ["YES"] * CRITERIA
        ] * len(entries)
        if repeat:
            lines += (
                rate_line("generate", repeat, len(entries), seconds, cpu),
                rate_line("rate", repeat, len(entries), rate_seconds, rate_cpu),
            )
    return lines


def rate_line(work: str, repeat: int, items: int, seconds: float, cpu: float) -> Figures:
    return {
        "benchmark": "server",
        "work": work,
        "repeat": repeat,
        "items": items,
        "items_per_second": round(items / seconds),
        "server_cpu_us_per_item": round(cpu / items * 1e6, 1),
        "server_cores": round(cpu / seconds, 2),
    }


async def latency(at: Service, entry: int, repeats: int = 200) -> Figures:
    """A batch of one item, from its POST to the end of its stream."""
    took: list[float] = []
    for _ in range(repeats):
        started = time.perf_counter()
        end = await at.job("/responses/batches", to_generate(1, [entry]))
        took.append((time.perf_counter() - started) * 1e3)
        assert len(json.loads(end)["result"]) == 1
    return {
        "benchmark": "server",
        "work": "batch of one item",
        "median_ms": round(statistics.median(took), 2),
        "p95_ms": round(statistics.quantiles(took, n=20)[-1], 2),
    }


def load(db: Path, stored: int) -> float:
    """Store responses of the experiments ``few`` and ``many``, past the server; the seconds.

    Half of ``many`` comes before those of ``few``, half after, with copies of the prompts
    and answers that are there.
    """
    started = time.perf_counter()
    with contextlib.closing(sqlite3.connect(db)) as raw:
        raw.execute("PRAGMA synchronous = OFF")
        (first,) = raw.execute("SELECT max(id) + 1 FROM responses").fetchone()
        names = [row[1] for row in raw.execute("PRAGMA table_info(responses)")]
        values = {
            "id": f"{first} + n",
            "experiment_id": "CASE WHEN n >= :half AND n < :half + :few THEN 2 ELSE 3 END",
            "epoch": "n + 1",
        }
        chosen = ", ".join(values.get(name, f"r.{name}") for name in names)
        raw.execute(
            f"""
            WITH RECURSIVE numbers (n) AS (
             SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :stored)
            INSERT INTO responses ({", ".join(names)}) SELECT {chosen}
            FROM numbers CROSS JOIN responses AS r ON r.id = 1 + n % :few""",
            {"stored": stored, "half": (stored - FEW) // 2, "few": FEW},
        )
        raw.execute("UPDATE sequences SET next_id = ? WHERE name = 'responses'", (first + stored,))
        raw.commit()
    return time.perf_counter() - started


async def pages(at: Service, experiment: int, count: int, repeats: int = 21) -> Figures:
    """Milliseconds of the first, the middle and the last page; ids must ascend through all."""
    last = -(-count // PAGE)
    took: dict[str, list[float]] = {"first": [], "middle": [], "last": []}
    for repeat in range(repeats + 1):
        shown: list[int] = []
        for name, place in zip(took, (1, (last + 1) // 2, last), strict=True):
            started = time.perf_counter()
            text = await at.get(f"/responses?experiment_id={experiment}&page={place}")
            if repeat:
                took[name].append((time.perf_counter() - started) * 1e3)
            page = json.loads(text)
            assert page["count"] == count
            assert len(page["items"]) == min(PAGE, count - (place - 1) * PAGE)
            shown += [one["id"] for one in page["items"]]
        assert shown == sorted(set(shown))
    return {name: round(statistics.median(some), 2) for name, some in took.items()}


async def run(options: argparse.Namespace, show: Callable[[Figures], None]) -> None:
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=options.folder) as folder:
        db = Path(folder) / "server.db"
        # As many responses in the measured experiment as the comparison is made with.
        async with aiohttp.ClientSession() as session:
            with service(db, session) as at:
                entries = await set_up(at, options.items)
                bodies = [to_generate(2, some) for some in chunks(entries[:FEW])]
                await at.results("/responses/batches", bodies)
                before = await pages(at, 2, FEW)
                show({"benchmark": "server", "stored": FEW, "experiment_of": FEW, "ms": before})
                lines = await rates(at, entries, options.repeats)
                for line in lines:
                    show(line)
                show(await latency(at, entries[0]))
            seconds = load(db, options.stored)
            show({"benchmark": "server", "stored": options.stored, "load_s": round(seconds, 1)})
            with service(db, session) as at:
                many = options.stored - FEW
                for experiment, count in ((3, many), (2, 2 * FEW)):
                    after = await pages(at, experiment, count)
                    ratios = {name: round(after[name] / before[name], 2) for name in before}
                    show(
                        {
                            "benchmark": "server",
                            "stored": options.stored,
                            "experiment_of": count,
                            "ms": after,
                            "ratio": ratios,
                        }
                    )
                for line in await rates(at, entries, 1):
                    show({**line, "stored": options.stored})


def write(lines: Sequence[Figures]) -> None:
    """The tables: rates, and pages."""
    rates_of: dict[tuple[str, int], list[Figures]] = {}
    page_rows: list[list[object]] = []
    for line in lines:
        if "items_per_second" in line:
            rates_of.setdefault((line["work"], line.get("stored", FEW)), []).append(line)
        elif "experiment_of" in line:
            place = [f"{line['stored']:,}", f"{line['experiment_of']:,}"]
            page_rows.append([*place, *(number(ms) for ms in line["ms"].values())])
        elif "median_ms" in line:
            one_item = f"{number(line['median_ms'])} ms"
            page_rows.append(["", "a batch of one item, from POST to result", one_item, "", ""])
    rows = [
        [
            work,
            f"{stored:,}",
            *(
                spread([line[figure] for line in found])
                for figure in ("items_per_second", "server_cpu_us_per_item")
            ),
        ]
        for (work, stored), found in rates_of.items()
    ]
    write_table("server", ["call", "stored", "items a second", "server CPU, us an item"], rows)
    head = ["stored", "of these in the experiment", "first page, ms", "middle, ms", "last, ms"]
    write_table("server pages", head, page_rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--items", type=int, default=4_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--stored", type=int, default=1_000_000)
    parser.add_argument("--folder", help="where the database goes; the system's default without")
    parser.add_argument("--table", action="store_true", help="write the tables of the README")
    parser.add_argument("--serve", metavar="DB", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        asyncio.run(serve(options.serve))
        return
    pin(CLIENT_CORE)
    lines: list[Figures] = []
    asyncio.run(run(options, lambda figures: lines.append(emit(**figures))))
    if options.table:
        write(lines)


if __name__ == "__main__":
    main()
