"""`AsyncClient.evaluate`: rows to records."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.types import Send

from elluminate_async import (
    AuthenticationError,
    BatchOptions,
    DeadlineError,
    Evaluation,
    InputError,
    ItemError,
    JournalError,
    Message,
    Progress,
    RateLimit,
    RatingMode,
)
from tests.evaluation.scene import CRITERIA, PROMPT, Scene, evaluating, generated, words
from tests.flow.bench import Seen, answer, is_batch
from tests.tables.libraries import pd

FAST = RatingMode.FAST


async def evaluate(scene: Scene, rows: Any, **arguments: Any) -> Evaluation:
    chosen: dict[str, Any] = {"prompt": PROMPT, "criteria": CRITERIA, "rating_mode": FAST}
    chosen |= arguments
    return await scene.client.evaluate(rows, **chosen)


def is_right(evaluation: Evaluation, rows: list[dict[str, Any]]) -> bool:
    """Whether every record is of its row, whole, and answered with that row's word."""
    fan_out = len(evaluation) // len(rows)
    return all(
        record.position == position
        and record.input == rows[position // fan_out]
        and record.response_str == f"echo Say {record.input['word']}"
        and [rating.criterion.criterion_str for rating in record.ratings or ()] == CRITERIA
        for position, record in enumerate(evaluation)
    )


async def test_each_row_has_its_record() -> None:
    """In the order of the rows, with the response to that row and a rating by each criterion."""
    async with evaluating() as scene:
        rows = words(250)
        evaluation = await evaluate(scene, rows)

        assert len(evaluation) == 250
        assert is_right(evaluation, rows)
        assert not evaluation.failed
        assert set(scene.model.answered.values()) == {1}
        assert evaluation.configs == ("default",)
        assert evaluation.usage.output_tokens == 250


async def test_configurations_and_epochs_have_a_record_each() -> None:
    """Rows first, then configurations, then epochs."""
    async with evaluating() as scene:
        for name in ("small", "large"):
            await scene.client.llm_configs.create(name, f"{name}-model")
        rows = words(7)
        evaluation = await evaluate(scene, rows, llm_configs=["small", "large"], epochs=3)

        assert [(r.row, r.config, r.epoch) for r in evaluation] == [
            (row, config, epoch)
            for row in range(7)
            for config in ("small", "large")
            for epoch in (1, 2, 3)
        ]
        assert is_right(evaluation, rows)
        assert len({record.response.id for record in evaluation if record.response}) == 42
        assert len(await scene.client.experiments.list()) == 2


async def test_equal_rows_are_answered_each() -> None:
    """A row that comes twice is two inputs, with a response each."""
    async with evaluating() as scene:
        rows = words(5) * 3
        evaluation = await evaluate(scene, rows, options=BatchOptions(chunk_size=2))

        assert is_right(evaluation, rows)
        assert len({record.response.id for record in evaluation if record.response}) == 15


@pytest.mark.parametrize("is_async", [False, True])
async def test_rows_may_be_an_iterable(is_async: bool) -> None:
    """Plain or async, of a length that nobody knows."""

    async def one_by_one() -> AsyncIterator[dict[str, Any]]:
        for row in words(30):
            yield row

    async with evaluating() as scene:
        evaluation = await evaluate(scene, one_by_one() if is_async else generated(30))

        assert is_right(evaluation, words(30))


async def test_a_response_is_rated_while_others_are_generated() -> None:
    """The first rating is asked for before the last response is there."""
    async with evaluating(options=BatchOptions(chunk_size=1, max_concurrency=4)) as scene:
        rated = asyncio.Event()

        def judge_failing(prompt: str) -> bool:
            rated.set()
            return False

        scene.model.judge_failing = judge_failing
        complete = scene.model.complete

        async def last_waits(request: Any) -> Any:
            if request.purpose == "generate" and "word19" in str(request.messages):
                await rated.wait()
            return await complete(request)

        scene.model.complete = last_waits
        evaluation = await evaluate(scene, words(20))

        assert is_right(evaluation, words(20))


async def test_messages_may_be_objects() -> None:
    """As they come from a response, or as mappings."""
    async with evaluating() as scene:
        prompt = [Message(role="user", content=PROMPT)]
        assert is_right(await evaluate(scene, words(3), prompt=prompt), words(3))


async def test_what_fails_fails_alone() -> None:
    """A response that failed is its record's error and is not rated; a judge that fails, too."""
    async with evaluating() as scene:
        scene.model.failing = lambda prompt: prompt.endswith("word3")
        scene.model.judge_failing = lambda prompt: "word5" in prompt
        evaluation = await evaluate(scene, words(10), epochs=2)

        codes = {position: error.code for position, error in evaluation.failed.items()}
        assert codes == {6: "generation_failed", 7: "generation_failed"} | {
            10: "rating_failed", 11: "rating_failed"
        }  # fmt: skip
        assert evaluation[6].ratings is evaluation[6].response is evaluation[6].passed is None
        assert evaluation[6].error is not None
        assert evaluation[6].error.position == 6
        assert evaluation[10].response_str == "echo Say word5"
        assert evaluation[10].passed is None
        assert dict(evaluation.responses.failed).keys() == {6, 7}
        assert dict(evaluation.ratings.failed).keys() == {6, 7, 10, 11}


async def test_retry_failed_generates_and_rates_what_failed_alone() -> None:
    """What was repaired is rated too; nothing else is asked for again."""
    async with evaluating() as scene:
        scene.model.failing = lambda prompt: prompt.endswith(("word3", "word4"))
        scene.model.judge_failing = lambda prompt: "word5" in prompt
        rows = words(10)
        evaluation = await evaluate(scene, rows, epochs=2)
        scene.model.failing = lambda prompt: prompt.endswith("word4")
        scene.model.judge_failing = lambda prompt: False
        kept = [record.response and record.response.id for record in evaluation]

        assert await evaluation.retry_failed() is evaluation

        assert sorted(evaluation.failed) == [8, 9]
        assert all(r.ratings for r in evaluation if r.row != 4)
        assert [r.response_str for r in evaluation[6:8]] == ["echo Say word3"] * 2
        assert all(
            record.response is None or record.response.id == id
            for record, id in zip(evaluation, kept, strict=True)
            if id is not None
        )
        scene.model.failing = lambda prompt: False
        await evaluation.retry_failed()
        assert is_right(evaluation, rows)


async def test_answers_that_exist_are_stored_and_rated() -> None:
    """No model is asked to generate; a list and a column are alike."""
    async with evaluating() as scene:
        rows = [{**row, "answer": f"echo Say {row['word']}"} for row in words(12)]
        by_column = await evaluate(scene, rows, responses="answer")
        by_list = await evaluate(scene, rows, responses=[row["answer"] for row in rows])

        for evaluation in (by_column, by_list):
            assert is_right(evaluation, rows)
            assert evaluation.configs == ("given",)
        assert not scene.model.answered


async def test_a_row_without_an_answer_fails_alone() -> None:
    """As `bad_input`, and the others are rated."""
    async with evaluating() as scene:
        rows = [{**row, "answer": f"echo Say {row['word']}"} for row in words(6)]
        rows[2]["answer"] = None
        evaluation = await evaluate(scene, rows, responses="answer")

        assert {p: error.code for p, error in evaluation.failed.items()} == {2: "bad_input"}


async def test_a_collection_may_stand_for_the_rows() -> None:
    """Its rows are the inputs, in its order."""
    async with evaluating() as scene:
        collection = await scene.client.collections.create("words", variables=words(8))
        evaluation = await evaluate(scene, None, collection=collection)

        assert is_right(evaluation, words(8))
        assert await scene.client.collections.list() == [
            await scene.client.collections.get("words")
        ]


async def test_the_template_s_own_criteria_are_taken() -> None:
    """With ``criteria=None``, and they are generated where it has none."""
    async with evaluating() as scene:
        template, _ = await scene.client.prompt_templates.get_or_create(PROMPT, "Mine")
        await scene.client.criteria.add_many(CRITERIA, prompt_template=template)
        own = await evaluate(scene, words(3), prompt=template, criteria=None)
        made = await evaluate(scene, words(3), prompt="Tell {{word}}", criteria=None)

        assert is_right(own, words(3))
        assert made[0].ratings


async def test_texts_do_not_change_the_template_s_criteria() -> None:
    """They are a set of their own, and the same texts are the same set."""
    async with evaluating() as scene:
        template, _ = await scene.client.prompt_templates.get_or_create(PROMPT, "Mine")
        await scene.client.criteria.add_many(["Mine?"], prompt_template=template)
        for _ in range(2):
            assert is_right(await evaluate(scene, words(2), prompt=template), words(2))

        own = await scene.client.criteria.list(template)
        assert [one.criterion_str for one in own] == ["Mine?"]
        names = [one.name for one in await scene.client.criterion_sets.list()]
        assert sum(name.startswith("Mine · ") for name in names) == 1


async def test_a_name_that_is_taken_gets_the_time() -> None:
    """Two evaluations of a name do not mix."""
    async with evaluating() as scene:
        first = await evaluate(scene, words(3), name="nightly")
        second = await evaluate(scene, words(4), name="nightly")

        assert is_right(first, words(3))
        assert is_right(second, words(4))
        names = [one.name for one in (*first.experiments, *second.experiments)]
        assert names == sorted(one.name for one in await scene.client.experiments.list())
        assert names[0] == "nightly"
        assert names[1].startswith("nightly 20")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"rows": None}, "rows or collection"),
        ({"rows": {"word": "x"}}, r"pass \[x\] for one"),
        ({"rows": "word"}, "rows must be a list of rows, or a table"),
        ({"rows": [{"word": "a"}, {"other": "b"}]}, r"rows\[1\] has no value for {{word}}"),
        (
            {"rows": [{"Words": "a"}]},
            r"{{word}}, did you mean {{Words}}\? it has Words",
        ),
        ({"rows": [{"word": "a"}, {"word": float("nan")}]}, r"\[1\].*nan"),
        ({"rows": [{"word": "a"}, 5]}, r"\[1\] must be a mapping"),
        ({"epochs": 0}, "epochs"),
        ({"epochs": True}, "epochs"),
        ({"criteria": "Is it?"}, r"\[x\] for one"),
        ({"criteria": []}, "at least one"),
        ({"llm_configs": []}, "at least one"),
        ({"llm_configs": [3.5]}, "llm_configs"),
        ({"llm_configs": ["a", "a"]}, "twice"),
        ({"responses": ["one"]}, "responses"),
        ({"responses": "answer"}, "no column 'answer'"),
        ({"responses": {"a", "b"}}, "responses= must be"),
        ({"responses": 5}, "responses= must be"),
        ({"llm_configs": 1.0}, "llm_configs must be"),
        ({"epochs": 10**5000}, "epochs"),
        ({"responses": ["a", "b"], "epochs": 2}, "epochs"),
        ({"name": ""}, "name"),
        ({"prompt": ""}, "empty"),
        ({"prompt": 3.5}, "prompt must be a text"),
        ({"prompt": {"role": "user", "content": "x"}}, "prompt must be a text"),
        ({"rows": [{"word": "a"}, {"word": None}]}, r"rows\[1\]\['word'\] is missing"),
        ({"rating_mode": "slow"}, "rating_mode"),
        ({"journal": 5}, "journal"),
    ],
)
async def test_what_cannot_work_is_told_before_anything_is_sent(
    arguments: dict[str, Any], told: str
) -> None:
    """As an `InputError` that says what to pass."""
    async with evaluating() as scene:
        scene.recorder.requests.clear()
        with pytest.raises(InputError, match=told):
            await evaluate(scene, arguments.pop("rows", words(2)), **arguments)

        assert not [seen for seen in scene.recorder.requests if seen.method != "GET"]


