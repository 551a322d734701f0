"""One exchange as data: a request, its answer, and what a failure of it is called."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, cast
from urllib.parse import quote

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from elluminate_async.errors import (
    DETAIL_LIMIT,
    AnswerTooLargeError,
    APIError,
    AttemptTimeoutError,
    ConnectError,
    ElluminateError,
    ProtocolError,
    RedirectError,
    TransportError,
    api_error_class,
)
from elluminate_async.schemas.version import REPLAYED_HEADER
from elluminate_async.transport.blotting import NOTHING_TO_BLOT, Blotter
from elluminate_async.transport.encoding import Decompressor
from elluminate_async.transport.retry_after import parse_retry_after
from elluminate_async.transport.weight import check_weight

MAX_BODY_BYTES = 32 << 20
"""Cap on an answer's body, decompressed."""

MAX_ERROR_BYTES = 64 << 10
"""Cap on the body that an error keeps."""

_QUOTED = 8 << 10  # characters of a library's error text that are looked at

# What aiohttp lets out; any of them is about the transport, also where it carries a status.
NETWORK_ERRORS = (aiohttp.ClientError, HttpProcessingError, OSError, EOFError, ValueError)

_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})
_HEADERS_READ = ("X-Request-Id", "Retry-After", "Date", "Location", REPLAYED_HEADER)


class Incoming:
    """An answer whose head has come; unlike aiohttp's own, its `repr` shows nothing of it.

    Error trackers report the locals of frames, and an answer's headers may show the request's.
    """

    __slots__ = ("response",)

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    @property
    def is_event_stream(self) -> bool:
        """Whether events follow."""
        response = self.response
        return response.status == 200 and response.content_type == "text/event-stream"

    def release(self) -> None:
        """Keep the connection of an answer that was read to its end; close any other."""
        self.response.release()


class SendLog(Protocol):
    """Told of a request's sendings, so as to remember one that may have been applied."""

    @property
    def key(self) -> str:
        """The request's idempotency key."""
        ...

    @property
    def of_chunk(self) -> bool:
        """Whether it is a chunk, for which others of its batch may wait."""
        ...

    async def before_sending(self) -> None:
        """It is about to leave; raises to keep it from that."""
        ...

    def not_applied(self) -> None:
        """None of its sendings so far was applied."""
        ...


@dataclass(frozen=True, slots=True)
class Request:
    """One logical request.

    Attributes:
        path: Path segments under the base URL; each is quoted.
        query: Pairs, repeated keys allowed.
        idempotency_key: Sent as a header. It makes a repetition of a POST safe only where
            ``key_honoured``, that is where the service says that it honours keys.
        harmless: A POST whose repetition changes nothing, by what it asks for.
        last_event_id: Of the stream that this one takes up again.
        fresh_connection: Not one that another request has used.
        items: What it counts towards a limit on items.
        is_last: Sent after the client's calls were ended.
        log: Told of each sending, where something is paid for.
    """

    method: str
    path: Sequence[str | int]
    query: Sequence[tuple[str, str]] = ()
    body: bytes | None = field(default=None, repr=False)
    content_type: str = "application/json"
    idempotency_key: str | None = None
    key_honoured: bool = False
    harmless: bool = False
    last_event_id: str = ""
    fresh_connection: bool = False
    items: int = 0
    is_last: bool = False
    log: SendLog | None = field(default=None, repr=False)

    @property
    def target(self) -> str:
        """The quoted path."""
        return "/" + "/".join(map(_quoted, self.path))

    @property
    def is_chunk(self) -> bool:
        """Whether it sends a chunk, for which others of its batch may wait."""
        return self.log is not None and self.log.of_chunk

    @property
    def repeatable(self) -> bool:
        """Whether a second sending does no harm even if the first was applied."""
        keyed = self.idempotency_key is not None and self.key_honoured
        return keyed or self.harmless or self.method in _IDEMPOTENT


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer.

    Attributes:
        attempts: How often the request was sent until this answer came.
        blotter: Takes the credential out where the answer is quoted: it may show the request.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    attempts: int = 1
    blotter: Blotter = field(default=NOTHING_TO_BLOT, repr=False)

    @property
    def quotable(self) -> bytes:
        """The body, for an error."""
        return self.blotter.blotted(self.body)

    @property
    def is_replayed(self) -> bool:
        """Whether the service had answered an earlier request of this key so."""
        return self.headers.get(REPLAYED_HEADER) == "true"

    @property
    def is_redirect(self) -> bool:
        """Whether it is a 3xx."""
        return 300 <= self.status < 400

    @property
    def request_id(self) -> str | None:
        """The service's id of the exchange."""
        id = self.headers.get("X-Request-Id")
        return None if id is None else self.blotter.text(id)

    @property
    def retry_after(self) -> float | None:
        """Seconds the service asks to wait."""
        return parse_retry_after(self.headers.get("Retry-After"), date=self.headers.get("Date"))


