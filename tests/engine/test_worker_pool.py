"""`WorkerPool`: few tasks, everything done, nothing lost when they are cancelled."""

import asyncio
import gc
import weakref

import anyio

from elluminate_async.engine.worker_pool import WorkerPool


async def test_no_task_is_begun_for_each_thing() -> None:
    """A thousand things are done by three tasks, three at a time at most."""
    done: list[int] = []
    tasks_seen: set[asyncio.Task[None] | None] = set()
    busy = most = 0

    async def work(thing: int) -> bool:
        nonlocal busy, most
        tasks_seen.add(asyncio.current_task())
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0)
        busy -= 1
        done.append(thing)
        return True

    pool = WorkerPool[int](3)
    async with anyio.create_task_group() as tasks:
        for thing in range(1000):
            await pool.room()
            pool.submit(thing, work, tasks)
        pool.close()

    assert sorted(done) == list(range(1000))
    assert most == 3
    assert len(tasks_seen) == 3


async def test_one_thing_takes_one_task() -> None:
    """Tasks are begun only as they are needed."""
    tasks_seen: set[asyncio.Task[None] | None] = set()

    async def work(thing: int) -> bool:
        tasks_seen.add(asyncio.current_task())
        return True

    pool = WorkerPool[int](10)
    async with anyio.create_task_group() as tasks:
        for thing in range(5):
            pool.submit(thing, work, tasks)
            await anyio.wait_all_tasks_blocked()
        pool.close()

    assert len(tasks_seen) == 1


async def test_what_was_handed_over_is_begun_although_the_task_is_cancelled() -> None:
    """Who takes over is told of the cancellation by the first wait, as whoever was busy is."""
    begun: list[int] = []
    cut: list[int] = []

    async def work(thing: int) -> bool:
        begun.append(thing)
        try:
            await (asyncio.sleep(0) if thing == 0 else anyio.sleep_forever())
        except asyncio.CancelledError:
            cut.append(thing)
            raise
        return True

    pool = WorkerPool[int](1)
    async with anyio.create_task_group() as tasks:
        pool.submit(0, work, tasks)
        await anyio.wait_all_tasks_blocked()
        pool.submit(1, work, tasks)  # to an idle task, which does not run before it is cancelled
        tasks.cancel_scope.cancel()

    assert begun == [0, 1]
    assert cut == [1]


async def test_idle_tasks_are_cancelled_too() -> None:
    """A task that waits for something to do does not keep a cancelled group open."""

    async def work(thing: int) -> bool:
        return True

    pool = WorkerPool[int](2)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            pool.submit(0, work, tasks)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()


async def test_an_idle_task_keeps_nothing_alive() -> None:
    """What was done can be freed while its task waits for more."""

    class Thing:
        pass

    async def work(thing: Thing) -> bool:
        return True

    freed = False
    pool = WorkerPool[Thing](1)
    async with anyio.create_task_group() as tasks:
        thing = Thing()
        kept = weakref.ref(thing)
        pool.submit(thing, work, tasks)
        del thing
        await anyio.wait_all_tasks_blocked()
        gc.collect()
        freed = kept() is None
        pool.close()

    assert freed
