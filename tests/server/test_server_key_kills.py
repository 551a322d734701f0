"""A server that is killed while two jobs want the same does each thing once, for both."""

from __future__ import annotations

import asyncio
import json
import math
import sqlite3
from contextlib import closing
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from tests.server.api import Api
from tests.server.endpoint import completion
from tests.server.program import serving
from tests.server.test_server_item_keys import keyed

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp
    from fastapi.responses import Response

    from tests.server.endpoint import Endpoint

WORDS = [f"w{number}" for number in range(8)]
AT_ONCE = 2
KEPT = 3


def _reply(body: dict[str, Any]) -> Response:
    schema = body.get("response_format", {}).get("json_schema")
    if schema is None:
        return completion(body["messages"][-1]["content"].upper())
    keys = schema["schema"]["properties"]
    return completion(json.dumps({key: {"verdict": "YES", "reasoning": "so"} for key in keys}))


async def test_a_kill_costs_the_calls_in_flight_only(
    session: aiohttp.ClientSession, endpoint: Endpoint, tmp_path: Path
) -> None:
    """Killed while two jobs generate, and two jobs of a run rate, the same: no more is repeated."""
    endpoint.reply = _reply
    db = tmp_path / "s.db"
    options = ("--db", str(db), "--max-model-calls", str(AT_ONCE))
    models = ("--model", "m", "--llm-base-url", endpoint.url)
    key = ""

    def api_of(url: str) -> Api:
        server: Any = SimpleNamespace(url=url, api_key=key)
        return Api(session, server)

    with serving(*options, *models) as program:
        key = program.key
        api = api_of(program.url)
        experiment, entries = await api.setup(WORDS, criteria=["x?"])
        known = await api.generate(experiment, entries)
        ids = [row["id"] for row in known["result"]]
        endpoint.requests.clear()
        endpoint.holds_after = 2 * KEPT
        body = {"prompt_response_ids": ids, "rating_mode": "fast", "run": "nightly"}
        ratings = "/ratings/batches", body
        responses = "/responses/batches", keyed(experiment, entries)
        paths = [
            f"{path}/{await api.post(path, body)}"
            for path, body in (ratings, ratings, responses, responses)
        ]
        await endpoint.reached(2 * KEPT + AT_ONCE)
        async with asyncio.timeout(60):
            while sum(_kept(db)) != 4 * KEPT:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        program.kill()
    endpoint.holds_after = math.inf
    endpoint.released.set()
    with serving(*options, *models) as program:
        async with asyncio.timeout(60):
            ended = await asyncio.gather(*map(api_of(program.url).ended, paths))

    assert ended[0]["result"] == ended[1]["result"]
    assert [len(given) for given in ended[0]["result"]] == [1] * len(WORDS)
    assert ended[2]["result"] == ended[3]["result"]
    texts = [row["messages"][0]["content"] for row in ended[2]["result"]]
    assert texts == [f"SAY {word.upper()}." for word in WORDS]
    assert len(endpoint.requests) == 2 * len(WORDS) + AT_ONCE


def _kept(db: Path) -> list[int]:
    """How many items of the last four jobs are done."""
    with closing(sqlite3.connect(db)) as raw:
        query = "SELECT processed FROM jobs ORDER BY id DESC LIMIT 4"
        return [processed for (processed,) in raw.execute(query)]
