"""Verdicts read out of what a judge said; where it is not clear there is none.

An unreadable answer costs one more question, a verdict that nobody gave is a wrong measurement.
So a criterion of which a text says both has none from it, and a text that refuses has none at all.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

from elluminate_async.schemas import RatingMode
from elluminate_async.server.llms.reading import objects_in, without_thinking

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from elluminate_async.server.llms.reading import Told

_LONGEST_PROSE = 100_000  # characters; a judge has room for far less
_KEY = re.compile(r"criterion_\d+")
_HEAD = re.compile(r"^[ \t*#>-]*(criterion_\d+)\b", re.IGNORECASE | re.MULTILINE)
_AFTER_HEAD = re.compile(r"\W{1,12}(?:verdict\W{1,12})?", re.IGNORECASE)
_LABEL = re.compile(
    r"[\s*_#>\"'`({\[-]*(?:(?:the|my|final)\s+)*(?:verdict|answer|rating)?(?:\s+is)?[\s*_\"'`:=]*",
    re.IGNORECASE,
)
_WORD = re.compile(r"(yes|no)\b", re.IGNORECASE)
# The word stands alone: "No evidence", "no-one", "No. 5" and "YES or NO" are no verdicts.
_ENDED = r"[ \t*_\"'`”]*(?:\Z|[\n,;:!()\]}|–—]|\.(?! ?\d)|-+(?=\s|\Z)|(?<=\s)(?:because|since)\b)"
_END = re.compile(_ENDED, re.IGNORECASE)
_STATED = re.compile(
    rf"\b(?:verdict|answer|rating)\W{{1,8}}(?:is\W{{1,4}})?(yes|no)\b(?={_ENDED})", re.IGNORECASE
)
# "No" has other uses, but for these: loud, before a sign, and before what it is never said of.
_OTHER = {
    "NO": re.compile(r"\byes\b", re.IGNORECASE),
    "YES": re.compile(
        r"\bNO\b|\b(?i:no)\b(?:(?![ \t]+\w|-\w)|(?=\s+(?i:it|wait|actually|the|this|that)\b))"
    ),
}
_CANNOT = r"(?:can(?:[’']?t|not|\snot)|could(?:n[’']t|\snot)|won[’']t|unable|not\sable|incapable)"
# Marks of a text whose YES or NO is not meant as one, though an ordinary reason may have them too.
_MARKS = re.compile(
    rf"\b(?:{_CANNOT}|sorry|apologi[sz]e|refuse|decline|as\san?\s(?:AI|language\smodel)|error|"
    r"wait|maybe|perhaps|not\ssure|happy\sto|glad\sto|let\sme|no,?\sthank(?:s|\syou))\b",
    re.IGNORECASE,
)
# It speaks of itself after the word: "Yes, I can help with that".
_SELF = re.compile(r"\bI\b(?!\s+(?:do\snot\s|don[’']t\s)?(?:think|believe|find|see|consider)\b)")
# Beside an object there may be long reasons in prose, so that it must speak of itself, or of this.
_REFUSAL = re.compile(
    rf"\bI(?:[’']m|\sam)?(?:\s\w+)?\s(?:{_CANNOT}|refuse|decline)\b|\bsorry\b|"
    rf"\b{_CANNOT}\s(?:to\s)?(?:judge|assess|assist|help|comply|rate|evaluate|decide|determine)\b|"
    r"\bas\san?\s(?:AI|language\smodel)\b|\berror:",
    re.IGNORECASE,
)


def read_verdicts(
    text: str, ids: Mapping[str, int], mode: RatingMode, reasons: dict[int, str]
) -> dict[int, tuple[str, str | None]]:
    """Verdict and reasoning by criterion, where there, in form, and not contradicted.

    Args:
        text: What the judge said to a question for a JSON object, or in FAST for lines.
        ids: The criteria that were asked for, by the keys of that object.
        mode: In DETAILED a verdict without reasoning is none; in FAST it may have one.
        reasons: Reasoning whose verdict is missing goes there.
    """
    text = without_thinking(text)
    # Of one criterion a verdict may stand without its key, but for that of another.
    may_be_bare = len(ids) == 1 and ids.keys() >= {*_KEY.findall(text)}
    try:
        told = objects_in(text)
    except ValueError:
        return _read_lines(text, ids) if mode is RatingMode.FAST else {}
    if len(told.prose) > _LONGEST_PROSE or _REFUSAL.search(told.prose):
        return {}
    beside = _said_beside(told.prose, ids)
    found: dict[int, tuple[str, str | None]] = {}
    for key, id in ids.items():
        parts = _parts(told, key, may_be_bare=may_be_bare)
        said = {verdict_of(part["verdict"]) for part in parts if "verdict" in part}
        reasoning = _reasoning(parts)
        if mode is RatingMode.DETAILED and reasoning is None:
            continue
        verdict = said.pop() if len(said) == 1 else None
        if verdict is not None:
            if beside.get(key, verdict) == verdict:
                found[id] = verdict, reasoning
        elif reasoning is not None and len(parts) == 1:
            reasons[id] = reasoning
    return found


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

    The word stands alone or before a reason. "No problem" is no verdict, "YES or NO" is none,
    nor is one that is taken back, or that a refusal or a question back follows.
    """
    text = without_thinking(text).strip()
    if len(text) > _LONGEST_PROSE or _MARKS.search(text):
        return None
    for part in (text, text.rsplit("\n", 1)[-1]):
        label = _LABEL.match(part)
        said = part[label.end() :] if label else part
        if _WORD.match(said):
            verdict = _leading(said)
            before = text[: len(text) - len(said)]
            return None if verdict is None or _OTHER[verdict].search(before) else verdict
    return None