def _quoted(segment: str | int) -> str:
    text = str(segment)
    # What most are; `quote` leaves them as they are, and takes its time.
    return text if text.isalnum() and text.isascii() else quote(text, safe="")


async def read_answer(incoming: Incoming, blotter: Blotter) -> Answer:
    """The whole answer to a request whose credential ``blotter`` takes out.

    Raises:
        ProtocolError: Its body is over the cap, cannot be decompressed or was cut, or only
            the end of the connection says where it ends and it is no whole JSON.
    """
    response = incoming.response
    body = bytearray()
    decompressor = decompressor_of(incoming, blotter)
    while data := await response.content.readany():
        for piece in decompressor.feed(data):
            body += piece
            if len(body) > MAX_BODY_BYTES:
                # Of an error the next may be shorter; of what was asked for it is as long.
                kind = AnswerTooLargeError if 200 <= response.status < 300 else ProtocolError
                raise kind(
                    f"an answer's body is over {MAX_BODY_BYTES} bytes; ask for less at once, "
                    "for example by a smaller chunk_size",
                    sent=True,
                )
    decompressor.end()
    if _is_unframed(response) and not _is_json(body):
        raise ProtocolError("an answer without a length that is no whole JSON", sent=True)
    # A field that came twice is one list of both: RFC 9110 section 5.3.
    headers = {
        name: ", ".join(response.headers.getall(name))
        for name in _HEADERS_READ
        if name in response.headers
    }
    if not 200 <= response.status < 300:
        headers = {name: blotter.text(value) for name, value in headers.items()}
    return Answer(response.status, headers, bytes(body), blotter=blotter)


def decompressor_of(incoming: Incoming, blotter: Blotter) -> Decompressor:
    """The decoder of the body.

    Raises:
        ProtocolError: It is encoded in a way that was not asked for.
    """
    encoding = ", ".join(incoming.response.headers.getall("Content-Encoding", ()))
    if not Decompressor.knows(encoding):
        encoding = blotter.text(encoding)
    return Decompressor(encoding)


def _is_unframed(response: aiohttp.ClientResponse) -> bool:
    framed = {"Content-Length", "Transfer-Encoding"} & {*map(str.title, response.headers)}
    return not framed and 200 <= response.status < 300 and response.status not in (204, 205)


def _is_json(body: bytes | bytearray) -> bool:
    check_weight(body)
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True


def redirect_error(request: Request, how: str = "", attempts: int = 1) -> RedirectError:
    """The error of a redirect that is not followed."""
    return RedirectError(
        f"{request.method} {request.target} was redirected{how}, and that is not followed so "
        "that the key stays with its origin: set base_url to where the service is",
        sent=True,
        attempts=attempts,
    )


def final_error(
    request: Request, result: Answer | TransportError, attempts: int
) -> ElluminateError:
    """The error to raise when ``result`` was the last attempt."""
    if isinstance(result, TransportError):
        result.attempts = attempts
        return result
    if result.is_redirect:
        return redirect_error(request, attempts=attempts)
    if result.status < 200:
        return ProtocolError(
            f"{request.method} {request.target} was answered {result.status}, "
            "which nothing had asked for",
            sent=True,
            attempts=attempts,
        )
    return api_error(request, result, attempts)


