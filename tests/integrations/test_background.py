"""Jobs that outlive the request that asked for them, and the process."""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import os
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from elluminate_async import (
    AsyncClient,
    Batch,
    ClientClosedError,
    ConfigurationError,
    InputError,
    ItemError,
    Progress,
    RateLimitError,
)
from elluminate_async.integrations import background
from elluminate_async.integrations.background import (
    Background,
    BackgroundStatus,
    Job,
    NameTakenError,
)
from tests.evaluation.scene import CRITERIA, PROMPT, evaluating, words
from tests.integrations.hosting import Work


@asynccontextmanager
async def a_client() -> AsyncGenerator[AsyncClient]:
    client = AsyncClient(api_key="k", base_url="http://127.0.0.1:9")
    yield client
    await client.close()


async def ended(jobs: Background, name: str) -> BackgroundStatus:
    with anyio.fail_after(30):
        while True:
            status = await jobs.status(name)
            assert status is not None
            if status.status in ("succeeded", "failed"):
                return status
            await anyio.sleep(0.01)


async def test_a_job_is_done_and_its_result_kept(tmp_path: Path) -> None:
    """It is given the client, what was asked for, and a directory; any process reads the end."""

    async def double(client: AsyncClient, job: Job) -> Any:
        assert job.directory == tmp_path / job.name
        return {"doubled": [2 * number for number in job.request], "by": client.base_url}

    jobs = Background(tmp_path, double)
    async with a_client() as client, jobs.running(client):
        started = await jobs.start("one", [1, 2])
        assert started.status == "running"
        await ended(jobs, "one")

    elsewhere = await Background(tmp_path, double).status("one")
    assert elsewhere == BackgroundStatus(
        name="one",
        status="succeeded",
        result={"doubled": [2, 4], "by": "http://127.0.0.1:9"},
    )
    assert await jobs.status("two") is None


async def test_the_same_again_is_the_same_job(tmp_path: Path) -> None:
    """While it runs and after; another request under its name is refused."""
    begun: list[str] = []
    go = asyncio.Event()

    async def work(client: AsyncClient, job: Job) -> int:
        begun.append(job.name)
        await go.wait()
        return 1

    jobs = Background(tmp_path, work)
    async with a_client() as client, jobs.running(client):
        await asyncio.gather(*[jobs.start("one", {"a": 1, "b": 2}) for _ in range(5)])
        with pytest.raises(NameTakenError, match="'one'"):
            await jobs.start("one", {"a": 2})
        go.set()
        await ended(jobs, "one")
        assert (await jobs.start("one", {"b": 2, "a": 1})).status == "succeeded"

    assert begun == ["one"]


async def test_what_is_left_is_taken_up_at_the_next_start(tmp_path: Path) -> None:
    """A stop cancels a job where it is and leaves no outcome."""
    work = Work()

    async def forever(client: AsyncClient, job: Job) -> None:
        await work.forever()

    async def quick(client: AsyncClient, job: Job) -> Any:
        return job.request

    jobs = Background(tmp_path, forever)
    async with a_client() as client, jobs.running(client):
        await jobs.start("one", "what")
        await work.wait_begun(1)
    assert work.ended == ["cancelled"]
    status = await jobs.status("one")
    assert status is not None
    assert status.status == "pending"

    again = Background(tmp_path, quick)
    async with a_client() as client, again.running(client):
        assert (await ended(again, "one")).result == "what"


