"""What a failed exchange does to a batch: nothing sent twice unless that is safe, nothing lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
from starlette.types import Send

from elluminate_async import (
    BatchOptions,
    InputError,
    NotFoundError,
    OutcomeUnknownError,
    RateLimitError,
)
from elluminate_async.server import WireProfile
from elluminate_async.testing import VIRTUAL_TIME
from tests.flow.bench import Once, Outage, Seen, Stage, answer, is_batch
from tests.flow.conftest import Staging


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


VALUES = [f"v{i}" for i in range(25)]


async def test_an_ambiguous_post_without_keys_is_not_repeated(hosted: Stage) -> None:
    """A 503 after the POST, without keys: those items are unknown, sent once; the rest is fine."""
    hosted.recorder.before = fault = Once(503)

    responses = await hosted.generate(VALUES)

    assert fault.fired == 1
    assert hosted.recorder.count("responses/batches$", "POST") == 3
    assert len(responses.failed) == 10
    for error in responses.failed.values():
        assert isinstance(error, OutcomeUnknownError)
        assert (error.code, error.status, error.attempts) == ("outcome_unknown", 503, 1)
    assert all(count == 1 for count in hosted.model.answered.values())


async def test_an_answer_lost_after_processing_is_asked_for_again_by_key(stage: Stage) -> None:
    """With keys the POST is repeated under its key, and the job runs once."""
    stage.recorder.after = fault = Once(502, times=2)

    responses = await stage.generate(VALUES)

    assert fault.fired == 2
    assert [r.response_str for r in responses] == [f"echo say {v}" for v in VALUES]
    assert set(stage.model.answered.values()) == {1}
    keys = Counter(
        seen.headers["idempotency-key"] for seen in stage.recorder.requests if is_batch(seen)
    )
    assert len(keys) == 3
    assert sum(keys.values()) == 5


async def test_max_attempts_of_one_never_sends_again(staging: Staging) -> None:
    """`max_attempts=1` is honoured with keys too, and for a 429."""
    async with staging(options=BatchOptions(max_attempts=1)) as stage:
        stage.recorder.before = Once(502)
        unknown = await stage.generate(["a"])
        stage.recorder.before = Once(429, retry_after="0.01")
        limited = await stage.generate(["a"])

        assert stage.recorder.count("responses/batches$", "POST") == 2
    assert isinstance(unknown.failed[0], OutcomeUnknownError)
    assert limited.failed[0].code == "http_429"


async def test_a_429_is_waited_out_and_costs_no_attempt(stage: Stage) -> None:
    """Five answers of 429 in a row, and every item still succeeds at three attempts."""
    stage.recorder.before = fault = Once(429, times=5, retry_after="0.05")

    responses = await stage.generate(VALUES)

    assert fault.fired == 5
    assert not responses.failed


async def test_a_retry_after_beyond_the_bound_fails_at_once(staging: Staging) -> None:
    """Told to wait longer than `max_retry_after`, the item fails with that figure in the error."""
    async with staging(options=BatchOptions(max_retry_after=5)) as stage:
        (row,) = await stage.variables(["a"])
        stage.recorder.before = Once(429, retry_after="3600")
        responses = await stage.client.responses.generate_many(
            template_variables=[row], experiment=stage.experiment
        )
        stage.recorder.requests.clear()
        # The whole client was told, so the next call fails without a request.
        with pytest.raises(RateLimitError) as caught:
            await stage.client.responses.generate(
                template_variables=row, experiment=stage.experiment
            )

        assert stage.recorder.requests == []
    assert responses.failed[0].status == 429
    assert caught.value.retry_after == pytest.approx(3600, rel=0.2)


async def test_a_refused_chunk_is_halved_until_the_item_stands_alone(stage: Stage) -> None:
    """One unknown row among 25: it fails alone, 24 succeed, in few extra requests."""
    variables = await stage.variables(VALUES)
    stage.recorder.requests.clear()

    responses = await stage.client.responses.generate_many(
        template_variables=[*variables[:12], 987_654, *variables[13:]],
        experiment=stage.experiment,
    )

    assert list(responses.failed) == [12]
    assert responses.failed[12].status == 404
    assert set(stage.model.answered.values()) == {1}
    assert stage.recorder.count("responses/batches$", "POST") <= 3 + 2 * 4


async def test_an_experiment_that_is_gone_is_the_callers_error(stage: Stage) -> None:
    """404 of the parent is raised, not charged to the items one by one."""
    variables = await stage.variables(VALUES)

    with pytest.raises(NotFoundError, match="experiment"):
        await stage.client.responses.generate_many(
            template_variables=variables, experiment=stage.experiment.id + 1000
        )

    assert stage.recorder.count("responses/batches$", "POST") <= 3


async def test_rows_of_a_failed_job_are_kept(hosted: Stage) -> None:
    """A job that ends as FAILURE after its rows were made: the rows count, nothing is lost."""

    async def fail(seen: Seen, send: Send) -> bool:
        if "/responses/batches/" in seen.path and hosted.model.answered.total() >= 10:
            body = b'data: {"status": "FAILURE", "error_msg": "late"}\n\n'
            await answer(send, 200, body, {"content-type": "text/event-stream"})
            return True
        return False

    hosted.recorder.before = fail

    responses = await hosted.generate(VALUES[:10])

    assert [r.response_str for r in responses] == [f"echo say {v}" for v in VALUES[:10]]


async def test_the_deadline_ends_a_batch_whose_job_never_ends(staging: Staging) -> None:
    """A job that hangs: the batch returns at its deadline, each item saying so."""
    options = BatchOptions(chunk_size=5, max_concurrency=2, deadline=0.6)
    async with staging(options=options) as stage:
        variables = await stage.variables(VALUES)
        stage.model.delay = 60
        responses = await stage.client.responses.generate_many(
            template_variables=variables, experiment=stage.experiment
        )

    assert len(responses.failed) == 25
    assert {error.code for error in responses.failed.values()} == {"deadline"}
    assert responses.failed[24].attempts == 0


async def test_uploads_are_repeated_as_existing_rows_are_skipped(staging: Staging) -> None:
    """An upload whose answer was lost is sent again without a key, and adds no row twice."""
    async with staging(WireProfile.hosted()) as stage:
        lost = 0

        async def lose(seen: Seen, send: Send) -> bool:
            nonlocal lost
            if seen.path.endswith("/entries/batches") and not lost:
                lost += 1
                await answer(send, 502)
                return True
            return False

        stage.recorder.before = lose
        variables = await stage.variables(VALUES)

        assert lost == 1
        assert len(await stage.client.template_variables.list(stage.collection)) == 25
    assert [row.input_values["x"] for row in variables] == VALUES


async def test_bad_entries_are_named_before_anything_is_sent(stage: Stage) -> None:
    """Wrong entries of a sequence are found first: position, reason, and no request."""
    variables = await stage.variables(["a"])
    stage.recorder.requests.clear()

    with pytest.raises(InputError, match=r"template_variables\[1\] is a plain mapping.*add_many"):
        await stage.client.responses.generate_many(
            template_variables=[variables[0], {"x": "b"}],  # type: ignore[list-item]
            experiment=stage.experiment,
        )
    with pytest.raises(InputError, match=r"responses\[0\] must be .*not 'text'"):
        await stage.client.ratings.rate_many(["text"])  # type: ignore[list-item]
    with pytest.raises(InputError, match="responses has 2, template_variables has 1"):
        await stage.client.responses.add_many(
            ["a", "b"], template_variables=variables, experiment=stage.experiment
        )

    assert stage.recorder.requests == []


@pytest.mark.parametrize("operation", ["generate", "add", "rate"])
async def test_a_single_call_that_is_cut_says_the_way_on(hosted: Stage, operation: str) -> None:
    """Where to look whether it was processed, what a repetition may cost, and what finds out."""
    (row,) = await hosted.variables(["a"])
    responses = hosted.client.responses
    rated = await responses.generate(template_variables=row, experiment=hosted.experiment)
    hosted.recorder.after = hosted.recorder.before = Once(
        502, noun="ratings" if operation == "rate" else "responses"
    )
    calls: dict[str, tuple[Callable[[], Awaitable[object]], str]] = {
        "generate": (
            lambda: responses.generate(template_variables=row, experiment=hosted.experiment),
            r"responses\.list\(experiment=.*paid for twice.*generate_many with a journal",
        ),
        "add": (
            lambda: responses.add("x", template_variables=row, experiment=hosted.experiment),
            r"responses\.list\(experiment=.*store it twice.*add_many with a journal",
        ),
        "rate": (
            lambda: hosted.client.ratings.rate(rated),
            r"ratings\.list\(response\).*paid for twice.*rate_many with a journal",
        ),
    }
    call, text = calls[operation]

    with pytest.raises(OutcomeUnknownError, match=text) as caught:
        await call()

    assert (caught.value.status, caught.value.cause) == (502, "ServerError")


async def test_an_outage_while_a_job_is_followed_costs_nothing(stage: Stage) -> None:
    """Accepted is paid for: a second without status answers is waited out, not given up."""
    variables = await stage.variables(VALUES)
    stage.recorder.before = outage = Outage("/responses/batches/", 1.0)

    responses = await stage.client.responses.generate_many(
        template_variables=variables, experiment=stage.experiment
    )

    assert outage.fired >= 2
    assert not responses.failed


async def test_a_row_made_by_the_model_is_made_once(stage: Stage) -> None:
    """`template_variables.generate` is repeated by key, and the server answers from its store."""
    stage.recorder.lose = "/entries"

    await stage.client.template_variables.generate(
        collection=stage.collection, prompt_template=stage.template
    )

    assert stage.recorder.lose is None
    assert stage.recorder.count("/entries$", "POST") == 2
    assert len(await stage.client.template_variables.list(stage.collection)) == 1


@pytest.mark.parametrize("what", ["generate", "add", "rate"])
async def test_a_single_call_is_repeated_by_key_and_done_once(stage: Stage, what: str) -> None:
    """Each single POST that is sent under a key is one that the server does once."""
    (row,) = await stage.variables(["a"])
    responses = stage.client.responses
    made = await responses.generate(template_variables=row, experiment=stage.experiment)
    stage.recorder.lose = {"generate": "/generate", "add": "/responses", "rate": "/ratings"}[what]
    if what == "generate":
        await responses.generate(template_variables=row, experiment=stage.experiment)
    elif what == "add":
        await responses.add("b", template_variables=row, experiment=stage.experiment)
    else:
        await stage.client.ratings.rate(made)

    assert stage.recorder.lose is None
    assert len(await responses.list(experiment=stage.experiment)) == (1 if what == "rate" else 2)
    assert len(await stage.client.ratings.list(made)) == (3 if what == "rate" else 0)
