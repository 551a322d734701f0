"""What all documents of the wire have in common."""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationInfo, ValidatorFunctionWrapHandler
from pydantic.functional_validators import WrapValidator

T = TypeVar("T")


class WireModel(BaseModel):
    """A document of the wire: immutable, unknown keys ignored, no NaN, which is no JSON."""

    model_config = ConfigDict(
        extra="ignore", frozen=True, hide_input_in_errors=True, allow_inf_nan=False
    )


class Page(WireModel, Generic[T]):
    """One page of a listing.

    Attributes:
        items: The rows of this page.
        count: Rows over all pages.
    """

    items: list[T]
    count: int


class Repeated(dict[tuple[str | None, int], tuple[dict[str, Any], Any]]):
    """Validation context: the parts that came in one answer so far, by field and id."""


def _once(value: Any, validate: ValidatorFunctionWrapHandler, info: ValidationInfo) -> object:
    parts: object = info.context
    if type(parts) is not Repeated or value.__class__ is not dict:
        return validate(value)
    id = value.get("id")
    if id.__class__ is not int:
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
