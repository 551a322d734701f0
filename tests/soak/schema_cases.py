"""``python -m tests.soak.schema_cases``: 10,000 requests made from the server's own description.

Schemathesis makes them, valid ones and others, for every operation. No answer may be of 5xx or
have a status that the description does not name. One round asks for ids of any kind and deletes
what it finds; the next asks for those that there are, so that the handlers get to their work.
Ends with 1 when something was found, and prints that.

Schemathesis wants versions of its own of what the tests use: `make test` and `make soak` install
it beside them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from elluminate_async.server import LocalServer
from tests.server.api import Api
from tests.server.program import REPOSITORY

PROGRAM = REPOSITORY / ".venv-schemathesis" / "bin" / "schemathesis"
CHECKS = "not_a_server_error,status_code_conformance"
_GENERATED = re.compile(r"([\d,]+) generated")
_PROJECT = "project_id"


@dataclass(frozen=True, slots=True)
class Round:
    """One run with a seed of its own.

    Attributes:
        cases: Requests that were sent.
        is_clean: Whether none of them was answered wrongly.
        output: Of the program.
    """

    cases: int
    is_clean: bool
    output: str


@dataclass(frozen=True, slots=True)
class Plan:
    """How the requests of a round are made.

    Attributes:
        seed: Makes it repeatable.
        phases: "coverage" for one case for each limit of a schema, some sixty of each operation;
            "fuzzing" for drawn ones.
        examples: Drawn cases of each operation.
        known_ids: Whether paths have the ids of what there is. Nothing is deleted then.
    """

    seed: int
    phases: str = "coverage,fuzzing"
    examples: int = 25
    known_ids: bool = False


async def one_round(plan: Plan) -> Round:
    """Against a server of its own, which has one of each thing."""
    async with LocalServer() as server, aiohttp.ClientSession() as session:
        api = Api(session, server)
        await fill(api)
        known = path_ids(await api.get("//openapi.json")) if plan.known_ids else {_PROJECT}
        with tempfile.TemporaryDirectory() as folder:
            return await _ask(server, plan, known, Path(folder))


async def fill(api: Api) -> None:
    """Make one of each thing that the ids of paths can be of, with the id 1."""
    experiment, entries = await api.setup(["a", "b"], criteria=["Is it right?"])
    await api.generate(experiment, entries)
    scenarios = await api.post("/scenario-sets", {"name": "S"})
    path = f"/scenario-sets/{scenarios['id']}"
    await api.post(f"{path}/fields", {"name": "mood"})
    scenario = {"goal": "Know", "expected_conversation_outcome": "Knows"}
    await api.post(f"{path}/scenarios", scenario)


def path_ids(described: dict[str, Any]) -> set[str]:
    """The names that paths have for ids, which are numbers; a job's is a text."""
    return {
        parameter["name"]
        for path in described["paths"].values()
        for operation in path.values()
        for parameter in operation.get("parameters", ())
        if parameter["in"] == "path" and parameter["schema"].get("type") == "integer"
    }


async def _ask(server: LocalServer, plan: Plan, known: set[str], folder: Path) -> Round:
    settings = folder / "schemathesis.toml"
    # Of another project all is 404, whatever else is sent.
    lines = ["[parameters]", *(f'"path.{name}" = 1' for name in sorted(known)), ""]
    await asyncio.to_thread(settings.write_text, "\n".join(lines))
    process = await asyncio.create_subprocess_exec(
        PROGRAM, "--config-file", str(settings),
        "run", f"{server.url}/api/v0/openapi.json",
        "--header", f"X-API-Key: {server.api_key}",
        "--checks", CHECKS, "--phases", plan.phases,
        "--max-examples", str(plan.examples), "--request-timeout", "30",
        "--seed", str(plan.seed), "--continue-on-failure",
        *(("--exclude-method", "DELETE") if plan.known_ids else ()),
        cwd=folder,
        env={**os.environ, "NO_PROXY": "*"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    printed, _ = await process.communicate()
    output = printed.decode(errors="replace")
    found = _GENERATED.findall(output)
    cases = int(found[-1].replace(",", "")) if found else 0
    return Round(cases, process.returncode == 0, output)


async def run(wanted: int, seed: int) -> bool:
    """Rounds until there were so many cases; whether all were clean."""
    cases, first = 0, seed
    # Both kinds, even where one has cases enough.
    while cases < wanted or seed < first + 2:
        done = await one_round(Plan(seed, known_ids=(seed - first) % 2 == 1))
        cases, seed = cases + done.cases, seed + 1
        if not done.is_clean or not done.cases:
            sys.stdout.write(done.output)
            return False
        sys.stdout.write(f"{cases} cases: no 5xx, no status that is not documented\n")
        sys.stdout.flush()
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if not PROGRAM.exists():
        parser.error("schemathesis is not there; install it with: make schemathesis")
    sys.exit(not asyncio.run(run(arguments.cases, arguments.seed)))


if __name__ == "__main__":
    main()
