"""Answers that end with their reader: `run_until_disconnect`, `ndjson`, `sse`."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, cast

import anyio
from pydantic import TypeAdapter
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from elluminate_async import EvaluationRecord, ItemError
from elluminate_async.engine.tasks import mark_seen
from elluminate_async.integrations.problems import internal_problem, problem_of

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

T = TypeVar("T")

_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_JSON: Final[TypeAdapter[Any]] = TypeAdapter(Any)
# Line ends to some readers of lines, such as `str.splitlines`; in JSON only ever within a text.
_LINE_ENDS: Final = (
    ("\u0085".encode(), rb"\u0085"),
    ("\u2028".encode(), rb"\u2028"),
    ("\u2029".encode(), rb"\u2029"),
)

_log = logging.getLogger(__name__)


async def run_until_disconnect(request: Request, awaitable: Awaitable[T]) -> T:
    """``await awaitable``, which is cancelled, and waited for, once the caller has hung up.

    The request's body is read first, as else nobody sees that the caller is gone; it can be read
    afterwards as before. The awaitable runs in a task of its own, which is cancelled once: what
    it does to clean up is done.

    Raises:
        ClientDisconnect: The caller has hung up; `problem_handlers` has its end.
    """
    try:
        # Of one that was read as a stream or a form nothing is left to be read.
        with contextlib.suppress(RuntimeError):
            await request.body()
    except BaseException:
        if inspect.iscoroutine(awaitable):
            awaitable.close()
        raise
    return await _until_left(request.receive, awaitable)


async def _until_left(receive: Receive, awaitable: Awaitable[T]) -> T:
    async def left() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    task = asyncio.ensure_future(awaitable)
    task.add_done_callback(mark_seen)
    is_left = False
    try:
        async with _beside(left()) as watcher:
            await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
            is_left = not task.done()
    finally:
        await _ended(task)
    if is_left and task.cancelled():
        raise ClientDisconnect
    return task.result()


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncGenerator[asyncio.Task[None]]:
    """Have ``work`` done beside what is within, until that ends."""
    task = asyncio.create_task(work)
    task.add_done_callback(mark_seen)
    try:
        yield task
    finally:
        await _ended(task)


async def _ended(task: asyncio.Future[Any]) -> None:
    """Cancel it, once, and wait for its end."""
    task.cancel()
    with anyio.CancelScope(shield=True):
        await asyncio.wait({task})


def ndjson(
    stream: AsyncIterable[Any],
    *,
    show: Callable[[Any], Any] | None = None,
    heartbeat: float = 15.0,
) -> Response:
    r"""An answer of one line of JSON for each item of a stream, as it comes.

    ::

        {"position": 0, "value": ...}
        {"position": 2, "error": {"status": 502, "code": "generation_failed", ...}}
        {"done": true, "succeeded": 1, "failed": 1}

    The last line says whether all came: without one, or with ``"done": false`` and an ``error``,
    they did not. What goes wrong before anything was sent is raised, for `problem_handlers` to
    answer; after a first space of ``heartbeat`` it is the last line, as it is after an item. Once
    the reader has left, the stream is closed; one that reads slowly holds it back.

    Args:
        stream: Pairs of position and outcome, as of ``stream_generate_many``; records, as of
            ``stream_evaluate``, which may have a ``value`` and an ``error``; or anything that
            pydantic can write, which is numbered.
        show: Makes of each value that of its line; None leaves it as it is.
        heartbeat: Seconds without a line after which a space is sent: a line may begin with some.
    """
    return _Lines(stream, "ndjson", show, heartbeat)


def sse(
    stream: AsyncIterable[Any],
    *,
    show: Callable[[Any], Any] | None = None,
    heartbeat: float = 15.0,
    retry: float | None = None,
) -> Response:
    """The same as server-sent events: the last of type ``done``, the others with their ``id``.

    Args:
        stream: As of `ndjson`.
        show: As of `ndjson`.
        heartbeat: Seconds without an event after which a comment is sent.
        retry: Seconds after which a browser is to ask again once the answer ends, for an
            application that goes on after the header ``Last-Event-ID``. None has it not ask: all
            would be done, and paid for, once more.
    """
    return _Lines(stream, "sse", show, heartbeat, retry)


class _Lines(StreamingResponse):
    """The answer of `ndjson` and `sse`. Nothing is sent before there is something to tell."""

    def __init__(
        self,
        stream: AsyncIterable[Any],
        form: Literal["ndjson", "sse"],
        show: Callable[[Any], Any] | None,
        heartbeat: float,
        retry: float | None = None,
    ) -> None:
        kind = "text/event-stream" if form == "sse" else "application/x-ndjson"
        super().__init__(stream, media_type=kind, headers=_HEADERS)
        self._stream = stream
        self._sse = form == "sse"
        self._show = show
        self._heartbeat = heartbeat
        self._retry = retry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._is_asked_again(scope):
            # By which a browser knows that there is no more.
            await self._end_with(Response(status_code=204), scope, receive, send)
        elif scope["method"] == "HEAD":
            head = Response(media_type=self.media_type, headers=_HEADERS)
            await self._end_with(head, scope, receive, send)
        else:
            writer = _Writer(self, send)
            try:
                await _until_left(receive, self._tell(writer))
                await writer.end()
            except ClientDisconnect:
                if not writer.begun:
                    await Response(status_code=499)(scope, receive, send)

    def _is_asked_again(self, scope: Scope) -> bool:
        asked = any(name == b"last-event-id" for name, _ in scope["headers"])
        return self._sse and self._retry is None and asked

    async def _end_with(
        self, response: Response, scope: Scope, receive: Receive, send: Send
    ) -> None:
        await _close(self._stream)
        await response(scope, receive, send)

    async def _tell(self, writer: _Writer) -> None:
        if self._retry is not None:
            writer.ahead = b"retry: %d\n\n" % round(self._retry * 1000)
        counts = {"succeeded": 0, "failed": 0}
        heartbeat = b": \n\n" if self._sse else b" "
        try:
            async with _beside(writer.keep_alive(self._heartbeat, heartbeat)):
                number = 0
                async for item in self._stream:
                    position, told = _entry(number, item, self._show)
                    line = self._line({"position": position, **told}, position)
                    counts["failed" if "error" in told else "succeeded"] += 1
                    await writer.write(line)
                    number += 1
        except ClientDisconnect:
            raise
        except Exception as error:
            if not writer.begun:
                raise
            _log.warning("a stream was cut short", exc_info=error)
            problem = problem_of(error) or internal_problem()
            last = {"done": False, **counts, "error": problem.model_dump(exclude_none=True)}
        else:
            last = {"done": True, **counts}
        finally:
            await _close(self._stream)
        await writer.write(self._line(last))

    def _line(self, told: dict[str, Any], position: int | None = None) -> bytes:
        data = _JSON.dump_json(told)
        # JSON escapes the others itself.
        for raw, escaped in _LINE_ENDS:
            data = data.replace(raw, escaped)
        if not self._sse:
            return data + b"\n"
        head = b"event: done" if position is None else b"id: %d" % position
        return head + b"\ndata: " + data + b"\n\n"


class _Writer:
    """Sends the parts of one answer, each as a whole, and something where there is none.

    Attributes:
        begun: Whether the status is on its way, so that no other can be sent.
        ahead: Sent before the first part.
    """

    def __init__(self, response: _Lines, send: Send) -> None:
        self.begun = False
        self.ahead = b""
        self._response = response
        self._send = send
        self._lock = anyio.Lock()
        self._wrote_at = anyio.current_time()

    async def write(self, data: bytes) -> None:
        """Send it, once the reader has taken what was sent before."""
        async with self._lock:
            if not self.begun:
                self.begun = True
                response = self._response
                start = {"status": response.status_code, "headers": response.raw_headers}
                await self._pass({"type": "http.response.start", **start})
                data = self.ahead + data
            await self._pass({"type": "http.response.body", "body": data, "more_body": True})
            self._wrote_at = anyio.current_time()

    async def end(self) -> None:
        await self._pass({"type": "http.response.body", "body": b"", "more_body": False})

    async def keep_alive(self, seconds: float, sign: bytes) -> None:
        """Send ``sign`` whenever nothing was sent for so many seconds."""
        while True:
            await anyio.sleep(max(0.0, self._wrote_at + seconds - anyio.current_time()))
            if anyio.current_time() >= self._wrote_at + seconds:
                await self.write(sign)

    async def _pass(self, message: dict[str, Any]) -> None:
        try:
            await self._send(message)
        except OSError as error:
            # So servers tell it that keep to version 2.4 of ASGI.
            raise ClientDisconnect from error


def _entry(number: int, item: Any, show: Callable[[Any], Any] | None) -> tuple[int, dict[str, Any]]:
    """The position of an item, and what its line tells of it."""
    told: dict[str, Any] = {}
    position, value, error = number, item, None
    if isinstance(item, EvaluationRecord):
        position, error = item.position, item.error
        value = item if show else _without_errors(item)
    elif isinstance(item, tuple):
        match cast("tuple[Any, ...]", item):
            case (int() as position, ItemError() as error):
                value = None
            case (int() as position, value):
                pass
            case _:
                pass
    if error is None or value is not None:
        told["value"] = value if show is None else show(value)
    if error is not None:
        problem = problem_of(error) or internal_problem()
        told["error"] = problem.model_dump(exclude_none=True)
    return position, told


def _without_errors(record: EvaluationRecord) -> dict[str, Any]:
    """The document of a record without the texts of its errors, which may quote anything."""
    document = record.to_dict()
    return {name: document[name] for name in document if name not in ("error", "rating_error")}


async def _close(stream: AsyncIterable[Any]) -> None:
    if (aclose := getattr(stream, "aclose", None)) is not None:
        await aclose()
