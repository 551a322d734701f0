"""Which project a client works in, and how another is made."""

from __future__ import annotations

import json
import pickle
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import parse_qs

import pytest

from elluminate_async import AmbiguousProjectError, AsyncClient, InputError, NotFoundError
from elluminate_async.server import LocalServer
from elluminate_async.testing.raw import Connection, RawServer, Received, reply
from tests.flow.bench import EchoModel

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def several() -> AsyncGenerator[LocalServer]:
    """A server with the projects 1, 2 ``"second"`` and 3 ``"third"``."""
    async with LocalServer(model=EchoModel()) as server:
        async with AsyncClient(base_url=server.url, api_key=server.api_key) as client:
            for name in ("second", "third"):
                await client.projects.create(name)
        yield server


async def chosen(server: LocalServer, project: int | str | None, *, by_token: bool) -> int:
    """The id of the project that a client works in."""
    token, key = (server.api_key, None) if by_token else (None, server.api_key)
    async with AsyncClient(
        base_url=server.url, token=token, api_key=key, project=project
    ) as client:
        return (await client.projects.current()).id


async def test_a_token_takes_none_of_several_projects_silently() -> None:
    """It is an error that lists them and says how to choose; nothing else was asked for."""
    async with several() as server:
        client = AsyncClient(base_url=server.url, token=server.api_key)
        with pytest.raises(AmbiguousProjectError, match=r"2 'second', 3 'third'.*newest") as raised:
            await client.prompt_templates.list()
        await client.close()

    assert {2: "second", 3: "third"}.items() <= raised.value.projects.items()
    assert pickle.loads(pickle.dumps(raised.value)).projects == raised.value.projects


@pytest.mark.parametrize(
    ("project", "expected"), [("newest", 3), (2, 2), ("third", 3), (None, None)]
)
async def test_a_token_works_in_the_project_that_is_asked_for(
    project: int | str | None, expected: int | None
) -> None:
    """By id, by name, or the newest; None is the only one where there is one."""
    async with several() as server, LocalServer(model=EchoModel()) as alone:
        if expected is None:
            assert await chosen(alone, project, by_token=True) == 1
        else:
            assert await chosen(server, project, by_token=True) == expected


async def test_a_key_works_in_the_first_project_it_sees() -> None:
    """Which is its own; and it may ask for another."""
    async with several() as server:
        assert await chosen(server, None, by_token=False) == 1
        assert await chosen(server, "newest", by_token=False) == 3
        with pytest.raises(NotFoundError, match=r"'fourth'; it sees 1 .* 3 'third'"):
            await chosen(server, "fourth", by_token=False)


def project(id: int, name: str, organization: int = 1) -> dict[str, object]:
    owner = {"id": organization, "name": f"org {organization}"}
    return {"id": id, "name": name, "organization": owner}


@asynccontextmanager
async def listing(pages: Mapping[int, list[dict[str, object]]], count: int) -> AsyncGenerator[str]:
    """A service that lists ``pages`` of projects."""

    async def answer(received: Received, connection: Connection) -> bytes:
        (number,) = parse_qs(received.target.partition("?")[2]).get("page", ["1"])
        body = {"items": pages.get(int(number), []), "count": count}
        return reply(200, json.dumps(body).encode())

    async with RawServer(answer) as server:
        yield server.url


async def test_projects_on_later_pages_are_seen() -> None:
    """The newest may be on the last of them."""
    pages = {1: [project(1, "a"), project(9, "b")], 2: [project(12, "c"), project(4, "d")]}
    async with (
        listing(pages, 4) as url,
        AsyncClient(base_url=url, token="t", project="newest", skip_version_check=True) as client,
    ):
        assert (await client.projects.current()).id == 12


async def test_a_name_of_several_projects_is_not_guessed() -> None:
    """Their ids tell them apart."""
    async with listing({1: [project(1, "a"), project(2, "a")]}, 2) as url:
        client = AsyncClient(base_url=url, api_key="k", project="a", skip_version_check=True)
        with pytest.raises(AmbiguousProjectError, match="1 'a', 2 'a'"):
            await client.projects.current()
        await client.close()


async def test_a_project_is_not_made_for_an_organization_that_is_guessed() -> None:
    """Where the projects that the key sees are of several."""
    async with (
        listing({1: [project(1, "a", 1), project(2, "b", 2)]}, 2) as url,
        AsyncClient(base_url=url, api_key="k", skip_version_check=True) as client,
    ):
        with pytest.raises(InputError, match="1 'org 1', 2 'org 2'"):
            await client.projects.create("c")
