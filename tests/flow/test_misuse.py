"""Bad input: a typed error whose text says what to do, before any request where possible."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Send

from elluminate_async import (
    AsyncClient,
    AuthenticationError,
    Batch,
    BatchOptions,
    ClientClosedError,
    ConfigurationError,
    ConnectError,
    InputError,
    NotFoundError,
    RateLimit,
    ServiceUnavailableError,
    WrongEventLoopError,
)
from elluminate_async.server import LocalServer
from elluminate_async.testing import VIRTUAL_TIME
from tests.flow.bench import Seen, Stage, answer


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


def test_no_key_says_where_one_can_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any credential the constructor says which argument and variable to set."""
    monkeypatch.delenv("ELLUMINATE_API_KEY", raising=False)
    monkeypatch.delenv("ELLUMINATE_OAUTH_TOKEN", raising=False)

    with pytest.raises(ConfigurationError, match=r"api_key=.*ELLUMINATE_API_KEY"):
        AsyncClient()


async def test_a_wrong_key_is_found_on_entering() -> None:
    """The first exchange tells that the key is refused, and nothing stays open."""
    async with LocalServer() as server:
        with pytest.raises(AuthenticationError):
            async with AsyncClient(base_url=server.url, api_key="wrong"):
                raise AssertionError("entered")


async def test_an_unreachable_server_is_named(unused_port: int) -> None:
    """The text names the address and what to check; nothing was sent."""
    url = f"http://127.0.0.1:{unused_port}"
    with pytest.raises(ConnectError, match=rf"127.0.0.1:{unused_port}.*base_url") as caught:
        async with AsyncClient(base_url=url, api_key="k", options=BatchOptions(retry_for=0)):
            raise AssertionError("entered")
    assert caught.value.sent is False
    assert caught.value.attempts == 1


async def test_an_unreachable_server_is_waited_for_a_little(unused_port: int) -> None:
    """Entering tries for some seconds, far less than `retry_for`, and then says since when."""
    started = time.monotonic()
    with pytest.raises(ServiceUnavailableError, match=rf"127.0.0.1:{unused_port}") as caught:
        async with AsyncClient(base_url=f"http://127.0.0.1:{unused_port}", api_key="k"):
            raise AssertionError("entered")

    assert time.monotonic() - started < BatchOptions().retry_for / 2
    assert caught.value.attempts > 1
    assert not caught.value.ambiguous


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("project", [4711, "no such project"])
async def test_an_unknown_project_names_those_there_are(project: int | str) -> None:
    """The error lists what the key sees."""
    async with LocalServer() as server:
        with pytest.raises(NotFoundError, match="it sees 1 "):
            async with AsyncClient(base_url=server.url, api_key=server.api_key, project=project):
                raise AssertionError("entered")


async def test_a_project_is_chosen_by_id_or_name() -> None:
    """Both choose it, and `projects.current` tells."""
    async with LocalServer() as server:
        async with AsyncClient(base_url=server.url, api_key=server.api_key) as client:
            project = await client.projects.current()
        for wanted in (project.id, project.name):
            async with AsyncClient(
                base_url=server.url, api_key=server.api_key, project=wanted
            ) as client:
                assert (await client.projects.current()).id == project.id


async def test_a_missing_placeholder_is_found_before_sending(stage: Stage) -> None:
    """The text names position, placeholder and what the row has; no request goes out."""
    rows = await stage.client.template_variables.add_many(
        [{"x": "a"}, {"y": "b"}], collection=stage.collection
    )
    stage.recorder.requests.clear()

    with pytest.raises(InputError, match=r"template_variables\[1\] .*\{\{x\}\}; it has .*y"):
        await stage.client.responses.generate_many(
            template_variables=list(rows), experiment=stage.experiment
        )
    with pytest.raises(InputError, match=r"\{\{x\}\}"):
        await stage.client.responses.generate(
            template_variables=rows[1], experiment=stage.experiment
        )
    assert stage.recorder.requests == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("text", r"values\[1\] must be a mapping"),
        ({1: "a"}, r"values\[1\]: a column name must be a string"),
        ({"x": object()}, r"values\[1\] cannot be written as JSON"),
        ({"x": float("nan")}, r"values\[1\] cannot be written as JSON"),
    ],
)
async def test_a_row_of_the_wrong_type_is_named(stage: Stage, value: Any, text: str) -> None:
    """A bad row of a sequence stops the upload before it begins."""
    with pytest.raises(InputError, match=text):
        await stage.client.template_variables.add_many(
            [{"x": "a"}, value], collection=stage.collection
        )
    assert stage.recorder.requests == []


