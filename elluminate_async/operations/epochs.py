"""`Epochs`: which repetition of its variables each item of a call is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from elluminate_async.engine.chunks import Item
from elluminate_async.operations.response_items import ResponseSpec


@dataclass(slots=True)
class Epochs:
    """Gives repeated inputs distinct epochs, so that (variables, epoch) names one position.

    Attributes:
        call_wide: Count over the whole call, in memory of all its inputs; otherwise over
            one chunk at a time, which is enough where results come by position.
    """

    call_wide: bool
    _seen: Counter[int] = field(default_factory=Counter[int])

    def of(self, items: Sequence[Item[ResponseSpec]]) -> list[int]:
        """The epoch of each item."""
        seen = self._seen if self.call_wide else Counter[int]()
        epochs: list[int] = []
        for item in items:
            if item.value.epoch is not None:
                epochs.append(item.value.epoch)
                continue
            seen[item.value.variables_id] += 1
            epochs.append(seen[item.value.variables_id])
        return epochs
