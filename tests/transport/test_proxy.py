"""Through a forward proxy: a tunnel by CONNECT, and nothing of the caller's in clear."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from elluminate_async import (
    AsyncClient,
    BatchOptions,
    ConfigurationError,
    ConnectError,
    ElluminateError,
    ProxyError,
    ServiceUnavailableError,
)
from elluminate_async.config import Settings
from elluminate_async.limits.limits import Limits
from elluminate_async.server import LocalServer
from elluminate_async.testing import ScriptedService
from elluminate_async.testing.raw import RawServer, replies
from elluminate_async.transport.http import HttpTransport
from elluminate_async.transport.retry import Verdict, verdict_on
from tests.flow.bench import until
from tests.flow.test_secrets import everything_about
from tests.transport.forward_proxy import (
    NAME,
    Certificates,
    ForwardProxy,
    certificates,
    forward_proxy,
    refusal,
    tap,
    tls_in_front_of,
)
from tests.transport.wiring import GET, KEY, OK, POST, budget, failing, nobody_listens

PASSWORD = "canary-p@ss/9c1e"
USER = f"me:{PASSWORD.replace('@', '%40').replace('/', '%2F')}"
TOKEN = base64.b64encode(f"me:{PASSWORD}".encode())
TENANT = "canary-tenant-77"


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("tls"), NAME, "localhost", "127.0.0.1")


@pytest.fixture(autouse=True)
def no_proxies_around(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine's own environment names."""
    for name in ("https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@dataclass(slots=True)
class Way:
    """A service that only the proxy can reach, under a name that only it knows."""

    service: RawServer
    proxy: ForwardProxy
    certified: Certificates

    @asynccontextmanager
    async def transport(self, *, user: str = "", **arguments: Any) -> AsyncGenerator[HttpTransport]:
        arguments = {"proxy": f"http://{user}127.0.0.1:{self.proxy.port}"} | arguments
        settings = Settings.resolve(
            base_url=f"https://{NAME}", api_key=KEY, environment={}, **arguments
        )
        transport = HttpTransport(
            settings, limits=Limits(10, None), connections=10, ssl_context=self.certified.trusting
        )
        try:
            yield transport
        finally:
            await transport.close()


@pytest.fixture
async def way(certified: Certificates) -> AsyncGenerator[Way]:
    async with (
        RawServer(replies(OK), ssl_context=certified.server) as service,
        forward_proxy(leads_to=service.port) as proxy,
    ):
        yield Way(service, proxy, certified)


async def test_a_tunnel_and_nothing_in_clear(way: Way) -> None:
    """The proxy hears a CONNECT with its own credential, then TLS: no key, path or header."""
    headers = {"X-Tenant": TENANT}
    async with way.transport(user=f"{USER}@", default_headers=headers) as transport:
        await transport.send(POST, budget())

    (head,) = way.proxy.heads
    lines = head.decode().rstrip().split("\r\n")
    names = {line.partition(":")[0].lower() for line in lines[1:]}
    assert lines[0] == f"CONNECT {NAME}:443 HTTP/1.1"
    assert f"Proxy-Authorization: Basic {TOKEN.decode()}" in lines
    assert not names & {"x-api-key", "authorization", "x-tenant", "sdk-version"}
    assert way.proxy.tunnelled[:1] == b"\x16"
    for secret in (KEY, TENANT, "things", "X-API-Key"):
        assert secret.encode() not in way.proxy.heard


async def test_the_service_is_told_nothing_of_the_proxy(way: Way) -> None:
    """It gets the key and the caller's own headers, and not what is for the proxy."""
    headers = {"X-Tenant": TENANT, "user-agent": "mine/1"}
    async with way.transport(user=f"{USER}@", default_headers=headers) as transport:
        await transport.send(GET, budget())

    (request,) = way.service.requests
    assert (request.headers["x-api-key"], request.headers["x-tenant"]) == (KEY, TENANT)
    assert request.headers["user-agent"] == "mine/1"
    assert not [name for name in request.headers if name.startswith("proxy")]
    assert TOKEN.decode() not in str(request.headers)


async def test_a_tunnel_is_used_again(way: Way) -> None:
    """One for any number of requests after one another."""
    async with way.transport() as transport:
        for _ in range(3):
            await transport.send(GET, budget())

    assert (len(way.proxy.heads), len(way.service.requests)) == (1, 3)


async def test_tunnels_are_opened_ahead(way: Way) -> None:
    """Those that wait for requests lead through the proxy, and are what the requests take."""
    async with way.transport(user=f"{USER}@") as transport:
        await transport.open_ahead(4, budget())
        heads = len(way.proxy.heads)
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(transport.send, GET, budget())

    assert (heads, len(way.proxy.heads), way.service.connections) == (4, 4, 4)


async def test_a_proxy_behind_tls(certified: Certificates) -> None:
    """TLS in TLS: what is said to an https proxy is not in clear either."""
    async with (
        RawServer(replies(OK), ssl_context=certified.server) as service,
        forward_proxy(leads_to=service.port, tls=certified.server) as proxy,
        tap(proxy.port) as (port, heard),
        Way(service, proxy, certified).transport(
            proxy=f"https://{USER}@localhost:{port}"
        ) as transport,
    ):
        await transport.send(GET, budget())

    assert proxy.heads[0].startswith(f"CONNECT {NAME}:443 ".encode())
    assert TOKEN in proxy.heads[0]
    assert b"CONNECT" not in heard
    assert TOKEN not in heard


Refused = tuple[bytes, int | None, bool, str]

REFUSING: dict[str, Refused] = {
    "407": (refusal(407), 407, False, "asks for a user and a password"),
    "403": (refusal(403), 403, False, f"NO_PROXY={NAME}"),
    "405": (refusal(405), 405, False, "refuses a connection"),
    "429": (refusal(429), 429, True, "refuses a connection"),
    "501": (refusal(501), 501, False, f"has no connection to {NAME}:443"),
    "502": (refusal(502), 502, True, f"has no connection to {NAME}:443"),
    "503": (refusal(503), 503, True, "check that base_url is right"),
    "garbage": (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", None, False, "does not answer as an HTTP proxy"),
    "nothing": (b"", None, True, "closed the connection"),
}


@pytest.mark.parametrize(("answer", "status", "again", "words"), REFUSING.values(), ids=REFUSING)
async def test_a_proxy_that_refuses_is_named(
    way: Way, answer: bytes, status: int | None, again: bool, words: str
) -> None:
    """By its address without the password; nothing was sent, so what passes may be sent again."""
    way.proxy.answer = answer
    async with way.transport(user=f"{USER}@") as transport:
        error = await failing(transport.send(POST, budget(retry_for=0)))

    assert isinstance(error, ProxyError)
    assert f"http://127.0.0.1:{way.proxy.port}" in str(error)
    assert words in str(error)
    assert (error.proxy, error.status) == (f"http://127.0.0.1:{way.proxy.port}", status)
    assert (error.worth_repeating, error.ambiguous) == (again, False)
    assert verdict_on(error) is Verdict.NOT_SENT
    assert not way.service.requests


@pytest.mark.usefixtures("quick_back_off")
@pytest.mark.parametrize("kind", ["refuses", "is busy"])
async def test_what_passes_is_waited_out(way: Way, kind: str) -> None:
    """A 403 ends a request at once; after two of 503 the third attempt has its tunnel."""
    way.proxy.answer = refusal(403 if kind == "refuses" else 503)

    async def recover() -> None:
        await until(lambda: len(way.proxy.heads) == 2)
        way.proxy.answer = None

    async with way.transport() as transport, anyio.create_task_group() as tasks:
        if kind == "refuses":
            error = await failing(transport.send(POST, budget()))
            assert isinstance(error, ProxyError)
            assert error.attempts == len(way.proxy.heads) == 1
        else:
            tasks.start_soon(recover)
            answer = await transport.send(POST, budget())
            assert answer.attempts == len(way.proxy.heads) >= 3
            assert len(way.service.requests) == 1


async def test_a_proxy_that_is_down(way: Way) -> None:
    """The error names it, and not the service as what cannot be reached."""
    with nobody_listens() as sock:
        port: int = sock.getsockname()[1]
        async with way.transport(proxy=f"http://{USER}@127.0.0.1:{port}") as transport:
            error = await failing(transport.send(POST, budget(retry_for=0)))

    assert isinstance(error, ProxyError)
    assert str(error).startswith(f"cannot reach the proxy http://127.0.0.1:{port}: ")
    assert "check that it runs and that proxy= is right" in str(error)
    assert error.worth_repeating


async def test_a_proxy_of_an_unknown_name(way: Way) -> None:
    """So it is where its own name leads nowhere."""
    async with way.transport(proxy="http://no-such-proxy.invalid:3128") as transport:
        error = await failing(transport.send(POST, budget(retry_for=0)))

    assert str(error).startswith("cannot reach the proxy http://no-such-proxy.invalid:3128: ")


async def test_a_proxy_that_says_nothing(way: Way) -> None:
    """The tunnel is on the clock of a connection, not on that of the whole attempt."""
    way.proxy.silent = True
    async with way.transport() as transport:
        policy = budget(retry_for=0, connect_timeout=0.2, attempt_timeout=60.0)
        error = await failing(transport.send(POST, policy))

    assert isinstance(error, ProxyError)
    assert f"made no connection to {NAME}:443 in time" in str(error)


async def test_a_certificate_of_the_service_is_no_fault_of_the_proxys(
    way: Way, tmp_path: Path
) -> None:
    """Another certificate at the end of the tunnel is told as without a proxy."""
    other = certificates(tmp_path, NAME)
    async with Way(way.service, way.proxy, other).transport() as transport:
        error = await failing(transport.send(POST, budget()))

    assert isinstance(error, ConnectError)
    assert not isinstance(error, ProxyError)
    assert "certificate" in str(error)
    assert not way.service.requests


async def test_a_certificate_of_the_proxy(certified: Certificates, tmp_path: Path) -> None:
    """An https proxy with another certificate is named, and told no password."""
    other = certificates(tmp_path, "localhost")
    async with (
        RawServer(replies(OK), ssl_context=certified.server) as service,
        forward_proxy(leads_to=service.port, tls=other.server) as proxy,
        Way(service, proxy, certified).transport(
            proxy=f"https://{USER}@localhost:{proxy.port}"
        ) as transport,
    ):
        error = await failing(transport.send(POST, budget()))

    assert isinstance(error, ProxyError)
    assert "certificate" in str(error)
    assert not error.worth_repeating
    assert proxy.heads == []


async def report_of(transport: HttpTransport, seconds: float) -> str:
    """The report of an error tracker, with the frames from here on."""
    try:
        async with asyncio.timeout(seconds):
            await transport.send(POST, budget(retry_for=0))
    except (ElluminateError, TimeoutError) as error:
        return everything_about(error)
    return ""


@pytest.mark.parametrize("kind", [*REFUSING, "down", "cancelled"])
async def test_the_password_is_nowhere(way: Way, kind: str, log: io.StringIO) -> None:
    """Not in errors, their causes and frames, the log or any repr, also where a proxy says it."""
    shown: list[str] = []
    user = {"user": f"{USER}@"}
    if kind in REFUSING:
        words = f"Basic {TOKEN.decode()} {PASSWORD}".encode()
        way.proxy.answer = REFUSING[kind][0].replace(b"Words", words)
    elif kind == "down":
        user = {"proxy": f"http://{USER}@127.0.0.1:1"}
    else:
        way.proxy.silent = True
    async with way.transport(**user) as transport:
        shown.append(await report_of(transport, seconds=0.3 if kind == "cancelled" else 60.0))
        shown.append(repr(vars(transport)) + repr(transport._settings))

    assert shown[0]
    for text in (*shown, log.getvalue()):
        for secret in (PASSWORD, PASSWORD.replace("@", "%40"), USER, TOKEN.decode(), KEY):
            assert secret not in text


async def test_the_name_is_left_to_the_proxy(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service's name is not looked up on this machine."""
    asked: list[object] = []
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, *rest: Any, **more: Any) -> Any:
        asked.append(host)
        return real(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    async with way.transport(proxy=f"http://localhost:{way.proxy.port}") as transport:
        await transport.send(GET, budget())

    assert "localhost" in asked
    assert NAME not in asked


@asynccontextmanager
async def client_of(way: Way, **arguments: Any) -> AsyncGenerator[AsyncClient]:
    client = AsyncClient(
        base_url=f"https://{NAME}", api_key=KEY, ssl_context=way.certified.trusting,
        options=BatchOptions(retry_for=0), **arguments,
    )  # fmt: skip
    try:
        yield client
    finally:
        await client.close()


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize("scheme", ["http://", ""])
async def test_the_environments_proxy(
    way: Way, monkeypatch: pytest.MonkeyPatch, variable: str, scheme: str
) -> None:
    """It is taken by itself, with or without its scheme."""
    monkeypatch.setenv(variable, f"{scheme}127.0.0.1:{way.proxy.port}")
    async with client_of(way) as client:
        await client.ping(60.0)

    assert len(way.proxy.heads) == 1


Change = Callable[[pytest.MonkeyPatch], None]


@pytest.mark.parametrize("no_proxy", [NAME, ".test", "*", f"a.example, {NAME}:443"])
async def test_no_proxy_is_honoured(
    way: Way, monkeypatch: pytest.MonkeyPatch, no_proxy: str
) -> None:
    """What it names is asked for directly; here that leads nowhere."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{way.proxy.port}")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    async with client_of(way) as client:
        with pytest.raises(ServiceUnavailableError, match=f"cannot reach https://{NAME}"):
            await client.ping(60.0)

    assert way.proxy.heads == []


async def test_without_trust_env(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nothing of the environment counts, and `proxy=` still does."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    async with client_of(
        way, trust_env=False, proxy=f"http://127.0.0.1:{way.proxy.port}"
    ) as client:
        await client.ping(60.0)
    heads = len(way.proxy.heads)
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{way.proxy.port}")
    async with client_of(way, trust_env=False) as client:
        with pytest.raises(ServiceUnavailableError):
            await client.ping(60.0)

    assert heads == len(way.proxy.heads) == 1


async def test_the_environment_is_read_when_the_client_is_made(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What changes afterwards changes no client that there is."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{way.proxy.port}")
    async with client_of(way) as client:
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("NO_PROXY", "*")
        await client.ping(60.0)

    assert len(way.proxy.heads) == 1


async def test_never_to_this_machine_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service on loopback is asked directly, over http and https, whatever is set."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with (
        ScriptedService() as service,
        AsyncClient(base_url=service.url, api_key=service.api_key) as client,
    ):
        assert await client.ping(60.0) > 0


async def test_netrc_is_not_read(way: Way, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither for the service nor for the proxy."""
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine {NAME} login a password canary-netrc\ndefault login b password x\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{way.proxy.port}")
    async with client_of(way) as client:
        await client.ping(60.0)

    assert b"authorization" not in b"".join(way.proxy.heads).lower()
    assert "authorization" not in way.service.requests[0].headers


@asynccontextmanager
async def real_proxy(folder: Path, user: str) -> AsyncGenerator[int]:
    """The port of a forward proxy that others wrote, in a process of its own."""
    port_file = folder / "port"
    command = [
        sys.executable, "-m", "proxy", "--hostname", "127.0.0.1", "--port", "0",
        "--port-file", str(port_file), "--num-acceptors", "1", "--num-workers", "1",
        "--basic-auth", user, "--log-file", str(folder / "log"), "--data-dir", str(folder),
    ]  # fmt: skip
    process = subprocess.Popen(  # noqa: ASYNC220
        command, cwd=folder, env=os.environ | {"HOME": str(folder)}, start_new_session=True
    )
    try:
        with anyio.fail_after(120):
            while not port_file.exists() or not port_file.read_text().strip():
                assert process.poll() is None
                await anyio.sleep(0.02)
        yield int(port_file.read_text().split()[0])
    finally:
        process.terminate()
        await anyio.to_thread.run_sync(process.wait)


async def test_an_evaluation_through_a_real_proxy(certified: Certificates, tmp_path: Path) -> None:
    """All of it in tunnels: not a byte of the key, the rows or the answers goes in clear."""
    async with (
        LocalServer() as server,
        tls_in_front_of(int(server.url.rpartition(":")[2]), certified.server) as port,
        real_proxy(tmp_path, "me:canary-word") as behind,
        tap(behind) as (proxy, heard),
        AsyncClient(
            base_url=f"https://localhost:{port}/api/v0",
            api_key=server.api_key,
            ssl_context=certified.trusting,
            proxy=f"http://me:canary-word@127.0.0.1:{proxy}",
        ) as client,
    ):
        rows = [{"word": f"canary-row-{i}"} for i in range(30)]
        evaluation = await client.evaluate(rows, prompt="Say {{word}}", criteria=["Is it short?"])
        assert not evaluation.failed

    assert heard.startswith(f"CONNECT localhost:{port} HTTP/1.1\r\n".encode())
    for secret in (server.api_key, "canary-row", "X-API-Key", "/api/v0", "projects"):
        assert secret.encode() not in heard


async def test_a_real_proxy_that_refuses(certified: Certificates, tmp_path: Path) -> None:
    """With another password, its refusal is told, and whose it is."""
    async with real_proxy(tmp_path, "me:canary-word") as port:
        client = AsyncClient(
            base_url=f"https://{NAME}", api_key=KEY, ssl_context=certified.trusting,
            proxy=f"http://me:canary-other@127.0.0.1:{port}",
        )  # fmt: skip
        with pytest.raises(ProxyError, match=f"the proxy http://127.0.0.1:{port} asks") as caught:
            await client.__aenter__()

    assert caught.value.status == 407
    assert "canary" not in str(caught.value).replace(KEY, "")


def test_a_client_shows_nothing_of_it() -> None:
    """Its repr, and the settings'."""
    client = AsyncClient(
        base_url="https://a.example", api_key=KEY, proxy=f"http://{USER}@p.example:3128",
        default_headers={"X-Tenant": TENANT},
    )  # fmt: skip

    for value in (client, client._settings, client._settings.proxy, vars(client)):
        for secret in (PASSWORD, USER, TOKEN.decode(), TENANT, KEY):
            assert secret not in repr(value)


@pytest.mark.parametrize("base_url", ["http://127.0.0.1:8000", "http://a.example"])
def test_no_proxy_for_plain_http(base_url: str) -> None:
    """It would read the key: refused, in words without the password."""
    with pytest.raises(ConfigurationError, match="would read the key") as caught:
        AsyncClient(
            base_url=base_url, api_key=KEY, allow_insecure_http=True,
            proxy=f"http://{USER}@p.example:3128",
        )  # fmt: skip

    assert PASSWORD not in str(caught.value)
    assert ("on this machine" in str(caught.value)) == ("127.0.0.1" in base_url)
