"""A call with a journal: what an earlier run of it left, taken up where it was left.

What is done is read from the service, what was accepted is followed, of what may have been
sent the service's rows or its keys tell, and the rest is sent.

Six inputs in chunks of two, killed while the second was in flight. The journal has::

    header    of generate, on this server, 6 positions, with a hash of each input
    intent    chunk A: positions 0, 1, under the key k1       synced before it was sent
    job       chunk A became the job j1
    outcomes  0: response 31, its hash and tokens, 1: generation_failed
    intent    chunk B: positions 2, 3, under the key k2

The same call again: 0 is fetched and compared with its hash; 1 stays failed, as it was paid for
and `Batch.retry_failed` is there for it; of chunk B the key k2 is sent again where the service
honours keys, else its rows are looked for, and what has none is unknown; 4 and 5 are sent.
"""

from __future__ import annotations

import copy
import hashlib
from array import array
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from elluminate_async.engine.chunks import AnswerSizes, Chunk, ChunkBuilder, Entry, Item, Passed
from elluminate_async.engine.item_errors import FATAL, not_looked_for
from elluminate_async.engine.journal import Journal
from elluminate_async.engine.threads import run_to_end
from elluminate_async.errors import ElluminateError, ItemError, JournalError, OutcomeUnknownError

if TYPE_CHECKING:
    from elluminate_async.batch import BatchOptions
    from elluminate_async.engine.operation import Operation, Pins
    from elluminate_async.engine.outcomes import Pairs
    from elluminate_async.engine.records import UnfinishedChunk

V = TypeVar("V")
R = TypeVar("R")

_NOTED_AT_ONCE = 4_096


