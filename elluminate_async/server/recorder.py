"""Keeping what jobs have done, many steps of many jobs in one transaction."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from elluminate_async.server.store import jobs
from elluminate_async.server.store.jobs import JobReport
from elluminate_async.server.store.trouble import TroubleError, pauses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from elluminate_async.server.llms.callers import Caller
    from elluminate_async.server.store.database import Database
    from elluminate_async.server.store.job_inputs import Work
    from elluminate_async.server.store.jobs import Plan, Step

_LOG = logging.getLogger(__name__)

# What a kill may cost: answers that came within this time before it are asked for again.
_LINGER_SECONDS = 0.02
MOST_HELD_BYTES: Final = 32 << 20
"""Answers that wait to be kept; with more no further call of a model begins."""
CLOSING_PATIENCE: Final = 30.0
"""Seconds for which a server that ends tries to keep what was paid for."""
_STEP_BYTES = 1 << 10


class RunningJob:
    """A job under way.

    Attributes:
        caller: Who it is for the models.
        progress: As committed.
        deleted: Responses that nobody is to be asked for any more.
        criteria: Ids of what is asked of them.
        gone: Those of them that were deleted, and are to be asked no more.
        is_revoked: Whether nothing more is to be done, nor kept of it.
        settled: Told of the responses that are done with, once that is committed; None for nobody.
        ended: Done once its last step is committed; fails when its steps cannot be kept.
    """

    def __init__(self, plan: Plan, caller: Caller) -> None:
        self.plan = plan
        self.caller = caller
        self.progress = plan.before
        self.deleted: set[int] = set()
        # Most responses share theirs.
        lists = {id(work.criteria): work.criteria for work in plan.todo}.values()
        self.criteria = frozenset(one.id for criteria in lists for one in criteria)
        self.gone: frozenset[int] = frozenset()
        self.is_revoked = False
        self.settled: Callable[[Iterable[int]], None] | None = None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._left = len(plan.todo) + len(plan.gone) + len(plan.rated)

    def still_asked(self, work: Work) -> Work:
        """``work`` without the criteria that were deleted since the job began."""
        if not self.gone:
            return work
        return replace(work, criteria=[one for one in work.criteria if one.id not in self.gone])

    def take(self, steps: Sequence[Step]) -> bool:
        """Count steps; whether nothing is left but to keep them."""
        for step in steps:
            self._left -= step.is_last
        return not self._left


class _Waiting:
    """Steps of one job that wait to be kept, and about how many bytes they take."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.size = 0


class Recorder:
    """Collects steps; the last one of a job is written at once, others wait for company.

    While the database is locked or its disk full, it tries again with back-off until it works:
    what was paid for is dropped only when the server ends, after `CLOSING_PATIENCE`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[RunningJob, _Waiting] = {}
        self._is_urgent = False
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None
        self._held_bytes = 0
        self._room = asyncio.Event()
        self._room.set()
        self._closing = asyncio.Event()
        self._give_up_at = float("inf")

    @property
    def is_full(self) -> bool:
        """Whether so much is waiting to be kept that no more is to be asked for."""
        return self._held_bytes > MOST_HELD_BYTES

    async def has_room(self) -> None:
        """Wait while it is full."""
        await self._room.wait()

    def add(self, job: RunningJob, *steps: Step) -> None:
        """Keep steps soon, and at once where they end the job, or none are left to end it."""
        if job.ended.done() or job.is_revoked:
            return
        waiting = self._waiting.get(job)
        if waiting is None:
            waiting = self._waiting[job] = _Waiting()
        size = sum(map(_weight, steps))
        waiting.steps.extend(steps)
        waiting.size += size
        self._hold(size)
        self._is_urgent |= job.take(steps)
        if self._writing is None:
            self._schedule()

    async def kept(self, job: RunningJob) -> None:
        """Return once nothing of ``job``, to which no more is added, waits to be kept."""
        if job in self._waiting:
            self._is_urgent = True
        if self._writing is not None:
            await asyncio.wait([self._writing])
        if job in self._waiting:
            if self._writing is None:
                self._start()
            assert self._writing is not None, "started"
            await asyncio.wait([self._writing])

    async def close(self) -> None:
        """Keep what waits."""
        self._give_up_at = asyncio.get_running_loop().time() + CLOSING_PATIENCE
        self._closing.set()
        while self._waiting or self._writing is not None:
            if self._writing is None:
                self._start()
            else:
                await asyncio.wait([self._writing])

    def _hold(self, more: int) -> None:
        self._held_bytes += more
        if self.is_full:
            self._room.clear()
        elif not self._room.is_set():
            self._room.set()

    def _schedule(self) -> None:
        if self._is_urgent:
            self._start()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LINGER_SECONDS, self._start)

    def _start(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._writing = asyncio.get_running_loop().create_task(self._write(), name="recorder")

    async def _write(self) -> None:
        some, self._waiting = self._waiting, {}
        self._is_urgent = False
        reports = [
            (job, JobReport(job.plan, one.steps, job.plan.progress(job.progress, one.steps)))
            for job, one in some.items()
        ]
        try:
            await self._keep(reports)
        finally:
            self._hold(-sum(one.size for one in some.values()))
            self._writing = None
            if self._waiting:
                self._schedule()

    async def _keep(self, reports: Sequence[tuple[RunningJob, JobReport]]) -> None:
        try:
            is_kept = await self._record([report for _, report in reports])
        except Exception as error:
            if len(reports) > 1:  # what cannot be kept of one job must not cost the others
                for one in reports:
                    await self._keep([one])
                return
            job = reports[0][0]
            # What came meanwhile is not to be kept after the job's failure is.
            if (late := self._waiting.pop(job, None)) is not None:
                self._hold(-late.size)
            if not job.ended.done():
                job.ended.set_exception(error)
            return
        for job, report in reports if is_kept else ():
            job.progress = report.progress
            if job.settled is not None:
                job.settled([step.response_id for step in report.steps if step.is_last])
            if report.progress.is_complete and not job.ended.done():
                job.ended.set_result(None)

    async def _record(self, reports: Sequence[JobReport]) -> bool:
        """Keep reports, however long it takes; False when the server ends before."""
        for pause in pauses():
            try:
                await self._database.write(jobs.record, reports)
            except TroubleError as trouble:
                if asyncio.get_running_loop().time() >= self._give_up_at:
                    count = sum(len(report.steps) for report in reports)
                    _LOG.error("%d answers are lost, to be asked for again: %s", count, trouble)
                    return False
                await self._pause(pause)
            else:
                break
        return True

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                # An end to come is reason to try at once, but once only.
                await (asyncio.sleep(seconds) if self._closing.is_set() else self._closing.wait())


def _weight(step: Step) -> int:
    """About how many bytes a step takes while it waits."""
    size = _STEP_BYTES
    for verdict in step.verdicts:
        size += len(verdict.reasoning or "")
    if step.answer is not None:
        for message in step.answer.messages:
            content = message.get("content")
            size += len(content) if isinstance(content, str) else _STEP_BYTES
            if calls := message.get("tool_calls"):
                size += len(str(calls))
    return size
