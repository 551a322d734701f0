"""Keys of items: within its experiment, a response is made once under the key that it has.

A job that asks for a key that is known waits for the row that has it, or finds it done. The row is
taken back only when it is not done and no job wants it any more, and the key is free again then, as
it is after a deletion. A retry has what failed made anew: the key goes to the new row at once.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from elluminate_async.server.problems import Problem, storing_values
from elluminate_async.server.store import llm_configs
from elluminate_async.server.store.rows import AnyRow, fetch, run_many
from elluminate_async.server.store.wire_json import dump, ids_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sqlalchemy import Connection

    from elluminate_async.schemas import ResponseIn

_NAMED = 20

_EDITED = "content of its row, which was edited since"

# One statement for all keys; cross joins and the plus as in `documents`.
_KNOWN = """
SELECT r.id, r.experiment_id, r.item_key, r.template_variables_id, r.epoch, r.is_ready,
 r.llm_config_id, e.llm_config_id AS own_config, p.prompt_template_id,
 e.prompt_template_id AS own_template, r.messages, r.is_ready AND r.error IS NOT NULL AS is_failed,
 p.entry_digest <> v.digest AS is_stale
FROM json_each(?) AS wanted
CROSS JOIN responses AS r ON r.experiment_id = json_extract(wanted.value, '$[0]')
 AND r.item_key = json_extract(wanted.value, '$[1]')
