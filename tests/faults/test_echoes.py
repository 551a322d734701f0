"""Row 131: a service, or what stands before it, shows the request in its answers."""

from __future__ import annotations

import io
import json
import pickle
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import Send

from elluminate_async import (
    AsyncClient,
    BatchOptions,
    ElluminateError,
    ItemError,
    OutcomeUnknownError,
)
from elluminate_async.server import LocalServer, ModelAnswer, ModelError, ModelRequest
from elluminate_async.testing import VIRTUAL_TIME, RawServer
from elluminate_async.testing.raw import Connection, Received, reply
from elluminate_async.transport.blotting import Blotter
from tests.faults.echoes import FORMS, shows, sinks_of
from tests.flow.bench import EchoModel, Recorder, Seen, Stage, answer, set_stage
from tests.matrix import Fired


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


PLAIN = "canary-4f9d0c-key-17"
ODD = "ca+na/ry=4f&9d%0c_lt<\"'\\;key~17"
KEYS = [PLAIN, ODD]
PROJECTS = json.dumps({"items": [{"id": 1, "name": "p", "description": ""}], "count": 1}).encode()

Place = Callable[[str], bytes]


def malformed(text: str) -> Place:
    return lambda echo: text.replace("ECHO", echo).encode()


def quoted_in(status: int) -> Place:
    """In a string of JSON; what is no JSON by itself is escaped first."""

    def body(echo: str) -> bytes:
        try:
            json.loads(f'"{echo}"')
        except ValueError:
            echo = json.dumps(echo)[1:-1]
        return reply(status, f'{{"detail": "not allowed: {echo}"}}'.encode())

    return body


def nested(echo: str) -> bytes:
    found = {"detail": [{"loc": ["header", echo], "input": {echo: [1, {"a": echo}]}}]}
    return reply(422, json.dumps(found).encode())


def headers(status: int, **names: str) -> Place:
    return lambda echo: reply(
        status, b"no", **{name: text.replace("ECHO", echo) for name, text in names.items()}
    )


HEAD = "HTTP/1.1 200 OK\r\n"
PLACES: dict[str, Place] = {
    "detail of 400": quoted_in(400),
    "detail of 401": quoted_in(401),
    "detail of 500": quoted_in(500),
    "nested in a detail": nested,
    "a large body": lambda echo: reply(503, (echo + " ").encode() * 6_000),
    "UTF-16": lambda echo: reply(400, json.dumps({"detail": echo}).encode("utf-16")),
    "a page of 502": lambda echo: reply(502, f"<html><p>{echo}</p>".encode()),
    "text at the excerpt's end": lambda echo: reply(502, ("x" * 190 + echo).encode()),
    "a page of 200": lambda echo: reply(200, f"<html>{echo}</html>".encode()),
    "a document of another kind": lambda echo: reply(200, json.dumps({echo: echo}).encode()),
    "X-Request-Id": headers(400, X_Request_Id="ECHO"),
    "X-Request-Id of 200": headers(200, X_Request_Id="ECHO"),
    "Retry-After": headers(503, Retry_After="ECHO"),
    "Location": headers(307, Location="https://evil.test/ECHO"),
    "Location as a host": headers(302, Location="https://ECHO.evil.test/"),
    "Location, same origin": headers(302, Location="/api/v0/ECHO"),
    "Location, no address": headers(302, Location="http://[ECHO/"),
    "Content-Encoding": headers(200, Content_Encoding="ECHO"),
    "Content-Type": headers(200, Content_Type="text/ECHO"),
    "a header of its own": headers(403, X_Echo="ECHO"),
    "reason": malformed("HTTP/1.1 400 ECHO\r\nContent-Length: 2\r\n\r\n{}"),
    "a status line that is none": malformed("ECHO\r\n\r\n"),
    "a version that is none": malformed("HTTP/ECHO 200 OK\r\n\r\n"),
    "a status that is none": malformed("HTTP/1.1 ECHO OK\r\n\r\n"),
    "a header without a colon": malformed(f"{HEAD}X-Echo ECHO\r\n\r\n"),
    "a header's name": malformed(f"{HEAD}ECHO : a\r\n\r\n"),
    "a header with NUL": malformed(f"{HEAD}X-Echo: ECHO\0\r\n\r\n"),
    "a header that is too long": malformed(f"{HEAD}X-Echo: ECHO {'x' * 70_000}\r\n\r\n"),
    "a line that is too long": malformed(f"HTTP/1.1 200 ECHO{'x' * 70_000}\r\n\r\n"),
    "Content-Length": malformed(f"{HEAD}Content-Length: ECHO\r\n\r\n"),
    "a chunk's size": malformed(f"{HEAD}Transfer-Encoding: chunked\r\n\r\nECHO\r\n"),
    "Transfer-Encoding": malformed(f"{HEAD}Transfer-Encoding: ECHO\r\n\r\n{{}}"),
    "a body that is cut": malformed(f"{HEAD}Content-Length: 9999\r\n\r\nECHO"),
    "a body without an end": malformed(f"{HEAD}\r\nECHO"),
    "an answer unasked": malformed("HTTP/1.1 101 ECHO\r\nUpgrade: ECHO\r\n\r\n"),
}


