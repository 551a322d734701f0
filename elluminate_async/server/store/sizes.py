"""How large the rows of a listing are at most, so that its pages are all of one length and fit.

Official clients take the length of the first page for that of all, so that a page cannot end
where it is full. What is kept is the largest part of a row of each experiment and collection, by
whoever writes it; parts of ordinary size, of which a full page fits anyway, are passed by.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from elluminate_async.server.store.figures import MOST_LISTED
from elluminate_async.server.store.rows import fetch, run_many
from elluminate_async.server.store.wire_json import ids_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sqlalchemy import Connection

    from elluminate_async.server.store.rows import PageRequest

PAGE_BYTES = 8 << 20
"""Of a page, at most, but for one row that has more: a quarter of what clients take."""

ORDINARY: Final = 4 << 10
"""Bytes of a part of a row that are not noted."""

_FIXED: Final = 4 << 10  # what every row has: its keys, times, ids and configuration
_REASONING: Final = ORDINARY
_JUDGING: Final = 1 << 10  # how a rating came about, its judge's configuration included


def _bytes(column: str) -> str:
    # Not `length`, which counts characters, and not `octet_length`, which is too new.
    return f"coalesce(length(CAST({column} AS BLOB)), 0)"


def _noted(table: str, owner: str, column: str, source: str) -> str:
    return (
        f"INSERT INTO {table} ({owner}, {column}) {source} "
        f"ON CONFLICT ({owner}) DO UPDATE SET {column} = max({column}, excluded.{column})"
    )


# Both are given as (size, owner); numbered parameters are no more from Python 3.14 on.
_PAIR = "SELECT column2, column1 FROM (VALUES (?, ?)) WHERE true"
_NOTE = {
    "prompt": _noted("response_sizes", "experiment_id", "prompt", _PAIR),
    "entry": _noted("entry_sizes", "collection_id", "entry", _PAIR),
    "answer": _noted("response_sizes", "experiment_id", "answer",
                     "SELECT experiment_id, ? FROM responses WHERE id = ?"),
    "reasoning": _noted("response_sizes", "experiment_id", "reasoning",
                        "SELECT experiment_id, ? FROM responses WHERE id = ?"),
}  # fmt: skip
_DEFINITIONS = (
    """
CREATE TABLE IF NOT EXISTS response_sizes (
 experiment_id INTEGER PRIMARY KEY REFERENCES experiments (id) ON DELETE CASCADE,
 prompt INTEGER NOT NULL DEFAULT 0, answer INTEGER NOT NULL DEFAULT 0,
 reasoning INTEGER NOT NULL DEFAULT 0)""",
    """
CREATE TABLE IF NOT EXISTS entry_sizes (
 collection_id INTEGER PRIMARY KEY REFERENCES collections (id) ON DELETE CASCADE,
 entry INTEGER NOT NULL DEFAULT 0)""",
)
_ANSWER_PARTS = ("messages", "error", "llm_model_config", "custom_api_info", "annotation")
_ANSWER = " + ".join(_bytes(f"r.{part}") for part in _ANSWER_PARTS)
_PROMPT = " + ".join(map(_bytes, ("p.messages", "e.input_values", "e.environment_config")))
_FIRST_SIZES = (
    f"""
INSERT OR REPLACE INTO response_sizes (experiment_id, prompt, answer, reasoning)
SELECT r.experiment_id, max({_PROMPT}), max({_ANSWER}),
 coalesce((SELECT max({_bytes("g.reasoning")}) FROM ratings AS g JOIN responses AS o
 ON o.id = g.response_id WHERE o.experiment_id = r.experiment_id), 0)
FROM responses AS r JOIN prompts AS p ON p.id = r.prompt_id
JOIN entries AS e ON e.id = p.template_variables_id GROUP BY r.experiment_id""",
    f"""
INSERT OR REPLACE INTO entry_sizes
SELECT collection_id, max({_bytes("input_values")} + {_bytes("environment_config")})
FROM entries GROUP BY collection_id""",
)

_RESOLVED = " + ".join(map(_bytes, ("t.tools", "t.tool_choice", "t.response_format_json_schema")))
_TEMPLATE = f"{_bytes('t.messages')} + {_RESOLVED}"
_COLLECTION = " + ".join(map(_bytes, ("c.columns", "c.description", "c.environment_config")))
_CRITERION = f"{_bytes('k.criterion_str')} + {_bytes('k.label')} + {_FIXED // 8}"
_CRITERIA_OF = f"""
(SELECT coalesce(sum({_CRITERION}), 0) FROM criteria AS k WHERE k.criterion_set_id = {{id}})"""
_LINKED_TO = f"""
(SELECT coalesce(2 * sum({_TEMPLATE}), 0) FROM prompt_templates AS t
 WHERE t.criterion_set_id = {{id}})"""
_TEMPLATE_OF = f"""
coalesce((SELECT {_TEMPLATE} FROM prompt_templates AS t WHERE t.id = x.prompt_template_id), 0)"""
# A prompt tells what its template gives besides messages once more.
_RESOLVED_OF = f"""
coalesce((SELECT {_RESOLVED} FROM prompt_templates AS t WHERE t.id = x.prompt_template_id), 0)"""
_COLLECTION_OF = f"""
coalesce((SELECT {_COLLECTION} FROM collections AS c WHERE c.id = x.collection_id), 0)"""
# The parts that are repeated in each row are looked at where they are, as they change.
_LARGEST_RESPONSE = f"""
SELECT max(max(coalesce(s.prompt, 0), {ORDINARY}) + max(coalesce(s.answer, 0), {ORDINARY})
 + (SELECT coalesce(sum({_CRITERION} + {_JUDGING}
   + max(coalesce(s.reasoning, 0), {_REASONING})), 0)
  FROM criteria AS k WHERE k.criterion_set_id = x.criterion_set_id)
 + {_TEMPLATE_OF} + {_RESOLVED_OF} + {_COLLECTION_OF})
