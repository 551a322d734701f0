"""Taking batches and runs: their rows, their job and its key are committed before the answer."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

from elluminate_async.schemas import Experiment, ResponseIn
from elluminate_async.server.acceptance import MOST_ITEMS
from elluminate_async.server.idempotency import answer_once, answer_prepared_once
from elluminate_async.server.placement import is_large, placed
from elluminate_async.server.problems import check_count
from elluminate_async.server.store import accepting, experiments, new_responses, retrying
from elluminate_async.server.store.accepting import NewJob
from elluminate_async.server.store.jobs import JobKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fastapi import Request, Response
    from sqlalchemy import Connection

    from elluminate_async.schemas import (
        CreateExperimentRequest,
        RetryFailedRequest,
        RunExperimentRequest,
    )
    from elluminate_async.server.placement import Create
    from elluminate_async.server.routes.deps import CurrentProject
    from elluminate_async.server.store.accepting import PlacedJob
    from elluminate_async.server.store.prompts import Filling


async def take_batch(
    request: Request,
    project: CurrentProject,
    make: Callable[[Connection, int], NewJob],
    items: Sequence[ResponseIn] = (),
    *,
    retry_failed: bool = False,
) -> Response:
    """Accept a batch. The answer is the task id, or null when there is nothing to do.

    Args:
        request: The request.
        project: Where it goes.
        make: Makes the rows and tells of which job they are.
        items: Rows to make in slices instead, where they are many.
        retry_failed: Whether those whose keys are of failed ones are made anew then.
    """
    if is_large(len(items)):
        return await _take_in_slices(
            request, project, items, partial(_place_hidden, retry_failed=retry_failed)
        )

    def accept(connection: Connection) -> str | None:
        job = make(connection, project.id)
        return accepting.accept(connection, project.id, job) if job.response_ids else None

    return await answer_once(
        request,
        project,
        accept,
        status=202,
        after=partial(_submit, project),
        experiment=accepting.experiment_of,
    )


async def _take_in_slices(
    request: Request, project: CurrentProject, items: Sequence[ResponseIn], place: Create
) -> Response:
    async with AsyncExitStack() as taking_back:

        async def prepare() -> Callable[[Connection], str]:
            new = NewJob(JobKind.RESPONSES, ())
            job = await project.write(accepting.begin, new, len(items))
            hidden = await taking_back.enter_async_context(placed(project, job, items, place))
            return partial(_accept_hidden, job=job, hidden=hidden, items=items)

        return await answer_prepared_once(
            request,
            project,
            prepare,
            status=202,
            after=partial(_submit, project),
            experiment=accepting.experiment_of,
        )
    raise AssertionError("unreachable")


def _place_hidden(
    connection: Connection,
    project_id: int,
    items: Sequence[ResponseIn],
    filling: Filling,
    start: int,
    *,
    retry_failed: bool,
) -> list[int]:
    return new_responses.place_responses(
        connection, project_id, items, filling, hidden=True, start=start, retry_failed=retry_failed
    )


def _create_hidden(
    connection: Connection,
    project_id: int,
    items: Sequence[ResponseIn],
    filling: Filling,
    _start: int,
) -> list[int]:
    return new_responses.create_responses(connection, project_id, items, filling, hidden=True)


def _accept_hidden(
    connection: Connection, *, job: PlacedJob, hidden: list[int], items: Sequence[ResponseIn]
) -> str:
    new_responses.show(connection, hidden)
    owners = {one.experiment_id for one in items}
    return accepting.accept_placed(connection, job, owners.pop() if len(owners) == 1 else None)


def _submit(project: CurrentProject, task_id: str | None) -> None:
    if task_id is not None:
        project.service.jobs.submit(task_id, project.id)


async def take_new(
    request: Request, project: CurrentProject, body: CreateExperimentRequest
) -> Response:
    """Make an experiment that is not run; the answer is the experiment."""

    def make(connection: Connection) -> Experiment:
        made = experiments.create(connection, project.id, body)
        return _told(connection, project, made)

    return await answer_once(request, project, make, status=201, experiment=_id_of)


async def take_run(
    request: Request,
    project: CurrentProject,
    make: Callable[[Connection], int],
    options: RunExperimentRequest,
    *,
    rows: Callable[[Connection, int], int],
    is_new: bool,
) -> Response:
    """Have an experiment generate and rate; one that is made for that goes when it cannot.

    Args:
        request: The request.
        project: Where it is.
        make: Makes the experiment, or tells of which it is; its id.
        options: Of the run.
        rows: About how many rows it has, for the project's id.
        is_new: Whether ``make`` makes it.
    """
    run = _Run(project, options, make, is_new=is_new)
    async with AsyncExitStack() as taking_back:

        async def prepare() -> Callable[[Connection], Experiment]:
            if not is_large(await project.read(rows) * options.n_epochs):
                return run.begin_and_accept
            experiment_id, job, items = await project.service.database.write(run.begin)
            placing = placed(project, job, items, _create_hidden)
            await taking_back.enter_async_context(placing)
            return partial(run.accept, experiment_id=experiment_id, job=job)

        return await answer_prepared_once(
            request,
            project,
            prepare,
            status=201 if is_new else 200,
            after=partial(_submit_job_of, project),
            experiment=_id_of,
        )
    raise AssertionError("unreachable")


async def take_retry(
    request: Request, project: CurrentProject, experiment_id: int, body: RetryFailedRequest
) -> Response:
    """Have an experiment do again what failed; the answer is the experiment."""

    def begin(connection: Connection) -> Experiment:
        calls, kind = project.service.calls, JobKind.EXPERIMENT
        retrying.begin(connection, project.id, experiment_id, kind, body, calls)
        return _told(connection, project, experiment_id)

    return await answer_once(
        request,
        project,
        begin,
        status=200,
        after=partial(_submit_job_of, project),
        experiment=_id_of,
    )


def _told(connection: Connection, project: CurrentProject, experiment_id: int) -> Experiment:
    """An experiment as the project's client is told of it."""
    legacy, official = project.is_legacy, project.is_official
    return experiments.get(connection, project.id, experiment_id, legacy=legacy, official=official)