@pytest.mark.row(131)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("key", KEYS, ids=["plain", "odd"])
async def test_an_answer_that_quotes_the_key(
    place: str, key: str, log: io.StringIO, fired: Fired
) -> None:
    """Each form of it, in each place of an answer: in nothing that hangs on the error."""
    echoes = {name: form(key) for name, form in FORMS.items()}
    left = list(echoes.items())
    leaks: list[str] = []

    async def script(received: Received, connection: Connection) -> bytes | None:
        if received.path.endswith("/projects"):
            return reply(200, PROJECTS)
        fired()
        await connection.send(PLACES[place](left[0][1]))
        return None

    async with (
        RawServer(script) as server,
        AsyncClient(
            base_url=server.url,
            api_key=key,
            skip_version_check=True,
            options=BatchOptions(max_attempts=1, attempt_timeout=5),
        ) as client,
    ):
        while left:
            with pytest.raises(ElluminateError) as caught:
                await client.collections.get(id=1)
            for where, text in sinks_of(caught.value, __file__):
                if shows(text, key):
                    leaks.append(f"{left[0][0]} in {where}: {text[:300]}")
            left.pop(0)
        asked = [request.target for request in server.requests]

    assert leaks == []
    assert not shows(log.getvalue(), key)
    assert not shows(" ".join(asked), key)
    assert len(echoes) >= 29


class QuotingModel(EchoModel):
    """Fails at "say 3" with the third of its texts."""

    def __init__(self, texts: list[str]) -> None:
        super().__init__()
        self.texts = texts

    async def complete(self, request: ModelRequest) -> ModelAnswer:
        number = str(request.messages[-1]["content"]).removeprefix("say ")
        raise ModelError(f"not for {self.texts[int(number)]}")


@asynccontextmanager
async def stage_with(key: str, model: EchoModel | None = None) -> AsyncGenerator[Stage]:
    """A stage whose server has this key."""
    model, recorder = model or EchoModel(), Recorder()
    options = BatchOptions(chunk_size=100, max_attempts=1)
    async with (
        LocalServer(model=model, wrap=recorder.wrap, api_key=key) as server,
        AsyncClient(base_url=server.url, api_key=key, options=options) as client,
    ):
        yield await set_stage(client, server, model, recorder)


def events(*lines: str) -> tuple[int, str, dict[str, str]]:
    return 200, "".join(f"{line}\n\n" for line in lines), {"content-type": "text/event-stream"}


def failed(**words: str) -> str:
    return json.dumps({"status": "FAILURE", **words})


Told = tuple[int, str, dict[str, str]]
JOBS: dict[str, Callable[[str, bool], Told]] = {
    "why it failed, streamed": lambda echo, stream: events(f"data: {failed(error_msg=echo)}"),
    "why it failed, polled": lambda echo, stream: (
        (404, echo, {}) if stream else (200, failed(error_msg=echo), {})
    ),
    "a status that is none": lambda echo, stream: (
        events(f"data: {json.dumps({'status': echo, 'logs_delta': echo})}")
        if stream
        else (404, "{}", {})
    ),
    "events that are none": lambda echo, stream: (
        events(f": {echo}", f"data: {echo}", f"event: {echo}\ndata: 1", f"id: {echo}\ndata: 2")
        if stream
        else (401, echo, {})
    ),
    "logs": lambda echo, stream: (
        events(f"data: {json.dumps({'status': 'STARTED', 'logs_delta': echo})}")
        if stream
        else (403, json.dumps({"detail": echo}), {"x-request-id": echo})
    ),
    "no stream": lambda echo, stream: (200, echo, {"content-type": "text/html"}),
    "a stream in an encoding": lambda echo, stream: (
        200,
        "data: 1\n\n",
        {"content-type": "text/event-stream", "content-encoding": echo.replace("\n", "")},
    ),
    "the job's name": lambda echo, stream: (404, "{}", {}),
}


@pytest.mark.row(131)
@pytest.mark.parametrize("how", JOBS)
@pytest.mark.parametrize("key", KEYS, ids=["plain", "odd"])
async def test_a_job_that_quotes_the_key(
    how: str, key: str, log: io.StringIO, fired: Fired
) -> None:
    """In its stream, its status, its name: in nothing that hangs on the error, in no URL."""
    leaks: list[str] = []
    forms = list(FORMS)
    async with stage_with(key) as stage:

        async def tell(seen: Seen, send: Send) -> bool:
            found = re.search("/experiments/([0-9]+)/(run|generation)", seen.path)
            if found is None:
                return False
            echo = FORMS[forms[int(found[1])]](key)
            if found[2] == "run":
                fired()
                job = echo if how == "the job's name" else "job-1"
                update = {"id": int(found[1]), "generation_task_id": job}
                told = stage.experiment.model_copy(update=update)
                await answer(send, 200, told.model_dump_json().encode())
                return True
            status, body, headers = JOBS[how](echo, seen.path.endswith("/stream"))
            await answer(send, status, body.encode(), headers)
            return True

        async def run(number: int, name: str) -> None:
            with pytest.raises((ElluminateError, OutcomeUnknownError)) as caught:
                await stage.client.experiments.run(number, timeout=1.5)
            leaks.extend(
                f"{name} in {where}: {text[:300]}"
                for where, text in sinks_of(caught.value, __file__)
                if shows(text, key)
            )

        stage.recorder.before = tell
        async with anyio.create_task_group() as tasks:
            for number, name in enumerate(forms):
                tasks.start_soon(run, number, name)
        paths = [seen.path for seen in stage.recorder.requests]

    assert leaks == []
    assert not shows(log.getvalue(), key)
    assert not [path for path in paths if shows(path, key)]


