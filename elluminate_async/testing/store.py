"""The memory of a scripted service, and the work it does on it."""

from __future__ import annotations

import asyncio
import itertools
import json
import uuid
from array import array
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from elluminate_async.schemas.jobs import REVOKED, JobStatusName
from elluminate_async.testing.documents import (
    Collection,
    Criterion,
    Entry,
    Experiment,
    Job,
    JobScript,
    RatingRow,
    Row,
    Template,
    now,
    rating_text,
    row_head,
)
from elluminate_async.testing.ledger import Ledger, Made, Rated, nonce_of

Answer: TypeAlias = Callable[[Mapping[str, Any]], str]
"""The model: values to text. What it raises becomes the error of that response."""

Judge: TypeAlias = Callable[[str, str], bool]
"""The judge: the response's text and the criterion's to a verdict. What it raises leaves the
response without this rating."""

Order: TypeAlias = Literal["created", "reversed", "shuffled"]

_ENDED_JOBS_KEPT = 512
_GOLDEN = 2654435761  # Knuth's multiplicative hash: a fixed order that looks like none


class MissingError(Exception):
    """There is no such object."""


@dataclass(slots=True)
class ServiceScript:
    """How a `ScriptedService` behaves; may be changed while it runs.

    Attributes:
        keys: Advertise and honour idempotency keys.
        results: Advertise and send results with a job's terminal status.
        page_size: Rows of a listing's page.
        order: Of listings.
        seed: Of the shuffled order.
        lag: Seconds from the acceptance of a chunk until its rows can be seen in listings.
        job_seconds: Seconds from acceptance until the job ends and its rows are made.
        answer: The model; the default repeats the values.
        judge: The judge; the default says YES.
        own_epochs: Number repetitions itself, whatever the request asks for.
        criteria: Criteria that a template gets when it is rated and has none.
        retain: Keep rows and entries. Without, rows go only into results, which memory
            keeps for the last jobs alone, and the ledger has totals only.
        variables: Values of an entry that nobody uploaded, by its id; None for 404.
        cancels: Advertise that jobs can be cancelled, and cancel them.
        maps: Have maps of experiments.
    """

    keys: bool = True
    results: bool = True
    page_size: int = 100
    order: Order = "created"
    seed: int = 0
    lag: float = 0.0
    job_seconds: float = 0.0
    answer: Answer = nonce_of
    judge: Judge = lambda response, criterion: True
    own_epochs: bool = False
    criteria: int = 2
    retain: bool = True
    variables: Callable[[int], Mapping[str, Any]] | None = None
    cancels: bool = True
    maps: bool = True