def _id_of(_: Connection, experiment: Experiment) -> int:
    return experiment.id


def _submit_job_of(project: CurrentProject, experiment: Experiment) -> None:
    _submit(project, experiment.generation_task_id)


class _Run:
    """The statements of one run of an experiment."""

    def __init__(
        self,
        project: CurrentProject,
        options: RunExperimentRequest,
        make: Callable[[Connection], int],
        *,
        is_new: bool,
    ) -> None:
        self._project = project
        self._options = options
        self._make = make
        self._is_new = is_new

    def begin(self, connection: Connection) -> tuple[int, PlacedJob, Iterator[ResponseIn]]:
        """The experiment, the job, and its rows that are still to be made."""
        project_id, options = self._project.id, self._options
        experiment_id = self._make(connection)
        if experiments.row(connection, project_id, experiment_id).response_column_id is not None:
            # A column has one response for each row.
            self._options = options = options.model_copy(update={"n_epochs": 1})
        entries = experiments.entries_to_run(connection, project_id, experiment_id)
        total = len(entries) * options.n_epochs
        check_count(total, MOST_ITEMS, "responses")
        new = NewJob(JobKind.EXPERIMENT, (), options.rating_mode, experiment_id)
        job = accepting.begin(connection, project_id, new, total, is_new=self._is_new)
        return experiment_id, job, _items(experiment_id, entries, options.n_epochs)

    def begin_and_accept(self, connection: Connection) -> Experiment:
        """The whole at once."""
        experiment_id, job, items = self.begin(connection)
        ids = new_responses.create_responses(connection, self._project.id, list(items))
        accepting.add_items(connection, job, 0, ids)
        return self.accept(connection, experiment_id, job)

    def accept(self, connection: Connection, experiment_id: int, job: PlacedJob) -> Experiment:
        """From now on it will be done."""
        project, options = self._project, self._options
        values = options.model_dump(include={"rating_mode", "n_epochs"})
        if options.generation_params is not None:
            values["generation_params"] = options.generation_params
        experiments.edit(connection, project.id, experiment_id, values)
        experiments.started(connection, experiment_id, accepting.accept_placed(connection, job))
        return _told(connection, project, experiment_id)


def _items(experiment_id: int, entries: Sequence[int], n_epochs: int) -> Iterator[ResponseIn]:
    for entry_id in entries:
        for epoch in range(1, n_epochs + 1):
            yield ResponseIn(
                template_variables_id=entry_id, experiment_id=experiment_id, epoch=epoch
            )
