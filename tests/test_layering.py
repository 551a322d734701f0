"""The layers: imports point one way, folders are layers, the same noun names three modules."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = "elluminate_async"
ROOT = Path(__file__).parent.parent / PACKAGE
MODULES = sorted(ROOT.rglob("*.py"))
MAX_LINES = 420
MAX_FUNCTION_LINES = 65

# What a layer may import of this package, by the first part of a module's name below it.
# `_version` holds one constant and is free to all.
L0 = {"errors", "schemas"}
L1 = {"config", "batch"}
L2 = {"engine", "limits", "transport"}
PUBLIC = {""}  # the names of elluminate_async/__init__.py
ALLOWED = {
    "errors": {"errors"},
    "schemas": {"schemas"},
    "config": L0,
    "batch": L0 | {"batch"},
    "limits": L0 | {"batch", "limits"},
    "engine": L0 | {"batch", "limits", "engine"},
    "transport": L0 | {"config", "limits", "transport"},
    "resources": L0 | L1 | L2 | {"resources"},
    "client": L0 | L1 | L2 | {"resources"},
    "server": L0 | {"limits", "server"},
    "cli": PUBLIC | {"errors", "server", "cli"},
    "testing": PUBLIC | L0 | {"testing"},
    "": L0 | L1 | {"client"},
    "__main__": {"cli"},
    "_version": set[str](),
}
# Third-party libraries, by layer. The server's and the command line's are their extras'.
LIBRARIES = {
    "errors": set[str](),
    "schemas": {"pydantic"},
    # yarl is aiohttp's own URL type: what is checked is what it reads.
    "config": {"dotenv", "yarl"},
    "batch": set[str](),
    "limits": {"anyio", "aiolimiter"},
    "engine": {"anyio", "aiolimiter"},
    "transport": {"aiohttp", "yarl", "anyio"},
    "resources": {"pydantic", "pydantic_core", "anyio"},
    "client": set[str](),
    "server": {
        "anyio", "cryptography", "fastapi", "h11", "httpcore2", "httpx2", "openai", "pydantic",
        "pydantic_core", "sqlalchemy", "starlette", "uvicorn",
    },
    "cli": {"typer", "rich", "click"},
    "testing": {"_typeshed", "aiohttp", "anyio", "pydantic", "pytest"},
    "": set[str](),
    "__main__": set[str](),
    "_version": set[str](),
}  # fmt: skip
# Resources share these; no resource imports another.
RESOURCE_HELPERS = {
    "batches",
    "connection",
    "existing",
    "echoes",
    "jobs",
    "journaling",
    "json_input",
    "matching",
    "pages",
    "parts",
    "reading",
    "response_rows",
    "starting",
    "response_plan",
    "response_run",
    "rating_plan",
    "rating_run",
    "settling",
    "singles",
}
NOUNS = {
    "collections", "criteria", "criterion_sets", "experiments", "llm_configs", "projects",
    "prompt_templates", "ratings", "responses", "template_variables",
}  # fmt: skip


def module_name(path: Path) -> str:
    parts = [*path.relative_to(ROOT).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer_of(name: str) -> str:
    return name.split(".")[0]


def imports(path: Path) -> set[str]:
    """Every module that ``path`` imports anywhere, type checking and functions included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_point_one_way(path: Path) -> None:
    """A module imports only what the table of layers allows it."""
    layer = layer_of(module_name(path))
    for imported in imports(path):
        top, _, rest = imported.partition(".")
        if top == PACKAGE:
            assert rest == "_version" or layer_of(rest) in ALLOWED[layer], imported
        elif top not in sys.stdlib_module_names:
            assert top in LIBRARIES[layer], imported


@pytest.mark.parametrize("noun", sorted(NOUNS))
def test_no_resource_imports_another(noun: str) -> None:
    """Resources share helpers, and know nothing of each other."""
    for imported in imports(ROOT / "resources" / f"{noun}.py"):
        if imported.startswith(f"{PACKAGE}.resources."):
            assert imported.rpartition(".")[2] in RESOURCE_HELPERS, imported


@pytest.mark.parametrize("noun", sorted(NOUNS))
def test_the_same_noun_names_the_module(noun: str) -> None:
    """What is on the wire, what the user calls and what the server answers stand side by side."""
    for folder in ("schemas", "resources", "server/routes"):
        assert (ROOT / folder / f"{noun}.py").is_file(), folder


def test_aiohttps_client_is_used_in_the_transport_only() -> None:
    """One place knows the HTTP library."""
    users = {
        name
        for path in MODULES
        if "aiohttp" in imports(path) and layer_of(name := module_name(path)) != "testing"
    }

    assert users == {"transport.session", "transport.exchange"}


def test_a_chunk_travels_in_five_hops_by_name() -> None:
    """The hops that the design names are functions of these names, each calling the next."""
    hops = [
        ("resources/responses.py", "generate_many", "run_batch"),
        ("engine/run.py", "run_batch", "_Run"),
        ("engine/run.py", "_send", "_sending"),
        ("engine/run.py", "_sending", "send_chunk"),
        ("resources/responses.py", "_send_chunk", "_send_once"),
        ("resources/responses.py", "_send_once", "_start_job"),
        ("resources/responses.py", "_send_once", "follow"),
        ("resources/response_run.py", "follow", "follow_job"),
        ("resources/responses.py", "_start_job", "post"),
        ("resources/response_run.py", "post", "start_job"),
        ("resources/connection.py", "send", "send"),
        ("transport/http.py", "send", "_attempt"),
        ("transport/http.py", "_attempt", "_exchange"),
        ("transport/http.py", "_exchange", "open"),
        ("transport/session.py", "open", "request"),
        ("resources/ratings.py", "rate_many", "run_batch"),
        ("resources/ratings.py", "_send_chunk", "_send_once"),
        ("resources/ratings.py", "_send_once", "_start_job"),
        ("resources/ratings.py", "_start_job", "_post"),
        ("resources/ratings.py", "_post", "start_job"),
    ]
    for file, function, callee in hops:
        tree = ast.parse((ROOT / file).read_text())
        bodies = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == function
        ]
        assert any(callee in _called(body) for body in bodies), f"{file}: {function} → {callee}"


def _called(body: ast.AST) -> set[str]:
    return {
        node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        for node in ast.walk(body)
        if isinstance(node, ast.Call)
    }


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_modules_and_functions_stay_readable(path: Path) -> None:
    """No module over about 400 lines, no function over about 60, its docstring not counted."""
    text = path.read_text()
    assert text.count("\n") <= MAX_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node, clean=False) or ""
            length = (node.end_lineno or 0) - node.lineno + 1 - docstring.count("\n")
            signature = node.body[0].lineno - node.lineno
            assert length - signature <= MAX_FUNCTION_LINES, node.name


def test_importing_the_package_needs_no_extra() -> None:
    """The public names need the five core dependencies and nothing else."""
    core = {
        "aiohttp", "pydantic", "pydantic_core", "anyio", "aiolimiter", "dotenv", "yarl",
        "_typeshed",
    }  # fmt: skip
    for path in MODULES:
        layer = layer_of(module_name(path))
        if layer not in ("server", "cli", "__main__") and path.stem != "pytest_plugin":
            used = {name.partition(".")[0] for name in imports(path)}
            assert used <= core | set(sys.stdlib_module_names) | {PACKAGE}
