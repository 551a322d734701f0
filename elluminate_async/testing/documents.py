"""The objects of a scripted service, and their form on the wire."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

WHEN = "2026-01-01T00:00:00Z"
"""Of everything: no client may decide by a service's clock."""

PLACEHOLDER = re.compile(r"\{\{\s*(\w+)\s*\}\}")


@dataclass(slots=True)
class Criterion:
    """A question about the responses to a template."""

    id: int
    text: str
    label: str | None = None

    def document(self) -> dict[str, Any]:
        """As the wire has it."""
        return {
            "id": self.id,
            "criterion_str": self.text,
            "label": self.label,
            "created_at": WHEN,
        }


@dataclass(slots=True)
class Template:
    """A prompt template and its criteria."""

    id: int
    name: str
    version: int
    messages: list[dict[str, Any]]
    criteria: list[Criterion] = field(default_factory=list[Criterion])
    text: str = ""

    def __post_init__(self) -> None:
        self.text = json.dumps(self.document())

    def document(self) -> dict[str, Any]:
        """As the wire has it."""
        text = json.dumps(self.messages)
        return {
            "id": self.id,
            "name": self.name,
            "version": self.version,
            "messages": self.messages,
            "placeholders": list(dict.fromkeys(PLACEHOLDER.findall(text))),
            "criterion_set_id": self.id,
            "created_at": WHEN,
            "updated_at": WHEN,
        }


@dataclass(slots=True)
class Collection:
    """A table of template variables."""

    id: int
    name: str
    description: str = ""
    columns: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    read_only: bool = False
    entries: list[Entry] = field(default_factory=list["Entry"])

    def document(self) -> dict[str, Any]:
        """As the wire has it, without its rows."""
        return {
            "id": self.id,
            "name": self.name,
            "description": self.description,
            "columns": self.columns,
            "variables_count": len(self.entries),
            "read_only": self.read_only,
            "created_at": WHEN,
            "updated_at": WHEN,
        }


@dataclass(slots=True)
class Entry:
    """One row of a collection."""

    id: int
    values: dict[str, Any]
    text: str

    @classmethod
    def of(cls, id: int, values: Mapping[str, Any], collection: Collection) -> Entry:
        """The entry, with the text it has on the wire: made once, sent often."""
        document = {
            "id": id,
            "input_values": values,
            "collection": collection.document(),
            "created_at": WHEN,
        }
        return cls(id, dict(values), json.dumps(document))


@dataclass(slots=True)
class Experiment:
    """Where responses belong."""

    id: int
    name: str
    description: str
    template: Template
    collection: Collection

    def document(self) -> dict[str, Any]:
        """As the wire has it."""
        criteria = [criterion.document() for criterion in self.template.criteria]
        template = self.template.document()
        return {
            "id": self.id,
            "name": self.name,
            "description": self.description,
            "prompt_template": template,
            "collection": self.collection.document(),
            "criterion_set": {
                "id": self.template.id,
                "name": self.template.name,
                "criteria": criteria,
                "prompt_templates": [template],
                "linked_prompt_templates": [template],
            },
            "llm_config": {"id": 1, "name": "scripted", "llm_model_name": "scripted"},
            "rated_responses": [],
            "generation_task_id": None,
            "results": None,
            "logs": None,
            "created_at": WHEN,
            "updated_at": WHEN,
        }


@dataclass(slots=True)
class RatingRow:
    """One rating; shown in listings from ``visible_at`` on."""

    id: int
    criterion_id: int
    text: str
    visible_at: float


@dataclass(slots=True)
class Row:
    """One response; shown in listings from ``visible_at`` on.

    Attributes:
        head: Its text on the wire up to its ratings.
        annotation: Its note, as JSON.
    """

    id: int
    experiment_id: int
    template_id: int
    entry_id: int
    epoch: int
    answer: str
    visible_at: float
    head: str
    hidden: bool = False
    annotation: str = '""'
    ratings: list[RatingRow] = field(default_factory=list[RatingRow])

    def text(self, now: float | None = None) -> str:
        """As the wire has it, with the ratings that can be seen by ``now``."""
        shown = (r.text for r in self.ratings if now is None or r.visible_at <= now)
        ratings = ",".join(shown)
        tail = f'"annotation":{self.annotation},"created_at":"{WHEN}"}}'
        return f'{self.head}"ratings":[{ratings}],{tail}'


