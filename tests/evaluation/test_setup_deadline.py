"""A deadline that passes while an evaluation is set up, by real clocks."""

from __future__ import annotations

import pytest

from elluminate_async import AsyncClient, DeadlineError, Evaluation
from elluminate_async.server import LocalServer


@pytest.mark.parametrize("milliseconds", [2, 5, 10, 20])
async def test_it_is_the_one_error_or_a_whole_evaluation(milliseconds: int) -> None:
    """Also where it cuts a request and the set-up at the same moment."""
    async with (
        LocalServer() as server,
        AsyncClient(base_url=server.url, api_key=server.api_key) as client,
    ):
        for _ in range(3):
            made, told = None, ""
            try:
                async with client.deadline(milliseconds / 1000):
                    made = await client.evaluate([{"q": "a"}], prompt="{{q}}", criteria=["ok?"])
            except DeadlineError as error:
                told = str(error)
            assert isinstance(made, Evaluation) or "the deadline of the call passed" in told
