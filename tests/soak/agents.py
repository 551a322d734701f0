"""Operations on agents' results and scenarios, and the documents that would be right for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from elluminate_async import AsyncClient
from tests.soak.fuzz import Operation

_SET = {"id": 1, "name": "S", "fields": [{"id": 1, "name": "tone", "default_value": ""}]}
_SCENARIO: dict[str, Any] = {
    "id": 1,
    "goal": "g",
    "expected_conversation_outcome": "o",
    "field_values": {"tone": ""},
}
_GIVEN = {"goal": "g", "expected_conversation_outcome": "o"}
_CRITERION = {"criterion_id": 1, "label": "", "scope": "shared", "rendered_criterion_str": "?"}
_DEFINITION = {
    "version": 1,
    "task_name_column": "task",
    "tasks": [{"task_id": 1, "task_name": "t", "criteria": [_CRITERION]}],
}
_UPLOAD = {
    "created_responses": 1,
    "created_ratings": 0,
    "errors": ["x"],
    "pending_evaluations": 1,
    "evaluation_task_id": "a",
}
_UNMATCHED = {
    "detail": "no",
    "kind": "unmatched_tasks",
    "accepted_tasks": [{"task_id": 1, "task_name": "t"}, 3, {"task_id": "x"}],
    "accepted_tasks_total": "a",
    "results": {"a": 1},
}
_ENDED = {
    "status": "SUCCESS",
    "generation_task_id": "a",
    "completed_responses": 1,
    "completed_ratings": 1,
    "total_responses": 1,
}
_MOVED = {"status": "STARTED", "generation_task_id": "b"}


async def _listed(client: AsyncClient) -> object:
    return await client.scenarios.list(1)


async def _streamed(client: AsyncClient) -> object:
    async with client.agent_results.stream(1, "a", timeout=3) as statuses:
        return [status async for status in statuses]


OPERATIONS: Sequence[tuple[Operation, object, int]] = [
    (lambda client: client.scenario_sets.get(id=1), _SET, 10),
    (lambda client: client.scenario_sets.get("S"), {"items": [_SET], "count": 1}, 10),
    (lambda client: client.scenario_sets.get_or_create("S"), _SET, 10),
    (lambda client: client.scenarios.add_many([_GIVEN] * 2, scenario_set=1), [_SCENARIO], 20),
    (_listed, {"items": [_SCENARIO], "count": 1}, 10),
    (lambda client: client.scenario_sets.delete_field(1, "tone"), _SET, 5),
    (lambda client: client.agent_results.definition(1), _DEFINITION, 10),
    (
        lambda client: client.agent_results.upload(1, [{"task_id": 1}], raise_on_partial=True),
        _UPLOAD,
        20,
    ),
    (lambda client: client.agent_results.upload(1, [{"task_id": 1}]), _UNMATCHED, 20),
    (lambda client: client.agent_results.wait(1, "a", timeout=3), _ENDED, 20),
    (lambda client: client.agent_results.wait(1, timeout=3), _MOVED, 10),
    (_streamed, _ENDED, 20),
]
