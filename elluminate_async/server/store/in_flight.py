"""Work in flight: jobs that have not ended, single calls of models, and what they refer to.

A job and its items are in the database, from its acceptance to its end. A single call, which its
client waits for, leaves nothing there until it is answered: `Calls` has what it refers to, from
the transaction that reads its inputs to the one that keeps its answer.

    with calls.begin() as call:
        work = await database.write(lambda connection: read(connection, call))  # call.refer(...)
        answer = await ask(work)
        await database.write(keep, answer)
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from elluminate_async.server.store.rows import fetch

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from sqlalchemy import Connection

Noun: TypeAlias = Literal[
    "collection",
    "criterion",
    "criterion set",
    "entries",
    "entry",
    "LLM config",
    "prompt template",
    "scenario set",
]
"""Nouns that may be deleted from under work; ``entries`` are all rows of a collection."""

OPEN_ITEMS: Final = """
SELECT i.response_id AS id FROM jobs AS j CROSS JOIN job_items AS i ON i.job_id = j.id
WHERE j.finished_at IS NULL AND NOT i.is_done"""
"""The responses that jobs in flight have not done yet, one row for each item."""

ASKED: Final = """
SELECT i.response_id AS id FROM criteria AS c
CROSS JOIN jobs AS j CROSS JOIN job_criteria AS k ON k.job_id = j.id AND k.criterion_id = c.id
CROSS JOIN job_items AS i ON i.job_id = j.id
CROSS JOIN responses AS r ON r.id = i.response_id
CROSS JOIN experiments AS e ON e.id = r.experiment_id
WHERE c.id = ?1 AND j.finished_at IS NULL AND NOT i.is_done
 AND e.criterion_set_id = c.criterion_set_id"""
"""Those of them that a criterion is asked of."""

_CRITERIA = "SELECT id FROM criteria WHERE criterion_set_id = ?"
# The items of a job are looked through once, and not for each of its criteria.
_ASKED_BY_JOBS = """
WITH asking(id) AS MATERIALIZED (SELECT j.id FROM jobs AS j
 WHERE j.finished_at IS NULL AND j.kind <> 'responses' AND EXISTS
  (SELECT 1 FROM job_items AS i CROSS JOIN responses AS r ON r.id = i.response_id
   CROSS JOIN experiments AS e ON e.id = r.experiment_id
   WHERE i.job_id = j.id AND NOT i.is_done AND e.criterion_set_id = ?1))
SELECT DISTINCT c.id FROM asking CROSS JOIN job_criteria AS k ON k.job_id = asking.id
CROSS JOIN criteria AS c ON c.id = k.criterion_id WHERE c.criterion_set_id = ?1"""
_OF_RESPONSE = """
SELECT e.prompt_template_id AS own_template, p.prompt_template_id AS template,
 e.collection_id AS own_collection, v.collection_id AS collection, v.id AS entry,
 e.llm_config_id AS own_config, r.llm_config_id AS config, e.criterion_set_id AS criterion_set,
 e.scenario_set_id AS scenario_set
FROM responses AS r JOIN prompts AS p ON p.id = r.prompt_id
JOIN entries AS v ON v.id = p.template_variables_id JOIN experiments AS e ON e.id = r.experiment_id
WHERE r.id = ?"""


class Call:
    """A single call of a model, and what would take its answer along.

    Attributes:
        uses: What it refers to.
        rated: The response that a judge is at; None for one that is being generated.
    """

    def __init__(self) -> None:
        self.uses: frozenset[tuple[Noun, int]] = frozenset()
        self.rated: int | None = None

    def refer(
        self, connection: Connection, response_id: int, criterion_ids: Iterable[int] = ()
    ) -> None:
        """Note what a response refers to; within the writing transaction that reads its inputs.

        Args:
            connection: Of that transaction. A deletion is another one, before it or after it.
            response_id: The response, also one that the transaction takes back.
            criterion_ids: What the judge is asked of it.
        """
        ((row),) = fetch(connection, _OF_RESPONSE, response_id)
        asked: set[tuple[Noun, int | None]] = {("criterion", one) for one in criterion_ids}
        self.rated = response_id if asked else None
        uses: set[tuple[Noun, int | None]] = {
            ("prompt template", row.own_template),
            ("prompt template", row.template),
            ("collection", row.own_collection),
            ("collection", row.collection),
            ("entries", row.collection),
            ("entry", row.entry),
            ("LLM config", row.own_config),
            ("LLM config", row.config),
            ("criterion set", row.criterion_set),
            ("scenario set", row.scenario_set),
            *asked,
        }
        self.uses = frozenset((noun, id) for noun, id in uses if id is not None)

    def put_into(self, noun: Noun, object_id: int) -> None:
        """Note where the answer goes; within the writing transaction that finds it there."""
        self.uses = frozenset({(noun, object_id)})


class Calls:
    """The single calls in flight of one server."""

    def __init__(self) -> None:
        self._calls: dict[int, Call] = {}

    @contextmanager
    def begin(self) -> Generator[Call]:
        """One that is in flight until the context ends."""
        call = Call()
        self._calls[id(call)] = call
        try:
            yield call
        finally:
            del self._calls[id(call)]

    def count(self, noun: Noun, object_id: int) -> int:
        """How many refer to an object."""
        # The copy is made at once: others begin and end in the loop's thread meanwhile.
        return sum((noun, object_id) in call.uses for call in tuple(self._calls.values()))

    def rated(self) -> set[int]:
        """The responses that judges are at."""
        calls = tuple(self._calls.values())
        return {call.rated for call in calls if call.rated is not None}


def is_asked(connection: Connection, criterion_id: int, calls: Calls) -> bool:
    """Whether a verdict of work in flight may still come for a criterion."""
    if calls.count("criterion", criterion_id):
        return True
    return bool(fetch(connection, f"{ASKED} LIMIT 1", criterion_id))


def asked_criteria(connection: Connection, set_id: int, calls: Calls) -> set[int]:
    """Ids of the criteria of a set that verdicts of work in flight may still come for.

    Those are of jobs that have yet to rate by the set, and of single calls. Criteria that leave
    the set meanwhile are to be kept for them.
    """
    ids = (row.id for row in fetch(connection, _CRITERIA, set_id))
    called = {one for one in ids if calls.count("criterion", one)}
    return called | {row.id for row in fetch(connection, _ASKED_BY_JOBS, set_id)}
