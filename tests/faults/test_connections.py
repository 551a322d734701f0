"""Connections that are not made, or that end early: nothing is lost, nothing is done twice."""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from elluminate_async import (
    APIError,
    AsyncClient,
    BatchOptions,
    ConnectError,
    OutcomeUnknownError,
    PromptResponse,
    ServerError,
    ServiceUnavailableError,
)
from elluminate_async.server import WireProfile
from elluminate_async.testing import VIRTUAL_TIME
from elluminate_async.testing.raw import Connection, RawServer, Received, replies, reply
from tests.faults.gateway import HOSTED, SETTLING, Gateway, behind_gateway, in_turn, is_post
from tests.flow.conftest import staged
from tests.matrix import Fired
from tests.transport.test_http_faults import certificate
from tests.transport.wiring import (
    GET,
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


INTERIM = (
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n"
)


@pytest.mark.row(16)
async def test_interim_answers_are_skipped(fired: Fired) -> None:
    """100 and 103 precede every answer of a batch, its streams' too, and are not them."""

    async def preceded(received: Received, connection: Connection) -> bytes:
        fired()
        await connection.send(INTERIM)
        return await gateway.passed(received)

    async with behind_gateway() as (stage, gateway):
        gateway.choose = lambda received: preceded
        responses = await stage.generate([f"v{i}" for i in range(10)])

    assert [r.response_str for r in responses] == [f"echo say v{i}" for i in range(10)]
    assert len(gateway.posts()) == 5


# --- connections that are not made


Resolve = Callable[[str, int], list[tuple[socket.AddressFamily, tuple[Any, ...]]]]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, Resolve]:
    """What names resolve to in this test; all others as ever."""
    known: dict[str, Resolve] = {}
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host not in known:
            return real(host, port, *args, **kwargs)
        return [
            (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address)
            for family, address in known[host](host, port)
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return known


def to(address: str, port: int) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return family, (address, port, 0, 0) if family == socket.AF_INET6 else (address, port)


def refusing() -> int:
    """A port where nothing listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@pytest.fixture
def closed_port() -> Generator[int]:
    """A port that nobody listens at, and that nobody can take meanwhile."""
    with nobody_listens() as bound:
        yield bound.getsockname()[1]


BROADCAST = "255.255.255.255"
"""An address that no machine has a route for a connection to."""


@pytest.mark.row(19)
@pytest.mark.parametrize("kind", ["refused", "unreachable", "no such name"])
async def test_a_service_that_cannot_be_reached(
    kind: str, names: dict[str, Resolve], closed_port: int, fired: Fired
) -> None:
    """No byte was sent: a POST is tried again for `retry_for`, and nothing is in doubt."""

    def resolve(host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[Any, ...]]]:
        fired()
        if kind == "no such name":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [to("127.0.0.1" if kind == "refused" else BROADCAST, port)]

    names["service.localhost"] = resolve
    async with transport_to(f"http://service.localhost:{closed_port}") as transport:
        error = await failing(transport.send(POST, budget(retry_for=1.0)))
        once = await failing(transport.send(POST, budget(retry_for=0)))

    assert type(error) is ServiceUnavailableError
    assert not error.ambiguous
    assert error.attempts >= 2
    assert type(once) is ConnectError
    assert (once.sent, once.ambiguous, once.attempts) == (False, False, 1)
    assert "http://service.localhost:" in str(error)
    assert "base_url" in str(error)


@pytest.mark.row(19)
@pytest.mark.parametrize("kind", ["refused", "unreachable", "no such name"])
async def test_a_name_that_flaps(
    kind: str, names: dict[str, Resolve], closed_port: int, fired: Fired
) -> None:
    """Every other look-up leads nowhere, and a batch is none the worse; no chunk comes twice."""
    looked = 0

    async with behind_gateway() as (stage, gateway):
        variables = await stage.variables([f"v{i}" for i in range(6)])

        def resolve(host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[Any, ...]]]:
            nonlocal looked
            looked += 1
            if looked % 2 == 0:
                return [to("127.0.0.1", gateway.port)]
            fired()
            if kind == "no such name":
                raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
            return [to(BROADCAST, port) if kind == "unreachable" else to("127.0.0.1", closed_port)]

        names["service.localhost"] = resolve
        async with AsyncClient(
            base_url=f"http://service.localhost:{gateway.port}",
            api_key=stage.server.api_key,
            options=SETTLING.replace(max_concurrency=1),
        ) as client:
            # An address for each connection, and a connection for each exchange.
            gateway.keeps = False
            responses = await client.responses.generate_many(
                template_variables=variables, experiment=stage.experiment
            )

    assert [r.response_str for r in responses] == [f"echo say v{i}" for i in range(6)]
    assert len(gateway.posts()) == 3


@pytest.mark.row(20)
async def test_a_black_hole(fired: Fired) -> None:
    """A listener that accepts nothing: the connect clock ends each attempt, no byte was sent."""
    async with (
        black_hole("127.0.0.1") as port,
        transport_to(f"http://127.0.0.1:{port}") as transport,
    ):
        started = time.monotonic()
        clocks = budget(connect_timeout=0.3, retry_for=1.0)
        error = await failing(transport.send(POST, clocks))
        seconds = time.monotonic() - started
        assert type(error) is ServiceUnavailableError
        fired(times=error.attempts)

    assert not error.ambiguous
    assert error.attempts >= 2
    assert 0.6 <= seconds < 10


@asynccontextmanager
async def black_hole(host: str) -> AsyncGenerator[int]:
    """A port whose backlog is full: what connects hears nothing."""
    family = to(host, 0)[0]
    with socket.socket(family) as listening:
        listening.bind((host, 0))
        listening.listen(0)
        port: int = listening.getsockname()[1]
        fillers = [socket.socket(family) for _ in range(8)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex((host, port))
            yield port
        finally:
            for filler in fillers:
                filler.close()


@pytest.mark.row(30)
@pytest.mark.parametrize("how", ["refuses", "black hole"])
async def test_ipv6_is_dead(
    how: str, names: dict[str, Resolve], closed_port: int, fired: Fired
) -> None:
    """A name of two addresses, the first of which is dead: the second is used, soon."""
    async with behind_gateway() as (stage, gateway), black_hole("::1") as hole:
        port6 = hole if how == "black hole" else closed_port

        def resolve(host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[Any, ...]]]:
            fired()
            return [to("::1", port6), to("127.0.0.1", port)]

        names["service.localhost"] = resolve
        started = time.monotonic()
        async with AsyncClient(
            base_url=f"http://service.localhost:{gateway.port}",
            api_key=stage.server.api_key,
            options=BatchOptions(max_attempts=1, connect_timeout=10),
        ) as client:
            found = await client.collections.get("values")
        seconds = time.monotonic() - started

    assert found.id == stage.collection.id
    assert seconds < 5


# --- connections that end early


class Impatient(Gateway):
    """Resets the connections of chunks while it reads them.

    Attributes:
        shares: Of each such chunk, how much of its body is read before.
    """

    def __init__(self, upstream: str, shares: list[float], fired: Fired) -> None:
        super().__init__(upstream)
        self.shares = shares
        self._fired = fired

    async def _read(self, connection: Connection) -> Received:
        head = await connection.reader.readuntil(b"\r\n\r\n")
        if not self.shares or not re.match(rb"POST .*/batches HTTP", head):
            return await self._read_rest(head, connection)
        found = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        assert found is not None
        await connection.reader.readexactly(int(int(found[1]) * self.shares.pop()))
        self._fired()
        connection.reset()
        raise ConnectionResetError


@pytest.mark.row(22)
@pytest.mark.parametrize("keys", [True, False])
async def test_a_reset_while_a_chunk_is_sent(keys: bool, fired: Fired) -> None:
    """Before or in the midst of a body of megabytes: in doubt, so sent again only under a key."""
    texts = ["x" * 4_000_000 + str(i) for i in range(3)]
    async with staged(WireProfile() if keys else HOSTED) as stage:
        variables = await stage.variables(["a", "b", "c"])
        async with (
            Impatient(stage.server.url, [0.0, 0.5], fired) as gateway,
            AsyncClient(
                base_url=gateway.url,
                api_key=stage.server.api_key,
                options=SETTLING.replace(chunk_size=1, max_concurrency=1),
            ) as client,
        ):
            stored = await client.responses.add_many(
                texts, template_variables=variables, experiment=stage.experiment
            )
        assert gateway.shares == []
        posts = stage.recorder.count("responses/batches$", "POST")
        rows = await stage.client.responses.list(experiment=stage.experiment)

    assert posts == len(rows) == (3 if keys else 1)
    assert sorted(stored.failed) == ([] if keys else [0, 1])
    assert all(type(error) is OutcomeUnknownError for error in stored.failed.values())
    assert all(stored[i].response_str == texts[i] for i in stored.succeeded)


@pytest.mark.row(23)
@pytest.mark.parametrize("processed", [True, False])
async def test_a_kept_connection_that_dies_under_a_chunk(processed: bool, fired: Fired) -> None:
    """Sent once, whether the server had read it or not: rows tell, and absence is no proof."""
    async with behind_gateway() as (stage, gateway):

        async def die(received: Received, connection: Connection) -> None:
            used = [seen.connection for seen in gateway.requests[:-1]]
            assert received.connection in used
            if processed:
                await gateway.passed(received)
            fired()

        gateway.choose = in_turn(is_post, [die])
        responses = await stage.generate(["a", "b"])

    assert len(gateway.posts()) == 1
    assert stage.model.answered == ({"say a": 1, "say b": 1} if processed else {})
    wanted = PromptResponse if processed else OutcomeUnknownError
    assert all(isinstance(outcome, wanted) for outcome in responses.outcomes)
    assert responses.surplus == ()


@pytest.mark.row(23)
async def test_a_kept_connection_that_dies_under_a_question(fired: Fired) -> None:
    """Asked again, and counted: nothing is resent behind the attempts' back."""

    async def die(received: Received, connection: Connection) -> None:
        fired()

    async with serving(replies(OK)) as (server, transport):
        await transport.send(GET, budget())
        scripts = [die, die]
        real = server._script

        async def script(received: Received, connection: Connection) -> bytes | None:
            return await (scripts.pop() if scripts else real)(received, connection)

        server._script = script
        answer = await transport.send(GET, budget(max_attempts=3))

    assert answer.attempts == 3
    assert len(server.requests) == 4
    assert server.requests[0].connection == server.requests[1].connection


# --- proxies


@pytest.mark.row(29)
@pytest.mark.parametrize(
    "proxy_says",
    [
        reply(407, Proxy_Authenticate="Basic"),
        reply(502, b"<html>Bad gateway</html>", Content_Type="text/html"),
        None,
    ],
    ids=["407", "502", "closes"],
)
async def test_proxies_of_the_environment_are_not_used(
    proxy_says: bytes | None, monkeypatch: pytest.MonkeyPatch, fired: Fired, tmp_path: Path
) -> None:
    """Neither for http nor for https: a batch goes through, and the proxy never sees the key."""
    for name in (
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    async with RawServer(replies(proxy_says)) as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
            monkeypatch.setenv(name.lower(), proxy.url)
            fired()
        async with behind_gateway() as (stage, _):
            responses = await stage.generate(["a", "b"])
        async with RawServer(replies(OK), ssl_context=certificate(tmp_path)) as server:
            trusting = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
            url = server.url.replace("127.0.0.1", "localhost")
            async with transport_to(url, ssl_context=trusting) as transport:
                answer = await transport.send(GET, budget())

    assert [r.response_str for r in responses] == ["echo say a", "echo say b"]
    assert answer.status == 200
    assert (proxy.connections, proxy.requests) == (0, [])


@pytest.mark.row(29)
@pytest.mark.parametrize(
    ("says", "kind"),
    [
        (reply(407, b"<html>Log in to the proxy</html>", Content_Type="text/html"), APIError),
        (reply(502, b"<html>Bad gateway</html>", Content_Type="text/html"), ServerError),
    ],
    ids=["407", "502"],
)
async def test_the_page_of_a_proxy_in_between(
    says: bytes, kind: type[APIError], fired: Fired
) -> None:
    """An error of its status that quotes the page."""
    async with serving(replies(says)) as (_, transport):
        error = await failing(transport.send(POST, budget()))
        fired()

    assert type(error) is kind
    assert "<html>" in error.detail
    assert error.ambiguous == (kind is ServerError)
