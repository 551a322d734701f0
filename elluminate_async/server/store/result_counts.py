"""Results of experiments as running counts, which triggers keep: they cost the same at any size.

An epoch of an experiment has one row: how many responses there are, and the sums of their figures;
and each criterion and verdict of an experiment has one, with how many there are. Sums are whole
numbers: seconds in millionths, and costs in two numbers, millionths and millionths of these, which
prices of up to six decimals come to exactly, so that nothing drifts.

A response stays with its experiment, its epoch and its row, and a rating with its response.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Integer, func, literal_column, select

from elluminate_async.server.store import tables
from elluminate_async.server.store.figures import (
    MICRO,
    are_seconds,
    are_tokens,
    in_parts,
    is_cost,
)
from elluminate_async.server.store.rows import fetch
from elluminate_async.server.store.wire_json import ids_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import ColumnElement, Connection

    from elluminate_async.server.store.rows import AnyRow

_TOKENS = (
    ("given", "input_tokens"),
    ("made", "output_tokens"),
    ("reasoning", "reasoning_tokens"),
)


def _figures(row: str) -> dict[str, str]:
    """The part of a response in each count and sum that its own columns tell."""
    ready, good = f"{row}.is_ready", f"({row}.is_ready AND {row}.error IS NULL)"

    def part(is_known: str, value: str) -> str:
        return f"CASE WHEN {ready} AND {is_known} THEN {value} ELSE 0 END"

    seconds = f"{row}.duration_seconds"
    is_known = are_seconds(seconds)
    figures = {
        "waiting": f"NOT {ready}",
        "ready": ready,
        "failed": f"({ready} AND {row}.error IS NOT NULL)",
        "dropped": f"({row}.trajectory_ingest_error IS NOT NULL)",
        "seconds": part(is_known, in_parts(seconds, MICRO)),
        "known_seconds": f"({ready} AND {is_known})",
    }
    for name, column in _TOKENS:
        tokens = f"{row}.{column}"
        is_known = are_tokens(tokens)
        figures[name] = part(is_known, tokens)
        figures[f"known_{name}"] = f"({ready} AND {is_known})"
    for name in ("input", "output"):
        cost = f"{row}.{name}_cost_usd"
        is_known, pico = is_cost(cost), in_parts(cost, MICRO * MICRO)
        figures[f"{name}_micro"] = part(is_known, f"{pico} / {MICRO}")
        figures[f"{name}_pico"] = part(is_known, f"{pico} % {MICRO}")
        figures[f"known_{name}"] = f"({good} AND {is_known})"
    return figures


_PARTS = tuple(_figures(""))
COUNTS: Final = ("samples", "rated", *_PARTS)
"""All that is counted and added up of each epoch, but for how often it has changed."""

# The only one of its row in its epoch; those that have no row are of none.
_ONLY = """
({0}.is_ready AND {0}.template_variables_id IS NOT NULL AND NOT EXISTS
 (SELECT 1 FROM responses AS o WHERE o.experiment_id = {0}.experiment_id
  AND o.template_variables_id = {0}.template_variables_id AND o.epoch = {0}.epoch
  AND o.is_ready AND o.id <> {0}.id))"""
_CURRENT = "FROM ratings AS g WHERE g.response_id = {0}.id AND g.is_current"
# What failed is not scored, also where verdicts had come along with it.
_RATED = f"({{0}}.error IS NULL AND EXISTS (SELECT 1 {_CURRENT}))"
# For who keeps in memory something of its responses.
_CHANGED = "changes = changes + 1"
_OF = "WHERE experiment_id = {0}.experiment_id AND epoch = {0}.epoch"


def _more(parts: Iterable[str]) -> str:
    return ", ".join(f"{name} = {name} + excluded.{name}" for name in parts)


def _finished() -> str:
    parts = {"samples": _ONLY.format("NEW"), **_figures("NEW")}
    del parts["waiting"]
    parts["dropped"] += f" - {_figures('OLD')['dropped']}"
    sets = ", ".join(f"{name} = {name} + {part}" for name, part in parts.items())
    return (
        f"UPDATE experiment_counts SET {_CHANGED}, waiting = waiting - 1, {sets} "
        f"{_OF.format('NEW')};"
    )


def _changed() -> str:
    old, new = ({"samples": _ONLY.format(r), **_figures(r)} for r in ("OLD", "NEW"))
    sets = ", ".join(f"{name} = {name} + {new[name]} - {old[name]}" for name in new)
    return f"UPDATE experiment_counts SET {_CHANGED}, {sets} {_OF.format('NEW')};"


def _taken() -> str:
    only, rated = _ONLY.format("OLD"), _RATED.format("OLD")
    parts = {"samples": only, "rated": rated, **_figures("OLD")}
    sets = ", ".join(f"{name} = {name} - {part}" for name, part in parts.items())
    return f"UPDATE experiment_counts SET {_CHANGED}, {sets} {_OF.format('OLD')};"


# None is inserted but by what is there: an experiment that is deleted may have lost its rows first.
def _verdicts_of(row: str, step: str) -> str:
    return f"""
