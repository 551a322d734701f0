"""`ItemError` and its kinds: one position of a batch that failed."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from elluminate_async.errors.base import ElluminateError, InputError, one_line
from elluminate_async.errors.codes import item_code, status_in
from elluminate_async.errors.documents import item_error_schema

if TYPE_CHECKING:
    from pydantic_core import CoreSchema

    from elluminate_async.errors.codes import ItemErrorCode


_PASSING = frozenset(
    {
        *("connect", "deadline", "http_429", "not_sent", "revoked", "timeout", "transport"),
        "unavailable",
    }
)

_WORTH_SENDING = frozenset(
    {
        "connect",
        "deadline",
        "generation_failed",
        "http_408",
        "http_421",
        "http_425",
        "http_429",
        "incomplete",
        "job_failed",
        "no_result",
        "not_sent",
        "rating_failed",
        "revoked",
        "timeout",
        "transport",
        "unavailable",
    }
)


class ItemError(ElluminateError):
    """One item of a batch failed; its siblings were not affected.

    Plain data: it holds no traceback and no cause, so that ten thousand of them pin no
    frames, and `to_dict` gives one line of JSON.

    Attributes:
        position: Index of the item in the list the caller passed in, from 0.
        code: Machine-readable reason, such as ``generation_failed`` or ``http_429``; the table
            in `elluminate_async.errors.codes` has all.
        operation: The call that failed, ``"generate"``, ``"rate"`` or ``"add"``. An error
            that travels from `generate_many` into `rate_many` keeps its own.
        attempts: How often the item was sent; 0 when it never was.
        status: HTTP status behind it, if there was one.
        request_id: The service's id of the exchange, if it sent one.
        text: What happened, in words.
        response_id: The service's id of the response concerned, if there is one.
        retryable: Whether sending the item again as it is makes sense. True for what passes:
            429, 5xx, 408, 421, 425, ``connect`` (but for a bad certificate), ``timeout``,
            ``transport``, ``deadline``, ``not_sent``, ``revoked``, ``unavailable``; and for what
            the model, the judge or a job may do better the next time, at its cost:
            ``generation_failed``, ``rating_failed``, ``incomplete``, ``job_failed``,
            ``no_result``. False for other
            statuses of 4xx, ``protocol``, ``answer_too_large``, ``bad_input`` and ``failed``. Of an
            `OutcomeUnknownError`, whatever its code, it is True only where the batch's
            `Batch.retry_failed` goes on with what was sent and so pays for nothing twice.
        retry_after: Seconds that the service asked to wait, as of when the item failed, if
            it did.
        cause: Name of the class of the error behind it, if there was one: ``"ServerError"``.
    """

    default_code: ClassVar[ItemErrorCode] = "failed"
    _fields: ClassVar[frozenset[str]] = frozenset(
        {
            *("position", "operation", "attempts", "status", "request_id", "response_id"),
            *("retryable", "retry_after", "cause"),
        }
    )
    # Of errors that an earlier version pickled.
    retryable: bool = False
    retry_after: float | None = None
    cause: str | None = None

    def __init__(
        self,
        text: str,
        *,
        position: int,
        code: ItemErrorCode | None = None,
        operation: str,
        attempts: int = 1,
        status: int | None = None,
        request_id: str | None = None,
        response_id: int | None = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
        cause: str | None = None,
    ) -> None:
        super().__init__(text)
        self.position = position
        # Also where the type was not checked: what handles errors knows the closed set.
        self.code: ItemErrorCode = self.default_code if code is None else item_code(code)
        self.operation = operation
        self.attempts = attempts
        self.status = status
        self.request_id = request_id
        self.response_id = response_id
        self.retryable = self._is_retryable() if retryable is None else retryable
        self.retry_after = retry_after
        self.cause = cause

    def _is_retryable(self) -> bool:
        """By the code alone."""
        return self.code in _WORTH_SENDING or self.code.startswith("http_5")

    @property
    def is_passing(self) -> bool:
        """Whether the way, the moment or the service failed it, and nothing of the item."""
        return self.code in _PASSING or self.code.startswith("http_5")

    @property
    def text(self) -> str:
        """The reason, in words."""
        return str(self.args[0])

    def __str__(self) -> str:
        return one_line(f"{self.operation}[{self.position}] {self.code}: {self.args[0]}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready data; `from_dict` is the way back."""
        data = {name: value for name, value in self.__dict__.items() if not name.startswith("_")}
        for of_any_error in ("partial", "ambiguous"):
            data.pop(of_any_error, None)
        return {"type": type(self).__name__, "text": self.text, **data}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> ItemError:
        """The error that `to_dict` was called on.

        Of a later version's, what this one does not know is left out: an unknown type gives an
        `ItemError`, an unknown code is ``failed``, other keys are ignored.

        Raises:
            InputError: It has no ``text``, ``position`` or ``operation``.
        """
        if not isinstance(data, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InputError(f"an item's error is a mapping as of to_dict(), not {data!r:.60}")
        if missing := [name for name in ("text", "position", "operation") if name not in data]:
            raise InputError(f"this is no item's error: it has no {' and no '.join(missing)}")
        cls = _ITEM_ERRORS.get(data.get("type", ""), ItemError)
        known = {name: data[name] for name in cls._fields if name in data}
        code: str | None = data.get("code")
        if code is not None and known.get("status") is None:
            known["status"] = status_in(code)
        return cls(data["text"], code=None if code is None else item_code(code), **known)

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """Name and value of each field, as of a pydantic model: ``dict(error)`` is `to_dict`.

        It is by this that encoders which know neither, such as FastAPI's, find the text too.
        """
        yield from self.to_dict().items()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: object) -> CoreSchema:
        """As a field of a pydantic model it is a document of `to_dict`, and read back from one."""
        return item_error_schema(cls)

    def at(self, position: int) -> Self:
        """The same failure at another position (an item that was sent once for two)."""
        if position == self.position:
            return self
        twin = copy.copy(self)
        twin.position = position
        return twin


