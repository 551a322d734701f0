"""Evaluates under a journal, and writes the table.

Its arguments are the server's address, the journal and the table; the key is in the environment.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from elluminate_async import AsyncClient, BatchOptions, RatingMode
from tests.evaluation.scene import CRITERIA, PROMPT, words

ROWS = 30


async def main(url: str, journal: str) -> str:
    options = BatchOptions(chunk_size=3, max_concurrency=4)
    async with AsyncClient(base_url=url, options=options) as client:
        evaluation = await client.evaluate(
            words(ROWS),
            prompt=PROMPT,
            criteria=CRITERIA,
            llm_configs=["small", "large"],
            name="nightly",
            rating_mode=RatingMode.FAST,
            journal=journal,
        )
    return json.dumps([record.to_dict() for record in evaluation])


if __name__ == "__main__":
    Path(sys.argv[3]).write_text(asyncio.run(main(*sys.argv[1:3])))
