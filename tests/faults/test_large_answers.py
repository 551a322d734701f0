"""Rows that are long: what was paid for is delivered, however much of it comes back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest

from elluminate_async import BatchOptions
from elluminate_async.engine import chunks
from elluminate_async.errors import AnswerTooLargeError, OutcomeUnknownError
from elluminate_async.schemas.template_variables import TemplateVariables
from elluminate_async.server import WireProfile
from elluminate_async.testing.raw import Connection, Received, Script, replies, reply
from elluminate_async.transport import exchange
from tests.faults.gateway import HOSTED, Gateway, behind_gateway, is_stream
from tests.flow.bench import Stage
from tests.matrix import Fired
from tests.transport.wiring import GET, budget, failing, serving

ROWS = 24
CAP = 256 << 10
SHARE = CAP // 4
LENGTH = 8 << 10
"""Characters of a value. A row repeats it in its prompt and in the echo that answers it."""

VALUES = [f"{number:03}" + "x" * LENGTH for number in range(ROWS)]
ALL_AT_ONCE = BatchOptions(chunk_size=ROWS, max_concurrency=1, settle=0.4)


@pytest.fixture(autouse=True)
def small_caps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundredth of the caps for a hundredth of the bytes."""
    monkeypatch.setattr(exchange, "MAX_BODY_BYTES", CAP)
    monkeypatch.setattr(chunks, "ANSWER_BYTES", SHARE)


class Sizes:
    """Polls instead of streams, and notes the bytes of each answer that is passed on."""

    def __init__(self, gateway: Gateway, fired: Fired) -> None:
        self.of_statuses: list[int] = []
        self.asked = Counter[str]()
        self._gateway = gateway
        self._fired = fired

    def choose(self, received: Received) -> Script | None:
        if is_stream(received):
            return replies(reply(404))
        return self._passed if received.method == "GET" else None

    async def _passed(self, received: Received, connection: Connection) -> bytes:
        answer = await self._gateway.passed(received)
        size = len(answer.partition(b"\r\n\r\n")[2])
        if size > CAP:
            self._fired()
            self.asked[received.target] += 1
        if "/batches/" in received.path and b'"SUCCESS"' in answer:
            self.of_statuses.append(size)
        return answer


async def generated(
    stage: Stage, variables: Sequence[TemplateVariables | int], options: BatchOptions = ALL_AT_ONCE
) -> list[str]:
    responses = await stage.client.responses.generate_many(
        template_variables=variables, experiment=stage.experiment, options=options
    )
    return [response.response_str for response in responses]


ANSWERS = [f"echo say {value}" for value in VALUES]


@pytest.mark.row(128)
async def test_the_first_chunk_fits_what_is_known(fired: Fired) -> None:
    """Values and template come back in each row, so that fewer of long ones go out at once."""
    async with behind_gateway(WireProfile(), ALL_AT_ONCE) as (stage, gateway):
        variables = await stage.variables(VALUES)
        sizes = Sizes(gateway, fired)
        gateway.choose = sizes.choose
        answers = await generated(stage, variables)
        fired()

        assert answers == ANSWERS
        assert max(sizes.of_statuses) <= CAP
        assert set(stage.model.answered.values()) == {1}
        assert len(gateway.posts()) > 1


