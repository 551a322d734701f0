"""Responses, ratings and work, which are paid for: referring to an object that is to be deleted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from elluminate_async.server.problems import Problem
from elluminate_async.server.store.in_flight import ASKED, OPEN_ITEMS
from elluminate_async.server.store.rows import fetch

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from elluminate_async.server.store.in_flight import Calls, Noun

_NAMED = 3
_OF_PROMPTS = "SELECT r.id FROM responses AS r JOIN prompts AS p ON p.id = r.prompt_id"
_OF_EXPERIMENTS = (
    "SELECT r.id FROM responses AS r JOIN experiments AS e ON e.id = r.experiment_id WHERE e."
)
_OF_ENTRIES = f"""
{_OF_PROMPTS} JOIN entries AS i ON i.id = p.template_variables_id WHERE i.collection_id = ?1"""
_RATED = "SELECT response_id FROM ratings WHERE criterion_id"
# The responses that an object has made, or that would go with an experiment of it.
_RESPONSES: Final[dict[Noun, tuple[str, ...]]] = {
    "prompt template": (
        f"{_OF_PROMPTS} WHERE p.prompt_template_id = ?1",
        f"{_OF_EXPERIMENTS}prompt_template_id = ?1",
    ),
    "collection": (_OF_ENTRIES, f"{_OF_EXPERIMENTS}collection_id = ?1"),
    "entries": (_OF_ENTRIES,),
    "entry": (f"{_OF_PROMPTS} WHERE p.template_variables_id = ?1",),
    "criterion set": (
        f"{_OF_EXPERIMENTS}criterion_set_id = ?1",
        f"{_RATED} IN (SELECT id FROM criteria WHERE criterion_set_id = ?1)",
    ),
    "criterion": (f"{_RATED} = ?1", ASKED),
    "scenario set": (f"{_OF_EXPERIMENTS}scenario_set_id = ?1",),
    "LLM config": (
        "SELECT id FROM responses WHERE llm_config_id = ?1",
        f"{_OF_EXPERIMENTS}llm_config_id = ?1",
    ),
}
# What refers to an object also where it has no responses, and would not go with it.
_OWNERS: Final[dict[Noun, str]] = {
    "LLM config": "SELECT id FROM experiments WHERE llm_config_id = ?1"
}
_COUNTS = f"""
SELECT (SELECT count(*) FROM w) AS responses, (SELECT count(*) FROM ratings AS g
 WHERE g.response_id IN (SELECT id FROM w){{of}}) AS ratings,
 (SELECT count(*) FROM o) AS experiments,
 (SELECT count(*) FROM ({OPEN_ITEMS}) WHERE id IN (SELECT id FROM w)) AS in_flight"""
_NAMES = f"""
SELECT name FROM experiments WHERE id IN (SELECT id FROM o) ORDER BY id LIMIT {_NAMED}"""
_CASCADE = "pass ?cascade=true (cascade=True in the SDK), which "
_GO_ALONG = "deletes them too"
_STAY = "leaves them what they tell of it; the experiments generate no more"
_DROPPED = "drops its answers"


@dataclass(frozen=True, slots=True)
class Deletion:
    """How an object is to be deleted.

    Attributes:
        calls: Single calls that may refer to it.
        cascade: Whether what refers to it goes along.
    """

    calls: Calls
    cascade: bool = False

    def require(self, connection: Connection, noun: Noun, object_id: int, name: str) -> None:
        """Return when nothing that is paid for would go with an object, or when it may.

        Args:
            connection: Where it is.
            noun: What it is.
            object_id: Its id; for ``entries`` that of their collection.
            name: What the refusal calls it.

        Raises:
            Problem: 409 that tells how much there is, in which experiments, and of work that is
                still in flight.
        """
        if self.cascade:
            return
        in_flight = self.calls.count(noun, object_id)
        if _is_referred_to(connection, noun, object_id):
            raise _refusal(connection, noun, object_id, name, in_flight)
        if in_flight:
            raise Problem(
                409,
                f"{name} is referred to by {_work(in_flight)}: wait for its end, or "
                f"{_CASCADE}{_STAY if noun == 'LLM config' else _DROPPED}",
                extra=_references(in_flight=in_flight),
            )

    def is_about_any(self, connection: Connection, noun: Noun, object_id: int) -> bool:
        """Whether anything refers to an object, work in flight included."""
        in_flight = self.calls.count(noun, object_id)
        return in_flight > 0 or _is_referred_to(connection, noun, object_id)


def _is_referred_to(connection: Connection, noun: Noun, object_id: int) -> bool:
    parts = list(_RESPONSES[noun])
    if noun in _OWNERS:
        parts.append(_OWNERS[noun])
    # Each by itself, as a union would be made in full before its first row is known.
    return any(fetch(connection, f"{part} LIMIT 1", object_id) for part in parts)


def _refusal(
    connection: Connection, noun: Noun, object_id: int, name: str, in_flight: int
) -> Problem:
    owners = f" UNION {_OWNERS[noun]}" if noun in _OWNERS else ""
    wanted = (
        f"WITH w(id) AS MATERIALIZED ({' UNION '.join(_RESPONSES[noun])}), o(id) AS MATERIALIZED "
        f"(SELECT DISTINCT experiment_id FROM responses WHERE id IN (SELECT id FROM w){owners})"
    )
    of = " AND g.criterion_id = ?1" if noun == "criterion" else ""
    counts = fetch(connection, wanted + _COUNTS.format(of=of), object_id)[0]
    names = [repr(row.name) for row in fetch(connection, wanted + _NAMES, object_id)]
    if counts.experiments > len(names):
        names.append(f"{counts.experiments - len(names)} more")
    in_flight += counts.in_flight
    also = f", and by {_work(in_flight)}" if in_flight else ""
    wait = "wait for its end, " if in_flight else ""
    along = _STAY if noun == "LLM config" else _GO_ALONG
    of_responses = ""
    if counts.responses:
        ratings = _count(counts.ratings, "rating")
        of_responses = f"{_count(counts.responses, 'response')} with {ratings}, of "
    return Problem(
        409,
        f"{name} is referred to by {of_responses}{_experiments(names)}{also}: "
        f"{wait}delete those experiments first, or {_CASCADE}{along}",
        extra=_references(counts.responses, counts.ratings, counts.experiments, in_flight),
    )


def _references(
    responses: int = 0, ratings: int = 0, experiments: int = 0, in_flight: int = 0
) -> dict[str, dict[str, int]]:
    return {
        "references": {
            "responses": responses,
            "ratings": ratings,
            "experiments": experiments,
            "in_flight": in_flight,
        }
    }


def _work(in_flight: int) -> str:
    return f"work in flight ({_count(in_flight, 'item')})"


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _experiments(names: list[str]) -> str:
    if len(names) == 1:
        return f"the experiment {names[0]}"
    return f"the experiments {', '.join(names[:-1])} and {names[-1]}"
