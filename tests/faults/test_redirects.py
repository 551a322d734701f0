"""Redirects: a GET follows a few within its origin; nothing else is led anywhere."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from elluminate_async.batch import RateLimit
from elluminate_async.errors import ElluminateError, RedirectError
from elluminate_async.testing import VIRTUAL_TIME
from elluminate_async.testing.raw import Connection, RawServer, Received, Script, reply
from elluminate_async.transport.exchange import Request
from tests.matrix import Fired
from tests.transport.test_http_faults import certificate
from tests.transport.wiring import (
    GET,
    HEAD,
    KEY,
    KEYED,
    OK,
    POST,
    budget,
    failing,
    serving,
    then_close,
    transport_to,
)


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


pytestmark = pytest.mark.row(15)


def leading(fired: Fired, places: dict[str, str], status: int = 307) -> Script:
    """Redirects from the paths that are keys; anything else is answered."""

    async def script(received: Received, connection: Connection) -> bytes:
        if (where := places.get(received.target)) is None:
            return OK
        fired()
        return reply(status, b"", Location=where)

    return script


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_get_follows_within_its_origin(status: int, fired: Fired) -> None:
    """Relative or absolute, with another query; the key goes along, and it is one attempt."""
    places = {"/api/things": "elsewhere?a=b%26c", "/api/elsewhere?a=b%26c": "/third#part"}
    async with serving(leading(fired, places, status)) as (server, transport):
        places["/third"] = f"{server.url}/fourth"
        answer = await transport.send(GET, budget())

    assert (answer.status, answer.attempts) == (200, 1)
    targets = [seen.target for seen in server.requests]
    assert targets == ["/api/things", "/api/elsewhere?a=b%26c", "/third", "/fourth"]
    assert {seen.headers["x-api-key"] for seen in server.requests} == {KEY}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("request_", [POST, KEYED], ids=["POST", "keyed"])
async def test_a_post_is_never_led_on(status: int, request_: Request, fired: Fired) -> None:
    """Not even within the origin and under a key: sent once, and what became of it is unknown."""
    async with serving(leading(fired, {"/api/things": "/other"}, status)) as (server, transport):
        error = await failing(transport.send(request_, budget()))

    assert type(error) is RedirectError
    assert error.ambiguous
    assert [seen.target for seen in server.requests] == ["/api/things"]


@pytest.mark.parametrize(
    ("places", "sent", "words"),
    [
        ({"/api/things": "/api/things"}, 1, "in a circle"),
        ({"/api/things": "/b", "/b": "/api/things"}, 2, "in a circle"),
        ({"/api/things": "/b", "/b": "/c", "/c": "/d", "/d": "/e"}, 4, "more than 3 times"),
        ({"/api/things": ""}, 1, "no address"),
        ({"/api/things": "http://["}, 1, "no address"),
        ({"/api/things": "mailto:a@b"}, 1, "no address"),
        ({"/api/things": "//127.0.0.2/x"}, 1, "http://127.0.0.2:80"),
        ({"/api/things": "//localhost/x"}, 1, "another origin"),
        ({"/api/things": "//user:word@127.0.0.1/x"}, 1, "no address"),
    ],
)
async def test_where_a_get_is_not_led(
    places: dict[str, str], sent: int, words: str, fired: Fired
) -> None:
    """Circles, long ways, other hosts and ports, credentials, garbage: typed, and not repeated."""
    async with serving(leading(fired, places)) as (server, transport):
        error = await failing(transport.send(GET, budget()))

    assert type(error) is RedirectError
    assert words in str(error)
    assert "base_url" in str(error)
    assert "word@" not in str(error)
    assert len(server.requests) == sent


async def test_from_https_to_http(tmp_path: Path, fired: Fired) -> None:
    """On the same host: the key would travel in the clear."""
    context = certificate(tmp_path)
    trusting = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    trusting.check_hostname = False
    places: dict[str, str] = {}
    async with (
        RawServer(leading(fired, {})) as plain,
        RawServer(leading(fired, places), ssl_context=context) as server,
        transport_to(server.url, ssl_context=trusting) as transport,
    ):
        places["/api/things"] = plain.url
        error = await failing(transport.send(GET, budget()))

    assert type(error) is RedirectError
    assert plain.connections == 0


async def test_a_streams_opening_is_led_on(fired: Fired) -> None:
    """Within the origin, as any GET; elsewhere it is refused."""

    async def script(received: Received, connection: Connection) -> bytes | None:
        if received.target == "/stream":
            return await then_close(HEAD + b"data: 1\n\n")(received, connection)
        fired()
        where = "/stream" if received.target == "/api/things" else "http://127.0.0.2/"
        return reply(307, b"", Location=where)

    async with serving(script) as (server, transport):
        async with transport.stream(GET, budget()) as events:
            seen = [event.data async for event in events]
        with pytest.raises(ElluminateError) as caught:
            async with transport.stream(Request("GET", ["elsewhere"]), budget()):
                pass

    assert seen == ["1"]
    assert type(caught.value) is RedirectError
    assert len(server.requests) == 3


async def test_each_step_waits_for_its_own_window(fired: Fired) -> None:
    """A redirect is a request, and the rate limit counts requests."""
    places = {"/api/things": "/b", "/b": "/c"}
    arguments = {"rate_limit": RateLimit(1, 0.2)}
    async with serving(leading(fired, places), **arguments) as (server, transport):
        await transport.send(GET, budget())

    first, _, last = server.requests
    assert last.at - first.at >= 0.39
