"""The one interface to a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, cast

from elluminate_async.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from elluminate_async.schemas import LLMConfig

Purpose: TypeAlias = Literal["generate", "criteria", "judge"]


class ModelError(Exception):
    """A model gave no answer; the text is shown to the user and holds no secret."""


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """The form an answer must have."""

    name: str
    schema: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One call of a model.

    Attributes:
        messages: The conversation so far, oldest first.
        purpose: What the answer is for; only a stand-in needs to know.
        json_schema: The form of the answer; None for prose.
        sampling: Model name, temperature and the like; None leaves them to the model.
        tools: Tools that the model may call.
        tool_choice: Which of them it must call.
        nonce: A random mark within the messages that means nothing; a model that must
            answer equal requests alike leaves it out of account.
    """

    messages: Sequence[dict[str, Any]]
    purpose: Purpose = "generate"
    json_schema: JsonSchema | None = None
    sampling: LLMConfig | None = None
    tools: Sequence[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    nonce: str | None = None


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """What a model said; a figure that is not known is None, never 0."""

    text: str
    tool_calls: list[dict[str, Any]] | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None


class Model(Protocol):
    """Something that answers messages.

    Any object will do that has these three; it need not inherit from this class::

        class Shouting:
            name = "shouting"

            async def complete(self, request: ModelRequest) -> ModelAnswer:
                return ModelAnswer(text=str(request.messages[-1]["content"]).upper())

            async def aclose(self) -> None:
                pass

    Whoever makes a model closes it: a server closes only those it made itself, and so asks
    of one that it is given for ``name`` and ``complete`` only.
    """

    @property
    def name(self) -> str:
        """Shown as the name of the model that answered."""
        ...

    async def complete(self, request: ModelRequest) -> ModelAnswer:
        """Answer one request; called many times at once.

        Any exception fails the one item concerned, with its text; a `ModelError` is for
        what was foreseen.
        """
        ...

    async def aclose(self) -> None:
        """Give back what it holds."""
        ...


def checked_model(model: Model, argument: str) -> Model:
    """``model``, which has what a server needs of one.

    Raises:
        ConfigurationError: It has not; the text says what is missing.
    """
    if isinstance(model, type):
        raise ConfigurationError(f"{argument} is the class {model.__name__}: pass an object of it")
    missing: list[str] = []
    name: object = getattr(model, "name", None)
    if not isinstance(name, str) or not name:
        missing.append("a name, which is a string and not empty")
    if not callable(getattr(model, "complete", None)):
        missing.append(
            "the method `async def complete(self, request: ModelRequest) -> ModelAnswer`"
        )
    if missing:
        raise ConfigurationError(
            f"{argument} is no model, as this {type(model).__name__} does not have "
            f"{' and '.join(missing)}; elluminate_async.server.Model shows one"
        )
    return model


def text_of(message: dict[str, Any]) -> str:
    """The text of a message's content, parts joined."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = cast("list[object]", content)
        return "".join(
            str(cast("dict[str, Any]", part).get("text", ""))
            for part in parts
            if isinstance(part, dict)
        )
    return ""
