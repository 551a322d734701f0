"""Requests and a server's store as facts: what two runs have in common is spelled the same.

Ids are compared as they are, as both runs begin with copies of one store. What no two runs have
in common is masked: times, durations, ids of jobs and keys; whether there is one is compared.
"""

from __future__ import annotations

import gzip
import json
import re
import sqlite3
from collections import Counter, defaultdict
from contextlib import closing
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ROOT = "/api/v0"
_PROJECT = f"{_ROOT}/projects/1"
_TASK = re.compile(r"\b[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}\b")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)?")
_SEALED = re.compile(r"sealed:1:[^\"]+")
_SECONDS = re.compile(r"(?:^|_)seconds$")
# Read as often as a watcher likes.
_WATCHED = re.compile(r"GET .*/\{task\}$|POST /version/compatible$")
# Of one run alone, and of no known form.
_OWN = {"idempotency": ("key", "body_sha256")}


class Fact(NamedTuple):
    """A request, or a row of the store.

    Attributes:
        line: Which one it is.
        parts: All that it has, by names.
    """

    line: str
    parts: Mapping[str, str]


class Recording:
    """Notes the requests that come to a server, each with the status of its answer."""

    def __init__(self) -> None:
        self.requests: list[Fact] = []
        self._app: ASGIApp | None = None

    def wrap(self, app: ASGIApp) -> Recording:
        """Stand before ``app``: a server's ``wrap``."""
        self._app = app
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and note it once its answer begins."""
        assert self._app is not None
        body = bytearray()

        async def read() -> Message:
            message = await receive()
            body.extend(message.get("body", b""))
            return message

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.requests.append(request(scope, bytes(body), message["status"]))
            await send(message)

        await self._app(scope, read, answer)


def request(scope: Scope, body: bytes, status: int) -> Fact:
    """A request as a fact."""
    path = masked(scope["path"])
    path = path.removeprefix(_PROJECT if path.startswith(f"{_PROJECT}/") else _ROOT)
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    parts = {"status": str(status)}
    if "idempotency-key" in headers:
        parts["header Idempotency-Key"] = "given"
    for name, value in parse_qsl(scope["query_string"].decode(), keep_blank_values=True):
        before = parts.get(f"query {name}")
        parts[f"query {name}"] = masked(value if before is None else f"{before},{value}")
    parts |= _body(headers, body)
    return Fact(f"{scope['method']} {path}", parts)


def _body(headers: Mapping[str, str], body: bytes) -> dict[str, str]:
    if not body:
        return {}
    if headers.get("content-encoding") == "gzip":
        body = gzip.decompress(body)
    form = headers.get("content-type", "none").partition(";")[0]
    if form == "application/json":
        return {f"body {name}": value for name, value in _flat("", json.loads(body))}
    # A file, alone or as one part of several: its lines are objects.
    lines = [line for line in body.decode().splitlines() if line.startswith(("{", "["))]
    return {
        "form": form,
        **{f"line {place}": _spelled(json.loads(line)) for place, line in enumerate(lines)},
    }


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Each leaf of a document by its path, so that differences are small."""
    if isinstance(value, dict) and value:
        for key, one in cast("dict[str, Any]", value).items():
            yield from _flat(f"{name}.{key}" if name else key, one)
    elif isinstance(value, list) and any(isinstance(one, dict) for one in cast("list[Any]", value)):
        for place, one in enumerate(cast("list[Any]", value)):
            yield from _flat(f"{name}[{place}]", one)
    elif _SECONDS.search(name) and value is not None:
        yield name, "<seconds>"
    else:
        yield name, _spelled(value)


def _spelled(value: Any) -> str:
    return masked(json.dumps(value, sort_keys=True, ensure_ascii=False))


def masked(text: str) -> str:
    """Without what is of this run alone."""
    text = _SEALED.sub("<sealed>", text)
    return _TIME.sub("<time>", _TASK.sub("{task}", text))


def stored(path: Path) -> list[Fact]:
    """All rows of a store that no server has open."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        tables = db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        return [fact for (table,) in tables.fetchall() for fact in _rows(db, table)]


def _rows(db: sqlite3.Connection, table: str) -> Iterator[Fact]:
    columns = db.execute(f"PRAGMA table_info({table})").fetchall()
    names = tuple(name for _, name, *_ in columns)
    own = _OWN.get(table, ())
    keys = tuple(name for _, name, *_, place in columns if place and name not in own)
    order = ", ".join(keys) or "rowid"
    for row in db.execute(f"SELECT * FROM {table} ORDER BY {order}"):
        yield _row(table, names, keys, row)


@cache  # most rows of a copy are those of all others
def _row(table: str, names: tuple[str, ...], keys: tuple[str, ...], row: tuple[Any, ...]) -> Fact:
    values = dict(zip(names, row, strict=True))
    own = _OWN.get(table, ())
    parts: dict[str, str] = {}
    for name, value in values.items():
        parts |= {name: "<own>"} if name in own else dict(_cell(name, value))
    return Fact(f"{table} {' '.join(str(values[name]) for name in keys)}", parts)


def _cell(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, str) and value.startswith(("{", "[")):
        try:
            yield from _flat(name, json.loads(value))
        except ValueError:
            pass
        else:
            return
    yield from _flat(name, value)


def differences(ours: Iterable[Fact], theirs: Iterable[Fact]) -> set[str]:
    """All that only one of the two has, a line for each.

    Facts of the same line are compared part by part; a fact without its like is one line. In
    which order they are is not compared.
    """
    found: list[str] = []
    by_line: dict[str, tuple[list[Fact], list[Fact]]] = defaultdict(lambda: ([], []))
    for side, facts in enumerate((ours, theirs)):
        for fact in facts:
            known = by_line[fact.line][side]
            if not (_WATCHED.match(fact.line) and fact in known):
                known.append(fact)
    for one, other in by_line.values():
        _take_equal(one, other)
        for mine, yours in zip(one, other, strict=False):
            found += _parts(mine, yours)
        count = min(len(one), len(other))
        found += [f"ours: {_told(fact)}" for fact in one[count:]]
        found += [f"official: {_told(fact)}" for fact in other[count:]]
    return {
        line if count == 1 else f"{line}, {count} times" for line, count in Counter(found).items()
    }


def _take_equal(one: list[Fact], other: list[Fact]) -> None:
    for fact in list(one):
        if fact in other:
            one.remove(fact)
            other.remove(fact)


def _parts(mine: Fact, yours: Fact) -> Iterator[str]:
    for side, has, lacks in (("ours", mine, yours), ("official", yours, mine)):
        for name, value in has.parts.items():
            if lacks.parts.get(name) != value:
                yield f"{side}: {has.line} {name}={value}"


def _told(fact: Fact) -> str:
    query = [f"{name[6:]}={fact.parts[name]}" for name in fact.parts if name.startswith("query ")]
    return fact.line + (f"?{'&'.join(sorted(query))}" if query else "")
