"""The client in synchronous programs: scripts, Flask and Django views, Celery tasks.

Copy what stands above `verdict`. The first call of a process starts a thread with an event loop,
and in it one client, whose connections and limits all threads share. A forked worker makes its own.
"""

import atexit
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Concatenate, ParamSpec, TypeVar

import anyio
from anyio.from_thread import BlockingPortal

from elluminate_async import AsyncClient

P = ParamSpec("P")
T = TypeVar("T")


class Portal:
    """A client in a thread of its own, and the way there."""

    # `anyio.from_thread.start_blocking_portal` does the same, and suits what never forks: in the
    # child it leaves a context manager behind, which waits for the parent's thread at the end.
    current: "Portal | None" = None
    lock = threading.Lock()

    def __init__(self) -> None:
        opened = Future[tuple[BlockingPortal, AsyncClient]]()
        self.thread = threading.Thread(target=self.run, args=(opened,), daemon=True)
        self.thread.start()
        self.portal, self.client = opened.result()

    def run(self, opened: Future[tuple[BlockingPortal, AsyncClient]]) -> None:
        async def serve() -> None:
            async with AsyncClient() as client, BlockingPortal() as portal:
                opened.set_result((portal, client))
                await portal.sleep_until_stopped()

        try:
            anyio.run(serve)
        except BaseException as error:
            if opened.done():
                raise
            opened.set_exception(error)

    @classmethod
    def here(cls) -> "Portal":
        with cls.lock:
            if cls.current is None or not cls.current.thread.is_alive():
                cls.current = cls()
            return cls.current

    @classmethod
    def close(cls) -> None:
        with cls.lock:
            here, cls.current = cls.current, None
        if here is not None and here.thread.is_alive():
            here.portal.call(here.portal.stop, True)
            here.thread.join()

    @classmethod
    def forget(cls) -> None:
        cls.lock, cls.current = threading.Lock(), None


atexit.register(Portal.close)
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=Portal.forget)


def call(
    work: Callable[Concatenate[AsyncClient, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
) -> T:
    """What ``await work(client, ...)`` gives, from any thread that has no event loop."""
    here = Portal.here()
    future = here.portal.start_task_soon(partial(work, here.client, *args, **kwargs))
    try:
        return future.result()
    finally:
        # Ctrl-C, or the time limit of a task: who does not wait any more pays for no more.
        future.cancel()


async def verdict(client: AsyncClient, question: str) -> bool | None:
    result = await client.evaluate(
        [{"question": question}], prompt="Answer briefly: {{question}}", criteria=["Is it right?"]
    )
    return result[0].passed


if __name__ == "__main__":
    print("from the main thread:", call(verdict, "Why is the sky blue?"))
    with ThreadPoolExecutor(4) as threads:
        questions = [f"What is {number} + {number}?" for number in range(8)]
        verdicts = list(threads.map(partial(call, verdict), questions))
    print("from four threads:", len(verdicts))