@dataclass(slots=True)
class Recovery(Generic[V, R]):
    """The use of a journal by one call.

    Attributes:
        operation: What the journal notes of the call comes from it.
        of_retry: The call sends some of the items of an earlier one once more.
        passes_over_outcomes: Send every item, whatever the journal holds of it.
        skipped: Items that the journal has as failed for good; None of a call that keeps none.
        unread: Why the service could not be asked whether the journal is of this call, so that
            it was not opened and nothing is sent.
        may_be_sent: Whether an earlier run may have sent what is not sent for that.
    """

    path: Path
    operation: Operation[V, R]
    of_retry: bool = False
    passes_over_outcomes: bool = False
    skipped: dict[int, Item[V]] | None = None
    unread: ElluminateError | None = None
    may_be_sent: bool = False
    _journal: Journal | None = None

    @property
    def journal(self) -> Journal:
        """The journal of the running call."""
        assert self._journal is not None, "not open"
        return self._journal

    async def open(self) -> None:
        """Open the journal and compare it with the call.

        Where the service does not tell what the call is of, it stays closed, and `unread` is
        why: that ends the items, as it does without a journal.

        Raises:
            JournalError: It cannot be used for this call.
        """
        try:
            header = await self.operation.header()
            pins = await self.operation.pins()
        except FATAL:
            raise
        except ElluminateError as error:
            self.unread = copy.copy(error)
            # It was only asked something: that says nothing of an item.
            self.unread.ambiguous = False
            # What is sent anew is known not to have been processed, whatever the journal says.
            self.may_be_sent = not self.passes_over_outcomes and await run_to_end(
                partial(_has_content, self.path)
            )
            return
        open_journal = partial(
            Journal.open, self.path, header, check_total=not self.passes_over_outcomes
        )
        self._journal = await run_to_end(open_journal, left=Journal.discard)
        self.pin(pins)

    def pin(self, pins: Pins) -> None:
        """Compare what the call works with, and note what is new.

        Raises:
            JournalError: Something is not what it was; the text names the difference.
        """
        known = self.journal.state.pins
        if changes := [
            f"{name}: {change}"
            for name, parts in pins.items()
            if name in known
            for change in _changes(known[name], parts)
        ]:
            raise JournalError(
                f"the journal {self.path} was begun with what has changed since ("
                f"{'; '.join(changes)}): its answers would not be of this call. Pass another path",
                path=self.path,
            )
        if new := {name: dict(parts) for name, parts in pins.items() if name not in known}:
            known.update(new)
            self.journal.pin(new)

    @contextmanager
    def reading(self) -> Generator[None]:
        """Around the use of what the journal holds: nonsense in it is a `JournalError`."""
        try:
            yield
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            text = f"the journal {self.path} is none of this version: {error!r:.200}"
            raise JournalError(text, path=self.path) from None

    async def close(self) -> None:
        """Close the journal, if it was opened."""
        if self._journal is not None:
            await self._journal.close()

    def check_inputs(self, entries: Iterable[Entry[V]]) -> None:
        """Compare all inputs, where they are known beforehand, and note them.

        Raises:
            JournalError: Some are not what the journal has; the text names them.
        """
        if self.unread is not None:
            return
        known = self.journal.state.fingerprints
        new = array("Q")
        changed: list[int] = []
        for entry in entries:
            for position, fingerprint in self._fingerprints(entry):
                if known.differs(position, fingerprint):
                    changed.append(position)
                elif position not in known:
                    known.note(position, fingerprint)
                    new.append(position)
        if changed:
            raise self._changed(sorted(changed))
        for first in range(0, len(new), _NOTED_AT_ONCE):
            part = new[first : first + _NOTED_AT_ONCE]
            self.journal.inputs({position: known[position] for position in part})

    @property
    def done(self) -> Mapping[int, Any]:
        """References to the results that an earlier run had, by position."""
        return {} if self.unread is not None else self.journal.state.done

    @property
    def open_chunks(self) -> Sequence[UnfinishedChunk]:
        """Chunks that an earlier run may have sent and whose outcomes are not all known."""
        return () if self.unread is not None else self.journal.state.open_chunks

    def builder(self, options: BatchOptions, sizes: AnswerSizes) -> ChunkBuilder[V]:
        """A builder that sorts entries by what is to be done about them."""
        if self.unread is not None:
            return ChunkBuilder(options, sizes)
        return ResumingBuilder(self, options, sizes)

    def before_sending(self, chunk: Chunk[V], items: Sequence[Item[V]]) -> None:
        """Note the inputs of a chunk of an iterable, whose inputs were not known before.

        Raises:
            ElluminateError: The journal is not open, and this is why.
        """
        if self.unread is not None:
            # A copy, as each chunk adds its own to it.
            raise (
                not_looked_for(self.unread, self.operation.name)
                if self.may_be_sent
                else copy.copy(self.unread)
            )
        if chunk.is_of_earlier_run:
            return
        known = self.journal.state.fingerprints
        new = {
            position: fingerprint
            for item in items
            for position, fingerprint in self._fingerprints(item)
            if position not in known
        }
        if new:
            self.journal.inputs(new)

    def release(self, positions: Sequence[int]) -> None:
        """Note that these were refused, and so not processed."""
        if self.unread is not None:
            return
        self.journal.outcomes(done={}, released=positions)

    def note(self, chunk: Chunk[V], pairs: Pairs[R], released: Sequence[int] = ()) -> None:
        """Note outcomes, and positions that were not processed.

        What was only read again is noted already. A chunk of an earlier run stays as it is
        where nothing was learned of it: what failed was not its first sending.
        """
        if chunk.done is not None or self.unread is not None:
            return
        values = {item.position: item.value for item in chunk.items}
        done: dict[int, Any] = {}
        failed: list[ItemError] = []
        unknown: list[int] = []
        spared = list(released)
        for position, outcome in pairs:
            if not isinstance(outcome, ItemError):
                done[position] = self.operation.reference(values[position], outcome)
            elif isinstance(outcome, OutcomeUnknownError):
                unknown.append(position)
            elif outcome.is_passing:
                spared.append(position)
            elif reference := self.operation.partial_reference(values[position], outcome):
                done[position] = reference
            else:
                failed.append(outcome)
        spared = [] if chunk.unfinished is not None else spared
        self.journal.outcomes(done=done, failed=failed, unknown=unknown, released=spared)

    def finished(self, positions: int) -> None:
        """Note that the call came to its end.

        Raises:
            JournalError: The journal has more inputs than came.
        """
        if self.of_retry or self.unread is not None:
            return
        state = self.journal.state
        if missing := state.known_from(positions):
            raise self._changed(missing)
        if state.total is not None and state.total != positions:
            raise JournalError(
                f"the journal {self.path} is of a call with {state.total} inputs, and this one "
                f"has {positions}",
                path=self.path,
            )
        if state.total is None:
            self.journal.finished(positions)

    def check(self, entry: Entry[V]) -> None:
        """Raise `JournalError` when an entry is not what the journal has at its position."""
        known = self.journal.state.fingerprints
        for position, fingerprint in self._fingerprints(entry):
            if known.differs(position, fingerprint):
                raise self._changed([position])

    def _fingerprints(self, entry: Entry[V]) -> Iterable[tuple[int, str]]:
        # A position that failed upstream has no input of its own, now or then.
        if isinstance(entry, Item):
            fingerprint = self.operation.fingerprint(entry.value)
            for position in (entry.position, *entry.aliases):
                yield position, fingerprint

    def _changed(self, positions: Sequence[int]) -> JournalError:
        some = ", ".join(map(str, positions[:5]))
        more = f" and {len(positions) - 5} more" if len(positions) > 5 else ""
        return JournalError(
            f"the journal {self.path} was begun with other inputs: they differ at position "
            f"{some}{more}. Pass the inputs it was begun with (objects or ids, as then), or "
            "another path",
            path=self.path,
        )


