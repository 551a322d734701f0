"""Each version of the official client calls every route of the server that it knows, and no other.

A proxy between the two notes what was asked for and answered well. What a client does not know is
told here, route by route: all the others it must have called, both by its blocking methods and
by those that are awaited, as its program does each thing in both ways.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.faults.gateway import Gateway
from tests.official.described import Description
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
UNDESCRIBED = {
    "GET /prompt_templates?sort_options": "it is {} with every version, and sorts nothing"
}
"""Keys on the wire that no operation has, and why not."""

HALVES = ("blocking", "awaited")
SINCE_1_5_PROGRAMS = ("scenarios_1_5_2.py", "agents_1_5_2.py")
_PREFIX = "/api/v0"


class Routes(Gateway):
    """Notes the requests that were answered well, as the server's description spells them.

    Attributes:
        called: Method and route of each.
        undescribed: Keys of queries, bodies and answers that the description does not tell of.
    """

    def __init__(self, upstream: str, described: Description) -> None:
        super().__init__(upstream)
        self.called = set[str]()
        self.undescribed = set[str]()
        self._described = described

    async def passed(self, received: Received) -> bytes:
        answer = await super().passed(received)
        operation = self._described.operation_of(received.method, received.path)
        found = self._described.unknown_queries(operation, received.target)
        found |= self._described.unknown_of_answer(operation, answer)
        if received.headers.get("content-type", "").startswith("application/json"):
            found |= self._described.unknown_of_request(operation, received.body)
        self.undescribed |= found
        if answer.split(maxsplit=2)[1].startswith(b"2"):
            self.called.add(operation)
        return answer


async def description(url: str) -> Description:
    """The server's own, of all its routes."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{url}{_PREFIX}/openapi.json", headers={"X-API-Key": KEY}) as answer,
    ):
        return Description(await answer.json())


async def called(
    version: str, url: str, described: Description, program: str, *half: str
) -> Routes:
    """By that program, which itself checks what comes back."""
    async with Routes(url, described) as proxy:
        printed = await asyncio.to_thread(run, version, program, proxy.url, *half)
    assert printed.endswith("ok\n")
    return proxy


@pytest.mark.parametrize("version", UNKNOWN)
async def test_every_route_that_a_version_knows_is_called_by_it(
    server: Program, version: str
) -> None:
    """All of them by methods that block, and all of them by those that are awaited.

    No query, no key of a body and no key of an answer is one that the operation's own description
    does not have.
    """
    described = await description(server.url)
    work = [called(version, server.url, described, "every.py", half) for half in HALVES]
    if version == "1.5.2":
        # These do both.
        work += [called(version, server.url, described, name) for name in SINCE_1_5_PROGRAMS]

    proxies = await asyncio.gather(*work)
    by_blocking, by_awaiting, *by_both = [one.called for one in proxies]
    undescribed = set[str]().union(*(one.undescribed for one in proxies))
    assert sorted(undescribed) == sorted(UNDESCRIBED)

    unstreamed = STREAMED_IF_AWAITED if version.startswith("1.") else set[str]()
    there = described.operations.keys()
    assert there >= UNKNOWN[version] | unstreamed
    known = there - UNKNOWN[version]
    assert by_awaiting.union(*by_both) == known
    assert by_blocking.union(*by_both) | unstreamed == known
    assert by_blocking.isdisjoint(unstreamed)


def test_what_no_version_knows_is_ours() -> None:
    """All else is called by one of them at least."""
    assert UNKNOWN["0.6.12"] & UNKNOWN["0.7.3"] & UNKNOWN["1.0.6"] & UNKNOWN["1.5.2"] == OURS