async def test_of_two_processes_one_has_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other takes it up once the first is gone, without a new start."""
    monkeypatch.setattr(background, "_LOOK_SECONDS", 0.02)
    works = Work(), Work()

    def forever(work: Work) -> background.Work:
        async def run(client: AsyncClient, job: Job) -> None:
            await work.forever()

        return run

    first, second = (Background(tmp_path, forever(work)) for work in works)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(a_client())
        async with first.running(client):
            await first.start("one", None)
            await works[0].wait_begun(1)
            # A new job is begun by whichever process sees it first.
            await stack.enter_async_context(second.running(client))
            await second.start("one", None)
            await anyio.sleep(0.2)
            assert works[1].begun == 0
        await works[1].wait_begun(1)
    assert works[0].begun == 1


async def test_a_failure_is_kept_as_a_problem(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its text is logged and not told. One of the moment is tried again at the next start."""
    errors: dict[str, Exception] = {
        "passing": RateLimitError("secret", status=429),
        "lasting": KeyError("secret"),
    }
    begun: list[str] = []

    async def fail(client: AsyncClient, job: Job) -> None:
        begun.append(job.name)
        raise errors[job.name]

    jobs = Background(tmp_path, fail)
    async with a_client() as client, jobs.running(client):
        for name in errors:
            with caplog.at_level(logging.ERROR):
                await jobs.start(name, None)
                status = await ended(jobs, name)
            assert status.status == "failed"
            assert status.error is not None
            assert "secret" not in status.model_dump_json()
    assert caplog.text.count("secret") >= 2

    begun.clear()
    async with a_client() as client, jobs.running(client):
        await ended(jobs, "passing")
        assert begun == ["passing"]
        await jobs.start("lasting", None)
        await ended(jobs, "lasting")
        assert begun == ["passing", "lasting"]


async def test_progress_is_that_of_the_last_call(tmp_path: Path) -> None:
    """As the work passes it on."""
    noted = asyncio.Event()

    async def work(client: AsyncClient, job: Job) -> None:
        job.note(Progress("generate", total=9, succeeded=3, failed=1, elapsed=0.1))
        noted.set()
        await anyio.sleep_forever()

    jobs = Background(tmp_path, work)
    async with a_client() as client, jobs.running(client):
        await jobs.start("one", None)
        await noted.wait()
        status = await jobs.status("one")

    assert status is not None
    assert (status.done, status.total) == (4, 9)


async def test_a_job_is_not_bound_by_the_request_that_began_it(tmp_path: Path) -> None:
    """Its context is that of the application: no deadline of a request ends it."""
    of_request: contextvars.ContextVar[str] = contextvars.ContextVar("r", default="none")

    async def work(client: AsyncClient, job: Job) -> str:
        return of_request.get()

    jobs = Background(tmp_path, work)
    async with a_client() as client, jobs.running(client):
        of_request.set("a request's")
        await jobs.start("one", None)
        assert (await ended(jobs, "one")).result == "none"


@dataclass
class _Told:
    rows: int
    batch: object


async def test_results_of_this_package_are_kept_as_their_documents(tmp_path: Path) -> None:
    """An evaluation, and in a dataclass a batch with an error of its own, are paid for once."""
    documents: list[Any] = []

    async def work(client: AsyncClient, job: Job) -> list[object]:
        result = await client.evaluate(words(2), prompt=PROMPT, criteria=CRITERIA)
        batch = Batch([1, ItemError("no", position=1, operation="add")])
        documents.extend([result.to_dict(), result.summary().to_dict()])
        return [result, _Told(2, batch), result.summary()]

    async with evaluating() as scene, Background(tmp_path, work).running(scene.client) as jobs:
        await jobs.start("one", None)
        status = await ended(jobs, "one")

    assert status.status == "succeeded"
    evaluation, told, summary = status.result
    assert [one.get("value") for one in told["batch"]] == [1, None]
    assert told["batch"][1]["error"]["code"] == "failed"
    assert [evaluation, summary] == json.loads(json.dumps(documents))


