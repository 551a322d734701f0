"""A model whose answer cannot be used is not asked anew by the client, which pays for it."""

from __future__ import annotations

import pytest

from elluminate_async import AsyncClient, RatingError, ServerError
from elluminate_async.server import LocalServer
from elluminate_async.testing import VIRTUAL_TIME
from tests.server.api import ScriptedModel


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


async def test_single_calls_whose_model_says_nothing_useful_end_at_once() -> None:
    """The server says so, and no call is sent again: a verdict costs what it does in a batch."""
    model = ScriptedModel()
    async with (
        LocalServer(model=model) as server,
        AsyncClient(base_url=server.url, api_key=server.api_key) as client,
    ):
        template = await client.prompt_templates.create("Say {{word}}", "T")
        collection = await client.collections.create("C", variables=[{"word": "a"}])
        model.verdicts = ["prose"] * 100

        with pytest.raises(ServerError, match=r"\[424\] the model proposed 0 distinct") as failed:
            await client.criteria.generate_many(template)
        assert len(model.calls) == 2
        assert failed.value.status == 424

        with pytest.raises(ServerError, match=r"\[424\]"):
            await client.template_variables.generate(
                collection=collection, prompt_template=template
            )
        assert len(model.calls) == 3

        await client.criteria.add_many(["Ok?"], prompt_template=template)
        experiment = await client.experiments.create(
            "E", prompt_template=template, collection=collection
        )
        rows = await client.template_variables.list(collection)
        (response,) = await client.responses.generate_many(
            template_variables=list(rows), experiment=experiment
        )
        model.calls.clear()
        batch = await client.ratings.rate_many([response])
        assert [error.code for error in batch.failed.values()] == ["rating_failed"]
        paid = len(model.calls)
        with pytest.raises(RatingError, match="no readable verdict"):
            await client.ratings.rate(response)
        assert len(model.calls) <= 2 * paid
