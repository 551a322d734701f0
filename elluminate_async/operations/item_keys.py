"""The keys that a caller gives its items, checked and put on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Callable,
    Generator,
    Iterable,
    Mapping,
    Sequence,
    Set,
)
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import islice, repeat
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, cast

from elluminate_async.batch import Batch
from elluminate_async.engine.chunks import Entry, Item, Repeatable, Source, closing, uncancelled
from elluminate_async.errors import InputError, ItemError
from elluminate_async.errors.arguments import shown
from elluminate_async.operations.run_keys import ItemKey, Run, checked_run

if TYPE_CHECKING:
    from elluminate_async.operations.response_items import ResponseSpec

T = TypeVar("T")
V = TypeVar("V")

ItemKeys: TypeAlias = Iterable[str] | AsyncIterable[str]
"""A key for each item, in step with the items."""

LONGEST_KEY: Final = 1_000
"""Characters of a caller's key; the service is told a hash of it."""

_Counted: TypeAlias = "Callable[[ResponseSpec], ItemKey]"
_Put: TypeAlias = Callable[[Entry[V], object, int], None]
"""Takes an entry, its key and the count of both."""


@dataclass(frozen=True, slots=True)
class Keying:
    """How the items of a call get their keys.

    Attributes:
        run: What the keys are of.
        given: The caller's keys; None makes them of rows and of how often they come.
        epoch: Of all items with keys of the caller's.
    """

    run: Run
    given: tuple[str, ...] | ItemKeys | None = None
    epoch: int = 1

    def fitted(self, values: Sequence[object], what: str) -> Keying:
        """The same for inputs that are all there.

        Args:
            values: Equal for items that may have one key; None for an entry that is not sent.
            what: The name of the argument that they are of.

        Raises:
            InputError: There is not one key for each, or one is of two that differ.
        """
        given = self.given
        if given is None:
            return self
        if isinstance(given, AsyncIterable):
            raise InputError(f"item_keys must be a list, as {what} is")
        keys = given if isinstance(given, tuple) else tuple(islice(given, len(values) + 1))
        if len(keys) != len(values):
            count = len(keys) if isinstance(given, tuple) or len(keys) < len(values) else "more"
            raise InputError(
                f"item_keys must have one key for each of the {len(values)} {what}, and has {count}"
            )
        first: dict[str, int] = {}
        for position, (key, value) in enumerate(zip(keys, values, strict=True)):
            before = first.setdefault(_checked_key(position, key), position)
            if before != position and None is not value != values[before] is not None:
                raise InputError(
                    f"item_keys[{position}] is {shown(key)}, as item_keys[{before}] is, and "
                    f"their {what} differ: a key names one item"
                )
        return replace(self, given=keys)

    def fitted_to_rows(self, variables: Sequence[object]) -> Keying:
        """`fitted` to rows or their ids, of which some may have failed."""
        rows = variables.outcomes if isinstance(variables, Batch) else variables
        ids = [getattr(row, "id", None if isinstance(row, ItemError) else row) for row in rows]
        return self.fitted(ids, "template_variables")

    def key_at(self, position: int, spec: ResponseSpec) -> ItemKey:
        """The key of an item whose call had all its inputs when it began."""
        if self.given is None:
            return _of_row(spec, spec.epoch or 1)
        return ItemKey(cast("tuple[str, ...]", self.given)[position], self.epoch)

    def keyed(self, source: Source[ResponseSpec]) -> Source[ResponseSpec]:
        """``source``, whose items have their keys; to be read again where that is.

        Raises:
            InputError: When it is read: there is not one key for each, or one is no text.
        """
        if isinstance(source, Repeatable) and isinstance(self.given, tuple | None):
            return Repeatable(lambda: iter(cast("Any", self._keyed(source))))
        return self._keyed(source)

    def _keyed(self, source: Source[ResponseSpec]) -> Source[ResponseSpec]:
        counted = _occurrences()

        def put(entry: Entry[ResponseSpec], key: object, count: int) -> None:
            if isinstance(entry, Item):
                spec = entry.value
                is_given = self.given is not None
                text = ItemKey(_checked_key(count, key), self.epoch) if is_given else counted(spec)
                spec.key = text

        return _in_step(source, self.given, put)

    def checked(self, source: Source[V]) -> Source[V]:
        """``source``, whose items are their own keys: those that are given are looked at only.

        Raises:
            InputError: As `keyed`.
        """
        if self.given is None:
            return source

        def put(entry: Entry[V], key: object, count: int) -> None:
            _checked_key(count, key)

        return _in_step(source, self.given, put)


