"""Streams as answers: lines and events, over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import Response

from elluminate_async import GenerationError, RateLimitError
from elluminate_async.integrations.fastapi import ndjson, problem_handlers, sse
from tests.evaluation.scene import CRITERIA, PROMPT, evaluating, judging, words
from tests.integrations.hosting import Answer, hang_up, hosted

SECRET = "postgres://inside"
GET = "GET / HTTP/1.1\nHost: x\n\n"


def answering(make: Callable[[], Response], *, wrapped: bool = False) -> Starlette:
    async def passing(request: Request, call_next: Any) -> Response:
        return await call_next(request)

    middleware = [Middleware(BaseHTTPMiddleware, dispatch=passing)] if wrapped else []
    app = Starlette(exception_handlers=problem_handlers(), middleware=middleware)

    async def route(request: Request) -> Response:
        return make()

    app.add_route("/", route)
    return app


async def answer_of(make: Callable[[], Response], method: str = "GET", **rest: Any) -> Answer:
    async with hosted(answering(make)) as served:
        return await served.ask(method, "/", **rest)


def lines_of(answer: Answer) -> list[Any]:
    return [json.loads(line) for line in answer.body.decode().splitlines()]


def events_of(answer: Answer) -> list[dict[str, str]]:
    """The events, as the specification has them read."""
    events: list[dict[str, str]] = []
    for block in answer.body.decode().split("\n\n"):
        fields = [line.partition(": ") for line in block.split("\n") if not line.startswith(":")]
        if event := {name: value for name, _, value in fields if name}:
            events.append(event)
    return events


def failed(position: int) -> GenerationError:
    return GenerationError(f"no answer from {SECRET}", position=position, operation="generate")


async def outcomes() -> AsyncGenerator[tuple[int, Any]]:
    """As of ``stream_generate_many``."""
    yield 1, {"text": "two\nlines\r\n\u2028"}
    yield 0, failed(0)


async def test_each_outcome_is_a_line_and_the_last_says_that_all_came() -> None:
    """With its position; an error as a problem, without the service's words."""
    answer = await answer_of(lambda: ndjson(outcomes()))

    assert lines_of(answer) == [
        {"position": 1, "value": {"text": "two\nlines\r\n\u2028"}},
        {
            "position": 0,
            "error": {
                "type": "about:blank", "title": "Bad Gateway", "status": 502,
                "detail": "The model gave no answer.", "code": "generation_failed",
                "retryable": True,
            },
        },
        {"done": True, "succeeded": 1, "failed": 1},
    ]  # fmt: skip
    assert SECRET.encode() not in answer.body
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Accel-Buffering"] == "no"


async def test_the_same_as_events() -> None:
    """One block each, whatever is in the texts, with the position as id; the last is ``done``."""
    answer = await answer_of(lambda: sse(outcomes()))

    first, second, last = events_of(answer)
    assert first == {"id": "1", "data": first["data"]}
    assert json.loads(first["data"])["value"] == {"text": "two\nlines\r\n\u2028"}
    assert second["id"] == "0"
    assert last["event"] == "done"
    assert json.loads(last["data"]) == {"done": True, "succeeded": 1, "failed": 1}
    assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"


class Point(BaseModel):
    x: float


async def test_plain_items_are_numbered() -> None:
    """Models of pydantic, and anything that it can write, None included."""

    async def items() -> AsyncGenerator[Any]:
        for item in (Point(x=1), None, ("a", 1), float("nan")):
            yield item

    told = lines_of(await answer_of(lambda: ndjson(items())))

    assert told[:-1] == [
        {"position": 0, "value": {"x": 1.0}},
        {"position": 1, "value": None},
        {"position": 2, "value": ["a", 1]},
        {"position": 3, "value": None},
    ]


