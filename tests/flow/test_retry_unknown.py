"""`Batch.retry_failed` and what is unknown: under the keys it was sent by, and paid for once."""

from __future__ import annotations

import asyncio
import pickle
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.types import Send

from elluminate_async import Batch, BatchOptions, ClientClosedError, InputError, OutcomeUnknownError
from elluminate_async.server import ModelAnswer, ModelRequest, WireProfile
from elluminate_async.testing import VIRTUAL_TIME
from tests.flow.bench import Once, Seen, Stage, answer, is_batch, until
from tests.flow.conftest import Staging


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


VALUES = [f"v{i}" for i in range(10)]
ECHOES = [f"echo say {value}" for value in VALUES]
OPTIONS = BatchOptions(chunk_size=5, max_concurrency=2, settle=0.3, max_attempts=1, retry_for=0)
PATIENT = OPTIONS.replace(retry_for=60, max_attempts=3)
"""For a retry after an outage, which is not to fail for what the client still has in mind."""

SHORT = 2.5
"""Seconds: a deadline that passes, and in which a chunk is accepted on a busy machine too."""

GOES_ON = WireProfile(cancellation=False)
"""What a call leaves goes on at the service."""
HOSTED = WireProfile.hosted(page_size=7, listing_seed=3)
KEYS_ONLY = WireProfile(page_size=7, results_with_status=False)


def keys_of(stage: Stage, noun: str = "responses") -> set[str]:
    """The keys of all POSTs of chunks."""
    seen = [request for request in stage.recorder.requests if is_batch(request, noun)]
    return {request.headers["idempotency-key"] for request in seen}


def posts(stage: Stage, noun: str = "responses") -> int:
    return stage.recorder.count(f"{noun}/batches$", "POST")


def held_back(stage: Stage, prompt: str | None = None) -> anyio.Event:
    """Have the model wait with its answers, or with the one to ``prompt``, until this is set."""
    go_on, complete = anyio.Event(), stage.model.complete

    async def wait(request: ModelRequest) -> ModelAnswer:
        if prompt is None or request.messages[-1]["content"] == prompt:
            await go_on.wait()
        return await complete(request)

    stage.model.complete = wait  # type: ignore[method-assign]
    return go_on


async def back(stage: Stage) -> None:
    """The outage is over, and the client knows."""
    stage.recorder.before = stage.recorder.after = None
    await stage.client.ping(60)


def all_unknown(batch: Batch[Any]) -> bool:
    """Whether every position is an unknown outcome."""
    return {type(outcome) for outcome in batch.outcomes} == {OutcomeUnknownError}


async def generated(stage: Stage, **arguments: Any) -> Batch[Any]:
    """A batch of which all was processed and nothing is known: each answer was lost."""
    stage.recorder.after = fault = Once(502, times=100)
    batch = await stage.generate(VALUES, **arguments)
    await back(stage)
    assert fault.fired >= 2
    assert all_unknown(batch)
    return batch


@pytest.mark.parametrize("include_unknown", [None, True])
async def test_with_keys_the_unknown_is_repeated_under_them(
    staging: Staging, include_unknown: bool | None
) -> None:
    """Asked for or not, each item is generated once, and the service sees no second key."""
    async with staging(options=OPTIONS) as stage:
        batch = await generated(stage)

        await batch.retry_failed(include_unknown=include_unknown, options=PATIENT)

        assert [row.response_str for row in batch] == ECHOES
        assert {stage.model.answered[f"say {value}"] for value in VALUES} == {1}
        assert len(keys_of(stage)) == 2
        assert posts(stage) == 4


async def test_what_never_arrived_is_sent_under_its_first_key(staging: Staging) -> None:
    """A request that the service did not see is processed at its repetition, once."""
    async with staging(options=OPTIONS) as stage:
        stage.recorder.before = Once(503, times=2)
        batch = await stage.generate(VALUES)
        assert all_unknown(batch)
        await back(stage)

        await batch.retry_failed(options=PATIENT)

        assert [row.response_str for row in batch] == ECHOES
        assert set(stage.model.answered.values()) == {1}
        assert len(keys_of(stage)) == 2


