"""The input of a batch: lists that change, iterables that end early or raise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import cast

import anyio
import pytest

from elluminate_async import (
    Batch,
    BatchOptions,
    DeadlineError,
    InputError,
    PromptResponse,
    TemplateVariables,
)
from elluminate_async.testing import VIRTUAL_TIME
from tests.flow.bench import Stage
from tests.flow.conftest import Staging


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


VALUES = [f"v{i}" for i in range(10)]


async def test_an_async_input_cut_by_the_deadline_is_no_full_success(stage: Stage) -> None:
    """What was not read is not known to be missing, so the deadline is raised, with the rest."""
    (row,) = await stage.variables(["a"])

    async def stalls() -> AsyncIterator[TemplateVariables]:
        for _ in range(10):
            yield row
        await anyio.sleep(60)

    with pytest.raises(DeadlineError) as caught:
        await stage.client.responses.generate_many(
            template_variables=stalls(),
            experiment=stage.experiment,
            options=stage.client.options.replace(deadline=1.0),
        )

    assert len(caught.value.partial.succeeded) == 10


async def test_an_input_that_is_cancelled_from_within_is_no_end(stage: Stage) -> None:
    """A source that awaits a cancelled task fails; it does not look complete."""
    (row,) = await stage.variables(["a"])

    async def broken() -> AsyncIterator[TemplateVariables]:
        yield row
        task = asyncio.create_task(asyncio.sleep(60))
        task.cancel()
        await task

    with pytest.raises(InputError, match="cancelled from within"):
        await stage.client.responses.generate_many(
            template_variables=broken(), experiment=stage.experiment
        )


async def test_what_an_input_raises_has_what_arrived(staging: Staging) -> None:
    """The caller's own exception comes out unchanged, with the paid part attached."""
    async with staging(options=BatchOptions(chunk_size=5, max_concurrency=1)) as stage:
        (row,) = await stage.variables(["a"])

        def breaks() -> Iterator[TemplateVariables]:
            for _ in range(12):
                yield row
            raise OSError("the disk")

        with pytest.raises(OSError, match="the disk") as caught:
            await stage.client.responses.generate_many(
                template_variables=breaks(), experiment=stage.experiment
            )

    partial = cast("Batch[PromptResponse]", vars(caught.value)["partial"])
    assert len(partial) == 12
    assert len(partial.succeeded) >= 5


async def test_a_list_that_grows_while_it_runs_changes_nothing(stage: Stage) -> None:
    """The caller's list is copied: the batch is of what it held at the call."""
    variables = await stage.variables(VALUES)
    stage.model.delay = 0.05
    task = asyncio.create_task(
        stage.client.responses.generate_many(
            template_variables=variables, experiment=stage.experiment
        )
    )
    await anyio.sleep(0.02)
    variables.append(variables[0])

    assert len(await task) == 10


async def test_a_length_that_is_an_estimate_is_not_believed(stage: Stage) -> None:
    """Something with a wrong `len`, such as a progress bar with a total, is read to its end."""

    class Bar:
        def __init__(self, rows: list[TemplateVariables]) -> None:
            self.rows = rows

        def __len__(self) -> int:
            return 3

        def __iter__(self) -> Iterator[TemplateVariables]:
            return iter(self.rows)

    responses = await stage.client.responses.generate_many(
        template_variables=Bar(await stage.variables(VALUES)), experiment=stage.experiment
    )

    assert len(responses.succeeded) == 10