@pytest.mark.row(131)
@pytest.mark.parametrize("key", KEYS, ids=["plain", "odd"])
async def test_rows_that_quote_the_key(
    key: str, log: io.StringIO, tmp_path: Path, fired: Fired
) -> None:
    """What the model's and the judge's failures say of an item, its pickle and the journal."""
    echoes = [form(key) for form in FORMS.values()]
    numbers = [str(number) for number in range(len(echoes))]
    async with stage_with(key, QuotingModel(echoes)) as stage:
        responses = await stage.generate(numbers, journal=tmp_path / "run")
        single: list[ItemError] = []
        for row in (await stage.variables(numbers))[::5]:
            with pytest.raises(ItemError) as caught:
                await stage.client.responses.generate(
                    template_variables=row, experiment=stage.experiment
                )
            single.append(caught.value)
        fired(times=len(echoes))
    texts = [str(pickle.dumps(responses)), repr(responses)]
    for error in [*responses.failed.values(), *single]:
        texts += [str(error.to_dict()), *(text for _, text in sinks_of(error, __file__))]

    assert len(responses.failed) == len(echoes)
    assert [text[:300] for text in texts if shows(text, key)] == []
    assert not shows((tmp_path / "run").read_bytes().decode(), key)
    assert not shows(log.getvalue(), key)


@pytest.mark.row(131)
async def test_a_batch_that_is_refused_with_the_key(
    log: io.StringIO, tmp_path: Path, fired: Fired
) -> None:
    """A chunk's refusal, the error that ends a call and its partial, and the journal of both."""
    key = ODD
    async with stage_with(key) as stage:
        rows = await stage.variables([str(i) for i in range(len(FORMS))])
        for status in (401, 422, 500):
            left = [form(key) for form in FORMS.values()]

            async def refuse(
                seen: Seen, send: Send, left: list[str] = left, status: int = status
            ) -> bool:
                if not seen.path.endswith("/batches"):
                    return False
                fired()
                echo = left[0] if len(left) == 1 else left.pop()
                body = json.dumps({"detail": echo}).encode()
                await answer(send, status, body, {"x-request-id": echo})
                return True

            stage.recorder.before = refuse
            journal = tmp_path / str(status)
            arguments: Any = {
                "template_variables": rows,
                "experiment": stage.experiment,
                "journal": journal,
                "options": stage.client.options.replace(chunk_size=1, max_concurrency=1),
            }
            shown: list[str] = []
            try:
                batch = await stage.client.responses.generate_many(**arguments)
            except ElluminateError as error:
                shown += [text for _, text in sinks_of(error, __file__)]
                batch = error.partial
            shown += [str(pickle.dumps(batch)), str(pickle.dumps([*batch.outcomes]))]
            for failure in batch.failed.values():
                shown += [str(failure.to_dict()), *(t for _, t in sinks_of(failure, __file__))]
            assert [text[:300] for text in shown if shows(text, key)] == []
            assert not shows(journal.read_bytes().decode(), key)

    assert not shows(log.getvalue(), key)


def test_what_is_no_key_stays() -> None:
    """A short credential, a short part of one and what is only escaped are left as they are."""
    text = json.dumps({"a": "100 % of \u00fc & <b> \\ key=41 canary-4f9d"})
    blotter = Blotter(PLAIN)

    assert blotter.text(text) == text
    assert blotter.blotted(text.encode()) == text.encode()
    assert Blotter("canary").text("a canary") == "a canary"
    assert Blotter().text(PLAIN) == PLAIN


@given(
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=8, max_size=60),
    st.sampled_from([*FORMS.values()]),
    st.text(max_size=30),
    st.text(max_size=30),
)
@settings(max_examples=300, deadline=None)
def test_any_key_is_blotted(key: str, form: Callable[[str], str], before: str, after: str) -> None:
    """Whatever it is made of, whatever it stands in: the text has no twelve characters of it."""
    blotted = Blotter(key).text(f"{before} {form(key)} {after}")

    assert not shows(blotted, key) or shows(f"{before} *** {after}", key)


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_bytes_may_be_blotted(data: bytes) -> None:
    """No bytes raise, and what holds no key comes back as it was."""
    assert Blotter("0123456789-nowhere").blotted(data) == data
