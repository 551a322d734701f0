"""An answer, whole or put together from the pieces that a stream brings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from elluminate_async.server.llms.base import ModelAnswer, ModelError
from elluminate_async.server.llms.reading import without_thinking

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST_QUOTE = 300
_MOST_CHARACTERS = 4_000_000


def quoted(text: str) -> str:
    """The beginning of a text, in one line, to be shown in an error."""
    line = " ".join(text[: 4 * _LONGEST_QUOTE].split())
    return line if len(line) <= _LONGEST_QUOTE else f"{line[:_LONGEST_QUOTE]}…"


def _mapping(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _first(value: object) -> dict[str, Any]:
    choices = cast("list[object]", value) if isinstance(value, list) else []
    return _mapping(choices[0]) if choices else {}


class Pieces:
    """An answer as far as it has come."""

    def __init__(self) -> None:
        self._size = 0
        self._text: list[str] = []
        self._refusal: list[str] = []
        self._thought = False
        self._calls: dict[int, dict[str, Any]] = {}
        self._usage: dict[str, Any] = {}
        self._has_message = False
        self._finish: object = None

    def add(self, document: object) -> None:
        """Take a piece, or a whole answer.

        Raises:
            ModelError: It is an error, no chat completion, or more than any answer has.
        """
        body = _mapping(document)
        if error := body.get("error"):
            raise ModelError(f"the endpoint broke off: {quoted(_message_of(error))}")
        if "choices" not in body and "usage" not in body:
            raise ModelError(
                "the endpoint's answer is no chat completion: is its URL right, /v1 included?"
            )
        if usage := body.get("usage"):
            self._usage = _mapping(usage)
        choice = _first(body.get("choices"))
        for key in ("delta", "message"):
            if isinstance(choice.get(key), dict):
                self._has_message = True
                self._take(_mapping(choice[key]))
        self._finish = choice.get("finish_reason") or self._finish

    def _take(self, message: Mapping[str, Any]) -> None:
        for kept, key in ((self._text, "content"), (self._refusal, "refusal")):
            if isinstance(part := message.get(key), str) and part:
                kept.append(part)
                self._size += len(part)
        if message.get("reasoning_content") or message.get("reasoning"):
            self._thought = True
        calls: object = message.get("tool_calls")
        for place, call in enumerate(cast("list[object]", calls) if calls else ()):
            self._take_call(place, _mapping(call))
        if self._size > _MOST_CHARACTERS:
            raise ModelError(f"the answer is longer than {_MOST_CHARACTERS:,} characters")

    def _take_call(self, place: int, call: Mapping[str, Any]) -> None:
        index = call.get("index")
        known = self._calls.setdefault(index if isinstance(index, int) else place, {})
        function = known.setdefault("function", {})
        for key, value in call.items():
            if key not in ("function", "index") and value is not None:
                known[key] = value
        for key, value in _mapping(call.get("function")).items():
            if key == "arguments" and isinstance(value, str):
                function[key] = function.get(key, "") + value
                self._size += len(value)
            elif value is not None:
                function[key] = value

    @property
    def is_finished(self) -> bool:
        """Whether it was said that the answer has ended."""
        return self._finish is not None

    @property
    def is_cut(self) -> bool:
        """Whether the answer ended at the bound on its tokens."""
        return self._finish == "length"

    @property
    def thought_only(self) -> bool:
        """Whether all its tokens went into thinking."""
        said = without_thinking("".join(self._text)).strip()
        return self.is_cut and not said and not self._calls

    def answer(self) -> ModelAnswer:
        """The whole.

        Raises:
            ModelError: It is a refusal, or nothing.
        """
        if not self._has_message:
            raise ModelError("the endpoint's answer holds no message")
        if self._refusal:
            raise ModelError(f"the model refused: {''.join(self._refusal)}")
        text = "".join(self._text)
        calls = [self._calls[place] for place in sorted(self._calls)]
        if not text and not calls:
            why = f" and ended by {quoted(self._finish)}" if isinstance(self._finish, str) else ""
            if self._thought:
                why = ", all its tokens went into thinking: raise max_tokens"
            raise ModelError(f"the model answered with nothing{why}")
        usage, output = self._usage, _mapping(self._usage.get("completion_tokens_details"))
        prompt = _mapping(usage.get("prompt_tokens_details"))
        return ModelAnswer(
            text=text,
            tool_calls=calls or None,
            input_tokens=usage.get("prompt_tokens"),
            output_tokens=usage.get("completion_tokens"),
            reasoning_tokens=output.get("reasoning_tokens"),
            cached_tokens=prompt.get("cached_tokens"),
        )


def arguments_of_call(answer: ModelAnswer) -> str | None:
    """The arguments of the first tool call, as JSON; None when there is none."""
    for call in answer.tool_calls or ():
        given: object = _mapping(call.get("function")).get("arguments")
        if isinstance(given, str):
            return given
        if isinstance(given, dict):
            return json.dumps(given)
    return None


def _message_of(error: object) -> str:
    return str(_mapping(error).get("message") or error)
