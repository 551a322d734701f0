"""The tasks of agentic experiments, as they were when the experiment was made."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, insert, select

from elluminate_async.schemas.agent_results import AgentCriterion, AgentResultMatch
from elluminate_async.schemas.collections import with_defaults
from elluminate_async.schemas.prompt_templates import filled_length, render
from elluminate_async.server.problems import Problem
from elluminate_async.server.store import tables
from elluminate_async.server.store.prompts import columns_of
from elluminate_async.server.store.rows import rows_by_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from elluminate_async.schemas import Criterion
    from elluminate_async.schemas.agent_results import AgentTaskRef

table = tables.agent_definitions
entries = tables.entries

NAME_COLUMN: Final = "task"
INSTRUCTION_COLUMN: Final = "instruction"

MOST_CRITERION: Final = 1 << 20
"""Characters of a criterion that is filled in; a longer one stays as it is."""


@dataclass(frozen=True, slots=True)
class Task:
    """A task of an experiment.

    Attributes:
        id: Of its row.
        name: When the experiment was made.
        values: Of its row, with the defaults of its columns; None once that is deleted.
    """

    id: int
    name: str
    values: Mapping[str, Any] | None

    @property
    def current_name(self) -> str:
        """The row's name, which may be another now."""
        return self.name if self.values is None else _name(self.id, self.values)


class Tasks:
    """All tasks of one experiment, to be found by id or name."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self.all = list(tasks)
        self._by_id = {task.id: task for task in self.all}
        self._by_name: defaultdict[str, list[Task]] = defaultdict(list)
        for task in self.all:
            self._by_name[task.name].append(task)
        later: defaultdict[str, list[Task]] = defaultdict(list)
        for task in self.all:
            # A name that another task had first stays that task's.
            if task.current_name not in self._by_name:
                later[task.current_name].append(task)
        self._by_name.update(later)

    def match(self, index: int, ref: AgentTaskRef) -> AgentResultMatch:
        """The task of a result, or the reason why there is none."""
        task, reason = self._find(ref)
        if task is not None and task.values is None:
            reason = f"the row of the task {task.name!r} was deleted"
        return AgentResultMatch(
            index=index,
            task_id=ref.task_id if task is None else task.id,
            task_name=ref.task_name if task is None else task.name,
            reason=reason,
        )

    def __getitem__(self, task_id: int) -> Task:
        return self._by_id[task_id]

    def is_gone(self, task_id: int | None) -> bool:
        """Whether that is a task whose row was deleted."""
        task = None if task_id is None else self._by_id.get(task_id)
        return task is not None and task.values is None

    def _find(self, ref: AgentTaskRef) -> tuple[Task | None, str | None]:
        if ref.task_id is not None:
            task = self._by_id.get(ref.task_id)
            if task is None:
                return None, f"the experiment has no task of the id {ref.task_id}"
            if ref.task_name is not None and ref.task_name not in (task.name, task.current_name):
                other = f"the task {task.id} is named {task.name!r:.100}"
                return None, f"{other}, and not {ref.task_name!r:.100}: give one of the two"
            return task, None
        found = self._by_name.get(ref.task_name or "", [])
        if len(found) == 1:
            return found[0], None
        if found:
            return None, f"{len(found)} tasks are named {ref.task_name!r:.100}: give task_id"
        return None, f"the experiment has no task named {ref.task_name!r:.100}"


def freeze(connection: Connection, experiment_id: int, collection_id: int | None) -> None:
    """Note the tasks of a new experiment: the rows that its collection has."""
    query = select(entries.c.id, entries.c.input_values).where(
        entries.c.collection_id == collection_id
    )
    tasks = [
        [row.id, _name(row.id, row.input_values)]
        for row in connection.execute(query.order_by(entries.c.id))
    ]
    connection.execute(insert(table), {"experiment_id": experiment_id, "tasks": tasks})


def of_experiment(connection: Connection, project_id: int, experiment_id: int) -> Tasks:
    """Its tasks.

    Raises:
        Problem: 400 when it is none of agents.
    """
    query = select(table.c.tasks).where(table.c.experiment_id == experiment_id)
    frozen = connection.execute(query).scalar_one_or_none()
    if frozen is None:
        raise Problem(
            400,
            f"experiment {experiment_id} takes no agent results: make one with the evaluation_mode "
            "AGENTIC",
        )
    rows = rows_by_id(connection, entries, project_id, [task_id for task_id, _ in frozen])
    columns = columns_of(connection, rows.values())
    values = {
        row.id: with_defaults(columns[row.collection_id], row.input_values) for row in rows.values()
    }
    return Tasks(Task(task_id, name, values.get(task_id)) for task_id, name in frozen)


def applied(criterion: Criterion, values: Mapping[str, Any]) -> AgentCriterion:
    """A criterion with a task's values in the place of placeholders."""
    message: dict[str, Any] = {"content": criterion.criterion_str}
    # A short criterion may name a long value a thousand times.
    if filled_length([message], dict(values)) <= MOST_CRITERION:
        (message,) = render([message], values)
    return AgentCriterion(
        criterion_id=criterion.id,
        label=criterion.label or "",
        scope="shared",
        rendered_criterion_str=message["content"],
    )


def _name(task_id: int, values: Mapping[str, Any]) -> str:
    name = values.get(NAME_COLUMN)
    return f"task {task_id}" if name in (None, "") else str(name)
