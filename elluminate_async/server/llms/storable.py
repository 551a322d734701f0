"""The one place that everything a model gives passes: what leaves it can be stored and listed.

A model says what it likes: half a character where its answer was cut, ``1e999`` tokens, a
tool call that holds itself. What means nothing is left out, what is torn is repaired, and
where nothing can be kept that one answer fails.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, cast

from elluminate_async.server.llms.base import ModelAnswer, ModelError
from elluminate_async.server.store.wire_json import MOST_LEVELS, dump, levels_exceed

if TYPE_CHECKING:
    from elluminate_async.server.llms.base import ModelRequest

MOST_ANSWER_CHARACTERS: Final = 4 << 20
"""Of one answer, tool calls included: with its prompt and its row it fits in one listing's page."""

_LARGEST_FIGURE: Final = 2**63 - 1
_LONGEST_REASON: Final = 4_000
_NO_FIGURES: Final = (None, None, None, None)

# An escape of half a character that has no other half; an even number of backslashes before
# it are characters of their own.
_HALF = re.compile(
    r"(?<!\\)((?:\\\\)*)\\u(?:[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|"
    r"(?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u)[dD][c-fC-F][0-9a-fA-F]{2})"
)
_REPLACEMENT: Final = r"\g<1>\\ufffd"


def whole(text: str) -> str:
    """``text`` with U+FFFD for each half of a character, which no file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        # By way of UTF-16 two halves that stand together become the character they are.
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def reason(error: BaseException) -> str:
    """Why a model gave no answer, as a text of bounded length."""
    try:
        text = str(error)
    except Exception:
        text = "an error without a text"
    if not isinstance(error, ModelError):
        text = f"{type(error).__name__}: {text}"
    if len(text) > _LONGEST_REASON:
        text = f"{text[:_LONGEST_REASON]}…"
    return whole(text)


def storable(answer: object, request: ModelRequest) -> ModelAnswer:
    """The part of an answer that can be stored.

    Raises:
        ModelError: Nothing, and why.
    """
    if not isinstance(answer, ModelAnswer):
        raise ModelError(f"the model gave a {type(answer).__name__}, which is no answer")
    if type(answer) is ModelAnswer and _is_plain(answer):
        return answer
    calls = _calls(answer.tool_calls)
    text = _text(answer.text, has_calls=bool(calls))
    if request.json_schema is not None and "\\u" in text:
        # It will be read as JSON, and that makes half a character of its escape.
        text = _HALF.sub(_REPLACEMENT, text)
    return ModelAnswer(
        text=text,
        tool_calls=calls,
        input_tokens=figure(answer.input_tokens),
        output_tokens=figure(answer.output_tokens),
        reasoning_tokens=figure(answer.reasoning_tokens),
        cached_tokens=figure(answer.cached_tokens),
    )


def _is_plain(answer: ModelAnswer) -> bool:
    """Whether there is nothing to mend, as most of the time; told at the least cost."""
    text = answer.text
    figures = (
        answer.input_tokens,
        answer.output_tokens,
        answer.reasoning_tokens,
        answer.cached_tokens,
    )
    return (
        type(text) is str
        and text.isascii()
        and "\\u" not in text
        and len(text) <= MOST_ANSWER_CHARACTERS
        and answer.tool_calls is None
        and (figures == _NO_FIGURES or all(figure(one) is one for one in figures))
    )


def figure(value: object) -> int | None:
    """A count, where it is one that a column can hold; else it is not known."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LARGEST_FIGURE:
        return None
    return int(value)


def storable_value(value: object) -> Any:
    """A value that a model gave within JSON, as JSON has it.

    Raises:
        ValueError: JSON cannot say it, or it is nested too deeply.
    """
    try:
        text = dump(value)
    except TypeError as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if levels_exceed(text.encode(errors="replace"), MOST_LEVELS // 2):
        raise ValueError("it is nested too deeply")
    return json.loads(whole(text))


def _text(text: object, *, has_calls: bool) -> str:
    if text is None and has_calls:
        return ""
    if not isinstance(text, str):
        raise ModelError(f"the model's answer is a {type(text).__name__} instead of a text")
    if len(text) > MOST_ANSWER_CHARACTERS:
        raise ModelError(f"the model's answer is longer than {MOST_ANSWER_CHARACTERS} characters")
    return whole(text)


def _calls(calls: object) -> list[dict[str, Any]] | None:
    if not calls:
        return None
    try:
        kept = storable_value(calls)
    except ValueError as error:
        raise ModelError(f"the model's tool calls cannot be kept: {error}") from None
    if not isinstance(kept, list) or not all(
        isinstance(one, dict) for one in cast("list[object]", kept)
    ):
        raise ModelError("the model's tool calls are not a list of objects")
    if len(json.dumps(kept)) > MOST_ANSWER_CHARACTERS:
        raise ModelError(
            f"the model's tool calls are longer than {MOST_ANSWER_CHARACTERS} characters"
        )
    return cast("list[dict[str, Any]]", kept)
