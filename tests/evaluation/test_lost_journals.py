"""The journals of an evaluation that are lost, cut, or there before they were noted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from elluminate_async import Evaluation, JournalError
from tests.evaluation.scene import CRITERIA, PROMPT, Scene, evaluating, words

STEPS = ["rows", "responses-0", "ratings-0"]


async def evaluate(scene: Scene, journal: Path) -> Evaluation:
    return await scene.client.evaluate(
        words(6), prompt=PROMPT, criteria=CRITERIA, name="nightly", journal=journal
    )


def cut(share: float) -> Callable[[Path], object]:
    """A harm that leaves only the first part of a file."""

    def harm(path: Path) -> None:
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])

    return harm


def zero(path: Path) -> None:
    """A harm of a file system: as many bytes, and none of its content."""
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    ("harm", "told"),
    [
        pytest.param(Path.unlink, "is missing", id="lost"),
        pytest.param(cut(0), "was cut", id="emptied"),
        pytest.param(cut(0.02), "was cut", id="torn"),
        pytest.param(cut(0.9), "was cut", id="shortened"),
        pytest.param(zero, "was damaged", id="zeros"),
    ],
)
async def test_a_journal_that_was_begun_and_is_lost_is_told(
    tmp_path: Path, step: str, harm: Callable[[Path], object], told: str
) -> None:
    """By its name, with what to do; and nothing is sent, so that nothing is paid for twice."""
    async with evaluating(tmp_path / "s.db") as scene:
        await evaluate(scene, tmp_path / "run")
        harm(tmp_path / "run" / f"{step}.journal")
        scene.recorder.requests.clear()

        with pytest.raises(JournalError, match=rf"{step}\.journal .*{told}.*another path"):
            await evaluate(scene, tmp_path / "run")

        assert not [seen for seen in scene.recorder.requests if seen.method != "GET"]


async def test_a_run_that_failed_has_begun_its_journals(tmp_path: Path) -> None:
    """They are noted before the first row goes out, not where the call comes to its end."""
    async with evaluating(tmp_path / "s.db") as scene:

        def refuse(_progress: object) -> None:
            raise ZeroDivisionError

        options = scene.client.options.replace(on_progress=refuse)
        with pytest.raises(ZeroDivisionError):
            await scene.client.evaluate(
                words(6),
                prompt=PROMPT,
                criteria=CRITERIA,
                name="nightly",
                journal=tmp_path / "run",
                options=options,
            )
        (tmp_path / "run" / "responses-0.journal").unlink()

        with pytest.raises(JournalError, match=r"responses-0\.journal"):
            await evaluate(scene, tmp_path / "run")


async def test_the_note_that_is_lost_is_told(tmp_path: Path) -> None:
    """Journals of another set-up are those of another evaluation."""
    async with evaluating(tmp_path / "s.db") as scene:
        await evaluate(scene, tmp_path / "run")
        asked = dict(scene.model.answered)
        (tmp_path / "run" / "evaluation.json").unlink()

        with pytest.raises(JournalError, match="another call"):
            await evaluate(scene, tmp_path / "run")

        assert scene.model.answered == asked


@pytest.mark.parametrize("made", range(len(STEPS) + 1))
async def test_a_kill_before_journals_are_noted_is_taken_up(tmp_path: Path, made: int) -> None:
    """Where the set-up is noted, and some of the journals are made, and nothing was sent."""
    async with evaluating(tmp_path / "s.db") as scene:
        await evaluate(scene, tmp_path / "run")
        note = tmp_path / "run" / "evaluation.json"
        known = json.loads(note.read_text())
        del known["begun"]
        note.write_text(json.dumps(known))
        for step in STEPS:
            path = tmp_path / "run" / f"{step}.journal"
            header = path.read_bytes().splitlines(keepends=True)[0]
            path.write_bytes(header)
        for step in STEPS[made:]:
            (tmp_path / "run" / f"{step}.journal").unlink()

        again = await evaluate(scene, tmp_path / "run")

        assert not again.failed
        assert len(await scene.client.experiments.list()) == 1
        assert [*json.loads(note.read_text())["begun"]] == [f"{step}.journal" for step in STEPS]