UPDATE experiment_verdicts SET ratings = ratings + ({step})
FROM (SELECT g.criterion_id AS asked, g.rating AS said {_CURRENT.format(row)})
WHERE experiment_id = {row}.experiment_id AND criterion_id = asked AND rating = said;"""


_FAILED_STEP = "CASE WHEN NEW.error IS NULL THEN 1 ELSE -1 END"
_OF_RATING = "FROM responses AS r WHERE r.id = {0}.response_id AND r.error IS NULL"
_IS_OTHER = """EXISTS (SELECT 1 FROM ratings AS g
 WHERE g.response_id = {0}.response_id AND g.is_current AND g.id <> {0}.id)"""
_SAID = f"""
INSERT INTO experiment_verdicts
SELECT r.experiment_id, NEW.criterion_id, NEW.rating, 1 {_OF_RATING.format("NEW")}
ON CONFLICT (experiment_id, criterion_id, rating) DO UPDATE SET ratings = ratings + 1;"""
_TAKEN_BACK = f"""
UPDATE experiment_verdicts SET ratings = ratings - 1
WHERE (experiment_id, criterion_id, rating) =
 (SELECT r.experiment_id, OLD.criterion_id, OLD.rating {_OF_RATING.format("OLD")});"""


def _rated(row: str, step: int) -> str:
    """One more response, or one fewer, is rated."""
    return f"""
UPDATE experiment_counts SET rated = rated + {step} WHERE (experiment_id, epoch) =
 (SELECT r.experiment_id, r.epoch {_OF_RATING.format(row)});"""


_TRIGGERS = (
    f"""
CREATE TRIGGER counted_waiting AFTER INSERT ON responses WHEN NOT NEW.is_ready
BEGIN INSERT INTO experiment_counts (experiment_id, epoch, waiting, dropped)
 VALUES (NEW.experiment_id, NEW.epoch, 1, {_figures("NEW")["dropped"]})
 ON CONFLICT (experiment_id, epoch) DO UPDATE SET {_more(("waiting", "dropped"))}; END""",
    f"""
CREATE TRIGGER counted_stored AFTER INSERT ON responses WHEN NEW.is_ready
BEGIN INSERT INTO experiment_counts
 (experiment_id, epoch, changes, samples, {", ".join(_PARTS)})
 VALUES (NEW.experiment_id, NEW.epoch, 1, {_ONLY.format("NEW")},
  {", ".join(_figures("NEW").values())})
 ON CONFLICT (experiment_id, epoch) DO UPDATE SET {_CHANGED}, {_more(("samples", *_PARTS))}; END""",
    f"""
CREATE TRIGGER counted_finished AFTER UPDATE OF is_ready ON responses
WHEN NEW.is_ready AND NOT OLD.is_ready BEGIN {_finished()} END""",
    f"""
