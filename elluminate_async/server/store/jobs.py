"""Jobs: a batch accepted, its items, and how far it got."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, bindparam, func, insert, select, update

from elluminate_async.schemas import ItemFailure, JobProgress, JobStatusName, RatingMode
from elluminate_async.server.problems import not_found
from elluminate_async.server.store import experiments, ratings, responses, tables, work
from elluminate_async.server.store.rows import AnyRow, now, reserve_ids

if TYPE_CHECKING:
    from collections.abc import Sequence

    from elluminate_async.server.store.ratings import Verdict
    from elluminate_async.server.store.responses import Answer
    from elluminate_async.server.store.work import Work

table = tables.jobs
items = tables.job_items

_ENDED = (JobStatusName.SUCCESS, JobStatusName.FAILURE)


class JobKind(StrEnum):
    """What is done for each item."""

    RESPONSES = "responses"
    RATINGS = "ratings"
    EXPERIMENT = "experiment"


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to accept: one response for each item of the request, in its order."""

    kind: JobKind
    response_ids: Sequence[int]
    rating_mode: RatingMode | None = None
    experiment_id: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What is left to do of a job.

    Attributes:
        places: Response id to the number of items that wait for it.
    """

    job_id: int
    task_id: str
    project_id: int
    kind: JobKind
    rating_mode: RatingMode
    todo: list[Work]
    places: dict[int, int]


@dataclass(frozen=True, slots=True)
class Step:
    """What was done for one response: generated, rated, or given up.

    Attributes:
        is_last: Whether nothing more is to be done for it.
        failure: Code and text, when it ends without a full result.
    """

    response_id: int
    answer: Answer | None = None
    verdicts: list[Verdict] = field(default_factory=list["Verdict"])
    is_last: bool = False
    failure: tuple[str, str] | None = None


def accept(connection: Connection, project_id: int, job: NewJob) -> str:
    """Keep a job, so that it will be done.

    Returns:
        Its task id.
    """
    (job_id,) = reserve_ids(connection, table)
    task_id = str(uuid.uuid4())
    connection.execute(
        insert(table),
        {
            "id": job_id,
            "project_id": project_id,
            "task_id": task_id,
            "kind": job.kind,
            "experiment_id": job.experiment_id,
            "rating_mode": job.rating_mode,
            "status": JobStatusName.PENDING,
            "total": len(job.response_ids),
            "generated": 0,
            "rated": 0,
            "processed": 0,
            "failed": 0,
            "created_at": now(),
        },
    )
    if job.response_ids:
        connection.execute(
            insert(items),
            [
                {
                    "job_id": job_id,
                    "position": position,
                    "response_id": response_id,
                    "is_done": False,
                }
                for position, response_id in enumerate(job.response_ids)
            ],
        )
    return task_id


def unfinished(connection: Connection) -> list[str]:
    """Task ids of the jobs that have not ended, oldest first."""
    query = select(table.c.task_id).where(table.c.status.not_in(_ENDED)).order_by(table.c.id)
    return list(connection.scalars(query))


def begin(connection: Connection, task_id: str) -> Plan | None:
    """Mark a job as started and say what is left to do; None when it is gone or has ended."""
    row = connection.execute(select(table).where(table.c.task_id == task_id)).one_or_none()
    if row is None or row.status in _ENDED:
        return None
    connection.execute(
        update(table).where(table.c.id == row.id).values(status=JobStatusName.STARTED)
    )
    open_items = select(items.c.response_id, func.count()).where(
        items.c.job_id == row.id, items.c.is_done.is_(False)
    )
    counted = connection.execute(open_items.group_by(items.c.response_id))
    places = {response_id: count for response_id, count in counted}
    plan = Plan(
        job_id=row.id,
        task_id=task_id,
        project_id=row.project_id,
        kind=JobKind(row.kind),
        rating_mode=RatingMode(row.rating_mode or RatingMode.DETAILED),
        todo=work.load(connection, row.project_id, places),
        places=places,
    )
    gone = places.keys() - {one.response_id for one in plan.todo}
    if gone:
        failure = ("no_result", "the response was deleted")
        record(connection, plan, [Step(i, is_last=True, failure=failure) for i in sorted(gone)])
    return plan


def record(connection: Connection, plan: Plan, steps: Sequence[Step]) -> None:
    """Keep what was done, all of it in the caller's transaction."""
    generated = [step for step in steps if step.answer is not None]
    if generated:
        connection.execute(
            update(tables.responses)
            .where(tables.responses.c.id == bindparam("row_id"))
            .where(tables.responses.c.is_ready.is_(False)),
            [
                {"row_id": step.response_id, **step.answer.columns()}
                for step in generated
                if step.answer is not None
            ],
        )
    verdicts = [verdict for step in steps for verdict in step.verdicts]
    ratings.record(connection, plan.project_id, plan.task_id, verdicts)
    ended = [step for step in steps if step.is_last]
    if ended:
        connection.execute(
            update(items)
            .where(
                items.c.job_id == bindparam("of_job"), items.c.response_id == bindparam("response")
            )
            .values(
                is_done=True,
                failure_code=bindparam("code"),
                failure_message=bindparam("message"),
            ),
            [
                {
                    "of_job": plan.job_id,
                    "response": step.response_id,
                    "code": step.failure[0] if step.failure else None,
                    "message": step.failure[1] if step.failure else None,
                }
                for step in ended
            ],
        )

    def places(some: Sequence[Step]) -> int:
        return sum(plan.places.get(step.response_id, 0) for step in some)

    connection.execute(
        update(table)
        .where(table.c.id == plan.job_id)
        .values(
            generated=table.c.generated + places(generated),
            rated=table.c.rated + places([step for step in ended if step.verdicts]),
            processed=table.c.processed + places(ended),
            failed=table.c.failed + places([step for step in ended if step.failure]),
        )
    )