async def test_arguments_that_do_not_fit_are_refused(stage: Stage) -> None:
    """Both or no source, another template, the whole of a get_or_create: each says what to do."""
    generate_many: Any = stage.client.responses.generate_many
    pair = await stage.client.experiments.get_or_create(
        "run", prompt_template=stage.template, collection=stage.collection
    )
    stage.recorder.requests.clear()

    with pytest.raises(InputError, match="either template_variables= or collection="):
        await generate_many(experiment=stage.experiment)
    with pytest.raises(InputError, match="either template_variables= or collection="):
        await generate_many(
            experiment=stage.experiment, template_variables=[1], collection=stage.collection
        )
    with pytest.raises(InputError, match="take the first of the two"):
        await generate_many(experiment=pair, template_variables=[1])
    with pytest.raises(InputError, match="generates from the experiment's"):
        await generate_many(
            experiment=stage.experiment, template_variables=[1], prompt_template=999
        )
    with pytest.raises(ConfigurationError, match="BatchOptions"):
        await generate_many(experiment=stage.experiment, template_variables=[1], options={"a": 1})
    with pytest.raises(InputError, match=r"RatingMode\.FAST"):
        await stage.client.ratings.rate_many([1], rating_mode="quick")  # type: ignore[arg-type]
    assert stage.recorder.requests == []


async def test_an_experiment_of_that_name_on_something_else_is_refused(stage: Stage) -> None:
    """`get_or_create` does not hand out an experiment whose responses would mix."""
    other, _ = await stage.client.prompt_templates.get_or_create("other {{x}}", name="Other")

    with pytest.raises(InputError, match="another prompt_template"):
        await stage.client.experiments.get_or_create(
            "run", prompt_template=other, collection=stage.collection
        )


async def test_an_experiment_on_another_model_or_judge_is_refused(stage: Stage) -> None:
    """Only what is given is compared, and what fits gives the experiment that is there."""
    client = stage.client
    model = await client.llm_configs.create("B", "b")
    judge = await client.criterion_sets.create("S", ["Other?"])
    get_or_create = partial(
        client.experiments.get_or_create,
        prompt_template=stage.template,
        collection=stage.collection,
    )
    made, _ = await get_or_create(
        "own", llm_config=model, criterion_set=judge, generation_params={"top_p": 0.5}
    )

    cases: list[tuple[dict[str, Any], str | None]] = [
        ({"llm_config": made.llm_config}, None),
        ({"criterion_set": judge, "generation_params": {"top_p": 0.5}}, None),
        ({"llm_config": stage.experiment.llm_config}, "llm_config"),
        ({"criterion_set": stage.experiment.criterion_set}, "criterion_set"),
        ({"generation_params": {"top_p": 0.6}}, "generation_params"),
    ]
    for changes, what in cases:
        if what is None:
            assert await get_or_create("own", **changes) == (made, False)
        else:
            with pytest.raises(InputError, match=f"'own' exists with another {what}"):
                await get_or_create("own", **changes)


async def test_a_closed_client_says_so(stage: Stage) -> None:
    """Every call on a closed client fails at once, and closing again is fine."""
    await stage.client.close()
    await stage.client.close()

    with pytest.raises(ClientClosedError, match="new AsyncClient"):
        await stage.client.collections.list()
    with pytest.raises(ClientClosedError):
        await stage.client.responses.generate_many(
            template_variables=[1], experiment=stage.experiment
        )


def test_a_second_event_loop_is_refused(tmp_path: Path) -> None:
    """A client used in a second `asyncio.run` says to make one per loop, instead of hanging."""
    clients: list[AsyncClient] = []

    async def first() -> None:
        async with LocalServer() as server:
            client = AsyncClient(base_url=server.url, api_key=server.api_key)
            clients.append(client)
            await client.collections.list()
            await client._connection.transport._session._sessions[False].close()

    async def second() -> None:
        await clients[0].collections.list()

    asyncio.run(first())
    with pytest.raises(WrongEventLoopError, match="one AsyncClient per loop"):
        asyncio.run(second())


