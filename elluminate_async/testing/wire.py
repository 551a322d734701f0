"""Requests and answers of a scripted service as plain data."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs

from elluminate_async.testing.exchange import Exchange, Reply


def answer(document: object, status: int = 200) -> Reply:
    """A JSON answer."""
    return Reply(status, json.dumps(document).encode())


def problem(status: int, detail: str, **more: object) -> Reply:
    """An error as the service words it."""
    return answer({"detail": detail, **more}, status)


def json_in(exchange: Exchange) -> Any:
    """The JSON of a request's body."""
    return json.loads(exchange.body)


def query_of(exchange: Exchange) -> dict[str, list[str]]:
    """The query of a request."""
    return parse_qs(exchange.request.query_string)


def text_in(exchange: Exchange, name: str) -> str | None:
    """The first value of that name in the query."""
    found = query_of(exchange).get(name)
    return found[0] if found else None


def number_in(exchange: Exchange, name: str) -> int | None:
    """The same as a number, where it is one."""
    found = text_in(exchange, name)
    return int(found) if found and found.isdigit() else None
