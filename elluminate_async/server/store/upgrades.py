"""Bringing the tables of earlier versions up to date, one version at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from elluminate_async.server.store.inspection import APPLICATION_ID

if TYPE_CHECKING:
    from sqlalchemy import Connection

_TO_4 = (
    f"PRAGMA application_id={APPLICATION_ID}",
    "ALTER TABLE idempotency ADD COLUMN experiment_id INTEGER "
    "REFERENCES experiments (id) ON DELETE CASCADE",
    "CREATE INDEX ix_idempotency_experiment_id ON idempotency (experiment_id)",
    "CREATE INDEX ix_idempotency_created_at ON idempotency (created_at)",
    "CREATE INDEX ix_jobs_finished_at ON jobs (finished_at)",
)
_NEW_COLUMNS = {
    "experiments": {"run_seconds": "FLOAT"},
    "prompts": {"entry_digest": "VARCHAR"},
    "responses": {
        "template_variables_id": "INTEGER",
        "input_cost_usd": "FLOAT",
        "output_cost_usd": "FLOAT",
        "custom_api_info": "JSON",
        "trajectory": "JSON",
        "trajectory_ingest_error": "TEXT",
        "termination_reason": "VARCHAR",
    },
    "ratings": {
        "llm_model_name": "VARCHAR",
        "duration_seconds": "FLOAT",
        "input_tokens": "INTEGER",
        "output_tokens": "INTEGER",
        "reasoning_tokens": "INTEGER",
        "cached_tokens": "INTEGER",
    },
}


def _cost(kind: str) -> str:
    price = f"json_extract(llm_model_config, '$.{kind}_price_per_mtok')"
    is_known = (
        f"json_valid(llm_model_config) AND typeof({kind}_tokens) = 'integer' AND "
        f"typeof({price}) IN ('integer', 'real') AND {price} >= 0"
    )
    return f"{kind}_cost_usd = CASE WHEN {is_known} THEN {kind}_tokens * {price} / 1e6 END"


_TO_5 = (
    *(
        f"ALTER TABLE {table} ADD COLUMN {name} {kind}"
        for table, columns in _NEW_COLUMNS.items()
        for name, kind in columns.items()
    ),
    f"""
UPDATE responses SET {_cost("input")}, {_cost("output")},
 template_variables_id =
 (SELECT p.template_variables_id FROM prompts AS p WHERE p.id = responses.prompt_id)""",
    """
CREATE INDEX responses_by_entry ON responses (experiment_id, template_variables_id, epoch,
 is_ready) WHERE is_ready""",
    """
CREATE INDEX responses_dropped ON responses (experiment_id)
WHERE trajectory_ingest_error IS NOT NULL""",
    "DROP INDEX ix_ratings_response_id",
    """
CREATE INDEX ratings_of_response ON ratings (response_id, is_current, criterion_id, rating)""",
)


def to_4(connection: Connection) -> None:
    """From 3."""
    _run(connection, _TO_4)


def to_5(connection: Connection) -> None:
    """From 4, but for the counts."""
    _run(connection, _TO_5)


def _run(connection: Connection, statements: tuple[str, ...]) -> None:
    for statement in statements:
        connection.exec_driver_sql(statement)
