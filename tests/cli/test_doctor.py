"""``doctor``: what it finds, and what its exit code says."""

from __future__ import annotations

import asyncio
import json
import re
import time
from email.utils import formatdate
from pathlib import Path

import pytest

from elluminate_async import ConfigurationError, FileShare
from elluminate_async.batch.share import Slots
from elluminate_async.cli.checks import Checks, check_clock, checks_of
from elluminate_async.cli.runs import RunFile
from elluminate_async.cli.service import Where
from elluminate_async.cli.settings import options_of
from elluminate_async.cli.spec import Spec
from elluminate_async.server import LocalServer
from tests.cli.command import Command, endpoint
from tests.cli.schemas import misfit
from tests.server.endpoint import refusal


def test_the_embedded_server_is_found_well(command: Command) -> None:
    """Each check is told; that no model is behind it is a warning."""
    schema = json.loads(command("doctor", "--json-schema").out)
    done = command("doctor", "--json")
    found = json.loads(done.out)

    assert not misfit(found, schema, schema)
    assert done.code == found["exit_code"] == 0
    by_name = {check["name"]: check for check in found["checks"]}
    assert by_name.keys() >= {
        "version", "extras", "limits", "model", "server", "key", "ping", "protocol", "clock"
    }  # fmt: skip
    assert by_name["model"]["status"] == "warning"
    assert "idempotency-keys" in by_name["protocol"]["detail"]
    assert "FAILED" not in done.err


def test_a_models_endpoint_is_asked_once(command: Command) -> None:
    """It answers, or the exit code is 3 and the text has why."""
    with endpoint() as model:
        llm = ("--llm-base-url", model.url, "--llm-model", "m")
        assert command("doctor", *llm).code == 0
        assert len(model.requests) == 1
        model.reply = lambda _: refusal(401, "no such key")
        done = command("doctor", *llm)

    assert done.code == 3
    assert "no such key" in done.err


def test_the_state_of_a_share_is_told(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the option or the environment: whether it answers, what is given away, hold and pace."""
    share = FileShare(command.folder / "limits", "key")

    async def use() -> None:
        await share.reserve([Slots("requests", 1.0, 9_000, 0.0)], earliest=0.0, latest=1.0)
        await share.hold(60)
        await share.pace(refused=20.0)

    monkeypatch.setenv("ELLUMINATE_SHARE", f"file:{share.path}#key")
    assert "ok       share      'key' answers in" in (unused := command("doctor").err)
    assert "nobody has used it yet" in unused
    asyncio.run(use())
    done = command("doctor", "--share", "file:limits#key")

    assert done.code == 0
    assert re.search(
        r"slots of requests are given away for \d{4}\.\d s ahead; all are held", done.err
    )
    assert "the service last refused one at 20.0 requests a second" in done.err


@pytest.mark.parametrize(
    ("share", "code", "text"),
    [
        ("file:nowhere/limits", 2, "its directory does not exist"),
        ("limits", 2, "a share is named as in file:"),
        ("redis://127.0.0.1:9/0#key", 3, "127.0.0.1"),
    ],
)
def test_a_share_that_cannot_be_used(command: Command, share: str, code: int, text: str) -> None:
    """The exit code says whether it may be, later."""
    done = command("doctor", "--share", share)

    assert done.code == code
    assert re.search(f"FAILED.*share.*{re.escape(text)}", done.err)


def test_runs_elsewhere_share_what_the_environment_names(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The embedded server is this process's alone."""
    monkeypatch.setenv("ELLUMINATE_SHARE", "file:limits#key")
    given = {"data": "rows.csv", "prompt": "{{question}}", "criteria": ["Is it?"]}
    spec = Spec.model_validate(given)
    elsewhere = RunFile(title="t", spec=spec, where=Where(base_url="http://127.0.0.1:9"))

    assert options_of(elsewhere).share == FileShare("limits", "key")
    assert options_of(RunFile(title="t", spec=spec, where=Where())).share is None
    monkeypatch.setenv("ELLUMINATE_SHARE", "limits")
    with pytest.raises(ConfigurationError, match="ELLUMINATE_SHARE: a share is named as in"):
        options_of(elsewhere)


async def test_a_service_elsewhere_tells_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its clock is compared with this machine's."""
    async with LocalServer() as server:
        monkeypatch.setenv("ELLUMINATE_API_KEY", server.api_key)
        checks = await checks_of(Where(base_url=server.url))

    by_name = {check.name: check for check in checks}
    assert {check.status for check in checks} == {"ok"}
    assert "of the service's" in by_name["clock"].detail


@pytest.mark.parametrize(
    ("ahead", "status", "text"),
    [
        (0, "ok", "of the service's"),
        # A busy machine may take some of the seconds between.
        (6_000, "warning", r"^-(59\d\d|6000) s to the service's"),
        (-6_000, "warning", r"^\+60\d\d s to the service's"),
        (None, "warning", "does not tell the time"),
        ("", "warning", "cannot be read"),
    ],
)
async def test_a_clock_is_no_more_than_a_warning(
    ahead: int | str | None, status: str, text: str
) -> None:
    """Whatever it shows, runs work: the exit code stays 0, and the text says what to do."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if not isinstance(ahead, str):
            date = "" if ahead is None else f"Date: {formatdate(time.time() + ahead)}\r\n"
            writer.write(f"HTTP/1.1 200 OK\r\n{date}Content-Length: 0\r\n\r\n".encode())
        writer.close()

    checks = Checks()
    async with await asyncio.start_server(serve, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        await check_clock(checks, f"http://127.0.0.1:{port}")

    (found,) = checks.found
    assert (found.status, found.exit_code) == (status, 0)
    assert re.search(text, found.detail)
    assert status == "ok" or "see that this machine's is right" in found.detail


async def test_what_is_not_well_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A warning and a failure both name an option, a command or a place to look."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ELLUMINATE_API_KEY", "k")
    offline = await checks_of(Where())
    down = await checks_of(Where(base_url="http://127.0.0.1:9"))

    told = {check.name: check.detail for check in [*offline, *down] if check.status != "ok"}
    assert "by --llm-base-url and --llm-model" in told["model"]
    assert "check that the service runs" in told["server"]


def test_a_key_that_is_missing_or_refused_is_2(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A setting is wrong: the same again would not help."""
    done = command("doctor", "--hosted")
    assert done.code == 2
    assert "ELLUMINATE_API_KEY" in done.err

    async def refused() -> set[int]:
        async with LocalServer() as server:
            monkeypatch.setenv("ELLUMINATE_API_KEY", "wrong")
            return {check.exit_code for check in await checks_of(Where(base_url=server.url))}

    assert asyncio.run(refused()) == {0, 2}
