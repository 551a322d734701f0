"""Answers whose bytes are wrong: to a chunk, to a question, after the work or before it."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable

import anyio
import pytest

from elluminate_async import (
    AnswerTooLargeError,
    AsyncClient,
    BatchOptions,
    Collection,
    ElluminateError,
    OutcomeUnknownError,
    ProtocolError,
    ServiceUnavailableError,
    TransportError,
)
from elluminate_async.testing import VIRTUAL_TIME
from elluminate_async.testing.raw import Connection, Received, Script, reply
from tests.faults.gateway import SETTLING, Gateway, behind_gateway, is_post, is_stream
from tests.faults.spoiled import WAYS, Way
from tests.matrix import Fired
from tests.transport.wiring import all_closed


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


OPTIONS = SETTLING.replace(max_attempts=2, retry_for=1.0)

EACH_ROW = [
    pytest.param(
        ways,
        # As long as a loaded machine may take for an answer that is not spoiled.
        OPTIONS.replace(attempt_timeout=1.0) if row in (24, 25) else OPTIONS,
        marks=pytest.mark.row(row),
        id=str(row),
    )
    for row, ways in WAYS.items()
]


class Spoiler:
    """Spoils the answers to what it is told of.

    Attributes:
        ran: How often each was spoiled.
    """

    def __init__(self, gateway: Gateway, key: Callable[[Received], object], fired: Fired) -> None:
        self.ran = Counter[object]()
        self._gateway = gateway
        self._key = key
        self._fired = fired
        self._ways: dict[object, tuple[Way, bool, float]] = {}
        gateway.choose = self._choose

    def add(self, key: object, way: Way, *, done: bool = True, times: float = math.inf) -> None:
        """Spoil the answers to ``key`` that way; not ``done``: the server is never asked."""
        self._ways[key] = (way, done, times)

    def _choose(self, received: Received) -> Script | None:
        key = self._key(received)
        return self._script if self.ran[key] < self._ways.get(key, (None, 0, 0))[2] else None

    async def _script(self, received: Received, connection: Connection) -> bytes | None:
        key = self._key(received)
        way, done, _ = self._ways[key]
        self.ran[key] += 1
        self._fired()
        unasked = reply(202, b'"a-job-that-nobody-knows"')
        answer = await self._gateway.passed(received) if done else unasked
        return await way(answer, connection)


def first_row(received: Received) -> object:
    """What tells chunks apart: the entry of template variables that its first item is for."""
    if not is_post(received):
        return None
    return json.loads(received.body)["prompt_response_ins"][0]["template_variables_id"]


@pytest.mark.usefixtures("quick_back_off")
@pytest.mark.parametrize(("ways", "options"), EACH_ROW)
async def test_a_chunk_whose_answer_is_spoiled(
    ways: dict[str, Way], options: BatchOptions, fired: Fired
) -> None:
    """Without keys its POST is sent once; rows tell what was done, what has none is unknown."""
    values = [f"v{i}" for i in range(4 * len(ways) + 2)]
    async with behind_gateway() as (stage, gateway):
        variables = await stage.variables(values)
        spoiler = Spoiler(gateway, first_row, fired)
        for number, way in enumerate(ways.values()):
            spoiler.add(variables[4 * number].id, way, done=True)
            spoiler.add(variables[4 * number + 2].id, way, done=False)
        responses = await stage.client.responses.generate_many(
            template_variables=variables,
            experiment=stage.experiment,
            options=options.replace(retry_for=120.0),
        )

        assert len(gateway.posts()) == 2 * len(ways) + 1
        assert list(spoiler.ran.values()) == [1] * 2 * len(ways)
        assert set(stage.model.answered.values()) == {1}
        await stage.client.close()
        await all_closed(gateway)
    assert list(responses.failed) == [i for i in range(4 * len(ways)) if i % 4 > 1]
    for error in responses.failed.values():
        assert type(error) is OutcomeUnknownError
        assert error.attempts == 1
    for position, response in responses.succeeded.items():
        assert response.response_str == f"echo say {values[position]}"
    assert responses.surplus == ()


TOO_LARGE = {"bomb"}
"""Over the client's cap, and so would be the next."""

