"""The README's code works as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_the_first_example_runs_as_it_stands(tmp_path: Path) -> None:
    """A newcomer pastes it into a file, without any variable set, and it prints ratings."""
    path = tmp_path / "first.py"
    path.write_text(blocks("python")[0])
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ELLUMINATE_")}

    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("[offline model") == 2
    assert re.search(r"YES|NO", done.stdout)


def test_the_first_screen_says_how_to_run_and_test_it() -> None:
    """What it is, the two commands and the example come before the first heading."""
    first_screen = README.split("\n## ")[0]

    assert "make demo" in first_screen
    assert "make test" in first_screen
    assert "asyncio.run(main())" in first_screen


def test_the_options_it_shows_exist() -> None:
    """The block on bounds is valid code."""
    (block,) = [block for block in blocks("python") if "BatchOptions(" in block]

    exec(block.replace("AsyncClient(", "dict(").replace("print", "None"), {})


def test_every_target_it_names_is_in_the_makefile() -> None:
    """`make …` in the README is a target."""
    makefile = (ROOT / "Makefile").read_text()

    for target in set(re.findall(r"make ([a-z]+)", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