CREATE TRIGGER counted_changed AFTER UPDATE OF is_ready, error, trajectory_ingest_error,
 duration_seconds, input_tokens, output_tokens, reasoning_tokens, input_cost_usd, output_cost_usd
ON responses WHEN OLD.is_ready
 OR NOT NEW.is_ready AND NEW.trajectory_ingest_error IS NOT OLD.trajectory_ingest_error
BEGIN {_changed()} END""",
    # Its ratings, if it had any, are scored no more, or again.
    f"""
CREATE TRIGGER counted_failed AFTER UPDATE OF error ON responses
WHEN (OLD.error IS NULL) <> (NEW.error IS NULL)
BEGIN UPDATE experiment_counts SET rated = rated + ({_FAILED_STEP})
 {_OF.format("NEW")} AND EXISTS (SELECT 1 {_CURRENT.format("NEW")});
 {_verdicts_of("NEW", _FAILED_STEP)} END""",
    # Before, as its ratings, which are counted with it, go along with it.
    f"""
CREATE TRIGGER counted_deleted BEFORE DELETE ON responses
BEGIN {_taken()} END""",
    f"""
CREATE TRIGGER counted_unscored BEFORE DELETE ON responses WHEN OLD.error IS NULL
BEGIN {_verdicts_of("OLD", "-1")} END""",
    f"""
CREATE TRIGGER counted_said AFTER INSERT ON ratings WHEN NEW.is_current
BEGIN {_SAID} END""",
    f"""
CREATE TRIGGER counted_superseded AFTER UPDATE OF is_current ON ratings
WHEN OLD.is_current AND NOT NEW.is_current BEGIN {_TAKEN_BACK} END""",
    f"""
CREATE TRIGGER counted_restored AFTER UPDATE OF is_current ON ratings
WHEN NEW.is_current AND NOT OLD.is_current BEGIN {_SAID} END""",
    f"""
CREATE TRIGGER counted_amended AFTER UPDATE OF rating ON ratings
WHEN OLD.is_current AND NEW.is_current BEGIN {_TAKEN_BACK} {_SAID} END""",
    f"""
CREATE TRIGGER counted_taken_back AFTER DELETE ON ratings WHEN OLD.is_current
BEGIN {_TAKEN_BACK} END""",
    # Apart, as most ratings stand beside others.
    f"""
CREATE TRIGGER counted_rated AFTER INSERT ON ratings
WHEN NEW.is_current AND NOT {_IS_OTHER.format("NEW")} BEGIN {_rated("NEW", 1)} END""",
    f"""
CREATE TRIGGER counted_rated_anew AFTER UPDATE OF is_current ON ratings
WHEN NEW.is_current AND NOT OLD.is_current AND NOT {_IS_OTHER.format("NEW")}
BEGIN {_rated("NEW", 1)} END""",
    f"""
CREATE TRIGGER counted_left_unrated AFTER UPDATE OF is_current ON ratings
WHEN OLD.is_current AND NOT NEW.is_current AND NOT {_IS_OTHER.format("OLD")}
BEGIN {_rated("OLD", -1)} END""",
    f"""
CREATE TRIGGER counted_unrated AFTER DELETE ON ratings
WHEN OLD.is_current AND NOT {_IS_OTHER.format("OLD")} BEGIN {_rated("OLD", -1)} END""",
)
_DEFINITIONS = (
    f"""
CREATE TABLE experiment_counts (
 experiment_id INTEGER NOT NULL REFERENCES experiments (id) ON DELETE CASCADE,
 epoch INTEGER NOT NULL, {", ".join(f"{name} INTEGER NOT NULL DEFAULT 0" for name in COUNTS)},
 changes INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (experiment_id, epoch)) WITHOUT ROWID""",
    """
