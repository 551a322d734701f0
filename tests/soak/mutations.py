"""Any bytes as an answer: valid ones, spoiled in all the ways that a seed can choose."""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

Mutation: TypeAlias = Callable[[bytes, random.Random], bytes]

_WHEN = "2026-01-01T00:00:00Z"

RESPONSE: dict[str, Any] = {
    "id": 1,
    "prompt": {
        "id": 1,
        "prompt_template": {"id": 1, "name": "T", "version": 1, "messages": []},
        "template_variables": {"id": 1, "input_values": {"x": "1"}, "created_at": _WHEN},
    },
    "messages": [{"role": "assistant", "content": "text"}],
    "generation_metadata": {"duration_seconds": 0.1, "input_tokens": 3},
    "error": None,
    "epoch": 1,
    "ratings": [{"id": 1, "criterion": {"id": 1, "criterion_str": "?"}, "rating": "YES"}],
    "created_at": _WHEN,
}
PAGE = {"items": [RESPONSE, {**RESPONSE, "id": 2}], "count": 2}
STATUS: dict[str, Any] = {
    "status": "SUCCESS",
    "error_msg": None,
    "result": [RESPONSE],
    "item_failures": [],
}
EXPERIMENT = {
    "id": 1,
    "name": "E",
    "prompt_template": {"id": 1, "name": "T", "version": 1},
    "collection": {"id": 1, "name": "C"},
    "results": {"mean_all_ratings": {"yes": 0.5, "no": 0.5}},
}
DOCUMENTS: Sequence[object] = [
    RESPONSE, PAGE, STATUS, EXPERIMENT, "3f2b", None, [], {"detail": "no"}, PAGE["items"],
]  # fmt: skip

_STATUS_LINES = [
    b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK", b"HTTP/1.1 201 Created", b"HTTP/1.1 202",
    b"HTTP/1.1 204 No Content", b"HTTP/1.1 301 Moved", b"HTTP/1.1 307 There", b"HTTP/1.1 400 Bad",
    b"HTTP/1.1 401 No", b"HTTP/1.1 403 No", b"HTTP/1.1 404 Gone", b"HTTP/1.1 409 Twice",
    b"HTTP/1.1 413 Big", b"HTTP/1.1 422 Odd", b"HTTP/1.1 429 Slow", b"HTTP/1.1 500 Oh",
    b"HTTP/1.1 503 Later", b"HTTP/1.1 599 What", b"HTTP/1.1 100 Continue", b"HTTP/1.1 101 Switch",
    b"HTTP/1.1 999 What", b"HTTP/1.1 000 What", b"HTTP/1.1 -1 What", b"HTTP/9.9 200 OK",
    b"HTTP/1.1 2\xb200 OK", b"HTTP/1.1", b"200 OK", b"ICY 200 OK", b"\x16\x03\x01\x02\x00", b"",
    b"HTTP/1.1 200 " + b"x" * 70_000, b"HTTP/1.1 200 \xff\xfe\x00",
]  # fmt: skip
_HEADERS = [
    b"Content-Length: 5", b"Content-Length: -1", b"Content-Length: 1e3", b"Content-Length: 999999",
    b"Content-Length: \xd9\xa3", b"Content-Length:", b"Content-Length: 99999999999999999999999",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: what",
    b"Content-Encoding: gzip", b"Content-Encoding: deflate", b"Content-Encoding: br",
    b"Content-Encoding: zstd", b"Content-Encoding: what", b"Content-Encoding: gzip, gzip",
    b"Content-Type: text/event-stream", b"Content-Type: text/html; charset=\xff",
    b"Content-Type: \x00", b"Content-Type: application/json; charset=utf-99",
    b"Retry-After: 0", b"Retry-After: 1e400", b"Retry-After: nan", b"Retry-After: -5",
    b"Retry-After: Wed, 99 Foo 2026 99:99:99 GMT", b"Retry-After: 99999999999999999999",
    b"Date: Mon, 01 Jan 0001 00:00:00 +9999", b"Date: \xff", b"X-Request-Id: \xff\xfe",
    b"Location: http://[::1", b"Location: //other.invalid/", b"Set-Cookie: a=\x01; Expires=x",
    b"Connection: upgrade", b"Upgrade: websocket", b"Connection: close", b"Trailer: X",
    b"X: " + b"y" * 70_000, b"No colon", b": no name", b" folded: yes", b"A\x00B: c", b"X\xff: y",
    b"Bad Header : x", b"\r: x",
]  # fmt: skip
_VALUES: Sequence[Any] = [
    None, True, 0, -1, 1.5, 10**30, 1e308, "", "x", "\ud800", "\x00", "SUCCESS", "9" * 50, [], {},
    [[]], {"a": 1}, {"": None}, "1970-13-45T99:99:99Z", "🙂" * 10,
]  # fmt: skip
_RAW_JSON = [
    b"NaN", b"-Infinity", b"1" * 5000, b"[" * 200_000, b'{"a":' * 5000, b'"\\ud800"', b'"\\u12"',
    b'{"id":1,"id":2}', b"\xef\xbb\xbf{}", b"{} {}", b"'x'", b"\xff\xfe{\x00}\x00", b"null", b"",
    b"<html><body>log in</body></html>", b"1e999", b'"' + b"a" * 100_000 + b'"', b"-", b"tru",
]  # fmt: skip
_BOMB = gzip.compress(bytes(40 << 20))
"""Small on the wire, over the cap once unpacked."""

