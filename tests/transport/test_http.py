"""One logical request over a real socket: what is sent, and how often."""

from __future__ import annotations

import asyncio
import json

import anyio
import pytest

from elluminate_async.config import Settings
from elluminate_async.errors import NotFoundError, RejectedError, ServerError
from elluminate_async.limits.limits import Limits
from elluminate_async.testing.clock import VIRTUAL_TIME
from elluminate_async.testing.raw import RawServer, replies, reply
from elluminate_async.transport.exchange import Request
from elluminate_async.transport.http import HttpTransport
from tests.transport.wiring import (
    GET,
    KEY,
    KEYED,
    OK,
    POST,
    budget,
    failing,
    nobody_listens,
    serving,
    transport_to,
)


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


# --- what is sent


async def test_a_request_as_it_is_sent() -> None:
    """Method, quoted path, repeated query keys, body and headers; the key is one of them."""
    request = Request(
        "POST",
        ["api", "a/b", "../x", "1?y=2", "ü", 7],
        query=[("id", "1"), ("id", "2"), ("q", "a b&c")],
        body=b'{"a": 1}',
    )
    async with serving(replies(OK)) as (server, transport):
        answer = await transport.send(request, budget())

    assert json.loads(answer.body) == {"fine": True}
    assert (answer.status, answer.attempts) == (200, 1)
    seen = server.requests[0]
    assert seen.method == "POST"
    assert seen.path == "/api/a%2Fb/..%2Fx/1%3Fy%3D2/%C3%BC/7"
    assert seen.target.partition("?")[2] in ("id=1&id=2&q=a+b%26c", "id=1&id=2&q=a%20b%26c")
    assert seen.body == b'{"a": 1}'
    assert seen.headers["content-type"] == "application/json"
    assert seen.headers["x-api-key"] == KEY
    assert seen.headers["sdk-version"] == "1.5.2"
    assert "authorization" not in seen.headers
    assert "idempotency-key" not in seen.headers
    assert "cookie" not in seen.headers


async def test_a_token_is_sent_as_a_bearer() -> None:
    """Instead of the key, never beside it."""
    async with RawServer(replies(OK)) as server:
        settings = Settings.resolve(base_url=server.url, token="t0ken", environment={})
        transport = HttpTransport(settings, limits=Limits(1, None), connections=1)
        await transport.send(GET, budget())
        await transport.close()

    assert server.requests[0].headers["authorization"] == "Bearer t0ken"
    assert "x-api-key" not in server.requests[0].headers


async def test_a_path_prefix_is_kept() -> None:
    """A service below a prefix is reached there."""
    async with RawServer(replies(OK)) as server, transport_to(f"{server.url}/p/q/") as transport:
        await transport.send(GET, budget())

    assert server.requests[0].target == "/p/q/api/things"


async def test_cookies_are_not_kept() -> None:
    """A load balancer's cookie does not tie requests together."""
    async with serving(replies(reply(200, Set_Cookie="a=b; Path=/"))) as (server, transport):
        await transport.send(GET, budget())
        await transport.send(GET, budget())

    assert "cookie" not in server.requests[1].headers


async def test_a_connection_is_used_again() -> None:
    """Five requests after one another are one connection."""
    async with serving(replies(OK)) as (server, transport):
        for _ in range(5):
            await transport.send(POST, budget())

    assert server.connections == 1


# --- how often


async def test_a_post_goes_through_once_the_port_opens() -> None:
    """What was refused before a byte left is repeated, for a POST too."""
    server = RawServer(replies(OK))
    with nobody_listens() as bound:
        async with transport_to(f"http://127.0.0.1:{bound.getsockname()[1]}") as transport:
            sending = asyncio.ensure_future(transport.send(POST, budget(max_attempts=1000)))
            await anyio.sleep(0.05)
            listening = await asyncio.start_server(server._serve, sock=bound)
            answer = await sending
            listening.close()

    assert answer.attempts > 1
    assert len(server.requests) == 1


