"""``python -m tests.soak.schema_cases``: 6,000 requests made from the server's own description.

Schemathesis makes them, valid ones and others, for every operation. No answer may be of 5xx or
have a status that the description does not name. It is no dependency of this project: install it
anywhere (``python -m venv DIR``, ``DIR/bin/pip install schemathesis``) and tell where it is.
Ends with 1 when something was found, and prints that.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from elluminate_async.server import LocalServer
from tests.server.api import Api

CHECKS = "not_a_server_error,status_code_conformance"
# The project of the path is one that there is: all others are 404, whatever else is sent.
SETTINGS = '[parameters]\n"path.project_id" = 1\n'
_GENERATED = re.compile(r"([\d,]+) generated")


@dataclass(frozen=True, slots=True)
class Round:
    """One run with a seed of its own."""

    cases: int
    is_clean: bool
    output: str


async def one_round(program: str, server: LocalServer, seed: int) -> Round:
    """Some fifty cases for each operation, and chains of them."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "schemathesis.toml"
        settings.write_text(SETTINGS)
        process = await asyncio.create_subprocess_exec(
            program, "--config-file", str(settings),
            "run", f"{server.url}/api/v0/openapi.json",
            "--header", f"X-API-Key: {server.api_key}",
            "--checks", CHECKS, "--phases", "coverage,fuzzing",
            "--max-examples", "50", "--request-timeout", "30",
            "--seed", str(seed), "--continue-on-failure",
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


async def run(program: str, wanted: int, seed: int) -> bool:
    """Rounds until there were so many cases; whether all were clean."""
    cases = 0
    async with LocalServer() as server, aiohttp.ClientSession() as session:
        api = Api(session, server)
        experiment, entries = await api.setup(["a", "b"], criteria=["Is it right?"])
        await api.generate(experiment, entries)
        while cases < wanted:
            done = await one_round(program, server, seed)
            cases, seed = cases + done.cases, seed + 1
            if not done.is_clean or not done.cases:
                sys.stdout.write(done.output)
                return False
            sys.stdout.write(f"{cases} cases: no 5xx, no status that is not documented\n")
            sys.stdout.flush()
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=6_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--program", default="schemathesis", help="where schemathesis is")
    arguments = parser.parse_args()
    wanted: str = arguments.program
    program = shutil.which(wanted)
    if program is None:
        parser.error("schemathesis is not there: install it, and say where with --program")
    sys.exit(not asyncio.run(run(program, arguments.cases, arguments.seed)))


if __name__ == "__main__":
    main()