async def test_a_result_that_is_no_json_fails_the_job(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It does not stay unfinished, to be paid for at each start; the log names its type."""

    class Odd:
        pass

    async def work(client: AsyncClient, job: Job) -> object:
        return Odd()

    jobs = Background(tmp_path, work)
    async with a_client() as client, jobs.running(client):
        await jobs.start("one", None)
        assert (await ended(jobs, "one")).status == "failed"
    assert "Odd has no form in JSON" in caplog.text


@pytest.mark.parametrize("name", ["", ".", "..", "../up", "a/b", "a\n", ".hidden", "a" * 101, "ä"])
async def test_a_name_stays_within_the_directory(tmp_path: Path, name: str) -> None:
    """A name may be a stranger's."""

    async def work(client: AsyncClient, job: Job) -> None:
        raise AssertionError

    jobs = Background(tmp_path / "jobs", work)
    async with a_client() as client, jobs.running(client):
        with pytest.raises(InputError, match="letters"):
            await jobs.start(name, None)
    assert os.listdir(tmp_path) == ["jobs"]
    assert os.listdir(tmp_path / "jobs") == []


async def test_nothing_is_accepted_that_nobody_does(tmp_path: Path) -> None:
    """Before and after `running`; and it runs once."""

    async def work(client: AsyncClient, job: Job) -> None:
        raise AssertionError

    jobs = Background(tmp_path, work)
    with pytest.raises(ClientClosedError):
        await jobs.start("one", None)
    async with a_client() as client, jobs.running(client):
        with pytest.raises(ConfigurationError, match="run already"):
            async with jobs.running(client):
                pass
    assert os.listdir(tmp_path) == []


async def test_what_a_kill_left_of_an_acceptance_is_no_job(tmp_path: Path) -> None:
    """A request is there as a whole or not at all."""

    async def work(client: AsyncClient, job: Job) -> Any:
        return job.request

    (tmp_path / "one").mkdir()
    (tmp_path / "one" / ".request.json.0123").write_text('{"half')
    jobs = Background(tmp_path, work)
    async with a_client() as client, jobs.running(client):
        assert await jobs.status("one") is None
        await jobs.start("one", 1)
        assert (await ended(jobs, "one")).result == 1
    assert json.loads((tmp_path / "one" / "request.json").read_text()) == 1


@pytest.mark.parametrize("data", [b"", b"\0" * 60, b"[]", b'{"status": "odd"}', b"\xff"])
async def test_a_damaged_outcome_has_the_job_done_again(tmp_path: Path, data: bytes) -> None:
    """And hinders no other job, nor the start."""

    async def work(client: AsyncClient, job: Job) -> Any:
        return job.request

    async with a_client() as client, Background(tmp_path, work).running(client) as jobs:
        await jobs.start("a", 1)
        await ended(jobs, "a")
    (tmp_path / "a" / "outcome.json").write_bytes(data)
    async with a_client() as client, Background(tmp_path, work).running(client) as jobs:
        assert (await ended(jobs, "a")).result == 1
        await jobs.start("b", 2)
        assert (await ended(jobs, "b")).result == 2


@pytest.mark.parametrize("data", [b"", b"{", b"\xff"])
async def test_a_damaged_request_is_a_failed_job(tmp_path: Path, data: bytes) -> None:
    """Nobody knows any more what was asked for; the name stays taken."""

    async def work(client: AsyncClient, job: Job) -> Any:
        return job.request

    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "request.json").write_bytes(data)
    async with a_client() as client, Background(tmp_path, work).running(client) as jobs:
        assert (await ended(jobs, "a")).error is not None
        with pytest.raises(NameTakenError, match="cannot be read"):
            await jobs.start("a", 1)
        await jobs.start("b", 2)
        assert (await ended(jobs, "b")).result == 2


async def test_what_cannot_be_taken_up_hinders_no_other(tmp_path: Path) -> None:
    """Such as one whose lock is a directory."""

    async def work(client: AsyncClient, job: Job) -> Any:
        return job.request

    (tmp_path / "a" / "lock").mkdir(parents=True)
    (tmp_path / "a" / "request.json").write_bytes(b"1")
    async with a_client() as client, Background(tmp_path, work).running(client) as jobs:
        await jobs.start("b", 2)
        assert (await ended(jobs, "b")).result == 2


async def test_a_cancellation_from_within_is_a_failure(tmp_path: Path) -> None:
    """Of something that the work awaited; nobody stopped the job."""
    times = 0

    async def work(client: AsyncClient, job: Job) -> Any:
        nonlocal times
        times += 1
        inner = asyncio.ensure_future(anyio.sleep(9))
        inner.cancel()
        await inner

    async with a_client() as client, Background(tmp_path, work).running(client) as jobs:
        await jobs.start("a", 1)
        assert (await ended(jobs, "a")).status == "failed"
    assert times == 1


async def test_a_request_without_a_form_in_json_is_refused(tmp_path: Path) -> None:
    """Before anything of it is on the disk."""

    async def work(client: AsyncClient, job: Job) -> Any:
        return job.request

    async with a_client() as client, Background(tmp_path, work).running(client) as jobs:
        for request in (object(), "\ud800", {"price": float("nan")}):
            with pytest.raises(InputError, match="plain JSON"):
                await jobs.start("a", request)
    assert os.listdir(tmp_path) == []
