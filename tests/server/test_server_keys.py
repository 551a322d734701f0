"""``keys`` and ``projects``, beside a running server and without one; where keys come from."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.lowlevel
import pytest

from elluminate_async import ConfigurationError
from elluminate_async.cli.server_key import given_key
from elluminate_async.server import LocalServer
from tests.flow.bench import until
from tests.server.api import Api
from tests.server.program import complaint, environment, run, serving
from tests.server.test_serve import api_of

if TYPE_CHECKING:
    import aiohttp


def started(*arguments: str | Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "elluminate_async", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )


def said(*arguments: str | Path) -> str:
    """What it prints when it succeeds."""
    done = run(*arguments)
    assert done.code == 0, done
    return done.out.strip()


async def status_of(api: Api, key: str, path: str = "//projects") -> int:
    return (await api("GET", path, headers={"X-API-Key": key})).status


@pytest.fixture
async def db(tmp_path: Path) -> Path:
    """A database that a server has made, in a folder whose name needs quoting."""
    path = tmp_path / "what? 50% #1" / "s.db"
    async with LocalServer(db=path):
        return path


async def test_the_database_is_where_it_was_named(db: Path) -> None:
    """A question mark in a folder's name does not lead the data elsewhere, where all can read."""
    assert names_in(db.parent.parent) == {db.parent.name}
    status = os.stat(db)
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert status.st_size > 0


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def test_a_lost_key_has_a_way_out(db: Path, session: aiohttp.ClientSession) -> None:
    """The server says at its start how to add another key, which opens it while it runs."""
    first = said("keys", "add", "--db", db)
    with serving("--db", str(db)) as program:
        hint = program.lines[0]
        assert "elluminate-async keys add --database " in hint
        assert first not in hint
        key = said("keys", "add", "--database", db)
        api = api_of(session, program.url, key)
        assert await status_of(api, first) == 200
        assert await status_of(api, "never added") == 401
        await until_is(api, key, 200)
        assert program.end() == 0
    assert all(key.encode() not in path.read_bytes() for path in db.parent.iterdir())


async def until_is(api: Api, key: str, status: int) -> None:
    """Wait for the server to go by what was changed; the time it may take is its own test's."""
    with anyio.fail_after(60):
        while await status_of(api, key) != status:
            await anyio.lowlevel.checkpoint()


async def test_a_revoked_key_opens_nothing(db: Path, session: aiohttp.ClientSession) -> None:
    """A running server goes by it, also for the key that it was started with."""
    key_file = db.with_name("key")
    key_file.write_text("its-own-key\n")
    other = said("keys", "add", "--db", db)
    with serving("--db", str(db), "--api-key-file", str(key_file)) as program:
        api = api_of(session, program.url, other)
        assert await status_of(api, "its-own-key") == 200
        listed = [line.split()[0] for line in said("keys", "list", "--db", db).splitlines()]
        assert len(listed) == 2
        assert listed[1] in said("keys", "revoke", listed[1], "--db", db)
        await until_is(api, "its-own-key", 401)
        assert await status_of(api, other) == 200
        assert program.end() == 0
    assert said("keys", "list", "--db", db).split()[0] == listed[0]


