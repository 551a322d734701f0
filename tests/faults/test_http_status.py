"""What a status does to a batch: who waits, what is sent again, which item it is the error of."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable

import pytest
from starlette.types import Send

from elluminate_async import (
    APIError,
    AuthenticationError,
    BatchOptions,
    OutcomeUnknownError,
    PermissionDeniedError,
    RedirectError,
    ServerError,
    ServiceUnavailableError,
)
from elluminate_async.operations import run_keys
from elluminate_async.operations.jobs import MOST_DENIED
from elluminate_async.testing import VIRTUAL_TIME
from elluminate_async.testing.raw import Connection, RawServer, Received, Script, replies, reply
from tests.faults.gateway import HOSTED, SETTLING, Choose, behind_gateway, is_post
from tests.flow.bench import Fault, Seen, answer, is_batch
from tests.flow.conftest import staged
from tests.matrix import Fired
from tests.transport.wiring import GET, OK, POST, budget, failing, serving


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


VALUES = [f"v{i}" for i in range(18)]


def echoes(values: list[str]) -> list[str]:
    return [f"echo say {value}" for value in values]


class Statuses:
    """Answers the first chunks with these, one each; what is ``left`` was not used."""

    def __init__(self, fired: Fired, answers: list[tuple[int, bytes, dict[str, str]]]) -> None:
        self.left = list(answers)
        self._fired = fired

    async def __call__(self, seen: Seen, send: Send) -> bool:
        if not is_batch(seen) or not self.left:
            return False
        status, body, headers = self.left.pop(0)
        self._fired()
        await answer(send, status, body, headers)
        return True


APP_JSON = json.dumps({"detail": "Service is busy, try again"}).encode()
PROXY_TEXT = b"upstream connect error or disconnect/reset before headers. reset reason: overflow"
SERVER_ERRORS: dict[int, list[tuple[int, bytes, dict[str, str]]]] = {
    6: [(503, APP_JSON, {"retry-after": "0"}), (503, APP_JSON, {"retry-after": "1"})],
    7: [(503, PROXY_TEXT, {"content-type": "text/plain"})],
    8: [(status, b"<html>oops</html>", {}) for status in (500, 502, 504, *range(520, 525))],
    9: [(408, b"", {})],
}


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param(given, marks=pytest.mark.row(row), id=str(row))
        for row, given in SERVER_ERRORS.items()
    ],
)
@pytest.mark.parametrize("processed", [True, False])
async def test_a_chunk_that_may_have_been_processed(
    answers: list[tuple[int, bytes, dict[str, str]]], processed: bool, fired: Fired
) -> None:
    """Sent once, whatever the answer says: its rows tell, and what has none is unknown."""
    async with staged(HOSTED, SETTLING) as stage:
        spoil = Statuses(fired, answers)
        if processed:
            stage.recorder.after = spoil
        else:
            stage.recorder.before = spoil
        responses = await stage.generate(VALUES)

        assert not spoil.left
        assert stage.recorder.count("responses/batches$", "POST") == len(VALUES) // 2
        assert set(stage.model.answered.values()) == {1}
        rows = await stage.client.responses.list(experiment=stage.experiment)
    unknown = 0 if processed else 2 * len(answers)
    assert len(responses.failed) == unknown
    assert len(rows) == len(VALUES) - unknown
    for error in responses.failed.values():
        assert type(error) is OutcomeUnknownError
        assert error.status in {status for status, _, _ in answers}
        assert error.attempts == 1
    for position, response in responses.succeeded.items():
        assert response.response_str == f"echo say {VALUES[position]}"
    assert responses.surplus == ()


@pytest.mark.row(8)
@pytest.mark.parametrize("status", [500, 502, 504, *range(520, 525)])
async def test_a_question_that_the_service_fails_at(status: int, fired: Fired) -> None:
    """Asked again: a plain 500 within the attempts, others for `retry_for`; then its error."""
    async with serving(replies(reply(status), reply(status), OK)) as (server, transport):
        asked = await transport.send(GET, budget())
        fired(times=2)
    async with serving(replies(reply(status))) as (failing_server, transport):
        patience = 120.0 if status == 500 else 1.0
        error = await failing(transport.send(GET, budget(retry_for=patience)))
        fired(times=len(failing_server.requests))

    assert (asked.status, asked.attempts, len(server.requests)) == (200, 3, 3)
    assert isinstance(error, ServerError | ServiceUnavailableError)
    assert error.attempts == len(failing_server.requests)
    assert str(status) in str(error)
    if status == 500:
        assert type(error) is ServerError
        assert error.attempts == 3
    else:
        assert type(error) is ServiceUnavailableError
        assert error.attempts >= 2


@pytest.mark.row(9)
@pytest.mark.parametrize("status", [421, 425])
async def test_what_was_refused_for_how_it_came(status: int, fired: Fired) -> None:
    """Sent once more, after a while and on a new connection; the second refusal is final."""
    async with serving(replies(OK, reply(status), OK)) as (server, transport):
        await transport.send(GET, budget())
        answered = await transport.send(POST, budget())
        fired()
    async with serving(replies(reply(status))) as (refusing, transport):
        error = await failing(transport.send(POST, budget()))
        fired()

    connections = [seen.connection for seen in server.requests]
    assert answered.attempts == 2
    assert connections[0] == connections[1] != connections[2]
    assert isinstance(error, APIError)
    assert (error.ambiguous, error.attempts, len(refusing.requests)) == (False, 2, 2)


REFUSALS = [400, 404, 405, 413, 414, 415, 422]
DETAILS = [
    [{"loc": ["body", 0], "msg": "bad"}],
    {"why": "bad"},
]


@pytest.mark.row(10)
async def test_what_is_refused_is_its_items_error(fired: Fired) -> None:
    """Each status with a list and with an object as its detail: one sending, own error."""
    refusals = [(status, detail) for status in REFUSALS for detail in DETAILS]
    values = [f"v{i}" for i in range(len(refusals) + 2)]
    async with staged(options=BatchOptions(chunk_size=1)) as stage:
        variables = await stage.variables(values)
        refused_by_key: dict[str, tuple[int, object]] = {}

        async def refuse(seen: Seen, send: Send) -> bool:
            if not is_batch(seen) or not refusals:
                return False
            status, detail = refusals.pop()
            fired()
            refused_by_key[seen.headers["idempotency-key"]] = status, detail
            await answer(send, status, json.dumps({"detail": detail}).encode())
            return True

        stage.recorder.before = refuse
        responses = await stage.client.responses.generate_many(
            template_variables=variables, experiment=stage.experiment
        )
        posts = [seen for seen in stage.recorder.requests if is_batch(seen)]

    assert len(posts) == len(values)
    assert len(responses.succeeded) == 2
    shown = Counter(
        (error.status, error.code, error.attempts) for error in responses.failed.values()
    )
    assert shown == Counter({(status, f"http_{status}", 1): 2 for status in REFUSALS})
    for error in responses.failed.values():
        assert not isinstance(error, OutcomeUnknownError)
        assert any(json.dumps(detail) in error.text for detail in DETAILS)


@pytest.mark.row(10)
async def test_a_chunk_that_is_too_large_is_split(fired: Fired) -> None:
    """413 for a chunk of ten: both its halves are taken, and no half is sent twice."""
    sizes: list[int] = []
    async with staged(options=BatchOptions(chunk_size=10)) as stage:

        async def refuse(seen: Seen, send: Send) -> bool:
            if not is_batch(seen):
                return False
            sizes.append(int(seen.headers["content-length"]))
            if sizes[-1] > 1000:
                fired()
                await answer(send, 413)
                return True
            return False

        stage.recorder.before = refuse
        responses = await stage.generate([f"v{i}" for i in range(10)])

    assert [r.response_str for r in responses] == echoes([f"v{i}" for i in range(10)])
    assert len(sizes) == 3
    assert max(sizes[1:]) < 1000 < sizes[0]


@pytest.mark.row(11)
async def test_a_key_revoked_midway(fired: Fired) -> None:
    """401: no more than the window is still sent, it is raised, what had arrived is kept."""
    window = 4
    values = [f"v{i}" for i in range(60)]
    async with staged(options=BatchOptions(chunk_size=2, max_concurrency=window)) as stage:
        variables = await stage.variables(values)
        revoked: list[Seen] = []

        async def revoke(seen: Seen, send: Send) -> bool:
            if stage.model.answered.total() < 20:
                return False
            revoked.append(seen)
            fired()
            await answer(send, 401, b'{"detail": "revoked"}')
            return True

        stage.recorder.before = revoke
        with pytest.raises(AuthenticationError, match="revoked") as caught:
            await stage.client.responses.generate_many(
                template_variables=variables, experiment=stage.experiment
            )

    partial = caught.value.partial
    assert len(partial) == 60
    # What asks for the end of a job is no more work.
    assert 1 <= sum(seen.method != "DELETE" for seen in revoked) <= window
    assert partial.succeeded
    for position, response in partial.succeeded.items():
        assert response.response_str == f"echo say {values[position]}"
    codes = Counter(error.code for error in partial.failed.values())
    assert set(codes) <= {"http_401", "not_sent", "outcome_unknown"}
    assert codes["not_sent"] >= 60 - 20 - 2 * 2 * window


def denying(about: Callable[[int], bool], fired: Fired) -> Choose:
    """403 for the chunks with an entry of template variables that this is about."""

    async def deny(received: Received, connection: Connection) -> bytes:
        fired()
        return reply(403, b'{"detail": "not yours"}')

    def choose(received: Received) -> Script | None:
        if not is_post(received):
            return None
        items = json.loads(received.body)["prompt_response_ins"]
        return deny if any(about(item["template_variables_id"]) for item in items) else None

    return choose


@pytest.mark.row(12)
@pytest.mark.parametrize("position", [0, 13, 29])
async def test_an_item_that_the_key_may_not_use(position: int, fired: Fired) -> None:
    """403 for the chunks that hold it: it fails alone, in a few more requests."""
    values = [f"v{i}" for i in range(30)]
    async with behind_gateway(options=BatchOptions(chunk_size=10)) as (stage, gateway):
        variables = await stage.variables(values)
        gateway.choose = denying(variables[position].id.__eq__, fired)
        responses = await stage.client.responses.generate_many(
            template_variables=variables, experiment=stage.experiment
        )

    assert list(responses.failed) == [position]
    assert responses.failed[position].code == "http_403"
    assert "not yours" in responses.failed[position].text
    assert set(stage.model.answered.values()) == {1}
    assert len(gateway.posts()) <= 3 + 2 * 4


@pytest.mark.row(12)
async def test_a_key_that_may_not_do_it_at_all(fired: Fired) -> None:
    """403 for every chunk is true of all items: raised itself, after a few requests."""
    options = BatchOptions(chunk_size=10, max_concurrency=2)
    async with behind_gateway(options=options) as (stage, gateway):
        variables = await stage.variables([f"v{i}" for i in range(200)])
        gateway.choose = denying(lambda _: True, fired)
        with pytest.raises(PermissionDeniedError, match="not yours"):
            await stage.client.responses.generate_many(
                template_variables=variables, experiment=stage.experiment
            )

    assert len(gateway.posts()) <= MOST_DENIED + options.max_concurrency


@pytest.mark.row(13)
async def test_a_key_that_is_in_flight(fired: Fired) -> None:
    """409 with a time: waited for, and sent again under the same key; the work is done once."""
    busy = (409, b'{"detail": "in flight"}', {"retry-after": "0.1"})
    async with staged(options=BatchOptions(chunk_size=9, max_attempts=2)) as stage:
        stage.recorder.after = told = Statuses(fired, [busy, busy, busy])
        responses = await stage.generate(VALUES)
        posts = Counter(
            seen.headers["idempotency-key"] for seen in stage.recorder.requests if is_batch(seen)
        )

    assert not told.left
    assert [r.response_str for r in responses] == echoes(VALUES)
    assert len(posts) == 2
    assert posts.total() == 5
    assert set(stage.model.answered.values()) == {1}


@pytest.mark.row(13)
async def test_a_name_that_somebody_took_meanwhile(fired: Fired) -> None:
    """409 for a name that was free a moment ago: the object of that name is got instead."""
    async with staged() as stage:
        other = await stage.client.collections.create("taken")
        stage.recorder.requests.clear()
        found, created = await stage.client.collections.get_or_create("taken")
        fired(times=stage.recorder.count("collections$", "POST"))

        assert [seen.method for seen in stage.recorder.requests] == ["POST", "GET"]
    assert (found.id, created) == (other.id, False)


@pytest.mark.row(13)
async def test_a_key_that_was_used_for_something_else(
    fired: Fired, monkeypatch: pytest.MonkeyPatch
) -> None:
    """422: the service's words in each item's error; no item gets the other body's result."""
    async with staged(options=BatchOptions(chunk_size=1, max_concurrency=1)) as stage:
        variables = await stage.variables(["a", "b"])
        monkeypatch.setattr(run_keys, "new_key", lambda: "one-key-for-all")
        responses = await stage.client.responses.generate_many(
            template_variables=variables, experiment=stage.experiment
        )
        fired(times=len(responses.failed))

    assert responses[0].response_str == "echo say a"
    assert list(responses.failed) == [1]
    assert responses.failed[1].code == "http_422"
    assert "another" in responses.failed[1].text
    assert stage.model.answered == {"say a": 1}


