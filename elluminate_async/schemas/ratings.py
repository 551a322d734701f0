"""Ratings: the judge's answer to one criterion for one response."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from elluminate_async.schemas.base import ItemKey, ItemsOf, Once, WireModel, without_null
from elluminate_async.schemas.criteria import Criterion
from elluminate_async.schemas.generation_metadata import GenerationMetadata


class RatingMode(StrEnum):
    """FAST asks for verdicts only; DETAILED asks for the judge's reasoning too, and costs more."""

    FAST = "fast"
    DETAILED = "detailed"


class RatingValue(StrEnum):
    """The judge's verdict."""

    YES = "YES"
    NO = "NO"


class Rating(WireModel):
    """One verdict.

    Attributes:
        rating: YES or NO; another word of the service is kept as it is.
        reasoning: Why: in DETAILED mode, and in FAST where the judge says it all the same.
        generation_metadata: Which judge gave it, and for how much. Of what a call about several
            criteria took, each rating has its share, so that their tokens add up.
    """

    id: int
    criterion: Once[Criterion]
    rating: RatingValue | str = Field(union_mode="left_to_right")
    reasoning: str | None = None
    generation_metadata: GenerationMetadata | None = None
    created_at: datetime | None = None


class RatingRequest(WireModel):
    """Body of ``POST ratings``."""

    prompt_response_id: int
    rating_mode: RatingMode = RatingMode.DETAILED


class RatingBatchRequest(WireModel):
    """Body of ``POST ratings/batches``.

    Attributes:
        run: Within one, a response has one rating by each criterion, whatever job asks for it.
            Sent where there is one, to services that offer `Capability.ITEM_KEYS`.
    """

    prompt_response_ids: ItemsOf[int]
    rating_mode: RatingMode = RatingMode.DETAILED
    run: ItemKey | None = None

    @model_serializer(mode="wrap")
    def _leave_out_unset(self, serialize: SerializerFunctionWrapHandler):
        # Of no declared type, which would stand for all that is described of the fields.
        return without_null(serialize(self), "run")
