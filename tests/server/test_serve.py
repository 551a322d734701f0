"""``elluminate-async serve``: start, key, signals, and a kill in mid-batch."""

from __future__ import annotations

import signal
import socket
import sqlite3
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING, Any

from tests.flow.bench import until
from tests.server.api import Api, batch
from tests.server.life import require_counted
from tests.server.program import command, complaint, environment, run, serving

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from tests.server.endpoint import Endpoint


class Address:
    """What `Api` needs to know of a server in another process."""

    def __init__(self, url: str, api_key: str) -> None:
        self.url = url
        self.api_key = api_key


def api_of(session: aiohttp.ClientSession, url: str, key: str) -> Api:
    address: Any = Address(url, key)
    return Api(session, address)


def refused(*options: str) -> str:
    """What it says on stderr when it does not start."""
    done = subprocess.run(
        command(*options),
        check=False,
        capture_output=True,
        text=True,
        env=environment(),
        timeout=300,
    )
    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr
    return done.stderr


def test_key_is_shown_once_and_signals_end_it(tmp_path: Path) -> None:
    """The first start shows a key, the second says that it is still valid; both end with 0."""
    db = str(tmp_path / "sub" / "s.db")
    with serving("--db", db) as program:
        assert program.lines[0].endswith(" (shown once)")
        assert program.url.startswith("http://127.0.0.1:")
        key = program.key
        assert program.end(signal.SIGINT) == 0
    with serving("--db", db) as program:
        assert "still valid" in program.lines[0]
        assert key not in program.lines[0]
        assert program.end(signal.SIGTERM) == 0


def test_bad_values_exit_with_2(tmp_path: Path) -> None:
    """What cannot work is one line on stderr and exit code 2."""
    db = str(tmp_path / "s.db")
    assert "0.0.0.0" in refused("--db", db, "--host", "0.0.0.0")
    serve = ("serve", "--db", db)
    assert "--llm-base-url" in complaint(*serve, "--llm-base-url", "http://x/v1")
    assert "http" in complaint(*serve, "--model", "m", "--llm-base-url", "ftp://x")
    assert "port" in run(*serve, "--port", "99999").err


def test_port_in_use_exits_with_2(tmp_path: Path) -> None:
    """A port in use is named."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert port in complaint("serve", "--db", tmp_path / "s.db", "--port", port)


def test_database_in_use_exits_with_2(tmp_path: Path) -> None:
    """A second server on one file is told so."""
    db = str(tmp_path / "s.db")
    with serving("--db", db) as program:
        assert "in use" in complaint("serve", "--db", db, "--port", "0")
        assert program.end() == 0


def kept(db: str) -> int:
    """How many items are done and committed."""
    with closing(sqlite3.connect(db)) as raw:
        return raw.execute("SELECT sum(processed) FROM jobs").fetchone()[0]


async def test_killed_in_mid_batch(
    tmp_path: Path, endpoint: Endpoint, session: aiohttp.ClientSession
) -> None:
    """After SIGKILL and a new start every item ends, in one row, and done work stays done."""
    db = str(tmp_path / "s.db")
    endpoint.holds_after = 10
    options = (
        *("--db", db, "--max-model-calls", "2"),
        *("--model", "m", "--llm-base-url", endpoint.url),
    )
    words = [f"w{number}" for number in range(30)]
    with serving(*options) as program:
        key = program.key
        api = api_of(session, program.url, key)
        experiment, entries = await api.setup(words)
        tasks = [
            await api.post("/responses/batches", batch(experiment, entries[at : at + 10]))
            for at in (0, 10, 20)
        ]
        await endpoint.reached(12)
        await until(lambda: kept(db) == 10)
        program.kill()
        endpoint.released.set()
    assert require_counted(tmp_path / "s.db")
    with serving(*options) as program:
        api = api_of(session, program.url, key)
        ends = [await api.ended(f"/responses/batches/{task}") for task in tasks]
        listed = await api.items(f"/responses?experiment_id={experiment}")
        assert program.end() == 0
    assert require_counted(tmp_path / "s.db")
    assert [end["status"] for end in ends] == ["SUCCESS"] * 3
    assert [one["prompt"]["template_variables"]["id"] for one in listed] == entries
    assert [one["messages"][0]["content"] for one in listed] == [
        f"SAY {word}.".upper() for word in words
    ]
    # Asked again was only what was in flight.
    assert len(endpoint.requests) == 32
