"""What the server's description promises: every status that a refusal can have."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest

from tests.server.test_server_resources import jsonl

if TYPE_CHECKING:
    import aiohttp

    from tests.server.api import Api

BATCHES = "/collections/1/entries/batches"
ROUTE = "/collections/{collection_id}/entries/batches"
JSON = {"Content-Type": "application/json"}


def broken() -> aiohttp.FormData:
    return jsonl("{")


def dense() -> io.BytesIO:
    return io.BytesIO(b"[" + b"0," * 8_000_000)


@pytest.mark.parametrize(
    ("status", "method", "path", "route", "sent"),
    [
        (400, "POST", "/criteria", "/criteria", {"json": {"criteria": []}}),
        (
            400,
            "POST",
            BATCHES,
            ROUTE,
            {"data": lambda: jsonl("{")},
        ),
        (404, "GET", "/experiments/99", "/experiments/{experiment_id}", {}),
        (404, "DELETE", "/responses/99", "/responses/{response_id}", {}),
        (409, "POST", "/experiments", "/experiments", {"json": {"name": "E"}}),
        (413, "POST", "/responses/batches", "/responses/batches", {"data": dense, "headers": JSON}),
        (415, "POST", BATCHES, ROUTE, {"json": {}}),
        (422, "POST", "/prompt_templates", "/prompt_templates", {"json": {"messages": [1]}}),
    ],
)
async def test_refusals_are_documented(
    api: Api, status: int, method: str, path: str, route: str, sent: dict[str, Any]
) -> None:
    """A status that is answered is one that the route's description names."""
    await api.setup(["a"])
    make = sent.get("data")
    answer = await api(
        method,
        path,
        sent.get("json"),
        data=make and make(),
        headers=sent.get("headers"),
    )
    assert answer.status == status
    described = await api.get("//openapi.json")
    operation = described["paths"][f"/api/v0/projects/{{project_id}}{route}"][method.lower()]
    assert str(status) in operation["responses"]


async def test_a_wrong_key_is_documented(api: Api) -> None:
    """Of every operation, as none is open without a key."""
    described = await api.get("//openapi.json")
    operations = [operation for path in described["paths"].values() for operation in path.values()]
    assert len(operations) > 50
    assert all({"401", "404", "413"} <= operation["responses"].keys() for operation in operations)
