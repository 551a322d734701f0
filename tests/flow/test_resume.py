"""The same call again, with its journal: what is done is taken, the rest is sent, once each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.types import Send

from elluminate_async import (
    AuthenticationError,
    BatchOptions,
    InputError,
    JournalError,
    NotFoundError,
    OutcomeUnknownError,
    ServiceUnavailableError,
)
from elluminate_async.schemas.version import Capability
from elluminate_async.server import WireProfile
from elluminate_async.testing import VIRTUAL_TIME
from tests.flow.bench import Once, Seen, Stage, answer, cancelled_when, is_batch, until
from tests.flow.conftest import Staging
from tests.matrix import Fired


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


VALUES = [f"v{i}" for i in range(30)]
ECHOES = [f"echo say {value}" for value in VALUES]
OPTIONS = BatchOptions(chunk_size=5, max_concurrency=2, settle=0.4)
PROFILES = [None, WireProfile.hosted(page_size=7, listing_seed=3)]


@pytest.fixture(params=PROFILES, ids=["keys", "hosted"])
async def service(request: pytest.FixtureRequest, staging: Staging) -> AsyncIterator[Stage]:
    """A stage on either kind of service."""
    async with staging(request.param, OPTIONS) as stage:
        yield stage


async def cancelled_after(stage: Stage, answers: int, **arguments: Any) -> None:
    """Begin the call, and cancel it once the model gave so many answers."""
    generating = stage.generate(VALUES, **arguments)
    await cancelled_when(stage, lambda: stage.model.answered.total() >= answers, generating)


def posts(stage: Stage, noun: str = "responses") -> int:
    return stage.recorder.count(f"{noun}/batches$", "POST")


def own_or_unknown(outcomes: Iterable[Any]) -> list[int]:
    """The positions whose outcome is unknown; all others must have their own value."""
    unknown: list[int] = []
    for position, outcome in enumerate(outcomes):
        if isinstance(outcome, OutcomeUnknownError):
            unknown.append(position)
        else:
            assert outcome.response_str == ECHOES[position]
    return unknown


def echoed(batch: Any) -> list[str]:
    return [response.response_str for response in batch]


@pytest.mark.row(79)
@pytest.mark.parametrize("answers", [0, 1, 4, 11, 23, 30])
async def test_a_cancelled_call_is_taken_up(
    service: Stage, answers: int, tmp_path: Path, fired: Fired
) -> None:
    """Wherever it was cancelled: each position gets its own value, and is generated once."""
    journal = tmp_path / "run"
    await cancelled_after(service, answers, journal=journal)
    fired()

    responses = await service.generate(VALUES, journal=journal)

    unknown = own_or_unknown(responses.outcomes)
    assert set(service.model.answered.values()) <= {1}
    if service.server._profile.idempotency_keys:
        assert not unknown


async def test_a_finished_call_is_read_and_not_sent(service: Stage, tmp_path: Path) -> None:
    """The same call after its end: the same values, and no POST."""
    first = await service.generate(VALUES, journal=tmp_path / "run")
    service.recorder.requests.clear()

    again = await service.generate(VALUES, journal=tmp_path / "run")

    assert echoed(again) == ECHOES
    assert [r.id for r in again] == [r.id for r in first]
    assert posts(service) == 0
    assert set(service.model.answered.values()) == {1}


async def test_an_accepted_job_is_followed(service: Stage, tmp_path: Path) -> None:
    """The job went on while nobody looked: its rows are taken, and no request is repeated."""
    # As a killed process leaves it, which cancels nothing.
    service.client._connection._capabilities -= {Capability.CANCELLATION}
    service.model.delay = 0.3
    task = asyncio.create_task(service.generate(VALUES[:5], journal=tmp_path / "run"))
    await until(lambda: service.recorder.count("batches/.*/stream$") >= 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    responses = await service.generate(VALUES[:5], journal=tmp_path / "run")

    assert echoed(responses) == ECHOES[:5]
    assert posts(service) == 1
    assert set(service.model.answered.values()) == {1}


async def test_a_lost_answer_is_settled_by_the_next_call(service: Stage, tmp_path: Path) -> None:
    """Cancelled while the answer of a processed POST was lost: its rows are found, sent once."""
    arrived = anyio.Event()

    async def swallow(seen: Seen, send: Send) -> bool:
        if not is_batch(seen):
            return False
        arrived.set()
        await anyio.sleep_forever()
        return True

    service.recorder.after = swallow
    task = asyncio.create_task(service.generate(VALUES[:5], journal=tmp_path / "run"))
    with anyio.fail_after(10):
        await arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    service.recorder.after = None

    responses = await service.generate(VALUES[:5], journal=tmp_path / "run")

    assert echoed(responses) == ECHOES[:5]
    assert set(service.model.answered.values()) == {1}


async def test_what_is_still_unknown_stays_so(staging: Staging, tmp_path: Path) -> None:
    """Without keys, a POST that was never applied: unknown again, and never sent again."""
    async with staging(PROFILES[1], OPTIONS) as stage:
        stage.recorder.before = Once(503)
        first = await stage.generate(VALUES, journal=tmp_path / "run")
        stage.recorder.requests.clear()

        again = await stage.generate(VALUES, journal=tmp_path / "run")

        assert len(first.failed) == 5
        assert again.failed.keys() == first.failed.keys()
        assert all(isinstance(e, OutcomeUnknownError) for e in again.failed.values())
        assert posts(stage) == 0


async def test_with_keys_an_unknown_one_is_sent_again(staging: Staging, tmp_path: Path) -> None:
    """An outage outlasted `retry_for`: the next call replays the same keys."""
    async with staging(None, OPTIONS.replace(retry_for=0.5)) as stage:
        stage.recorder.before = Once(503, times=10_000)
        first = await stage.generate(VALUES, journal=tmp_path / "run")
        stage.recorder.before = None
        await stage.client.ping()

        again = await stage.generate(VALUES, journal=tmp_path / "run")

        assert len(first.failed) == 30
        assert {e.code for e in first.failed.values()} == {"outcome_unknown", "unavailable"}
        assert echoed(again) == ECHOES
        batches = [s for s in stage.recorder.requests if is_batch(s)]
        assert len({s.headers["idempotency-key"] for s in batches}) == 6
        assert set(stage.model.answered.values()) == {1}


async def test_what_was_refused_for_now_is_sent_by_the_next_call(
    service: Stage, tmp_path: Path
) -> None:
    """A 429 that outlasts the call is no answer about an item: the next call sends it."""
    service.recorder.before = Once(429, times=100, retry_after="9")
    options = OPTIONS.replace(max_retry_after=1.0)
    first = await service.generate(VALUES[:5], journal=tmp_path / "run", options=options)
    service.recorder.before = None
    service.client._connection.limits._hold._until = 0.0

    again = await service.generate(VALUES[:5], journal=tmp_path / "run")

    assert {e.code for e in first.failed.values()} == {"http_429"}
    assert echoed(again) == ECHOES[:5]


async def test_what_waits_for_its_turn_counts_as_never_sent(service: Stage, tmp_path: Path) -> None:
    """Cancelled while the service held the client off: nothing is unknown, all is sent once."""
    service.recorder.before = fault = Once(429, times=100, retry_after="60")
    task = asyncio.create_task(service.generate(VALUES, journal=tmp_path / "run"))
    await until(lambda: fault.fired > 0)
    await anyio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    service.recorder.before = None
    service.client._connection.limits._hold._until = 0.0

    responses = await service.generate(VALUES, journal=tmp_path / "run")

    assert echoed(responses) == ECHOES
    assert set(service.model.answered.values()) == {1}


async def test_a_failure_for_good_is_not_repeated(service: Stage, tmp_path: Path) -> None:
    """What the model refused stays refused, with its error; `retry_failed` sends it again."""
    service.model.failing = lambda prompt: prompt.endswith(("v3", "v7"))
    first = await service.generate(VALUES[:10], journal=tmp_path / "run")
    service.model.failing = lambda prompt: False
    service.recorder.requests.clear()

    again = await service.generate(VALUES[:10], journal=tmp_path / "run")

    assert again.failed.keys() == {3, 7}
    assert again.failed[3].to_dict() == first.failed[3].to_dict()
    assert posts(service) == 0
    await again.retry_failed()
    assert echoed(again) == ECHOES[:10]
    third = await service.generate(VALUES[:10], journal=tmp_path / "run")
    assert echoed(third) == ECHOES[:10]
    assert {v for p, v in service.model.answered.items() if p not in ("say v3", "say v7")} == {1}


@pytest.mark.row(89)
async def test_changed_inputs_are_refused_by_position(
    service: Stage, tmp_path: Path, fired: Fired
) -> None:
    """The error names what differs; nothing is sent, and the right inputs still resume."""
    await cancelled_after(service, 6, journal=tmp_path / "run")
    service.recorder.requests.clear()
    swapped = [VALUES[0], "other", VALUES[3], VALUES[2], *VALUES[4:]]
    for changed in (swapped, VALUES[:-1], [*VALUES, "more"]):
        fired()
        said = "at position 1, 2, 3" if changed is swapped else "total was 30 and is"
        with pytest.raises(JournalError, match=said) as caught:
            await service.generate(changed, journal=tmp_path / "run")
        assert caught.value.path == tmp_path / "run"
    assert posts(service) == 0

    responses = await service.generate(VALUES, journal=tmp_path / "run")

    assert len(responses.succeeded) + len(responses.failed) == 30


async def test_changed_inputs_of_an_iterable_are_refused_where_they_come(
    staging: Staging, tmp_path: Path
) -> None:
    """Neither their number nor their contents are known before: each is told when it is read."""
    async with staging(None, OPTIONS) as stage:
        rows = await stage.variables(VALUES)
        arguments: dict[str, Any] = {"experiment": stage.experiment, "journal": tmp_path / "run"}
        generate = stage.client.responses.generate_many
        await generate(template_variables=iter(rows), **arguments)
        stage.recorder.requests.clear()

        with pytest.raises(JournalError, match="position 7"):
            await generate(template_variables=iter([*rows[:7], *rows[8:]]), **arguments)
        with pytest.raises(JournalError, match="position 20, 21, 22, 23, 24 and 5 more"):
            await generate(template_variables=iter(rows[:20]), **arguments)

        assert posts(stage) == 0


async def test_a_stream_is_taken_up(service: Stage, tmp_path: Path) -> None:
    """Left early and begun anew: all outcomes come, what was done is not sent again."""
    rows = await service.variables(VALUES)
    arguments: dict[str, Any] = {"experiment": service.experiment, "journal": tmp_path / "run"}

    async def source() -> AsyncIterator[Any]:
        for row in rows:
            yield row

    seen = 0
    stream = service.client.responses.stream_generate_many
    async with stream(template_variables=source(), **arguments) as outcomes:
        async for _ in outcomes:
            seen += 1
            if seen == 12:
                break
    found = {p: o async for p, o in stream(template_variables=source(), **arguments)}

    assert found.keys() == set(range(30))
    own_or_unknown(found[position] for position in range(30))
    assert set(service.model.answered.values()) == {1}


async def test_ratings_are_taken_up(service: Stage, tmp_path: Path) -> None:
    """A call of `rate_many` that was cancelled: every response is rated once, by each criterion."""
    responses = await service.generate(VALUES)
    rate = service.client.ratings.rate_many
    rating = rate(responses, journal=tmp_path / "run")
    await cancelled_when(service, lambda: service.recorder.count("ratings/batches/.*") >= 2, rating)

    first = await rate(responses, journal=tmp_path / "run")
    service.recorder.requests.clear()
    again = await rate(responses, journal=tmp_path / "run")

    assert not first.failed
    assert [[r.id for r in ratings] for ratings in again] == [[r.id for r in i] for i in first]
    assert posts(service, "ratings") == 0
    stored = await service.client.responses.list(experiment=service.experiment)
    assert {len(response.ratings) for response in stored} == {3}


async def test_failures_upstream_may_come_right_later(service: Stage, tmp_path: Path) -> None:
    """A position that had nothing to rate when the journal was begun is rated once it has."""
    service.model.failing = lambda prompt: prompt.endswith("v3")
    responses = await service.generate(VALUES[:10])
    first = await service.client.ratings.rate_many(responses, journal=tmp_path / "run")
    service.model.failing = lambda prompt: False
    await responses.retry_failed()

    again = await service.client.ratings.rate_many(responses, journal=tmp_path / "run")

    assert first.failed.keys() == {3}
    assert not again.failed
    stored = await service.client.responses.list(experiment=service.experiment)
    assert {len(r.ratings) for r in stored if r.error is None} == {3}


@pytest.mark.parametrize("skip_existing", [True, False])
async def test_uploads_are_taken_up(service: Stage, tmp_path: Path, skip_existing: bool) -> None:
    """A finished upload is read again; one whose answer was lost is not made twice."""
    rows = [{"x": f"w{i}"} for i in range(20)]
    add = service.client.template_variables.add_many
    arguments: dict[str, Any] = {
        "collection": service.collection, "skip_existing": skip_existing,
        "journal": tmp_path / "run",
    }  # fmt: skip
    service.recorder.lose = "entries/batches"
    first = await add(rows, **arguments)
    second = await add(rows, **arguments)
    third = await add(rows, **arguments)

    keyed = service.server._profile.idempotency_keys
    if keyed or skip_existing:
        assert [row.input_values for row in second] == rows
        assert [row.id for row in third] == [row.id for row in second]
    else:
        assert {type(e) for e in first.failed.values()} == {OutcomeUnknownError}
        assert second.failed.keys() == first.failed.keys()
    stored = await service.client.template_variables.list(service.collection)
    assert len(stored) == 20


@pytest.mark.row(92)
async def test_a_deleted_experiment_is_not_made_anew(
    service: Stage, tmp_path: Path, fired: Fired
) -> None:
    """Its rows are gone and it is not there: a typed error, and nothing is created."""
    await cancelled_after(service, 6, journal=tmp_path / "run")
    await service.client.experiments.delete(service.experiment)
    service.recorder.requests.clear()
    fired()

    with pytest.raises(NotFoundError) as caught:
        await service.generate(VALUES, journal=tmp_path / "run")

    assert len(caught.value.partial) == 30
    assert service.recorder.count("experiments$", "POST") == 0


async def test_a_revoked_key_leaves_the_rest_to_be_sent(service: Stage, tmp_path: Path) -> None:
    """A 401 midway: what it refused was not processed, so the next call sends it."""
    refused, raised = Once(401, times=100), anyio.Event()

    def streams() -> int:
        return service.recorder.count("batches/.*/stream$")

    async def later(seen: Seen, send: Send) -> bool:
        if is_batch(seen) and posts(service) > 3:
            # By now each of the three before it is noted as accepted, so none is in doubt.
            await until(lambda: streams() >= 3)
            return await refused(seen, send)
        if seen.path.endswith("/stream") and streams() >= 3:
            # Its end would let a fifth chunk go, which is in doubt when the call ends.
            await raised.wait()
        return False

    service.recorder.before = later
    with pytest.raises(AuthenticationError):
        await service.generate(VALUES, journal=tmp_path / "run")
    raised.set()
    assert (refused.fired, posts(service)) == (1, 4)
    service.recorder.before = None

    responses = await service.generate(VALUES, journal=tmp_path / "run")

    assert echoed(responses) == ECHOES
    assert set(service.model.answered.values()) == {1}


async def test_an_item_that_spoils_its_chunk_is_found_again(service: Stage, tmp_path: Path) -> None:
    """A chunk was halved when the call was cancelled: the halves are taken up by themselves."""
    rows = [*await service.variables(VALUES[:9]), 999_999]

    async def run() -> Any:
        return await service.client.responses.generate_many(
            template_variables=rows, experiment=service.experiment, journal=tmp_path / "run"
        )

    await cancelled_when(service, lambda: posts(service) >= 4, run())

    responses = await run()

    assert 9 in responses.failed
    own_or_unknown(responses.outcomes[:9])
    assert set(service.model.answered.values()) == {1}
    service.recorder.requests.clear()
    await run()
    assert posts(service) == 0


async def test_a_journal_holds_no_prompt_and_no_answer(service: Stage, tmp_path: Path) -> None:
    """Ids and hashes only, and nothing of the credential."""
    await service.generate(["a very secret value", *VALUES], journal=tmp_path / "run")

    text = (await anyio.Path(tmp_path / "run").read_bytes()).decode()

    for secret in ("secret", "echo", "say", service.server.api_key, service.server.api_key[:8]):
        assert secret not in text


@pytest.mark.parametrize("journal", [3, "", b"x", object(), "a\0b", "\ud800"])
async def test_a_journal_must_be_a_path(service: Stage, journal: Any) -> None:
    """Anything else is told before any request."""
    with pytest.raises(InputError, match="journal"):
        await service.client.responses.generate_many(
            template_variables=[1], experiment=service.experiment, journal=journal
        )


async def test_a_path_that_cannot_be_used_is_told_before_anything_is_sent(
    service: Stage, tmp_path: Path
) -> None:
    """A journal in a folder that is not there."""
    with pytest.raises(JournalError, match="No such file"):
        await service.generate(VALUES, journal=tmp_path / "missing" / "run")

    assert posts(service) == 0


async def test_a_job_that_ended_unseen_is_answered_by_its_error(
    service: Stage, tmp_path: Path
) -> None:
    """Not found after its acceptance, as a service forgets: unknown, never sent again."""
    service.model.delay = 0.2
    task = asyncio.create_task(service.generate(VALUES[:5], journal=tmp_path / "run"))
    await until(lambda: service.recorder.count("batches/.*/stream$") >= 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    async def forgotten(seen: Seen, send: Send) -> bool:
        if "responses/batches/" not in seen.path:
            return False
        await answer(send, 404)
        return True

    service.recorder.before = forgotten
    responses = await service.generate(VALUES[:5], journal=tmp_path / "run")

    assert posts(service) == 1
    own_or_unknown(responses.outcomes)


async def away(seen: Seen, send: Send) -> bool:
    """An outage: every request is answered 503."""
    del seen
    await answer(send, 503)
    return True


@pytest.mark.parametrize("journalled", [False, True], ids=["", "journal"])
async def test_an_outage_at_the_start_is_in_the_batch(
    service: Stage, tmp_path: Path, journalled: bool
) -> None:
    """Nothing was sent, so all is to be sent: by a retry, and once; the journal knows it then."""
    rows = await service.variables(VALUES)
    service.recorder.before = away
    with pytest.raises(ServiceUnavailableError):
        await service.client.projects.list()
    arguments: dict[str, Any] = {
        "template_variables": rows,
        "experiment": service.experiment,
        "options": OPTIONS.replace(retry_for=3.0),
        "journal": tmp_path / "run" if journalled else None,
    }
    batch = await service.client.responses.generate_many(**arguments)

    assert [error.code for error in batch.failed.values()] == ["unavailable"] * len(VALUES)
    assert all(error.retryable and error.attempts < 9 for error in batch.failed.values())
    with pytest.raises(ServiceUnavailableError):
        batch.raise_if_all_failed()
    service.recorder.before = None
    await service.client.ping()
    await batch.retry_failed()
    assert echoed(batch) == ECHOES
    assert set(service.model.answered.values()) == {1}
    if journalled:
        service.recorder.requests.clear()
        assert echoed(await service.client.responses.generate_many(**arguments)) == ECHOES
        assert posts(service) == 0


@pytest.mark.parametrize("noticed", ["retry", "call"])
@pytest.mark.parametrize("answers", [3, 11, 30])
async def test_an_outage_at_the_start_of_taking_up_a_call(
    service: Stage, tmp_path: Path, answers: int, noticed: str
) -> None:
    """What the first run may have sent is unknown, and a retry looks for it as a new call does."""
    journal = tmp_path / "run"
    await cancelled_after(service, answers, journal=journal)
    rows = await service.variables(VALUES)
    service.recorder.requests.clear()
    service.recorder.before = away
    arguments: dict[str, Any] = {
        "template_variables": rows,
        "experiment": service.experiment,
        "options": OPTIONS.replace(retry_for=3.0),
        "journal": journal,
    }

    batch = await service.client.responses.generate_many(**arguments)
    await batch.retry_failed()

    assert posts(service) == 0
    assert len(batch.failed) == len(VALUES)
    for error in batch.failed.values():
        assert isinstance(error, OutcomeUnknownError)
        assert (error.code, error.operation, error.retryable) == ("unavailable", "generate", True)
    with pytest.raises(ServiceUnavailableError):
        batch.raise_if_all_failed()
    service.recorder.before = None
    await service.client.ping()
    if noticed == "retry":
        await batch.retry_failed()
    batch = await service.client.responses.generate_many(**arguments)
    unknown = own_or_unknown(batch.outcomes)
    assert set(service.model.answered.values()) == {1}
    assert len(unknown) <= 2 * OPTIONS.chunk_size


async def test_an_outage_at_the_start_of_a_stream_is_in_it(service: Stage, tmp_path: Path) -> None:
    """One outcome for each input, as without a journal."""
    rows = await service.variables(VALUES)
    service.recorder.before = away
    stream = service.client.responses.stream_generate_many(
        template_variables=iter(rows),
        experiment=service.experiment,
        options=OPTIONS.replace(retry_for=3.0),
        journal=tmp_path / "run",
    )
    outcomes = [outcome async for outcome in stream]

    assert sorted(position for position, _ in outcomes) == list(range(len(VALUES)))
    assert {getattr(outcome, "code", None) for _, outcome in outcomes} == {"unavailable"}


async def test_another_configuration_than_the_experiments(service: Stage, tmp_path: Path) -> None:
    """It is what the journal is of: the same call again is read, and not sent."""
    client = service.client
    config = await client.llm_configs.create("own", "m")
    rows = await service.variables(["a", "b"])

    async def call() -> Any:
        return await client.responses.generate_many(
            template_variables=rows,
            experiment=service.experiment,
            llm_config=config,
            journal=tmp_path / "run",
        )

    first = await call()
    again = await call()
    assert echoed(first) == ["echo say a", "echo say b"]
    assert [response.id for response in again] == [response.id for response in first]
    assert set(service.model.answered.values()) == {1}


async def test_a_configuration_that_is_not_there_is_the_services_to_refuse(
    service: Stage, tmp_path: Path
) -> None:
    """The journal notes its id, and the item has the 404."""
    rows = await service.variables(["a"])
    batch = await service.client.responses.generate_many(
        template_variables=rows,
        experiment=service.experiment,
        llm_config=10**6,
        journal=tmp_path / "run",
    )
    assert [error.code for error in batch.failed.values()] == ["http_404"]
