"""The same call again, with its journal, after its server became another or its data did.

``python -m tests.soak.elsewhere --seeds 10`` runs each way on each operation with each seed,
and fails when a position has as a success what is of another input.

=============  =================================================================
``replaced``   a new database at the same address, its ids used in another order
``restored``   the database as an older copy had it, ids since then used again
``edited``     entries hold other values
``reused``     the same database and experiment; ids are of other objects in it
``moved``      the same database on another port: nothing is lost or done twice
=============  =================================================================
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import shutil
import socket
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elluminate_async import AsyncClient, BatchOptions, ElluminateError
from elluminate_async.schemas import PromptResponse, TemplateVariables
from elluminate_async.server import LocalServer, ModelAnswer, ModelRequest, WireProfile
from elluminate_async.server.store.rows import digest
from tests.flow.bench import EchoModel, Recorder

WAYS = ("replaced", "restored", "edited", "reused", "moved")
OPERATIONS = ("generate", "rate", "add", "rows")
GIVEN = ("objects", "ids", "fresh")
"""How the second run has its inputs: as before, by their ids, or read anew."""

ITEMS = 6
KEY = "local-key"
OPTIONS = BatchOptions(chunk_size=2, max_concurrency=2, settle=0.1, deadline=20)


class Judge(EchoModel):
    """Echoes prompts; as a judge it says in its reasoning what answer it has read."""

    async def complete(self, request: ModelRequest) -> ModelAnswer:
        answer = await super().complete(request)
        if request.purpose != "judge":
            return answer
        read = str(request.messages[-1]["content"]).partition("--- answer")[2]
        said = re.search(r"(?:echo say|made for) (\S+)", read)
        verdicts = json.loads(answer.text)
        for verdict in verdicts.values():
            verdict["reasoning"] = said[1] if said else "nothing"
        return ModelAnswer(text=json.dumps(verdicts), input_tokens=1, output_tokens=1)


@dataclass(frozen=True, slots=True)
class Case:
    """One seeded case."""

    way: str
    operation: str
    seed: int


@dataclass(slots=True)
class Result:
    """What the second run gave.

    Attributes:
        foreign: Successes that are of another input.
        refusal: The error that it ended with instead.
        done: Positions that the first run's journal had as done.
        twice: Prompts that the model answered more than once.
    """

    own: int = 0
    foreign: int = 0
    failed: int = 0
    refusal: str = ""
    done: int = 0
    twice: int = 0


class World:
    """A server on a file, which may be stopped, changed and started again."""

    def __init__(self, folder: Path, profile: WireProfile) -> None:
        self.db = folder / "server.db"
        self.profile = profile
        self.model = Judge()
        self.port = _free_port()
        self.recorder = Recorder()

    @asynccontextmanager
    async def client(self) -> AsyncGenerator[AsyncClient]:
        """A client of a server that runs for as long."""
        self.recorder = Recorder()
        async with (
            LocalServer(
                db=self.db, port=self.port, api_key=KEY, model=self.model,
                profile=self.profile, wrap=self.recorder.wrap,
            ) as server,
            AsyncClient(base_url=server.url, api_key=KEY, options=OPTIONS) as client,
        ):  # fmt: skip
            yield client


@dataclass(slots=True)
class Objects:
    """What a call works with."""

    collection: int
    experiment: int
    rows: list[TemplateVariables]
    responses: list[PromptResponse]


async def prepare(
    client: AsyncClient, values: Sequence[str], order: Sequence[int], *, filled: bool
) -> Objects:
    """All objects, those of ``values`` made in the order of these positions."""
    template, _ = await client.prompt_templates.get_or_create("say {{x}}", name="Echo")
    await client.criteria.add_many(["is it short?", "is it true?"], prompt_template=template)
    collection, _ = await client.collections.get_or_create("values")
    experiment, _ = await client.experiments.get_or_create(
        "run", prompt_template=template, collection=collection
    )
    contents = [{"x": values[position]} for position in order]
    made = await client.template_variables.add_many(contents, collection=collection)
    rows = [row for _, row in sorted(zip(order, made, strict=True), key=lambda pair: pair[0])]
    responses: list[PromptResponse] = []
    if filled and order:
        found = await client.responses.generate_many(
            template_variables=[rows[order.index(p)] for p in order], experiment=experiment
        )
        pairs = zip(order, found, strict=True)
        responses = [response for _, response in sorted(pairs, key=lambda pair: pair[0])]
    return Objects(collection.id, experiment.id, rows, responses)


async def call(
    client: AsyncClient, case: Case, objects: Objects, values: Sequence[str], given: str, path: Path
) -> Any:
    """The call under test."""
    rows: Sequence[Any] = objects.rows
    responses: Sequence[Any] = objects.responses
    if given == "ids":
        rows, responses = [row.id for row in rows], [row.id for row in responses]
    match case.operation:
        case "generate":
            return await client.responses.generate_many(
                template_variables=rows, experiment=objects.experiment, journal=path
            )
        case "rate":
            return await client.ratings.rate_many(responses, journal=path)
        case "add":
            return await client.responses.add_many(
                [f"made for {value}" for value in values],
                template_variables=rows,
                experiment=objects.experiment,
                journal=path,
            )
        case _:
            return await client.template_variables.add_many(
                [{"x": f"new {value}"} for value in values],
                collection=objects.collection,
                skip_existing=case.seed % 2 == 0,
                journal=path,
            )


async def interrupted(client: AsyncClient, world: World, chosen: random.Random, run: Any) -> None:
    """Await ``run``, or cancel it after some requests."""
    limit = chosen.choice([None, None, *range(4, 16)])
    task = asyncio.ensure_future(run)
    world.recorder.requests.clear()
    while not task.done():
        if limit is not None and len(world.recorder.requests) >= limit:
            task.cancel()
            break
        await asyncio.sleep(0)
    with suppress(asyncio.CancelledError):
        await task


async def run_case(case: Case, folder: Path) -> Result:
    """Begin a call, change the world, and make the same call again."""
    chosen = random.Random(f"{case.way} {case.operation} {case.seed}")
    hosted = case.seed % 2 == 1 and case.way != "moved"
    profile = WireProfile.hosted(page_size=4, listing_seed=case.seed) if hosted else WireProfile()
    world, journal = World(folder, profile), folder / "journal"
    values = [f"v{case.seed}-{position}" for position in range(ITEMS)]
    given = chosen.choice(GIVEN)
    copy = folder / "copy.db"
    if case.way == "restored":
        async with world.client() as client:
            await prepare(client, values, [], filled=False)
        shutil.copy(world.db, copy)
    async with world.client() as client:
        order = chosen.sample(range(ITEMS), ITEMS)
        objects = await prepare(client, values, order, filled=case.operation == "rate")
        first = call(client, case, objects, values, given, journal)
        await interrupted(client, world, chosen, first)
    await change(case, world, values, copy, chosen)
    world.model.answered.clear() if case.way != "moved" else None
    result = Result(done=journal.read_bytes().count(b'"kind":"DONE"'))
    async with world.client() as client:
        if given == "fresh":
            await read_anew(client, objects)
        try:
            batch = await call(client, case, objects, values, given, journal)
        except ElluminateError as error:
            result.refusal = type(error).__name__
            return result
        meant = await meant_by(client, case, objects, values, given)
    for outcome, value in zip(batch.outcomes, meant, strict=True):
        if isinstance(outcome, ElluminateError):
            result.failed += 1
        elif is_of(outcome, value, case.operation):
            result.own += 1
        else:
            result.foreign += 1
    result.twice = sum(count > 1 for count in world.model.answered.values())
    return result


async def change(
    case: Case, world: World, values: Sequence[str], copy: Path, chosen: random.Random
) -> None:
    """What happens to the world between the two runs."""
    order = chosen.sample(range(ITEMS), ITEMS)
    match case.way:
        case "replaced" | "restored":
            world.db.unlink()
            if case.way == "restored":
                shutil.copy(copy, world.db)
            async with world.client() as client:
                others = await prepare(client, values, order, filled=True)
                await client.ratings.rate_many(others.responses)
        case "edited":
            edit(world.db, chosen.sample(range(ITEMS), 2))
        case "reused":
            shuffle(world.db, chosen)
        case _:
            world.port = _free_port()


def edit(db: Path, places: Sequence[int]) -> None:
    """Give some entries the value of another one, or a new one."""
    with closing(_connected(db)) as connection, connection:
        entries = connection.execute("SELECT id, input_values FROM entries ORDER BY id").fetchall()
        first, second = (entries[place][0] for place in places)
        other = json.loads(entries[places[1]][1])["x"]
        _set_values(connection, first, {"x": other})
        _set_values(connection, second, {"x": "something new"})


def shuffle(db: Path, chosen: random.Random) -> None:
    """Have the ids of entries, responses and ratings be those of others."""
    with closing(_connected(db)) as connection, connection:
        for table, columns in (
            ("entries", "input_values, digest"),
            ("responses", "prompt_id, epoch, messages"),
            ("ratings", "response_id, criterion_id, rating, reasoning"),
        ):
            if table == "ratings":
                connection.execute("DROP INDEX IF EXISTS ratings_once")
            names = columns.split(", ")
            rows = connection.execute(f"SELECT id, {columns} FROM {table} ORDER BY id").fetchall()
            contents = [row[1:] for row in rows]
            chosen.shuffle(contents)
            for (id, *_), content in zip(rows, contents, strict=True):
                assignments = ", ".join(f"{name} = ?" for name in names)
                statement = f"UPDATE {table} SET {assignments} WHERE id = ?"
                connection.execute(statement, (*content, id))


async def read_anew(client: AsyncClient, objects: Objects) -> None:
    """The objects of these ids as they are now, where they are."""
    rows = {row.id: row for row in await client.template_variables.list(objects.collection)}
    objects.rows = [rows.get(row.id, row) for row in objects.rows]
    found = {row.id: row for row in await client.responses.list(experiment=objects.experiment)}
    objects.responses = [found.get(row.id, row) for row in objects.responses]


async def meant_by(
    client: AsyncClient, case: Case, objects: Objects, values: Sequence[str], given: str
) -> list[str]:
    """The value that each position is about."""
    if case.operation == "rows" or case.operation == "add":
        return list(values)
    if given == "ids":
        await read_anew(client, objects)
    if case.operation == "generate":
        return [row.input_values["x"] for row in objects.rows]
    return [row.response_str.removeprefix("echo say ") for row in objects.responses]


def is_of(outcome: Any, value: str, operation: str) -> bool:
    """Whether an outcome is what this value's input gives."""
    match operation:
        case "generate":
            return outcome.response_str == f"echo say {value}"
        case "add":
            return outcome.response_str == f"made for {value}"
        case "rows":
            return outcome.input_values == {"x": f"new {value}"}
        case _:
            return {rating.reasoning for rating in outcome} == {value}