async def test_streams_of_the_client_are_told() -> None:
    """Of responses, of ratings, and of records of an evaluation, which may fail in part."""
    async with evaluating() as scene:
        scene.model.failing = lambda prompt: "word1" in prompt
        judging(scene, lambda prompt: True, silent=lambda prompt: "word2" in prompt)
        client = scene.client
        template, _ = await client.prompt_templates.get_or_create(PROMPT, name="T")
        await client.criteria.add_many(CRITERIA, prompt_template=template)
        collection, _ = await client.collections.get_or_create("C")
        experiment, _ = await client.experiments.get_or_create(
            "E", prompt_template=template, collection=collection
        )
        rows = await client.template_variables.add_many(words(3), collection=collection)
        responses = await client.responses.generate_many(
            template_variables=rows, experiment=experiment
        )

        def generating() -> Response:
            stream = client.responses.stream_generate_many(
                template_variables=rows, experiment=experiment
            )
            return ndjson(stream, show=lambda response: response.response_str)

        def rating() -> Response:
            return ndjson(client.ratings.stream_rate_many(responses))

        def evaluation() -> Response:
            return ndjson(client.stream_evaluate(words(3), prompt=PROMPT, criteria=CRITERIA))

        generated, rated, evaluated = [
            lines_of(await answer_of(make)) for make in (generating, rating, evaluation)
        ]

    by_position = {line.get("position"): line for line in generated}
    assert by_position[0]["value"].startswith("echo Say word0")
    assert by_position[1]["error"]["code"] == "generation_failed"
    assert generated[-1] == {"done": True, "succeeded": 2, "failed": 1}
    by_position = {line.get("position"): line for line in rated}
    assert [one["rating"] for one in by_position[0]["value"]] == ["YES", "YES"]
    assert rated[-1] == {"done": True, "succeeded": 1, "failed": 2}
    by_position = {line.get("position"): line for line in evaluated}
    assert by_position[0]["value"]["passed"] is True
    assert by_position[1]["error"]["code"] == "generation_failed"
    assert by_position[2]["error"]["code"] == "rating_failed"
    assert by_position[2]["value"]["response"].startswith("echo Say word2")
    assert "error" not in by_position[2]["value"]


async def test_a_stream_that_breaks_says_so_in_its_last_line() -> None:
    """With the problem, and what came until then."""

    async def breaking() -> AsyncGenerator[tuple[int, Any]]:
        yield 0, "one"
        raise RateLimitError(SECRET, status=429, retry_after=3)

    answer = await answer_of(lambda: ndjson(breaking()))

    assert answer.status == 200
    *_, last = lines_of(answer)
    assert (last["done"], last["succeeded"], last["failed"]) == (False, 1, 0)
    assert (last["error"]["status"], last["error"]["retry_after"]) == (429, 3)
    assert SECRET.encode() not in answer.body


async def test_a_bug_in_the_midst_is_a_problem_that_tells_nothing() -> None:
    """It is logged; the reader learns that not all came."""

    async def breaking() -> AsyncGenerator[tuple[int, Any]]:
        yield 0, "one"
        raise KeyError(SECRET)

    answer = await answer_of(lambda: ndjson(breaking()))

    *_, last = lines_of(answer)
    assert last["error"]["status"] == 500
    assert SECRET.encode() not in answer.body


async def test_what_fails_before_the_first_item_has_a_status_of_its_own() -> None:
    """Nothing was sent yet: the answer is the problem, with its ``Retry-After``."""

    async def breaking() -> AsyncGenerator[tuple[int, Any]]:
        raise RateLimitError(SECRET, status=429, retry_after=3)
        yield

    for make in (lambda: ndjson(breaking()), lambda: sse(breaking())):
        answer = await answer_of(make)
        assert (answer.status, answer.headers["Retry-After"]) == (429, "3")


@dataclass(slots=True)
class Watched:
    """A stream of large items without end, that notes how many were asked for and its end."""

    size: int = 1 << 16
    limit: int | None = None
    asked: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def items(self) -> AsyncGenerator[tuple[int, str]]:
        try:
            while True:
                if self.asked == self.limit:
                    await anyio.sleep_forever()
                self.asked += 1
                yield self.asked, "x" * self.size
        finally:
            # Cleaning up may take its time.
            await anyio.sleep(0.01)
            self.ended.set()