def _leading(said: str) -> str | None:
    """The verdict of a text that begins with one and goes on with nothing but a reason."""
    word = _WORD.match(said)
    if word is None or _END.match(said, word.end()) is None:
        return None
    verdict, rest = word[1].upper(), said[word.end() :]
    is_doubtful = "?" in rest or _SELF.search(rest) or _OTHER[verdict].search(rest)
    return None if is_doubtful else verdict


def _parts(told: Told, key: str, *, may_be_bare: bool) -> list[dict[str, Any]]:
    """The part of each object that is on one criterion."""
    parts: list[dict[str, Any]] = []
    for one in told.objects:
        if key in one:
            given: Any = one[key]
            is_object = isinstance(given, dict)
            parts.append(cast("dict[str, Any]", given) if is_object else {"verdict": given})
        elif may_be_bare and ("verdict" in one or "reasoning" in one):
            parts.append(one)
    return parts


def _reasoning(parts: Iterable[dict[str, Any]]) -> str | None:
    for part in parts:
        reasoning = part.get("reasoning")
        if isinstance(reasoning, str) and reasoning.strip():
            return reasoning
    return None


def _said_beside(prose: str, ids: Mapping[str, int]) -> dict[str, str | None]:
    """The verdicts of the prose beside the objects; None where it says both."""
    said = {key: verdicts - {None} for key, verdicts in _in_lines(prose).items()}
    if len(ids) == 1:
        (key,) = ids
        stated = {verdict.upper() for verdict in _STATED.findall(prose)}
        said[key] = said.get(key, set()) | stated
    return {key: one.pop() if len(one) == 1 else None for key, one in said.items() if one}


def _read_lines(text: str, ids: Mapping[str, int]) -> dict[int, tuple[str, str | None]]:
    """Verdicts of an answer in prose, a line for each criterion."""
    if len(text) > _LONGEST_PROSE or _MARKS.search(text):
        return {}
    in_lines = _in_lines(text)
    if not in_lines and len(ids) == 1 and (verdict := spoken_verdict(text)) is not None:
        return dict.fromkeys(ids.values(), (verdict, None))
    found: dict[int, tuple[str, str | None]] = {}
    for key, said in in_lines.items():
        verdict = said.pop() if len(said) == 1 else None
        if key in ids and verdict is not None:
            found[ids[key]] = verdict, None
    return found


def _in_lines(text: str) -> dict[str, set[str | None]]:
    """By the keys that lines begin with, the verdicts that follow; None for an unclear one."""
    said: dict[str, set[str | None]] = {}
    heads = [*_HEAD.finditer(text)]
    ends = [*(head.start() for head in heads), len(text)][1:]
    for head, end in zip(heads, ends, strict=True):
        after = _AFTER_HEAD.match(text, head.end(), end)
        if after is not None and _WORD.match(text, after.end(), end):
            verdict = _leading(text[after.end() : end].rstrip())
            said.setdefault(head[1].lower(), set()).add(verdict)
    return said
