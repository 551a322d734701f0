"""`generate`, `rate` and `evaluate`: from a dataset of Ray Data to another one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from elluminate_async.errors import MissingExtraError
from elluminate_async.errors.arguments import run_name

try:
    from ray.data import ActorPoolStrategy, Dataset
except ImportError as _error:
    raise MissingExtraError("Ray Data", "ray") from _error

from elluminate_async.integrations.blocks import BlockWork
from elluminate_async.integrations.ray.checks import (
    Variables,
    check_count,
    check_cpus,
    check_dataset,
    check_options,
    check_schema,
    check_text,
    variables_of,
    warn_of_few_cpus,
    warn_of_no_keys,
)
from elluminate_async.integrations.ray.setup import (
    evaluation_of,
    generation_of,
    judging_of,
    resolved,
)
from elluminate_async.integrations.ray.worker import Worker
from elluminate_async.integrations.stage import Connect, Stage
from elluminate_async.schemas.ratings import RatingMode

if TYPE_CHECKING:
    from elluminate_async import AsyncClient, BatchOptions
    from elluminate_async.schemas.collections import Collection
    from elluminate_async.schemas.criterion_sets import CriterionSet
    from elluminate_async.schemas.experiments import Experiment
    from elluminate_async.schemas.llm_configs import LLMConfig
    from elluminate_async.schemas.prompt_templates import PromptTemplate


def generate(
    ds: Dataset,
    *,
    experiment: Experiment | int | str,
    run: str,
    key: str,
    collection: Collection | int | str | None = None,
    variables: Variables | None = None,
    workers: int = 2,
    rows_per_task: int = 2_000,
    options: BatchOptions | None = None,
    base_url: str | None = None,
    project: int | str | None = None,
    num_cpus: float = 0,
) -> Dataset:
    """Generate one response to each row of a dataset.

    The rows are added to the collection, and responses to them to the experiment, by workers that
    each have a client of their own. A row is known again by ``run`` and its key: the same call
    again, also after workers or the whole job were killed, takes what there is, and pays for no
    response twice. This needs a service that offers item keys, as the embedded server does; with
    another one a warning is logged.

    Args:
        ds: Its rows, in any number. Nothing is read or sent before it is.
        experiment: Where the responses belong: the experiment, its id or its name.
        run: Names this run of the experiment. Under another one all rows are asked for anew.
        key: The column that tells rows apart: whole numbers or texts, each once in the dataset.
        collection: Where the rows are added; None takes the experiment's.
        variables: The columns whose values the prompt has, or placeholder to column; None takes
            the template's placeholders, from columns of their names.
        workers: Actors, each with a client: its limits are of that client, not of all together,
            but where ``options`` have a `share`.
        rows_per_task: Rows that a worker has at once, and so what is asked for again where it
            is killed and the service has no item keys.
        options: Of each worker's client, without ``on_progress``.
        base_url: Where the service is; None takes it from the driver's environment.
        project: As of `AsyncClient`.
        num_cpus: What Ray sets aside for a worker, which mostly waits. With more, leave one for the
            tasks that read, and one for a checkpoint to resume from.

    Returns:
        The dataset with the columns of `elluminate_async.tables.outcomes`, in any order. A row that
        failed has its error in them. A refused key, or an experiment that is gone, ends the job:
        an `AuthenticationError`, a `PermissionDeniedError` or a `NotFoundError` is raised by what
        reads or writes the dataset.

    Raises:
        InputError: An argument cannot work, or the dataset has not the columns.
        NotFoundError: There is no such experiment or collection.

    Cost: at the driver some requests; in each task those of `template_variables.add_many` and of
    `responses.generate_many`. Memory: O(``rows_per_task``) in a worker, however long the dataset
    is.
    """
    pool = _Pool(ds, workers, rows_per_task, options, base_url, project, num_cpus)
    run_name(run)
    check_text(key, "key")
    given = variables_of(variables)

    async def resolve(client: AsyncClient) -> BlockWork:
        generation = await generation_of(client, experiment, collection, run, key, given)
        return BlockWork(generation, None)

    return pool.mapped(resolve)


def rate(
    ds: Dataset,
    *,
    run: str,
    rating_mode: RatingMode = RatingMode.DETAILED,
    workers: int = 2,
    rows_per_task: int = 2_000,
    options: BatchOptions | None = None,
    base_url: str | None = None,
    project: int | str | None = None,
    num_cpus: float = 0,
) -> Dataset:
    """Rate the response of each row by every criterion.

    Args:
        ds: Has the ids of responses in the column ``response_id``, as `generate` gives it. A row
            with an ``error_code`` is not rated: its error is that of its ratings too.
        run: Names this run. Each response is rated once in it, whatever is killed.
        rating_mode: With (DETAILED) or without (FAST) the judge's reasoning.
        workers: As of `generate`.
        rows_per_task: As of `generate`.
        options: As of `generate`.
        base_url: As of `generate`.
        project: As of `generate`.
        num_cpus: As of `generate`.

    Returns:
        The dataset with the columns ``ratings``, ``rating_error_code`` and ``rating_error_text``;
        see `generate`.

    Raises:
        InputError: An argument cannot work, or the dataset has not the column.
    """
    pool = _Pool(ds, workers, rows_per_task, options, base_url, project, num_cpus)
    run_name(run)
    judging = judging_of(run, rating_mode)

    async def resolve(client: AsyncClient) -> BlockWork:
        return BlockWork(None, judging)

    return pool.mapped(resolve)


def evaluate(
    ds: Dataset,
    *,
    prompt: str | Sequence[Mapping[str, Any]] | PromptTemplate | int,
    run: str,
    key: str,
    criteria: Sequence[str] | CriterionSet | int | None = None,
    llm_config: LLMConfig | int | str | None = None,
    name: str | None = None,
    variables: Variables | None = None,
    rating_mode: RatingMode = RatingMode.DETAILED,
    workers: int = 2,
    rows_per_task: int = 2_000,
    options: BatchOptions | None = None,
    base_url: str | None = None,
    project: int | str | None = None,
    num_cpus: float = 0,
) -> Dataset:
    """Generate a response to each row and have it rated: `generate` and `rate` in one worker.

    The template, the criteria, a collection and an experiment are made at the service under
    ``name``, or found there: the same call again goes on with them.

    Args:
        ds: As of `generate`.
        prompt: A text with ``{{placeholders}}``, chat messages, or a template or its id.
        run: As of `generate`.
        key: As of `generate`.
        criteria: The judge's questions as texts, or a set of them or its id; None takes those of
            the template, which are generated where it has none.
        llm_config: The configuration that answers: the object, its id or its name; None takes
            the project's default.
        name: Of what is made at the service; None takes ``run``.
        variables: As of `generate`.
        rating_mode: With (DETAILED) or without (FAST) the judge's reasoning.
        workers: As of `generate`.
        rows_per_task: As of `generate`.
        options: As of `generate`.
        base_url: As of `generate`.
        project: As of `generate`.
        num_cpus: As of `generate`.

    Returns:
        The dataset with the columns of both.

    Raises:
        InputError: An argument cannot work, the dataset has not the columns, or the name belongs to
            an experiment on another template, configuration or set of criteria.
    """
    pool = _Pool(ds, workers, rows_per_task, options, base_url, project, num_cpus)
    run_name(run)
    check_text(key, "key")
    given = variables_of(variables)
    judging = judging_of(run, rating_mode)
    if name is not None:
        check_text(name, "name")

    async def resolve(client: AsyncClient) -> BlockWork:
        experiment = await evaluation_of(client, name or run, prompt, criteria, llm_config)
        generation = await generation_of(client, experiment, None, run, key, given)
        return BlockWork(generation, judging)

    return pool.mapped(resolve)


class _Pool:
    """The workers of one call, and what they are made with."""

    def __init__(
        self,
        ds: Dataset,
        workers: int,
        rows_per_task: int,
        options: BatchOptions | None,
        base_url: str | None,
        project: int | str | None,
        num_cpus: float,
    ) -> None:
        check_dataset(ds)
        check_count(workers, "workers")
        check_count(rows_per_task, "rows_per_task")
        check_cpus(num_cpus)
        check_options(options)
        self._ds = ds
        self._workers = workers
        self._rows_per_task = rows_per_task
        self._connect = Connect(base_url, project, options)
        self._num_cpus = num_cpus

    def mapped(self, resolve: Callable[[AsyncClient], Awaitable[BlockWork]]) -> Dataset:
        """The dataset with what each worker adds to its blocks."""

        async def ask(client: AsyncClient) -> tuple[BlockWork, Connect]:
            async with client:
                connect = await resolved(client, self._connect)
                await warn_of_no_keys(client)
                return await resolve(client), connect

        with Stage(self._connect) as stage:
            work, connect = stage.call(ask)
        check_schema(self._ds, work)
        warn_of_few_cpus(self._ds, self._workers * self._num_cpus)
        # A block of 128 MB, as Ray reads them, can be 100,000 rows, and would be one task.
        blocks = self._ds.repartition(target_num_rows_per_block=self._rows_per_task)
        made: Dataset = blocks.map_batches(  # pyright: ignore[reportUnknownMemberType]
            Worker,
            fn_constructor_kwargs={"work": work, "connect": connect},
            batch_size=None,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=self._workers),
            num_cpus=self._num_cpus,
            udf_modifying_row_count=False,
        )
        # Else the error of a worker comes as one of Ray's, with the own one in its text only.
        made.context.raise_original_map_exception = True
        return made
