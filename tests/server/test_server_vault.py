"""Keys of model configurations on the disk."""

from __future__ import annotations

import logging
import sqlite3
import stat
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.fernet import Fernet

from elluminate_async.server import LocalServer
from elluminate_async.testing import VIRTUAL_TIME
from tests.server.api import Api

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from tests.server.endpoint import Endpoint


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


CANARY = "sk-canary-0123456789"


async def configure(api: Api, endpoint: Endpoint, name: str, key: str | None) -> None:
    """A configuration of the endpoint with a key, and an experiment of the same name with it."""
    config = {"name": name, "llm_model_name": "m", "llm_base_url": endpoint.url, "api_key": key}
    made = await api.post("/llm_configs", config)
    if not await api.items("/collections"):
        await api.template()
        await api.post("/collections", {"name": "C", "variables": [{"word": "a"}]})
    experiment = {"name": name, "prompt_template_id": 1, "collection_id": 1}
    await api.post("/experiments", {**experiment, "llm_config_id": made["id"]})


async def error_of(api: Api, experiment: int) -> str | None:
    """What a response of the experiment failed by; None when it was generated."""
    status = await api.generate(experiment, [1])
    return status["result"][0]["error"]


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


async def test_keys_are_encrypted_and_still_work(
    tmp_path: Path, endpoint: Endpoint, session: aiohttp.ClientSession
) -> None:
    """A configuration's key is in no file, also while the server runs, and opens its endpoint."""
    for _ in range(2):
        async with LocalServer(db=tmp_path / "s.db") as server:
            api = Api(session, server)
            if not endpoint.requests:
                assert not (tmp_path / "s.db.key").exists()
                await configure(api, endpoint, "own", CANARY)
            assert CANARY.encode() not in everything_in(tmp_path)
            assert await error_of(api, 1) is None
        assert CANARY.encode() not in everything_in(tmp_path)
    assert endpoint.keys == [f"Bearer {CANARY}"] * 2
    assert stat.S_IMODE((tmp_path / "s.db.key").stat().st_mode) == 0o600


async def test_plain_keys_are_encrypted_when_a_database_is_opened(
    tmp_path: Path, endpoint: Endpoint, session: aiohttp.ClientSession
) -> None:
    """What an earlier version stored as it was is afterwards in no file, and still works."""
    db = tmp_path / "s.db"
    async with LocalServer(db=db) as server:
        api = Api(session, server)
        for number in range(40):
            await configure(api, endpoint, f"c{number}", None)
    with closing(sqlite3.connect(db)) as raw:
        raw.execute("UPDATE llm_configs SET api_key = ? || id WHERE NOT is_default", [CANARY])
        raw.commit()
        assert CANARY.encode() in everything_in(tmp_path)
    async with LocalServer(db=db) as server:
        assert CANARY.encode() not in everything_in(tmp_path)
        assert await error_of(Api(session, server), 40) is None
    assert endpoint.keys == [f"Bearer {CANARY}41"]


@pytest.mark.parametrize("trouble", ["lost", "another", "damaged"])
async def test_without_its_key_file_one_configuration_fails(
    tmp_path: Path,
    endpoint: Endpoint,
    session: aiohttp.ClientSession,
    caplog: pytest.LogCaptureFixture,
    trouble: str,
) -> None:
    """It says what to do, at the start and as the item's error; the others work as before."""
    db, file = tmp_path / "s.db", tmp_path / "s.db.key"
    async with LocalServer(db=db) as server:
        await configure(Api(session, server), endpoint, "own", CANARY)
        await configure(Api(session, server), endpoint, "keyless", None)
    kept = file.read_bytes()
    file.unlink()
    if trouble == "another":
        file.write_bytes(Fernet.generate_key() + b"\n")
    if trouble == "damaged":
        file.write_bytes(kept[:20])
    with caplog.at_level(logging.WARNING):
        async with LocalServer(db=db) as server:
            api = Api(session, server)
            error = await error_of(api, 1)
            assert await error_of(api, 2) is None
            assert endpoint.keys == [None]
            await configure(api, endpoint, "new", "sk-new")
            assert await error_of(api, 3) is None
            # As the error says, a line may be added to a newer file.
            with file.open("ab") as lines:
                lines.write(kept)
            assert await error_of(api, 1) is None
    assert endpoint.keys == [None, "Bearer sk-new", f"Bearer {CANARY}"]
    assert error is not None
    for text in (error, caplog.text):
        assert "s.db.key back beside the database" in text
        assert "create it again with its key" in text


async def test_a_private_database_needs_no_key_file(
    endpoint: Endpoint, session: aiohttp.ClientSession
) -> None:
    """What is gone with its server is encrypted under a key in memory."""
    async with LocalServer() as server:
        api = Api(session, server)
        await configure(api, endpoint, "own", CANARY)
        assert await error_of(api, 1) is None
        names: set[str] = {path.suffix for path in server.db.parent.iterdir()}
        assert CANARY.encode() not in everything_in(server.db.parent)
    assert ".key" not in names
    assert endpoint.keys == [f"Bearer {CANARY}"]


async def test_the_key_file_is_beside_the_real_file(
    tmp_path: Path, endpoint: Endpoint, session: aiohttp.ClientSession
) -> None:
    """A database that is opened through a link has the same key file."""
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.db"
    link.symlink_to(tmp_path / "real" / "s.db")
    async with LocalServer(db=tmp_path / "real" / "s.db") as server:
        await configure(Api(session, server), endpoint, "own", CANARY)
    async with LocalServer(db=link) as server:
        assert await error_of(Api(session, server), 1) is None


@pytest.mark.parametrize("key", ["sk-ü", "sk\nX-Header: y"])
async def test_a_key_that_no_header_holds_is_422(api: Api, key: str) -> None:
    """It is refused when it is given, and not at each call."""
    body: dict[str, Any] = {"name": "M", "llm_base_url": "http://m.test/v1", "api_key": key}
    answer = await api("POST", "/llm_configs", body)
    assert answer.status == 422
    assert key not in str(answer.body)
