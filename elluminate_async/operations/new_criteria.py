"""Criteria to add: made of what a caller passes, and found again in the service's answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, TypeAlias, cast

from elluminate_async.batch import Batch, Outcome
from elluminate_async.errors import InputError, ItemError
from elluminate_async.operations.json_input import made_of, several
from elluminate_async.schemas.criteria import Criterion, CriterionIn

NewCriteria: TypeAlias = Sequence[str | CriterionIn | Criterion | Mapping[str, Any]]
"""Texts; texts with labels, also as mappings; or criteria of another template."""


def criteria_of(criteria: NewCriteria) -> list[CriterionIn]:
    """Criteria as they are sent: text and label of each.

    Raises:
        InputError: It is no list of them, or an entry has no text.
    """
    given = several(criteria, "criteria", "texts", CriterionIn, Criterion)
    return [_criterion(entry, f"criteria[{index}]") for index, entry in enumerate(given)]


def _criterion(entry: object, where: str) -> CriterionIn:
    if isinstance(entry, str):
        made = CriterionIn(criterion_str=entry)
    elif isinstance(entry, CriterionIn):
        made = entry
    elif isinstance(entry, Criterion):
        made = CriterionIn(criterion_str=entry.criterion_str, label=entry.label)
    elif isinstance(entry, Mapping):
        fields = cast("Mapping[object, object]", entry)
        hint = "it has criterion_str and label"
        # Those of a `Criterion` are of no use here and do no harm.
        made = made_of(CriterionIn, fields, where, hint, known=Criterion.model_fields)
    else:
        raise InputError(f"{where} must be a text, CriterionIn or Criterion, not {entry!r:.60}")
    check_question(made.criterion_str, where)
    return made


def check_question(text: str, where: str) -> None:
    """Raise `InputError` when there is nothing that a judge could be asked."""
    if not text.strip():
        raise InputError(f"{where} is blank: a criterion is a question with an answer of yes or no")


def matched(texts: Sequence[str], found: Sequence[Criterion]) -> Batch[Criterion]:
    """Outcome i the criterion of text i, ``no_result`` where the service's answer has none.

    Texts and rows that differ in white space at most, or in capitals, are a group: a service
    may trim what it is sent. A row of another group is never taken, whatever its place.

    ::

        texts            answered                    outcomes
        "A?", "B?"       "B?" (1), "A?" (2)          2, 1
        "A?", "A?"       "A?" (1)                    1, 1
        "A? ", "A?"      "A?" (1), "A?" (2)          1, 2
        "A?", "B?"       "A?" (1), "A?" (2)          1, no_result
    """
    rows_of: dict[str, list[Criterion]] = {}
    for row in found:
        rows_of.setdefault(_squeezed(row.criterion_str).casefold(), []).append(row)
    positions_of: dict[str, list[int]] = {}
    for position, text in enumerate(texts):
        positions_of.setdefault(_squeezed(text).casefold(), []).append(position)
    outcomes: dict[int, Outcome[Criterion]] = {}
    for key, positions in positions_of.items():
        rows = _in_group([texts[position] for position in positions], rows_of.get(key, []))
        for position, row in zip(positions, rows, strict=True):
            outcomes[position] = row or ItemError(
                "the service's answer has no criterion of this text",
                position=position,
                code="no_result",
                operation="add",
            )
    return Batch[Criterion].from_outcomes(
        len(texts), outcomes, resend=_refuse_to_resend, of=Criterion
    )


def _in_group(texts: Sequence[str], rows: Sequence[Criterion]) -> list[Criterion | None]:
    """The row of each text, among those that may be."""
    exact: dict[str, list[Criterion]] = {}
    for row in rows:
        exact.setdefault(row.criterion_str, []).append(row)
    if Counter(texts) <= Counter(row.criterion_str for row in rows):
        return [exact[text].pop(0) for text in texts]
    if len(texts) == len(rows):
        # The service made the texts new, and answers in order.
        return list(rows)
    # Equal ones were made one, so that several positions have the same row.
    trimmed = {_squeezed(row.criterion_str): row for row in reversed(rows)}
    return [exact[text][0] if text in exact else trimmed.get(_squeezed(text)) for text in texts]


def _squeezed(text: str) -> str:
    return " ".join(text.split())


async def _refuse_to_resend(*_: object) -> NoReturn:
    raise InputError(
        "criteria are sent all together, so that none is sent again by itself: call "
        "criteria.add_many again with all of them; those that exist are not doubled"
    )
