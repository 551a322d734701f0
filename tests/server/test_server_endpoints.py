"""Where a configuration may send prompts, and what goes along."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx2
import pytest
import trustme

from elluminate_async.schemas import LLMConfig
from elluminate_async.server import LocalServer, ModelError, ModelRequest, OpenAIModel
from elluminate_async.server.llms import outbound
from elluminate_async.server.llms.addresses import Reach, fault_of_address
from elluminate_async.testing import VIRTUAL_TIME
from elluminate_async.testing.raw import Connection, RawServer, Received, reply
from tests.faults.test_tls import serving_as
from tests.server.api import Api
from tests.transport.wiring import then_close

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.matrix import Fired
    from tests.server.endpoint import Endpoint


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


HI = ModelRequest([{"role": "user", "content": "the prompt"}])
ANSWER = (
    b'{"id":"1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,'
    b'"finish_reason":"stop","message":{"role":"assistant","content":"yes"}}]}'
)
PUBLIC, LOOPBACK, PRIVATE = Reach(), Reach(loopback=True), Reach(private=True)

NEVER = [
    "169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "fd20:ce::254",
    "100.100.100.200", "168.63.129.16", "0.0.0.0", "0.1.2.3", "::", "224.0.0.1", "ff02::1",
    "255.255.255.255", "240.0.0.1", "::ffff:169.254.169.254", "::169.254.169.254",
    "2002:a9fe:a9fe::", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a9fe:a9fe",
    "2001:0:a9fe:a9fe::1",
]  # fmt: skip
HERE = ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"]
NEAR = [
    "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "198.18.0.1", "fc00::1", "fd12::1",
    "fec0::1", "::ffff:10.0.0.1", "2002:a00:1::", "64:ff9b::a00:1", "64:ff9b:1::808:808",
]  # fmt: skip
FAR = ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::"]


@pytest.mark.parametrize("address", [*NEVER, *HERE, *NEAR, *FAR])
def test_addresses_are_told_apart(address: str) -> None:
    """Metadata never, this machine and private networks where allowed, in any disguise."""
    allowed = [fault_of_address(address, reach) is None for reach in (PUBLIC, LOOPBACK, PRIVATE)]
    assert allowed == [address in FAR, address in FAR + HERE, address not in NEVER]


BAD_URLS = [
    "ftp://models.test/v1", "file:///etc/passwd", "//models.test/v1", "models.test/v1", "",
    "http://", "http:///v1", "http://user:secret@models.test/v1", "https://key@models.test",
    "http://models.test@169.254.169.254/", "http://models.test\\@127.0.0.1/v1",
    "http://models.test:0/v1", "http://models.test:99999/v1", "http://models.test:x/v1",
    "http://mod els.test/v1", "http://models.test/v1\r\nX: y", "http://models.test\t/v1",
    "http://models.test/v1?api_key=secret", "http://models.test/v1#x", "http://[::1/v1",
    "http://[1::2::3]/v1", "http://%31%32%37.0.0.1/v1", "http://１２７.0.0.1/v1",
    f"http://{'a' * 70}.test/v1", f"http://models.test/{'a' * 3000}", "http://a..b/v1",
    "http://169.254.169.254/latest", "http://[fd00:ec2::254]/", "http://0.0.0.0/v1",
    "http://[::]/v1", "http://2852039166/latest", "http://0xa9.0xfe.0xa9.0xfe/",
    "http://0251.0376.0251.0376/", "http://169.254.43518/", "http://[::ffff:a9fe:a9fe]/",
    "http://[64:ff9b::169.254.169.254]/", "http://[2002:a9fe:a9fe::]/", "http://[fe80::1]/v1",
    "http://224.0.0.1/v1", "http://10.0.0.1/v1", "http://192.168.0.10:11434/v1",
    "http://172.31.0.1/v1", "http://100.64.0.1/v1", "http://[fc00::1]/v1",
]  # fmt: skip


@pytest.mark.row(138)
async def test_bad_addresses_are_422_and_not_stored(api: Api, fired: Fired) -> None:
    """No URL that is malformed, holds a secret, or is no endpoint's address is accepted."""
    accepted: list[str] = []
    for number, url in enumerate(BAD_URLS):
        body = {"name": f"c{number}", "llm_base_url": url, "llm_model_name": "m"}
        answer = await api("POST", "/llm_configs", body)
        fired()
        assert "secret" not in str(answer.body)
        if answer.status != 422:
            accepted.append(url)
    assert accepted == []
    assert [one["name"] for one in await api.items("/llm_configs")] == ["default"]