_EVENTS = [
    b"data: %s\n\n", b"data: %s\r\n\r\n", b"data: %s\r\r", b"data:%s\n\n",
    b"event: end\ndata: %s\n\n",
    b": comment\n\n", b"data\n\n", b"data:\n\n", b"id: a\x00b\ndata: %s\n\n", b"retry: 1e12\n\n",
    b"retry: 99999999999999999999\n\n", b"data: {\n\n", b"\xff\xfe\xfd\n\n", b"data: \xe2\x82\n\n",
    b"\xef\xbb\xbfdata: %s\n\n", b"data: a\ndata: %s\n\n", b"data: %s",
    b'data: {"status":"ODD"}\n\n',
    b'data: {"status":null}\n\n', b'data: {"status":"FAILURE","error_msg":5}\n\n', b"\n\n\n",
    b"data: " + b"z" * 200_000 + b"\n\n", b"data: [1]\n\n", b'data: {"status":"PENDING"}\n\n',
]  # fmt: skip


def answer_bytes(rng: random.Random, document: object, *, stream: bool) -> bytes:
    """The bytes of one answer: now and then valid, mostly not."""
    choice = rng.random()
    if choice < 0.03:
        return rng.randbytes(rng.choice([0, 1, 10, 1000, 100_000]))
    body = _stream(document, rng) if stream else _body(document, rng)
    data = _message(body, rng, stream=stream)
    for _ in range(rng.choice([0, 0, 0, 1, 1, 3])):
        data = rng.choice(_BYTE_MUTATIONS)(data, rng)
    return data


def _body(document: object, rng: random.Random) -> bytes:
    choice = rng.random()
    if choice < 0.1:
        return rng.choice(_RAW_JSON)
    if choice < 0.75:
        for _ in range(rng.choice([1, 1, 2, 4])):
            document = _spoil(document, rng)
    text = json.dumps(document, ensure_ascii=rng.random() < 0.8)
    return text.encode(errors="surrogatepass")


def _spoil(document: Any, rng: random.Random) -> Any:
    """A copy with one place in it changed, left out, doubled or renamed."""
    if isinstance(document, dict) and document and rng.random() < 0.85:
        changed: dict[str, Any] = dict(document)  # type: ignore[arg-type]
        name = rng.choice(list(changed))
        match rng.randrange(6):
            case 0:
                del changed[name]
            case 1:
                changed[name + rng.choice(["", " ", "s", "\x00"])] = changed.pop(name)
            case _:
                changed[name] = _spoil(changed[name], rng)
        return changed
    if isinstance(document, list) and document and rng.random() < 0.85:
        items: list[Any] = list(document)  # type: ignore[arg-type]
        index = rng.randrange(len(items))
        match rng.randrange(4):
            case 0:
                del items[index]
            case 1:
                items.append(items[index])
            case _:
                items[index] = _spoil(items[index], rng)
        return items
    return rng.choice(_VALUES)


def _stream(document: object, rng: random.Random) -> bytes:
    parts: list[bytes] = []
    for _ in range(rng.choice([1, 2, 5])):
        event = rng.choice(_EVENTS) if rng.random() < 0.6 else _EVENTS[0]
        parts.append(event.replace(b"%s", _body(document, rng)))
    return b"".join(parts)


def _message(body: bytes, rng: random.Random, *, stream: bool) -> bytes:
    content_type = b"text/event-stream" if stream else b"application/json"
    headers = [b"Content-Type: " + content_type]
    encoding = rng.random()
    if encoding < 0.05:
        body, name = gzip.compress(body), b"gzip"
        headers.append(b"Content-Encoding: " + name)
    elif encoding < 0.08:
        body = zlib.compress(body)
        headers.append(b"Content-Encoding: deflate")
    elif encoding < 0.084:
        body = _BOMB
        headers.append(b"Content-Encoding: gzip")
    framing = rng.random()
    if framing < 0.6:
        headers.append(b"Content-Length: %d" % len(body))
    elif framing < 0.85:
        headers.append(b"Transfer-Encoding: chunked")
        body = _chunked(body, rng)
    if rng.random() < 0.2:
        for _ in range(rng.choice([1, 1, 3])):
            headers.insert(rng.randint(0, len(headers)), rng.choice(_HEADERS))
    line = rng.choice(_STATUS_LINES) if rng.random() < 0.15 else b"HTTP/1.1 200 OK"
    interim = rng.choice([b"", b"", b"", b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n"])
    end = b"\r\n" if rng.random() < 0.97 else b"\n"
    return interim + end.join([line, *headers, b"", b""]) + body


def _chunked(body: bytes, rng: random.Random) -> bytes:
    parts: list[bytes] = []
    while body:
        size = min(len(body), rng.randint(1, max(1, len(body))))
        parts.append(b"%x\r\n%b\r\n" % (size, body[:size]))
        body = body[size:]
    end = rng.choice(
        [b"0\r\n\r\n"] * 8 + [b"", b"0\r\n", b"-1\r\n\r\n", b"zz\r\n", b"0;x\r\nA: b\r\n\r\n"]
    )
    return b"".join([*parts, end])


def _flip(data: bytes, rng: random.Random) -> bytes:
    if not data:
        return data
    index = rng.randrange(len(data))
    return data[:index] + bytes([data[index] ^ (1 << rng.randrange(8))]) + data[index + 1 :]


def _truncate(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randint(0, len(data))]


def _insert(data: bytes, rng: random.Random) -> bytes:
    index = rng.randint(0, len(data))
    return data[:index] + rng.randbytes(rng.choice([1, 3, 50])) + data[index:]


def _double(data: bytes, rng: random.Random) -> bytes:
    start = rng.randint(0, len(data))
    end = rng.randint(start, len(data))
    return data[:end] + data[start:end] + data[end:]


def _remove(data: bytes, rng: random.Random) -> bytes:
    start = rng.randint(0, len(data))
    return data[:start] + data[start + rng.choice([1, 2, 20]) :]


_BYTE_MUTATIONS: Sequence[Mutation] = [_flip, _truncate, _insert, _double, _remove]
