"""Databases as earlier versions made them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

_NO_TRIGGERS = "SELECT 'DROP TRIGGER ' || name FROM sqlite_master WHERE type = 'trigger'"
_TO_2 = """
PRAGMA application_id=0;
DROP INDEX ix_jobs_finished_at;
CREATE TABLE old (project_id INTEGER, route TEXT, key TEXT, body_sha256 TEXT NOT NULL,
 status INTEGER NOT NULL, answer TEXT NOT NULL, created_at DATETIME NOT NULL,
 PRIMARY KEY (project_id, route, key));
INSERT INTO old SELECT project_id, route, key, body_sha256, status, answer, created_at
 FROM idempotency;
DROP TABLE idempotency;
ALTER TABLE old RENAME TO idempotency;
UPDATE meta SET value = '2' WHERE name = 'schema_version';
"""
_TO_1 = """
DROP TABLE response_blocks;
DROP TABLE collection_sizes;
DROP INDEX responses_finished;
UPDATE meta SET value = '1' WHERE name = 'schema_version';
CREATE INDEX responses_by_experiment ON responses (experiment_id, id);
"""


def to_version_2(raw: sqlite3.Connection) -> None:
    raw.executescript(_TO_2)


def to_version_1(raw: sqlite3.Connection) -> None:
    to_version_2(raw)
    for (statement,) in raw.execute(_NO_TRIGGERS).fetchall():
        raw.execute(statement)
    raw.executescript(_TO_1)
