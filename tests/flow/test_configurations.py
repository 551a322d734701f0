"""Several clients on one experiment, each with a configuration, and no results in the status."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest

from elluminate_async import AsyncClient, BatchOptions
from elluminate_async.server import LocalServer, ModelAnswer, ModelRequest, WireProfile
from elluminate_async.testing import VIRTUAL_TIME
from tests.flow.bench import EchoModel, Recorder, Stage, set_stage


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


VALUES = [f"v{i}" for i in range(18)]
OPTIONS = BatchOptions(chunk_size=6, max_concurrency=3, settle=1.0)


class NamingModel(EchoModel):
    """Says by which configuration it was asked, after a time of its own."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._times = random.Random(seed)

    async def complete(self, request: ModelRequest) -> ModelAnswer:
        self.delay = self._times.uniform(0, 0.02)
        answer = await super().complete(request)
        name = request.sampling.name if request.sampling else None
        return ModelAnswer(text=f"{name}: {answer.text}", input_tokens=1, output_tokens=1)


async def generate_at_once(
    seed: int, configs: Sequence[str | None], values: Sequence[str] = VALUES
) -> tuple[list[Any], Stage]:
    """A batch for each configuration, of a client of its own, over the same rows; by name."""
    recorder, model = Recorder(), NamingModel(seed)
    profile = WireProfile.hosted(page_size=7, listing_seed=seed)
    async with (
        LocalServer(model=model, profile=profile, wrap=recorder.wrap) as server,
        AsyncClient(base_url=server.url, api_key=server.api_key) as owner,
    ):
        stage = await set_stage(owner, server, model, recorder)
        rows = await stage.variables(list(values))
        ids: dict[str | None, int | None] = {None: None}
        for name in {*configs} - {None}:
            config, _ = await owner.llm_configs.get_or_create(str(name), llm_model_name="m")
            ids[name] = config.id

        async def generate(name: str | None) -> Any:
            async with AsyncClient(
                base_url=server.url, api_key=server.api_key, options=OPTIONS
            ) as client:
                return await client.responses.generate_many(
                    template_variables=rows, experiment=stage.experiment, llm_config=ids[name]
                )

        return list(await asyncio.gather(*map(generate, configs))), stage


@pytest.mark.parametrize("configs", [("one", "two"), (None, "two"), ("one", "two", None)])
@pytest.mark.parametrize("seed", range(3))
async def test_rows_of_another_configuration_are_never_taken(
    seed: int, configs: Sequence[str | None]
) -> None:
    """Each client has the rows of its own configuration, all of them, and none twice."""
    batches, _ = await generate_at_once(seed, configs)

    for name, batch in zip(configs, batches, strict=True):
        texts = [response.response_str for response in batch]
        assert texts == [f"{name or 'default'}: echo say {value}" for value in VALUES]
    ids = [response.id for batch in batches for response in batch]
    assert len(set(ids)) == len(configs) * len(VALUES)


async def test_repeated_inputs_of_two_configurations() -> None:
    """The same rows several times, for two configurations: epochs do not mix them up."""
    values = [f"v{i % 3}" for i in range(12)]

    batches, _ = await generate_at_once(7, ("one", "two"), values)

    for name, batch in zip(("one", "two"), batches, strict=True):
        texts = [response.response_str for response in batch]
        assert texts == [f"{name}: echo say {value}" for value in values]
        assert batch.surplus == ()
    assert len({response.id for batch in batches for response in batch}) == 24


async def test_responses_that_two_clients_store_for_the_same_rows() -> None:
    """Their natural keys are the same: each client has what holds its own text."""
    recorder, model = Recorder(), NamingModel(3)
    profile = WireProfile.hosted(page_size=7, listing_seed=3)
    async with (
        LocalServer(model=model, profile=profile, wrap=recorder.wrap) as server,
        AsyncClient(base_url=server.url, api_key=server.api_key) as owner,
    ):
        stage = await set_stage(owner, server, model, recorder)
        rows = await stage.variables(VALUES)

        async def add(name: str) -> Any:
            async with AsyncClient(
                base_url=server.url, api_key=server.api_key, options=OPTIONS
            ) as client:
                return await client.responses.add_many(
                    [f"{name} of {value}" for value in VALUES],
                    template_variables=rows,
                    experiment=stage.experiment,
                )

        one, two = await asyncio.gather(add("one"), add("two"))

    for name, batch in (("one", one), ("two", two)):
        assert [row.response_str for row in batch] == [f"{name} of {value}" for value in VALUES]
