"""The one interface to a model."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, cast

from elluminate_async.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from elluminate_async.schemas import LLMConfig

Purpose: TypeAlias = Literal["generate", "criteria", "judge"]


class ModelError(Exception):
    """A model gave no answer; the text is shown to the user and holds no secret."""


class BusyError(ModelError):
    """A model did not take the request, so that asking again pays for nothing twice.

    Attributes:
        reason: ``throttled``: it said that it is too much; ``away``: nobody took the
            connection; ``failed``: it answered with a fault, which may have been paid for.
        retry_after: Seconds after which it wants to be asked again; None when it did not say.
    """

    def __init__(
        self,
        text: str,
        *,
        reason: Literal["throttled", "away", "failed"] = "throttled",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(text)
        self.reason = reason
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """The form an answer must have.

    Attributes:
        is_told: Whether the messages describe it already, for a model that is not held to it.
        is_any: Whether any object will do.
    """

    name: str
    schema: dict[str, Any]
    is_told: bool = False
    is_any: bool = False


class Pulse:
    """Where a model says that it is at work.

    Attributes:
        listener: Called each time; None while nobody waits.
    """

    __slots__ = ("listener",)

    def __init__(self) -> None:
        self.listener: Callable[[], None] | None = None


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
        max_tokens: Tokens of the answer at most where the sampling sets no bound, so that
            none runs on for minutes.
        pulse: Whoever waits for the answer listens there.
    """

    messages: Sequence[dict[str, Any]]
    purpose: Purpose = "generate"
    json_schema: JsonSchema | None = None
    sampling: LLMConfig | None = None
    tools: Sequence[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    nonce: str | None = None
    max_tokens: int | None = None
    pulse: Pulse = field(default_factory=Pulse, repr=False, compare=False)

    def alive(self) -> None:
        """Say that a piece of the answer has arrived: the time allowed begins anew."""
        if self.pulse.listener is not None:
            self.pulse.listener()


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """A model's answer; a figure that is not known is None, never 0."""

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
        what was foreseen. After a `BusyError` it is asked again, by the server and by
        nobody else.
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
    elif inspect.isasyncgenfunction(model.complete):
        missing.append("a `complete` that returns one ModelAnswer, as it yields instead")
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
