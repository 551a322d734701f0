"""JSON that costs far more than its bytes: where it comes, and what it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Final

MINIMAL_RESPONSE: Final = (
    b'{"id":%d,"prompt":{"id":1,"template_variables":{"id":1,"input_values":{}}}}'
)
ORDINARY_RESPONSE: Final = MINIMAL_RESPONSE[:-1] + (
    b',"messages":[{"role":"assistant","content":"' + b"an answer of some length; " * 12 + b'"}],'
    b'"error":null,"epoch":1,"ratings":[],"annotation":"","created_at":"2026-11-26T00:01:12Z"}'
)
MINIMAL_RATING: Final = b'{"id":%d,"criterion":{"id":%d,"criterion_str":""},"rating":"YES"}'


def _many(element: bytes) -> Callable[[int], bytes]:
    """A list of so many bytes of the same again."""
    return lambda size: b"[" + b",".join([element] * (size // (len(element) + 1))) + b"]"


def _numbered(element: bytes) -> Callable[[int], bytes]:
    """A list of elements that each hold numbers of their own."""

    def fill(size: int) -> bytes:
        numbers, places = count(1), element.count(b"%")
        parts: list[bytes] = []
        while size > 0:
            number = next(numbers)
            parts.append(element % ((number,) * places))
            size -= len(parts[-1]) + 1
        return b"[" + b",".join(parts) + b"]"

    return fill


def _keys(size: int) -> bytes:
    return b"{" + b",".join(b'"%05x":0' % number for number in range(size // 10)) + b"}"


SHAPES: Final[dict[str, Callable[[int], bytes]]] = {
    "plain": lambda size: b'"' + b"a" * size + b'"',
    "objects": _many(b"{}"),
    "pairs": _many(b'{"a":0}'),
    "arrays": _many(b"[]"),
    "arrays of one": _many(b"[0]"),
    "zeros": _many(b"0"),
    "nulls": _many(b"null"),
    "floats": _numbered(b"%d.5"),
    "texts": _numbered(b'"%05x"'),
    "keys": _keys,
    "deep": lambda size: b"[" * (size // 2) + b"]" * (size // 2),
    "hundred deep": lambda size: _many(b"[" * 100 + b"]" * 100)(size),
    "digits": lambda size: b"9" * size,
    "escapes": lambda size: b'"' + b"\\u00e9" * (size // 6) + b'"',
    "quotes": lambda size: b'"' + b'\\"' * (size // 2) + b'"',
    "commas": lambda size: b'"' + b"," * size + b'"',
    "braces": lambda size: b'"' + b'{[\\"a\\":' * (size // 8) + b'"',
    "emoji": lambda size: '"😀{}"'.format("a" * size).encode(),
    "responses": _numbered(MINIMAL_RESPONSE),
    "late": lambda size: _numbered(ORDINARY_RESPONSE)(size)[:-1] + b",{}]",
    "ratings": _numbered(MINIMAL_RATING),
    "lists of ratings": _many(b"[" + MINIMAL_RATING % (1, 1) + b"]"),
    "variables": _numbered(b'{"id":%d,"input_values":{"x":"v%d"}}'),
    "projects": _numbered(b'{"id":%d,"name":"p"}'),
    "failures": _numbered(b'{"index":%d,"code":"c","message":"m"}'),
    "messages": _many(b'{"role":"assistant"}'),
    "columns": _many(b'{"id":1}'),
}

ROW_START: Final = (
    b'{"id":1,"prompt":{"id":1,"template_variables":{"id":1,"input_values":{"x":0}}},'
)

ROW: Final = (
    b'{"id":1,"prompt":{"id":1,"template_variables":{"id":1,"input_values":{"x":HERE}}},'
    b'"messages":[{"role":"assistant","content":"a"}]}'
)

FORMS: Final[dict[str, bytes]] = {
    "page": b'{"items":HERE,"count":1}',
    "page within": b'{"items":[' + ROW + b'],"count":1}',
    "page beside": b'{"items":[],"count":0,"more":HERE}',
    "page messages": b'{"items":[' + ROW_START + b'"messages":HERE}],"count":1}',
    "page ratings": b'{"items":[' + ROW_START + b'"ratings":HERE}],"count":1}',
    "poll": b'{"status":"SUCCESS","result":HERE}',
    "poll failures": b'{"status":"FAILURE","item_failures":HERE}',
    "poll beside": b'{"status":"STARTED","logs":HERE}',
    "poll within": b'{"status":"SUCCESS","result":[' + ROW + b"]}",
    "rating poll": b'{"status":"SUCCESS","result":HERE}',
    "event": b'{"status":"SUCCESS","result":HERE}',
    "event failures": b'{"status":"FAILURE","item_failures":HERE}',
    "event within": b'{"status":"SUCCESS","result":[' + ROW + b"]}",
    "error": b'{"detail":HERE}',
    "projects": b'{"items":HERE,"count":1}',
    "version": b'{"is_compatible":true,"capabilities":HERE}',
    "version beside": b'{"is_compatible":true,"more":HERE}',
    "single": ROW,
    "single messages": ROW_START + b'"messages":HERE}',
    "collection": b'{"id":1,"name":"c","columns":HERE}',
    "rate": b"HERE",
    "upload": b"HERE",
    "job id": b"HERE",
}  # fmt: skip
"""Where it comes, and the document around it."""

TABLE: Final[dict[str, str]] = {
    "page": "objects arrays zeros nulls texts floats pairs responses",
    "page within": "objects arrays arrays-of-one keys pairs zeros texts deep hundred-deep "
    "commas braces",
    "page beside": "objects keys nulls",
    "page messages": "objects",
    "page ratings": "ratings objects",
    "poll": "objects nulls zeros arrays responses",
    "poll failures": "objects failures",
    "poll beside": "objects zeros",
    "poll within": "pairs",
    "rating poll": "arrays-of-one lists-of-ratings",
    "event": "objects nulls zeros keys responses",
    "event failures": "failures",
    "event within": "braces emoji",
    "error": "objects zeros arrays deep commas keys",
    "projects": "objects projects nulls",
    "version": "texts zeros",
    "version beside": "objects",
    "single": "plain objects keys digits escapes quotes emoji",
    "single messages": "messages zeros",
    "collection": "columns",
    "rate": "objects ratings",
    "upload": "objects variables",
    "job id": "objects digits",
}


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of answer."""

    place: str
    shape: str

    @property
    def name(self) -> str:
        """Both."""
        return f"{self.place}: {self.shape}"

    def body(self, size: int) -> bytes:
        """About ``size`` bytes of it."""
        return FORMS[self.place].replace(b"HERE", SHAPES[self.shape](size))


def kinds() -> Iterator[Kind]:
    """All of them."""
    for place, shapes in TABLE.items():
        for shape in shapes.split():
            yield Kind(place, shape.replace("-", " "))