class Store:
    """Everything a project has, and the jobs that work on it."""

    def __init__(self, script: ServiceScript, ledger: Ledger) -> None:
        self.script = script
        self.ledger = ledger
        self.templates: list[Template] = []
        self.collections: list[Collection] = []
        self.experiments: list[Experiment] = []
        self.entries: dict[int, Entry] = {}
        self.rows: dict[int, Row] = {}
        self.jobs: OrderedDict[str, Job] = OrderedDict()
        self._ids = itertools.count(1)
        self._entry_ids = itertools.count(1)
        self._row_ids = itertools.count(1)
        self._rating_ids = itertools.count(1)
        self._by_experiment: dict[int, list[Row]] = {}
        self._listed: dict[int, tuple[object, list[Row]]] = {}
        self._epochs = Counter[tuple[int, int]]()
        # Of rows that are not retained: which experiment, by id.
        self._experiment_of = array("L", [0])
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def template(self, id: int) -> Template:
        """The template of that id."""
        return _found(self.templates, id)

    def collection(self, id: int) -> Collection:
        """The collection of that id."""
        return _found(self.collections, id)

    def experiment(self, id: int) -> Experiment:
        """The experiment of that id."""
        return _found(self.experiments, id)

    def new_id(self) -> int:
        """The next id of a template, collection, experiment or criterion."""
        return next(self._ids)

    def criterion(self, id: int) -> Criterion:
        """The criterion of that id."""
        return _found([one for template in self.templates for one in template.criteria], id)

    def criteria_of(self, template: Template) -> list[Criterion]:
        """Its criteria; those that the script gives it when it has none."""
        if not template.criteria:
            for number in range(1, self.script.criteria + 1):
                text = f"is it good in respect {number}?"
                template.criteria.append(Criterion(self.new_id(), text))
        return template.criteria

    def add_entries(
        self, collection: Collection, values: Sequence[Mapping[str, Any]], *, skip_existing: bool
    ) -> list[Entry]:
        """The entries that were created now; of equal ones with ``skip_existing`` the first."""
        known: set[str] = set()
        if skip_existing:
            known = {nonce_of(entry.values) for entry in collection.entries}
        created: list[Entry] = []
        for row in values:
            nonce = nonce_of(row)
            if nonce in known:
                continue
            if skip_existing:
                known.add(nonce)
            entry = Entry.of(next(self._entry_ids), row, collection)
            self.entries[entry.id] = entry
            collection.entries.append(entry)
            created.append(entry)
        return created

    def entry(self, id: int, collection: Collection) -> Entry:
        """The entry of that id, or what the script has for one that nobody uploaded."""
        if entry := self.entries.get(id):
            return entry
        if self.script.variables is None:
            raise MissingError(f"no template variables {id}")
        return Entry.of(id, self.script.variables(id), collection)

    def generate(self, items: Sequence[Mapping[str, Any]], script: JobScript) -> Job:
        """Accept a chunk of responses to make, or to store where they have messages."""
        for item in items:
            experiment = self.experiment(item["experiment_id"])
            self.entry(item["template_variables_id"], experiment.collection)
        return self._accept(len(items), script, lambda job: self._generate(job, items))

    def rate(self, response_ids: Sequence[int], mode: str, script: JobScript) -> Job:
        """Accept a chunk of responses to rate."""
        for id in response_ids:
            self.experiment_of(id)
        return self._accept(
            len(response_ids), script, lambda job: self._rate(job, response_ids, mode)
        )

    def make_row(self, item: Mapping[str, Any], accepted_at: float) -> Row:
        """One response: the model's, or the messages that the request holds."""
        experiment = self.experiment(item["experiment_id"])
        entry = self.entry(item["template_variables_id"], experiment.collection)
        answer, error = _stored(item), None
        if answer is None:
            try:
                answer = self.script.answer(entry.values)
            except Exception as failure:
                answer, error = "", str(failure) or type(failure).__name__
        id, epoch = next(self._row_ids), int(item.get("epoch") or 1)
        if self.script.own_epochs:
            self._epochs[experiment.id, entry.id] += 1
            epoch = self._epochs[experiment.id, entry.id]
        self.ledger.response(id, Made(nonce_of(entry.values), answer, error))
        head = row_head(id, experiment.template, entry, epoch, answer, error)
        row = Row(
            id, experiment.id, experiment.template.id, entry.id, epoch, answer,
            accepted_at + self.script.lag, head,
        )  # fmt: skip
        self._experiment_of.append(experiment.id)
        if self.script.retain:
            self.rows[id] = row
            self._by_experiment.setdefault(experiment.id, []).append(row)
        return row

    def make_ratings(self, id: int, mode: str, accepted_at: float) -> tuple[list[RatingRow], str]:
        """The ratings of one response by all criteria, and why some are not there."""
        template = self.experiment_of(id).template
        row = self.rows.get(id)
        answer = row.answer if row else ""
        made: list[RatingRow] = []
        problem = ""
        for criterion in self.criteria_of(template):
            try:
                verdict = self.script.judge(answer, criterion.text)
            except Exception as failure:
                problem = str(failure) or type(failure).__name__
                continue
            rating_id = next(self._rating_ids)
            self.ledger.rating(rating_id, Rated(id, criterion.id))
            why = "as scripted" if mode == "detailed" else None
            text = rating_text(rating_id, criterion, verdict, why)
            visible_at = accepted_at + self.script.lag
            made.append(RatingRow(rating_id, criterion.id, text, visible_at))
        if row:
            row.ratings += made
        return made, problem

    def experiment_of(self, response_id: int) -> Experiment:
        """Where a response belongs."""
        if not 0 < response_id < len(self._experiment_of):
            raise MissingError(f"no response {response_id}")
        return self.experiment(self._experiment_of[response_id])

    def listed(self, experiment_id: int | None) -> Iterator[Row]:
        """The rows that can be seen now, in the script's order."""
        key = experiment_id or 0
        rows = self._by_experiment.get(key, []) if experiment_id else list(self.rows.values())
        script = self.script
        state = (len(rows), script.order, script.seed)
        known = self._listed.get(key)
        if known is None or known[0] != state:
            known = self._listed[key] = (state, self.in_order(rows))
        moment = now()
        return (row for row in known[1] if row.visible_at <= moment and not row.hidden)

    def in_order(self, rows: Sequence[Row]) -> list[Row]:
        """Rows in the order that the script lists them in."""
        match self.script.order:
            case "created":
                return list(rows)
            case "reversed":
                return list(reversed(rows))
            case "shuffled":
                seed = self.script.seed
                return sorted(rows, key=lambda row: ((row.id ^ seed) * _GOLDEN) & 0xFFFFFFFF)

    async def close(self) -> None:
        """End the jobs that still run."""
        tasks = [*self._tasks.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def revoke(self, job: Job) -> None:
        """End a job before it has done anything; one that has ended stays as it is."""
        if job.ended:
            return
        self._tasks[job.id].cancel()
        for index in range(job.total):
            self._leave_out(job, index, REVOKED)
        job.move(JobStatusName.REVOKED, "cancelled")

    def _accept(self, total: int, script: JobScript, work: Callable[[Job], None]) -> Job:
        job = Job(str(uuid.uuid4()), total, now(), script)
        self.jobs[job.id] = job
        if self.script.job_seconds > 0:
            task = self._tasks[job.id] = asyncio.create_task(self._later(job, work))
            task.add_done_callback(lambda _: self._tasks.pop(job.id, None))
        else:
            self._work(job, work)
        if not self.script.retain:
            while len(self.jobs) > _ENDED_JOBS_KEPT and next(iter(self.jobs.values())).ended:
                self.jobs.popitem(last=False)
        return job

    async def _later(self, job: Job, work: Callable[[Job], None]) -> None:
        job.move("STARTED")
        await asyncio.sleep(self.script.job_seconds)
        self._work(job, work)

    def _work(self, job: Job, work: Callable[[Job], None]) -> None:
        work(job)
        if job.script.fail_after is None:
            job.move("SUCCESS")
        else:
            job.move("FAILURE", f"the job broke off after {job.script.fail_after} items")

    def _generate(self, job: Job, items: Sequence[Mapping[str, Any]]) -> None:
        for index, item in enumerate(items):
            if _beyond(job.script.fail_after, index):
                self._leave_out(job, index)
                continue
            row = self.make_row(item, job.accepted_at)
            if job.script.hide and index % job.script.hide == 0:
                row.hidden = True
                job.results.append("null")
            else:
                job.results.append(row.text())

    def _rate(self, job: Job, response_ids: Sequence[int], mode: str) -> None:
        job.rated = response_ids
        for index, id in enumerate(response_ids):
            if _beyond(job.script.fail_after, index):
                self._leave_out(job, index)
                continue
            made, problem = self.make_ratings(id, mode, job.accepted_at)
            if job.script.hide and index % job.script.hide == 0:
                for rating in made:
                    rating.visible_at = float("inf")
                job.results.append("null")
                continue
            if problem:
                job.failures.append((index, "rating_failed", problem))
            job.results.append(f"[{','.join(rating.text for rating in made)}]")

    @staticmethod
    def _leave_out(job: Job, index: int, code: str = "no_result") -> None:
        job.results.append("null")
        job.failures.append((index, code, "the service has nothing for this item"))


def _found(rows: Sequence[Any], id: int) -> Any:
    for row in rows:
        if row.id == id:
            return row
    raise MissingError(f"no object {id}")


def _beyond(fail_after: int | None, index: int) -> bool:
    return fail_after is not None and index >= fail_after


def _stored(item: Mapping[str, Any]) -> str | None:
    """The text of a response that was made elsewhere; None for one to generate."""
    for message in reversed(item.get("messages") or []):
        if message.get("role") == "assistant":
            content = message.get("content")
            return content if isinstance(content, str) else json.dumps(content)
    return None