async def test_a_word_keeps_the_unknown_as_it_is(staging: Staging) -> None:
    """``include_unknown=False`` sends nothing for it, keys or not."""
    async with staging(options=OPTIONS) as stage:
        batch = await generated(stage)
        stage.recorder.requests.clear()

        await batch.retry_failed(include_unknown=False, options=PATIENT)

        assert all_unknown(batch)
        assert stage.recorder.requests == []


async def test_retries_in_a_row_keep_to_the_keys(staging: Staging) -> None:
    """A retry that fails like the first call leaves the same keys to the next one."""
    async with staging(options=OPTIONS) as stage:
        batch = await generated(stage)
        for _ in range(3):
            stage.recorder.before = Once(503, times=2)
            await batch.retry_failed()
            assert all_unknown(batch)
            await back(stage)

        await batch.retry_failed(options=PATIENT)

        assert [row.response_str for row in batch] == ECHOES
        assert {stage.model.answered[f"say {value}"] for value in VALUES} == {1}
        assert len(keys_of(stage)) == 2
        stage.recorder.requests.clear()
        await batch.retry_failed(options=PATIENT)
        assert stage.recorder.requests == []


async def test_other_options_leave_a_chunk_as_it_was_sent(staging: Staging) -> None:
    """A key belongs to its body: a retry in smaller chunks repeats the larger ones."""
    async with staging(options=OPTIONS) as stage:
        batch = await generated(stage)

        await batch.retry_failed(options=PATIENT.replace(chunk_size=1))

        assert not batch.failed
        assert posts(stage) == 4
        assert {stage.model.answered[f"say {value}"] for value in VALUES} == {1}


async def test_a_job_that_outlived_the_deadline_is_followed(staging: Staging) -> None:
    """Its rows are taken without a POST; what was never sent is sent."""
    async with staging(GOES_ON, OPTIONS.replace(max_concurrency=1)) as stage:
        rows = await stage.variables(VALUES)
        go_on = held_back(stage)
        batch = await stage.client.responses.generate_many(
            template_variables=rows,
            experiment=stage.experiment,
            options=OPTIONS.replace(max_concurrency=1, deadline=SHORT),
        )
        assert [isinstance(e, OutcomeUnknownError) for e in batch.failed.values()] == [
            *[True] * 5,
            *[False] * 5,
        ]
        assert {error.code for error in batch.failed.values()} == {"deadline"}
        go_on.set()

        await batch.retry_failed(options=PATIENT)

        assert [row.response_str for row in batch] == ECHOES
        assert set(stage.model.answered.values()) == {1}
        assert posts(stage) == 2


@pytest.mark.parametrize("include_unknown", [None, True])
async def test_a_job_is_followed_without_keys_too(
    staging: Staging, include_unknown: bool | None
) -> None:
    """To look at what was accepted pays for nothing, whatever the service."""
    async with staging(HOSTED, OPTIONS) as stage:
        rows = await stage.variables(VALUES[:5])
        go_on = held_back(stage)
        batch = await stage.client.responses.generate_many(
            template_variables=rows,
            experiment=stage.experiment,
            options=OPTIONS.replace(deadline=SHORT),
        )
        assert all_unknown(batch)
        go_on.set()

        await batch.retry_failed(include_unknown=include_unknown, options=PATIENT)

        assert [row.response_str for row in batch] == ECHOES[:5]
        assert set(stage.model.answered.values()) == {1}
        assert posts(stage) == 1


async def test_without_keys_it_stays_unknown_until_asked_for(staging: Staging) -> None:
    """Nothing is sent by default; with a word it is sent anew, under keys of its own."""
    async with staging(HOSTED, OPTIONS.replace(chunk_size=10)) as stage:
        stage.recorder.before = Once(503)
        batch = await stage.generate(VALUES)
        first = keys_of(stage)
        assert all_unknown(batch)
        await back(stage)
        stage.recorder.requests.clear()

        await batch.retry_failed(options=PATIENT)
        assert all_unknown(batch)
        assert posts(stage) == 0

        await batch.retry_failed(include_unknown=True, options=PATIENT)
        assert [row.response_str for row in batch] == ECHOES
        assert not keys_of(stage) & first


