"""`RowKeys`: the keys that tell the rows of an evaluation from each other within its run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from elluminate_async.errors import InputError
from elluminate_async.errors.arguments import shown
from elluminate_async.operations.item_keys import Keying, checked_key
from elluminate_async.operations.run_keys import ItemKey, checked_run

if TYPE_CHECKING:
    from elluminate_async.schemas.template_variables import TemplateVariables


@dataclass(frozen=True, slots=True)
class RowKeys:
    """The run of an evaluation, and the keys of its rows.

    Attributes:
        run: Its name.
        given: The column that has the keys, or a key for each row; None takes the ids that the
            rows have at the service, and how often each comes.
    """

    run: str
    given: str | tuple[str, ...] | None = None

    def of(self, position: int, values: Mapping[str, Any]) -> str | None:
        """The key of a row, where one is given.

        Raises:
            InputError: There is none in its column.
        """
        if not isinstance(self.given, str):
            return None if self.given is None else self.given[position]
        if self.given not in values:
            raise InputError(f"rows[{position}] has no column {self.given!r} for item_keys=")
        key = values[self.given]
        if isinstance(key, int) and not isinstance(key, bool):
            return str(key)
        return checked_key(key, f"rows[{position}][{self.given!r:.60}] is its key, and")


def checked_keys(run: object, item_keys: object, total: int | None) -> RowKeys | None:
    """The keys of ``total`` rows; None without a run.

    Raises:
        InputError: There are keys and no run, or not one for each row.
    """
    found = checked_run(run)
    if item_keys is None:
        return None if found is None else RowKeys(found.name)
    if found is None:
        raise InputError(
            "item_keys= needs run=: a key names a row within a run, such as run='nightly-42'"
        )
    if isinstance(item_keys, str) and item_keys:
        return RowKeys(found.name, item_keys)
    is_list = isinstance(item_keys, Iterable) and not isinstance(item_keys, str | bytes)
    if not is_list or isinstance(item_keys, Mapping | Set):
        raise InputError(
            "item_keys must be the name of the column that has them, or a list of one for each "
            f"row, not {shown(cast('object', item_keys))}"
        )
    if total is None:
        raise InputError(
            "item_keys= as a list needs rows as a list; else name the column that has them"
        )
    keys = [*cast("Iterable[object]", item_keys)]
    if len(keys) != total:
        raise InputError(f"there are {total} rows and {len(keys)} item_keys")
    given = (checked_key(key, f"item_keys[{position}]") for position, key in enumerate(keys))
    return RowKeys(found.name, tuple(given))


class UniqueKeys:
    """Looks at the keys of rows that are all there.

    Args:
        keys: Of the evaluation.
    """

    def __init__(self, keys: RowKeys) -> None:
        self._keys = keys
        self._first: dict[str, tuple[int, int]] = {}

    def check(self, position: int, values: Mapping[str, Any], encoded: bytes) -> None:
        """Raise `InputError` when an earlier row that differs has the key of this one."""
        key = self._keys.of(position, values)
        if key is None:
            return
        before, content = self._first.setdefault(key, (position, hash(encoded)))
        if content != hash(encoded):
            raise InputError(
                f"rows[{position}] has the key {shown(key)}, as rows[{before}] has, which "
                "differs: a key names one row"
            )


class KeyCounter:
    """Gives the rows of one configuration their keys.

    Args:
        keys: Of the evaluation.
    """

    def __init__(self, keys: RowKeys) -> None:
        self._keys = keys
        self._seen = Counter[int]()

    def keys_of(
        self, position: int, values: Mapping[str, Any], row: TemplateVariables, epochs: int
    ) -> Sequence[ItemKey]:
        """The key of each epoch of a row; to be asked once for each row."""
        text = self._keys.of(position, values)
        if text is not None:
            return [ItemKey(text, epoch) for epoch in range(1, epochs + 1)]
        self._seen[row.id] += 1
        place = (row.id, self._seen[row.id])
        return [ItemKey(place, epoch) for epoch in range(1, epochs + 1)]


def keying_of(keys: RowKeys | None) -> Keying | None:
    """For the plan of one configuration, whose items have their keys already."""
    run = None if keys is None else checked_run(keys.run)
    return None if run is None else Keying(run)
