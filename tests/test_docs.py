"""The code of the pages works as it stands, on an embedded server."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from elluminate_async import AsyncClient, RatingMode
from elluminate_async.server import LocalServer
from tests.evaluation.scene import words

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
WHOLE = "asyncio.run(main())"
# What is about other things, and tested with them.
OTHERS = ("BatchOptions(", "batch.raise_for_failed()", "run.journal", "pytest_plugins")


def blocks() -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for page in PAGES:
        text = page.read_text()
        for number, code in enumerate(re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)):
            if not any(mark in code for mark in OTHERS):
                found.append((f"{page.stem}-{number}", code))
    return found


@pytest.mark.parametrize(("name", "code"), blocks(), ids=[name for name, _ in blocks()])
async def test_a_block_runs(name: str, code: str, tmp_path: Path, monkeypatch: Any) -> None:
    """A whole program by itself; a part with the names that the page has by then."""
    if WHOLE in code:
        path = tmp_path / "program.py"
        path.write_text(code)
        done = subprocess.run(  # noqa: ASYNC221
            [sys.executable, "-W", "error", str(path)],
            cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout
        return
    monkeypatch.chdir(tmp_path)
    async with (
        LocalServer() as server,
        AsyncClient(base_url=server.url, api_key=server.api_key) as client,
    ):
        names: dict[str, Any] = {"client": client, "rows": words(3), "prompt": "Say {{word}}"}
        names |= {"criteria": ["Is it right?"]}
        await client.llm_configs.create("small", "small")
        await client.llm_configs.create("large", "large")
        asked: dict[str, Any] = {"prompt": names["prompt"], "criteria": names["criteria"]}
        asked["rating_mode"] = RatingMode.FAST
        names["last_weeks_result"] = await client.evaluate(words(4), **asked)
        names["result"] = await client.evaluate(words(3), **asked)
        code = code.replace('result.compare("small"', 'both.compare("small"')
        names["both"] = await client.evaluate(words(3), llm_configs=["small", "large"], **asked)
        scope: dict[str, Any] = {}
        exec(f"async def block({', '.join(names)}):\n{textwrap.indent(code, '    ')}", scope)
        await scope["block"](**names)
