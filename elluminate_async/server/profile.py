"""How the server answers on the wire, so that it can stand in for the hosted service."""

from __future__ import annotations

from dataclasses import dataclass

from elluminate_async.schemas import Capability


@dataclass(frozen=True, slots=True)
class WireProfile:
    """The abilities of a server beyond the hosted protocol, and how it lists.

    Attributes:
        page_size: Items a page.
        listing_seed: None lists responses in the order of the inputs. A number shuffles
            them, always in the same way.
        results_with_status: Whether a batch's status document tells progress and results.
        idempotency_keys: Whether a repeated POST gets the stored answer.
        equal_entries: Whether it is advertised that an entry which exists is not added twice.
        identity: Whether the version check tells the id that was made with the database.
        cancellation: Whether a DELETE ends a job, or a request that is being worked on.
        item_keys: Whether the items of batches have keys under which they are made once.
    """

    page_size: int = 100
    listing_seed: int | None = None
    results_with_status: bool = True
    idempotency_keys: bool = True
    equal_entries: bool = True
    identity: bool = True
    cancellation: bool = True
    item_keys: bool = True

    @classmethod
    def hosted(cls, page_size: int = 100, listing_seed: int | None = None) -> WireProfile:
        """As the hosted service answers: no capability beyond its protocol."""
        return cls(
            page_size,
            listing_seed,
            results_with_status=False,
            idempotency_keys=False,
            equal_entries=False,
            identity=False,
            cancellation=False,
            item_keys=False,
        )

    @property
    def capabilities(self) -> frozenset[Capability]:
        """The abilities that the version check advertises."""
        offered = {
            Capability.RESULTS_WITH_STATUS: self.results_with_status,
            Capability.IDEMPOTENCY_KEYS: self.idempotency_keys,
            Capability.EQUAL_ENTRIES: self.equal_entries,
            Capability.CANCELLATION: self.cancellation,
            Capability.ITEM_KEYS: self.item_keys,
        }
        return frozenset(name for name, is_offered in offered.items() if is_offered)
