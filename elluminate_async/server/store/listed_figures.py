"""Figures of an experiment's first responses, one by one: read once, and again where some changed.

They are kept in memory as numbers of eight bytes, of the experiments that were asked for last.
"""

from __future__ import annotations

import math
import threading
from array import array
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from weakref import WeakKeyDictionary

from sqlalchemy import ColumnElement, Connection, Engine, select

from elluminate_async.server.store import figures, tables
from elluminate_async.server.store.paging import READY

if TYPE_CHECKING:
    from collections.abc import Sequence

Listed: TypeAlias = "dict[str, array[int] | array[float]]"

READS_ONLY: Final = "elluminate_reads_only"
"""Execution option of connections that see nothing but what is committed."""

MOST_KEPT: Final = 256
"""Experiments of one database whose figures are kept."""

_KINDS: Final = {
    "duration_seconds": "d",
    "input_tokens": "q",
    "output_tokens": "q",
    "reasoning_tokens": "q",
}
table = tables.responses


@dataclass(slots=True)
class _Kept:
    """Figures of one database, by experiment, and how often its counts had changed."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    figures: OrderedDict[int, tuple[int, Listed]] = field(default_factory=OrderedDict[Any, Any])

    def get(self, experiment_id: int, changes: int) -> Listed | None:
        with self.lock:
            known, found = self.figures.get(experiment_id, (None, None))
            return found if known == changes else None

    def put(self, experiment_id: int, changes: int, found: Listed) -> None:
        with self.lock:
            self.figures[experiment_id] = (changes, found)
            self.figures.move_to_end(experiment_id)
            while len(self.figures) > MOST_KEPT:
                self.figures.popitem(last=False)


_kept: WeakKeyDictionary[Engine, _Kept] = WeakKeyDictionary()


def of_experiment(connection: Connection, experiment_id: int, changes: int) -> dict[str, Any]:
    """The known figures of its first finished responses, each list in their order.

    Args:
        connection: Where from, in one snapshot with ``changes``.
        experiment_id: Whose.
        changes: How often its responses have changed.
    """
    if not connection.get_execution_options().get(READS_ONLY):
        # A change may be taken back, and another then be counted as the same one.
        return of_some(connection, (table.c.experiment_id == experiment_id,))
    kept = _kept.setdefault(connection.engine, _Kept())
    found = kept.get(experiment_id, changes)
    if found is None:
        found = _read(connection, (table.c.experiment_id == experiment_id,))
        kept.put(experiment_id, changes, found)
    return _lists(found)


def of_some(connection: Connection, conditions: Sequence[ColumnElement[bool]]) -> dict[str, Any]:
    """The same of the first of those for which ``conditions`` hold."""
    return _lists(_read(connection, conditions))


def _read(connection: Connection, conditions: Sequence[ColumnElement[bool]]) -> Listed:
    query = select(*(table.c[name] for name in _KINDS)).where(*conditions, READY)
    rows = connection.execute(query.order_by(table.c.id).limit(figures.MOST_LISTED)).all()
    columns = zip(*rows, strict=True) if rows else iter(((),) * len(_KINDS))
    return {
        name: array(kind, [value for value in column if _is_figure(value, kind)])
        for (name, kind), column in zip(_KINDS.items(), columns, strict=True)
    }


def _is_figure(value: object, kind: str) -> bool:
    # Of a database of before figures were looked at, a column may hold anything.
    if kind == "q":
        return type(value) is int
    return isinstance(value, int | float) and math.isfinite(value)


def _lists(found: Listed) -> dict[str, Any]:
    return {f"{name}_per_response": one.tolist() for name, one in found.items()}
