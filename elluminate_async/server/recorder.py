"""Keeping what jobs have done, many steps of many jobs in one transaction."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from elluminate_async.server.store import jobs
from elluminate_async.server.store.jobs import Report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from elluminate_async.server.store.database import Database
    from elluminate_async.server.store.jobs import Plan, Step

# What a kill may cost: answers that came within this time before it are asked for again.
_LINGER_SECONDS = 0.02


class RunningJob:
    """A job under way.

    Attributes:
        progress: As committed.
        ended: Done once its last step is committed; fails when its steps cannot be kept.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.progress = plan.before
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._left = len(plan.todo) + len(plan.gone)

    def take(self, steps: Sequence[Step]) -> bool:
        """Count steps; whether nothing is left but to keep them."""
        self._left -= sum(step.is_last for step in steps)
        return not self._left


class Recorder:
    """Collects steps; the last one of a job is written at once, others wait for company."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[RunningJob, list[Step]] = {}
        self._is_urgent = False
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None

    def add(self, job: RunningJob, *steps: Step) -> None:
        """Keep steps soon, and at once where they end the job, or none are left to end it."""
        if job.ended.done():
            return
        self._waiting.setdefault(job, []).extend(steps)
        self._is_urgent |= job.take(steps)
        if self._writing is None:
            self._schedule()

    async def close(self) -> None:
        """Keep what waits."""
        while self._waiting or self._writing is not None:
            if self._writing is None:
                self._start()
            else:
                await asyncio.wait([self._writing])

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
            (job, Report(job.plan, steps, job.plan.progress(job.progress, steps)))
            for job, steps in some.items()
        ]
        try:
            await self._keep(reports)
        finally:
            self._writing = None
            if self._waiting:
                self._schedule()

    async def _keep(self, reports: Sequence[tuple[RunningJob, Report]]) -> None:
        try:
            await self._database.write(jobs.record, [report for _, report in reports])
        except Exception as error:
            if len(reports) > 1:  # what cannot be kept of one job must not cost the others
                for one in reports:
                    await self._keep([one])
                return
            job = reports[0][0]
            # What came meanwhile is not to be kept after the job's failure is.
            self._waiting.pop(job, None)
            if not job.ended.done():
                job.ended.set_exception(error)
            return
        for job, report in reports:
            job.progress = report.progress
            if report.progress.is_complete and not job.ended.done():
                job.ended.set_result(None)
