"""The layers: imports point one way, folders are layers, the same noun names three modules."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Container
from functools import cache
from pathlib import Path

import pytest

PACKAGE = "elluminate_async"
ROOT = Path(__file__).parent.parent / PACKAGE
MODULES = sorted(ROOT.rglob("*.py"))
MAX_LINES = 400
MAX_FUNCTION_LINES = 60

# What a layer may import of this package, by the first part of a module's name below it.
# `_version` holds one constant and is free to all.
L0 = {"errors", "schemas"}
L1 = {"config", "tables", "batch", "telemetry"}
L2 = {"limits"}
L3 = {"engine", "transport"}
PUBLIC = {""}  # the names of elluminate_async/__init__.py
ALLOWED = {
    "errors": {"errors"},
    "schemas": {"errors", "schemas"},
    "config": L0 | {"config"},
    "tables": L0 | {"tables"},
    "batch": L0 | {"tables", "batch"},
    "telemetry": {"errors", "telemetry"},
    "limits": L0 | {"batch", "telemetry", "limits"},
    "progress": {"batch", "limits", "progress"},
    "engine": L0 | L2 | {"batch", "telemetry", "engine"},
    "transport": L0 | L2 | {"config", "telemetry", "transport"},
    "operations": L0 | L1 | L2 | L3 | {"operations"},
    # No resource imports another, see below.
    "resources": L0 | L1 | L2 | L3 | {"operations", "progress", "resources"},
    "report": {"errors", "tables", "report"},
    "evaluation": L0
    | L1
    | L2
    | L3
    | {"operations", "progress", "report", "resources", "evaluation"},
    "client": L0 | L1 | L2 | L3 | {"operations", "resources", "evaluation"},
    "server": L0 | {"limits", "server"},
    # Of the integrations a share that the user names, which is an extra's.
    "cli": PUBLIC | L0 | {"batch", "config", "report", "tables", "server", "integrations", "cli"},
    "testing": PUBLIC | L0 | {"testing"},
    # Only the command line imports one. Jobs in the background are kept as journals are.
    "integrations": PUBLIC | L0 | {"batch", "engine", "tables", "telemetry", "integrations"},
    "": L0 | L1 | L2 | {"client", "engine", "evaluation", "operations"},
    "__main__": {"cli"},
    "_version": set[str](),
}
# Third-party libraries, by layer. The server's and the command line's are their extras'.
LIBRARIES = {
    "errors": {"pydantic_core"},
    "schemas": {"pydantic"},
    # yarl is aiohttp's own URL type: what is checked is what it reads.
    "config": {"dotenv", "yarl"},
    # The libraries of tables are imported where a user asks for them: they are the extra's.
    "tables": {
        "_typeshed", "narwhals", "pandas", "polars", "pyarrow", "pydantic", "pydantic_core",
    },
    "batch": {"pydantic", "pydantic_core"},
    "telemetry": set[str](),
    "limits": {"anyio", "aiolimiter"},
    # The extra's, and IPython where it runs already, inside of functions.
    "progress": {"IPython", "ipywidgets", "rich"},
    "engine": {"anyio", "aiolimiter"},
    "transport": {"aiohttp", "yarl", "anyio"},
    "operations": {"pydantic", "pydantic_core", "anyio"},
    "resources": {"pydantic"},
    # Those of the extras, inside of functions: summaries do not need them.
    "evaluation": {"anyio", "numpy", "pydantic", "pydantic_core", "tiktoken"},
    # The extra's, inside of functions.
    "report": {"jinja2", "markupsafe"},
    "client": set[str](),
    "server": {
        "anyio", "cryptography", "fastapi", "h11", "httpcore2", "httpx2", "openai", "pydantic",
        "pydantic_core", "sqlalchemy", "starlette", "uvicorn",
    },
    "cli": {"typer", "rich", "click", "pydantic", "yaml", "openpyxl"},
    "testing": {"_typeshed", "aiohttp", "anyio", "pydantic", "pytest"},
    "integrations": {
        "anyio", "fastapi", "opentelemetry", "pydantic", "pydantic_core", "pytest", "ray", "redis",
        "starlette",
    },
    "": set[str](),
    "__main__": set[str](),
    "_version": set[str](),
}  # fmt: skip
NOUNS = {
    "agent_results", "collections", "criteria", "criterion_sets", "experiments", "llm_configs",
    "projects", "prompt_templates", "ratings", "responses", "scenario_sets", "scenarios",
    "template_variables",
}  # fmt: skip


def module_name(path: Path) -> str:
    parts = [*path.relative_to(ROOT).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer_of(name: str) -> str:
    return name.split(".")[0]


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path, *, at_once: bool = False) -> set[str]:
    """Every module that ``path`` imports anywhere, type checking and functions included.

    With ``at_once`` those only that it needs to be imported itself.
    """
    found: set[str] = set()
    todo: list[ast.AST] = [parsed(path)]
    while todo:
        node = todo.pop()
        if at_once and _is_for_later(node):
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            found.add(node.module)
        todo.extend(ast.iter_child_nodes(node))
    return found


def _is_for_later(node: ast.AST) -> bool:
    is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    return is_function or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")


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
    """Resources know nothing of each other: they share a base class, and the operations."""
    others = {f"{PACKAGE}.resources.{other}" for other in NOUNS - {noun}}
    assert not imports(ROOT / "resources" / f"{noun}.py") & others


def test_resources_are_nouns_and_nothing_else() -> None:
    """What they share is in the layers below."""
    assert {path.stem for path in (ROOT / "resources").glob("*.py")} == NOUNS | {
        "__init__", "base"
    }  # fmt: skip


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

    assert users == {"transport.connector", "transport.session", "transport.exchange"}


OPERATIONS = {
    ("responses", "generate_many"): "Generate",
    ("responses", "stream_generate_many"): "Generate",
    ("responses", "add_many"): "Generate",
    ("responses", "stream_add_many"): "Generate",
    ("ratings", "rate_many"): "Rate",
    ("ratings", "stream_rate_many"): "Rate",
    ("template_variables", "add_many"): "Upload",
    ("template_variables", "stream_add_many"): "Upload",
}


@pytest.mark.parametrize(("noun", "method"), OPERATIONS, ids="-".join)
def test_a_nouns_method_makes_an_operation_and_runs_it(noun: str, method: str) -> None:
    """The first seam of the way from a call to the socket."""
    called = _called_in(ROOT / "resources" / f"{noun}.py", method)

    assert OPERATIONS[noun, method] in called
    assert ("stream_batch" if method.startswith("stream_") else "run_batch") in called


def test_one_module_below_the_nouns_speaks_to_the_transport() -> None:
    """The second seam: what an operation sends goes through `Connection`."""
    users = {
        module_name(path)
        for folder in ("operations", "resources")
        for path in (ROOT / folder).glob("*.py")
        if re.search(r"\btransport\.(send|stream)\(", path.read_text())
    }

    assert users == {"operations.connection"}


def test_no_circle_of_imports() -> None:
    """Modules can be read in an order in which each knows only those before it."""
    names = {module_name(path): path for path in MODULES}
    left = {name: imported_modules(path, names) - {name} for name, path in names.items()}
    while ready := [name for name, needed in left.items() if not needed & left.keys()]:
        for name in ready:
            del left[name]

    assert not left


def imported_modules(path: Path, names: Container[str]) -> set[str]:
    """The modules of this package that ``path`` imports when it runs."""
    found: set[str] = set()
    todo: list[ast.AST] = [parsed(path)]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE):
            module = (node.module or "").removeprefix(PACKAGE).removeprefix(".")
            for alias in node.names:
                within = f"{module}.{alias.name}".removeprefix(".")
                found.add(within if within in names else module)
        todo.extend(ast.iter_child_nodes(node))
    return found


def _called_in(path: Path, function: str) -> set[str]:
    bodies = [
        node
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == function
    ]
    assert bodies, function
    return {
        node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        for body in bodies
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
    """The public names need the five core dependencies; evaluations import more as it is used."""
    core = {
        "aiohttp", "pydantic", "pydantic_core", "anyio", "aiolimiter", "dotenv", "yarl",
        "_typeshed",
    }  # fmt: skip
    for path in MODULES:
        layer = layer_of(module_name(path))
        of_extra = layer in ("server", "cli", "integrations", "__main__")
        if not of_extra and path.stem != "pytest_plugin":
            # An extra's are imported where a user asks for them.
            used = {name.partition(".")[0] for name in imports(path, at_once=True)}
            assert used <= core | set(sys.stdlib_module_names) | {PACKAGE}


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_docstring_says_what_a_thing_is(path: Path) -> None:
    """None opens with "What": a noun or a verb tells sooner."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            assert not (ast.get_docstring(node) or "").startswith("What"), node