def finish(connection: Connection, plan: Plan) -> None:
    """Mark a job as ended: a success as long as one item is fine or it has none."""
    row = connection.execute(select(table).where(table.c.id == plan.job_id)).one_or_none()
    if row is None:
        return
    status, error_msg = JobStatusName.SUCCESS, None
    if row.failed:
        first = connection.execute(
            select(items.c.failure_message)
            .where(items.c.job_id == row.id, items.c.failure_code.is_not(None))
            .order_by(items.c.position)
            .limit(1)
        ).scalar()
        error_msg = f"{row.failed} of {row.total} items failed, the first: {first}"
        if row.failed == row.total:
            status = JobStatusName.FAILURE
    _end(connection, row, status, error_msg)


def fail(connection: Connection, task_id: str, error_msg: str) -> None:
    """Mark a job as ended by a fault of the server."""
    row = connection.execute(select(table).where(table.c.task_id == task_id)).one_or_none()
    if row is not None and row.status not in _ENDED:
        _end(connection, row, JobStatusName.FAILURE, error_msg)


def _end(connection: Connection, row: AnyRow, status: str, error_msg: str | None) -> None:
    connection.execute(
        update(table)
        .where(table.c.id == row.id)
        .values(status=status, error_msg=error_msg, finished_at=now())
    )
    if row.kind == JobKind.EXPERIMENT:
        line = f"{row.processed} of {row.total} responses done, {row.failed} failed: {status}"
        experiments.ended(connection, row.experiment_id, line)


def batch_status(
    connection: Connection, project_id: int, kind: JobKind, task_id: str, *, full: bool
) -> dict[str, Any]:
    """The status document of a batch.

    Args:
        connection: Where from.
        project_id: Of the job.
        kind: What kind of batch the route is for.
        task_id: Which job.
        full: With progress and, at the end, results and failures.

    Raises:
        Problem: 404 when there is no such job of this kind.
    """
    row = _row(connection, project_id, kind, task_id)
    status: dict[str, Any] = {"status": row.status, "error_msg": row.error_msg}
    if full:
        status["progress"] = JobProgress(
            processed=row.processed, total=row.total, failed=row.failed
        )
        if row.status in _ENDED:
            status["result"], status["item_failures"] = _results(connection, row)
    return status


def generation_status(
    connection: Connection, project_id: int, experiment_id: int, task_id: str
) -> dict[str, Any]:
    """The status document of an experiment's job."""
    row = _row(connection, project_id, JobKind.EXPERIMENT, task_id)
    if row.experiment_id != experiment_id:
        raise not_found("task", task_id)
    return {
        "status": row.status,
        "error_msg": row.error_msg,
        "completed_responses": row.generated,
        "completed_ratings": row.rated,
        "total_responses": row.total,
        "logs_delta": None,
    }


def _row(connection: Connection, project_id: int, kind: JobKind, task_id: str) -> AnyRow:
    row = connection.execute(
        select(table).where(
            table.c.project_id == project_id, table.c.task_id == task_id, table.c.kind == kind
        )
    ).one_or_none()
    if row is None:
        raise not_found("task", task_id)
    return row


def _results(connection: Connection, job: AnyRow) -> tuple[list[Any], list[ItemFailure]]:
    query = select(items).where(items.c.job_id == job.id).order_by(items.c.position)
    rows = connection.execute(query).all()
    ids = [row.response_id for row in rows]
    if job.kind == JobKind.RATINGS:
        rated = ratings.of_job(connection, job.project_id, job.task_id, ids)
        results: list[Any] = [rated[response_id] for response_id in ids]
    else:
        found = responses.documents(connection, job.project_id, ids)
        results = [found.get(response_id) for response_id in ids]
    failures = [
        ItemFailure(index=row.position, code=row.failure_code, message=row.failure_message)
        for row in rows
        if row.failure_code is not None
    ]
    return results, failures
