"""Rows 123 to 125: the journal's call again, when its server or its data are not what they were."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from elluminate_async import AsyncClient, BatchOptions, JournalError, RatingMode
from elluminate_async.server import LocalServer, WireProfile
from elluminate_async.testing import VIRTUAL_TIME
from tests.flow.bench import EchoModel, Recorder, Stage, set_stage, until
from tests.matrix import Fired
from tests.soak.elsewhere import OPERATIONS, WAYS, Case, run_cases


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


VALUES = [f"v{i}" for i in range(8)]
OPTIONS = BatchOptions(chunk_size=4, settle=0.2)
HOSTED = WireProfile.hosted(page_size=5)
GOES_ON = WireProfile(cancellation=False)
"""What a call leaves goes on, as after a kill."""

PROFILES = pytest.mark.parametrize("profile", [None, HOSTED], ids=["keys", "hosted"])


@asynccontextmanager
async def served(
    db: Path, profile: WireProfile | None = None, port: int = 0
) -> AsyncGenerator[Stage]:
    """A stage on a database that is kept."""
    model, recorder = EchoModel(), Recorder()
    async with (
        LocalServer(
            db=db, port=port, api_key="key", model=model, profile=profile, wrap=recorder.wrap
        ) as server,
        AsyncClient(base_url=server.url, api_key="key", options=OPTIONS) as client,
    ):
        yield await set_stage(client, server, model, recorder)


def port_of(stage: Stage) -> int:
    return int(stage.server.url.rsplit(":", 1)[1])


def posts(stage: Stage) -> int:
    return stage.recorder.count("batches$", "POST")


@pytest.mark.row(123)
@pytest.mark.parametrize("way", [way for way in WAYS if way != "moved"])
def test_no_row_of_another_input_is_ever_a_success(way: str, fired: Fired) -> None:
    """Server replaced, restored, ids used again, entries edited: own values or none, each time."""
    cases = [Case(way, operation, seed=0) for operation in OPERATIONS]

    results = run_cases(cases)

    fired(times=len(results))
    assert {case: result.foreign for case, result in results.items() if result.foreign} == {}
    assert sum(result.done for result in results.values()) > 0


@pytest.mark.row(123)
@PROFILES
@pytest.mark.parametrize("operation", ["generate", "rate", "add", "rows"])
async def test_a_replaced_database_is_refused_before_anything_is_sent(
    tmp_path: Path, profile: WireProfile | None, operation: str, fired: Fired
) -> None:
    """At the same address, with the same ids: it is known by its own id, or by its objects."""
    journal = tmp_path / "run"

    async def call(stage: Stage, values: list[str]) -> Any:
        rows = await stage.variables(values)
        client, experiment = stage.client, stage.experiment
        if operation == "rows":
            new = [{"x": f"new {value}"} for value in VALUES]
            return await client.template_variables.add_many(
                new, collection=stage.collection, journal=journal
            )
        if operation == "add":
            return await client.responses.add_many(
                VALUES, template_variables=rows, experiment=experiment, journal=journal
            )
        on = journal if operation == "generate" else None
        responses = await client.responses.generate_many(
            template_variables=rows, experiment=experiment, journal=on
        )
        if operation == "generate":
            return responses
        stage.recorder.requests.clear()
        return await client.ratings.rate_many(responses, journal=journal)

    async with served(tmp_path / "one.db", profile) as stage:
        port = port_of(stage)
        assert not (await call(stage, VALUES)).failed
    async with served(tmp_path / "two.db", profile, port) as stage:
        await stage.variables(VALUES[::-1])
        stage.recorder.requests.clear()
        fired()
        if operation == "rows" and profile is HOSTED:
            # Nothing tells the collections apart, and the rows tell that they are others.
            batch = await call(stage, VALUES)
            assert {error.code for error in batch.failed.values()} == {"no_result"}
            assert len(batch.failed) == len(VALUES)
            return

        said = "differ at position|changed since" if profile is HOSTED else "server was"
        with pytest.raises(JournalError, match=said):
            await call(stage, VALUES[::-1])

        # Of the rows that the call is made for, or of the responses that are to be rated.
        assert posts(stage) == (operation != "rate")


Change = Callable[[Stage], Awaitable[Any]]


async def edit_an_entry(stage: Stage) -> None:
    (row, *_) = await stage.variables(VALUES)
    await stage.client._connection.call(
        "PUT", "collections", stage.collection.id, "entries", row.id,
        body=b'{"input_values": {"x": "edited"}, "prompt_template_id": null}',
    )  # fmt: skip


def in_database(statement: str) -> Change:
    async def change(stage: Stage) -> None:
        def run() -> None:
            with closing(sqlite3.connect(stage.server.db)) as connection, connection:
                connection.execute("PRAGMA foreign_keys = ON")
                connection.execute(statement)

        await asyncio.to_thread(run)

    return change


async def edit_a_criterion(stage: Stage) -> None:
    await stage.client._connection.call("PUT", "criteria", 2, body=b'{"criterion_str": "is it?"}')


async def add_a_criterion(stage: Stage) -> None:
    await stage.client.criteria.add_many(["is it new?"], prompt_template=stage.template)


EDITS: dict[str, tuple[Change, str]] = {
    "template": (
        in_database("UPDATE prompt_templates SET messages = replace(messages, 'say', 'sing')"),
        "prompt_template: content was edited",
    ),
    "configuration": (
        in_database("UPDATE llm_configs SET document = json_set(document, '$.temperature', 0.5)"),
        "llm_config: content was edited",
    ),
    "parameters": (
        in_database("""UPDATE experiments SET generation_params = '{"top_p": 0.5}'"""),
        "experiment: generation_params was edited",
    ),
    "entry": (edit_an_entry, "other inputs: they differ at position 0"),
}
CRITERIA: dict[str, tuple[Change, str]] = {
    "edited": (edit_a_criterion, "criterion 2 was edited"),
    "added": (add_a_criterion, "criterion 4 was added"),
    "removed": (in_database("DELETE FROM criteria WHERE id = 3"), "criterion 3 was removed"),
}


@pytest.mark.row(124)
@PROFILES
@pytest.mark.parametrize("what", EDITS)
async def test_what_a_call_works_with_was_edited(
    tmp_path: Path, profile: WireProfile | None, what: str, fired: Fired
) -> None:
    """The error names the difference, and nothing is sent."""
    change, said = EDITS[what]
    async with served(tmp_path / "server.db", profile) as stage:
        rows = await stage.variables(VALUES)
        journal: dict[str, Any] = {"experiment": stage.experiment, "journal": tmp_path / "run"}
        await stage.client.responses.generate_many(template_variables=rows[:], **journal)
        await change(stage)
        now = {row.id: row for row in await stage.client.template_variables.list(stage.collection)}
        stage.recorder.requests.clear()
        fired()

        with pytest.raises(JournalError, match=said) as caught:
            await stage.client.responses.generate_many(
                template_variables=[now[row.id] for row in rows], **journal
            )

        assert caught.value.path == tmp_path / "run"
        assert posts(stage) == 0


@pytest.mark.row(124)
@PROFILES
@pytest.mark.parametrize("given", ["objects", "ids"])
async def test_an_entry_that_was_edited_has_no_result(
    tmp_path: Path, profile: WireProfile | None, given: str, fired: Fired
) -> None:
    """The caller has it as it was, or only its id: that position alone, and nothing is sent."""
    async with served(tmp_path / "server.db", profile) as stage:
        rows: list[Any] = await stage.variables(VALUES)
        if given == "ids":
            rows = [row.id for row in rows]
        journal: dict[str, Any] = {"experiment": stage.experiment, "journal": tmp_path / "run"}
        await stage.client.responses.generate_many(template_variables=rows, **journal)
        await edit_an_entry(stage)
        stage.recorder.requests.clear()
        fired()

        again = await stage.client.responses.generate_many(template_variables=rows, **journal)
        await again.retry_failed()

        assert list(again.failed) == [0]
        assert again.failed[0].code == "no_result"
        assert not again.failed[0].retryable
        assert "another journal" in again.failed[0].text
        assert [row.response_str for row in again.succeeded.values()] == [
            f"echo say {value}" for value in VALUES[1:]
        ]
        assert posts(stage) == 0


@pytest.mark.row(124)
@PROFILES
async def test_without_a_journal_an_entry_that_was_edited_has_no_result(
    tmp_path: Path,
    profile: WireProfile | None,
    fired: Fired,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The answer to its new value is not the caller's: never a success, and not asked for again."""
    async with served(tmp_path / "server.db", profile) as stage:
        rows = await stage.variables(VALUES)
        await edit_an_entry(stage)
        fired()
        batch = await stage.client.responses.generate_many(
            template_variables=rows, experiment=stage.experiment
        )
        sent = posts(stage)
        await batch.retry_failed()

        assert list(batch.failed) == [0]
        assert batch.failed[0].code == "no_result"
        assert not batch.failed[0].retryable
        assert "upstream" not in caplog.text
        assert [row.response_str for row in batch.succeeded.values()] == [
            f"echo say {value}" for value in VALUES[1:]
        ]
        assert posts(stage) == sent