def _in_step(source: Source[V], keys: ItemKeys | None, put: _Put[V]) -> Source[V]:
    """``source``, each entry of which is ``put`` together with its key first."""
    if isinstance(source, AsyncIterable) or isinstance(keys, AsyncIterable):
        return _in_step_async(source, keys, put)
    return _in_step_sync(source, keys, put)


def _in_step_sync(
    source: Iterable[Entry[V]], keys: Iterable[object] | None, put: _Put[V]
) -> Generator[Entry[V]]:
    left = repeat(_END) if keys is None else iter(keys)
    for count, entry in enumerate(source):
        key = next(left, _END)
        if keys is not None and key is _END:
            raise _too_few(count)
        put(entry, key, count)
        yield entry
    if next(left, _END) is not _END:
        raise _too_many()


async def _in_step_async(
    source: Source[V], keys: ItemKeys | None, put: _Put[V]
) -> AsyncGenerator[Entry[V]]:
    count = 0
    async with aclosing(_each(source)) as entries, aclosing(_each(keys or ())) as left:
        async for entry in entries:
            key: object = await anext(left, _END)
            if keys is not None and key is _END:
                raise _too_few(count)
            put(entry, key, count)
            yield entry
            count += 1
        if await anext(left, _END) is not _END:
            raise _too_many()


def checked_keying(run: object, item_keys: object) -> Keying | None:
    """How a call's items get their keys; None without a run.

    Raises:
        InputError: ``run`` is no name, or ``item_keys`` no keys, or there are keys and no run.
    """
    found = checked_run(run)
    if item_keys is None:
        return None if found is None else Keying(found)
    if found is None:
        raise InputError(
            "item_keys= needs run=: a key names an item within a run, such as run='nightly-42'"
        )
    # The last have no order: keys would go to other items each time.
    is_many = isinstance(item_keys, Iterable | AsyncIterable)
    if not is_many or isinstance(item_keys, str | bytes | Mapping | Set):
        raise InputError(
            f"item_keys must be a list of texts, not {shown(cast('object', item_keys))}"
        )
    keys = cast("ItemKeys", item_keys)
    # A copy: the caller may change the list while the call runs.
    given = tuple(keys) if isinstance(keys, Sequence) else keys
    if isinstance(given, tuple):
        for position, key in enumerate(given):
            _checked_key(position, key)
    return Keying(found, given)


def checked_key(key: object, where: str) -> str:
    """A key, which errors call ``where``.

    Raises:
        InputError: It is no text, or too long.
    """
    if not isinstance(key, str) or not 0 < len(key) <= LONGEST_KEY:
        raise InputError(
            f"{where} must be a text of 1 to {LONGEST_KEY:,} characters, not {shown(key)}"
        )
    return key


def _checked_key(position: int, key: object) -> str:
    return checked_key(key, f"item_keys[{position}]")


def _occurrences() -> _Counted:
    """Keys of rows, whose occurrences are counted where the items do not say them."""
    seen = Counter[int]()

    def key_of(spec: ResponseSpec) -> ItemKey:
        if spec.epoch is not None:
            return _of_row(spec, spec.epoch)
        seen[spec.variables_id] += 1
        return _of_row(spec, seen[spec.variables_id])

    return key_of


def _of_row(spec: ResponseSpec, occurrence: int) -> ItemKey:
    return ItemKey((spec.variables_id, occurrence), occurrence)


async def _each(values: Iterable[T] | AsyncIterable[T]) -> AsyncGenerator[T]:
    if not isinstance(values, AsyncIterable):
        for value in uncancelled(values):
            yield value
        return
    async with closing(values):
        async for value in values:
            yield value


def _too_few(count: int) -> InputError:
    return InputError(f"item_keys ended after {count} keys, and the input goes on")


def _too_many() -> InputError:
    return InputError("item_keys goes on after the end of the input: it must have one key for each")


_END: Final = object()
