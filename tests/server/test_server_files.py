"""The database file: one server by whatever name, no other program's, none that is damaged."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import subprocess
from contextlib import AsyncExitStack, closing
from pathlib import Path

import aiohttp
import pytest

from elluminate_async.errors import ConfigurationError
from elluminate_async.server import LocalServer
from elluminate_async.server.store import inspection
from elluminate_async.server.store.inspection import APPLICATION_ID
from tests.matrix import Fired
from tests.server.api import Api, ScriptedModel, batch
from tests.server.program import command, serving

DAMAGES = 60
WAYS = ("restore a backup", "another file", "the release that made it")


async def refused(path: Path) -> str:
    """Why a server does not start on a file."""
    with pytest.raises(ConfigurationError) as caught:
        await LocalServer(db=path).__aenter__()
    return str(caught.value)


async def test_a_full_disk_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no room for what SQLite keeps beside the file, that is what is said."""
    db = tmp_path / "s.db"
    async with LocalServer(db=db):
        pass

    def full(_path: Path) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patched:
        patched.setattr(inspection, "_check", full)
        assert "is damaged" in await refused(db)
        patched.setattr(inspection, "_LEAST_ROOM", 1 << 62)
        assert "no room on its disk" in await refused(db)
    async with LocalServer(db=db):
        pass


@pytest.mark.row(136)
@pytest.mark.parametrize("link", [os.symlink, os.link], ids=["symbolic", "hard"])
async def test_one_server_through_a_link(link: object, tmp_path: Path, fired: Fired) -> None:
    """In one process: another name of the file leads to the same lock."""
    assert callable(link)
    db, other = tmp_path / "s.db", tmp_path / "elsewhere" / "t.db"
    other.parent.mkdir()
    async with LocalServer(db=db):
        link(db, other)
        fired()
        assert "in use" in await refused(other)
    async with LocalServer(db=other):
        pass


@pytest.mark.row(136)
async def test_one_process_a_file(tmp_path: Path, fired: Fired) -> None:
    """Another process has no way to it, through links and with all other files deleted."""
    db = tmp_path / "s.db"
    names = [db, tmp_path / "soft.db", tmp_path / "hard.db"]
    with serving("--db", str(db)):
        names[1].symlink_to(db)
        names[2].hardlink_to(db)
        for beside in os.listdir(tmp_path):
            if beside.endswith(".lock"):
                os.unlink(tmp_path / beside)
        for name in names:
            assert "in use by another server" in await refused(name)
            fired()
    async with LocalServer(db=names[2]):
        pass


async def test_refused_server_takes_no_lock_away(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """After one in the same process was refused, SQLite's own lock on the file is still there."""
    db = tmp_path / "s.db"
    other = f"import sqlite3; c = sqlite3.connect({str(db)!r}); c.execute('PRAGMA user_version')"
    async with LocalServer(db=db) as server:
        await refused(db)
        # Another process that closes the file as if it were the last one would delete the log.
        await asyncio.to_thread(subprocess.run, [*command()[:1], "-c", other], check=True)
        assert "s.db-wal" in os.listdir(tmp_path)
        await Api(session, server).template()
    with closing(sqlite3.connect(db)) as connection:
        assert connection.execute("SELECT count(*) FROM prompt_templates").fetchone() == (1,)


@pytest.mark.parametrize("mode", ["delete", "wal"])
@pytest.mark.parametrize("application_id", [0, 0x0F055112])
async def test_database_of_another_program(mode: str, application_id: int, tmp_path: Path) -> None:
    """It is refused, and neither it nor its folder is changed."""
    db = tmp_path / "s.db"
    with closing(sqlite3.connect(db)) as connection:
        connection.execute(f"PRAGMA application_id={application_id}")
        connection.execute(f"PRAGMA journal_mode={mode}")
        connection.execute("CREATE TABLE meta (name TEXT, value TEXT)")
        connection.commit()
    before = db.read_bytes()
    assert "another program" in await refused(db)
    assert db.read_bytes() == before
    assert os.listdir(tmp_path) == ["s.db"]


async def test_databases_bear_an_id(tmp_path: Path) -> None:
    """A new file says in its header whose it is."""
    async with LocalServer(db=tmp_path / "s.db"):
        pass
    with closing(sqlite3.connect(tmp_path / "s.db")) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)


async def stored(session: aiohttp.ClientSession, db: Path) -> None:
    """A database with some of everything."""
    async with LocalServer(db=db, model=ScriptedModel()) as server:
        api = Api(session, server)
        experiment, entries = await api.setup([f"w{n}" for n in range(60)], criteria=["x?", "y?"])
        task = await api.post(
            "/responses/batches", batch(experiment, entries), headers={"Idempotency-Key": "k"}
        )
        await api.ended(f"/responses/batches/{task}")
        await api.rate([*range(1, 61)], mode="detailed")


LISTINGS = (
    "//projects",
    *("/" + noun for noun in ("prompt_templates", "collections", "criteria", "criterion_sets")),
    *("/" + noun for noun in ("llm_configs", "experiments", "responses", "experiments/1")),
    "/collections/1/entries",
)


def spoil(content: bytearray, dice: random.Random) -> str:
    """Damage a database, as disks and copies do; what was done."""
    pages = len(content) // 4096
    page = dice.randrange(pages) * 4096
    kind = dice.choice(["cut", "zeros", "noise", "bit", "bits", "swapped", "header"])
    match kind:
        case "cut":
            del content[dice.randrange(len(content)) :]
        case "zeros":
            content[page : page + 4096] = bytes(4096)
        case "noise":
            content[page : page + 4096] = dice.randbytes(4096)
        case "swapped":
            other = dice.randrange(pages) * 4096
            one, two = content[page : page + 4096], content[other : other + 4096]
            content[page : page + 4096], content[other : other + 4096] = two, one
        case "header":
            content[dice.randrange(100)] ^= 1 << dice.randrange(8)
        case _:
            for _ in range(1 if kind == "bit" else 20):
                content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    return kind


async def test_damaged_databases(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """Each copy, damaged by a seed, is refused with what to do, or served without any 5xx."""
    db = tmp_path / "whole.db"
    await stored(session, db)
    whole = db.read_bytes()
    refusals, served = list[str](), 0
    model = ScriptedModel()
    for seed in range(DAMAGES):
        content = bytearray(whole)
        kind = spoil(content, random.Random(seed))
        copy = tmp_path / f"{seed}.db"
        copy.write_bytes(content)
        async with AsyncExitStack() as stack:
            try:
                server = await stack.enter_async_context(LocalServer(db=copy, model=model))
            except ConfigurationError as error:
                refusals.append(str(error))
                continue
            served += 1
            api = Api(session, server)
            for path in LISTINGS:
                answer = await api("GET", path)
                assert answer.status < 500, (seed, kind, path, answer)
            answer = await api("POST", "/collections", {"name": "new"})
            assert answer.status < 500, (seed, kind, answer)
    assert len(refusals) > DAMAGES / 4
    assert served
    assert [text for text in refusals if not any(way in text for way in WAYS)] == []
