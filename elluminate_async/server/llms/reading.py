"""Reading what a model says: JSON within prose, cut off, or a word where JSON was asked for."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_THINKING = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
_MOST_STARTS = 32
_WORD = re.compile(r"(yes|no)\b", re.IGNORECASE)
_LOUD = re.compile(r"\b(?:YES|NO)\b")
_ENDS = ".,;:!)]}-–—\n"
_LABEL = re.compile(
    r"[\s*_#>\"'`({\[-]*(?:(?:the|my|final)\s+)*(?:verdict|answer|rating)?(?:\s+is)?[\s*_\"'`:=]*",
    re.IGNORECASE,
)
_BULLET = re.compile(r"(?:[-*•]|\(?\d{1,2}[.):]|Q\d{1,2}[.:])\s*")
_QUOTES = " \t\"'“”,*"
_LONGEST_QUESTION = 1000
_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*("|\\?\Z)|[{}\[\],]', re.DOTALL)
_SIGNS = re.compile(r"\W+")


def without_thinking(text: str) -> str:
    """``text`` without what a model thought aloud before it answered."""
    return _THINKING.sub("", text) if "<" in text and "<think" in text.lower() else text


def parse_object(text: str, keys: Iterable[str] = ()) -> dict[str, Any]:
    """The JSON object in a model's text, be there prose or a code fence around it.

    Args:
        text: What the model said; an object that was cut off counts as far as it goes.
        keys: Of several objects the first that has one of these is meant.

    Raises:
        ValueError: There is none.
    """
    text = without_thinking(text)
    wanted = set(keys)
    first: dict[str, Any] | None = None
    start = text.find("{")
    cut_at = -1
    cut: dict[str, Any] | None = None
    for _ in range(_MOST_STARTS):
        if start < 0:
            break
        value, end = _object_at(text, start)
        if value is not None and (wanted & value.keys() if wanted else cut_at < 0):
            return value
        if value is None and cut_at < 0:
            cut_at = start
            cut, is_open = _closed(text, start)
            if cut is not None and is_open:
                # It goes to the text's end: what begins in it is a part of it, and no answer.
                return cut
        first = first if first is not None else value
        start = text.find("{", end)
    found = cut or first
    if found is None:
        raise ValueError("no JSON object")
    return found


def _object_at(text: str, start: int) -> tuple[dict[str, Any] | None, int]:
    """The object that begins there, and where to look for the next."""
    try:
        value, end = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return None, start + 1
    return cast("dict[str, Any]", value), end


def _closed(text: str, start: int) -> tuple[dict[str, Any] | None, bool]:
    """An object that was cut off, ended after the last value that was whole.

    And whether it was still open at the text's end.

    A text that was cut ends in an ellipsis, so that no verdict is read out of half a word.
    """
    closers: list[str] = []
    wholes: list[tuple[int, str]] = []
    is_cut = False
    for token in _TOKENS.finditer(text, start):
        sign, end = token[0], token.end()
        if sign in "{[":
            closers.append("}" if sign == "{" else "]")
        elif sign == ",":
            wholes.append((token.start(), "".join(reversed(closers))))
        elif sign in "}]":
            if closers.pop() != sign:
                return None, False
            wholes.append((end, "".join(reversed(closers))))
        else:
            is_cut = token[1] != '"'
        if not closers:
            break
    tries = wholes[-2:][::-1]
    if is_cut and closers[-1] == "}":
        tries.insert(0, (len(text.rstrip("\\")), '…"' + "".join(reversed(closers))))
    for end, suffix in tries:
        if (value := _loaded(text[start:end] + suffix)) is not None:
            return value, bool(closers)
    return None, bool(closers)


def _loaded(text: str) -> dict[str, Any] | None:
    try:
        value: object = _DECODER.decode(text)
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


# Not strict: models write line breaks into texts as they are.
_DECODER = json.JSONDecoder(object_pairs_hook=_without_contradictions, strict=False)


def verdict_of(value: object) -> str | None:
    """YES or NO, where a value says one of them and nothing else; else None."""
    if value in ("YES", "NO"):
        return cast("str", value)
    if isinstance(value, bool):
        return "YES" if value else "NO"
    if not isinstance(value, str):
        return None
    word = value.strip(" \t\r\n.!*\"'`").upper()
    return word if word in ("YES", "NO") else None


def spoken_verdict(text: str) -> str | None:
    """The verdict that prose begins with, or that is its last line; None where it is not clear.

    "No problem" is no verdict, "YES or NO" is none, and neither is one that is taken back.
    """
    text = without_thinking(text).strip()
    for part in (text, text.rsplit("\n", 1)[-1]):
        label = _LABEL.match(part)
        word = _WORD.match(part, label.end() if label else 0)
        if word is None:
            continue
        rest = part[word.end() :].lstrip(" *_\"'`")
        loud = {said.upper() for said in _LOUD.findall(text)} | {word[1].upper()}
        if (not rest or rest[0] in _ENDS) and len(loud) == 1:
            return word[1].upper()
        return None
    return None


def questions_of(text: str, key: str) -> list[str]:
    """The distinct questions in an answer: those of a JSON list, else lines of prose."""
    try:
        listed: object = parse_object(text, [key]).get(key)
    except ValueError:
        listed = None
    if isinstance(listed, list):
        parts = [part for part in cast("list[object]", listed) if isinstance(part, str)]
    else:
        parts = without_thinking(text).splitlines()
    return distinct(parts)


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