async def test_progress_counts_records() -> None:
    """One event a record, with the number of all."""
    seen: list[Progress] = []
    async with evaluating() as scene:
        options = BatchOptions(on_progress=seen.append)
        scene.model.failing = lambda prompt: prompt.endswith("word3")
        await evaluate(scene, words(10), epochs=2, options=options)

    assert [progress.done for progress in seen] == list(range(1, 21))
    assert {(progress.operation, progress.total) for progress in seen} == {("evaluate", 20)}
    assert seen[-1].failed == 2


async def test_one_limit_holds_for_all_steps() -> None:
    """Chunks of all steps together stay within the client's concurrency."""
    async with evaluating(options=BatchOptions(max_concurrency=3, chunk_size=2)) as scene:
        evaluation = await evaluate(scene, words(40), epochs=2)

        assert is_right(evaluation, words(40))
        assert scene.recorder.peak_chunks <= 3


def refused(when: Callable[[Seen], bool]) -> Callable[[Seen, Send], Any]:
    async def refuse(seen: Seen, send: Send) -> bool:
        if when(seen):
            await answer(send, 401, b'{"detail": "no such key"}')
            return True
        return False

    return refuse


async def test_an_error_of_all_has_what_had_arrived() -> None:
    """A key that is revoked midway: it is raised bare, and its `partial` is the evaluation."""
    async with evaluating(options=BatchOptions(chunk_size=5, max_concurrency=1)) as scene:
        scene.recorder.before = refused(
            lambda seen: is_batch(seen) and scene.recorder.count("responses/batches$", "POST") > 3
        )
        with pytest.raises(AuthenticationError) as raised:
            await evaluate(scene, words(40))

        partial = raised.value.partial
        assert isinstance(partial, Evaluation)
        assert len(partial) == 40
        done = [record for record in partial if record.response is not None]
        assert 0 < len(done) < 40
        assert all(r.response_str == f"echo Say {r.input['word']}" for r in done)
        assert {error.code for error in partial.failed.values()} <= {
            "not_sent", "http_401", "outcome_unknown"
        }  # fmt: skip