class ResumingBuilder(ChunkBuilder[V]):
    """Chunks of what is to be sent, to be read again, and to be taken up."""

    def __init__(
        self, recovery: Recovery[V, Any], options: BatchOptions, sizes: AnswerSizes
    ) -> None:
        super().__init__(options, sizes)
        self._recovery = recovery
        self._state = recovery.journal.state
        self._done: dict[int, Any] = {}
        self._done_items: list[Item[V]] = []
        self._sent: dict[str, list[Item[V]]] = {}

    def add(self, entry: Entry[V]) -> Chunk[V] | None:
        """The chunk that ``entry`` completes."""
        self._recovery.check(entry)
        if isinstance(entry, Passed) or self._recovery.passes_over_outcomes:
            return super().add(entry)
        position, state = entry.position, self._state
        if position in state.done:
            self._done[position] = state.done[position]
            self._done_items.append(entry)
            return self._take_done() if len(self._done_items) >= self._max_items else None
        if (error := state.failed.get(position)) is not None:
            if self._recovery.skipped is not None:
                self._recovery.skipped[position] = entry
            self._passed += [Passed(alias, error.at(alias)) for alias in entry.aliases]
            return super().add(Passed(position, error))
        if (sent := state.chunk_of.get(position)) is not None:
            self._sent.setdefault(sent.key, []).append(entry)
            return self._take_sent(sent) if len(self._sent[sent.key]) == len(sent.left) else None
        return super().add(entry)

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits that could go out part-filled."""
        return super().is_empty and not self._done_items

    @property
    def has_items(self) -> bool:
        """Whether the chunk that `take` would give has any."""
        return super().has_items or bool(self._done_items)

    def take(self) -> Chunk[V] | None:
        """A chunk that may go out part-filled: any but one of an earlier run."""
        if self._done_items and not super().has_items:
            return self._take_done()
        return super().take()

    def take_rest(self) -> Chunk[V] | None:
        """One chunk of what is left at the input's end."""
        if chunk := self.take():
            return chunk
        for sent in self._state.open_chunks:
            if sent.key in self._sent:
                return self._take_sent(sent)
        return None

    def _take_done(self) -> Chunk[V]:
        chunk = Chunk(tuple(self._done_items), (), done=self._done)
        self._done, self._done_items = {}, []
        return chunk

    def _take_sent(self, sent: UnfinishedChunk) -> Chunk[V]:
        items = {item.position: item for item in self._sent.pop(sent.key)}
        in_order = tuple(items[position] for position in sent.positions if position in items)
        return Chunk(in_order, (), unfinished=sent)


def _has_content(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False
    except OSError:
        # Nobody knows, and what may have been paid for counts as sent.
        return True


def fingerprint_of(*parts: object) -> str:
    """A short hash of an input: equal for equal ones, and of no use to learn them from."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=8).hexdigest()


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """The differences, in words; a content's hash tells nobody anything."""
    for part in dict.fromkeys([*before, *now]):
        was, is_now = before.get(part), now.get(part)
        if was == is_now:
            continue
        if part not in now:
            yield f"{part} was removed"
        elif part not in before:
            yield f"{part} was added"
        elif str(was).startswith("#") and str(is_now).startswith("#"):
            yield f"{part} was edited"
        else:
            yield f"{part} was {was!r} and is {is_now!r}"