async def test_a_post_answered_503_is_sent_once() -> None:
    """It may have been applied: `ambiguous`, and no second sending."""
    async with serving(replies(reply(503, b"upstream connect error"))) as (server, transport):
        error = await failing(transport.send(POST, budget()))

    assert type(error) is ServerError
    assert (error.status, error.detail, error.attempts) == (503, "upstream connect error", 1)
    assert error.ambiguous
    assert len(server.requests) == 1


async def test_a_keyed_post_is_repeated_under_its_key() -> None:
    """Where the service honours keys, each sending carries the same one."""
    async with serving(replies(reply(503), reply(500), OK)) as (server, transport):
        answer = await transport.send(KEYED, budget())

    assert answer.attempts == 3
    assert [seen.headers["idempotency-key"] for seen in server.requests] == ["key-1"] * 3
    assert len({(seen.target, seen.body) for seen in server.requests}) == 1


async def test_a_key_that_is_not_honoured_changes_nothing() -> None:
    """The header is sent, and the POST is not repeated."""
    request = Request("POST", ["x"], body=b"{}", idempotency_key="key-1")
    async with serving(replies(reply(503))) as (server, transport):
        error = await failing(transport.send(request, budget()))

    assert error.ambiguous
    assert [seen.headers["idempotency-key"] for seen in server.requests] == ["key-1"]


@pytest.mark.parametrize("max_attempts", [1, 2, 4])
async def test_max_attempts_is_the_number_of_requests(max_attempts: int) -> None:
    """An endless 500 costs exactly that many, on one retry layer."""
    async with serving(replies(reply(500))) as (server, transport):
        error = await failing(transport.send(GET, budget(max_attempts=max_attempts)))

    assert isinstance(error, ServerError)
    assert error.attempts == max_attempts
    assert len(server.requests) == max_attempts


async def test_a_rejection_is_not_ambiguous() -> None:
    """Status, words, request id and place are in the error; it was sent once."""
    body = b'{"detail": "epoch must be positive", "more": [1]}'
    async with serving(replies(reply(422, body, X_Request_Id="r-7"))) as (server, transport):
        error = await failing(transport.send(POST, budget()))

    assert type(error) is RejectedError
    assert not error.ambiguous
    assert (error.detail, error.request_id) == ("epoch must be positive", "r-7")
    assert (error.method, error.path) == ("POST", "/api/things")
    assert error.body == {"detail": "epoch must be positive", "more": [1]}
    assert len(server.requests) == 1


async def test_a_rejection_after_an_ambiguous_attempt_stays_ambiguous() -> None:
    """503 and then 404: the first sending may have been applied all the same."""
    async with serving(replies(reply(503), reply(404))) as (_, transport):
        error = await failing(transport.send(KEYED, budget()))

    assert type(error) is NotFoundError
    assert error.attempts == 2
    assert error.ambiguous


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "no detail given"),
        (b"<html>sorry</html>", "<html>sorry</html>"),
        (b'{"detail": [{"loc": ["a"], "msg": "bad"}]}', '[{"loc": ["a"], "msg": "bad"}]'),
        (b'{"detail": {"why": "x"}}', '{"why": "x"}'),
        (b'{"other": 1}', '{"other": 1}'),
        (b"[1, 2]", "[1, 2]"),
        (b"[" * 200_000, "[" * 200),
        (b"9" * 6000, "9" * 200),
        (b"\xff\xfe", "\ufffd\ufffd"),
    ],
)
async def test_an_errors_body_may_be_anything(body: bytes, detail: str) -> None:
    """A detail of any shape, a page of HTML, garbage: always an `APIError` with an excerpt."""
    async with serving(replies(reply(400, body))) as (_, transport):
        error = await failing(transport.send(POST, budget()))

    assert type(error) is RejectedError
    assert error.detail == detail
