"""``POST /api/v0/version/compatible``: the first exchange, and what the server can do."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from elluminate_async.schemas.base import FirstErrorEnds, WireModel

IDEMPOTENCY_HEADER = "Idempotency-Key"
"""Request header of every POST that starts a batch, or the job of an experiment."""

REPLAYED_HEADER = "Idempotency-Replayed"
"""Answer header, ``true`` when the answer is the stored one of an earlier request."""


class Capability(StrEnum):
    """Abilities that a service may advertise beyond the hosted protocol; none is ever assumed."""

    IDEMPOTENCY_KEYS = "idempotency-keys"
    """A POST that starts a batch or an experiment's job, and repeats an `IDEMPOTENCY_HEADER`, gets
    the stored answer."""

    RESULTS_WITH_STATUS = "results-with-status"
    """The terminal status document of a batch holds ``result``, in the request's order."""

    EQUAL_ENTRIES = "equal-entries"
    """An entry that is added singly and exists already is answered with the row that exists."""

    CANCELLATION = "cancellation"
    """A DELETE of a batch's task ends it; one of a POST's path, under the `IDEMPOTENCY_HEADER` of
    that POST, ends what it began."""

    ITEM_KEYS = "item-keys"
    """An ``item_key`` of a response's batch, and the ``run`` of a batch of ratings, name what is
    made once, whatever job asks for it; an upload of rows tells of those that exist too."""


class CompatibilityRequest(WireModel):
    """Body of the version check."""

    current_sdk_version: str


class CompatibilityAnswer(WireModel):
    """Answer to the version check; the last two are absent on the hosted service.

    Attributes:
        capabilities: Of `Capability`, and such as later versions know.
        server_id: Made with the service's data, and the same at whatever address it is served.
    """

    is_compatible: bool
    required_sdk_version: str = ""
    capabilities: Annotated[frozenset[str], FirstErrorEnds(100)] = Field(default=frozenset())
    server_id: str | None = None
