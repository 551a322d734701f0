"""The pages and their blocks: programs, commands, files, and the output that is shown."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
_BLOCK = re.compile(r"^( *)```(\S*)([^\n]*)\n(.*?)^\1```$", re.M | re.S)
_TITLE = re.compile(r'title="([^"]+)"')
# Of one run and not of another; and, in a page, what is left out.
_VARYING = (
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:PORT"),
    (re.compile(r"\b\d+\.\d+ ?s\b"), "N s"),
)
_REST = "…"


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block.

    Attributes:
        line: Where it begins in its page.
        language: As the fence names it; empty where it names none.
        title: The file that a reader makes of it, if any.
    """

    line: int
    language: str
    title: str | None
    code: str


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page, in order."""
    text = page.read_text("utf-8")
    found: list[Block] = []
    for match in _BLOCK.finditer(text):
        indent, language, rest, code = match.groups()
        title = _TITLE.search(rest)
        code = re.sub(f"^{indent}", "", code, flags=re.M)
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(line, language, title and title[1], code))
    return found


def commands_in(code: str) -> Iterator[list[str]]:
    """The commands of a block for a shell, each in its words; comments are left out."""
    for line in code.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            yield words


def dialogue_in(code: str) -> Iterator[tuple[list[str], str]]:
    """The commands of a block for a console, each with the output that is shown below it."""
    for part in re.split(r"^\$ ", code, flags=re.M)[1:]:
        command, _, output = part.replace("\\\n", " ").partition("\n")
        yield shlex.split(command), output


def differs(shown: str, said: str) -> str | None:
    """How what a program said differs from what a page shows; None where it does not.

    Empty lines and the ends of lines do not count, nor do ports and seconds. In the page a line
    ``…`` stands for any lines, and at the end of a line for its rest.
    """
    wanted, found = _lines(shown), _lines(said)
    pattern = "".join(
        r"(?:.*\n)*?" if line == _REST else _as_pattern(line) + r"\n" for line in wanted
    )
    if re.fullmatch(pattern, "".join(f"{line}\n" for line in found)):
        return None
    return "\n".join(["the page shows:", *wanted, "", "it says:", *found])


def _as_pattern(line: str) -> str:
    return re.escape(line).replace(_REST, ".*")


def _lines(text: str) -> list[str]:
    for pattern, instead in _VARYING:
        text = pattern.sub(instead, text)
    return [line.rstrip() for line in text.splitlines() if line.strip()]
