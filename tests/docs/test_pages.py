"""What the pages tell a reader to do works, and says what they show."""

from __future__ import annotations

import logging
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from elluminate_async import RatingMode
from tests.cli.command import Command
from tests.docs.pages import DOCS, PAGES, Block, blocks_of, differs
from tests.docs.session import PROGRAM, Session
from tests.evaluation.scene import words

# What is about other things, and tested with them.
OTHERS = ("BatchOptions(", "batch.raise_for_failed()", "run.journal", "pytest_plugins")
# Pages that begin in the midst of something.
MIDST = {"README.md", "evaluate.md"}
RUN = {"python", "sh", "bash", "console", "text"}


@pytest.fixture
def logging_as_it_was() -> Generator[None]:
    """A page that sets up logging does so for all of the process."""
    root, own = logging.getLogger(), logging.getLogger("elluminate_async")
    handlers, levels = root.handlers[:], (root.level, own.level)
    yield
    root.handlers[:] = handlers
    for logger, level in zip((root, own), levels, strict=True):
        logger.setLevel(level)


@pytest.fixture
def session(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    logging_as_it_was: None,
) -> Generator[Session]:
    """A reader in an empty folder."""
    one = Session(tmp_path, Command(tmp_path, monkeypatch, capsys), monkeypatch)
    yield one
    one.end()


def runnable(page: Path) -> list[Block]:
    """The blocks of a page that a reader can do something with."""
    blocks = [one for one in blocks_of(page) if one.title or one.language in RUN]
    if page.name != "README.md":
        return blocks
    # Its commands are those of a clone, and tested as such.
    programs = [one for one in blocks if one.language == "python"]
    return [one for one in programs if not any(mark in one.code for mark in OTHERS)]


PAGES_THAT_RUN = [page for page in PAGES if runnable(page)]


async def in_the_midst(session: Session) -> None:
    """The names that `MIDST` has by then."""
    names, client = session.names, session.names["client"]
    names |= {"rows": words(3), "prompt": "Say {{word}}", "criteria": ["Is it right?"]}
    for name in ("small", "large"):
        await client.llm_configs.create(name, name)
    asked: dict[str, Any] = {"prompt": names["prompt"], "criteria": names["criteria"]}
    asked["rating_mode"] = RatingMode.FAST
    names["last_weeks_result"] = await client.evaluate(words(4), **asked)
    names["result"] = await client.evaluate(words(3), **asked)


@pytest.mark.parametrize("page", PAGES_THAT_RUN, ids=lambda page: page.stem)
def test_a_page_does_what_it_says(page: Path, session: Session) -> None:
    """Its blocks, one after the other: programs, commands, files, and what they print."""
    blocks = runnable(page)
    if any(one.language == "python" and PROGRAM not in one.code for one in blocks):
        session.wait_for(session.begin())
    if page.name in MIDST:
        session.wait_for(in_the_midst(session))
    for block in blocks:
        try:
            session.do(block)
        except BaseException as error:
            error.add_note(f"in the block at {page.name}:{block.line}")
            raise


def test_no_block_is_of_an_unknown_language() -> None:
    """A misspelt one would not be run."""
    known = RUN | {"csv", "html", "json", "jsonl", "toml", "yaml", ""}
    for page in PAGES:
        assert {one.language for one in blocks_of(page)} <= known, page.name


@pytest.mark.parametrize(
    ("shown", "said", "same"),
    [
        ("a  b\n\nc\n", "a  b   \nc\n", True),
        ("at http://127.0.0.1:PORT, N s\n", "at http://127.0.0.1:8123, 0.3 s\n", True),
        ("at http://127.0.0.1:1, 0.1 s\n", "at http://127.0.0.1:8123, 12.3 s\n", True),
        ("a\n…\nd\n", "a\nb\nc\nd\n", True),
        ("one, …\n", "one, two\n", True),
        ("a\nc\n", "a\nb\nc\n", False),
        ("3 of 4\n", "2 of 4\n", False),
    ],
)
def test_what_is_shown_is_held_against_what_is_said(shown: str, said: str, same: bool) -> None:
    """Line by line; what is of one run only may differ."""
    assert (differs(shown, said) is None) is same


def test_every_page_is_in_the_navigation() -> None:
    """A page that nobody can find is none."""
    navigation = (DOCS.parent / "mkdocs.yml").read_text()
    for page in DOCS.rglob("*.md"):
        assert f": {page.relative_to(DOCS)}\n" in navigation, page
