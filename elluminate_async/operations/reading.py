"""Bodies of answers to documents: weighed first, bounded in number, each row by itself at last.

Where a row cannot be read, the others are read without it. A body that is heavy, and not too
heavy, becomes plain data before it becomes documents, which takes longer and less memory.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar, cast

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from elluminate_async.errors import AnswerTooLargeError, ProtocolError
from elluminate_async.operations.json_input import problem_of
from elluminate_async.schemas.base import MOST_ROWS, ListOf, Repeated, RowsOf, WireModel
from elluminate_async.schemas.jobs import JobStatus, RatingJobStatus, ResponseJobStatus
from elluminate_async.schemas.ratings import Rating
from elluminate_async.schemas.responses import PromptResponse
from elluminate_async.transport.exchange import Answer, excerpt
from elluminate_async.transport.weight import check_weight

T = TypeVar("T")

MOST_UNREADABLE = 1_000
"""Rows of one answer that may be unreadable; with more, it is no answer of this protocol."""

_ROWS: dict[type, Any] = {
    ResponseJobStatus: PromptResponse | None,
    RatingJobStatus: ListOf[Rating] | None,
}
"""The types of a result's elements, by the kind of the status."""


_adapters: dict[Any, TypeAdapter[Any]] = {}


def adapter(kind: type[T]) -> TypeAdapter[T]:
    """The validator of ``kind``; building one costs milliseconds, so each is built once."""
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]


def read_body(kind: type[T], body: bytes) -> T:
    """The JSON of ``body`` as a document.

    Raises:
        AnswerTooLargeError: It would take far more memory than its bytes.
        ValueError: It is none.
    """
    if check_weight(body):
        return read_json(kind, body)
    return read(kind, parsed(body))


def parsed(body: bytes) -> object:
    """The JSON of ``body``, which was weighed, as plain data.

    Raises:
        ValueError: It is none, or a list of rows in it is longer than `MOST_ROWS`.
    """
    data: object = from_json(body)
    whole = _document(data) or {"": data}
    for key in ("", "items", "result", "item_failures"):
        rows = whole.get(key)
        if isinstance(rows, list) and (count := len(cast("list[object]", rows))) > MOST_ROWS:
            raise ValueError(f"{key}: a list of {count}, and {MOST_ROWS} is the most")
    return data


def read_json(kind: type[T], body: bytes) -> T:
    """``body``, which was weighed and found light, as a document.

    Raises:
        ValidationError: It is none.
    """
    return adapter(kind).validate_json(body, context=Repeated())


def read(kind: type[T], data: object) -> T:
    """``data`` as a document.

    Raises:
        ValidationError: It is none.
    """
    return adapter(kind).validate_python(data, context=Repeated())


def read_list(kind: type[T], body: bytes) -> list[T]:
    """The JSON of ``body`` as a list of documents.

    Raises:
        AnswerTooLargeError, ValueError: As `read_body`; also where it is longer than `MOST_ROWS`.
    """
    return read_body(cast("type[list[T]]", RowsOf[kind]), body)


class Rows(Generic[T]):
    """Rows of one answer, each validated by itself.

    Attributes:
        read: In order; a row that is no such document as the plain data that it came as.
        unreadable: How many of those there are.
        problem: Of the first of them.
    """

    def __init__(self, kind: type[T], data: list[Any]) -> None:
        """Validate ``data``, whose elements are dropped on the way.

        Raises:
            ValueError: More than `MOST_UNREADABLE` of it is unreadable.
        """
        validate, context = adapter(kind).validator.validate_python, Repeated()
        self.read: list[T | object] = []
        self.unreadable = 0
        self.problem = ""
        for index, row in enumerate(data):
            data[index] = None
            try:
                self.read.append(validate(row, context=context))
            except ValidationError as error:
                self.read.append(row)
                self.problem = self.problem or problem_of(error)
                self.unreadable += 1
                if self.unreadable > MOST_UNREADABLE:
                    raise ValueError(f"{self.unreadable} rows, the first: {self.problem}") from None


def read_status(kind: type[T], body: bytes) -> T:
    """A status document; an element of its result that cannot be read stays as it came.

    Raises:
        AnswerTooLargeError, ValueError: As `read_body`.
    """
    if not check_weight(body):
        data = parsed(body)
        document = _document(data)
        if kind in _ROWS and document and isinstance(rows := document.get("result"), list):
            document["result"] = Rows(_ROWS[kind], cast("list[Any]", rows)).read
        return read(kind, data)
    found = read_json(kind, body)
    if isinstance(found, JobStatus) and found.result and not all(map(_was_read, found.result)):
        return found.model_copy(update={"result": Rows(_ROWS[kind], found.result).read})
    return found


def _document(data: object) -> dict[str, object] | None:
    return cast("dict[str, object]", data) if isinstance(data, dict) else None


def _was_read(element: object) -> bool:
    if isinstance(element, list):
        element = next(iter(cast("list[object]", element)), None)
    return element is None or isinstance(element, WireModel)


def decode(kind: type[T], answer: Answer) -> T:
    """The answer's body as ``kind``.

    Raises:
        AnswerTooLargeError: It would take far more memory than its bytes.
        ProtocolError: It is not that; the text quotes its beginning.
    """
    return decoded(answer, partial(read_body, kind))


def decode_list(kind: type[T], answer: Answer) -> list[T]:
    """The answer's body as a list of ``kind``.

    Raises:
        AnswerTooLargeError, ProtocolError: As `decode`.
    """
    return decoded(answer, partial(read_list, kind))


def decoded(answer: Answer, reading: Callable[[bytes], T]) -> T:
    """The body of an answer, read by ``reading``.

    Raises:
        AnswerTooLargeError, ProtocolError: As `decode`.
    """
    try:
        return reading(answer.body)
    except AnswerTooLargeError as error:
        error.attempts, error.request_id = answer.attempts, answer.request_id
        raise
    except ValueError as error:
        problem = answer.blotter.text(problem_of(error))
    # Out here: pydantic's error, which holds the whole answer, would be its context.
    raise ProtocolError(
        f"an answer that is not what the protocol says ({problem}): {excerpt(answer)!r}",
        sent=True,
        attempts=answer.attempts,
        request_id=answer.request_id,
    )