@pytest.mark.row(14)
async def test_a_redirect_to_another_origin(fired: Fired) -> None:
    """Of a chunk, of its job's stream and status: the other server sees nothing of it."""
    statuses = [301, 302, 303, 307, 308]
    async with RawServer(replies(OK)) as other, staged(HOSTED, SETTLING) as stage:
        redirects = [
            (status, b"", {"location": f"{other.url}/elsewhere?x={status}"}) for status in statuses
        ]
        stage.recorder.after = posts = Statuses(fired, redirects)
        left = list(redirects)

        async def redirect(seen: Seen, send: Send) -> bool:
            if not left or not seen.path.endswith("/stream"):
                return False
            fired()
            await answer(send, *left.pop())
            return True

        stage.recorder.before = redirect
        responses = await stage.generate([f"v{i}" for i in range(20)])
        stage.recorder.before = always(fired, *redirects[0])
        with pytest.raises(RedirectError, match="base_url"):
            await stage.client.collections.list()

        assert (posts.left, left) == ([], [])
        assert stage.recorder.count("responses/batches$", "POST") == 10
    assert [r.response_str for r in responses] == echoes([f"v{i}" for i in range(20)])
    assert set(stage.model.answered.values()) == {1}
    assert (other.connections, other.requests) == (0, [])


def always(fired: Fired, status: int, body: bytes, headers: dict[str, str]) -> Fault:
    async def fault(seen: Seen, send: Send) -> bool:
        fired()
        await answer(send, status, body, headers)
        return True

    return fault


@pytest.mark.row(18)
@pytest.mark.parametrize("processed", [True, False])
async def test_no_job_for_a_chunk(processed: bool, fired: Fired) -> None:
    """``null`` for a job's id: one look for rows, no second sending, else the item's own error."""
    async with staged(HOSTED, SETTLING) as stage:
        null = Statuses(fired, [(202, b"null", {})])
        if processed:
            stage.recorder.after = null
        else:
            stage.recorder.before = null
        responses = await stage.generate(VALUES)

        assert stage.recorder.count("responses/batches$", "POST") == len(VALUES) // 2
    assert len(responses) == len(VALUES)
    assert len(responses.failed) == (0 if processed else 2)
    for error in responses.failed.values():
        assert (error.code, error.operation) == ("outcome_unknown", "generate")
        assert "no job" in error.text
    assert set(stage.model.answered.values()) == {1}
