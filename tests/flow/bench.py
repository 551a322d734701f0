"""A scripted model and a recorder between the client and the embedded server."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from starlette.types import Send

from elluminate_async import (
    AsyncClient,
    BatchOptions,
    Collection,
    Experiment,
    PromptTemplate,
)
from elluminate_async.server import (
    LocalServer,
    ModelAnswer,
    ModelError,
    ModelRequest,
    OfflineModel,
)

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

BATCH = re.compile(r".*/(responses|ratings)/batches$")
JOB = re.compile(r".*/(?:responses|ratings)/batches/([^/]+)(/stream)?$")
TERMINAL = re.compile(rb'"status": ?"(SUCCESS|FAILURE)"')


def _nothing() -> None:
    pass


class EchoModel:
    """Answers with the prompt itself, so that a swapped answer shows; judges offline."""

    def __init__(self) -> None:
        self.failing: Callable[[str], bool] = lambda prompt: False
        self.judge_failing: Callable[[str], bool] = lambda prompt: False
        self.delay = 0.0
        self.slow: Callable[[str], float] = lambda prompt: self.delay
        self.answered = Counter[str]()
        self.noticed: Callable[[], None] = _nothing
        self._judge = OfflineModel()

    @property
    def name(self) -> str:
        return "echo"

    async def complete(self, request: ModelRequest) -> ModelAnswer:
        prompt = "\n".join(str(message["content"]) for message in request.messages)
        if request.purpose != "generate" or request.json_schema is not None:
            if self.judge_failing(prompt):
                raise ModelError("the judge is out")
            return await self._judge.complete(request)
        self.answered[prompt] += 1
        self.noticed()
        if seconds := self.slow(prompt):
            await anyio.sleep(seconds)
        if self.failing(prompt):
            raise ModelError(f"no answer to {prompt}")
        return ModelAnswer(text=f"echo {prompt}", input_tokens=1, output_tokens=1)

    async def aclose(self) -> None:
        pass


@dataclass(slots=True)
class Seen:
    """One request as the server saw it."""

    at: float
    method: str
    path: str
    headers: dict[str, str] = field(repr=False)


Fault = Callable[["Seen", "Send"], Awaitable[bool]]
"""Answers a request in the server's stead; True when it did."""


@dataclass(slots=True)
class Recorder:
    """An ASGI wrapper: counts what arrives, and lets a test answer some of it itself."""

    app: ASGIApp | None = None
    requests: list[Seen] = field(default_factory=list[Seen])
    open: int = 0
    chunks: set[str] = field(default_factory=set[str])
    key_of_job: dict[str, str] = field(default_factory=dict[str, str])
    peak_chunks: int = 0
    before: Fault | None = None
    lose: str | None = None
    after: Fault | None = None
    noticed: Callable[[], None] = _nothing

    def wrap(self, app: ASGIApp) -> Recorder:
        self.app = app
        return self

    def count(self, pattern: str, method: str | None = None) -> int:
        """Requests whose path matches."""
        return sum(
            bool(re.search(pattern, seen.path)) and method in (None, seen.method)
            for seen in self.requests
        )

    async def quiet(self) -> None:
        """Return when no request is open any more; fail after a minute."""
        with anyio.fail_after(60):
            while self.open:  # noqa: ASYNC110
                await anyio.sleep(0.01)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.app is not None
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        seen = Seen(time.monotonic(), scope["method"], scope["path"], headers)
        self.requests.append(seen)
        self.noticed()
        self.open += 1
        try:
            await self._watched(seen, scope, receive, send)
        finally:
            self.open -= 1

    async def _watched(self, seen: Seen, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.app is not None
        if self.before is not None and await self.before(seen, send):
            return
        if self.lose is not None and seen.method == "POST" and seen.path.endswith(self.lose):
            # Processed, once, and its answer lost.
            self.lose = None
            await self.app(scope, receive, _nowhere)
            await answer(send, 502)
            return
        if seen.method == "POST" and BATCH.match(seen.path):
            await self._start_job(seen, scope, receive, send)
            return

        async def watch(message: Message) -> None:
            # Before it is passed on: the client may send its next chunk right after.
            if (job := JOB.match(seen.path)) and TERMINAL.search(message.get("body", b"")):
                self.chunks.discard(self.key_of_job.get(job[1], ""))
            await send(message)

        await self.app(scope, receive, watch)

    async def _start_job(self, seen: Seen, scope: Scope, receive: Receive, send: Send) -> None:
        """Have the job made, and only then decide what the client gets to see of it.

        A chunk is in flight from its first POST, by its key, to its job's terminal status.
        """
        assert self.app is not None
        key = seen.headers["idempotency-key"]
        self.chunks.add(key)
        self.peak_chunks = max(self.peak_chunks, len(self.chunks))
        messages: list[Message] = []

        async def capture(message: Message) -> None:
            messages.append(message)

        await self.app(scope, receive, capture)
        body = b"".join(message.get("body", b"") for message in messages)
        if messages[0]["status"] < 300 and body.startswith(b'"'):
            self.key_of_job[json.loads(body)] = key
        else:
            self.chunks.discard(key)
        if self.after is None or not await self.after(seen, send):
            for message in messages:
                await send(message)


async def until(condition: Callable[[], bool]) -> None:
    """Return when ``condition`` holds; fail after a minute."""
    with anyio.fail_after(60):
        while not condition():  # noqa: ASYNC110
            await anyio.sleep(0.001)


async def cancelled_when(
    stage: Stage, condition: Callable[[], bool], call: Coroutine[Any, Any, object]
) -> None:
    """Begin the call, and cancel it at the request or model call at which ``condition`` holds."""
    task = asyncio.ensure_future(call)

    def look() -> None:
        if condition():
            stage.recorder.noticed = stage.model.noticed = _nothing
            task.cancel()

    stage.recorder.noticed = stage.model.noticed = look
    look()
    with anyio.fail_after(60), pytest.raises(asyncio.CancelledError):
        await task


async def _nowhere(message: Message) -> None:
    del message


async def answer(
    send: Send, status: int, body: bytes = b"{}", headers: dict[str, str] | None = None
) -> None:
    """Send a whole answer."""
    pairs = {"content-type": "application/json", **(headers or {})}
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(name.encode(), value.encode()) for name, value in pairs.items()],
        }
    )
    await send({"type": "http.response.body", "body": body})