async def test_good_addresses_are_accepted(api: Api) -> None:
    """Names, addresses, ports and paths of endpoints are taken; this machine's on loopback."""
    for number, url in enumerate(
        (
            "https://api.openai.com/v1",
            "HTTPS://Models.Example.COM:8443/v1/",
            "http://my_model-1:8000",
            "http://localhost:11434/v1",
            "http://127.0.0.1:1/v1",
            "http://[::1]:8000/v1",
            "http://8.8.8.8/openai/deployments/a%20b",
        )
    ):
        body = {"name": f"c{number}", "llm_base_url": url, "llm_model_name": "m"}
        assert (await api.post("/llm_configs", body))["llm_base_url"] == url


async def test_private_addresses_are_the_operator_s_choice(session: aiohttp.ClientSession) -> None:
    """With allow_private_endpoints private ones are accepted, metadata still is not."""
    async with LocalServer(allow_private_endpoints=True) as server:
        api = Api(session, server)
        status: dict[str, int] = {}
        for url in ("http://10.0.0.1/v1", "http://[fd12::1]/v1", "http://[fd00:ec2::254]/v1"):
            body = {"name": url, "llm_base_url": url, "llm_model_name": "m"}
            status[url] = (await api("POST", "/llm_configs", body)).status
    assert list(status.values()) == [201, 201, 422]


async def test_an_open_server_does_not_call_its_own_machine(
    endpoint: Endpoint, session: aiohttp.ClientSession
) -> None:
    """Where others can reach the server, a configuration does not lead them to its loopback."""
    async with LocalServer(host="0.0.0.0", api_key="k") as server:
        server.url = server.url.replace("0.0.0.0", "127.0.0.1")
        api = Api(session, server)
        body = {"name": "own", "llm_model_name": "m", "llm_base_url": endpoint.url}
        answer = await api("POST", "/llm_configs", body)
        assert answer.status == 422
        assert "--allow-private-endpoints" in answer.body["detail"]
        by_name = endpoint.url.replace("127.0.0.1", "localhost")
        status = await generated(api, {**body, "llm_base_url": by_name})
    assert endpoint.requests == []
    assert "localhost leads to the server's own machine" in status["result"][0]["error"]


async def generated(api: Api, config: dict[str, Any]) -> Any:
    """The status of one response's generation by a new configuration."""
    made = await api.post("/llm_configs", config)
    await api.template()
    await api.post("/collections", {"name": "C", "variables": [{"word": "a"}]})
    body = {"name": "E", "prompt_template_id": 1, "collection_id": 1}
    await api.post("/experiments", {**body, "llm_config_id": made["id"]})
    return await api.generate(1, [1])


