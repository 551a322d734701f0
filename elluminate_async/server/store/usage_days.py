"""Usage by day, which triggers keep: statistics cost the same however much is stored.

A day of a project and a configuration has one row: how many finished responses there are, and the
sums of their figures, in parts as `figures` has them. A response's score is its share of YES.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from elluminate_async.server.store.figures import MICRO, are_seconds, are_tokens, in_parts
from elluminate_async.server.store.rows import fetch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from elluminate_async.server.store.rows import AnyRow

PARTS: Final = 1_000_000_000
"""Of a score of 1."""

_DAY = "substr({0}created_at, 1, 10)"
# Those whose configuration was deleted have none.
_CONFIG = "coalesce({0}llm_config_id, 0)"
_YES = "total(rating = 'YES')"


def _score(yes: str, ratings: str) -> str:
    share = f"CAST(round(({yes}) * {PARTS}.0 / ({ratings})) AS INTEGER)"
    return f"CASE WHEN ({ratings}) > 0 THEN {share} ELSE 0 END"


def _figures(row: str) -> dict[str, str]:
    """The part of a response in each sum."""
    seconds, given, made = (
        f"{row}.{name}" for name in ("duration_seconds", "input_tokens", "output_tokens")
    )
    figures = {"responses": "1"}
    for name, is_known, value in (
        ("seconds", are_seconds(seconds), in_parts(seconds, MICRO)),
        ("given", are_tokens(given), given),
        ("made", are_tokens(made), made),
    ):
        figures[name] = f"CASE WHEN {is_known} THEN {value} ELSE 0 END"
        figures[f"known_{name}"] = is_known
    current = f"FROM ratings WHERE response_id = {row}.id AND is_current"
    figures["score"] = f"(SELECT {_score(_YES, 'count(*)')} {current})"
    figures["known_score"] = f"EXISTS (SELECT 1 {current})"
    return figures


_SUMS = tuple(_figures(""))


def _place(row: str) -> str:
    return f"{row}.project_id, {_DAY.format(f'{row}.')}, {_CONFIG.format(f'{row}.')}"


def _added(row: str) -> str:
    more = ", ".join(f"{name} = {name} + excluded.{name}" for name in _SUMS)
    return f"""
INSERT INTO usage_days SELECT {_place(row)}, {", ".join(_figures(row).values())}
WHERE {row}.is_ready ON CONFLICT (project_id, day, llm_config_id) DO UPDATE SET {more};"""


def _taken(row: str) -> str:
    less = ", ".join(f"{name} = {name} - ({part})" for name, part in _figures(row).items())
    return f"""
UPDATE usage_days SET {less}
WHERE {row}.is_ready AND (project_id, day, llm_config_id) = ({_place(row)});"""


def _rated(row: str, ratings: str, yes: str) -> str:
    """A response has so many more ratings, and so many more YES, than before."""
    now, before = _score("yes", "n"), _score(f"yes - ({yes})", f"n - ({ratings})")
    return f"""
UPDATE usage_days SET (score, known_score) =
 (SELECT usage_days.score + ({now}) - ({before}),
   usage_days.known_score + (n > 0) - (n - ({ratings}) > 0)
  FROM (SELECT count(*) AS n, {_YES} AS yes FROM ratings
   WHERE response_id = {row}.response_id AND is_current))
WHERE (project_id, day, llm_config_id) =
 (SELECT {_place("r")} FROM responses AS r WHERE r.id = {row}.response_id AND r.is_ready);"""


_NEW_YES, _OLD_YES = (f"({row}.is_current AND {row}.rating = 'YES')" for row in ("NEW", "OLD"))
_DEFINITIONS = (
    f"""
CREATE TABLE usage_days (
 project_id INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE, day TEXT NOT NULL,
 llm_config_id INTEGER NOT NULL, {", ".join(f"{name} INTEGER NOT NULL" for name in _SUMS)},
 PRIMARY KEY (project_id, day, llm_config_id)) WITHOUT ROWID""",
    # The least and the most of a day are the ends of its part of this.
    f"""
CREATE INDEX responses_durations ON responses
 (project_id, {_DAY.format("")}, {_CONFIG.format("")}, duration_seconds)
WHERE is_ready AND duration_seconds IS NOT NULL""",
    f"""
CREATE TRIGGER usage_stored AFTER INSERT ON responses WHEN NEW.is_ready
BEGIN {_added("NEW")} END""",
    f"""
CREATE TRIGGER usage_changed AFTER UPDATE OF is_ready, created_at, llm_config_id,
 duration_seconds, input_tokens, output_tokens ON responses WHEN OLD.is_ready OR NEW.is_ready
BEGIN {_taken("OLD")} {_added("NEW")} END""",
    # Before, as its ratings, of which its score is, go along with it.
    f"""
CREATE TRIGGER usage_deleted BEFORE DELETE ON responses WHEN OLD.is_ready
BEGIN {_taken("OLD")} END""",
    f"""
CREATE TRIGGER usage_rated AFTER INSERT ON ratings WHEN NEW.is_current
BEGIN {_rated("NEW", "1", _NEW_YES)} END""",
    f"""
CREATE TRIGGER usage_rated_anew AFTER UPDATE OF is_current, rating ON ratings
WHEN OLD.is_current OR NEW.is_current
BEGIN {_rated("NEW", "NEW.is_current - OLD.is_current", f"{_NEW_YES} - {_OLD_YES}")} END""",
    f"""
CREATE TRIGGER usage_unrated AFTER DELETE ON ratings WHEN OLD.is_current
BEGIN {_rated("OLD", "-1", f"-{_OLD_YES}")} END""",
)
COUNTED: Final = f"""
SELECT {_place("r")}, {", ".join(f"sum({part}) AS {name}" for name, part in _figures("r").items())}
FROM responses AS r WHERE r.is_ready GROUP BY 1, 2, 3"""
"""All rows as they must be, counted anew."""

_DAYS = """
SELECT * FROM usage_days WHERE project_id = ? AND day >= ? AND responses > 0"""
_END = f"""
SELECT {{0}}(duration_seconds) FROM responses WHERE project_id = ? AND {_DAY.format("")} = ?
AND {_CONFIG.format("")} = ? AND is_ready AND duration_seconds IS NOT NULL"""


def create(connection: Connection) -> None:
    """Make the table, its triggers and what there is to count now."""
    for statement in (*_DEFINITIONS, f"INSERT INTO usage_days {COUNTED}"):
        connection.exec_driver_sql(statement)


def to_7(connection: Connection) -> None:
    """From version 6: count anew, as what is absurd is no figure any more."""
    for name in ("stored", "changed", "deleted", "rated", "rated_anew", "unrated"):
        connection.exec_driver_sql(f"DROP TRIGGER usage_{name}")
    connection.exec_driver_sql("DROP TABLE usage_days")
    connection.exec_driver_sql("DROP INDEX responses_durations")
    create(connection)


def since(
    connection: Connection, project_id: int, day: str, llm_config_id: int | None
) -> Sequence[AnyRow]:
    """The sums of each day from ``day`` on, by configuration, of one of these or of all."""
    rows = fetch(connection, _DAYS, project_id, day)
    return [row for row in rows if llm_config_id in (None, row.llm_config_id)]


def durations(connection: Connection, day: AnyRow) -> tuple[float, float]:
    """The least and the most seconds of a day's row in which some are known."""
    place = (day.project_id, day.day, day.llm_config_id)
    least, most = (fetch(connection, _END.format(end), *place)[0][0] for end in ("min", "max"))
    return least, most
