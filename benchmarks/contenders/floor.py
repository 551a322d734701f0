"""Contender: the least aiohttp program that makes the exchanges of this client, with no checks."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp

from benchmarks.contenders.meter import Checks, checker, serve_lines

CHUNK_SIZE, CONCURRENCY = 100, 10  # this client's defaults


async def flow(task: dict[str, Any]) -> Checks:
    """Generate, then rate."""
    headers = {"X-API-Key": task["api_key"], "Content-Type": "application/json"}
    async with aiohttp.ClientSession(headers=headers) as session:
        api = task["url"] + "/api/v0"
        body = json.dumps({"current_sdk_version": "1.5.2"})
        async with session.post(f"{api}/version/compatible", data=body) as answer:
            await answer.read()
        async with session.get(f"{api}/projects") as answer:
            project = json.loads(await answer.read())["items"][0]["id"]
        base = f"{api}/projects/{project}"
        slots = asyncio.Semaphore(CONCURRENCY)

        async def batch(noun: str, bodies: list[Any]) -> list[Any]:
            async def chunk(body: Any) -> list[Any]:
                async with slots:
                    url = f"{base}/{noun}/batches"
                    async with session.post(url, data=json.dumps(body)) as answer:
                        job = json.loads(await answer.read())
                    async with session.get(f"{url}/{job}/stream") as answer:
                        events = (await answer.read()).split(b"\n\n")
                    return json.loads(events[-2][len("data: ") :])["result"]

            return [row for rows in await asyncio.gather(*map(chunk, bodies)) for row in rows]

        def chunks(entries: list[Any]) -> list[list[Any]]:
            return [entries[i : i + CHUNK_SIZE] for i in range(0, len(entries), CHUNK_SIZE)]

        asked: list[Any] = [
            {
                "template_variables_id": variables,
                "experiment_id": task["experiment"],
                "epoch": 1,
                "llm_config_id": None,
                "messages": [],
                "metadata": None,
            }
            for variables in task["variables"]
        ]
        responses = await batch("responses", [{"prompt_response_ins": c} for c in chunks(asked)])
        ids = [response["id"] for response in responses]
        ratings = await batch(
            "ratings", [{"prompt_response_ids": c, "rating_mode": "fast"} for c in chunks(ids)]
        )
    return checker(
        task,
        lambda: [
            (row["prompt"]["template_variables"]["id"], row["messages"][-1]["content"])
            for row in responses
        ],
        lambda: [[rating["rating"] for rating in of_one] for of_one in ratings],
    )


if __name__ == "__main__":
    serve_lines(flow)
