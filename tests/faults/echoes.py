"""Ways to write a credential, and a look for it in everything that hangs on an exception."""

from __future__ import annotations

import base64
import binascii
import codecs
import html
import json
import pickle
import re
import traceback
from collections.abc import Callable, Iterator
from functools import lru_cache
from types import TracebackType
from urllib.parse import quote, unquote

from elluminate_async import ElluminateError

PART = 12
"""Characters of a key that count as the key."""


def _mixed(key: str) -> str:
    return "".join((c, f"\\u{ord(c):04x}", f"\\u{ord(c):04X}", c)[i % 4] for i, c in enumerate(key))


def _base64_after(before: str, encode: Callable[[bytes], bytes]) -> Callable[[str], str]:
    return lambda key: encode(f"{before}{key}!".encode()).decode()


FORMS: dict[str, Callable[[str], str]] = {
    "raw": lambda key: key,
    "upper case": str.upper,
    "lower case": str.lower,
    "bearer": lambda key: f"Bearer {key}",
    "cut at its end": lambda key: key[:-3],
    "cut at its beginning": lambda key: key[3:],
    "quoted": lambda key: f"'{key}'",
    "repr": repr,
    "repr of bytes": lambda key: repr(key.encode()),
    "JSON": lambda key: json.dumps(key)[1:-1],
    "JSON, slashes escaped": lambda key: json.dumps(key)[1:-1].replace("/", "\\/"),
    "JSON, all escaped, lower case": lambda key: "".join(f"\\u{ord(c):04x}" for c in key),
    "JSON, all escaped, upper case": lambda key: "".join(f"\\u{ord(c):04X}" for c in key),
    "JSON, mixed": _mixed,
    "JSON in JSON": lambda key: json.dumps(json.dumps(_mixed(key)))[1:-1],
    "backslash x": lambda key: "".join(f"\\x{ord(c):02x}" for c in key),
    "octal": lambda key: "".join(f"\\{ord(c):03o}" for c in key),
    "URL": lambda key: quote(key, safe=""),
    "URL, lower case": lambda key: re.sub("%..", lambda m: m[0].lower(), quote(key, safe="")),
    "URL, all escaped": lambda key: "".join(f"%{ord(c):02x}" for c in key),
    "URL in URL": lambda key: quote(quote(key, safe=""), safe=""),
    "URL in a query": lambda key: f"?key={quote(key)}&more=1",
    "HTML": html.escape,
    "HTML twice": lambda key: html.escape(html.escape(key)),
    "HTML, decimal": lambda key: "".join(f"&#{ord(c)};" for c in key),
    "HTML, hexadecimal": lambda key: "".join(f"&#x{ord(c):X};" for c in key),
    "HTML, named": lambda key: key.replace("+", "&plus;").replace("/", "&sol;"),
    "quoted-printable": lambda key: "".join(f"={ord(c):02X}" for c in key),
    "hex": lambda key: key.encode().hex(),
    "hex, upper case": lambda key: key.encode().hex().upper(),
    "base64": lambda key: base64.b64encode(key.encode()).decode(),
    "base64, shifted by 1": _base64_after("a", base64.b64encode),
    "base64, shifted by 2": _base64_after("ab", base64.b64encode),
    "base64 of a header": _base64_after("X-API-Key: ", base64.b64encode),
    "base64 for URLs": lambda key: base64.urlsafe_b64encode(key.encode()).decode().rstrip("="),
    "base64 for URLs, shifted": _base64_after("user:", base64.urlsafe_b64encode),
    "base64, JSON-escaped": lambda key: (
        base64.b64encode(key.encode()).decode().replace("/", "\\/").replace("+", "\\u002B")
    ),
    "base64, URL-coded": lambda key: quote(base64.b64encode(key.encode()).decode(), safe=""),
}


def _readings(text: str) -> Iterator[str]:
    """``text`` with its escapes resolved in every way, several times over."""
    seen = new = {text}
    for _ in range(3):
        found: set[str] = set()
        for reading in new:
            found.add(unquote(reading))
            found.add(html.unescape(reading))
            found.add(re.sub(r"=([0-9A-F]{2})", lambda m: chr(int(m[1], 16)), reading))
            slim = re.sub(r"\\+(?=[^ux0-9])", "", reading)
            found.add(re.sub(r"\\+(u00..|x..|[0-3]..)", _code, slim))
        new = found - seen
        seen = seen | new
    yield from seen


def _code(match: re.Match[str]) -> str:
    try:
        return codecs.decode(f"\\{match[1]}", "unicode_escape")
    except UnicodeDecodeError:
        return match[0]


def _decoded(text: str) -> Iterator[str]:
    yield text
    for token in re.findall(r"[0-9a-fA-F]{20,}", text):
        yield bytes.fromhex(token[: len(token) // 2 * 2]).decode(errors="replace")
    for token in re.findall(r"[A-Za-z0-9+/_-]{16,}", text):
        plain = token.replace("-", "+").replace("_", "/")
        for skip in range(4):
            part = plain[skip:]
            try:
                found = base64.b64decode(part[: len(part) // 4 * 4])
            except binascii.Error:
                continue
            yield found.decode("latin-1")


# Most of what hangs on an error hangs on the next one too.
@lru_cache(2_000)
def shows(text: str, key: str) -> bool:
    """Whether ``text`` tells a reader with patience twelve characters of ``key``."""
    parts = {key[i : i + PART].lower() for i in range(len(key) - PART + 1)}
    for reading in _readings(text):
        for found in _decoded(reading):
            low = found.lower()
            if any(part in low for part in parts):
                return True
    return False


def _locals_of(trace: TracebackType | None, skip: str) -> Iterator[tuple[str, object]]:
    for frame, _ in traceback.walk_tb(trace):
        if frame.f_code.co_filename == skip:
            continue
        for name, value in frame.f_locals.items():
            where = f"{frame.f_code.co_qualname}: {name}"
            yield where, value
            # One level of what it holds, as debuggers and error trackers show it.
            inner = getattr(value, "__dict__", {})
            for attribute, held in inner.items():
                yield f"{where}.{attribute}", held


def chain_of(error: BaseException) -> list[BaseException]:
    """``error`` and all that hangs on it."""
    found: list[BaseException] = []
    left = [error]
    while left:
        error = left.pop()
        if error not in found:
            found.append(error)
            left += [e for e in (error.__cause__, error.__context__) if e is not None]
    return found


def sinks_of(error: BaseException, skip: str) -> Iterator[tuple[str, str]]:
    """Where something of an exception may be shown, and what; but for frames of ``skip``."""
    for link in chain_of(error):
        name = type(link).__name__
        yield f"{name} str", str(link)
        yield f"{name} repr", repr(link)
        for attribute, value in vars(link).items():
            yield f"{name}.{attribute}", f"{value!r} {value}"
        yield f"{name} notes", str(getattr(link, "__notes__", ""))
        if isinstance(link, ElluminateError):
            yield f"{name} pickle", pickle.dumps(link).decode("latin-1")
        for where, value in _locals_of(link.__traceback__, skip):
            yield where, repr(value)
