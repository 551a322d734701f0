"""Which of the service's rows belongs to which position. Never by list order.

A response row names the entry of template variables it was made for and its epoch; together
they are its natural key. Repeated inputs get distinct epochs, so that the key is unique among
the rows of one client. Rows of another client may have it too: the configuration that a row
names, and whatever else it says of its request, must not contradict.

Three inputs, of which two are the row 7, on an experiment that has a response to 7 already::

    position 0, row 7  →  key (7, 2), as (7, 1) is taken     found: id 13, epoch 2
    position 1, row 8  →  key (8, 1)                         found: id 12, epoch 1
    position 2, row 7  →  key (7, 3)                         found: id 14, epoch 3

Was id 12 of another configuration, another client made it: position 1 goes on waiting, and is
unknown when the time to reconcile is over.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from elluminate_async.operations.echoes import Echo, config_of
from elluminate_async.schemas.responses import PromptResponse


class NaturalKey(NamedTuple):
    """The part of a request that its response row echoes."""

    template_variables_id: int
    epoch: int


_ANY = Echo()


# Not frozen, as one is made for each item and would take twice the time.
@dataclass(slots=True)
class ExpectedRow:
    """A position, the key its row will have and what else it will say; never changed."""

    position: int
    key: NaturalKey
    echo: Echo = _ANY

    def fits(self, row: PromptResponse) -> bool:
        """Whether a row of the key says nothing else that contradicts."""
        return self.echo is _ANY or self.echo.fits(row)


def left_of(wanted: Iterable[ExpectedRow], found: Container[int]) -> list[ExpectedRow]:
    """Those whose positions are not ``found``."""
    return [entry for entry in wanted if entry.position not in found]


def key_of(row: PromptResponse) -> NaturalKey:
    """The natural key of a row."""
    return NaturalKey(row.prompt.template_variables.id, row.epoch)


class RowPool:
    """Rows that no position has claimed yet."""

    def __init__(self, rows: Iterable[PromptResponse] = ()) -> None:
        self._rows: defaultdict[NaturalKey, list[PromptResponse]] = defaultdict(list)
        self._ids: set[int] = set()
        self._configs: set[int] = set()
        self.add(rows)

    def add(self, rows: Iterable[PromptResponse]) -> None:
        """Add rows that were never added; of one key, those added first are claimed first."""
        for row in rows:
            if row.id not in self._ids:
                self._ids.add(row.id)
                self._rows[key_of(row)].append(row)

    def learn(self, rows: Iterable[PromptResponse]) -> None:
        """Note which configurations the service names in its rows, if it does."""
        self._configs.update(id for row in rows if (id := config_of(row)) is not None)

    @property
    def names_configurations(self) -> bool:
        """Whether the service was seen to name configurations in its rows."""
        return bool(self._configs)

    def claim(self, wanted: Iterable[ExpectedRow]) -> dict[int, PromptResponse]:
        """Position to row, for the exact keys; each row once."""
        found: dict[int, PromptResponse] = {}
        for entry in wanted:
            rows = self._rows.get(entry.key)
            if rows and (row := self._best(entry, rows)):
                found[entry.position] = row
                rows.remove(row)
        return found

    def _best(self, entry: ExpectedRow, rows: Sequence[PromptResponse]) -> PromptResponse | None:
        """The first row that can be that of a position; one that names its configuration first."""
        wanted = entry.echo.config_id
        if wanted is None:
            fitting = (row for row in rows if entry.fits(row))
            if entry.echo.text is None and len(self._configs) > 1:
                # Nobody knows which is meant: of several one at least is somebody else's.
                several = list(fitting)
                return several[0] if len({*map(config_of, several)}) == 1 else None
            return next(fitting, None)
        unnamed: PromptResponse | None = None
        for row in rows:
            if entry.fits(row):
                if config_of(row) is not None:
                    return row
                # Where answers have their configuration's name, one without was stored.
                if unnamed is None and (row.error is not None or not self._configs):
                    unnamed = row
        return unnamed

    def ids_of(self, asked: Mapping[NaturalKey, ExpectedRow]) -> Iterator[int]:
        """Ids of the rows that are still there and may be those of positions, by their keys."""
        for key, rows in self._rows.items():
            if entry := asked.get(key):
                yield from (row.id for row in rows if entry.fits(row))

    def claim_any_epoch(
        self,
        wanted: Sequence[ExpectedRow],
        *,
        reserved: Mapping[NaturalKey, int],
        not_among: Container[int] = (),
    ) -> dict[int, PromptResponse]:
        """The same by the variables alone, for a service that sets epochs by itself.

        Args:
            wanted: Positions that no row of their own key was found for.
            reserved: How many rows of a key are left to the positions that ask for it.
            not_among: Ids of rows that belong to others.
        """
        spare: defaultdict[int, list[PromptResponse]] = defaultdict(list)
        # The pool may hold all rows of a large batch, and each chunk looks for its own.
        ids = {entry.key.template_variables_id for entry in wanted}
        for key, rows in self._rows.items():
            if key.template_variables_id not in ids:
                continue
            free = [row for row in rows if row.id not in not_among]
            spare[key.template_variables_id].extend(free[reserved.get(key, 0) :])
        found: dict[int, PromptResponse] = {}
        for entry in wanted:
            rows = spare.get(entry.key.template_variables_id)
            if rows and (row := self._best(entry, rows)):
                found[entry.position] = row
                rows.remove(row)
                self._rows[key_of(row)].remove(row)
        return found


def match_result(
    wanted: Sequence[ExpectedRow],
    rows: Sequence[PromptResponse | None],
    *,
    interchangeable: bool = False,
) -> dict[int, PromptResponse]:
    """Position to row, for the ``result`` of a terminal status document.

    The list is in the request's order, with None for what has no readable row, which its rows
    confirm by the variables they echo. Where one does not, or the length differs, the rows are
    matched by their keys alone, and what is ``interchangeable`` also by its variables, where the
    service sets epochs itself.
    """
    if len(rows) == len(wanted) and all(
        [
            row is None or row.prompt.template_variables.id == entry.key.template_variables_id
            for entry, row in zip(wanted, rows, strict=True)
        ]
    ):
        pairs = zip(wanted, rows, strict=True)
        return {entry.position: row for entry, row in pairs if row is not None}
    pool = RowPool(row for row in rows if row is not None)
    found = pool.claim(wanted)
    if interchangeable:
        # All of these rows are of this very request.
        missing = [entry for entry in wanted if entry.position not in found]
        found |= pool.claim_any_epoch(missing, reserved={})
    return found
