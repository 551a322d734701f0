r"""Credentials blotted out of what a service says, in whatever form it says it.

A page of an error may show the request, its headers too. So may a gateway's JSON, with escapes
of its own (``\u002B``, ``\/``), a URL in it (``%2B``), HTML (``&#43;``), a header in base64 or
a dump in hex, or a part of it, cut off somewhere. Example, of the key ``ab+cdefgh``::

    {"got": "ab\u002Bcdefgh"}     ->  {"got": "***"}
    <p>ab&#43;cdefgh</p>          ->  <p>***</p>

Three views of a text are searched, without NULs, as UTF-16 has them: as it is; with every
escape resolved and line ends left out; and with the escapes of quoted-printable resolved.
What is found in a view is blotted in the text itself, escapes and all. Upper and lower case
count as the same.
"""

from __future__ import annotations

import base64
import html
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Final

BLOT: Final = "***"

_SHORTEST = 8  # of a key
_PIECE = 6  # bytes that are searched for; what is around a hit is compared then

_WINDOW = 4096  # bytes of a text that are looked at beyond what is to be shown
_CUT = 128  # bytes that an unfinished credential may take at its end, escapes and all

# Characters that are taken for a part of a credential, by form: of its own, base64, hex.
_SHORTEST_PART = 12
_SHORTEST_BASE64 = 16
_SHORTEST_HEX = 24

# More than one backslash, 25 or amp: it was escaped more than once.
_ESCAPE = re.compile(
    rb"""
      \\+ (?: u (?:\{0*|0000)? (?:00)? (?=[0-9a-f]{2})  # \u002B  \u{2B}  \U0000002B
            | x ) (?P<hex1> [0-9a-f]{2} ) \}?
    | \\+ (?P<octal> [0-3][0-7]{2} )
    | \\+ (?: [nrt] | (?P<letter> . ) )
    | %(?:25)* (?P<hex2> [0-9a-f]{2} )
    | &(?:amp;)* (?P<entity> \#x[0-9a-f]{1,6} | \#[0-9]{1,7} | [a-z]{2,12} ) ;?
    | [ \t]*\r?\n[ \t]*
    """,
    re.IGNORECASE | re.VERBOSE,
)
_QUOTED_PRINTABLE = re.compile(rb"=(?:([0-9A-F]{2})|[ \t]*\r?\n)", re.IGNORECASE)
_NUL = re.compile(rb"\0+")


class Blotter:
    """Blots credentials out of bytes and texts. Shows nothing of them in its own `repr`."""

    __slots__ = ("_forms",)

    def __init__(self, *credentials: str) -> None:
        self._forms = [
            form
            for credential in credentials
            # A shorter one may be any word.
            if len(credential) >= _SHORTEST
            for form in _forms_of(credential.encode())
        ]

    def blotted(self, data: bytes) -> bytes:
        """``data`` without the credential."""
        spans = sorted(self._found_in(data)) if self._forms else []
        if not spans:
            return data
        kept: list[bytes] = []
        at = 0
        for start, end in spans:
            if start >= at:
                kept += (data[at:start], BLOT.encode())
            at = max(at, end)
        return b"".join(kept) + data[at:]

    def beginning(self, data: bytes, limit: int) -> bytes:
        """At most ``limit`` bytes of ``data``, without the credential or a part of it."""
        window = data[: limit + _WINDOW]
        blotted = self.blotted(window)
        if len(window) < len(data):
            # What the window's end cut off is too short to be found.
            blotted = blotted[:-_CUT]
        return blotted[:limit]

    def text(self, text: str) -> str:
        """``text`` without the credential."""
        if not self._forms:
            return text
        data = text.encode(errors="surrogatepass")
        blotted = self.blotted(data)
        return text if blotted is data else blotted.decode(errors="surrogatepass")

    def _found_in(self, data: bytes) -> Iterator[tuple[int, int]]:
        for view in _views_of(data):
            for form in self._forms:
                for start, end in form.found_in(view.data):
                    yield view.origin(start)[0], view.origin(end - 1)[1]


