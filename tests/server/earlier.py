"""Databases as earlier versions made them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

_TRIGGERS = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND name LIKE ?"
_TO_4 = """
DROP INDEX ix_experiments_scenario_set_id;
PRAGMA writable_schema=ON;
UPDATE sqlite_master SET sql = replace(sql, ', ' || char(10) || char(9) ||
 'FOREIGN KEY(scenario_set_id) REFERENCES scenario_sets (id) ON DELETE CASCADE', '')
 WHERE type = 'table' AND name = 'experiments';
PRAGMA writable_schema=RESET;
ALTER TABLE experiments DROP COLUMN scenario_set_id;
DROP TABLE scenarios;
DROP TABLE scenario_fields;
DROP TABLE scenario_sets;
DROP TABLE agent_definitions;
DROP TABLE agent_results;
ALTER TABLE responses DROP COLUMN trajectory;
ALTER TABLE responses DROP COLUMN trajectory_ingest_error;
ALTER TABLE responses DROP COLUMN termination_reason;
PRAGMA writable_schema=ON;
UPDATE sqlite_master SET sql =
 replace(sql, 'prompt_template_id INTEGER', 'prompt_template_id INTEGER NOT NULL')
 WHERE type = 'table' AND name = 'prompts';
PRAGMA writable_schema=RESET;
ALTER TABLE criteria DROP COLUMN retired_at;
ALTER TABLE experiments DROP COLUMN rating_version;
ALTER TABLE experiments DROP COLUMN response_column_id;
ALTER TABLE experiments DROP COLUMN evaluation_mode;
ALTER TABLE experiments DROP COLUMN agent_config;
ALTER TABLE experiments DROP COLUMN evaluation_agent_config;
ALTER TABLE experiments DROP COLUMN persona_group_id;
ALTER TABLE responses DROP COLUMN custom_api_info;
UPDATE meta SET value = '4' WHERE name = 'schema_version';
"""
_TO_3 = """
PRAGMA application_id=0;
DROP INDEX ix_jobs_finished_at;
CREATE TABLE old (project_id INTEGER, route TEXT, key TEXT, body_sha256 TEXT NOT NULL,
 status INTEGER NOT NULL, answer TEXT NOT NULL, created_at DATETIME NOT NULL,
 PRIMARY KEY (project_id, route, key));
INSERT INTO old SELECT project_id, route, key, body_sha256, status, answer, created_at
 FROM idempotency;
DROP TABLE idempotency;
ALTER TABLE old RENAME TO idempotency;
UPDATE meta SET value = '3' WHERE name = 'schema_version';
"""
_TO_2 = """
DROP TABLE response_sizes;
DROP TABLE entry_sizes;
UPDATE meta SET value = '2' WHERE name = 'schema_version';
"""
_TO_1 = """
DROP TABLE response_blocks;
DROP TABLE collection_sizes;
DROP INDEX responses_finished;
UPDATE meta SET value = '1' WHERE name = 'schema_version';
CREATE INDEX responses_by_experiment ON responses (experiment_id, id);
"""


def to_version_4(raw: sqlite3.Connection) -> None:
    raw.executescript(_TO_4)


def to_version_3(raw: sqlite3.Connection) -> None:
    to_version_4(raw)
    raw.executescript(_TO_3)


def to_version_2(raw: sqlite3.Connection) -> None:
    to_version_3(raw)
    _drop_triggers(raw, "%size")
    raw.executescript(_TO_2)


def to_version_1(raw: sqlite3.Connection) -> None:
    to_version_2(raw)
    _drop_triggers(raw, "%")
    raw.executescript(_TO_1)


def _drop_triggers(raw: sqlite3.Connection, names: str) -> None:
    for (name,) in raw.execute(_TRIGGERS, (names,)).fetchall():
        raw.execute(f"DROP TRIGGER {name}")
