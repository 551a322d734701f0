"""The records as the page's script reads them: an index of lines, and parts with their details.

A line is one row under one configuration, its epochs together. The index has what the grid
shows, searches by row and sorts by, and is read when the page opens; the parts hold whole texts,
and each is read when one of its rows is opened or a text is searched for::

    index  rows      [[row, excerpt of its input], ...]
           lines     [[index in rows, configuration, response or error, has error,
                       seconds, tokens, cost, [passed, NO, not measured, ...]], ...]
    part   [[input, records], ...]   one for each of PART_ROWS rows, with
           input     [[column, text], ...]
           records   [[configuration, epoch, response, error, ratings, rating error, position,
                       response id, input tokens, output tokens, seconds, cost], ...]
           ratings   [[criterion, "YES" or other, reasoning], ...]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from statistics import fmean
from typing import Any, Final, TypeAlias

from elluminate_async.report.data import ReportData
from elluminate_async.report.texts import excerpt, mapping, number, shown, text_of

PART_ROWS: Final = 250
_EXCERPT: Final = 140
_COLUMNS: Final = 4  # of a row in its excerpt
_TEXT_LIMITS: Final = (20_000, 4_000, 1_000, 250)
_BUDGET: Final = 40_000_000
"""Characters that the texts of a page may have: more, and each is cut shorter."""

Record: TypeAlias = Mapping[str, Any]
Entry: TypeAlias = list[Any]


class Entries:
    """The lines and parts of a report.

    Args:
        data: Of the report.

    Attributes:
        text_limit: So many characters of each text are in the page.
        lines: As above.
        rows: As above.
    """

    def __init__(self, data: ReportData) -> None:
        self._configs = {config.name: i for i, config in enumerate(data.configurations)}
        self._criteria = {id: i for i, id in enumerate(data.criteria)}
        by_row: dict[int, list[Record]] = {}
        for record in data.records:
            by_row.setdefault(record["row"], []).append(record)
        self._by_row = sorted(by_row.items())
        self.text_limit = _text_limit(data.records)
        self.rows: list[Entry] = []
        self.lines: list[Entry] = []
        for at, (row, records) in enumerate(self._by_row):
            self.rows.append([row, _row_excerpt(records[0])])
            self.lines.extend(self._lines(at, records))

    def parts(self) -> Iterator[list[Entry]]:
        """The details, `PART_ROWS` rows a part."""
        left = iter(self._by_row)
        while some := list(islice(left, PART_ROWS)):
            yield [self._details(records) for _, records in some]

    def _lines(self, at: int, records: Sequence[Record]) -> Iterator[Entry]:
        of_configs: dict[int, list[Record]] = {}
        for record in records:
            of_configs.setdefault(self._configs[record["config"]], []).append(record)
        for config, epochs in sorted(of_configs.items()):
            said, is_error = _said(epochs)
            seconds = [number(record.get("duration_seconds")) for record in epochs]
            costs = [number(record.get("cost")) for record in epochs]
            tokens = [_tokens(record) for record in epochs]
            cells = self._cells(epochs)
            yield [at, config, said, is_error, _mean(seconds), _mean(tokens), _mean(costs), cells]

    def _cells(self, epochs: Sequence[Record]) -> list[int]:
        """For each criterion how often YES, NO and neither."""
        cells = [0, 0, len(epochs)] * len(self._criteria)
        for record in epochs:
            for criterion, rating, _ in self._ratings(record, None) or ():
                offset = {"YES": 0, "NO": 1}.get(rating)
                if offset is not None and cells[3 * criterion + 2]:
                    cells[3 * criterion + offset] += 1
                    cells[3 * criterion + 2] -= 1
        return cells

    def _details(self, records: Sequence[Record]) -> Entry:
        given = mapping(records[0].get("input")) or {}
        limit = self.text_limit
        columns = [[shown(name, 200), shown(text_of(cell), limit)] for name, cell in given.items()]
        return [columns, [self._record(record) for record in records]]

    def _record(self, record: Record) -> Entry:
        response = record.get("response")
        return [
            self._configs[record["config"]],
            record.get("epoch", 1),
            None if response is None else shown(response, self.text_limit),
            _error(record.get("error"), self.text_limit),
            self._ratings(record, self.text_limit),
            _error(record.get("rating_error"), self.text_limit),
            number(record.get("position")),
            number(record.get("response_id")),
            number(record.get("input_tokens")),
            number(record.get("output_tokens")),
            number(record.get("duration_seconds")),
            number(record.get("cost")),
        ]

    def _ratings(self, record: Record, limit: int | None) -> list[Entry] | None:
        ratings = record.get("ratings")
        if ratings is None:
            return None
        return [
            [
                self._criteria[rating["criterion_id"]],
                shown(rating.get("rating"), 20),
                "" if limit is None else shown(rating.get("reasoning") or "", limit),
            ]
            for rating in ratings
        ]


def _text_limit(records: Sequence[Record]) -> int:
    """The largest limit under which the texts of all records keep to the budget."""
    lengths = [length for record in records for length in _lengths(record)]
    for limit in _TEXT_LIMITS:
        if sum(min(length, limit) for length in lengths) <= _BUDGET:
            return limit
    return _TEXT_LIMITS[-1]


def _lengths(record: Record) -> Iterator[int]:
    texts = [record.get("response"), *(mapping(record.get("input")) or {}).values()]
    texts += [rating.get("reasoning") for rating in record.get("ratings") or ()]
    for text in texts:
        yield len(text) if isinstance(text, str) else 20


def _row_excerpt(record: Record) -> str:
    given = mapping(record.get("input")) or {}
    if len(given) == 1:
        return excerpt(text_of(next(iter(given.values()))), _EXCERPT)
    share = _EXCERPT // min(_COLUMNS, len(given) or 1)
    parts = [
        f"{excerpt(name, 20)}: {excerpt(text_of(cell), share)}"
        for name, cell in islice(given.items(), _COLUMNS)
    ]
    more = len(given) - _COLUMNS
    return " · ".join(parts) + (f" · {more} more columns" if more > 0 else "")


def _said(epochs: Sequence[Record]) -> tuple[str, int]:
    """The first response of a line, or why there is none."""
    for record in epochs:
        if record.get("response") is not None:
            error = mapping(record.get("rating_error"))
            if error is not None:
                how = "partly rated" if record.get("ratings") else "not rated"
                return f"{how}, {excerpt(error.get('code'), 40)}: {_of(record)}", 1
            return _of(record), 0
    error = mapping(epochs[0].get("error")) or mapping(epochs[0].get("rating_error")) or {}
    code = excerpt(error.get("code", "failed"), 40)
    return f"no response, {code}: {excerpt(error.get('text', ''), _EXCERPT)}", 1


def _of(record: Record) -> str:
    return excerpt(record["response"], _EXCERPT)


def _error(error: object, limit: int) -> Entry | None:
    """Its code, text, step and attempts."""
    said = mapping(error)
    if said is None:
        return None if error is None else ["failed", shown(error, limit), "", None]
    return [
        shown(said.get("code", "failed"), 100),
        shown(said.get("text", ""), limit),
        shown(said.get("operation", ""), 40),
        number(said.get("attempts")),
    ]


def _tokens(record: Record) -> float | None:
    said = (number(record.get("input_tokens")), number(record.get("output_tokens")))
    return None if said[0] is None or said[1] is None else said[0] + said[1]


def _mean(values: Sequence[float | None]) -> float | None:
    """Of an epoch; None where one is not known, as of a sum that lacks a part."""
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None
