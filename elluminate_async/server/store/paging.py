"""Pages of listings with filters, each for the price of a page however much is stored.

How many rows of a block of ids match is counted once and kept until the block changes, which
`counts` tells. A page is found by adding blocks up and walking within one. So the first page of
a filter costs a look at all rows, in an index, and each one after it a page.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from weakref import WeakKeyDictionary

from sqlalchemy import Column, Engine, distinct, func, literal, select, text

from elluminate_async.server.store import counts, tables

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping

    from sqlalchemy import Connection

    from elluminate_async.server.store.rows import AnySelect

Stamp: TypeAlias = "tuple[tuple[int, int], ...]"
"""Experiments and how often each has changed: another one for any change."""

MOST_FILTERS: Final = 256
"""Filters of one database whose counts are kept."""

MOST_SORTED: Final = 2_000
"""Matching rows that are sorted for a page; more are walked in order."""

READY = text("responses.is_ready")
"""In these words, as the partial indexes have it."""

table = tables.responses


@dataclass(frozen=True, slots=True)
class Listed:
    """The rows of a listing, told apart by an ascending column.

    Attributes:
        key: Equal for equal listings.
        column: The responses' column that tells them apart, and that blocks are made of.
        query: Of that column, with all filters.
        scan: The same, so written that rows are walked in order and looked at one by one:
            for a page out of many that match, where each filter's index would give all.
        is_unique: Whether each value comes once; otherwise several rows may share one.
    """

    key: Hashable
    column: Column[Any]
    query: AnySelect
    scan: AnySelect | None = None
    is_unique: bool = True


@dataclass(slots=True)
class _Kept:
    """Counts of one database: stamp and count by block, for each listing."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    counts: OrderedDict[Hashable, dict[int, tuple[Stamp, int]]] = field(
        default_factory=OrderedDict[Any, Any]
    )

    def get(self, key: Hashable) -> Mapping[int, tuple[Stamp, int]]:
        with self.lock:
            return self.counts.get(key, {})

    def put(self, key: Hashable, counts: dict[int, tuple[Stamp, int]]) -> None:
        with self.lock:
            self.counts[key] = counts
            self.counts.move_to_end(key)
            while len(self.counts) > MOST_FILTERS:
                self.counts.popitem(last=False)


_kept: WeakKeyDictionary[Engine, _Kept] = WeakKeyDictionary()


def page(
    connection: Connection, listed: Listed, stamps: Mapping[int, Stamp], start: int, size: int
) -> tuple[list[int], int]:
    """Values of a listing's column from place ``start`` on, ascending, and how many there are.

    Args:
        connection: Where from, in one snapshot with the stamps.
        listed: Of what.
        stamps: Of the blocks that have rows.
        start: From 0.
        size: How many.
    """
    found = _counts(connection, listed, stamps)
    total = sum(count for _, count in found)
    if start >= total:
        return [], total
    for block, count in found:
        if start < count:
            first = block << counts.BLOCK_BITS
            is_many = listed.scan is not None and total > MOST_SORTED
            query = listed.scan if listed.scan is not None and is_many else listed.query
            query = query.where(listed.column >= first).order_by(listed.column)
            if not listed.is_unique:
                query = query.distinct()
            return list(connection.scalars(query.limit(size).offset(start))), total
        start -= count
    raise AssertionError("the blocks add up to the total")


def _counts(
    connection: Connection, listed: Listed, stamps: Mapping[int, Stamp]
) -> list[tuple[int, int]]:
    """Blocks and how many rows each has, in order."""
    kept = _kept.setdefault(connection.engine, _Kept())
    known = kept.get(listed.key)
    changed = [block for block, stamp in stamps.items() if known.get(block, ((), 0))[0] != stamp]
    if changed or len(known) != len(stamps):
        fresh = dict(_counted(connection, listed, min(changed), max(changed))) if changed else {}
        known = {
            block: (stamp, fresh.get(block, 0))
            if min(changed, default=block + 1) <= block <= max(changed, default=block - 1)
            else known[block]
            for block, stamp in stamps.items()
        }
        kept.put(listed.key, known)
    return sorted((block, count) for block, (_, count) in known.items())


def _counted(
    connection: Connection, listed: Listed, first: int, last: int
) -> Iterator[tuple[int, int]]:
    block = listed.column.bitwise_rshift(literal(counts.BLOCK_BITS, literal_execute=True))
    count = func.count() if listed.is_unique else func.count(distinct(listed.column))
    query = listed.query.with_only_columns(block, count).where(
        listed.column >= first << counts.BLOCK_BITS,
        listed.column < (last + 1) << counts.BLOCK_BITS,
    )
    for row in connection.execute(query.group_by(block)):
        found: tuple[int, ...] = tuple(row)
        yield found[0], found[1]


def samples(
    connection: Connection, project_id: int, experiment_id: int, start: int, size: int
) -> tuple[list[int], int]:
    """Rows of the collection that an experiment has responses to, and how many there are."""
    stamps = counts.stamps(connection, project_id, experiment_id)
    whole = tuple(sorted(one for stamp in stamps.values() for one in stamp))
    rows = table.c.template_variables_id
    own = (table.c.experiment_id == experiment_id, READY)
    # One at a time, which takes the two ends of the index and not all of it.
    first = connection.scalar(select(func.min(rows)).where(*own))
    last = connection.scalar(select(func.max(rows)).where(*own))
    if first is None or last is None:
        return [], 0
    blocks = range(first >> counts.BLOCK_BITS, (last >> counts.BLOCK_BITS) + 1)
    # A response may be to any row, so that each change counts for all blocks of rows.
    listed = Listed(("samples", experiment_id), rows, select(rows).where(*own), is_unique=False)
    return page(connection, listed, dict.fromkeys(blocks, (*whole, (0, 0))), start, size)
