"""What is killed: a process that generates and rates, each with a journal."""

from __future__ import annotations

import asyncio
import pickle
import resource
from dataclasses import dataclass
from pathlib import Path

from elluminate_async import AsyncClient, BatchOptions

OPTIONS = BatchOptions(chunk_size=8, max_concurrency=3, settle=0.3, deadline=30)


@dataclass(frozen=True, slots=True)
class Job:
    """What the killed process is to do."""

    url: str
    api_key: str
    experiment_id: int
    ids: range
    folder: Path


def work(job: Job, room: int | None) -> None:
    """Generate and rate, each with a journal, and leave the two batches in a file.

    Args:
        job: What to do, and where.
        room: Bytes that a file may have; None for no limit.
    """
    if room is None:
        asyncio.run(_work(job))
        return
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    try:
        asyncio.run(_work(job))
    except Exception as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        (job.folder / "error").write_text(f"{type(error).__name__}: {error}")


async def _work(job: Job) -> None:
    async with AsyncClient(base_url=job.url, api_key=job.api_key, options=OPTIONS) as client:
        responses = await client.responses.generate_many(
            template_variables=list(job.ids),
            experiment=job.experiment_id,
            journal=job.folder / "generate",
        )
        ratings = await client.ratings.rate_many(responses, journal=job.folder / "rate")
    data = pickle.dumps((responses, ratings))
    (job.folder / "partial").write_bytes(data)
    (job.folder / "partial").rename(job.folder / "batches")
