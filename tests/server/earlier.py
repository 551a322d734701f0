"""Databases as earlier versions made them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

_TRIGGERS = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND name LIKE ?"
_TO_6 = """
DROP INDEX responses_by_key;
DROP INDEX ratings_of_run;
DROP TABLE rating_runs;
ALTER TABLE responses DROP COLUMN item_key;
ALTER TABLE ratings DROP COLUMN run_id;
ALTER TABLE jobs DROP COLUMN run_id;
DROP TABLE experiment_counts;
DROP TABLE experiment_verdicts;
DROP INDEX jobs_of_runs;
CREATE INDEX responses_dropped ON responses (experiment_id)
WHERE trajectory_ingest_error IS NOT NULL;
UPDATE meta SET value = '6' WHERE name = 'schema_version';
"""
_TO_5 = """
DROP TABLE job_criteria;
DROP TABLE usage_days;
DROP INDEX responses_durations;
UPDATE meta SET value = '5' WHERE name = 'schema_version';
"""
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
PRAGMA writable_schema=ON;
UPDATE sqlite_master SET sql =
 replace(sql, 'prompt_template_id INTEGER', 'prompt_template_id INTEGER NOT NULL')
 WHERE type = 'table' AND name = 'prompts';
PRAGMA writable_schema=RESET;
DROP INDEX responses_by_entry;
DROP INDEX responses_dropped;
DROP INDEX ratings_of_response;
CREATE INDEX ix_ratings_response_id ON ratings (response_id);
DROP INDEX responses_finished;
ALTER TABLE response_blocks DROP COLUMN changes;
ALTER TABLE experiments DROP COLUMN run_seconds;
ALTER TABLE prompts DROP COLUMN entry_digest;
ALTER TABLE prompts DROP COLUMN resolved;
ALTER TABLE responses DROP COLUMN template_variables_id;
ALTER TABLE responses DROP COLUMN input_cost_usd;
ALTER TABLE responses DROP COLUMN output_cost_usd;
ALTER TABLE responses DROP COLUMN custom_api_info;
ALTER TABLE responses DROP COLUMN trajectory;
ALTER TABLE responses DROP COLUMN trajectory_ingest_error;
ALTER TABLE responses DROP COLUMN termination_reason;
ALTER TABLE ratings DROP COLUMN llm_model_name;
ALTER TABLE ratings DROP COLUMN duration_seconds;
ALTER TABLE ratings DROP COLUMN input_tokens;
ALTER TABLE ratings DROP COLUMN output_tokens;
ALTER TABLE ratings DROP COLUMN reasoning_tokens;
ALTER TABLE ratings DROP COLUMN cached_tokens;
CREATE TRIGGER response_stored AFTER INSERT ON responses WHEN NEW.is_ready
BEGIN INSERT INTO response_blocks VALUES (NEW.experiment_id, NEW.id >> 12, NEW.project_id, 1)
ON CONFLICT (experiment_id, block) DO UPDATE SET ready = ready + 1; END;
CREATE TRIGGER response_finished AFTER UPDATE OF is_ready ON responses
WHEN NEW.is_ready AND NOT OLD.is_ready
BEGIN INSERT INTO response_blocks VALUES (NEW.experiment_id, NEW.id >> 12, NEW.project_id, 1)
ON CONFLICT (experiment_id, block) DO UPDATE SET ready = ready + 1; END;
CREATE TRIGGER response_deleted AFTER DELETE ON responses WHEN OLD.is_ready
BEGIN UPDATE response_blocks SET ready = ready - 1
 WHERE experiment_id = OLD.experiment_id AND block = OLD.id >> 12; END;
CREATE INDEX responses_finished ON responses (experiment_id) WHERE is_ready;
ALTER TABLE criteria DROP COLUMN retired_at;
ALTER TABLE experiments DROP COLUMN rating_version;
ALTER TABLE experiments DROP COLUMN response_column_id;
ALTER TABLE experiments DROP COLUMN evaluation_mode;
ALTER TABLE experiments DROP COLUMN agent_config;
ALTER TABLE experiments DROP COLUMN evaluation_agent_config;
ALTER TABLE experiments DROP COLUMN persona_group_id;
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


def to_version_6(raw: sqlite3.Connection) -> None:
    _drop_triggers(raw, "counted%")
    raw.executescript(_TO_6)


def to_version_5(raw: sqlite3.Connection) -> None:
    to_version_6(raw)
    _drop_triggers(raw, "usage%")
    raw.executescript(_TO_5)


def to_version_4(raw: sqlite3.Connection) -> None:
    to_version_5(raw)
    _drop_triggers(raw, "response%")
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