@dataclass(slots=True)
class Stage:
    """A client on a server with a template, a collection and an experiment."""

    client: AsyncClient
    server: LocalServer
    model: EchoModel
    recorder: Recorder
    template: PromptTemplate
    collection: Collection
    experiment: Experiment

    async def variables(self, values: list[str]) -> Any:
        """A row for each value; equal values share a row."""
        rows = [{"x": value} for value in values]
        batch = await self.client.template_variables.add_many(rows, collection=self.collection)
        return list(batch)

    async def generate(self, values: list[str], **arguments: Any) -> Any:
        """`generate_many` over rows of these values."""
        variables = await self.variables(values)
        return await self.client.responses.generate_many(
            template_variables=variables, experiment=self.experiment, **arguments
        )


async def set_stage(
    client: AsyncClient, server: LocalServer, model: EchoModel, recorder: Recorder
) -> Stage:
    """Make what a batch needs, with three criteria; the recorder starts afresh."""
    template, _ = await client.prompt_templates.get_or_create("say {{x}}", name="Echo")
    await client.criteria.add_many(
        ["is it short?", "is it true?", "is it kind?"], prompt_template=template
    )
    collection, _ = await client.collections.get_or_create("values")
    experiment, _ = await client.experiments.get_or_create(
        "run", prompt_template=template, collection=collection
    )
    recorder.requests.clear()
    return Stage(client, server, model, recorder, template, collection, experiment)


FAST_RETRIES = BatchOptions(chunk_size=10, max_concurrency=4)


def is_batch(seen: Seen, noun: str = "responses") -> bool:
    return seen.method == "POST" and bool(BATCH.match(seen.path)) and noun in seen.path


class Once:
    """Answers the first ``times`` POSTs of responses, or of ratings, itself."""

    def __init__(
        self,
        status: int,
        times: int = 1,
        retry_after: str | None = None,
        noun: str = "responses",
    ) -> None:
        self.noun = noun
        self.status = status
        self.left = times
        self.headers = {} if retry_after is None else {"retry-after": retry_after}
        self.fired = 0

    async def __call__(self, seen: Seen, send: Send) -> bool:
        if seen.method != "POST" or f"/{self.noun}" not in seen.path or not self.left:
            return False
        self.left -= 1
        self.fired += 1
        await answer(send, self.status, json.dumps({"detail": "injected"}).encode(), self.headers)
        return True


class Outage:
    """Answers 503 to what matches, for so long."""

    def __init__(self, part: str, seconds: float) -> None:
        self.part = part
        self.until = time.monotonic() + seconds
        self.fired = 0

    async def __call__(self, seen: Seen, send: Send) -> bool:
        if self.part not in seen.path or time.monotonic() > self.until:
            return False
        self.fired += 1
        await answer(send, 503)
        return True


async def nothing_left(stage: Stage) -> None:
    """Fail unless tasks, requests and permits are as they were; waits for the server's side."""
    await stage.recorder.quiet()
    assert stage.client._connection.tasks == set()
    limits = stage.client._connection.limits
    assert limits.free_chunks == stage.client.options.max_concurrency
    sent = len(stage.recorder.requests)
    await anyio.sleep(0.1)
    assert len(stage.recorder.requests) == sent


class Boom(Exception):
    """The caller's own."""
