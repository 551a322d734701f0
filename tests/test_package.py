"""The package as it is installed."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
CORE = {"aiohttp", "aiolimiter", "anyio", "pydantic", "python-dotenv"}


def run(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(argument) for argument in arguments],
        cwd=folder, capture_output=True, text=True, timeout=1200, check=False,
    )  # fmt: skip


def test_a_plain_install_works_with_the_core_dependencies_only(tmp_path: Path) -> None:
    """`pip install .` in a clean environment: the import works, extras say how to get them."""
    venv.create(tmp_path / "env")
    python = tmp_path / "env" / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python)
    installed = run(*pip, "install", "-q", "--no-compile", ROOT, folder=tmp_path)
    assert installed.returncode == 0, installed.stderr

    listed = run(
        python, "-c",
        "import importlib.metadata as m, re\n"
        "print(*sorted({re.match(r'[\\w-]+', r)[0] for r in m.requires('elluminate-async') "
        "if 'extra' not in r}))",
        folder=tmp_path,
    )  # fmt: skip
    assert set(listed.stdout.split()) == CORE
    imported = run(
        python, "-W", "error", "-c",
        "import elluminate_async as e, importlib.resources as r\n"
        "assert e.AsyncClient(api_key='k', base_url='http://127.0.0.1:1')\n"
        "assert r.files('elluminate_async').joinpath('py.typed').is_file()\n"
        "assert r.files('elluminate_async').joinpath('data/programming_quirks.csv').is_file()\n"
        "report = r.files('elluminate_async').joinpath('report')\n"
        "assert all(report.joinpath(f'page.{x}').is_file() for x in ('html', 'css', 'js'))\n"
        "try:\n"
        "    from elluminate_async.server import LocalServer\n"
        "except e.MissingExtraError as error:\n"
        "    print(error)\n",
        folder=tmp_path,
    )  # fmt: skip
    assert imported.returncode == 0, imported.stderr
    assert "pip install 'elluminate-async[server]'" in imported.stdout
    program = run(tmp_path / "env" / "bin" / "elluminate-async", "demo", folder=tmp_path)
    assert program.returncode == 2
    assert "pip install 'elluminate-async[cli,server]'" in program.stderr


def test_importing_it_starts_nothing_and_pulls_in_no_extra() -> None:
    """No extra's library is loaded by `import elluminate_async`, and no thread is started."""
    code = (
        "import sys, threading, elluminate_async\n"
        "extras = {'fastapi', 'uvicorn', 'sqlalchemy', 'openai', 'typer', 'rich'}\n"
        "extras |= {'numpy', 'jinja2'}\n"
        "assert not extras & set(sys.modules), extras & set(sys.modules)\n"
        "assert threading.active_count() == 1\n"
    )
    done = run(sys.executable, "-W", "error", "-c", code, folder=ROOT)
    assert done.returncode == 0, done.stderr
