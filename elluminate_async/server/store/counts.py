"""Counts that triggers keep, so that a page costs the same however much is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from elluminate_async.server.store.rows import fetch
from elluminate_async.server.store.wire_json import ids_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection

BLOCK_BITS: Final = 12
"""Ids of one block have all but so many of their last bits in common."""

# Finished responses by experiment and block of ids: a page is found by adding blocks up and
# walking within one. Deletions that follow from others fire triggers as well.
_BLOCK = f"id >> {BLOCK_BITS}"
# What filters look at, so that rows are read for the page that is shown only.
_FINISHED = """
CREATE INDEX responses_finished ON responses (experiment_id, id, epoch, llm_model_name,
 duration_seconds, input_tokens, output_tokens, is_ready) WHERE is_ready"""
_ONE_MORE = f"""
INSERT INTO response_blocks VALUES (NEW.experiment_id, NEW.{_BLOCK}, NEW.project_id, 1, 1)
ON CONFLICT (experiment_id, block) DO UPDATE SET ready = ready + 1, changes = changes + 1;"""
_TRIGGERS = (
    f"""
CREATE TRIGGER response_stored AFTER INSERT ON responses WHEN NEW.is_ready
BEGIN {_ONE_MORE} END""",
    f"""
CREATE TRIGGER response_finished AFTER UPDATE OF is_ready ON responses
WHEN NEW.is_ready AND NOT OLD.is_ready BEGIN {_ONE_MORE} END""",
    # Done again, where it had failed.
    f"""
CREATE TRIGGER response_replaced AFTER UPDATE OF is_ready ON responses
WHEN NEW.is_ready AND OLD.is_ready BEGIN UPDATE response_blocks SET changes = changes + 1
 WHERE experiment_id = NEW.experiment_id AND block = NEW.{_BLOCK}; END""",
    f"""
CREATE TRIGGER response_deleted AFTER DELETE ON responses WHEN OLD.is_ready
BEGIN UPDATE response_blocks SET ready = ready - 1, changes = changes + 1
 WHERE experiment_id = OLD.experiment_id AND block = OLD.{_BLOCK}; END""",
)
_DEFINITIONS = (
    """
CREATE TABLE response_blocks (
 experiment_id INTEGER REFERENCES experiments (id) ON DELETE CASCADE, block INTEGER,
 project_id INTEGER NOT NULL, ready INTEGER NOT NULL, changes INTEGER NOT NULL DEFAULT 0,
 PRIMARY KEY (experiment_id, block)) WITHOUT ROWID""",
    *_TRIGGERS,
    _FINISHED,
    "DROP INDEX IF EXISTS responses_by_experiment",
    """
CREATE TABLE collection_sizes (
 collection_id INTEGER PRIMARY KEY REFERENCES collections (id) ON DELETE CASCADE,
 entries INTEGER NOT NULL)""",
    """
CREATE TRIGGER entry_added AFTER INSERT ON entries
BEGIN INSERT INTO collection_sizes VALUES (NEW.collection_id, 1)
 ON CONFLICT (collection_id) DO UPDATE SET entries = entries + 1; END""",
    """
CREATE TRIGGER entry_deleted AFTER DELETE ON entries
BEGIN UPDATE collection_sizes SET entries = entries - 1
 WHERE collection_id = OLD.collection_id; END""",
)
_FIRST_COUNTS = (
    f"""
INSERT INTO response_blocks SELECT experiment_id, {_BLOCK}, project_id, count(*), 0 FROM responses
WHERE is_ready GROUP BY experiment_id, {_BLOCK}""",
    "INSERT INTO collection_sizes SELECT collection_id, count(*) FROM entries GROUP BY 1",
)

_OF_EXPERIMENT = """
SELECT block, ready FROM response_blocks WHERE experiment_id = ? AND project_id = ?
ORDER BY block"""
_OF_PROJECT = """
SELECT block, sum(ready) FROM response_blocks WHERE project_id = ? GROUP BY block ORDER BY block"""
_IDS_OF_EXPERIMENT = """
SELECT id FROM responses WHERE experiment_id = ? AND is_ready AND id >= ?
ORDER BY id LIMIT ? OFFSET ?"""
_IDS_OF_PROJECT = """
SELECT id FROM responses WHERE +project_id = ? AND is_ready AND id >= ?
ORDER BY id LIMIT ? OFFSET ?"""
_CHANGES_OF_EXPERIMENT = """
SELECT block, experiment_id, changes FROM response_blocks
WHERE experiment_id = ? AND project_id = ? ORDER BY block"""
_CHANGES_OF_PROJECT = """
SELECT block, experiment_id, changes FROM response_blocks
WHERE project_id = ? ORDER BY block, experiment_id"""
_SIZES = """
SELECT collection_id, entries FROM collection_sizes
WHERE collection_id IN (SELECT value FROM json_each(?))"""


def create(connection: Connection) -> None:
    """Make the tables, the triggers and what there is to count now."""
    for statement in (*_DEFINITIONS, *_FIRST_COUNTS):
        connection.exec_driver_sql(statement)


def to_5(connection: Connection) -> None:
    """From versions 2 to 4: blocks tell how often they have changed, the index has figures."""
    for statement in (
        "ALTER TABLE response_blocks ADD COLUMN changes INTEGER NOT NULL DEFAULT 0",
        *(f"DROP TRIGGER response_{name}" for name in ("stored", "finished", "deleted")),
        *_TRIGGERS,
        "DROP INDEX responses_finished",
        _FINISHED,
    ):
        connection.exec_driver_sql(statement)


def finished_ids(
    connection: Connection, project_id: int, experiment_id: int | None, start: int, size: int
) -> tuple[list[int], int]:
    """Ids of finished responses from place ``start`` on, ascending, and how many there are."""
    if experiment_id is None:
        blocks = fetch(connection, _OF_PROJECT, project_id)
        owner, statement = project_id, _IDS_OF_PROJECT
    else:
        blocks = fetch(connection, _OF_EXPERIMENT, experiment_id, project_id)
        owner, statement = experiment_id, _IDS_OF_EXPERIMENT
    total = sum(ready for _, ready in blocks)
    if start >= total:
        return [], total
    for block, ready in blocks:
        if start < ready:
            rows = fetch(connection, statement, owner, block << BLOCK_BITS, size, start)
            return [row.id for row in rows], total
        start -= ready
    raise AssertionError("the blocks add up to the total")


def stamps(
    connection: Connection, project_id: int, experiment_id: int | None
) -> dict[int, tuple[tuple[int, int], ...]]:
    """For each block of ids, its experiments and how often each has changed in it."""
    if experiment_id is None:
        rows = fetch(connection, _CHANGES_OF_PROJECT, project_id)
    else:
        rows = fetch(connection, _CHANGES_OF_EXPERIMENT, experiment_id, project_id)
    found: dict[int, list[tuple[int, int]]] = {}
    for block, owner, changes in rows:
        found.setdefault(block, []).append((owner, changes))
    return {block: tuple(changed) for block, changed in found.items()}


def entries_of(connection: Connection, collection_ids: Iterable[int]) -> dict[int, int]:
    """How many rows each collection has; those that never had one are left out."""
    counted = fetch(connection, _SIZES, ids_text(collection_ids))
    return {row.collection_id: row.entries for row in counted}