def test_one_options_object_serves_three_loops() -> None:
    """Options hold no state of a loop: the same object in three successive runs."""
    options = BatchOptions(rate_limit=RateLimit(1000, 1.0))

    async def run() -> None:
        async with (
            LocalServer() as server,
            AsyncClient(base_url=server.url, api_key=server.api_key, options=options) as client,
        ):
            await client.collections.list()

    for _ in range(3):
        asyncio.run(run())


async def test_a_client_works_without_the_with(stage: Stage) -> None:
    """The first call does what entering does, also when several come at once."""
    client = AsyncClient(base_url=stage.server.url, api_key=stage.server.api_key)
    stage.recorder.requests.clear()
    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(5):
                tasks.create_task(client.prompt_templates.get("Echo"))
    finally:
        await client.close()

    assert stage.recorder.count("projects$") == 1
    assert stage.recorder.count("version/compatible$") <= 1


async def test_the_version_check_can_be_left_out(stage: Stage) -> None:
    """With `skip_version_check` none is sent, and the batch still has its positions."""
    stage.recorder.requests.clear()
    async with AsyncClient(
        base_url=stage.server.url, api_key=stage.server.api_key, skip_version_check=True
    ) as client:
        rows = await client.template_variables.add_many(
            [{"x": "a"}, {"x": "b"}], collection=stage.collection
        )
        batch: Batch[Any] = await client.responses.generate_many(
            template_variables=rows, experiment=stage.experiment
        )

    assert [response.response_str for response in batch] == ["echo say a", "echo say b"]
    assert stage.recorder.count("version/compatible$") == 0


async def test_a_journal_needs_no_version_check(stage: Stage, tmp_path: Path) -> None:
    """Without one nothing is known of the server, and what is done is taken all the same."""
    (row,) = await stage.variables(["a"])
    async with AsyncClient(
        base_url=stage.server.url, api_key=stage.server.api_key, skip_version_check=True
    ) as client:
        for _ in range(2):
            batch: Batch[Any] = await client.responses.generate_many(
                template_variables=[row], experiment=stage.experiment, journal=tmp_path / "j"
            )
            assert batch[0].response_str == "echo say a"

    assert stage.model.answered.total() == 1


async def test_a_service_without_a_version_check(stage: Stage) -> None:
    """Where it has no such route nothing is told, and that is no error."""

    async def without(seen: Seen, send: Send) -> bool:
        if not seen.path.endswith("version/compatible"):
            return False
        await answer(send, 404, b'{"detail": "Not found"}')
        return True

    assert await stage.client.compatibility() is not None
    stage.recorder.before = without
    assert await stage.client.compatibility() is None


@pytest.mark.parametrize("kind", [asyncio.CancelledError, StopAsyncIteration])
@pytest.mark.parametrize("streamed", [False, True], ids=["call", "stream"])
@pytest.mark.parametrize("journalled", [False, True], ids=["", "journal"])
async def test_an_input_that_raises_a_cancellation_is_named(
    stage: Stage,
    tmp_path: Path,
    streamed: bool,
    journalled: bool,
    kind: type[BaseException],
) -> None:
    """Nobody cancelled the call, nor closed its client, and it is not at its end."""

    def rows() -> Iterator[int]:
        yield ready.id
        raise kind("mine")

    ready = (await stage.variables(["a"]))[0]
    arguments: dict[str, Any] = {
        "template_variables": rows(),
        "experiment": stage.experiment,
        "journal": tmp_path / "run" if journalled else None,
    }

    async def call() -> None:
        if not streamed:
            await stage.client.responses.generate_many(**arguments)
            return
        async for _ in stage.client.responses.stream_generate_many(**arguments):
            pass

    with pytest.raises(InputError, match=r"the input raised \w+\('mine'\)") as caught:
        await call()

    assert isinstance(caught.value.__cause__, kind)
    assert not (await stage.generate(["b"])).failed


async def test_a_ping_takes_no_odd_number(stage: Stage) -> None:
    """Nothing is asked, and it does not wait for ever."""
    odd: list[Any] = [10**400, 10**5000, float("inf"), float("nan"), -1, 0, True, "1", None]
    for timeout in odd:
        with pytest.raises(InputError, match="timeout must be a finite number of seconds above 0"):
            await stage.client.ping(timeout)
    assert stage.recorder.requests == []


@pytest.mark.parametrize("project", [True, 1.5, ("a", 1)])
def test_a_project_is_told_by_id_or_name(project: Any) -> None:
    """True is not taken for the project 1."""
    with pytest.raises(ConfigurationError, match="project must be its id or its name"):
        AsyncClient(api_key="k", project=project)