NOT_ASKED_AGAIN = {*TOO_LARGE, "204", "205", "200 empty", "login page", *WAYS[49]}


@pytest.mark.parametrize(("ways", "options"), EACH_ROW)
async def test_a_question_whose_answer_is_spoiled(
    ways: dict[str, Way], options: BatchOptions, fired: Fired
) -> None:
    """Asked again, a broken one for `retry_for`, an unreadable one up to `max_attempts`."""
    ends: dict[str, Collection | ElluminateError] = {}
    async with (
        behind_gateway() as (stage, gateway),
        AsyncClient(
            base_url=gateway.url, api_key=stage.server.api_key, options=options
        ) as impatient,
    ):
        for number in range(len(ways)):
            await stage.client.collections.create(f"once{number}")

        async def ask(name: str) -> None:
            try:
                ends[name] = await impatient.collections.get(name)
            except ElluminateError as error:
                ends[name] = error

        spoiler = Spoiler(gateway, lambda received: received.target.partition("=")[2], fired)
        async with anyio.create_task_group() as tasks:
            for number, way in enumerate(ways.values()):
                spoiler.add(f"once{number}", way, times=1)
                spoiler.add(f"ever{number}", way)
                tasks.start_soon(ask, f"once{number}")
                tasks.start_soon(ask, f"ever{number}")
        await impatient.close()
        await stage.client.close()
        await all_closed(gateway)
    for number, name in enumerate(ways):
        once, ever = ends[f"once{number}"], ends[f"ever{number}"]
        assert isinstance(ever, TransportError | ServiceUnavailableError)
        assert ever.attempts == spoiler.ran[f"ever{number}"]
        assert len(str(ever)) < 700
        if name in NOT_ASKED_AGAIN:
            assert ever.attempts == 1
        elif isinstance(ever, ProtocolError):
            assert ever.attempts == options.max_attempts
        else:
            assert ever.attempts >= 2
        if name in TOO_LARGE:
            assert type(once) is AnswerTooLargeError
        elif name in NOT_ASKED_AGAIN:
            assert type(once) is ProtocolError
        else:
            assert isinstance(once, Collection)
            assert once.name == f"once{number}"


@pytest.mark.row(48)
async def test_an_answer_of_another_type_that_is_json(fired: Fired) -> None:
    """A body that parses is taken, whatever its header calls it; one that does not is quoted."""

    async def relabelled(received: Received, connection: Connection) -> bytes:
        fired()
        answer = await gateway.passed(received)
        return answer.replace(b"application/json", b"text/html")

    async with behind_gateway() as (stage, gateway):
        gateway.choose = lambda received: None if is_stream(received) else relabelled
        responses = await stage.generate(["a", "b", "c"])

    assert [r.response_str for r in responses] == ["echo say a", "echo say b", "echo say c"]


@pytest.mark.row(48)
async def test_a_login_page_is_quoted(fired: Fired) -> None:
    """The error shows its beginning, of 200 characters, and never the key that it may echo."""
    async with behind_gateway() as (stage, gateway):

        async def page(received: Received, connection: Connection) -> bytes:
            fired()
            key = received.headers["x-api-key"]
            body = f"<html>Sign in, {key}</html>".encode() + b"x" * 1000
            return reply(200, body, Content_Type="text/html")

        gateway.choose = lambda received: page
        with pytest.raises(ProtocolError, match="<html>Sign in") as caught:
            await stage.client.collections.get("values")

    assert "x" * 100 in str(caught.value)
    assert "x" * 200 not in str(caught.value)
    assert stage.server.api_key not in str(caught.value)
