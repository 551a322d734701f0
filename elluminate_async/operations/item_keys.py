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
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar, cast

from elluminate_async.engine.chunks import Entry, Item, Source, closing, uncancelled
from elluminate_async.errors import InputError
from elluminate_async.errors.arguments import shown
from elluminate_async.operations.run_keys import ItemKey, Run, checked_run

if TYPE_CHECKING:
    from elluminate_async.operations.response_items import ResponseSpec

T = TypeVar("T")

ItemKeys: TypeAlias = Iterable[str] | AsyncIterable[str]
"""A key for each item, in step with the items."""

LONGEST_KEY: Final = 1_000
"""Characters of a caller's key; the service is told a hash of it."""

_Counted: TypeAlias = "Callable[[ResponseSpec], ItemKey]"


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

    def key_at(self, position: int, spec: ResponseSpec) -> ItemKey:
        """The key of an item whose call had all its inputs when it began."""
        if self.given is None:
            return _of_row(spec, spec.epoch or 1)
        return ItemKey(cast("tuple[str, ...]", self.given)[position], self.epoch)

    def keyed(self, source: Source[ResponseSpec]) -> Source[ResponseSpec]:
        """``source``, whose items have their keys.

        Raises:
            InputError: When it is read: there is not one key for each, or one is no text.
        """
        if isinstance(source, AsyncIterable) or isinstance(self.given, AsyncIterable):
            return self._keyed_async(source)
        return self._keyed(source)

    def _keyed(self, source: Iterable[Entry[ResponseSpec]]) -> Generator[Entry[ResponseSpec]]:
        if self.given is None:
            counted = _occurrences()
            for entry in source:
                yield _with_key(entry, counted)
            return
        keys = iter(cast("Iterable[object]", self.given))
        for count, entry in enumerate(source):
            yield self._given_to(entry, next(keys, _END), count)
        if next(keys, _END) is not _END:
            raise _too_many()

    async def _keyed_async(
        self, source: Source[ResponseSpec]
    ) -> AsyncGenerator[Entry[ResponseSpec]]:
        counted = _occurrences()
        async with aclosing(_each(source)) as entries:
            if self.given is None:
                async for entry in entries:
                    yield _with_key(entry, counted)
                return
            async with aclosing(_each(self.given)) as keys:
                count = 0
                async for entry in entries:
                    yield self._given_to(entry, await anext(keys, _END), count)
                    count += 1
                if await anext(keys, _END) is not _END:
                    raise _too_many()

    def _given_to(self, entry: Entry[ResponseSpec], key: object, count: int) -> Entry[ResponseSpec]:
        if key is _END:
            raise InputError(f"item_keys ended after {count} keys, and the input goes on")
        if isinstance(entry, Item):
            entry.value.key = ItemKey(_checked_key(count, key), self.epoch)
        return entry


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


def _with_key(entry: Entry[ResponseSpec], key_of: _Counted) -> Entry[ResponseSpec]:
    if isinstance(entry, Item):
        entry.value.key = key_of(entry.value)
    return entry


async def _each(values: Iterable[T] | AsyncIterable[T]) -> AsyncGenerator[T]:
    if not isinstance(values, AsyncIterable):
        for value in uncancelled(values):
            yield value
        return
    async with closing(values):
        async for value in values:
            yield value


def _too_many() -> InputError:
    return InputError("item_keys goes on after the end of the input: it must have one key for each")


_END: Final = object()