class Names:
    """A resolver that tells other addresses each time, as an attacker's does."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)

    async def __call__(self, host: str, port: int) -> list[str]:
        return list(self.answers.pop(0))


async def asked(base_url: str, reach: Reach, names: Names, times: int = 1) -> list[str]:
    """What came of asking a model behind a name, each time over a new connection."""
    client = outbound.endpoint_client(reach, "sk-own", resolve=names)
    outcomes: list[str] = []
    async with client:
        for _ in range(times):
            try:
                answer = await client.post(f"{base_url}/chat/completions", json={})
                outcomes.append(str(answer.status_code))
            except outbound.EndpointRefusedError as error:
                outcomes.append(str(error))
    return outcomes


@pytest.mark.row(138)
@pytest.mark.parametrize("later", ["169.254.169.254", "::ffff:169.254.169.254", "10.0.0.1"])
async def test_a_name_is_judged_by_what_it_leads_to_now(later: str, fired: Fired) -> None:
    """A name that was fine and then is rebound is refused when it is connected to again."""

    async def script(received: Received, connection: Connection) -> bytes:
        return reply(200, ANSWER, Connection="close")

    async with RawServer(script) as server:
        url = f"http://models.test:{server.port}/v1"
        names = Names(["127.0.0.1"], [later], [later, "127.0.0.1"])
        outcomes = await asked(url, LOOPBACK, names, times=3)
    fired()
    assert [outcomes[0], outcomes[2]] == ["200", "200"]  # the third has an allowed one too
    assert "models.test leads to" in outcomes[1]
    assert later not in outcomes[1]
    assert server.connections == 2
    assert {seen.headers["host"] for seen in server.requests} == {f"models.test:{server.port}"}


@pytest.mark.row(138)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("reach", [LOOPBACK, None], ids=["configuration", "operator"])
async def test_redirects_are_not_followed(status: int, reach: Reach | None, fired: Fired) -> None:
    """The prompt goes to no other place than was named; the error says where it was led."""

    async def elsewhere(received: Received, connection: Connection) -> bytes:
        return reply(200, ANSWER)

    async with RawServer(elsewhere) as other:
        target = f"{other.url}/v1/chat/completions?token=secret"

        async def leading(received: Received, connection: Connection) -> bytes:
            fired()
            return reply(status, b"", Location=target)

        async with RawServer(leading) as server:
            model = OpenAIModel("m", base_url=f"{server.url}/v1", reach=reach)
            with pytest.raises(ModelError, match="redirects to http://127") as caught:
                await model.complete(HI)
            await model.aclose()
    assert other.requests == []
    assert "secret" not in str(caught.value)


@pytest.mark.row(138)
@pytest.mark.parametrize("target", ["http://[::1", "https://\u2488.test/"])
async def test_a_redirect_to_what_is_no_address(target: str, fired: Fired) -> None:
    """Refused like any other, and said so."""

    async def leading(received: Received, connection: Connection) -> bytes:
        fired()
        return reply(307, b"", Location=target)

    async with RawServer(leading) as server:
        model = OpenAIModel("m", base_url=f"{server.url}/v1", reach=LOOPBACK)
        with pytest.raises(ModelError, match="redirects to what is no address"):
            await model.complete(HI)
        await model.aclose()


ENVIRONMENT = {
    "OPENAI_ORG_ID": "canary-org",
    "OPENAI_PROJECT_ID": "canary-project",
    "OPENAI_API_KEY": "canary-key",
    "OPENAI_ADMIN_KEY": "canary-admin",
    "OPENAI_BASE_URL": "http://canary.test/v1",
    "OPENAI_CUSTOM_HEADERS": "X-Canary: canary-header\nAuthorization: canary-auth\nHost: canary",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "http_proxy": "http://127.0.0.1:9",
    "ALL_PROXY": "http://127.0.0.1:9",
}


@pytest.mark.parametrize(("key", "sent"), [("sk-own", "Bearer sk-own"), (None, None)])
async def test_nothing_of_the_environment_goes_along(
    monkeypatch: pytest.MonkeyPatch, key: str | None, sent: str | None
) -> None:
    """An endpoint of a configuration gets its own key, and no other header, proxy or key."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)

    async def script(received: Received, connection: Connection) -> bytes:
        return reply(200, ANSWER)

    async with RawServer(script) as server:
        model = OpenAIModel("m", base_url=f"{server.url}/v1", api_key=key, reach=LOOPBACK)
        await model.complete(HI)
        await model.aclose()
    (seen,) = server.requests
    assert "canary" not in str(seen.headers)
    assert set(seen.headers) - {"authorization"} == {
        "host", "accept", "accept-encoding", "user-agent", "content-type", "content-length",
    }  # fmt: skip
    assert seen.headers.get("authorization") == sent


@pytest.mark.parametrize(("name", "is_right"), [("models.test", True), ("others.test", False)])
async def test_certificates_are_of_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, is_right: bool
) -> None:
    """Over TLS an endpoint shows a certificate of its name, whatever address was chosen."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))

    async def script(received: Received, connection: Connection) -> bytes:
        return reply(200, ANSWER)

    context = serving_as(authority, tmp_path, name)
    outbound.trusted.cache_clear()
    try:
        async with RawServer(script, ssl_context=context) as server:
            url = f"https://models.test:{server.port}/v1"
            if is_right:
                assert await asked(url, LOOPBACK, Names(["127.0.0.1"])) == ["200"]
            else:
                with pytest.raises(httpx2.ConnectError, match="certificate"):
                    await asked(url, LOOPBACK, Names(["127.0.0.1"]))
                assert server.requests == []
    finally:
        outbound.trusted.cache_clear()


async def test_the_next_address_is_tried() -> None:
    """A name that has an address where nobody listens is reached at its other one."""

    async def script(received: Received, connection: Connection) -> bytes:
        return reply(200, ANSWER)

    async with RawServer(script) as server:
        names = Names(["127.0.0.2", "127.0.0.1"])
        url = f"http://models.test:{server.port}/v1"
        assert await asked(url, LOOPBACK, names) == ["200"]


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
    ],
)
async def test_a_broken_answer_is_a_model_error(sent: bytes) -> None:
    """What goes wrong below is told as what goes wrong with any endpoint, at any place."""
    async with RawServer(then_close(sent)) as server:
        model = OpenAIModel("m", base_url=f"{server.url}/v1", reach=LOOPBACK)
        sampling = LLMConfig(max_retries=0)
        with pytest.raises(ModelError, match="onnection"):
            await model.complete(replace(HI, sampling=sampling))
        await model.aclose()


class Nobody(Names):
    async def __call__(self, host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown name")


@pytest.mark.parametrize("names", [Nobody(), Names([])])
async def test_a_name_that_nobody_has(names: Names) -> None:
    """It is an endpoint that cannot be reached, and not a fault of the server's."""
    with pytest.raises(httpx2.ConnectError, match=r"models\.test"):
        await asked("http://models.test/v1", LOOPBACK, names)
