"""Rows 103, 104, 118, 119 and 120: what would get into headers, paths, terminals, logs or code."""

from __future__ import annotations

import ast
import asyncio
import io
import json
import logging
import pickle
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from starlette.types import Send

from elluminate_async import (
    AsyncClient,
    BatchOptions,
    ConfigurationError,
    ConnectError,
    ElluminateError,
    GenerationError,
    InputError,
    NotFoundError,
)
from elluminate_async.cli import output
from elluminate_async.cli.flow import FlowResult
from elluminate_async.testing import VIRTUAL_TIME, RawServer
from elluminate_async.testing.raw import replies, reply
from tests.flow.bench import Seen, Stage, answer
from tests.flow.conftest import staged
from tests.matrix import Fired
from tests.transport.test_http_faults import certificate


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


PACKAGE = Path(__file__).parents[2] / "elluminate_async"
BAD_IDS = ["../../x", "1?x=", "%2f", "1/../2", "\r\nX-Evil: 1", "", None, True]


@pytest.mark.row(103)
@pytest.mark.parametrize("project", ["p\r\nX-Evil: 1", "\u00fcbersicht", "a\x00b", "../x"])
async def test_a_projects_name_gets_into_no_request(project: str, fired: Fired) -> None:
    """It is compared with what the service lists, so nothing in it reaches the wire."""
    async with staged() as stage:
        stage.recorder.requests.clear()
        fired()
        with pytest.raises(NotFoundError, match="does not see the project") as caught:
            async with AsyncClient(
                base_url=stage.server.url, api_key=stage.server.api_key, project=project
            ):
                raise AssertionError("entered")
        seen = [*stage.recorder.requests]

    assert {request.path for request in seen} <= {"/api/v0/projects", "/api/v0/version/compatible"}
    assert not [request for request in seen if "x-evil" in request.headers]
    assert "\n" not in str(caught.value)


def calls_with(stage: Stage, bad: Any) -> list[Callable[[], Coroutine[Any, Any, object]]]:
    """Each way of a user's that puts an id into a path or a query."""
    client, row = stage.client, 1
    return [
        lambda: client.responses.get(bad),
        lambda: client.responses.delete(bad),
        lambda: client.responses.generate(template_variables=row, experiment=bad),
        lambda: client.responses.generate(template_variables=bad, experiment=stage.experiment),
        lambda: client.responses.generate_many(template_variables=[row], experiment=bad),
        lambda: client.responses.generate_many(
            template_variables=[bad], experiment=stage.experiment
        ),
        lambda: client.ratings.rate(bad),
        lambda: client.ratings.rate_many([bad]),
        lambda: client.template_variables.get(bad, collection=stage.collection),
        lambda: client.template_variables.get(row, collection=bad),
        lambda: client.template_variables.add_many([{"x": "a"}], collection=bad),
        lambda: client.criteria.add_many(["is it?"], prompt_template=bad),
    ]


@pytest.mark.row(104)
@pytest.mark.parametrize("bad", BAD_IDS, ids=repr)
async def test_an_id_that_is_none_gets_into_no_path(bad: Any, fired: Fired) -> None:
    """Refused before anything is sent, by every method that takes an id."""
    async with staged() as stage:
        for call in calls_with(stage, bad):
            fired()
            with pytest.raises(InputError):
                await call()

        assert stage.recorder.requests == []


@pytest.mark.row(104)
@pytest.mark.parametrize("job", ["../../projects", "1?x=", "%2f..", "a/b#c", "\u00fc\n"])
async def test_a_jobs_id_stays_one_segment(job: str, fired: Fired) -> None:
    """The service's own string goes into a path quoted, wherever it would lead."""
    targets: list[bytes] = []
    async with staged(options=BatchOptions(chunk_size=10, deadline=2.0)) as stage:

        async def name(seen: Seen, send: Send) -> bool:
            fired()
            await answer(send, 202, json.dumps(job).encode())
            return True

        stage.recorder.after = name
        app = stage.recorder.app

        async def watch(scope: Any, receive: Any, send: Any) -> None:
            assert app is not None
            if "/responses/batches" in scope["path"] and scope["method"] == "GET":
                targets.append(scope["raw_path"])
                await answer(send, 404, b'{"detail": "no such task"}')
                return
            await app(scope, receive, send)

        stage.recorder.app = watch
        batch = await stage.generate(["a"])

    assert {error.code for error in batch.failed.values()} == {"outcome_unknown"}
    assert targets
    for target in targets:
        head, _, rest = target.partition(b"/responses/batches/")
        assert head.startswith(b"/api/v0/projects/")
        assert rest.removesuffix(b"/stream").count(b"/") == 0
        assert b"?" not in target
        assert b"#" not in target


EVIL = "\x1b[2J\x1b]0;owned\x07 \u202egnp.exe\u2066 ok\nERROR root: forged\r\x9b31m"