class GenerationError(ItemError):
    """The service has a row for this item, and the row holds an error, not an answer.

    Attributes:
        output: The text that there is of the answer, broken off as it may be; often empty.
    """

    default_code: ClassVar[ItemErrorCode] = "generation_failed"
    _fields: ClassVar[frozenset[str]] = ItemError._fields | {"output"}

    def __init__(self, text: str, *, output: str = "", **rest: Any) -> None:
        super().__init__(text, **rest)
        self.output = output


class RatingError(ItemError):
    """The judge gave no verdict, or not one for every criterion. Never a NO.

    Attributes:
        ratings: The verdicts that there are all the same, as `Rating.model_dump` in JSON's types.
    """

    default_code: ClassVar[ItemErrorCode] = "rating_failed"
    _fields: ClassVar[frozenset[str]] = ItemError._fields | {"ratings"}
    # Of errors that an earlier version pickled.
    ratings: Sequence[Mapping[str, Any]] = ()

    def __init__(
        self, text: str, *, ratings: Iterable[Mapping[str, Any]] = (), **rest: Any
    ) -> None:
        super().__init__(text, **rest)
        self.ratings = [dict(rating) for rating in ratings]


class InputChangedError(ItemError):
    """The service has another input under the item's id than the caller.

    It was edited since it was read, or the database is another one. Its code is ``no_result``.
    Sending the same again cannot end otherwise, so `Batch.retry_failed` leaves it: read the
    inputs again, and call with those.
    """

    default_code: ClassVar[ItemErrorCode] = "no_result"

    def _is_retryable(self) -> bool:
        return False


class OutcomeUnknownError(ItemError):
    """The item was sent, and nothing proves whether the service processed it.

    Its code is ``outcome_unknown``, or the reason where there is one: ``deadline``,
    ``stalled``, ``no_result``, ``unavailable``. It is not sent anew, as that could pay for
    it twice. `Batch.retry_failed` follows the job that it is in, or repeats its request under
    its very key where the service honours keys; for what allows neither (then it is not
    `retryable`), look at the experiment's responses, or where a duplicate does no harm have it
    sent anew by ``batch.retry_failed(include_unknown=True)``. A call with a journal is best made
    again as it was: it looks for what became of it first.
    """

    default_code: ClassVar[ItemErrorCode] = "outcome_unknown"

    def _is_retryable(self) -> bool:
        """Only the batch knows whether it can go on with it."""
        return False


_ITEM_ERRORS: dict[str, type[ItemError]] = {
    cls.__name__: cls
    for cls in (ItemError, GenerationError, RatingError, InputChangedError, OutcomeUnknownError)
}