def _cancel_at(prompt: str, scene: Scene, task: asyncio.Future[Evaluation]) -> None:
    if prompt in scene.model.answered:
        task.cancel()


async def test_a_cancelled_evaluation_has_what_had_arrived() -> None:
    """The `CancelledError` carries it, and nothing goes on."""
    async with evaluating(options=BatchOptions(chunk_size=1, max_concurrency=2)) as scene:
        scene.model.slow = lambda prompt: 3600 if prompt.endswith("word15") else 0
        task = asyncio.ensure_future(evaluate(scene, words(20)))
        scene.model.noticed = lambda: _cancel_at("Say word15", scene, task)
        with pytest.raises(asyncio.CancelledError) as raised:
            await task

        partial: object = getattr(raised.value, "partial", None)
        assert isinstance(partial, Evaluation)
        assert len(partial) == 20
        assert partial[0].response_str == "echo Say word0"
        assert partial.failed


async def test_the_deadline_is_one_for_all_steps() -> None:
    """What is not there by then ends with its code, and the rest is kept."""
    async with evaluating() as scene:
        scene.model.slow = lambda prompt: 3600 if prompt.endswith("word1") else 0
        options = BatchOptions(deadline=2.0, chunk_size=1)
        evaluation = await evaluate(scene, words(6), options=options)

        assert {p: error.code for p, error in evaluation.failed.items()} == {1: "deadline"}
        assert evaluation[1].error is not None


