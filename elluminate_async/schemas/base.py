"""What all documents of the wire have in common."""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict

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