async def test_a_change_counts_after_a_second(
    db: Path, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within it nothing is read again, and after it the next request goes by the change."""
    async with LocalServer(db=db) as server:
        api = Api(session, server)
        loop_time = 0.0
        monkeypatch.setattr(server.keys, "clock", lambda: loop_time)
        await server.keys.load()
        key = said("keys", "add", "--db", db)
        loop_time = 0.99
        assert await status_of(api, key) == 401
        loop_time = 1.0
        assert await status_of(api, key) == 200


async def test_a_key_for_one_project_opens_that_one(
    db: Path, session: aiohttp.ClientSession
) -> None:
    """A project and its key are made beside a running server; other projects are 404 with it."""
    async with LocalServer(db=db) as server:
        api = Api(session, server)
        assert "2" in said("projects", "add", "Team B", "--db", db)
        by_name = said("keys", "add", "--project", "Team B", "--db", db)
        by_id = said("keys", "add", "--project", "2", "--db", db)
        for key in (by_name, by_id):
            await until_is(api, key, 200)
            assert await status_of(api, key, "//projects/2/experiments") == 200
            assert await status_of(api, key, "//projects/1/experiments") == 404
        assert await status_of(api, server.api_key, "//projects/2/experiments") == 200
        configs = await api.get("//projects/2/llm_configs")
        assert [one["llm_model_name"] for one in configs["items"]] == ["offline"]
        said("projects", "rename", "Team B", "Team C", "--db", db)
        assert [one["name"] for one in await api.items("//projects")] == ["Local", "Team C"]
    projects = [line.split(maxsplit=1) for line in said("projects", "list", "--db", db).split("\n")]
    assert projects == [["1", "Local"], ["2", "Team C"]]
    assert said("keys", "list", "--db", db).count("project 'Team C'") == 2


async def test_a_change_waits_for_a_writer(db: Path) -> None:
    """While another has the database's lock, the command waits for its turn."""
    with closing(sqlite3.connect(db, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with started("keys", "add", "--db", db) as waiting:
            # It has the file open, and so is at its lock or just before it.
            await until(lambda: is_open_in(waiting.pid, db) or waiting.poll() is not None)
            other.execute("COMMIT")
            assert waiting.wait(60) == 0
    assert said("keys", "list", "--db", db).count("\n") == 0


def is_open_in(process: int, path: Path) -> bool:
    folder = Path(f"/proc/{process}/fd")
    if not folder.exists():  # not on this system: then only the result is looked at
        return True
    with suppress(OSError):  # closed, or ended, in the midst
        return any(one.readlink() == path for one in folder.iterdir())
    return False


async def test_what_cannot_be_is_one_line(db: Path, tmp_path: Path) -> None:
    """No database, another program's, an unknown key or project, a name in use: exit code 2."""
    nowhere = tmp_path / "none.db"
    assert "elluminate-async serve --db" in complaint("keys", "add", "--db", nowhere)
    assert not nowhere.exists()
    foreign = tmp_path / "foreign.db"
    with closing(sqlite3.connect(foreign)) as raw:
        raw.execute("CREATE TABLE api_keys (sha256, project_id, created_at)")
        raw.commit()
    before = foreign.read_bytes()
    assert "no database of this version" in complaint("keys", "add", "--db", foreign)
    assert foreign.read_bytes() == before
    (tmp_path / "text.db").write_text("no database at all, but long enough for one " * 100)
    assert "cannot be used" in complaint("keys", "list", "--db", tmp_path / "text.db")
    assert "keys list" in complaint("keys", "revoke", "0123456789ab", "--db", db)
    assert "keys list" in complaint("keys", "revoke", "%" * 6, "--db", db)
    assert "projects list" in complaint("keys", "add", "--project", "X", "--db", db)
    assert "exists already" in complaint("projects", "add", "Local", "--db", db)
    assert "six characters" in said("keys", "revoke", "--help")
    assert "at least 6 characters" in complaint("keys", "revoke", "01234", "--db", db)
    assert "must not be empty" in complaint("projects", "add", "  ", "--db", db)
    assert "taken for an id" in complaint("projects", "add", "12", "--db", db)
    assert "taken for an id" in complaint("projects", "rename", "Local", "1", "--db", db)
    assert "keeps its data in a file" in complaint("serve", "--db", ":memory:")
    assert said("keys", "list", "--db", db) == ""


@pytest.mark.parametrize("by", ["file", "variable"])
async def test_a_key_that_no_process_list_shows(
    tmp_path: Path, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """A key from a file or the environment opens the server, and is in no process's arguments."""
    key, options = "canary-of-the-operator", ["--db", str(tmp_path / "s.db")]
    monkeypatch.setenv("ELLUMINATE_SERVER_API_KEY", key if by == "variable" else "from-elsewhere")
    if by == "file":
        (tmp_path / "key").write_text(f"{key}\n")
        options += ["--api-key-file", str(tmp_path / "key")]
    with serving("--host", "0.0.0.0", *options) as program:
        api = api_of(session, program.url.replace("0.0.0.0", "127.0.0.1"), key)
        assert await status_of(api, key) == 200
        assert await status_of(api, "from-elsewhere") == 401
        arguments = str(program.process.args)
        assert program.lines[0] == "API key: the one given"
        assert program.end() == 0
    assert key not in arguments + "".join(program.lines)


def test_a_key_file_that_holds_no_key(tmp_path: Path) -> None:
    """Missing, empty, of several words, or beside --api-key: said, and no server started."""
    file, db = tmp_path / "key", tmp_path / "s.db"
    assert "cannot be read" in complaint("serve", "--db", db, "--api-key-file", file)
    assert not db.exists()
    file.write_bytes(b"\xef\xbb\xbfsk-of-an-editor\r\n")
    assert given_key(None, file) == "sk-of-an-editor"
    for text in ("", "two words"):
        file.write_text(text)
        with pytest.raises(ConfigurationError, match="one key and nothing else"):
            given_key(None, file)
    with pytest.raises(ConfigurationError, match="not both"):
        given_key("k", file)


def test_help_names_the_way_out() -> None:
    """`serve --help` tells what to do about a lost key, and of the ways that show no key."""
    text = " ".join(said("serve", "--help").split())
    for words in (
        "elluminate-async keys add --database",
        "--api-key-file",
        "ELLUMINATE_SERVER_API_KEY",
        "--allow-private-endpoints",
    ):
        assert words in text


async def test_keys_that_cannot_be_read_again_stay_valid(
    db: Path, session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    """Trouble with the database shuts nobody out who was let in, and lets nobody else in."""
    key = said("keys", "add", "--db", db)
    async with LocalServer(db=db) as server:
        api, seconds = Api(session, server), 0.0
        server.keys.clock = lambda: seconds
        await server.keys.load()
        with closing(sqlite3.connect(db)) as raw:
            raw.execute("ALTER TABLE api_keys RENAME TO away")
            seconds = 5.0
            assert [await status_of(api, one) for one in (key, "wrong")] == [200, 401]
            raw.execute("ALTER TABLE away RENAME TO api_keys")
        seconds = 10.0
        assert await status_of(api, key) == 200
    assert caplog.text.count("could not be read again") == 1
