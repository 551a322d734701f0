"""The base of all documents of the wire."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Annotated, Any, Final, Generic, TypeVar, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
)
from pydantic.functional_validators import BeforeValidator, WrapValidator
from pydantic.json_schema import JsonSchemaValue

T = TypeVar("T")

MOST_ROWS = 10_000
"""Rows of a page, results and failures of a job's status: more in one answer are refused."""


class FirstErrorEnds:
    """Annotates a list or a set: its validation ends at the first error.

    As `pydantic.FailFast`, which cannot be hashed and so not be part of a union.

    Args:
        most: Elements that it may have; None for any number.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = most

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        """The schema of the list or set with that switched on."""
        bound = {} if self._most is None else {"max_length": self._most}
        return {**handler(source), "fail_fast": True, **bound}


ListOf = Annotated[list[T], FirstErrorEnds()]
"""A list within an answer: its first element that is not as agreed ends its validation.

An error for each of a million would cost a thousand times their bytes.
"""

RowsOf = Annotated[list[T], FirstErrorEnds(MOST_ROWS)]
"""The same, of `MOST_ROWS` at most."""


MOST_ITEMS = 100_000
"""Items of one batch, and of one job."""


def _not_too_many(value: object) -> object:
    # Before any of them is validated, which takes longer than reading them did.
    if isinstance(value, list):
        count = len(cast("list[object]", value))
        if count > MOST_ITEMS:
            raise ValueError(f"{count} are too many: {MOST_ITEMS} are the most in one batch")
    return cast("object", value)


ItemsOf = Annotated[list[T], FirstErrorEnds(), BeforeValidator(_not_too_many)]
"""The items of a batch, `MOST_ITEMS` at most."""


ItemKey = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
"""The name of an item, or of a run, for good: equal for two that are the same one."""


class Unset(Enum):
    """The type of `UNSET`."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return self.name


UNSET: Final = Unset.UNSET
"""An argument that was not given, where None has a meaning of its own."""


def without_null(document: dict[str, Any], name: str) -> dict[str, Any]:
    """A document that does not have this key where it is null."""
    if document.get(name) is None:
        document.pop(name, None)
    return document


def check_one_of(value: str | None, known: Sequence[str], what: str) -> None:
    """Raise `ValueError` unless ``value`` is None or one of ``known``, as ``what`` may be."""
    if value is not None and value not in known:
        raise ValueError(f"{what} must be one of {', '.join(known)}, not {value!r:.60}")


class WireModel(BaseModel):
    """A document of the wire: immutable, unknown keys ignored, no NaN, which is no JSON."""

    model_config = ConfigDict(
        extra="ignore", frozen=True, hide_input_in_errors=True, allow_inf_nan=False
    )


class KeysOf:
    """Annotates an object that is kept as it is: the model that tells of the keys it may have.

    For a description of the wire only: nothing is validated by that model.

    Args:
        model: Its fields are the keys.
    """

    def __init__(self, model: type[BaseModel]) -> None:
        self._model = model

    def __get_pydantic_json_schema__(
        self, _schema: object, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """The model's, in place of any object's."""
        return handler(self._model.__pydantic_core_schema__)


class Page(WireModel, Generic[T]):
    """One page of a listing.

    Attributes:
        items: The rows of this page.
        count: Rows over all pages.
    """

    items: RowsOf[T]
    count: int


class Repeated(dict[tuple[str | None, int | None], tuple[dict[str, Any], Any]]):
    """Validation context: the parts that came in one answer so far, by field and id."""


def _once(value: Any, validate: ValidatorFunctionWrapHandler, info: ValidationInfo) -> object:
    parts: object = info.context
    if type(parts) is not Repeated or value.__class__ is not dict:
        return validate(value)
    id = value.get("id")
    # Without an id it is compared with the last one of its field.
    if id is not None and id.__class__ is not int:
        return validate(value)
    key = info.field_name, id
    known = parts.get(key)
    # The same id is not enough: it may have been changed while the answer was made.
    if known is None or known[0] != value:
        known = parts[key] = value, validate(value)
    return known[1]


Once = Annotated[T, WrapValidator(_once)]
"""A part that the rows of an answer repeat in full, such as their template.

Validated with a `Repeated` as its context, an answer has each such part once, and its rows
share it, as documents are immutable. These parts are most of what an answer's rows consist of.
Fields of one name must be of one kind.
"""