CROSS JOIN experiments AS e ON e.id = r.experiment_id
CROSS JOIN prompts AS p ON p.id = r.prompt_id
CROSS JOIN entries AS v ON v.id = p.template_variables_id
WHERE +r.project_id = ?"""

_FREE = "UPDATE responses SET item_key = NULL WHERE id IN (SELECT value FROM json_each(?))"

WANTED_BY_ANOTHER: Final = """
r.item_key IS NOT NULL AND EXISTS
 (SELECT 1 FROM job_items AS i CROSS JOIN jobs AS j ON j.id = i.job_id
  WHERE i.response_id = r.id AND i.job_id <> ? AND NOT i.is_done AND j.finished_at IS NULL)"""
"""Whether a job that has not ended wants the response ``r`` too, besides the one that is given."""


@dataclass(frozen=True, slots=True)
class Placed:
    """The rows of some items.

    Attributes:
        ids: One for each item, in their order; items of one key have the same.
        hidden: Those of them that have an answer, and wait for `new_responses.show`.
    """

    ids: list[int]
    hidden: list[int] = field(default_factory=list[int])


def have_any(items: Iterable[ResponseIn]) -> bool:
    """Whether any item has a key."""
    return any(item.item_key is not None for item in items)


def without(item: ResponseIn) -> ResponseIn:
    """The same item, as services take it that know of no keys."""
    return item if item.item_key is None else item.model_copy(update={"item_key": None})


def place(
    connection: Connection,
    project_id: int,
    items: Sequence[ResponseIn],
    create: Callable[[Sequence[ResponseIn]], Sequence[int]],
    start: int = 0,
    *,
    retry_failed: bool = False,
) -> Placed:
    """Find the rows of the keys that are known, and have the others made.

    Args:
        connection: Where.
        project_id: Of the items.
        items: Some of which have keys.
        create: Makes rows, one for each item, and tells their ids.
        start: The place of the first item in its request.
        retry_failed: Whether those that ended with an error are made anew, and lose their keys.

    Raises:
        Problem: 422 for keys that stand for something else; 409 for one to generate of a row that
            is being uploaded.
    """
    known = _known(connection, project_id, items)
    default = llm_configs.default_id(connection, project_id)
    _free_failed(connection, known, items if retry_failed else (), default)
    ids = [0] * len(items)
    hidden: list[int] = []
    # Those to be made, each with its places: of one key only the first is made.
    fresh: list[ResponseIn] = []
    places: list[list[int]] = []
    of_key: dict[tuple[int, str], int] = {}
    conflicts: dict[int, str] = {}
    for position, item in enumerate(items):
        key = (item.experiment_id, item.item_key or "")
        differing: list[str] = []
        if (row := known.get(key)) is not None:
            ids[position] = row.id
            differing = _differing(item, row, default)
            if not row.is_ready and row.messages != "[]":
                _require_upload(item)
                hidden.append(row.id)
        elif (first := of_key.get(key)) is not None:
            places[first].append(position)
            differing = _differing_items(item, fresh[first])
        else:
            if item.item_key is not None:
                of_key[key] = len(fresh)
            fresh.append(item)
            places.append([position])
        if differing:
            other = " and ".join(differing)
            conflicts[start + position] = f"the key {item.item_key!r} stands for another {other}"
    if conflicts:
        raise conflict(conflicts, "give a key to one item only, or begin another run")
    for made, its_places in zip(create(fresh) if fresh else (), places, strict=True):
        for position in its_places:
            ids[position] = made
    return Placed(ids, hidden)


def conflict(problems: Mapping[int, str], advice: str) -> Problem:
    """422 that says of each place in a request why it cannot be."""
    named = [f"item {position}: {text}" for position, text in [*problems.items()][:_NAMED]]
    more = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
    detail = f"{'; '.join(named)}{more}: {advice}"
    return Problem(422, detail, extra={"key_conflicts": [*problems]})


def _known(
    connection: Connection, project_id: int, items: Iterable[ResponseIn]
) -> dict[tuple[int, str], AnyRow]:
    wanted = {(item.experiment_id, item.item_key): None for item in items if item.item_key}
    rows = fetch(connection, _KNOWN, json.dumps([*wanted]), project_id)
    return {(row.experiment_id, row.item_key): row for row in rows}


def _free_failed(
    connection: Connection,
    known: dict[tuple[int, str], AnyRow],
    items: Iterable[ResponseIn],
    default_config: int,
) -> None:
    """Take from the rows of these items that have failed their keys, which are then not known."""
    freed: list[int] = []
    for item in items:
        key = (item.experiment_id, item.item_key or "")
        row = known.get(key)
        if row is not None and row.is_failed and _fits(item, row, default_config):
            freed.append(known.pop(key).id)
    if freed:
        run_many(connection, _FREE, [(ids_text(freed),)])


def _differing(item: ResponseIn, row: AnyRow, default_config: int) -> list[str]:
    """In what an item differs from the row that has its key, or would if it were made."""
    config = item.llm_config_id or row.own_config or default_config
    same = {
        "template_variables_id": item.template_variables_id == row.template_variables_id,
        "epoch": item.epoch == row.epoch,
        # One that was deleted since is nobody's; who names none takes any.
        "llm_config_id": config == row.llm_config_id
        or (row.llm_config_id is None and item.llm_config_id is None),
        "prompt_template_id": (item.prompt_template_id or row.own_template)
        == row.prompt_template_id,
        "messages": not item.messages or _text(item) == row.messages,
        _EDITED: not row.is_stale,
    }
    return [name for name, is_same in same.items() if not is_same]


def _fits(item: ResponseIn, row: AnyRow, default_config: int) -> bool:
    """Whether an item is what a failed row was to be, maybe of a row that was corrected since."""
    return {*_differing(item, row, default_config)} <= {_EDITED}


def _differing_items(item: ResponseIn, first: ResponseIn) -> list[str]:
    names = ("template_variables_id", "epoch", "llm_config_id", "prompt_template_id", "messages")
    return [name for name in names if getattr(item, name) != getattr(first, name)]


def _text(item: ResponseIn) -> str:
    with storing_values():
        return dump(item.messages)


def _require_upload(item: ResponseIn) -> None:
    if not item.messages:
        raise Problem(
            409,
            f"a response with the key {item.item_key!r} is being uploaded: wait for that",
            headers={"Retry-After": "1"},
        )