FROM experiments AS x LEFT JOIN response_sizes AS s ON s.experiment_id = x.id
WHERE {{which}} AND +x.project_id = ?"""
_OF_EXPERIMENT = _LARGEST_RESPONSE.format(which="x.id = ?")
_OF_PROJECT = _LARGEST_RESPONSE.format(which="x.project_id = ?")
_OF_RESPONSES = _LARGEST_RESPONSE.format(
    which="x.id IN (SELECT DISTINCT r.experiment_id FROM json_each(?) AS wanted "
    "CROSS JOIN responses AS r ON r.id = wanted.value)"
)
_LARGEST_ENTRY = f"""
SELECT max(coalesce(s.entry, 0), {ORDINARY}) + {_COLLECTION}
FROM collections AS c LEFT JOIN entry_sizes AS s ON s.collection_id = c.id WHERE c.id = ?"""
_LARGEST = {
    "collection": f"max({_COLLECTION}) FROM collections AS c WHERE c.project_id = ?",
    "criterion": f"max({_CRITERION}) FROM criteria AS k WHERE k.project_id = ?",
    "criterion set": f"max({_CRITERIA_OF.format(id='x.id')} + {_LINKED_TO.format(id='x.id')}) "
    "FROM criterion_sets AS x WHERE x.project_id = ?",
    "experiment": f"max({_COLLECTION_OF} + {_TEMPLATE_OF} + "
    f"{_CRITERIA_OF.format(id='x.criterion_set_id')} + "
    f"{_LINKED_TO.format(id='x.criterion_set_id')} + {_bytes('x.logs')} + "
    f"{_bytes('x.description')} + {_bytes('x.generation_params')} + {_bytes('x.agent_config')} + "
    f"{_bytes('x.evaluation_agent_config')} + 64 * min({MOST_LISTED}, coalesce("
    "(SELECT sum(e.ready) FROM experiment_counts AS e WHERE e.experiment_id = x.id), 0))) "
    "FROM experiments AS x WHERE x.project_id = ?",
    "LLM config": f"max({_bytes('x.document')}) FROM llm_configs AS x WHERE x.project_id = ?",
    "scenario set": f"max({_bytes('x.description')} + coalesce((SELECT sum({_bytes('f.name')} + "
    f"{_bytes('f.default_value')} + {_FIXED // 32}) FROM scenario_fields AS f "
    "WHERE f.scenario_set_id = x.id), 0)) FROM scenario_sets AS x WHERE x.project_id = ?",
    "prompt template": f"max({_TEMPLATE}) FROM prompt_templates AS t WHERE t.project_id = ?",
    "rating": f"max({_CRITERION} + coalesce((SELECT max(s.reasoning) FROM experiments AS x "
    "JOIN response_sizes AS s ON s.experiment_id = x.id WHERE x.criterion_set_id = "
    "k.criterion_set_id), 0)) FROM criteria AS k WHERE k.project_id = ?",
}


def create(connection: Connection) -> None:
    """Make the tables and measure what there is."""
    for statement in (*_DEFINITIONS, *_FIRST_SIZES):
        connection.exec_driver_sql(statement)


def note(connection: Connection, part: str, of: Iterable[tuple[int, Sequence[str | None]]]) -> None:
    """Keep what is larger than what was kept before.

    Args:
        connection: Where to.
        part: Of a row: ``prompt`` of an experiment, ``entry`` of a collection, ``answer`` or
            ``reasoning`` of a response.
        of: The owner's id, and the texts that the part is made of.
    """
    largest: dict[int, int] = {}
    for owner, texts in of:
        characters = sum(len(text) for text in texts if text is not None)
        # Four bytes a character at most: none of ordinary texts is looked at closer.
        if characters * 4 > ORDINARY:
            size = sum(_size(text) for text in texts if text is not None)
            if size > ORDINARY:
                largest[owner] = max(size, largest.get(owner, 0))
    run_many(connection, _NOTE[part], [(size, owner) for owner, size in largest.items()])


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


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
