"""Processes that use a `FileShare`, for tests of what real ones do.

python -m tests.limits.sharing count PATH TIMES    reserve, in forks and threads, all at once
python -m tests.limits.sharing send PATH REQUESTS PERIOD    send until killed; "hold 3" holds
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from elluminate_async.batch import RateLimit
from elluminate_async.batch.share import Slots
from elluminate_async.limits.file_share import FileShare
from elluminate_async.limits.limits import Limits

FORKS, THREADS = 3, 2


def tell(what: object) -> None:
    """A line to who began this."""
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


async def take(share: FileShare, times: int) -> None:
    """Slots of a second, none of which is left out."""
    while times:
        # On a busy machine others have the lock for seconds; a client asks again too.
        with suppress(TimeoutError):
            await share.reserve([Slots("a", 1.0, 1, 0.0)], earliest=-1e9, latest=1e9)
            times -= 1


def count(share: FileShare, times: int) -> None:
    """Take slots, in this process and in forks of it, by several threads each."""
    asyncio.run(take(share, 1))
    children: list[int] = []
    for _ in range(FORKS):
        pid = os.fork()
        if not pid:
            children = []
            break
        children.append(pid)
    with ThreadPoolExecutor(THREADS) as threads:
        tell("ready")
        for _ in range(THREADS):
            threads.submit(asyncio.run, take(share, times))
    for pid in children:
        os.waitpid(pid, 0)


async def send(limits: Limits) -> None:
    """Tell when each request was let through."""

    async def one() -> None:
        while True:
            limits.ended(await limits.admit())
            tell(time.monotonic())

    async def listen() -> None:
        while line := await asyncio.to_thread(sys.stdin.readline):
            limits.hold(float(line.split()[1]))

    await asyncio.gather(*(one() for _ in range(10)), listen())


if __name__ == "__main__":
    mode, path, *numbers = sys.argv[1:]
    if mode == "count":
        count(FileShare(path), int(numbers[0]))
    else:
        limit = RateLimit(int(numbers[0]), float(numbers[1]))
        asyncio.run(send(Limits(10, limit, share=FileShare(path))))