def map_of(experiment: Experiment, rows: Iterable[Row], page: slice) -> dict[str, Any]:
    """A page of an experiment's map, which has the samples in the order of their first rows."""
    moment = now()
    samples: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        shown = [r.text for r in row.ratings if r.visible_at <= moment]
        passed = sum('"rating": "YES"' in text for text in shown)
        samples.setdefault(row.entry_id, []).append(
            {
                "response_id": row.id,
                "epoch": row.epoch,
                "task_name": None,
                "has_trajectory": False,
                "total_steps": None,
                "total_cost_usd": None,
                "has_error": '"error":null' not in row.head,
                "num_criteria_passed": passed if shown else None,
                "num_criteria_failed": len(shown) - passed if shown else None,
            }
        )
    return {
        "experiment_id": experiment.id,
        "name": experiment.name,
        "num_samples": len(samples),
        "num_responses": sum(map(len, samples.values())),
        "samples": [
            {"template_variables_id": id, "persona": None, "responses": found}
            for id, found in list(samples.items())[page]
        ],
    }


def row_head(
    id: int, template: Template, entry: Entry, epoch: int, answer: str, error: str | None
) -> str:
    """The text of a response up to its ratings."""
    message = {"role": "assistant", "content": answer, "tool_calls": None}
    messages = [] if error is not None else [message]
    return (
        f'{{"id":{id},"prompt":{{"id":{id},"prompt_template":{template.text},'
        f'"template_variables":{entry.text},"messages":[],"created_at":"{WHEN}"}},'
        f'"messages":{json.dumps(messages)},"generation_metadata":null,'
        f'"error":{json.dumps(error)},"epoch":{epoch},'
    )


def rating_text(id: int, criterion: Criterion, verdict: bool, why: str | None) -> str:
    """The text of a rating."""
    document = {
        "id": id,
        "criterion": criterion.document(),
        "rating": "YES" if verdict else "NO",
        "reasoning": why,
        "created_at": WHEN,
    }
    return json.dumps(document)


@dataclass(slots=True)
class JobScript:
    """The script of the job that an exchange starts, as a fault asks for it.

    Attributes:
        fail_after: End as FAILURE after so many of the items.
        hide: Leave one of this many rows out of everything that the service shows.
        forget: Answer 404 for the job from its acceptance on.
    """

    fail_after: int | None = None
    hide: int | None = None
    forget: bool = False


@dataclass(slots=True)
class Job:
    """Work on one chunk.

    Attributes:
        results: One text per item of the request, in its order; ``null`` where there is none.
        failures: Of items without a full result: index, code, text.
        rated: The responses that it rates; None for one that generates.
    """

    id: str
    total: int
    accepted_at: float
    script: JobScript
    status: str = "PENDING"
    error: str | None = None
    results: list[str] = field(default_factory=list[str])
    failures: list[tuple[int, str, str]] = field(default_factory=list[tuple[int, str, str]])
    rated: Sequence[int] | None = None
    watchers: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])

    @property
    def ended(self) -> bool:
        """Whether its status is terminal."""
        return self.status in ("SUCCESS", "FAILURE", "REVOKED")

    def move(self, status: str, error: str | None = None) -> None:
        """Take a new status, and wake who follows it."""
        self.status, self.error = status, error
        watchers, self.watchers = self.watchers, []
        for wake in watchers:
            wake()

    def document(self, *, with_results: bool) -> str:
        """The status as the wire has it."""
        head = f'{{"status":"{self.status}","error_msg":{json.dumps(self.error)}'
        if not (with_results and self.ended):
            return head + "}"
        failures = [
            {"index": index, "code": code, "message": text} for index, code, text in self.failures
        ]
        of = f',"prompt_response_ids":{json.dumps(self.rated)}' if self.rated is not None else ""
        results = ",".join(self.results)
        return f'{head},"result":[{results}]{of},"item_failures":{json.dumps(failures)}}}'


def now() -> float:
    """Seconds on the clock that decides what is visible."""
    return time.monotonic()