async def test_a_chunk_that_is_known_in_part_is_repeated_whole(staging: Staging) -> None:
    """A key belongs to the whole body; positions that had their row keep that very row."""
    async with staging(KEYS_ONLY, OPTIONS) as stage:
        rows = await stage.variables(VALUES[:5])
        go_on = held_back(stage, "say v3")
        stage.recorder.after = Once(502)
        batch = await stage.client.responses.generate_many(
            template_variables=rows,
            experiment=stage.experiment,
            options=OPTIONS.replace(deadline=SHORT),
        )
        assert list(batch.failed) == [3]
        go_on.set()
        before = dict(batch.succeeded)

        await batch.retry_failed(options=PATIENT)

        assert [row.response_str for row in batch] == ECHOES[:5]
        assert all(batch[position] is row for position, row in before.items())
        assert set(stage.model.answered.values()) == {1}
        assert len(keys_of(stage)) == 1


async def test_a_refused_chunk_is_remembered_by_its_halves(staging: Staging) -> None:
    """What is unknown after a halving is repeated in its halves, and generated once."""
    async with staging(options=OPTIONS) as stage:
        rows = await stage.variables(VALUES[:4])
        lose = Once(502, times=100)

        async def lose_halves(seen: Seen, send: Send) -> bool:
            # The whole chunk was refused for its unknown row before.
            return await lose(seen, send) if stage.model.answered else False

        stage.recorder.after = lose_halves
        batch = await stage.client.responses.generate_many(
            template_variables=[*rows, 987_654], experiment=stage.experiment
        )
        await back(stage)
        assert lose.fired > 0
        assert len(batch.failed) > 1

        await batch.retry_failed(options=PATIENT)

        assert {p: r.response_str for p, r in batch.succeeded.items()} == dict(
            enumerate(ECHOES[:4])
        )
        assert batch.failed[4].code == "http_404"
        assert set(stage.model.answered.values()) == {1}


@pytest.mark.parametrize("include_unknown", [None, True])
@pytest.mark.parametrize("applied", [True, False])
async def test_a_chunk_that_was_answered_500_is_repeated_whole(
    staging: Staging, applied: bool, include_unknown: bool | None
) -> None:
    """Nothing proved that it was not applied, so it was not halved: its key still stands."""
    async with staging(options=PATIENT.replace(max_attempts=2)) as stage:
        rows = await stage.variables(VALUES[:5])
        fault = Once(500, times=100)
        if applied:
            stage.recorder.after = fault
        else:
            stage.recorder.before = fault
        batch = await stage.client.responses.generate_many(
            template_variables=rows, experiment=stage.experiment
        )
        await back(stage)
        assert fault.fired > 2
        assert all_unknown(batch)
        assert all(error.retryable for error in batch.failed.values())

        await batch.retry_failed(include_unknown=include_unknown)

        assert [row.response_str for row in batch] == ECHOES[:5]
        assert set(stage.model.answered.values()) == {1}
        assert len(keys_of(stage)) == 1


async def test_a_key_that_was_used_up_without_the_chunk_is_replaced(staging: Staging) -> None:
    """The empty chunk took the key, and its answer was lost: the service refuses the key then."""
    async with staging(options=PATIENT.replace(max_attempts=2)) as stage:
        rows = await stage.variables(VALUES[:4])
        stage.recorder.before = failing = Once(500, times=2)
        stage.recorder.after = lost = Once(500, times=2)
        batch = await stage.client.responses.generate_many(
            template_variables=rows, experiment=stage.experiment
        )
        await back(stage)
        assert (failing.fired, lost.fired) == (2, 2)
        assert all_unknown(batch)

        await batch.retry_failed()

        assert [row.response_str for row in batch] == ECHOES[:4]
        assert set(stage.model.answered.values()) == {1}


async def test_halves_of_an_upload_are_all_added(staging: Staging) -> None:
    """A plain 500 has it halved once it is proved that the whole was not applied."""
    async with staging(options=PATIENT.replace(max_attempts=2)) as stage:
        stage.recorder.before = fault = Once(500, times=2, noun="collections")
        batch = await stage.client.template_variables.add_many(
            [{"x": value} for value in VALUES], collection=stage.collection, skip_existing=False
        )

        assert fault.fired == 2
        assert [row.input_values["x"] for row in batch] == VALUES
        assert len(await stage.client.template_variables.list(stage.collection)) == 10