@pytest.mark.parametrize("of_collection", [False, True])
async def test_what_the_deadline_left_is_sent_by_a_retry(of_collection: bool) -> None:
    """Whatever it was waiting for: rows, responses to be rated, a place in a chunk."""
    async with evaluating() as scene:
        scene.model.delay = 0.1
        rows = words(200)
        collection = await scene.client.collections.create("words", variables=rows)
        source = {"rows": None, "collection": collection} if of_collection else {"rows": rows}
        options = BatchOptions(deadline=1.0, chunk_size=3, max_concurrency=2)
        evaluation = await evaluate(scene, **source, options=options)
        assert evaluation.failed
        scene.model.delay = 0.0

        await evaluation.retry_failed(options=BatchOptions(), include_unknown=True)

        assert is_right(evaluation, rows)


async def test_answers_are_taken_by_position() -> None:
    """Those of pandas have an index of labels, which is of another order; a generator has none."""
    frame = pd.DataFrame({"word": ["a", "b", "c"], "answer": ["A", "B", "C"]})
    turned = frame.sort_values("word", ascending=False)
    async with evaluating() as scene:
        for answers in (turned["answer"], (a for a in "CBA"), ("C", "B", "A")):
            evaluation = await evaluate(scene, turned, responses=answers)
            assert [(r.input["word"], r.response_str) for r in evaluation] == [
                ("c", "C"), ("b", "B"), ("a", "A"),
            ]  # fmt: skip


async def test_an_input_that_raises_has_what_had_arrived() -> None:
    """The exception of the caller's own, as it is, with the records so far."""

    class Own(Exception):
        partial: Evaluation

    def rows() -> Any:
        yield from words(5)
        raise Own("the file ended")

    async with evaluating() as scene:
        with pytest.raises(Own) as raised:
            await evaluate(scene, rows())

        assert len(raised.value.partial) == 5


async def test_a_stream_yields_records_as_they_finish() -> None:
    """Each once, each of its row, and the input is read no further than what may be in flight."""
    async with evaluating(options=BatchOptions(chunk_size=5, max_concurrency=2)) as scene:
        read = 0

        def rows() -> Any:
            nonlocal read
            for row in words(20_000):
                read += 1
                yield row

        seen: set[int] = set()
        stream = scene.client.stream_evaluate(
            rows(), prompt=PROMPT, criteria=CRITERIA, rating_mode=FAST
        )
        async with stream as records:
            async for record in records:
                assert record.response_str == f"echo Say {record.input['word']}"
                assert record.input["number"] == record.row == record.position
                assert record.position not in seen
                seen.add(record.position)
                if len(seen) == 20:
                    break

        assert read <= 300