@pytest.mark.row(128)
async def test_a_result_over_the_cap(fired: Fired) -> None:
    """Of ids alone nothing is known: the rows are asked for one by one, and none is lost.

    The status is asked for once, the model once for each row, and the next chunks are smaller.
    """
    async with behind_gateway(WireProfile(), ALL_AT_ONCE) as (stage, gateway):
        ids = [entry.id for entry in await stage.variables(VALUES)]
        sizes = Sizes(gateway, fired)
        gateway.choose = sizes.choose
        answers = await generated(stage, ids, ALL_AT_ONCE.replace(chunk_size=ROWS // 2))

        assert answers == ANSWERS
        assert list(sizes.asked.values()) == [1]
        assert set(stage.model.answered.values()) == {1}
        assert len(sizes.of_statuses) > 2
        assert sizes.of_statuses[0] > CAP >= max(sizes.of_statuses[1:])


@pytest.mark.row(128)
async def test_earlier_rows_of_the_same_key(fired: Fired) -> None:
    """Rows that an earlier call left under the same keys are not taken for this one's."""
    async with behind_gateway(WireProfile(), ALL_AT_ONCE) as (stage, gateway):
        ids = [entry.id for entry in await stage.variables(VALUES)]
        earlier = await stage.client.responses.generate_many(
            template_variables=ids, experiment=stage.experiment
        )
        gateway.choose = Sizes(gateway, fired).choose
        responses = await stage.client.responses.generate_many(
            template_variables=ids, experiment=stage.experiment, options=ALL_AT_ONCE
        )

        assert [response.response_str for response in responses] == ANSWERS
        assert not {row.id for row in responses} & {row.id for row in earlier}


@pytest.mark.row(128)
async def test_a_page_over_the_cap(fired: Fired) -> None:
    """The experiment's rows are listed by the entries of its collection, each row once."""
    async with behind_gateway(WireProfile(), ALL_AT_ONCE) as (stage, gateway):
        await generated(stage, await stage.variables(VALUES))
        sizes = Sizes(gateway, fired)
        gateway.choose = sizes.choose
        rows = await stage.client.responses.list(experiment=stage.experiment)

        assert sorted(row.response_str for row in rows) == ANSWERS
        assert len({row.id for row in rows}) == ROWS
        assert set(sizes.asked.values()) == {1}


@pytest.mark.row(128)
async def test_a_service_that_is_listed(fired: Fired) -> None:
    """Without results: rows, their ratings and the baseline are read in parts of ids."""
    async with behind_gateway(HOSTED, ALL_AT_ONCE) as (stage, gateway):
        variables = await stage.variables(VALUES)
        sizes = Sizes(gateway, fired)
        gateway.choose = sizes.choose
        responses = await stage.client.responses.generate_many(
            template_variables=variables, experiment=stage.experiment
        )
        ratings = await stage.client.ratings.rate_many(responses)

        assert [response.response_str for response in responses] == ANSWERS
        assert len(ratings.succeeded) == ROWS
        assert set(stage.model.answered.values()) == {1}
        assert any("response_ids" in target for target in sizes.asked)


@pytest.mark.row(128)
async def test_ratings_over_the_cap(fired: Fired) -> None:
    """No row says which ratings are new: those are unknown, and the next chunks are smaller."""
    options = ALL_AT_ONCE.replace(chunk_size=ROWS // 2)
    async with behind_gateway(WireProfile(), options) as (stage, gateway):
        await stage.client.criteria.add_many(
            ["Is it right? " + "y" * 3 * LENGTH], prompt_template=stage.template
        )
        responses = await stage.client.responses.generate_many(
            template_variables=await stage.variables(VALUES), experiment=stage.experiment
        )
        sizes = Sizes(gateway, fired)
        gateway.choose = sizes.choose
        ratings = await stage.client.ratings.rate_many(responses)

        assert list(ratings.failed) == list(range(ROWS // 2))
        assert all(isinstance(e, OutcomeUnknownError) for e in ratings.failed.values())
        assert "over 262144 bytes" in ratings.failed[0].text
        assert max(sizes.of_statuses[1:]) <= CAP


@pytest.mark.row(128)
async def test_what_is_over_the_cap_is_asked_for_once(fired: Fired) -> None:
    """The same question gets the same answer."""
    body = b'"' + b"x" * CAP + b'"'
    async with serving(replies(reply(200, body))) as (server, transport):
        error = await failing(transport.send(GET, budget(max_attempts=3)))
        fired()

        assert type(error) is AnswerTooLargeError
        assert error.attempts == len(server.requests) == 1