async def test_a_cancelled_retry_leaves_the_keys_to_the_next(staging: Staging) -> None:
    """What was in flight at its end is taken up again, and generated once more by nobody."""
    async with staging(GOES_ON, OPTIONS) as stage:
        stage.model.failing = lambda prompt: True
        batch = await stage.generate(VALUES)
        stage.model.failing = lambda prompt: False
        go_on = held_back(stage)

        retry = asyncio.create_task(batch.retry_failed(options=PATIENT))
        await until(lambda: stage.recorder.count("/stream$") == 4)
        retry.cancel()
        with pytest.raises(asyncio.CancelledError):
            await retry
        assert all_unknown(batch)
        go_on.set()
        await batch.retry_failed(options=PATIENT)

        assert [row.response_str for row in batch] == ECHOES
        assert set(stage.model.answered.values()) == {2}
        assert posts(stage) == 4


async def test_ratings_are_repeated_under_their_keys(staging: Staging) -> None:
    """Each response has its three ratings, once, after the answers of all POSTs were lost."""
    async with staging(options=OPTIONS) as stage:
        responses = await stage.generate(VALUES)
        stage.recorder.after = Once(502, times=100, noun="ratings")
        batch = await stage.client.ratings.rate_many([*responses, responses[0]])
        await back(stage)
        assert all_unknown(batch)

        await batch.retry_failed(options=PATIENT)

        assert not batch.failed
        assert batch[10] == batch[0]
        assert len(keys_of(stage, "ratings")) == 2
        rows = await stage.client.responses.list(experiment=stage.experiment)
        assert [len(row.ratings) for row in rows] == [3] * 10


async def test_stored_responses_are_repeated_under_their_keys(staging: Staging) -> None:
    """`responses.add_many` stores each once, though no answer of its POSTs arrived."""
    async with staging(options=OPTIONS) as stage:
        rows = await stage.variables(VALUES)
        stage.recorder.after = Once(502, times=100)
        batch = await stage.client.responses.add_many(
            [f"made {value}" for value in VALUES],
            template_variables=rows,
            experiment=stage.experiment,
        )
        await back(stage)
        assert all_unknown(batch)

        await batch.retry_failed(options=PATIENT)

        assert [row.response_str for row in batch] == [f"made {value}" for value in VALUES]
        assert len(await stage.client.responses.list(experiment=stage.experiment)) == 10


async def test_uploads_are_repeated_under_their_key(staging: Staging) -> None:
    """Rows that may be equal are added once each, the answer of their upload having been lost."""
    async with staging(options=OPTIONS) as stage:
        stage.recorder.lose = "entries/batches"
        batch = await stage.client.template_variables.add_many(
            [{"x": "same"}, {"x": "same"}, {"x": "other"}],
            collection=stage.collection,
            skip_existing=False,
        )
        assert all_unknown(batch)

        await batch.retry_failed(options=PATIENT)

        assert [row.input_values["x"] for row in batch] == ["same", "same", "other"]
        assert len({row.id for row in batch}) == 3
        assert len(await stage.client.template_variables.list(stage.collection)) == 3


async def test_a_batch_with_a_journal_keeps_to_its_keys(staging: Staging, tmp_path: Path) -> None:
    """The retry and a later call by the journal agree: nothing is generated twice."""
    async with staging(options=OPTIONS) as stage:
        batch = await generated(stage, journal=tmp_path / "run")
        stage.recorder.before = Once(503, times=2)
        await batch.retry_failed(include_unknown=True)
        assert all_unknown(batch)
        await back(stage)

        again = await stage.generate(VALUES, journal=tmp_path / "run", options=PATIENT)
        await batch.retry_failed(options=PATIENT)

        assert [row.id for row in again] == [row.id for row in batch]
        assert {stage.model.answered[f"say {value}"] for value in VALUES} == {1}


async def test_what_a_journal_took_up_and_lost_again_is_remembered(
    staging: Staging, tmp_path: Path
) -> None:
    """A call that resumed a chunk of an earlier one and failed retries it under that key."""
    async with staging(options=OPTIONS) as stage:
        await generated(stage, journal=tmp_path / "run")
        stage.recorder.before = Once(503, times=2)
        batch = await stage.generate(VALUES, journal=tmp_path / "run")
        assert all_unknown(batch)
        await back(stage)

        await batch.retry_failed(include_unknown=True, options=PATIENT)

        assert [row.response_str for row in batch] == ECHOES
        assert {stage.model.answered[f"say {value}"] for value in VALUES} == {1}
        assert len(keys_of(stage)) == 2


