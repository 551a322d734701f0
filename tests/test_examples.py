"""Every example runs as it stands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from elluminate_async.server import LocalServer

SAYS = {
    "01_batch_guide": ["Response: "],
    "02_failures_and_streams": ["<Batch 100/101 succeeded; failed: 1 http_404>"],
    "03_resume": [
        "cancelled midway: True",
        "<Batch 100/100 succeeded>",
        "generated once each: True",
    ],
    "04_testing": ["answers lost: 2, refused: 1", "50 positions: 50 ok"],
    "05_sync": ["from the main thread: True", "from four threads: 8"],
    "06_ray_evaluation": [
        "killed midway: True",
        "rows, each once: True",
        "failed: 0",
        "paid for: 600 responses to 600 rows",
    ],
}
EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))


def run(path: Path, environment: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        env={**os.environ, **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
async def test_example_runs(path: Path, tmp_path: Path) -> None:
    """The example ends well against the embedded server, warnings being errors."""
    async with LocalServer() as server:
        environment = {"ELLUMINATE_BASE_URL": server.url, "ELLUMINATE_API_KEY": server.api_key}
        done = await anyio.to_thread.run_sync(run, path, environment, tmp_path)

    assert done.returncode == 0, done.stderr
    assert done.stderr == "" or "Batch 100/101" in done.stderr
    for line in SAYS[path.stem]:
        assert line in done.stdout
    if path.stem == "01_batch_guide":
        blocks = done.stdout.split("Response: ")[1:]
        assert [("Python" in block, "JavaScript" in block) for block in blocks] == [
            (True, False),
            (False, True),
        ]
        assert all(block.count("Rating: ") >= 3 for block in blocks)
