"""The rows of an evaluation: checked, kept for their records, and made into items."""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, cast

from elluminate_async.engine.chunks import Cut, Entry, Item, Passed, closing
from elluminate_async.errors import InputError, ItemError, NoTextError
from elluminate_async.errors.closest import did_you_mean
from elluminate_async.evaluation.row_keys import KeyCounter, RowKeys, UniqueKeys
from elluminate_async.operations.response_items import BODY_BYTES, ResponsePlan, ResponseSpec
from elluminate_async.operations.stored_items import Output, bad_input, output_messages, stored_item
from elluminate_async.resources.template_variables import check_rows, encode_row
from elluminate_async.tables.json_checks import is_missing, problem_in

if TYPE_CHECKING:
    from elluminate_async.evaluation.channel import Channel
    from elluminate_async.operations.run_keys import ItemKey
    from elluminate_async.schemas.template_variables import TemplateVariables


class Inputs:
    """The rows as they were passed in, by their index.

    Args:
        placeholders: Of the template: a row needs a value for each.
        answers: See `Answers`.
        uses: How often a row is asked for before it is forgotten; None keeps all.
        keys: Of the rows, in a run.

    Attributes:
        paired_by: See `EvaluationRecord.paired_by`; known from the first row on.
    """

    def __init__(
        self,
        placeholders: Iterable[str],
        answers: str | Sequence[Output] | None,
        uses: int | None,
        keys: RowKeys | None = None,
    ) -> None:
        self.keys = keys
        self._placeholders = frozenset(placeholders)
        self._answers = answers
        self._uses = uses
        self._left: dict[int, int] = {}
        self._rows: dict[int, Mapping[str, Any]] = {}
        self.paired_by = tuple(sorted(self._placeholders))

    def kept(self) -> list[Mapping[str, Any]]:
        """The rows that were read, in order."""
        return [self._rows[position] for position in sorted(self._rows)]

    def check(self, rows: Iterable[object]) -> None:
        """Raise `InputError` for rows that cannot be sent, with the first of their positions."""
        unique = None if self.keys is None else UniqueKeys(self.keys)

        def encode(position: int, row: object) -> None:
            encoded = self._encoded(position, row)
            if unique is not None:
                unique.check(position, cast("Mapping[str, Any]", row), encoded)

        check_rows(rows, encode)

    def note(self, position: int, row: Mapping[str, Any]) -> None:
        """Keep a copy of a row for its records: a generator may use one mapping for all."""
        self._rows[position] = dict(row)
        if not self.paired_by:
            self.paired_by = tuple(sorted(name for name in row if name != self._answers))
        if self._uses is not None:
            self._left[position] = self._uses

    def take(self, position: int) -> Mapping[str, Any]:
        """The row of a record; the last use of it where not all are kept."""
        if self._uses is None:
            return self._rows.get(position, {})
        self._left[position] -= 1
        if self._left[position]:
            return self._rows[position]
        del self._left[position]
        return self._rows.pop(position)

    def uploads(
        self, rows: Iterable[object] | AsyncIterable[object]
    ) -> Iterator[Entry[bytes]] | AsyncIterator[Entry[bytes]]:
        """The rows as they are uploaded."""
        if isinstance(rows, AsyncIterable):
            return self._uploads_async(rows)
        return (self._upload(position, row) for position, row in enumerate(rows))

    async def _uploads_async(self, rows: AsyncIterable[object]) -> AsyncGenerator[Entry[bytes]]:
        position = 0
        async with closing(rows):
            async for row in rows:
                yield self._upload(position, row)
                position += 1

    def _upload(self, position: int, row: object) -> Entry[bytes]:
        try:
            encoded = self._encoded(position, row)
        except NoTextError as error:
            self.note(position, cast("Mapping[str, Any]", row))
            return bad_input(position, str(error))
        self.note(position, cast("Mapping[str, Any]", row))
        return Item(position, encoded, size=len(encoded) + 1)

    def _encoded(self, position: int, row: object) -> bytes:
        encoded = encode_row(row, position, convert=True, name="rows")
        self.check_values(position, cast("Mapping[str, Any]", row))
        return encoded

    def check_values(self, position: int, values: Mapping[str, Any]) -> None:
        """Raise `InputError` when a row lacks a value that it is asked for."""
        if not self._placeholders <= values.keys():
            missing = sorted(self._placeholders - values.keys())
            names = ", ".join(f"{{{{{name}}}}}" for name in missing)
            has = ", ".join(sorted(values)) or "nothing"
            meant = did_you_mean(missing[0], values, "{{{{{}}}}}") or ";"
            raise InputError(f"rows[{position}] has no value for {names}{meant} it has {has}")
        for name in self._placeholders:
            if is_missing(values[name]):  # the prompt would say "None"
                raise InputError(
                    f"rows[{position}][{name!r:.60}] is missing ({values[name]!r:.20}), and the "
                    "prompt asks for it: fill it in, if only with an empty text, or drop the row"
                )
        if isinstance(self._answers, str) and self._answers not in values:
            raise InputError(f"rows[{position}] has no column {self._answers!r} for responses=")
        if self.keys is not None:
            self.keys.of(position, values)

    def row(self, position: int) -> Mapping[str, Any]:
        """A row that was noted."""
        return self._rows[position]

    def messages(self, position: int) -> list[dict[str, Any]]:
        """The answer to a row that was made elsewhere.

        Raises:
            InputError: There is none in its column.
        """
        assert self._answers is not None
        if isinstance(self._answers, str):
            return output_messages(self._rows[position][self._answers], position)
        return output_messages(self._answers[position], position)


