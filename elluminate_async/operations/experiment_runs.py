"""`ExperimentRuns`: the part of ``client.experiments`` that has the service work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from elluminate_async.operations.experiment_jobs import ExperimentJobs
from elluminate_async.operations.experiment_requests import retry_start, run_start
from elluminate_async.operations.references import id_of
from elluminate_async.schemas.experiments import Experiment
from elluminate_async.schemas.ratings import RatingMode

if TYPE_CHECKING:
    from elluminate_async.engine.stream import OutcomeStream
    from elluminate_async.operations.connection import Connection
    from elluminate_async.operations.experiment_jobs import ExperimentEvent


class ExperimentRuns:
    """Runs and retries of experiments, begun, watched and told of."""

    _connection: Connection

    async def run(
        self,
        experiment: Experiment | int,
        *,
        rating_mode: RatingMode = RatingMode.DETAILED,
        n_epochs: int | None = None,
        generation_params: Mapping[str, Any] | None = None,
        wait: bool = True,
        timeout: float | None = None,
    ) -> Experiment:
        """Have the service generate and rate the whole collection, and wait for the end.

        It is begun once, whatever becomes of the answer: see `OutcomeUnknownError`. A call that
        ends early has the run cancelled where the service can do that; `retry_failed` goes on.

        Args:
            experiment: One that has not run yet.
            rating_mode: With or without the judge's reasoning.
            n_epochs: Responses for each row of the collection; one where they are a column's.
                None takes as many as the experiment was created with.
            generation_params: Sampling, over the configuration's, as of `create`.
            wait: Whether to wait for the end. Without that the call returns once the service has
                accepted the job, which goes on whatever becomes of the program; `wait`, `stream`
                and `cancel` take what it returns.
            timeout: Seconds; None takes the deadline of the client's options.

        Returns:
            The experiment with its results; without ``wait`` with its ``generation_task_id``.
            Responses that failed are counted in ``results``, which are None while nothing was
            rated, as where all failed or there are no criteria: `map` tells which failed. The
            embedded server has rows fail that lack a value for a placeholder, and asks no model.

        Raises:
            InputError: ``timeout`` is no finite number above 0, or another argument cannot work.
            JobError: The service ended the run without success.
            RejectedError: It cannot run, as where its configuration was deleted.
            OutcomeUnknownError: Whether it began is not known; or it had not ended in time, with
                the code ``deadline``.
        """
        start = run_start(experiment, rating_mode, n_epochs, generation_params)
        return await ExperimentJobs(self._connection, timeout).done(start, wait=wait)

    def stream_run(
        self,
        experiment: Experiment | int,
        *,
        rating_mode: RatingMode = RatingMode.DETAILED,
        n_epochs: int | None = None,
        generation_params: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> OutcomeStream[ExperimentEvent]:
        """`run` as a stream of events: progress, lines of the log, and the end.

        The last event has the status of the end, the rest of the log and the experiment. After
        one of another status than ``SUCCESS`` the stream raises. A stream of the service's that
        breaks is opened again, and then the job is polled; no line is lost or told twice, as far
        as the service shows its log. Leaving the loop early has the run cancelled where the
        service can do that; ``async with`` around it waits for that.

        Raises:
            JobError: The service ended the run without success, after the last event.
            OutcomeUnknownError: As of `run`.
        """
        start = run_start(experiment, rating_mode, n_epochs, generation_params)
        return ExperimentJobs(self._connection, timeout).stream(start)

    async def retry_failed(
        self,
        experiment: Experiment | int,
        *,
        rating_mode: RatingMode = RatingMode.DETAILED,
        discard_annotations: bool = False,
        wait: bool = True,
        timeout: float | None = None,
    ) -> Experiment:
        """Have the service do again what failed of an experiment, and wait for the end.

        Failed responses are generated again. The embedded server gives each the place of the one
        that failed, with its id, and also rates good responses that lack a verdict, which it does
        not generate. Good responses keep their ids, texts and ratings, and are not asked criteria
        that came after these. With nothing to do nothing is done. It is begun once, and cancelled
        by the call's early end, as a `run`.

        Args:
            experiment: One that no job works on.
            rating_mode: With or without the judge's reasoning.
            discard_annotations: Whether annotations of failed responses may be lost.
            wait: Whether to wait for the end, as of `run`. Where there is nothing to do, the
                experiment that is returned has no ``generation_task_id``.
            timeout: Seconds; None takes the deadline of the client's options.

        Returns:
            The experiment with its results, which count the responses that failed again; see
            `run`.

        Raises:
            ConflictError: A job works on it, or annotations would be lost; the text tells which.
                Another service may refuse that with another `APIError`.
            RejectedError: Responses failed whose configuration was deleted.
            JobError: The service ended the retry without success, as where all failed again.
            OutcomeUnknownError: As of `run`.
        """
        start = retry_start(experiment, rating_mode, discard_annotations=discard_annotations)
        return await ExperimentJobs(self._connection, timeout).done(start, wait=wait)

    def stream_retry_failed(
        self,
        experiment: Experiment | int,
        *,
        rating_mode: RatingMode = RatingMode.DETAILED,
        discard_annotations: bool = False,
        timeout: float | None = None,
    ) -> OutcomeStream[ExperimentEvent]:
        """`retry_failed` as a stream of events, as `stream_run` is of `run`.

        With nothing to do its one event is a ``SUCCESS``, without any figures.
        """
        start = retry_start(experiment, rating_mode, discard_annotations=discard_annotations)
        return ExperimentJobs(self._connection, timeout).stream(start)

    def stream(
        self, experiment: Experiment | int, *, timeout: float | None = None
    ) -> OutcomeStream[ExperimentEvent]:
        """Watch the job of an experiment that others have begun, as `stream_run` tells of its own.

        An experiment that was answered with a ``generation_task_id`` is watched for that job,
        also where it has ended since. Else the experiment is read, and where no job runs the
        stream ends at once, without any event. Whatever ends the stream, the job goes on.

        Raises:
            NotFoundError: There is no such experiment.
            JobError: The job ended without success, after the last event.
            OutcomeUnknownError: It had not ended by the deadline, or the service does not know it
                any more.
        """
        return ExperimentJobs(self._connection, timeout).watch(*_job_of(experiment))

    async def wait(
        self, experiment: Experiment | int, *, timeout: float | None = None
    ) -> Experiment:
        """Wait for the end of a job that was begun without waiting, or by others.

        Which job is as of `stream`, and whatever ends the wait, the job goes on.

        Args:
            experiment: Whose. Where no job runs, it is read and returned.
            timeout: Seconds; None takes the deadline of the client's options.

        Returns:
            The experiment with its results.

        Raises:
            NotFoundError: There is no such experiment.
            JobError: The job ended without success.
            OutcomeUnknownError: It had not ended by the deadline, or the service does not know it
                any more.
        """
        return await ExperimentJobs(self._connection, timeout).awaited(*_job_of(experiment))

    async def cancel(
        self, experiment: Experiment | int, *, timeout: float | None = None
    ) -> Experiment:
        """End the job of an experiment, whoever has begun it, and so the spending.

        The calls of models that have not begun are never made, and what is done stays. Which job
        is as of `stream`; where none runs, or it has ended, nothing is done. Who waits for it
        gets a `JobError` of the status ``REVOKED``. `retry_failed` goes on with the rest.

        Args:
            experiment: Whose.
            timeout: Seconds; None takes the deadline of the client's options.

        Returns:
            The experiment as it is then.

        Raises:
            NotFoundError: There is no such experiment.
            UnsupportedError: The service cannot cancel, as the hosted one: the job goes on.
        """
        return await ExperimentJobs(self._connection, timeout).cancelled(*_job_of(experiment))


def _job_of(experiment: Experiment | int) -> tuple[int, str | None]:
    """Its id, and the job that it was answered with."""
    id = id_of(experiment, Experiment, "experiment")
    return id, experiment.generation_task_id if isinstance(experiment, Experiment) else None
