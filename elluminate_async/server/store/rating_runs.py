"""Runs of ratings: under the name of one, a response is rated once by each criterion.

A job of a run finds what was rated in it before, by whatever job, and asks the judge for the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from elluminate_async.server.store import item_keys, tables
from elluminate_async.server.store.rows import fetch, reserve_ids, run_many
from elluminate_async.server.store.wire_json import ids_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Connection

    from elluminate_async.schemas import RatingMode
    from elluminate_async.server.store.job_inputs import Work
    from elluminate_async.server.store.ratings import JudgeVerdict

_OF_NAME = "SELECT id, rating_mode FROM rating_runs WHERE project_id = ? AND name = ?"
_INSERT = "INSERT INTO rating_runs (id, project_id, name, rating_mode) VALUES (?, ?, ?, ?)"
_RATED = """
SELECT g.response_id, g.criterion_id, g.run_id FROM json_each(?) AS wanted
CROSS JOIN ratings AS g ON g.response_id = wanted.value WHERE g.run_id IS NOT NULL"""
_IN_ANOTHER_MODE = """
SELECT g.response_id FROM json_each(?) AS wanted
CROSS JOIN ratings AS g ON g.response_id = wanted.value
CROSS JOIN criteria AS c ON c.id = g.criterion_id
WHERE g.run_id IN (SELECT value FROM json_each(?)) AND c.retired_at IS NULL
UNION
SELECT wanted.value FROM json_each(?) AS wanted
CROSS JOIN job_items AS i ON i.response_id = wanted.value
CROSS JOIN jobs AS j ON j.id = i.job_id
WHERE NOT i.is_done AND j.finished_at IS NULL
 AND j.run_id IN (SELECT value FROM json_each(?))"""


def begin(
    connection: Connection,
    project_id: int,
    name: str,
    mode: RatingMode,
    response_ids: Sequence[int],
) -> int:
    """The id of a run in which responses are to be rated; one that is not there is made.

    Raises:
        Problem: 422 for responses that are rated in it in another mode.
    """
    modes = {row.rating_mode: row.id for row in fetch(connection, _OF_NAME, project_id, name)}
    if others := [id for other, id in modes.items() if other != mode]:
        _require_one_mode(connection, ids_text(others), mode, response_ids)
    if mode in modes:
        return modes[mode]
    (run_id,) = reserve_ids(connection, tables.rating_runs)
    run_many(connection, _INSERT, [(run_id, project_id, name, mode)])
    return run_id


def _require_one_mode(
    connection: Connection, others: str, mode: RatingMode, response_ids: Sequence[int]
) -> None:
    ids = ids_text(response_ids)
    found = {row[0] for row in fetch(connection, _IN_ANOTHER_MODE, ids, others, ids, others)}
    problems = {
        position: f"response {id} is rated in this run in another mode than {mode}"
        for position, id in enumerate(response_ids)
        if id in found
    }
    if problems:
        raise item_keys.conflict(problems, "ask for that mode, or begin another run")


@dataclass(frozen=True, slots=True)
class OpenRatings:
    """The part of a job of a run that is left to do.

    Attributes:
        todo: With the criteria that the run has no rating by.
        rated: Responses that lack none.
    """

    todo: list[Work]
    rated: list[int]


def open_work(connection: Connection, run_id: int, works: Iterable[Work]) -> OpenRatings:
    """The work that is left of a job of a run: nothing is asked twice."""
    works = list(works)
    rated = _rated(connection, (one.response_id for one in works))
    left = OpenRatings([], [])
    for one in works:
        id = one.response_id
        criteria = [k for k in one.criteria if (id, k.id, run_id) not in rated]
        if len(criteria) == len(one.criteria):
            left.todo.append(one)
        elif criteria:
            left.todo.append(replace(one, criteria=criteria))
        else:
            left.rated.append(id)
    return left


def without_known(
    connection: Connection, verdicts: Sequence[JudgeVerdict]
) -> Sequence[JudgeVerdict]:
    """Verdicts without those of runs that have them: what two jobs waited for is kept once."""
    of_runs = [one for one in verdicts if one.run_id is not None]
    if not of_runs:
        return verdicts
    seen = _rated(connection, {one.response_id for one in of_runs})
    kept: list[JudgeVerdict] = []
    for one in verdicts:
        place = (one.response_id, one.criterion_id, one.run_id)
        if one.run_id is None or place not in seen:
            kept.append(one)
            seen.add(place)
    return kept


def _rated(connection: Connection, response_ids: Iterable[int]) -> set[tuple[int, int, int | None]]:
    """Responses, criteria and runs of the ratings that runs have."""
    return {(r, c, run) for r, c, run in fetch(connection, _RATED, ids_text(response_ids))}