async def test_a_stream_is_whole() -> None:
    """Over configurations and epochs, failures included."""
    async with evaluating() as scene:
        scene.model.failing = lambda prompt: prompt.endswith("word3")
        for name in ("small", "large"):
            await scene.client.llm_configs.create(name, f"{name}-model")
        records = [
            record
            async for record in scene.client.stream_evaluate(
                generated(20),
                prompt=PROMPT,
                criteria=CRITERIA,
                llm_configs=["small", "large"],
                epochs=2,
                rating_mode=FAST,
            )
        ]

        assert sorted(record.position for record in records) == list(range(80))
        assert sum(isinstance(record.outcome, ItemError) for record in records) == 4


async def test_a_slow_source_is_evaluated_as_it_comes() -> None:
    """A row that was read is uploaded, generated and rated before the next is there."""

    async def slow() -> AsyncIterator[dict[str, Any]]:
        for row in words(3):
            yield row
            await came.wait()

    async with evaluating() as scene:
        came = asyncio.Event()
        stream = scene.client.stream_evaluate(
            slow(), prompt=PROMPT, criteria=CRITERIA, rating_mode=FAST
        )
        async with stream as records:
            with anyio.fail_after(60):
                first = await anext(records)
            assert first.response_str == "echo Say word0"
            came.set()
            assert [record.row async for record in records] == [1, 2]


async def test_an_input_that_raises_at_once_has_its_experiments() -> None:
    """However early it raises, what is raised has an evaluation that names what was made."""

    class Own(Exception):
        partial: Evaluation

    def rows() -> Any:
        raise Own("there is no such file")
        yield

    async with evaluating() as scene:
        with pytest.raises(Own) as raised:
            await evaluate(scene, rows())

        assert len(raised.value.partial.experiments) == 1


async def test_a_limit_of_items_counts_all_steps() -> None:
    """An `item_limit` smaller than a chunk makes chunks of its size."""
    async with evaluating() as scene:
        options = BatchOptions(item_limit=RateLimit(1_000, 1.0))
        assert is_right(await evaluate(scene, words(30), options=options), words(30))


async def test_the_deadline_of_an_endless_input() -> None:
    """It is raised, with the records so far."""

    async def endless() -> AsyncIterator[dict[str, Any]]:
        for row in words(3):
            yield row
        await asyncio.Event().wait()

    async with evaluating() as scene:
        with pytest.raises(DeadlineError) as raised:
            await evaluate(scene, endless(), options=BatchOptions(deadline=1.5))

        assert len(raised.value.partial) == 3


async def test_a_journal_takes_up_what_is_done(tmp_path: Path) -> None:
    """The same call again asks no model again, and gives the same records."""
    async with evaluating(tmp_path / "s.db") as scene:
        scene.model.failing = lambda prompt: prompt.endswith("word3")
        journal = tmp_path / "run.journal"
        first = await evaluate(scene, words(30), epochs=2, journal=journal)
        asked = dict(scene.model.answered)
        again = await evaluate(scene, words(30), epochs=2, journal=journal)

        assert scene.model.answered == asked
        assert [r.to_dict() for r in again] == [r.to_dict() for r in first]
        assert len(await scene.client.experiments.list()) == 1


async def test_a_journal_holds_no_content(tmp_path: Path) -> None:
    """No prompt, row, criterion or answer, and its files are their owner's alone."""
    async with evaluating() as scene:
        await evaluate(scene, words(3), journal=tmp_path / "run")

    files = sorted((tmp_path / "run").iterdir())
    text = "".join(path.read_text() for path in files)
    assert [path.name for path in files] == [
        "evaluation.json", "evaluation.lock", "ratings-0.journal", "responses-0.journal",
        "rows.journal",
    ]  # fmt: skip
    assert not any(secret in text for secret in ("Say", "word", "short", "echo"))
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


