"""What the server's description promises: every status that a refusal can have."""

from __future__ import annotations

import io
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

import pytest

from elluminate_async.server import routes
from elluminate_async.server.routes.refusals import OF_ALL
from tests.server.refusals import refusals_of
from tests.server.test_server_resources import jsonl

if TYPE_CHECKING:
    from collections.abc import Callable

    import aiohttp

    from tests.server.api import Api

BATCHES = "/collections/1/entries/batches"
ROUTE = "/collections/{collection_id}/entries/batches"
JSON = {"Content-Type": "application/json"}
PROJECT = "/api/v0/projects/{project_id}"
WAITS_FOR_A_MODEL = {
    ("post", f"{PROJECT}/responses"),
    ("post", f"{PROJECT}/responses/generate"),
    ("post", f"{PROJECT}/ratings"),
    ("post", f"{PROJECT}/collections/{{collection_id}}/entries"),
}
"""Only these can be cancelled under their key while they are worked on: the code that answers under
a key is one for all."""


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


async def test_every_operation_declares_how_it_can_refuse(api: Api) -> None:
    """Just the statuses that its code comes to, beside those that any request can end in."""
    described = await api.get("//openapi.json")
    declared = {
        (method, path): {int(one) for one in operation["responses"] if int(one) >= 400}
        for path, operations in described["paths"].items()
        for method, operation in operations.items()
    }
    of_all = {int(one) for one in OF_ALL}
    found = {
        operation: {one.status: one.place for one in refusals_of(endpoint)}
        for operation, endpoint in endpoints(described).items()
    }

    assert found.keys() == declared.keys()
    assert {400, 401, 403, 413, 421, 422} < of_all
    for operation, raised in found.items():
        if operation not in WAITS_FOR_A_MODEL:
            raised.pop(410, None)
        own = declared[operation] - of_all
        assert of_all <= declared[operation]
        assert own == raised.keys() - of_all, (operation, raised)
        assert 404 in own or "_id}" not in operation[1]


async def test_every_key_of_a_refusal_is_described(api: Api) -> None:
    """Keys beside the words, such as those of what refers to an object, are in its schema."""
    described = await api.get("//openapi.json")
    schemas = described["components"]["schemas"]
    told = set[str]()
    for (method, path), endpoint in endpoints(described).items():
        responses = described["paths"][path][method]["responses"]
        for one in refusals_of(endpoint):
            schema = responses.get(str(one.status), {}).get("content", {}).get("application/json")
            if one.keys:
                name = schema["schema"]["$ref"].rpartition("/")[2]
                assert one.keys <= schemas[name]["properties"].keys(), (method, path, one)
                told |= one.keys
    assert told >= {"prompt_template_id", "references", "accepted_tasks", "key_conflicts"}


def endpoints(described: dict[str, Any]) -> dict[tuple[str, str], Callable[..., Any]]:
    """The function of each operation, by the routers of the server's modules."""
    found: dict[tuple[str, str], Callable[..., Any]] = {}
    for module in iter_modules(routes.__path__):
        router = getattr(import_module(f"{routes.__name__}.{module.name}"), "router", None)
        for route in router.routes if router else ():
            (method,) = route.methods
            paths = (f"{PROJECT}{route.path}", f"/api/v0{route.path}")
            path = next(one for one in paths if one in described["paths"])
            found[method.lower(), path] = route.endpoint
    return found
