"""The wire protocol of a scripted service: which route does what."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeAlias, cast

from elluminate_async.schemas.version import Capability
from elluminate_async.testing.documents import (
    WHEN,
    Collection,
    Criterion,
    Experiment,
    Job,
    Row,
    Template,
    map_of,
    now,
)
from elluminate_async.testing.exchange import Exchange, Reply
from elluminate_async.testing.store import MissingError, Store
from elluminate_async.testing.wire import (
    answer,
    json_in,
    number_in,
    problem,
    query_of,
    text_in,
)

Handler: TypeAlias = Callable[[Exchange, Sequence[int | str]], Awaitable[Reply] | Reply]

PROJECT = {
    "id": 1,
    "name": "Scripted",
    "description": "",
    "organization": {
        "id": 1,
        "name": "Scripted",
        "domain": "",
        "stripe_subscription_id": None,
        "created_at": WHEN,
        "updated_at": WHEN,
    },
    "public_in_org": False,
    "created_at": WHEN,
    "updated_at": WHEN,
}

_KEEP_ALIVE = 15.0  # seconds without an event until a comment is sent


class Routes:
    """The handlers over one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._handlers: dict[str, Handler] = {
            "POST version/compatible": self._version,
            "GET projects": lambda _exchange, _ids: answer({"items": [PROJECT], "count": 1}),
            "GET projects/{id}": lambda _exchange, _ids: answer(PROJECT),
            "POST prompt_templates": self._create_template,
            "GET prompt_templates": self._templates,
            "GET prompt_templates/{id}": self._template,
            "POST criteria": self._create_criteria,
            "GET criteria": self._criteria,
            "PUT criteria/{id}": self._update_criterion,
            "POST collections": self._create_collection,
            "GET collections": self._collections,
            "GET collections/{id}": self._collection,
            "PUT collections/{id}": self._update_collection,
            "GET collections/{id}/entries": self._entries,
            "POST collections/{id}/entries": self._add_entry,
            "POST collections/{id}/entries/batches": self._add_entries,
            "POST experiments": self._create_experiment,
            "GET experiments": self._experiments,
            "GET experiments/{id}": self._experiment,
            "GET experiments/{id}/map": self._map,
            "GET responses": self._responses,
            "GET responses/{id}": self._response,
            "PATCH responses/{id}": self._annotate,
            "POST responses": self._add_response,
            "POST responses/generate": self._add_response,
            "POST responses/batches": self._generate,
            "POST ratings": self._rate_one,
            "GET ratings": self._ratings,
            "POST ratings/batches": self._rate,
            "GET responses/batches/{job}": self._status,
            "GET ratings/batches/{job}": self._status,
            "GET responses/batches/{job}/stream": self._stream,
            "GET ratings/batches/{job}/stream": self._stream,
            "DELETE responses/generate": self._revoke,
            "DELETE ratings": self._revoke,
            "DELETE responses/batches": self._revoke,
            "DELETE ratings/batches": self._revoke,
            "DELETE responses/batches/{job}": self._revoke,
            "DELETE ratings/batches/{job}": self._revoke,
        }

    async def handle(self, exchange: Exchange, ids: Sequence[int | str]) -> Reply:
        """Do what was asked."""
        handler = self._handlers.get(exchange.route)
        if handler is None:
            return problem(404, f"no route {exchange.route}")
        try:
            reply = handler(exchange, ids)
            return reply if isinstance(reply, Reply) else await reply
        except MissingError as error:
            return problem(404, str(error))
        except (ValueError, KeyError, TypeError) as error:
            return problem(422, f"unreadable request: {type(error).__name__}: {error}")

    def _version(self, exchange: Exchange, ids: Sequence[int | str]) -> Reply:
        script = self._store.script
        offered = {
            Capability.IDEMPOTENCY_KEYS: script.keys,
            Capability.RESULTS_WITH_STATUS: script.results,
            Capability.CANCELLATION: script.cancels,
        }
        return answer(
            {
                "is_compatible": True,
                "required_sdk_version": "0.6.0",
                "capabilities": [name.value for name, here in offered.items() if here],
            }
        )

    def _create_template(self, exchange: Exchange, ids: Sequence[int | str]) -> Reply:
        body = json_in(exchange)
        same_name = [t for t in self._store.templates if t.name == body["name"]]
        for template in same_name:
            if template.messages == body["messages"]:
                return problem(409, "it exists", prompt_template_id=template.id)
        version = len(same_name) + 1
        template = Template(self._store.new_id(), body["name"], version, body["messages"])
        self._store.templates.append(template)
        return answer(template.document(), 201)

    def _templates(self, exchange: Exchange, ids: Sequence[int | str]) -> Reply:
        name = text_in(exchange, "name")
        # The latest version first: a client that asks by name reads the first.
        found = [t for t in reversed(self._store.templates) if name in (None, t.name)]
        return self._page(exchange, [t.document() for t in found])

    def _template(self, exchange: Exchange, ids: Sequence[int | str]) -> Reply:
        return answer(self._store.template(int(ids[0])).document())

    def _create_criteria(self, exchange: Exchange, ids: Sequence[int | str]) -> Reply:
        body = json_in(exchange)
        template = self._store.template(body["prompt_template_id"] or body["criterion_set_id"])
        if body.get("delete_existing"):
            template.criteria.clear()
        if body["criteria"] is None:
            if template.criteria:
                return problem(409, "it has criteria")
            found = self._store.criteria_of(template)
        else:
            known = {criterion.text: criterion for criterion in template.criteria}
            new = {
                one["criterion_str"]: Criterion(
                    self._store.new_id(), one["criterion_str"], one.get("label")
                )
                for one in body["criteria"]
                if one["criterion_str"] not in known
            }
            template.criteria += new.values()
            known |= new
            found = [known[one["criterion_str"]] for one in body["criteria"]]
        return answer([criterion.document() for criterion in found], 201)

    def _criteria(self, exchange: Exchange, ids: Sequence[int | str]) -> Reply:
        template = self._store.template(number_in(exchange, "prompt_template_id") or 0)
        return self._page(exchange, [criterion.document() for criterion in template.criteria])

    def _update_criterion(self, exchange: Exchange, ids: Sequence[int | str]) -> Reply:
        criterion, body = self._store.criterion(int(ids[0])), json_in(exchange)
        criterion.text = body.get("criterion_str", criterion.text)
        criterion.label = body.get("label", criterion.label)
        return answer(criterion.document())

    def _create_collection(self, exchange: Exchange, ids: Sequence[int | str]) -> Reply:
        body = json_in(exchange)
        id = self._store.new_id()
        name = body.get("name") or f"collection {id}"
        if any(name == found.name for found in self._store.collections):
            return problem(409, "the name is taken")
        columns: list[dict[str, Any]] = body.get("columns") or []
        read_only = bool(body.get("read_only"))
        collection = Collection(id, name, body.get("description") or "", columns, read_only)
        self._store.collections.append(collection)
        variables: list[dict[str, Any]] = body.get("variables") or []
        self._store.add_entries(collection, variables, skip_existing=False)
        return answer(self._with_entries(collection), 201)

    def _collections(self, exchange: Exchange, ids: Sequence[int | str]) -> Reply:
        name = text_in(exchange, "name")
        found = [c for c in self._store.collections if name in (None, c.name)]
        return self._page(exchange, [c.document() for c in found])

    def _collection(self, exchange: Exchange, ids: Sequence[int | str]) -> Reply:
        return answer(self._with_entries(self._store.collection(int(ids[0]))))

    def _update_collection(self, exchange: Exchange, ids: Sequence[int | str]) -> Reply:
        collection, body = self._store.collection(int(ids[0])), json_in(exchange)
        name = body.get("name", collection.name)
        if any(name == one.name for one in self._store.collections if one is not collection):
            return problem(409, "the name is taken")
        collection.name = name
        collection.description = body.get("description", collection.description)
        collection.columns = body.get("columns", collection.columns)
        collection.read_only = body.get("read_only", collection.read_only)
        return answer(collection.document())

    @staticmethod
    def _with_entries(collection: Collection) -> dict[str, Any]:
        rows = [json.loads(entry.text) for entry in collection.entries]
        return {**collection.document(), "variables": rows}

    def _entries(self, exchange: Exchange, ids: Sequence[int | str]) -> Reply:
        entries = self._store.collection(int(ids[0])).entries
        return self._page_of_texts(exchange, entries, lambda entry: entry.text)

    def _add_entry(self, exchange: Exchange, ids: Sequence[int | str]) -> Reply:
        collection, values = self._store.collection(int(ids[0])), json_in(exchange)["input_values"]
        created = self._store.add_entries(collection, [values], skip_existing=True)
        entry = next((e for e in collection.entries if e.values == values), None)
        return Reply(201, (created[0] if created else cast("Any", entry)).text.encode())

    def _add_entries(self, exchange: Exchange, ids: Sequence[int | str]) -> Reply:
        file = exchange.body.split(b"\r\n\r\n", 1)[1].rsplit(b"\r\n--", 1)[0]
        values = [json.loads(line) for line in file.splitlines() if line.strip()]
        created = self._store.add_entries(
            self._store.collection(int(ids[0])),
            values,
            skip_existing=text_in(exchange, "skip_existing") == "true",
        )
        return Reply(201, f"[{','.join(entry.text for entry in created)}]".encode())

    def _create_experiment(self, exchange: Exchange, ids: Sequence[int | str]) -> Reply:
        body = json_in(exchange)
        if any(body["name"] == found.name for found in self._store.experiments):
            return problem(409, "the name is taken")
        experiment = Experiment(
            self._store.new_id(),
            body["name"],
            body.get("description") or "",
            self._store.template(body["prompt_template_id"]),
            self._store.collection(body["collection_id"]),
        )
        self._store.experiments.append(experiment)
        return answer(experiment.document(), 201)

    def _experiments(self, exchange: Exchange, ids: Sequence[int | str]) -> Reply:
        name = text_in(exchange, "experiment_name")
        found = [e for e in self._store.experiments if name in (None, e.name)]
        return self._page(exchange, [e.document() for e in found])

    def _experiment(self, exchange: Exchange, ids: Sequence[int | str]) -> Reply:
        return answer(self._store.experiment(int(ids[0])).document())

    def _map(self, exchange: Exchange, ids: Sequence[int | str]) -> Reply:
        if not self._store.script.maps:
            return problem(404, f"no route {exchange.route}")
        size = number_in(exchange, "limit") or 50
        start = ((number_in(exchange, "page") or 1) - 1) * size
        experiment = self._store.experiment(int(ids[0]))
        rows = self._store.listed(experiment.id)
        return answer(map_of(experiment, rows, slice(start, start + size)))

    def _responses(self, exchange: Exchange, ids: Sequence[int | str]) -> Reply:
        query = query_of(exchange)
        wanted = {int(id) for id in query.get("response_ids", [])}
        rows: Iterable[Row]
        if wanted:
            visible = (self._store.rows.get(id) for id in sorted(wanted))
            moment = now()
            rows = self._store.in_order(
                [r for r in visible if r and r.visible_at <= moment and not r.hidden]
            )
        else:
            rows = self._store.listed(number_in(exchange, "experiment_id"))
        for name, attribute in _FILTERS.items():
            if (value := number_in(exchange, name)) is not None:
                rows = [row for row in rows if getattr(row, attribute) == value]
        return self._page_of_texts(exchange, list(rows), lambda row: row.text(now()))

    def _response(self, exchange: Exchange, ids: Sequence[int | str]) -> Reply:
        row = self._store.rows.get(int(ids[0]))
        if row is None or row.visible_at > now() or row.hidden:
            return problem(404, "no such response")
        return Reply(200, row.text(now()).encode())

    def _annotate(self, exchange: Exchange, ids: Sequence[int | str]) -> Reply:
        row = self._store.rows.get(int(ids[0]))
        if row is None:
            return problem(404, "no such response")
        row.annotation = json.dumps(json_in(exchange)["annotation"])
        return Reply(200, row.text(now()).encode())

    def _add_response(self, exchange: Exchange, ids: Sequence[int | str]) -> Reply:
        return Reply(201, self._store.make_row(json_in(exchange), now()).text().encode())

    def _generate(self, exchange: Exchange, ids: Sequence[int | str]) -> Reply:
        items = json_in(exchange)["prompt_response_ins"]
        return self._accepted(self._store.generate(items, exchange.job_script))

    def _rate(self, exchange: Exchange, ids: Sequence[int | str]) -> Reply:
        body = json_in(exchange)
        job = self._store.rate(
            body["prompt_response_ids"], body["rating_mode"], exchange.job_script
        )
        return self._accepted(job)

    def _rate_one(self, exchange: Exchange, ids: Sequence[int | str]) -> Reply:
        body = json_in(exchange)
        made, failure = self._store.make_ratings(
            body["prompt_response_id"], body["rating_mode"], now()
        )
        if failure:
            return problem(424, failure)
        return Reply(201, f"[{','.join(rating.text for rating in made)}]".encode())

    def _ratings(self, exchange: Exchange, ids: Sequence[int | str]) -> Reply:
        row = self._store.rows.get(number_in(exchange, "prompt_response_id") or 0)
        moment = now()
        made = [r for r in row.ratings if r.visible_at <= moment] if row else []
        return self._page_of_texts(exchange, made, lambda rating: rating.text)

    @staticmethod
    def _accepted(job: Job) -> Reply:
        return answer(job.id, 202) if job.total else answer(None, 202)

    def _job(self, ids: Sequence[int | str]) -> Job:
        job = self._store.jobs.get(str(ids[-1]))
        if job is None or job.script.forget:
            raise MissingError("no such job")
        return job

    def _status(self, exchange: Exchange, ids: Sequence[int | str]) -> Reply:
        document = self._job(ids).document(with_results=self._store.script.results)
        return Reply(200, document.encode())

    def _revoke(self, exchange: Exchange, ids: Sequence[int | str]) -> Reply:
        if not self._store.script.cancels:
            return problem(405, "method not allowed")
        if ids:
            self._store.revoke(self._job(ids))
        return Reply(204, b"")

    def _stream(self, exchange: Exchange, ids: Sequence[int | str]) -> Reply:
        return Reply(content_type="text/event-stream", events=self._events(self._job(ids)))

    async def _events(self, job: Job) -> AsyncIterator[bytes]:
        results = self._store.script.results
        while True:
            changed = asyncio.Event()
            job.watchers.append(changed.set)
            yield f"data: {job.document(with_results=results)}\n\n".encode()
            if job.ended:
                return
            while not changed.is_set():
                try:
                    async with asyncio.timeout(_KEEP_ALIVE):
                        await changed.wait()
                except TimeoutError:
                    yield b": still here\n\n"

    def _page(self, exchange: Exchange, documents: Sequence[object]) -> Reply:
        return self._page_of_texts(exchange, documents, json.dumps)

    def _page_of_texts(
        self, exchange: Exchange, rows: Sequence[Any], text: Callable[[Any], str]
    ) -> Reply:
        size = self._store.script.page_size
        start = ((number_in(exchange, "page") or 1) - 1) * size
        items = ",".join(text(row) for row in rows[start : start + size])
        return Reply(200, f'{{"items":[{items}],"count":{len(rows)}}}'.encode())


_FILTERS = {
    "experiment_id": "experiment_id",
    "prompt_template_id": "template_id",
    "template_variables_id": "entry_id",
    "epoch": "epoch",
}
