"""The package as it is installed."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pytest

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


SHARES = {
    "redis": "from elluminate_async.integrations.redis import RedisShare as S\n"
    "S('redis://127.0.0.1', name='x')",
    "ray": "from elluminate_async.integrations.ray import RayShare as S, evaluate, generate, rate\n"
    "S('x')",
}


@pytest.mark.parametrize("extra", SHARES)
def test_each_extra_for_many_processes_works_alone(tmp_path: Path, extra: str) -> None:
    """With one of them its part is imported, and the other's error names what to install."""
    venv.create(tmp_path / "env")
    python = tmp_path / "env" / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python)
    installed = run(*pip, "install", "-q", "--no-compile", f"{ROOT}[{extra}]", folder=tmp_path)
    assert installed.returncode == 0, installed.stderr

    for name, code in SHARES.items():
        done = run(python, "-c", code, folder=tmp_path)
        if name == extra:
            assert done.returncode == 0, done.stderr
        else:
            assert f"pip install 'elluminate-async[{name}]'" in done.stderr


def test_importing_it_starts_nothing_and_pulls_in_no_extra() -> None:
    """No extra's library is loaded by `import elluminate_async`, and no thread is started."""
    code = (
        "import sys, threading, elluminate_async\n"
        "extras = {'fastapi', 'uvicorn', 'sqlalchemy', 'openai', 'typer', 'rich'}\n"
        "extras |= {'numpy', 'jinja2', 'redis', 'ray', 'pyarrow'}\n"
        "assert not extras & set(sys.modules), extras & set(sys.modules)\n"
        "assert threading.active_count() == 1\n"
    )
    done = run(sys.executable, "-W", "error", "-c", code, folder=ROOT)
    assert done.returncode == 0, done.stderr
