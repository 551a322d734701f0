"""`RowSurvey`: the rows of an evaluation looked at beforehand: columns, gaps, doubles."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, cast

from elluminate_async.errors import InputError, NoTextError
from elluminate_async.errors.closest import did_you_mean
from elluminate_async.resources.template_variables import encode_row
from elluminate_async.tables.json_checks import is_missing

_SHOWN = 5


class RowSurvey:
    """Facts of rows, noted one after the other.

    Args:
        placeholders: Of the prompt; None where they are not known.
        answers: The column of answers that exist, if they are in one.

    Attributes:
        rows: Their number so far.
        columns: Of all rows, in the order in which they come first.
        duplicates: Indexes of rows that have all that is asked for of an earlier one.
    """

    def __init__(self, placeholders: Sequence[str] | None, answers: str | None) -> None:
        self.rows = 0
        self.columns: dict[str, None] = {}
        self.duplicates: list[int] = []
        self._placeholders = placeholders
        self._answers = answers
        self._needed = [*(placeholders or ()), *([] if answers is None else [answers])]
        self._lacking: dict[str, list[int]] = {}
        self._empty: Counter[str] = Counter()
        self._refused: list[str] = []
        self._without_text = 0
        self._seen: set[str] = set()

    def note(self, row: object) -> tuple[Mapping[str, Any], int] | None:
        """The values of the next row and its bytes in an upload; None where it is not sent."""
        position, self.rows = self.rows, self.rows + 1
        try:
            encoded = encode_row(row, position, convert=True, name="rows")
        except NoTextError:
            self._without_text += 1
            return None
        except InputError as error:
            self._refused.append(str(error))
            return None
        values = cast("Mapping[str, Any]", row)
        self.columns.update(dict.fromkeys(values))
        for name in self._needed:
            if name not in values or (name != self._answers and is_missing(values[name])):
                self._lacking.setdefault(name, []).append(position)
            elif values[name] == "":
                self._empty[name] += 1
        self._note_duplicate(position, values)
        return values, len(encoded) + 1

    def _note_duplicate(self, position: int, values: Mapping[str, Any]) -> None:
        names = values if self._placeholders is None else self._needed
        asked = {name: values[name] for name in names if name in values}
        key = json.dumps(asked, sort_keys=True, default=str)
        if not asked:
            return
        if key in self._seen:
            self.duplicates.append(position)
        self._seen.add(key)

    def unused(self) -> tuple[str, ...]:
        """Columns that nothing asks for; none where it is not known what does."""
        if self._placeholders is None:
            return ()
        return tuple(name for name in self.columns if name not in self._needed)

    def problems(self) -> list[str]:
        """Why an evaluation of these rows is refused."""
        problems = self._refused[:_SHOWN]
        if (more := len(self._refused) - _SHOWN) > 0:
            problems.append(f"and {more} more rows like these")
        for name, lacking in self._lacking.items():
            if name not in self.columns:
                shape = "{!r}" if name == self._answers else "{{{{{}}}}}"
                meant = did_you_mean(name, tuple(self.columns), shape)
                has = ", ".join(self.columns) or "none"
                problems.append(f"no row has a column {name!r}{meant or ';'} the columns are {has}")
                continue
            first = ", ".join(map(str, lacking[:_SHOWN]))
            rest = f" and {len(lacking) - _SHOWN} more" if len(lacking) > _SHOWN else ""
            problems.append(f"rows without a value for {name!r}: {first}{rest} (from 0)")
        if not self.rows:
            problems.append("there are no rows")
        return problems

    def warnings(self) -> list[str]:
        """Oddities of the rows that are probably not meant."""
        warnings: list[str] = []
        if count := len(self.duplicates):
            warnings.append(f"{_rows(count)} the same as an earlier one in all that is asked for")
        warnings += [f"{_rows(count)} empty in {name!r}" for name, count in self._empty.items()]
        if self._without_text:
            count = self._without_text
            warnings.append(f"{_rows(count)} not to be sent, for a text with half a character")
        return warnings


def _rows(count: int) -> str:
    return "1 row is" if count == 1 else f"{count} rows are"