class _Form:
    """One way to write the credential, and what of it counts as a part."""

    __slots__ = ("_shortest", "_text")

    def __init__(self, text: bytes, shortest: int) -> None:
        self._text = text.lower()
        self._shortest = min(shortest, len(text))

    def found_in(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Where in ``data``, all in lower case, a part of it stands that is long enough."""
        # A part of the shortest length holds one of these pieces whole.
        step = self._shortest - _PIECE + 1
        for offset in range(0, len(self._text) - _PIECE + 1, step):
            piece = self._text[offset : offset + _PIECE]
            at = data.find(piece)
            while at >= 0:
                start, end = self._around(data, at, offset)
                if end - start >= self._shortest:
                    yield start, end
                at = data.find(piece, max(at + 1, end - _PIECE))

    def _around(self, data: bytes, at: int, offset: int) -> tuple[int, int]:
        text = self._text
        start, end = at, at + _PIECE
        left, right = offset, offset + _PIECE
        while left and start and data[start - 1] == text[left - 1]:
            start, left = start - 1, left - 1
        while right < len(text) and end < len(data) and data[end] == text[right]:
            end, right = end + 1, right + 1
        return start, end


def _forms_of(key: bytes) -> Iterator[_Form]:
    yield _Form(_plain(key), _SHORTEST_PART)
    if _plain(key) != key.lower():
        # It looks as if it were escaped itself.
        yield _Form(key, _SHORTEST_PART)
    yield _Form(key.hex().encode(), _SHORTEST_HEX)
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        # It may stand anywhere in what was encoded, after any number of bytes.
        for before in range(3):
            encoded = encode(bytes(before) + key)
            # Without the characters that hold bits of what is around it.
            whole = encoded[-(-8 * before // 6) : 8 * (before + len(key)) // 6]
            yield _Form(whole, _SHORTEST_BASE64)


class _View:
    """A text with its escapes resolved, in lower case, and where each byte of it is from.

    Args:
        text: The text.
        of: The view whose data ``text`` is, where it is not what was given.
    """

    __slots__ = ("_begins", "_of", "_sources", "data")

    def __init__(
        self,
        text: bytes,
        escapes: re.Pattern[bytes],
        resolve: Callable[[re.Match[bytes]], bytes],
        of: _View | None = None,
    ) -> None:
        self._of = of
        pieces: list[bytes] = []
        self._begins: list[int] = []
        self._sources: list[tuple[int, int, bool]] = []
        at = length = 0
        for match in escapes.finditer(text):
            start, end = match.span()
            for piece, source in (
                (text[at:start], (at, start, False)),
                (resolve(match), (start, end, True)),
            ):
                if piece:
                    pieces.append(piece)
                    self._begins.append(length)
                    self._sources.append(source)
                    length += len(piece)
            at = end
        pieces.append(text[at:])
        self._begins.append(length)
        self._sources.append((at, len(text), False))
        self.data = b"".join(pieces).lower()

    def origin(self, index: int) -> tuple[int, int]:
        """The part of the text that a byte of this is from."""
        piece = bisect_right(self._begins, index) - 1
        start, end, resolved = self._sources[piece]
        if not resolved:
            start += index - self._begins[piece]
            end = start + 1
        if self._of is None:
            return start, end
        return self._of.origin(start)[0], self._of.origin(end - 1)[1]


def _views_of(text: bytes) -> Iterator[_View]:
    # UTF-16 of what is ASCII is that with NULs.
    plain = _View(text, _NUL, _left_out)
    yield plain
    for escapes, resolve in ((_ESCAPE, _resolved), (_QUOTED_PRINTABLE, _unquoted)):
        if escapes.search(plain.data):
            yield _View(plain.data, escapes, resolve, plain)


def _left_out(match: re.Match[bytes]) -> bytes:
    del match
    return b""


def _resolved(match: re.Match[bytes]) -> bytes:
    octal, letter, entity = match.group("octal", "letter", "entity")
    if (number := match["hex1"] or match["hex2"]) is not None:
        return bytes((int(number, 16),)).strip(b"\0")
    if octal is not None:
        return bytes((int(octal, 8),)).strip(b"\0")
    if entity is not None:
        named = f"&{entity.decode()};"
        if (found := html.unescape(named)) == named:
            # None that there is: an & and what follows it.
            found = named if match[0].endswith(b";") else named[:-1]
        return found.encode(errors="replace")
    return letter or b""


def _unquoted(match: re.Match[bytes]) -> bytes:
    return b"" if match[1] is None else bytes((int(match[1], 16),))


def _plain(key: bytes) -> bytes:
    return _View(key, _ESCAPE, _resolved).data


NOTHING_TO_BLOT: Final = Blotter()
"""For where there is no credential."""
