"""Reading what a model says: JSON within prose or cut off, questions in a list of any form."""

from __future__ import annotations

import json
import re
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_THINKING = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
_MOST_STARTS = 32
_MOST_LEVELS = 100
_BULLET = re.compile(r"(?:[-*•]|\(?\d{1,2}[.):]|Q\d{1,2}[.:])\s*")
_QUOTES = " \t\"'“”,*"
_LONGEST_QUESTION = 1000
_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*("|\\?\Z)|[{}\[\],]', re.DOTALL)
_SIGNS = re.compile(r"\W+")


def without_thinking(text: str) -> str:
    """``text`` without what a model thought aloud before it answered."""
    return _THINKING.sub("", text) if "<" in text and "<think" in text.lower() else text


@dataclass(frozen=True, slots=True)
class Told:
    """All JSON objects of a text, in their order.

    Attributes:
        objects: A key that one of them gives twice, with different values, is None in it.
        prose: The text beside them.
    """

    objects: list[dict[str, Any]]
    prose: str


def parse_object(text: str, keys: Iterable[str] = ()) -> dict[str, Any]:
    """The JSON object in a model's text, be there prose or a code fence around it.

    Args:
        text: What the model said; an object that was cut off counts as far as it goes.
        keys: Of several objects the first that has one of these is meant.

    Raises:
        ValueError: There is none.
    """
    pieces, _ = _scan(without_thinking(text), _DECODER)
    wanted = set(keys)
    for piece in pieces:
        if piece.is_whole and (wanted & piece.value.keys() if wanted else piece is pieces[0]):
            return piece.value
    found = [piece for piece in pieces if not piece.is_whole] or pieces
    if not found:
        raise ValueError("no JSON object")
    return found[0].value


def objects_in(text: str) -> Told:
    """All JSON objects in a model's text, one that was cut off as far as it goes.

    Raises:
        ValueError: There is none, or there may be more than are looked for.
    """
    text = without_thinking(text)
    pieces, is_all = _scan(text, _MARKING)
    if not pieces or not is_all:
        raise ValueError("no JSON object" if is_all else "too many objects")
    beside: list[str] = []
    at = 0
    for piece in pieces:
        beside.append(text[at : piece.start])
        at = piece.end
    return Told([piece.value for piece in pieces], "\n".join([*beside, text[at:]]))


@dataclass(frozen=True, slots=True)
class _Piece:
    """An object, and where it stands; of one that is broken ``end`` may be its start."""

    value: dict[str, Any]
    start: int
    end: int
    is_whole: bool


def _scan(text: str, decoder: json.JSONDecoder) -> tuple[list[_Piece], bool]:
    """The objects that begin at the first braces of a text, and whether no brace is left.

    Each brace costs at most one look at the rest of the text, and their number is bounded.
    """
    pieces: list[_Piece] = []
    start = text.find("{")
    is_broken = False
    for _ in range(_MOST_STARTS):
        if start < 0:
            break
        value, end = _object_at(text, start, decoder)
        if value is not None:
            pieces.append(_Piece(value, start, end, is_whole=True))
        elif not is_broken:
            is_broken = True
            cut, is_open = _closed(text, start, decoder)
            if cut is not None:
                end_of_cut = len(text) if is_open else start
                pieces.append(_Piece(cut, start, end_of_cut, is_whole=False))
                if is_open:
                    # It goes to the text's end: what begins in it is a part of it, no answer.
                    return pieces, True
        start = text.find("{", end)
    return pieces, start < 0


def _object_at(
    text: str, start: int, decoder: json.JSONDecoder
) -> tuple[dict[str, Any] | None, int]:
    """The object that begins there, and where to look for the next."""
    try:
        value, end = decoder.raw_decode(text, start)
    except (ValueError, RecursionError):
        return None, start + 1
    return cast("dict[str, Any]", value), end


def _closed(text: str, start: int, decoder: json.JSONDecoder) -> tuple[dict[str, Any] | None, bool]:
    """An object that was cut off, ended after the last value that was whole; None for none.

    And whether it was still open at the text's end.

    A text that was cut ends in an ellipsis, so that no verdict is read out of half a word.
    """
    levels = _Levels()
    for token in _TOKENS.finditer(text, start):
        if not levels.take(token):
            return None, False
        if not levels.closers:
            break
    tries = [*reversed(levels.wholes)]
    if levels.is_cut and levels.closers[0] == "}":
        tries.insert(0, (len(text.rstrip("\\")), f'…"{levels.closers}'))
    for end, suffix in tries:
        if value := _loaded(text[start:end] + suffix, decoder):
            return value, bool(levels.closers)
    return None, bool(levels.closers)


class _Levels:
    """The brackets that are open at a place in a text.

    Attributes:
        closers: The signs that would close it, the innermost first.
        wholes: The last two places behind a whole value, and what would close the object there.
        is_cut: Whether the text ends in a string.
    """

    def __init__(self) -> None:
        self.closers = ""
        self.wholes: deque[tuple[int, str]] = deque(maxlen=2)
        self.is_cut = False

    def take(self, token: re.Match[str]) -> bool:
        """Go on behind a token; whether it may stand there, and not too deep."""
        sign = token[0]
        if sign in "{[":
            self.closers = ("}" if sign == "{" else "]") + self.closers
            return len(self.closers) <= _MOST_LEVELS
        if sign == ",":
            self.wholes.append((token.start(), self.closers))
        elif sign in "}]":
            if self.closers[0] != sign:
                return False
            self.closers = self.closers[1:]
            self.wholes.append((token.end(), self.closers))
        else:
            self.is_cut = token[1] != '"'
        return True


def _loaded(text: str, decoder: json.JSONDecoder) -> dict[str, Any] | None:
    try:
        value: object = decoder.decode(text)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _without_contradictions(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object in which a key given twice with different values counts as not given."""
    result = dict(pairs)
    if len(result) < len(pairs):
        for key, value in pairs:
            if key in result and result[key] != value:
                del result[key]
    return result


def _with_contradictions_marked(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object in which a key given twice with different values is None."""
    result = dict(pairs)
    if len(result) < len(pairs):
        for key, value in pairs:
            if result[key] != value:
                result[key] = None
    return result


# Not strict: models write line breaks into texts as they are.
_DECODER = json.JSONDecoder(object_pairs_hook=_without_contradictions, strict=False)
_MARKING = json.JSONDecoder(object_pairs_hook=_with_contradictions_marked, strict=False)


def questions_of(text: str, key: str) -> list[str]:
    """The distinct questions in an answer: those of a JSON list, else lines of prose.

    The list may stand under ``key`` in an object, or bare.
    """
    text = without_thinking(text)
    try:
        listed: object = parse_object(text, [key]).get(key)
    except ValueError:
        listed = None
    if isinstance(listed, list):
        return distinct(_texts_of(cast("object", listed)))
    in_lists = (distinct(_texts_of(one)) for one in _lists_in(text))
    return next(filter(None, in_lists), None) or distinct(text.splitlines())


def _texts_of(value: object) -> list[str]:
    parts = cast("list[object]", value) if isinstance(value, list) else []
    return [part for part in parts if isinstance(part, str)]


def _lists_in(text: str) -> Iterator[object]:
    """The JSON lists in a text; of one that was cut off what was whole."""
    start = text.find("[")
    for _ in range(_MOST_STARTS):
        if start < 0:
            return
        try:
            value, end = _DECODER.raw_decode(text, start)
            yield value
        except (ValueError, RecursionError):
            end = start + 1
            if text[end : end + _LONGEST_QUESTION].lstrip().startswith('"'):
                cut, _ = _closed(f'{{"": {text[start:]}', 0, _DECODER)
                yield from cut.values() if cut is not None else ()
                return
        start = text.find("[", end)


def distinct(texts: Iterable[str]) -> list[str]:
    """Questions without their bullets; of those that differ in signs and case only, the first."""
    found: dict[str, str] = {}
    for text in texts:
        line = " ".join(text[:_LONGEST_QUESTION].split()).strip(_QUOTES)
        bullet = _BULLET.match(line)
        question = line[bullet.end() if bullet else 0 :].strip(_QUOTES)
        if question.endswith("?") and len(question) > 5:
            found.setdefault(_SIGNS.sub(" ", question).strip().casefold(), question)
    return list(found.values())
