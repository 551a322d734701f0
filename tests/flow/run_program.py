"""Generates and rates as a run, without a journal, and writes what came of it.

Its arguments are the server's address, the experiment, the first row, the size of chunks and the
file; the key is in the environment.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from elluminate_async import AsyncClient, BatchOptions, RatingMode

ROWS = 40


async def main(url: str, experiment: int, first: int, chunk_size: int) -> str:
    options = BatchOptions(chunk_size=chunk_size, max_concurrency=3)
    rows = [*range(first, first + ROWS)]
    async with AsyncClient(base_url=url, options=options) as client:
        responses = await client.responses.generate_many(
            template_variables=rows,
            experiment=experiment,
            run="nightly",
            item_keys=[f"row {row}" for row in rows],
        )
        ratings = await client.ratings.rate_many(
            responses, rating_mode=RatingMode.FAST, run="nightly"
        )
    return json.dumps(
        [
            [response.id, response.response_str, [rating.id for rating in rated]]
            for response, rated in zip(responses, ratings, strict=True)
        ]
    )


if __name__ == "__main__":
    url, *numbers, path = sys.argv[1:]
    Path(path).write_text(asyncio.run(main(url, *map(int, numbers))))