@pytest.mark.parametrize("form", [ndjson, sse])
@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("limit", [0, 1])
async def test_a_reader_who_leaves_ends_the_stream(
    form: Callable[[AsyncIterable[Any]], Response], wrapped: bool, limit: int
) -> None:
    """Also before the first item, and while the stream has nothing to tell."""
    watched = Watched(size=1, limit=limit)

    async with hosted(answering(lambda: form(watched.items()), wrapped=wrapped)) as served:
        reader, writer = await served.connect(GET)
        if limit:
            assert await reader.readuntil(b"value")
        else:
            await anyio.sleep(0.05)
        hang_up(writer)
        with anyio.fail_after(30):
            await watched.ended.wait()


async def test_a_slow_reader_holds_the_stream_back() -> None:
    """What is not read is not asked for: memory stays that of the buffers on the way."""
    watched = Watched()

    async with hosted(answering(lambda: ndjson(watched.items()))) as served:
        _, writer = await served.connect(GET)
        asked = -1
        with anyio.fail_after(30):
            # Until the buffers of both ends are full.
            while asked != watched.asked or asked < 1:
                asked = watched.asked
                await anyio.sleep(0.3)
        assert asked < 500
        hang_up(writer)
        with anyio.fail_after(30):
            await watched.ended.wait()


async def test_nothing_to_tell_is_told_now_and_then() -> None:
    """By a space before the next line, or a comment: readers of either see no item in it."""
    go = asyncio.Event()

    async def slow() -> AsyncGenerator[tuple[int, str]]:
        await go.wait()
        yield 0, "late"

    for form, sign in ((ndjson, b" " * 3), (sse, b": \n\n" * 3)):
        go.clear()
        app = answering(lambda form=form: form(slow(), heartbeat=0.02))
        async with hosted(app) as served, served.session.get("/") as response:
            assert await response.content.readexactly(len(sign)) == sign
            go.set()
            answer = Answer(response.status, response.headers, await response.read())
        if form is ndjson:
            assert lines_of(answer)[0] == {"position": 0, "value": "late"}
        else:
            assert json.loads(events_of(answer)[0]["data"])["value"] == "late"


async def test_a_stream_keeps_to_one_task() -> None:
    """So that a time-out may be held open across its items."""

    async def timed() -> AsyncGenerator[str]:
        async with asyncio.timeout(30):
            for item in "abc":
                yield item
                await anyio.sleep(0.03)

    told = lines_of(await answer_of(lambda: ndjson(timed(), heartbeat=0.01)))

    assert told[-1] == {"done": True, "succeeded": 3, "failed": 0}


async def test_a_browser_is_not_to_ask_again() -> None:
    """It would once the answer ends, and all be paid for twice; 204 ends that."""
    watched = Watched()
    answer = await answer_of(lambda: sse(watched.items()), headers={"Last-Event-ID": "7"})

    assert (answer.status, answer.body, watched.asked) == (204, b"", 0)


async def test_a_browser_may_ask_again_where_the_application_goes_on() -> None:
    """Then it is told when to."""
    answer = await answer_of(lambda: sse(outcomes(), retry=2.5), headers={"Last-Event-ID": "7"})

    assert answer.body.startswith(b"retry: 2500\n\nid: 1\n")
    assert events_of(answer)[-1]["event"] == "done"


async def test_head_begins_nothing() -> None:
    """It asks for the headers only."""
    watched = Watched()
    answer = await answer_of(lambda: ndjson(watched.items()), "HEAD")

    assert (answer.status, answer.body, watched.asked) == (200, b"", 0)
    assert answer.headers["Content-Type"] == "application/x-ndjson"


async def test_an_item_that_cannot_be_written_is_not_counted() -> None:
    """The reader did not get it."""

    async def items() -> AsyncGenerator[Any]:
        yield {"n": 1}
        yield object()

    *_, last = lines_of(await answer_of(lambda: ndjson(items())))
    assert (last["done"], last["succeeded"], last["failed"]) == (False, 1, 0)
