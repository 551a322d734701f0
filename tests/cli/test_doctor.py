"""``doctor``: what it finds, and what its exit code says."""

from __future__ import annotations

import asyncio
import json

import pytest

from elluminate_async.cli.checks import checks_of
from elluminate_async.cli.service import Where
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


async def test_a_service_elsewhere_tells_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its clock is compared with this machine's."""
    async with LocalServer() as server:
        monkeypatch.setenv("ELLUMINATE_API_KEY", server.api_key)
        checks = await checks_of(Where(base_url=server.url))

    by_name = {check.name: check for check in checks}
    assert {check.status for check in checks} == {"ok"}
    assert "of the service's" in by_name["clock"].detail


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