CREATE TABLE experiment_verdicts (
 experiment_id INTEGER NOT NULL REFERENCES experiments (id) ON DELETE CASCADE,
 criterion_id INTEGER NOT NULL, rating TEXT NOT NULL, ratings INTEGER NOT NULL,
 PRIMARY KEY (experiment_id, criterion_id, rating)) WITHOUT ROWID""",
    *_TRIGGERS,
    "DROP INDEX IF EXISTS responses_dropped",
)
_COUNTED: Final = {
    "samples": "count(DISTINCT CASE WHEN responses.is_ready "
    "THEN responses.template_variables_id END)",
    "rated": f"sum({_RATED.format('responses')})",
    **{name: f"sum({part})" for name, part in _figures("responses").items()},
}
COUNTED: Final = f"""
SELECT experiment_id, epoch, {", ".join(f"{part} AS {name}" for name, part in _COUNTED.items())}
FROM responses GROUP BY experiment_id, epoch"""
"""All rows of epochs as they must be, counted anew."""

VERDICTS: Final = """
SELECT r.experiment_id, g.criterion_id, g.rating, count(*) AS ratings
FROM ratings AS g JOIN responses AS r ON r.id = g.response_id
WHERE g.is_current AND r.error IS NULL GROUP BY 1, 2, 3"""
"""The same of verdicts."""

_EPOCHS = """
SELECT * FROM experiment_counts WHERE experiment_id IN (SELECT value FROM json_each(?))"""
_DROPPED = """
SELECT experiment_id, sum(dropped) AS dropped FROM experiment_counts
WHERE experiment_id IN (SELECT value FROM json_each(?)) GROUP BY experiment_id"""
_SCORES = """
SELECT * FROM experiment_verdicts
WHERE experiment_id IN (SELECT value FROM json_each(?)) AND ratings > 0"""


def create(connection: Connection) -> None:
    """Make the tables, the triggers and what there is to count now."""
    for statement in (
        *_DEFINITIONS,
        f"INSERT INTO experiment_counts (experiment_id, epoch, {', '.join(COUNTS)}) {COUNTED}",
        f"INSERT INTO experiment_verdicts {VERDICTS}",
    ):
        connection.exec_driver_sql(statement)


def dropped(connection: Connection, experiment_ids: Iterable[int]) -> dict[int, int]:
    """How many trajectories of these experiments were not taken."""
    rows = fetch(connection, _DROPPED, ids_text(experiment_ids))
    return {row.experiment_id: row.dropped for row in rows}


def epochs(connection: Connection, experiment_ids: Iterable[int]) -> Sequence[AnyRow]:
    """The counts of each epoch of these experiments, as they are kept."""
    return fetch(connection, _EPOCHS, ids_text(experiment_ids))


def verdicts(connection: Connection, experiment_ids: Iterable[int]) -> Sequence[AnyRow]:
    """How many verdicts of each kind there are by each criterion."""
    return fetch(connection, _SCORES, ids_text(experiment_ids))


def epochs_of(
    connection: Connection, conditions: Sequence[ColumnElement[bool]]
) -> Sequence[AnyRow]:
    """The same as `epochs`, counted anew of some responses."""
    responses = tables.responses
    owner: list[ColumnElement[Any]] = [responses.c.experiment_id, responses.c.epoch]
    parts = [literal_column(part, Integer).label(name) for name, part in _COUNTED.items()]
    return connection.execute(select(*owner, *parts).where(*conditions).group_by(*owner)).all()


def verdicts_of(
    connection: Connection, conditions: Sequence[ColumnElement[bool]]
) -> Sequence[AnyRow]:
    """The same as `verdicts`, counted anew of some responses."""
    responses, ratings = tables.responses, tables.ratings
    kind: list[ColumnElement[Any]] = [
        responses.c.experiment_id,
        ratings.c.criterion_id,
        ratings.c.rating,
    ]
    counted = (
        select(*kind, func.count().label("ratings"))
        .select_from(ratings.join(responses, responses.c.id == ratings.c.response_id))
        .where(*conditions, responses.c.error.is_(None), ratings.c.is_current)
        .group_by(*kind)
    )
    return connection.execute(counted).all()