async def test_a_journal_is_used_by_one_call_at_a_time(tmp_path: Path) -> None:
    """The second is refused before it makes anything, and the first can be taken up."""
    async with evaluating() as scene:
        both = [evaluate(scene, words(5), journal=tmp_path / "run") for _ in range(3)]
        results = await asyncio.gather(*both, return_exceptions=True)

        refused = [one for one in results if isinstance(one, JournalError)]
        assert len(refused) == 2
        assert all("in use by another call" in str(error) for error in refused)
        assert len(await scene.client.experiments.list()) == 1
        again = await evaluate(scene, words(5), journal=tmp_path / "run")
        assert is_right(again, words(5))
        assert set(scene.model.answered.values()) == {1}


async def test_a_set_that_was_changed_is_told(tmp_path: Path) -> None:
    """A journal is of its criteria, those of a set too."""
    async with evaluating() as scene:
        asked = await scene.client.criterion_sets.create("mine", CRITERIA)
        journal = tmp_path / "run"
        await evaluate(scene, words(3), criteria=asked, journal=journal)
        await scene.client.criteria.add_many(["Is it new?"], criterion_set=asked)

        with pytest.raises(JournalError, match="the set was changed since"):
            await evaluate(scene, words(3), criteria=asked, journal=journal)


async def test_criteria_are_known_where_nothing_was_measured() -> None:
    """With the judge down the table has their columns, and the summary counts what is missing."""
    async with evaluating() as scene:
        scene.model.judge_failing = lambda prompt: True
        evaluation = await evaluate(scene, words(4))

        assert evaluation.to_dicts()[0][f"rating.{CRITERIA[0]}"] is None
        rates = evaluation.summary()["default"]
        assert list(rates.criteria) == CRITERIA
        assert rates.overall.not_measured == 8
        assert not evaluation.gate(pass_rate=0.5)


async def test_a_row_is_kept_as_it_was_read() -> None:
    """A generator may give one mapping again and again."""

    def reusing() -> Any:
        row = {"word": ""}
        for number in range(5):
            row["word"] = f"word{number}"
            yield row

    async with evaluating() as scene:
        evaluation = await evaluate(scene, reusing())
        assert [r.input["word"] for r in evaluation] == [f"word{n}" for n in range(5)]


async def test_half_a_character_in_an_answer_fails_that_row() -> None:
    """As `bad_input`; the others are stored and rated."""
    async with evaluating() as scene:
        evaluation = await evaluate(scene, words(3), responses=["a", "\ud800", "c"])

        assert {p: error.code for p, error in evaluation.failed.items()} == {1: "bad_input"}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"criteria": ["Other?"]}, "criteria="),
        ({"epochs": 2}, "epochs="),
        ({"prompt": "Tell {{word}}"}, "prompt="),
        ({"rows": words(9)}, "total was 10 and is 9|inputs"),
        ({"rows": words(10, start=1)}, "inputs"),
        ({"rating_mode": RatingMode.DETAILED}, "rating_mode="),
    ],
)
async def test_a_journal_is_of_one_evaluation(
    tmp_path: Path, changed: dict[str, Any], told: str
) -> None:
    """Another one is refused, and the text says what differs."""
    async with evaluating(tmp_path / "s.db") as scene:
        journal = tmp_path / "run.journal"
        await evaluate(scene, words(10), journal=journal)
        with pytest.raises(JournalError, match=told):
            await evaluate(scene, changed.pop("rows", words(10)), journal=journal, **changed)


async def test_a_journal_that_is_a_file_or_damaged_is_refused(tmp_path: Path) -> None:
    """Before anything is sent, and the file stays as it is."""
    async with evaluating() as scene:
        journal = tmp_path / "run.journal"
        journal.write_text("mine")
        with pytest.raises(JournalError, match="directory"):
            await evaluate(scene, words(2), journal=journal)
        other = tmp_path / "other"
        other.mkdir()
        (other / "evaluation.json").write_text('{"version": 1')
        with pytest.raises(JournalError, match="not of an evaluation"):
            await evaluate(scene, words(2), journal=other)

        assert journal.read_text() == "mine"


@pytest.mark.parametrize(
    "lost",
    ["/prompt_templates", "/criterion_sets", "/collections", "/experiments", "/entries/batches"],
)
async def test_a_lost_answer_of_the_set_up_costs_nothing(lost: str) -> None:
    """What was created and not told of is created again, or found: both do no harm."""
    async with evaluating() as scene:
        scene.recorder.lose = lost
        evaluation = await evaluate(scene, words(12))

        assert scene.recorder.lose is None
        assert is_right(evaluation, words(12))
        assert set(scene.model.answered.values()) == {1}
