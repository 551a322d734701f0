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
from elluminate_async.server.store import accepting, experiments, new_responses
from elluminate_async.server.store.accepting import NewJob
from elluminate_async.server.store.jobs import JobKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fastapi import Request, Response
    from sqlalchemy import Connection

    from elluminate_async.schemas import RunExperimentRequest
    from elluminate_async.server.routes.deps import CurrentProject
    from elluminate_async.server.store.accepting import PlacedJob


async def take_batch(
    request: Request,
    project: CurrentProject,
    make: Callable[[Connection, int], NewJob],
    items: Sequence[ResponseIn] = (),
) -> Response:
    """Accept a batch. The answer is the task id, or null when there is nothing to do.

    Args:
        request: The request.
        project: Where it goes.
        make: Makes the rows and tells of which job they are.
        items: Rows to make in slices instead, where they are many.
    """
    if is_large(len(items)):
        return await _take_in_slices(request, project, items)

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
    request: Request, project: CurrentProject, items: Sequence[ResponseIn]
) -> Response:
    async with AsyncExitStack() as taking_back:

        async def prepare() -> Callable[[Connection], str]:
            new = NewJob(JobKind.RESPONSES, ())
            job = await project.write(accepting.begin, new, len(items))
            hidden = await taking_back.enter_async_context(placed(project, job, items))
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


def _accept_hidden(
    connection: Connection, *, job: PlacedJob, hidden: list[int], items: Sequence[ResponseIn]
) -> str:
    new_responses.show(connection, hidden)
    owners = {one.experiment_id for one in items}
    return accepting.accept_placed(connection, job, owners.pop() if len(owners) == 1 else None)


def _submit(project: CurrentProject, task_id: str | None) -> None:
    if task_id is not None:
        project.service.jobs.submit(task_id, project.id)


async def take_run(
    project: CurrentProject,
    make: Callable[[Connection], int],
    options: RunExperimentRequest,
    *,
    is_new: bool,
) -> Experiment:
    """Have an experiment generate and rate; one that is made for that goes when it cannot.

    Args:
        project: Where it is.
        make: Makes the experiment, or tells of which it is; its id.
        options: Of the run.
        is_new: Whether ``make`` makes it.
    """
    run = _Run(project, options)
    write_then = project.service.database.write_then
    begun = await write_then(run.submit, run.begin, make, is_new)
    if isinstance(begun, Experiment):
        return begun
    experiment_id, job, items = begun
    async with placed(project, job, items):
        return await write_then(run.submit, run.accept, experiment_id, job)
    raise AssertionError("unreachable")


class _Run:
    """The statements of one run of an experiment."""

    def __init__(self, project: CurrentProject, options: RunExperimentRequest) -> None:
        self._project = project
        self._options = options

    def begin(
        self, connection: Connection, make: Callable[[Connection], int], is_new: bool
    ) -> Experiment | tuple[int, PlacedJob, Iterator[ResponseIn]]:
        """The whole, or what is still to be placed in slices."""
        project_id, options = self._project.id, self._options
        experiment_id = make(connection)
        entries = experiments.entries_to_run(connection, project_id, experiment_id)
        total = len(entries) * options.n_epochs
        check_count(total, MOST_ITEMS, "responses")
        items = _items(experiment_id, entries, options.n_epochs)
        new = NewJob(JobKind.EXPERIMENT, (), options.rating_mode, experiment_id)
        job = accepting.begin(connection, project_id, new, total, is_new=is_new)
        if is_large(total):
            return experiment_id, job, items
        ids = new_responses.create_responses(connection, project_id, list(items))
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
        return experiments.get(
            connection,
            project.id,
            experiment_id,
            legacy=project.is_legacy,
            official=project.is_official,
        )

    def submit(self, done: object) -> None:
        """Once that is committed, do it."""
        if isinstance(done, Experiment):
            _submit(self._project, done.generation_task_id)


def _items(experiment_id: int, entries: Sequence[int], n_epochs: int) -> Iterator[ResponseIn]:
    for entry_id in entries:
        for epoch in range(1, n_epochs + 1):
            yield ResponseIn(
                template_variables_id=entry_id, experiment_id=experiment_id, epoch=epoch
            )
