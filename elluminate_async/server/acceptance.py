"""Checks of a request before anything of it is stored; refusals are 422.

A body of some bytes can cost a thousand times as much once it is read, validated, filled in or
done, and what is stored must be shown ever after. So its parts are counted as bytes before they
are made objects, and what has a form of its own is checked for it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Final

from fastapi import Request, Response
from fastapi.routing import APIRoute

from elluminate_async.schemas import CreatePromptTemplateRequest
from elluminate_async.schemas.base import MOST_ITEMS as MOST_ITEMS
from elluminate_async.schemas.generation_params import problem_of_params
from elluminate_async.schemas.messages import (
    OUTPUT_ROLES,
    TEMPLATE_ROLES,
    problem_of_choice,
    problem_of_messages,
)
from elluminate_async.schemas.prompt_templates import PLACEHOLDER, texts_in
from elluminate_async.schemas.weight import Heaviness, beside_texts, heaviness_of
from elluminate_async.server import aside
from elluminate_async.server.problems import Problem, check_count
from elluminate_async.server.store.wire_json import MOST_LEVELS, levels_exceed

MOST_EPOCHS: Final = 1_000
MOST_PLACEHOLDERS: Final = 1_000
MOST_MESSAGES: Final = 10_000

# Parts of a body, as its commas tell. Rows of the wire have one in some 25 bytes.
_MOST_PARTS: Final = 1_000_000
_BYTES_PER_PART: Final = 32
_ALWAYS_ALLOWED: Final = 64 << 20  # 100,000 rows of a single short value take as much

_Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class BoundedRoute(APIRoute):
    """A route that looks at a body before it is read as JSON."""

    def get_route_handler(self) -> _Handler:
        """The handler behind that look."""
        handle = super().get_route_handler()

        async def bounded(request: Request) -> Response:
            if not request.headers.get("content-type", "").startswith("multipart/"):
                await aside.of_body(await request.body(), check_body)
            return await handle(request)

        return bounded


def check_body(body: bytes) -> None:
    """Return when a body, or a file of JSON lines, may be read.

    Raises:
        Problem: 413 when it is of too many parts; 422 when it is nested too deeply.
    """
    if levels_exceed(body, MOST_LEVELS):
        raise Problem(422, f"the body is nested more than {MOST_LEVELS} levels deep")
    most = max(_MOST_PARTS, len(body) // _BYTES_PER_PART)
    if heaviness_of(body, _ALWAYS_ALLOWED) is Heaviness.TOO_HEAVY or (
        body.count(b",") > most and sum(map(len, beside_texts(body, b","))) > most
    ):
        raise Problem(413, "the body is made of too many small parts; send it as several requests")


def check_epochs(epochs: int) -> None:
    """422 for a number of repetitions that is none, or too high."""
    if not 1 <= epochs <= MOST_EPOCHS:
        raise Problem(422, f"n_epochs must be from 1 to {MOST_EPOCHS}")


def check_messages(messages: Sequence[dict[str, Any]], roles: Sequence[str] = OUTPUT_ROLES) -> None:
    """422 for messages that readers of them would stumble over."""
    check_count(len(messages), MOST_MESSAGES, "messages")
    if problem := problem_of_messages(messages, roles):
        raise Problem(422, problem)


def check_template(body: CreatePromptTemplateRequest) -> None:
    """422 for what cannot be a template."""
    messages = body.messages
    check_messages(messages, TEMPLATE_ROLES)
    if problem := problem_of_choice(body.tools, body.tool_choice):
        raise Problem(422, problem)
    names = {name for text in _texts_of(messages) for name in _first_names(text)}
    if len(names) > MOST_PLACEHOLDERS:
        raise Problem(422, f"more than {MOST_PLACEHOLDERS} placeholders are too many")


def _texts_of(messages: Sequence[dict[str, Any]]) -> Iterator[str]:
    for message in messages:
        yield from texts_in(message.get("content"))


def _first_names(text: str) -> set[str]:
    """The placeholders of a text, until there are too many."""
    names = set[str]()
    for found in PLACEHOLDER.finditer(text):
        names.add(found[1])
        if len(names) > MOST_PLACEHOLDERS:
            break
    return names


def check_params(params: dict[str, Any] | None) -> None:
    """422 for parameters of the wrong type, out of bounds, or that exclude each other."""
    if params is not None and (problem := problem_of_params(params)):
        raise Problem(422, problem)
