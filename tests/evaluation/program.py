"""Evaluates under a journal or as a run, and writes the table.

Its arguments are the server's address, the journal or ``run:`` and the name of one, the size of
chunks and the table; the key is in the environment.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from elluminate_async import AsyncClient, BatchOptions, RatingMode
from tests.evaluation.scene import CRITERIA, PROMPT, words

ROWS = 30


async def main(url: str, kept: str, chunk_size: str) -> str:
    options = BatchOptions(chunk_size=int(chunk_size), max_concurrency=4)
    is_run = kept.startswith("run:")
    async with AsyncClient(base_url=url, options=options) as client:
        evaluation = await client.evaluate(
            words(ROWS),
            prompt=PROMPT,
            criteria=CRITERIA,
            llm_configs=["small", "large"],
            name="nightly",
            rating_mode=RatingMode.FAST,
            journal=None if is_run else kept,
            run=kept.removeprefix("run:") if is_run else None,
        )
    return json.dumps([record.to_dict() for record in evaluation])


if __name__ == "__main__":
    Path(sys.argv[4]).write_text(asyncio.run(main(*sys.argv[1:4])))
