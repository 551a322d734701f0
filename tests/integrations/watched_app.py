"""The example's application, with a route that tells what it holds."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

from elluminate_async.integrations.fastapi import Client
from examples.service.app import app


@app.get("/_held")
async def held(client: Client) -> dict[str, Any]:
    """Its tasks, and the requests of its client that are in flight."""
    gc.collect()
    return {"tasks": len(asyncio.all_tasks()), "requests": client.traffic.in_flight}
