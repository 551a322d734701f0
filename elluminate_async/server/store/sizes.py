"""How large the rows of a listing are at most, so that its pages are all of one length and fit.

Official clients take the length of the first page for that of all, so that a page cannot end
where it is full. What triggers keep is the largest row of each experiment and collection; rows
of ordinary size, of which a full page fits anyway, they pass by.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from elluminate_async.server.store.rows import fetch
from elluminate_async.server.store.text import ids_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection

    from elluminate_async.server.store.rows import PageRequest

PAGE_BYTES = 8 << 20
"""Of a page, at most, but for one row that has more: a quarter of what clients take."""

ORDINARY: Final = 8 << 10
"""Bytes of a row that is not noted."""

_FIXED: Final = 4 << 10  # what every row has: its keys, times, ids and configuration
_REASONING: Final = 2 << 10  # of a rating that is not noted


def _bytes(column: str) -> str:
    # Not `length`, which counts characters, and not `octet_length`, which is too new.
    return f"coalesce(length(CAST({column} AS BLOB)), 0)"


_OWN = " + ".join(map(_bytes, ("{row}.messages", "{row}.error", "{row}.llm_model_config")))
_PROMPT = f"""(
 SELECT {_bytes("p.messages")} + {_bytes("e.input_values")} + {_bytes("e.environment_config")}
 FROM prompts AS p JOIN entries AS e ON e.id = p.template_variables_id
 WHERE p.id = {{row}}.prompt_id)"""
_RESPONSE = f"{_OWN} + {_PROMPT}"
_NEW_RESPONSE = _RESPONSE.format(row="NEW")
_NEW_ENTRY = f"{_bytes('NEW.input_values')} + {_bytes('NEW.environment_config')}"


def _larger(table: str, column: str, owner: str, size: str) -> str:
    return (
        f"INSERT INTO {table} ({owner}, {column}) SELECT NEW.{owner}, {size} WHERE true "
        f"ON CONFLICT ({owner}) DO UPDATE SET {column} = max({column}, excluded.{column});"
    )


_DEFINITIONS = (
    """
CREATE TABLE IF NOT EXISTS response_sizes (
 experiment_id INTEGER PRIMARY KEY REFERENCES experiments (id) ON DELETE CASCADE,
 response INTEGER NOT NULL DEFAULT 0, reasoning INTEGER NOT NULL DEFAULT 0)""",
    """
CREATE TABLE IF NOT EXISTS entry_sizes (
 collection_id INTEGER PRIMARY KEY REFERENCES collections (id) ON DELETE CASCADE,
 entry INTEGER NOT NULL DEFAULT 0)""",
    f"""
CREATE TRIGGER IF NOT EXISTS response_stored_size AFTER INSERT ON responses
WHEN NEW.is_ready AND {_NEW_RESPONSE} > {ORDINARY}
BEGIN {_larger("response_sizes", "response", "experiment_id", _NEW_RESPONSE)} END""",
    f"""
CREATE TRIGGER IF NOT EXISTS response_finished_size AFTER UPDATE OF is_ready ON responses
WHEN NEW.is_ready AND {_NEW_RESPONSE} > {ORDINARY}
BEGIN {_larger("response_sizes", "response", "experiment_id", _NEW_RESPONSE)} END""",
    f"""