async def test_keys_that_the_service_may_have_dropped_are_not_used(
    staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key is kept for days, not for ever: what is older stays unknown."""
    async with staging(options=OPTIONS) as stage:
        batch = await generated(stage)
        monkeypatch.setattr("elluminate_async.engine.memory.KEYS_LAST", 0.0)
        stage.recorder.requests.clear()

        await batch.retry_failed(options=PATIENT)

        assert all_unknown(batch)
        assert posts(stage) == 0


async def test_an_unpickled_batch_has_forgotten_its_keys(staging: Staging) -> None:
    """It has no inputs either: the error says to call the method again."""
    async with staging(options=OPTIONS) as stage:
        batch = await generated(stage)

        with pytest.raises(InputError, match="call the method again"):
            await pickle.loads(pickle.dumps(batch)).retry_failed()


async def test_a_closed_client_repeats_nothing(staging: Staging) -> None:
    """The batch stays as it was."""
    async with staging(options=OPTIONS) as stage:
        batch = await generated(stage)
        await stage.client.close()

        with pytest.raises(ClientClosedError):
            await batch.retry_failed(options=PATIENT)

        assert all_unknown(batch)


async def test_a_job_that_the_service_forgot_is_paid_again_only_if_asked(
    staging: Staging,
) -> None:
    """Its key would only name that job again: with a word the items get a new one."""
    async with staging(options=OPTIONS) as stage:

        async def forgotten(seen: Seen, send: Send) -> bool:
            if seen.method != "GET" or "/responses/batches/" not in seen.path:
                return False
            await answer(send, 404)
            return True

        stage.recorder.before = forgotten
        batch = await stage.generate(VALUES)
        assert all_unknown(batch)
        await batch.retry_failed(options=PATIENT)
        assert all_unknown(batch)
        assert posts(stage) == 2
        await back(stage)

        await batch.retry_failed(include_unknown=True, options=PATIENT)

        assert [row.response_str for row in batch] == ECHOES
        assert len(keys_of(stage)) == 4


async def test_a_job_that_failed_meanwhile_is_no_doubt(staging: Staging) -> None:
    """Followed to its failure it is known not to have a row: the next retry sends anew."""
    async with staging(options=OPTIONS) as stage:
        rows = await stage.variables(VALUES[:5])
        go_on = held_back(stage)
        batch = await stage.client.responses.generate_many(
            template_variables=rows,
            experiment=stage.experiment,
            options=OPTIONS.replace(deadline=SHORT),
        )
        assert all_unknown(batch)

        async def fail(seen: Seen, send: Send) -> bool:
            if not seen.path.endswith("/stream"):
                return False
            body = b'data: {"status": "FAILURE", "error_msg": "out of memory"}\n\n'
            await answer(send, 200, body, {"content-type": "text/event-stream"})
            return True

        stage.recorder.before = fail
        await batch.retry_failed(options=PATIENT)
        assert {error.code for error in batch.failed.values()} == {"job_failed"}
        assert not any(isinstance(error, OutcomeUnknownError) for error in batch.failed.values())
        assert remembered(batch) == 0
        stage.recorder.before = None
        go_on.set()

        await batch.retry_failed(options=PATIENT)

        assert [row.response_str for row in batch] == ECHOES[:5]
        assert len(keys_of(stage)) == 2


async def test_only_what_is_unknown_is_remembered(staging: Staging) -> None:
    """A batch that went well holds no chunk of it, one in doubt those in doubt."""
    async with staging(options=OPTIONS) as stage:
        good = await stage.generate(VALUES)
        stage.recorder.after = Once(502)
        half = await stage.generate(VALUES)

        assert len(half.failed) == 5
        assert remembered(good) == 0
        assert remembered(half) == 1
        await half.retry_failed(options=PATIENT)
        assert remembered(half) == 0


def remembered(batch: Batch[Any]) -> int:
    """How many chunks a batch remembers."""
    resend: Any = batch._resend
    return len(resend.memory)