def run_cases(cases: Sequence[Case]) -> Mapping[Case, Result]:
    """The result of each case."""
    results: dict[Case, Result] = {}
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            results[case] = asyncio.run(run_case(case, Path(folder)))
    return results


def cases_of(seeds: Sequence[int]) -> list[Case]:
    """Each way on each operation with each seed."""
    return [
        Case(way, operation, seed) for way in WAYS for operation in OPERATIONS for seed in seeds
    ]


def _connected(db: Path) -> sqlite3.Connection:
    return sqlite3.connect(db)


def _set_values(connection: sqlite3.Connection, id: int, values: Mapping[str, Any]) -> None:
    connection.execute(
        "UPDATE entries SET input_values = ?, digest = ? WHERE id = ?",
        (json.dumps(values), digest(values, None), id),
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10, help="of each way on each operation")
    options = parser.parse_args()
    results = run_cases(cases_of(range(options.seeds)))
    print("way        cases  refused  done before    own  no success  foreign  twice")  # noqa: T201
    foreign = 0
    for way in WAYS:
        counts = Counter[str]()
        for case, result in results.items():
            if case.way == way:
                counts.update(
                    cases=1, refused=bool(result.refusal), done=result.done, own=result.own,
                    failed=result.failed, foreign=result.foreign, twice=result.twice,
                )  # fmt: skip
                if result.foreign or (way == "moved" and result.twice):
                    print(f"{case}: {result}")  # noqa: T201
        foreign += counts["foreign"]
        print(  # noqa: T201
            f"{way:9} {counts['cases']:6} {counts['refused']:8} {counts['done']:12} "
            f"{counts['own']:6} {counts['failed']:11} {counts['foreign']:8} {counts['twice']:6}"
        )
    return 1 if foreign else 0


if __name__ == "__main__":
    sys.exit(main())