@pytest.mark.row(118)
async def test_what_a_service_says_forges_no_line_of_a_log(fired: Fired) -> None:
    """Control characters, bidirectional ones and line ends are escaped in logs and errors."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("elluminate_async")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    errors: list[ElluminateError] = []
    try:
        async with staged(options=BatchOptions(retry_for=0.3)) as stage:
            (row,) = await stage.variables(["a"])

            detail = json.dumps({"detail": EVIL}).encode()
            left = [(400, detail), (503, detail), (403, EVIL.encode()), (200, EVIL.encode())]

            async def fault(seen: Seen, send: Send) -> bool:
                fired()
                await answer(send, *left[0])
                return True

            stage.recorder.before = fault
            while left:
                try:
                    await stage.client.responses.generate(
                        template_variables=row, experiment=stage.experiment
                    )
                except ElluminateError as error:
                    errors.append(error)
                left.pop(0)
            stage.recorder.before = None
            stage.model.failing = lambda prompt: True
            errors += (await stage.generate([EVIL])).failed.values()
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)

    assert len(errors) == 5
    assert all(str(error).isprintable() for error in errors)
    for line in text.getvalue().splitlines():
        assert line.isprintable()
        assert line.startswith(
            ("DEBUG elluminate_async:", "INFO elluminate_async:", "WARNING elluminate_async:")
        )


@pytest.mark.row(118)
async def test_what_a_service_says_drives_no_terminal(fired: Fired) -> None:
    """The demo's tables, titles and failures: no escape, no forged line of its own."""
    forged = EVIL + "\ndemo: 1 generated, 1 rated, 0 failed in 0.0 s"
    async with staged() as stage:
        await stage.client.criteria.add_many([f"is it {forged}?"], prompt_template=stage.template)
        stage.model.failing = lambda prompt: prompt.endswith("bad")
        responses = await stage.generate([forged, "bad"])
        ratings = await stage.client.ratings.rate_many(responses)
        error = GenerationError(forged, position=1, operation="generate")
        criteria = await stage.client.criteria.list(prompt_template=stage.template)
    result = FlowResult(criteria, stage.experiment, responses, type(ratings)([ratings[0], error]))
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=100, color_system=None)
    fired()

    output.show_pass_rates(console, result)
    output.show_failures(console, result)
    plain = text.getvalue()
    output.show_examples(console, result)

    assert not [line for line in plain.splitlines() if line.startswith(("demo:", "ERROR"))]
    shown = text.getvalue()
    for character in "\x1b\x07\x9b\r\u202e\u2066":
        assert character not in shown


@pytest.mark.row(119)
async def test_no_client_can_be_made_that_does_not_verify(fired: Fired) -> None:
    """A context without verification is refused where it is passed, and there is no other way."""
    blind = ssl.create_default_context()
    blind.check_hostname = False
    nameless = ssl.create_default_context()
    nameless.check_hostname = False
    blind.verify_mode = ssl.CERT_NONE
    for context in (blind, nameless):
        fired()
        with pytest.raises(ConfigurationError, match="does not verify"):
            AsyncClient(api_key="k", ssl_context=context)
    AsyncClient(api_key="k", ssl_context=ssl.create_default_context())


@pytest.mark.row(119)
@pytest.mark.parametrize("what", ["key log", "unknown authority", "old protocol", "plain answer"])
async def test_tls_is_not_talked_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fired: Fired, what: str
) -> None:
    """Whatever the other side offers or the environment says: refused before a byte is sent."""
    offered = certificate(tmp_path)
    trusted: ssl.SSLContext | None = None
    if what == "key log":
        monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys.log"))
        monkeypatch.setenv("PYTHONHTTPSVERIFY", "0")
    if what == "old protocol":
        trusted = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
        with pytest.warns(DeprecationWarning, match="TLSv1_1 is deprecated"):
            offered.maximum_version = ssl.TLSVersion.TLSv1_1
    plain = what == "plain answer"
    ok = replies(reply(200, b'{"items": [], "count": 0}'))
    async with RawServer(ok, ssl_context=None if plain else offered) as server:
        client = AsyncClient(
            base_url=server.url.replace("http:", "https:").replace("127.0.0.1", "localhost"),
            api_key="k",
            ssl_context=trusted,
            skip_version_check=True,
            options=BatchOptions(max_attempts=1, connect_timeout=0.5),
        )
        fired()
        with pytest.raises(ConnectError) as caught:
            await client.projects.list()
        await client.close()

    assert (caught.value.sent, server.requests) == (False, [])


@pytest.mark.row(120)
def test_nothing_that_executes_data_is_in_the_package(fired: Fired) -> None:
    """No pickle, marshal or shelve is imported, no eval, exec or compile called.

    Of YAML nothing but its safe loader is used.
    """
    modules = sorted(PACKAGE.rglob("*.py"))
    banned = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle"}
    of_yaml = {"SafeLoader", "load", "MappingNode", "MarkedYAMLError", "YAMLError"}
    found: list[str] = []
    for path in modules:
        fired()
        for node in ast.walk(ast.parse(path.read_text())):
            names: set[str] = set()
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "yaml":
                found += [f"{path.name}: yaml.{name}" for name in {node.attr} - of_yaml]
            if isinstance(node, ast.Import):
                names = {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names = {(node.module or "").partition(".")[0]}
                if "yaml" in names:
                    found.append(f"{path.name}: from yaml")
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                names = {node.func.id} & {"eval", "exec", "compile", "__import__"}
                found += [f"{path.name}:{node.lineno} {name}" for name in names]
            found += [f"{path.name}: {name}" for name in names & banned]

    assert found == []


class Bomb:
    """What leaves a file behind when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (open, (self.path, "w"))


@pytest.mark.row(120)
@pytest.mark.parametrize("kind", ["pickle", "yaml", "python"])
async def test_an_answer_that_is_code_is_not_run(tmp_path: Path, fired: Fired, kind: str) -> None:
    """An error of ours quotes its beginning, and nothing happens."""
    mark = tmp_path / "mark"
    body = {
        "pickle": pickle.dumps(Bomb(str(mark))),
        "yaml": f"!!python/object/apply:builtins.open ['{mark}', 'w']".encode(),
        "python": f"open('{mark}', 'w')".encode(),
    }[kind]
    async with staged() as stage:

        async def spoil(seen: Seen, send: Send) -> bool:
            fired()
            await answer(send, 200, body, {"content-type": f"application/x-{kind}"})
            return True

        stage.recorder.before = spoil
        with pytest.raises(ElluminateError):
            await stage.client.collections.list()
        await asyncio.sleep(0)

    assert not mark.exists()
