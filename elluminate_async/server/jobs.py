"""Doing the jobs that were accepted, and telling who waits for them."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from elluminate_async.limits.fairness import FairGate
from elluminate_async.server import judge
from elluminate_async.server.generator import generate
from elluminate_async.server.judging_runs import judge_once
from elluminate_async.server.recorder import Recorder, RunningJob
from elluminate_async.server.sharing import SharedCalls
from elluminate_async.server.store import criteria, jobs, revoking
from elluminate_async.server.store.jobs import JobKind, Step
from elluminate_async.server.store.trouble import until_it_works

if TYPE_CHECKING:
    from collections.abc import Awaitable, Collection, Iterator

    from elluminate_async.server.judge import Judgement
    from elluminate_async.server.llms.callers import Caller
    from elluminate_async.server.llms.pool import ModelPool
    from elluminate_async.server.store.database import Database
    from elluminate_async.server.store.job_inputs import Work
    from elluminate_async.server.store.responses import GeneratedResponse

_LOG = logging.getLogger(__name__)
_RUNNING_JOBS = 256

ENDING_SECONDS: Final = 5.0
"""For so long a server that ends waits for what it has cancelled."""


class Jobs:
    """Runs jobs in the background; what it has not finished at the end, the next start does.

    Args:
        database: Where jobs and results are kept.
        models: Does the work.
    """

    def __init__(self, database: Database, models: ModelPool) -> None:
        self._database = database
        self._models = models
        self._recorder = Recorder(database)
        self._shared = SharedCalls()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._revoked: set[str] = set()
        self._slots = FairGate(_RUNNING_JOBS)
        self._ends: dict[str, asyncio.Event] = {}
        self._running: dict[str, RunningJob] = {}
        self._closing = asyncio.Event()

    @property
    def is_closing(self) -> bool:
        """Whether streams are to end."""
        return self._closing.is_set()

    @property
    def closing(self) -> asyncio.Event:
        """Set when streams are to end."""
        return self._closing

    async def resume(self) -> None:
        """Take up the jobs that an earlier server accepted and did not finish."""
        for task_id, project_id in await self._database.write(jobs.take_up):
            self.submit(task_id, project_id)

    def submit(self, task_id: str, project_id: int) -> None:
        """Start a job whose acceptance is committed."""
        if self.is_closing:
            return
        self._ends[task_id] = asyncio.Event()
        work = self._run(task_id, self._models.caller(project_id))
        task = asyncio.get_running_loop().create_task(work, name=f"job {task_id}")
        self._tasks[task_id] = task
        task.add_done_callback(lambda _: self._forget(task_id))

    async def revoke(self, task_id: str) -> None:
        """End a job: it begins no call any more, those under way are abandoned, what is done stays.

        Once this returns no later start of the server takes it up. One that has ended stays as it
        is.
        """
        job = self._running.get(task_id)
        if (task := self._tasks.get(task_id)) is not None:
            self._revoked.add(task_id)
            task.cancel()
        if job is not None:
            job.is_revoked = True
            await self._recorder.kept(job)

        def revoke() -> Awaitable[None]:
            return self._database.write(revoking.revoke, task_id)

        await until_it_works(revoke)
        self._tell_end(task_id)

    def ended(self, task_id: str) -> asyncio.Event:
        """An event that is set at a job's end; take it before reading the state."""
        return self._ends.get(task_id, self._closing)

    def running(self, project_id: int, task_id: str) -> RunningJob | None:
        """A project's job under way, how far it is; None is no proof that there is none."""
        job = self._running.get(task_id)
        return job if job is not None and job.plan.project_id == project_id else None

    async def look_for_deleted(self, project_id: int) -> None:
        """Have no model asked for what was deleted while its job runs."""
        for job in [one for one in self._running.values() if one.plan.project_id == project_id]:
            there = await self._database.read(jobs.still_there, job.plan.job_id)
            job.deleted = {work.response_id for work in job.plan.todo} - there
            job.gone = job.criteria - await self._database.read(criteria.still_there, job.criteria)

    def close_streams(self) -> None:
        """Wake all who wait, to let them go."""
        self._closing.set()
        for ended in self._ends.values():
            ended.set()

    async def close(self) -> None:
        """Stop working. Unfinished jobs stay as they are in the database.

        A model that goes on when it is cancelled is not waited for without end; what it answers
        later is dropped.
        """
        self.close_streams()
        self._models.stop()
        tasks = [*self._tasks.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await wait_for_ends(tasks)
        if calls := self._shared.tasks:
            for call in calls:
                call.cancel()
            await wait_for_ends(calls)
        await self._recorder.close()

    async def _run(self, task_id: str, caller: Caller) -> None:
        slot = caller.share(self._slots)
        try:
            await slot.acquire()
            try:
                await self._work(task_id, caller)
            finally:
                slot.release()
        except (Exception, BaseExceptionGroup):
            _LOG.exception("job %s ended by a fault of the server", task_id)
            await self._fail(task_id)
        finally:
            if task_id not in self._revoked:
                self._tell_end(task_id)

    def _tell_end(self, task_id: str) -> None:
        self._running.pop(task_id, None)
        if (ended := self._ends.pop(task_id, None)) is not None:
            ended.set()

    def _forget(self, task_id: str) -> None:
        self._tasks.pop(task_id, None)
        self._revoked.discard(task_id)

    async def _fail(self, task_id: str) -> None:
        def fail() -> Awaitable[None]:
            return self._database.write(jobs.fail, task_id, "the server failed; see its log")

        try:
            await until_it_works(fail)
        except Exception:
            _LOG.exception("the end of job %s cannot be kept", task_id)

    async def _work(self, task_id: str, caller: Caller) -> None:
        with self._shared.job() as sharing:
            plan = await until_it_works(lambda: self._database.read(jobs.plan, task_id))
            if plan is None:
                return
            self._running[task_id] = job = RunningJob(plan, caller)
            self._shared.want(sharing, shared := plan.shared)
            if shared:
                job.settled = lambda ids: self._shared.leave(sharing, map(plan.key, ids))
            await self._do_all(job)

    async def _do_all(self, job: RunningJob) -> None:
        plan = job.plan
        todo = iter(plan.todo)
        settled = [*map(_deleted, plan.gone), *(Step(id, is_last=True) for id in plan.rated)]
        async with asyncio.TaskGroup() as workers:
            for _ in range(min(len(plan.todo), self._models.max_calls)):
                workers.create_task(self._serve(job, todo))
            if not plan.todo or settled:
                self._recorder.add(job, *settled)
            await job.ended

    async def _serve(self, job: RunningJob, todo: Iterator[Work]) -> None:
        while True:
            # Before the next call of a model, so that what is paid for waits in bounds.
            if self._recorder.is_full:
                await self._recorder.has_room()
            if self.is_closing or job.is_revoked or (work := next(todo, None)) is None:
                return
            if work.response_id in job.deleted:
                self._recorder.add(job, _deleted(work.response_id))
                continue
            try:
                await self._do(job, work)
            except Exception as error:
                _LOG.exception("response %s of job %s", work.response_id, job.plan.task_id)
                failure = ("no_result", f"the server failed: {type(error).__name__}")
                self._recorder.add(job, Step(work.response_id, is_last=True, failure=failure))
            # A model that answers at once would keep the loop from everything else.
            await asyncio.sleep(0)

    async def _do(self, job: RunningJob, work: Work) -> None:
        plan = job.plan
        runs, rates = plan.kind is JobKind.EXPERIMENT, plan.kind is JobKind.RATINGS
        if not rates:
            rates = runs and bool(job.still_asked(work).criteria)
            work = await self._generate(job, work, ends=not rates)
        if not rates or (runs and work.error is not None):
            return
        if work.response_id in job.deleted:  # while its model was asked
            self._recorder.add(job, _deleted(work.response_id))
            return
        work = job.still_asked(work)
        if runs and not work.criteria:  # all deleted since it was generated
            self._recorder.add(job, Step(work.response_id, is_last=True))
            return
        judgement = await self._judge(job, work)
        self._recorder.add(
            job,
            Step(
                work.response_id,
                verdicts=judgement.verdicts,
                is_last=True,
                failure=("rating_failed", judgement.failure) if judgement.failure else None,
            ),
        )

    async def _judge(self, job: RunningJob, work: Work) -> Judgement:
        plan, models = job.plan, self._models

        async def ask(work: Work) -> Judgement:
            return await judge.judge(models, work, plan.rating_mode, job.caller, plan.task_id)

        if plan.run_id is None or not work.criteria:
            return await ask(work)
        return await judge_once(self._shared, plan.run_id, work, ask)

    async def _generate(self, job: RunningJob, work: Work, *, ends: bool) -> Work:
        if work.messages is not None:  # stored as given, or generated before a restart
            if ends or work.error is not None:
                self._recorder.add(job, _generated(work.response_id, work.error))
            return work
        if work.is_keyed:
            asked, key = partial(generate, self._models, work, job.caller), work.response_id
            answer = await self._shared.made(job.plan.key(key), 0, asked)
        else:
            answer = await generate(self._models, work, job.caller)
        if ends or answer.error is not None:
            self._recorder.add(job, _generated(work.response_id, answer.error, answer))
        else:
            self._recorder.add(job, Step(work.response_id, answer=answer))
        return work if ends else replace(work, messages=answer.messages, error=answer.error)


async def wait_for_ends(cancelled: Collection[asyncio.Task[Any]]) -> None:
    """Wait until tasks have ended, for a bounded time; the log names those that have not."""
    ended, left = await asyncio.wait(cancelled, timeout=ENDING_SECONDS)
    for task in ended:
        if not task.cancelled():
            task.exception()  # seen
    if left:
        _LOG.warning(
            "the server ends, and leaves behind what still runs %g s after it was cancelled, in a "
            "model that swallows it: %s",
            ENDING_SECONDS,
            ", ".join(sorted(task.get_name() for task in left)),
        )


def _deleted(response_id: int) -> Step:
    failure = ("no_result", "the response was deleted")
    return Step(response_id, is_last=True, failure=failure)


def _generated(
    response_id: int, error: str | None, answer: GeneratedResponse | None = None
) -> Step:
    failure = None if error is None else ("generation_failed", error)
    return Step(response_id, answer, is_last=True, failure=failure)