def api_error(request: Request, answer: Answer, attempts: int = 1) -> APIError:
    """The error of a complete answer that is not 2xx."""
    is_small = len(answer.body) <= MAX_ERROR_BYTES
    parsed: object = None
    # A longer one is quoted as it is: its beginning says as much, and costs no more than that.
    if is_small:
        with suppress(ValueError, RecursionError):
            parsed = json.loads(answer.quotable)
    body = cast("dict[str, Any]", parsed) if isinstance(parsed, dict) else None
    detail = body.get("detail") if body else None
    if detail is None:
        limit = DETAIL_LIMIT if not is_small and answer.body.startswith(b"{") else 200
        detail = excerpt(answer, limit) or "no detail given"
    text = detail if isinstance(detail, str) else json.dumps(detail)
    return api_error_class(answer.status)(
        # JSON may hold halves of characters, which no log and no file takes.
        text.encode(errors="replace").decode(),
        status=answer.status,
        method=request.method,
        path=request.target,
        request_id=answer.request_id,
        retry_after=answer.retry_after,
        attempts=attempts,
        body=body,
    )


def excerpt(answer: Answer, limit: int = 200) -> str:
    """The beginning of a body, for an error's text."""
    beginning = answer.blotter.beginning(answer.body, limit * 4)
    return beginning.decode(errors="replace")[:limit].strip()


def transport_error(
    error: BaseException, request: Request, base_url: str, *, sent: bool, blotter: Blotter
) -> TransportError:
    """This package's error for one of aiohttp's, by how far the request came."""
    if isinstance(error, TransportError):
        # The frames that it comes from hold the answer, which may show the request.
        return error.with_traceback(None)
    # aiohttp's own text of a failed connection repeats the address and its settings.
    reason = error.os_error.strerror if isinstance(error, aiohttp.ClientConnectorError) else None
    text = reason or str(error) or type(error).__name__
    if isinstance(error, aiohttp.ClientResponseError):
        text = error.message
    # aiohttp's parser quotes what it cannot read.
    text = blotter.text(text[:_QUOTED])[:200]
    what = f"{request.method} {request.target}"
    if not sent:
        exhausted = isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)
        hint = "check that the service runs and that base_url is right"
        if exhausted:
            hint = "lower max_concurrency, or raise the limit of open files"
        unreachable = ConnectError(f"cannot reach {base_url}: {text}; {hint}", sent=False)
        unreachable.worth_repeating = not isinstance(
            error, aiohttp.ClientConnectorCertificateError | aiohttp.InvalidURL
        )
        unreachable.exhausted = exhausted
        return unreachable
    if isinstance(error, TimeoutError | asyncio.TimeoutError):
        return AttemptTimeoutError(f"no answer to {what} in time", sent=True)
    if isinstance(error, aiohttp.ClientResponseError):
        # Its status is invented by the parser (always 400), so only the text is used.
        return ProtocolError(f"unreadable answer to {what}: {text}", sent=True)
    if isinstance(error, ValueError | HttpProcessingError):
        return ProtocolError(f"unreadable answer to {what}: {text}", sent=True)
    return TransportError(f"the connection broke during {what}: {text}", sent=True)


def reason_of(result: Answer | TransportError) -> str:
    """Why there was no answer that counts, in a few words."""
    if isinstance(result, Answer):
        return f"HTTP {result.status}"
    return str(result)


def without_headers(error: asyncio.CancelledError) -> asyncio.CancelledError:
    """``error`` without the frames below: they hold the request's headers among their locals.

    Error trackers report those.
    """
    return error.with_traceback(None)


def multipart_file(
    name: str, filename: str, content: bytes, content_type: str
) -> tuple[bytes, str]:
    """A form of one file part: the body and its content type. Source: RFC 7578.

    Equal contents give equal bodies, so that a repetition is recognised as one.
    """
    boundary = hashlib.sha256(content).hexdigest()
    head = (
        f"--{boundary}\r\n"
        f'Content-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
        f"Content-Type: {content_type}\r\n\r\n"
    ).encode()
    body = b"".join((head, content, f"\r\n--{boundary}--\r\n".encode()))
    return body, f"multipart/form-data; boundary={boundary}"