class Specs:
    """The items of one configuration: a row's epochs, or the answer that it has.

    Args:
        plan: What they share.
        inputs: The rows.
        epochs: How often each row is answered.
        is_given: Whether the answers exist and are only stored.
    """

    def __init__(self, plan: ResponsePlan, inputs: Inputs, epochs: int, *, is_given: bool) -> None:
        self._plan = plan
        self._inputs = inputs
        self._epochs = epochs
        self._is_given = is_given
        self._keys = None if inputs.keys is None else KeyCounter(inputs.keys)

    async def source(
        self, rows: Channel[TemplateVariables]
    ) -> AsyncGenerator[Entry[ResponseSpec] | Cut]:
        """The items of the rows that come; what failed passes through."""
        async with aclosing(rows.read()) as pairs:
            async for pair in pairs:
                if isinstance(pair, Cut):
                    yield pair
                    continue
                for entry in self.entries(*pair):
                    yield entry

    def entries(
        self, row: int, outcome: TemplateVariables | ItemError
    ) -> Iterator[Entry[ResponseSpec]]:
        """The epochs of one row."""
        first = row * self._epochs
        if isinstance(outcome, ItemError):
            yield from (Passed(p, outcome.at(p)) for p in range(first, first + self._epochs))
            return
        keys: Sequence[ItemKey | None] = [None] * self._epochs
        if self._keys is not None:
            keys = self._keys.keys_of(row, self._inputs.row(row), outcome, self._epochs)
        for epoch, key in enumerate(keys):
            entry = self._entry(first + epoch, row, outcome, epoch + 1)
            if isinstance(entry, Item):
                entry.value.key = key
            yield entry

    def items(self, row: int, outcome: TemplateVariables) -> Iterator[Item[ResponseSpec]]:
        """Those of `entries` that are sent."""
        for entry in self.entries(row, outcome):
            if isinstance(entry, Item):
                yield entry

    def _entry(
        self, position: int, row: int, variables: TemplateVariables, epoch: int
    ) -> Entry[ResponseSpec]:
        if not self._is_given:
            spec = ResponseSpec(variables, (), None, epoch)
            return Item(position, spec, BODY_BYTES, (), self._plan.answer_bytes(variables))
        try:
            messages = self._inputs.messages(row)
        except InputError as error:
            return bad_input(position, str(error))
        if problem := problem_in(messages, f"responses[{row}]"):
            return bad_input(position, problem)
        return stored_item(self._plan, position, ResponseSpec(variables, messages, None, epoch))