CREATE TRIGGER IF NOT EXISTS response_annotated_size AFTER UPDATE OF annotation ON responses
WHEN {_bytes("NEW.annotation")} > {_FIXED // 4}
BEGIN {
        _larger(
            "response_sizes",
            "response",
            "experiment_id",
            f"{_NEW_RESPONSE} + {_bytes('NEW.annotation')}",
        )
    } END""",
    f"""
CREATE TRIGGER IF NOT EXISTS rating_size AFTER INSERT ON ratings
WHEN {_bytes("NEW.reasoning")} > {_REASONING}
BEGIN INSERT INTO response_sizes (experiment_id, reasoning)
 SELECT experiment_id, {_bytes("NEW.reasoning")} FROM responses WHERE id = NEW.response_id
 ON CONFLICT (experiment_id) DO UPDATE SET reasoning = max(reasoning, excluded.reasoning); END""",
    f"""
CREATE TRIGGER IF NOT EXISTS entry_added_size AFTER INSERT ON entries
WHEN {_NEW_ENTRY} > {ORDINARY}
BEGIN {_larger("entry_sizes", "entry", "collection_id", _NEW_ENTRY)} END""",
    f"""
CREATE TRIGGER IF NOT EXISTS entry_edited_size AFTER UPDATE OF input_values ON entries
WHEN {_NEW_ENTRY} > {ORDINARY}
BEGIN {_larger("entry_sizes", "entry", "collection_id", _NEW_ENTRY)} END""",
)
_FIRST_SIZES = (
    f"""
INSERT OR REPLACE INTO response_sizes (experiment_id, response, reasoning)
SELECT r.experiment_id, max({_RESPONSE.format(row="r")} + {_bytes("r.annotation")}),
 coalesce((SELECT max({_bytes("g.reasoning")}) FROM ratings AS g JOIN responses AS o
 ON o.id = g.response_id WHERE o.experiment_id = r.experiment_id), 0)
FROM responses AS r GROUP BY r.experiment_id""",
    f"""
INSERT OR REPLACE INTO entry_sizes
SELECT collection_id, max({_bytes("input_values")}) FROM entries GROUP BY collection_id""",
)

_TEMPLATE = " + ".join(
    map(_bytes, ("t.messages", "t.tools", "t.tool_choice", "t.response_format_json_schema"))
)
_COLLECTION = " + ".join(map(_bytes, ("c.columns", "c.description", "c.environment_config")))
_CRITERION = f"{_bytes('k.criterion_str')} + {_bytes('k.label')} + {_FIXED // 8}"
_CRITERIA_OF = f"""
(SELECT coalesce(sum({_CRITERION}), 0) FROM criteria AS k WHERE k.criterion_set_id = {{id}})"""
_LINKED_TO = f"""
(SELECT coalesce(2 * sum({_TEMPLATE}), 0) FROM prompt_templates AS t
 WHERE t.criterion_set_id = {{id}})"""
_TEMPLATE_OF = f"""
coalesce((SELECT {_TEMPLATE} FROM prompt_templates AS t WHERE t.id = x.prompt_template_id), 0)"""
_COLLECTION_OF = f"""
coalesce((SELECT {_COLLECTION} FROM collections AS c WHERE c.id = x.collection_id), 0)"""
# The parts that are repeated in each row are looked at where they are, as they change.
_LARGEST_RESPONSE = f"""
SELECT max(coalesce(s.response, {ORDINARY})
 + (SELECT coalesce(sum({_CRITERION} + max(coalesce(s.reasoning, 0), {_REASONING})), 0)
  FROM criteria AS k WHERE k.criterion_set_id = x.criterion_set_id)
 + {_TEMPLATE_OF} + {_COLLECTION_OF})
FROM experiments AS x LEFT JOIN response_sizes AS s ON s.experiment_id = x.id
WHERE {{which}} AND +x.project_id = ?"""
_OF_EXPERIMENT = _LARGEST_RESPONSE.format(which="x.id = ?")
_OF_PROJECT = _LARGEST_RESPONSE.format(which="x.project_id = ?")
_OF_RESPONSES = _LARGEST_RESPONSE.format(
    which="x.id IN (SELECT DISTINCT r.experiment_id FROM json_each(?) AS wanted "
    "CROSS JOIN responses AS r ON r.id = wanted.value)"
)
_LARGEST_ENTRY = f"""
SELECT coalesce(s.entry, {ORDINARY}) + {_COLLECTION}
FROM collections AS c LEFT JOIN entry_sizes AS s ON s.collection_id = c.id WHERE c.id = ?"""
_LARGEST = {
    "collection": f"max({_COLLECTION}) FROM collections AS c WHERE c.project_id = ?",
    "criterion": f"max({_CRITERION}) FROM criteria AS k WHERE k.project_id = ?",
    "criterion set": f"max({_CRITERIA_OF.format(id='x.id')} + {_LINKED_TO.format(id='x.id')}) "
    "FROM criterion_sets AS x WHERE x.project_id = ?",
    "experiment": f"max({_COLLECTION_OF} + {_TEMPLATE_OF} + "
    f"{_CRITERIA_OF.format(id='x.criterion_set_id')} + "
    f"{_LINKED_TO.format(id='x.criterion_set_id')} + {_bytes('x.logs')} + "
    f"{_bytes('x.description')} + {_bytes('x.generation_params')} + 64 * coalesce((SELECT "
    "sum(b.ready) FROM response_blocks AS b WHERE b.experiment_id = x.id), 0)) "
    "FROM experiments AS x WHERE x.project_id = ?",
    "LLM config": f"max({_bytes('x.document')}) FROM llm_configs AS x WHERE x.project_id = ?",
    "prompt template": f"max({_TEMPLATE}) FROM prompt_templates AS t WHERE t.project_id = ?",
    "rating": f"max({_CRITERION} + coalesce((SELECT max(s.reasoning) FROM experiments AS x "
    "JOIN response_sizes AS s ON s.experiment_id = x.id WHERE x.criterion_set_id = "
    "k.criterion_set_id), 0)) FROM criteria AS k WHERE k.project_id = ?",
}


def create(connection: Connection) -> None:
    """Make the tables, the triggers and what there is to measure now."""
    for statement in (*_DEFINITIONS, *_FIRST_SIZES):
        connection.exec_driver_sql(statement)


def fitting(request: PageRequest, largest: int) -> PageRequest:
    """The page of rows of at most so many bytes: fewer rows, where so many would not fit."""
    fit = max(1, PAGE_BYTES // max(largest + _FIXED, 1))
    return request if fit >= request.size else replace(request, size=fit)


def largest_response(
    connection: Connection,
    project_id: int,
    experiment_id: int | None,
    response_ids: Sequence[int] | None,
) -> int:
    """Bytes that no response has more than: of an experiment, of some, or of the project."""
    if experiment_id is not None:
        return _one(connection, _OF_EXPERIMENT, experiment_id, project_id)
    if response_ids is not None:
        return _one(connection, _OF_RESPONSES, ids_text(response_ids), project_id)
    return _one(connection, _OF_PROJECT, project_id, project_id)


def largest_entry(connection: Connection, collection_id: int) -> int:
    """Bytes that no row of a collection has more than."""
    return _one(connection, _LARGEST_ENTRY, collection_id)


def largest(noun: str) -> Callable[[Connection, int], int]:
    """Tells for a project how many bytes no object of such a kind has more than."""
    statement = f"SELECT {_LARGEST[noun]}"

    def of_project(connection: Connection, project_id: int) -> int:
        return _one(connection, statement, project_id)

    return of_project


def _one(connection: Connection, statement: str, *parameters: object) -> int:
    rows = fetch(connection, statement, *parameters)
    return (rows[0][0] or 0) if rows else 0
