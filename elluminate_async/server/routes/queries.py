"""Queries of official clients that are no plain values: read leniently, or refused with words."""

from __future__ import annotations

import re

from elluminate_async.schemas import RatingValue
from elluminate_async.server.problems import Problem

# A key and a verdict, as JSON has them, or as Python shows a dictionary of an enumeration.
_PAIR = re.compile(
    r"""\s*["']?(\d{1,18})["']?\s*:\s*(?:<RatingValue\.\w+:\s*)?(?:RatingValue\.)?["']?(YES|NO)["']?"""
    r"""\s*>?\s*(?:,|$)""",
    re.IGNORECASE,
)


def read_verdicts(query: str | None) -> tuple[tuple[int, RatingValue], ...]:
    """Verdicts by criterion, of a query such as ``{"3": "YES"}``.

    Also as Python writes it: ``{3: <RatingValue.YES: 'YES'>}``.

    Raises:
        Problem: 422 when it is neither.
    """
    if query is None:
        return ()
    inner = query.strip()
    is_object = inner.startswith("{") and inner.endswith("}")
    inner = inner[1:-1] if is_object else inner
    pairs: list[tuple[int, RatingValue]] = []
    place = 0
    while is_object and inner[place:].strip():
        found = _PAIR.match(inner, place)
        if found is None:
            is_object = False
            break
        pairs.append((int(found[1]), RatingValue(found[2].upper())))
        place = found.end()
    if not is_object:
        raise Problem(
            422, 'criteria_filter_by is a JSON object of criteria to verdicts, such as {"3": "YES"}'
        )
    return tuple(pairs)
