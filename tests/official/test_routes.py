"""Each version of the official client calls every route of the server that it knows, and no other.

A proxy between the two notes what was asked for and answered well. What a client does not know is
told here, route by route: all the others it must have called, both by its blocking methods and
by those that are awaited, as its program does each thing in both ways.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.faults.gateway import Gateway
from tests.official.test_official_clients import KEY, run, server

if TYPE_CHECKING:
    from elluminate_async.testing.raw import Received
    from tests.server.program import Program

__all__ = ["server"]

pytestmark = [pytest.mark.official, pytest.mark.anyio]

# Method and path, without what all of a project have in common.
OURS = {
    # Taking back what was begun by an idempotency key, ending a job, deleting ratings.
    "DELETE /responses/generate",
    "DELETE /responses/batches",
    "DELETE /responses/batches/{task_id}",
    "DELETE /ratings",
    "DELETE /ratings/batches",
    "DELETE /ratings/batches/{task_id}",
    "DELETE /experiments",
    "DELETE /experiments/{experiment_id}/run",
    "DELETE /experiments/{experiment_id}/retry-failed",
    "DELETE /experiments/{experiment_id}/generation/{task_id}",
}
STREAMED_BEFORE_1_0 = {
    # A batch of responses is polled since then, by both clients.
    "GET /responses/batches/{task_id}/stream",
}
STREAMED_IF_AWAITED = {
    # Since 1.0 the asynchronous client alone has methods that stream; the other polls.
    "GET /ratings/batches/{task_id}/stream",
    "GET /experiments/{experiment_id}/generation/{task_id}/stream",
}
SINCE_1_0 = {
    "GET /responses/batches/{task_id}",
    "GET /ratings/batches/{task_id}",
    "GET /experiments/{experiment_id}/generation/{task_id}",
    "POST /responses/generate",
    "GET /responses/comparison/samples",
    "POST /experiments/{experiment_id}/run",
}
SINCE_1_5 = {
    "GET /responses/{response_id}",
    "PUT /criteria/{criterion_id}",
    "PUT /collections/{collection_id}/entries/{entry_id}",
    "POST /experiments/{experiment_id}/retry-failed",
    "GET /experiments/{experiment_id}/map",
    "GET /experiments/{experiment_id}/agent-results/definition",
    "POST /experiments/{experiment_id}/agent-results/preview",
    "POST /experiments/{experiment_id}/agent-results",
    "GET /scenario-sets",
    "POST /scenario-sets",
    "GET /scenario-sets/{set_id}",
    "PUT /scenario-sets/{set_id}",
    "DELETE /scenario-sets/{set_id}",
    "POST /scenario-sets/{set_id}/fields",
    "PUT /scenario-sets/{set_id}/fields/{field_id}",
    "DELETE /scenario-sets/{set_id}/fields/{field_id}",
    "GET /scenario-sets/{set_id}/scenarios",
    "POST /scenario-sets/{set_id}/scenarios",
    "POST /scenario-sets/{set_id}/scenarios/batch",
    "GET /scenario-sets/{set_id}/scenarios/{scenario_id}",
    "PUT /scenario-sets/{set_id}/scenarios/{scenario_id}",
    "DELETE /scenario-sets/{set_id}/scenarios/{scenario_id}",
}
UNKNOWN = {
    "0.6.12": OURS | SINCE_1_0 | SINCE_1_5,
    "0.7.3": OURS | SINCE_1_0 | SINCE_1_5,
    "1.0.6": OURS | STREAMED_BEFORE_1_0 | SINCE_1_5,
    "1.5.2": OURS | STREAMED_BEFORE_1_0,
}
HALVES = ("blocking", "awaited")
SINCE_1_5_PROGRAMS = ("scenarios_1_5_2.py", "agents_1_5_2.py")
_PREFIX = "/api/v0"
_PROJECT = "/projects/{project_id}"


class Routes(Gateway):
    """Notes the requests that were answered well, as the server's description spells them.

    Attributes:
        called: Method and route of each.
    """

    def __init__(self, upstream: str, described: dict[str, Any]) -> None:
        super().__init__(upstream)
        self.called = set[str]()
        # Those of the fewest parts to fill in first, which is how the server tries them.
        paths = sorted(described["paths"], key=lambda path: path.count("{"))
        self._patterns = {
            path: re.compile(re.sub(r"\{\w+\}", "[^/]+", path) + "$") for path in paths
        }

    async def passed(self, received: Received) -> bytes:
        answer = await super().passed(received)
        if answer.split(maxsplit=2)[1].startswith(b"2"):
            path = next(path for path, one in self._patterns.items() if one.match(received.path))
            self.called.add(spelled(received.method, path))
        return answer


def spelled(method: str, path: str) -> str:
    """Without what is the same for all of a project."""
    return f"{method} {path.removeprefix(_PREFIX).replace(f'{_PROJECT}/', '/')}"


def routes(described: dict[str, Any]) -> set[str]:
    """All that the server has."""
    return {
        spelled(method.upper(), path) for path, one in described["paths"].items() for method in one
    }


async def description(url: str) -> dict[str, Any]:
    """The server's own, of all its routes."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{url}{_PREFIX}/openapi.json", headers={"X-API-Key": KEY}) as answer,
    ):
        return await answer.json()


async def called(
    version: str, url: str, described: dict[str, Any], program: str, *half: str
) -> set[str]:
    """By that program, which itself checks what comes back."""
    async with Routes(url, described) as proxy:
        printed = await asyncio.to_thread(run, version, program, proxy.url, *half)
    assert printed.endswith("ok\n")
    return proxy.called


@pytest.mark.parametrize("version", UNKNOWN)
async def test_every_route_that_a_version_knows_is_called_by_it(
    server: Program, version: str
) -> None:
    """All of them by methods that block, and all of them by those that are awaited."""
    described = await description(server.url)
    work = [called(version, server.url, described, "every.py", half) for half in HALVES]
    if version == "1.5.2":
        # These do both.
        work += [called(version, server.url, described, name) for name in SINCE_1_5_PROGRAMS]

    by_blocking, by_awaiting, *by_both = await asyncio.gather(*work)

    unstreamed = STREAMED_IF_AWAITED if version.startswith("1.") else set[str]()
    there = routes(described)
    assert there >= UNKNOWN[version] | unstreamed
    known = there - UNKNOWN[version]
    assert by_awaiting.union(*by_both) == known
    assert by_blocking.union(*by_both) | unstreamed == known
    assert by_blocking.isdisjoint(unstreamed)


def test_what_no_version_knows_is_ours() -> None:
    """All else is called by one of them at least."""
    assert UNKNOWN["0.6.12"] & UNKNOWN["0.7.3"] & UNKNOWN["1.0.6"] & UNKNOWN["1.5.2"] == OURS
