"""Who may ask: keys, Host, Origin, sizes."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from elluminate_async.errors import ConfigurationError
from elluminate_async.server import LocalServer, security
from elluminate_async.testing import VIRTUAL_TIME
from tests.server.api import Api

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Key": ""},
        {"X-API-Key": "wrong"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic x"},
    ],
)
@pytest.mark.parametrize("path", ["/api/v0/projects", "/api/v0/nothing", "/"])
async def test_without_a_valid_key_everything_is_401(
    session: aiohttp.ClientSession, server: LocalServer, headers: dict[str, str], path: str
) -> None:
    """No route, existing or not, answers without a key."""
    async with session.get(server.url + path, headers=headers) as response:
        assert response.status == 401
        assert "detail" in await response.json()
        assert response.headers["X-Request-Id"]


async def test_key_as_bearer_token(session: aiohttp.ClientSession, server: LocalServer) -> None:
    """The key is accepted as a bearer token too."""
    headers = {"Authorization": f"Bearer {server.api_key}"}
    async with session.get(f"{server.url}/api/v0/projects", headers=headers) as response:
        assert response.status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.test"}, 421),
        ({"Host": "127.0.0.1.evil.test:80"}, 421),
        ({"Host": "LOCALHOST:1"}, 200),
        ({"Host": "[::1]:1"}, 200),
        ({"Origin": "http://evil.test"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:3000"}, 200),
    ],
)
async def test_foreign_hosts_and_origins(api: Api, headers: dict[str, str], status: int) -> None:
    """Only loopback names are served, whatever the key."""
    assert (await api("GET", "//projects", headers=headers)).status == status


async def test_foreign_project_is_404(api: Api) -> None:
    """A project that is not there is 404 on any of its routes."""
    for noun in ("responses", "experiments", "prompt_templates", "collections/1"):
        assert (await api("GET", f"//projects/2/{noun}")).status == 404


@pytest.mark.parametrize("is_chunked", [True, False])
async def test_large_body_is_413(
    api: Api, monkeypatch: pytest.MonkeyPatch, is_chunked: bool
) -> None:
    """A body over the cap is refused, with and without a Content-Length."""
    monkeypatch.setattr(security, "MAX_BODY_BYTES", 1000)

    async def parts() -> object:
        for _ in range(20):
            yield b" " * 100

    data = parts() if is_chunked else b" " * 2000
    answer = await api(
        "POST", "/collections", data=data, headers={"Content-Type": "application/json"}
    )
    assert answer.status == 413


async def test_body_must_be_json(api: Api) -> None:
    """A form of another site cannot reach an endpoint: its content type is refused."""
    headers = {"Content-Type": "text/plain"}
    assert (await api("POST", "/collections", data=b"{}", headers=headers)).status == 422


def files_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def test_files_are_for_their_owner(tmp_path: Path) -> None:
    """Database and lock can be read by their owner only."""
    async with LocalServer(db=tmp_path / "s.db"):
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in files_in(tmp_path)}
    assert set(modes.values()) == {0o600}, modes


async def test_key_is_not_in_the_files(tmp_path: Path) -> None:
    """A stored key is stored as its hash."""
    async with LocalServer(db=tmp_path / "s.db") as server:
        await server.keys.store("canary-key")
    assert all(b"canary-key" not in path.read_bytes() for path in files_in(tmp_path))


async def test_stored_key_outlives_the_server(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """A stored key opens the next server on the same file; one that was not stored does not."""
    async with LocalServer(db=tmp_path / "s.db", api_key="passing") as server:
        await server.keys.store("kept")
    async with LocalServer(db=tmp_path / "s.db") as server:
        api = Api(session, server)
        for key, status in (("kept", 200), ("passing", 401)):
            api.headers = {"X-API-Key": key}
            assert (await api("GET", "//projects")).status == status


def test_open_address_needs_a_key() -> None:
    """Where others can reach the server, no key is made up silently."""
    with pytest.raises(ConfigurationError, match=r"0\.0\.0\.0"):
        LocalServer(host="0.0.0.0")
