"""The start of an experiment's job: one POST that is done once, whatever becomes of its answer.

A run, a retry of what failed and the making of an experiment that runs at once are sent under an
idempotency key. Where the service honours keys, a lost answer is asked for again by it. Where not,
the experiment tells whether a job began: it is read before and after, and what changed is the sign.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pydantic import BaseModel

from elluminate_async.engine.item_errors import unknown_outcome
from elluminate_async.errors import (
    AuthenticationError,
    ElluminateError,
    NotFoundError,
    PermissionDeniedError,
    ProtocolError,
)
from elluminate_async.operations.connection import decode, new_key
from elluminate_async.operations.leaving import SingleSending
from elluminate_async.operations.listing import Listing
from elluminate_async.operations.reconciling import ReconcileSchedule
from elluminate_async.operations.replaying import Post, replayed
from elluminate_async.operations.starting import checked_job_id
from elluminate_async.schemas.base import WireModel
from elluminate_async.schemas.experiments import Experiment
from elluminate_async.schemas.version import Capability

if TYPE_CHECKING:
    from elluminate_async.operations.connection import Connection
    from elluminate_async.transport.exchange import Answer
    from elluminate_async.transport.retry import Policy

_WAY_ON = (
    "look with client.experiments.get first: its generation_task_id names the job that runs, which "
    "client.experiments.wait waits for, and its results are there once it has ended"
)


@dataclass(frozen=True, slots=True)
class JobStart:
    """The POST that begins a job of an experiment.

    Attributes:
        operation: The name of the call, for its errors.
        segments: Path below the project.
        body: Of the request.
        experiment: Id of the one it is about; its name where it is made by this.
        omit_nulls: Whether the body leaves out what is None.
        has_own_epochs: Whether the epochs are those of the experiment, which is to be read.
    """

    operation: str
    segments: tuple[str | int, ...]
    body: BaseModel
    experiment: int | str
    omit_nulls: bool = False
    has_own_epochs: bool = False

    def with_epochs(self, experiment: Experiment) -> JobStart:
        """The same, for as many epochs as the experiment has."""
        body = self.body.model_copy(update={"n_epochs": experiment.n_epochs or 1})
        return replace(self, body=body, has_own_epochs=False)

    def is_about(self, experiment: Experiment) -> bool:
        """Whether an answer with that is one to this."""
        return self.experiment in (experiment.id, experiment.name)


class _Count(WireModel):
    count: int


@dataclass(frozen=True, slots=True)
class _Look:
    """An experiment as it was read; None where there was none.

    Attributes:
        rows: How many responses it has.
    """

    experiment: Experiment | None = None
    rows: int = 0

    def shows_job_since(self, before: _Look) -> bool:
        """Whether a job began between the two looks: it runs, or has left something."""
        now, then = self.experiment, before.experiment
        if now is None:
            return False
        task = now.generation_task_id
        if task is not None:
            return then is None or task != then.generation_task_id
        if then is None:
            return self.rows > 0 or now.results is not None or bool(now.logs)
        if then.generation_task_id is not None:
            # That was somebody else's, and so may be whatever changed.
            return False
        changed = (now.results, now.logs, self.rows) != (then.results, then.logs, before.rows)
        return changed


async def start_experiment_job(
    connection: Connection, start: JobStart, policy: Policy
) -> Experiment:
    """The experiment once its job is begun, by this POST and by no second one.

    Without a ``generation_task_id`` there was nothing to do, or all of it is done.

    Raises:
        OutcomeUnknownError: It was sent, and whether a job began is not known.
        ElluminateError: None began.
    """
    keyed = await connection.has(Capability.IDEMPOTENCY_KEYS, policy)
    before = None if keyed else await _look(connection, start, policy)
    try:
        return await _post(connection, start, policy)
    except ElluminateError as error:
        if not error.ambiguous:
            raise
        lost = error
    if before is not None:
        found = await _reconciled(connection, start, policy, before)
        if found is not None:
            return found
    raise unknown_outcome(lost, start.operation, way_on=_WAY_ON) from None


async def _post(connection: Connection, start: JobStart, policy: Policy) -> Experiment:
    sending = SingleSending(new_key())
    post = Post(start.segments, start.body, omit_nulls=start.omit_nulls)

    def read(answer: Answer) -> Experiment:
        return _read(connection, start, answer, sending.key)

    async with connection.work.awaited(
        *start.segments, key=sending.key, is_out=lambda: sending.is_out
    ):
        return await replayed(connection, post, read, policy, sending)
    raise AssertionError("unreachable")


def _read(connection: Connection, start: JobStart, answer: Answer, key: str) -> Experiment:
    begun = decode(Experiment, answer)
    job_id = checked_job_id(begun.generation_task_id, connection.blotted)
    if not start.is_about(begun):
        raise ProtocolError("the answer is about another experiment", sent=True)
    if job_id is not None and not connection.claim_job(job_id, key):
        raise ProtocolError("the answer names the job of another request", sent=True)
    return begun


async def _look(connection: Connection, start: JobStart, policy: Policy) -> _Look:
    if isinstance(start.experiment, int):
        path = ("experiments", start.experiment)
        found = decode(Experiment, await connection.call("GET", *path, policy=policy))
    else:
        query = {"experiment_name": start.experiment}
        listing = Listing(connection, Experiment, "experiments", query=query, policy=policy)
        try:
            found = await listing.named("experiment", start.experiment)
        except NotFoundError:
            return _Look()
    checked_job_id(found.generation_task_id, connection.blotted)
    rows = await connection.call(
        "GET", "responses", query={"experiment_id": found.id, "page": 1}, policy=policy
    )
    return _Look(found, decode(_Count, rows).count)


async def _reconciled(
    connection: Connection, start: JobStart, policy: Policy, before: _Look
) -> Experiment | None:
    """The experiment with the job that began; None where none has shown within ``settle``."""
    schedule = ReconcileSchedule(policy, connection.options.settle)
    while await schedule.next_look():
        try:
            seen = await _look(connection, start, policy)
        except (AuthenticationError, PermissionDeniedError, NotFoundError):
            return None
        except ElluminateError:
            schedule.news()  # nobody could see whether one began
            continue
        if seen.shows_job_since(before):
            return seen.experiment
    return None