@pytest.mark.row(123)
@PROFILES
async def test_without_a_journal_rows_of_another_database_have_no_result(
    tmp_path: Path, profile: WireProfile | None, fired: Fired
) -> None:
    """Its entries have the same ids and other values: each position says so."""
    async with served(tmp_path / "one.db", profile) as stage:
        rows = await stage.variables(VALUES)
    async with served(tmp_path / "other.db", profile) as stage:
        await stage.variables(VALUES[::-1])
        fired()
        batch = await stage.client.responses.generate_many(
            template_variables=rows, experiment=stage.experiment
        )

    own = [i for i, value in enumerate(VALUES) if value == VALUES[::-1][i]]
    assert list(batch.succeeded) == own
    assert {error.code for error in batch.failed.values()} == {"no_result"}


@pytest.mark.row(124)
@PROFILES
async def test_an_entry_that_was_edited_while_its_job_ran_has_no_result(
    tmp_path: Path, profile: WireProfile | None, fired: Fired
) -> None:
    """Its job was accepted before and is taken up after: its answer is of the old value."""
    async with served(tmp_path / "server.db", profile or GOES_ON) as stage:
        rows = [row.id for row in await stage.variables(VALUES[:4])]
        journal: dict[str, Any] = {"experiment": stage.experiment, "journal": tmp_path / "run"}
        stage.model.delay = 0.3
        generate = stage.client.responses.generate_many
        task = asyncio.create_task(generate(template_variables=rows, **journal))
        await until(lambda: stage.recorder.count("batches/.*/stream$") > 0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await edit_an_entry(stage)
        fired()

        again = await generate(template_variables=rows, **journal)

        assert list(again.failed) == [0]
        assert again.failed[0].code == "no_result"
        assert [row.response_str for row in again.succeeded.values()] == [
            f"echo say {value}" for value in VALUES[1:4]
        ]


@pytest.mark.row(124)
@PROFILES
@pytest.mark.parametrize("what", CRITERIA)
async def test_criteria_that_were_changed(
    tmp_path: Path, profile: WireProfile | None, what: str, fired: Fired
) -> None:
    """Ratings by other questions are not this call's: refused with the difference."""
    change, said = CRITERIA[what]
    async with served(tmp_path / "server.db", profile) as stage:
        responses = await stage.generate(VALUES)
        rate = stage.client.ratings.rate_many
        await rate(responses, journal=tmp_path / "run")
        await change(stage)
        stage.recorder.requests.clear()
        fired()

        with pytest.raises(JournalError, match=said):
            await rate(responses, journal=tmp_path / "run")

        assert posts(stage) == 0


@pytest.mark.row(124)
async def test_another_rating_mode_is_refused(tmp_path: Path, fired: Fired) -> None:
    """Verdicts without reasoning are no detailed ratings."""
    async with served(tmp_path / "server.db") as stage:
        responses = await stage.generate(VALUES)
        rate = stage.client.ratings.rate_many
        await rate(responses, journal=tmp_path / "run", rating_mode=RatingMode.FAST)
        stage.recorder.requests.clear()
        fired()

        with pytest.raises(JournalError, match="rating_mode was 'fast' and is 'detailed'"):
            await rate(responses, journal=tmp_path / "run")

        assert posts(stage) == 0


@pytest.mark.row(124)
@PROFILES
@pytest.mark.parametrize("given", ["objects", "ids"])
async def test_a_response_that_is_another_one_now_is_not_rated(
    tmp_path: Path, profile: WireProfile | None, given: str, fired: Fired
) -> None:
    """Its id was used again, or it was edited, before the call came to it: nothing is paid."""
    async with served(tmp_path / "server.db", profile) as stage:
        responses: list[Any] = list(await stage.generate(VALUES))
        if given == "ids":
            responses = [response.id for response in responses]
        rate = stage.client.ratings.rate_many
        if given == "ids":
            await rate(responses, journal=tmp_path / "run")
        change = in_database(
            "UPDATE responses SET messages = replace(messages, 'v0', 'v9') WHERE id = 1"
        )
        await change(stage)
        fired()

        again = await rate(responses, journal=tmp_path / "run")

        assert list(again.failed) == [0]
        assert again.failed[0].code == "no_result"
        rated = await stage.client.ratings.list(1)
        assert len(rated) == (3 if given == "ids" else 0)


@pytest.mark.row(125)
def test_a_database_on_another_port_is_taken(fired: Fired) -> None:
    """Its id counts, not its address: what is done is read, the rest is sent, nothing twice."""
    results = run_cases(
        [Case("moved", operation, seed) for operation in OPERATIONS for seed in (0, 2)]
    )

    fired(times=len(results))
    assert {result.refusal for result in results.values()} == {""}
    assert {result.own for result in results.values()} == {6}
    assert sum(result.twice for result in results.values()) == 0
    assert sum(result.done for result in results.values()) > 0


@pytest.mark.row(125)
async def test_a_service_without_an_id_is_known_by_its_address(
    tmp_path: Path, fired: Fired
) -> None:
    """On another port it may be any: refused."""
    async with served(tmp_path / "server.db", HOSTED) as stage:
        await stage.generate(VALUES, journal=tmp_path / "run")
    async with served(tmp_path / "server.db", HOSTED) as stage:
        fired()
        with pytest.raises(JournalError, match="origin was"):
            await stage.generate(VALUES, journal=tmp_path / "run")


async def test_a_server_keeps_its_id(tmp_path: Path) -> None:
    """Made once with the database, also one that was made before there were ids."""
    ids: list[str] = []
    for name in ("one.db", "one.db", "two.db"):
        async with served(tmp_path / name) as stage:
            policy = stage.client._connection.policy()
            ids.append(str(await stage.client._connection.server_id(policy)))
    async with served(tmp_path / "two.db", HOSTED) as stage:
        assert await stage.client._connection.server_id(stage.client._connection.policy()) is None
    with closing(sqlite3.connect(tmp_path / "one.db")) as connection, connection:
        connection.execute("DELETE FROM meta WHERE name = 'server_id'")
    async with served(tmp_path / "one.db") as stage:
        ids.append(str(await stage.client._connection.server_id(stage.client._connection.policy())))

    assert ids[0] == ids[1]
    assert len(set(ids)) == 3
    assert all(len(id) == 32 for id in ids)
