"""Doing the jobs that were accepted, and telling who waits for them."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from elluminate_async.server import judge
from elluminate_async.server.generator import generate
from elluminate_async.server.store import jobs
from elluminate_async.server.store.jobs import JobKind, Plan, Step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from elluminate_async.server.models.pool import ModelPool
    from elluminate_async.server.store.database import Database
    from elluminate_async.server.store.work import Work

_LOG = logging.getLogger(__name__)
_RUNNING_JOBS = 256


class Jobs:
    """Runs jobs in the background; what it has not finished at the end, the next start does.

    Args:
        database: Where jobs and results are kept.
        models: Does the work.
    """

    def __init__(self, database: Database, models: ModelPool) -> None:
        self._database = database
        self._models = models
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(_RUNNING_JOBS)
        self._news: dict[str, asyncio.Event] = {}
        self._closing = asyncio.Event()

    @property
    def is_closing(self) -> bool:
        """Whether streams are to end."""
        return self._closing.is_set()

    async def resume(self) -> None:
        """Take up the jobs that an earlier server accepted and did not finish."""
        for task_id in await self._database.read(jobs.unfinished):
            self.submit(task_id)

    def submit(self, task_id: str) -> None:
        """Start a job whose acceptance is committed."""
        if self.is_closing:
            return
        self._news[task_id] = asyncio.Event()
        task = asyncio.get_running_loop().create_task(self._run(task_id), name=f"job {task_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def news(self, task_id: str) -> asyncio.Event:
        """An event that is set at the next change of a job; take it before reading the state."""
        return self._news.get(task_id, self._closing)

    def close_streams(self) -> None:
        """Wake all who wait, to let them go."""
        self._closing.set()
        for news in self._news.values():
            news.set()

    async def close(self) -> None:
        """Stop working. Unfinished jobs stay as they are in the database."""
        self.close_streams()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, task_id: str) -> None:
        try:
            async with self._slots:
                await self._work(task_id)
        except Exception:
            _LOG.exception("job %s ended by a fault of the server", task_id)
            await self._database.write(jobs.fail, task_id, "the server failed; see its log")
        finally:
            self._news.pop(task_id, self._closing).set()

    async def _work(self, task_id: str) -> None:
        plan = await self._database.write(jobs.begin, task_id)
        if plan is None:
            return
        self._changed(task_id)
        steps: asyncio.Queue[Step] = asyncio.Queue()
        todo = iter(plan.todo)
        async with asyncio.TaskGroup() as workers:
            for _ in range(min(len(plan.todo), self._models.max_calls)):
                workers.create_task(self._serve(plan, todo, steps))
            await self._collect(plan, steps)

    async def _serve(self, plan: Plan, todo: Iterator[Work], steps: asyncio.Queue[Step]) -> None:
        for work in todo:
            try:
                await self._do(plan, work, steps)
            except Exception as error:
                _LOG.exception("response %s of job %s", work.response_id, plan.task_id)
                failure = ("no_result", f"the server failed: {type(error).__name__}")
                steps.put_nowait(Step(work.response_id, is_last=True, failure=failure))
            # A model that answers at once would keep the loop from everything else.
            await asyncio.sleep(0)

    async def _do(self, plan: Plan, work: Work, steps: asyncio.Queue[Step]) -> None:
        rates = plan.kind is JobKind.RATINGS
        if not rates:
            rates = plan.kind is JobKind.EXPERIMENT and bool(work.criteria)
            work = await self._generate(work, steps, ends=not rates)
        if rates and not (plan.kind is JobKind.EXPERIMENT and work.error is not None):
            judgement = await judge.judge(self._models, work, plan.rating_mode)
            steps.put_nowait(
                Step(
                    work.response_id,
                    verdicts=judgement.verdicts,
                    is_last=True,
                    failure=("rating_failed", judgement.failure) if judgement.failure else None,
                )
            )

    async def _generate(self, work: Work, steps: asyncio.Queue[Step], *, ends: bool) -> Work:
        if work.messages is not None:  # stored as given, or generated before a restart
            if ends or work.error is not None:
                steps.put_nowait(_generated(work.response_id, work.error))
            return work
        answer = await generate(self._models, work)
        done = Step(work.response_id, answer=answer)
        if ends or answer.error is not None:
            done = _generated(work.response_id, answer.error, done)
        steps.put_nowait(done)
        return replace(work, messages=answer.messages, error=answer.error)

    async def _collect(self, plan: Plan, steps: asyncio.Queue[Step]) -> None:
        """Keep steps as they come; those that wait go into one transaction."""
        left = len(plan.todo)
        while left:
            some = [await steps.get()]
            while not steps.empty():
                some.append(steps.get_nowait())
            left -= sum(step.is_last for step in some)
            await self._database.write(_record, plan, some, ends=not left)
            self._changed(plan.task_id)
        if not plan.todo:
            await self._database.write(jobs.finish, plan)

    def _changed(self, task_id: str) -> None:
        self._news[task_id].set()
        self._news[task_id] = asyncio.Event()


def _generated(response_id: int, error: str | None, done: Step | None = None) -> Step:
    failure = None if error is None else ("generation_failed", error)
    return replace(done or Step(response_id), is_last=True, failure=failure)


def _record(connection: Connection, plan: Plan, steps: list[Step], *, ends: bool) -> None:
    jobs.record(connection, plan, steps)
    if ends:
        jobs.finish(connection, plan)
