"""The statuses that an operation can refuse with, read from the server's own code.

From an endpoint every function of the server is followed that it, or what it depends on, names:
called or handed on, by its own name, as a part of a module, or as a method of what an argument, a
field or a variable is annotated with or made as. What is found may be more than can happen.
"""

from __future__ import annotations

import ast
import inspect
import sys
from functools import cache
from importlib import import_module
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import fastapi
from fastapi import HTTPException
from pydantic import BeforeValidator

from elluminate_async.server.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_PACKAGE = "elluminate_async.server"
_REFUSALS: tuple[object, ...] = (Problem, HTTPException)
_Node = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Refused(NamedTuple):
    """One place that refuses.

    Attributes:
        status: With which status.
        place: Module and line.
        keys: Of the body, beside its ``detail``.
    """

    status: int
    place: str
    keys: frozenset[str]


def refusals_of(endpoint: Callable[..., Any]) -> set[Refused]:
    """All that it may come to."""
    found = set[Refused]()
    todo: list[object] = [endpoint]
    seen = set[object]()
    while todo:
        one = todo.pop()
        if isinstance(one, MethodType):
            one = one.__func__
        if isinstance(one, type) and _is_ours(one):
            todo += [vars(one).get("__init__"), vars(one).get("__post_init__")]
        elif isinstance(one, FunctionType) and _is_ours(one) and one not in seen:
            seen.add(one)
            raised, named = _look_at(one)
            found.update(raised)
            todo += named
    return found


def _is_ours(one: type | FunctionType) -> bool:
    if isinstance(one, FunctionType) and one.__code__.co_filename.startswith("<"):
        return False  # made by a dataclass
    return (one.__module__ or "").startswith(_PACKAGE) and one not in _REFUSALS


@cache
def _look_at(function: FunctionType) -> tuple[list[Refused], list[object]]:
    """The places that refuse, and what may be called."""
    body = _Body(inspect.unwrap(function))
    return list(body.raised()), list(body.named())


@cache
def _tree_of(module: ModuleType) -> dict[str, _Node]:
    """Functions and classes by their qualified names."""
    found: dict[str, _Node] = {}

    def walk(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, _Node):
                found[prefix + child.name] = child
                walk(child, f"{prefix}{child.name}.")
            else:
                walk(child, prefix)

    walk(ast.parse(inspect.getsource(module)), "")
    return found


@cache
def _names_of(module: ModuleType) -> dict[str, object]:
    """All that a module's names stand for, those for type checkers included."""
    names = dict(vars(module))
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(_PACKAGE):
            source = import_module(node.module or "")
            for alias in node.names:
                names.setdefault(alias.asname or alias.name, getattr(source, alias.name, None))
    return names


class _Body:
    """One function's source, and what its names stand for."""

    def __init__(self, function: FunctionType) -> None:
        self.module = sys.modules[function.__module__]
        path = function.__qualname__.replace("<locals>.", "")
        self.node = _tree_of(self.module)[path]
        self._variables: dict[str, type] = {}
        owner = _names_of(self.module).get(path.rpartition(".")[0])
        if isinstance(owner, type):
            self._variables["self"] = self._variables["cls"] = owner
        for part in ast.walk(self.node):
            if isinstance(part, ast.arg) and part.annotation is not None:
                self._note(part.arg, self._class_in(part.annotation))
            elif isinstance(part, ast.Assign) and isinstance(part.targets[0], ast.Name):
                value = part.value
                made = self._resolved(value.func) if isinstance(value, ast.Call) else None
                self._note(part.targets[0].id, made)

    def _note(self, name: str, kind: object) -> None:
        if isinstance(kind, type):
            self._variables[name] = kind

    def raised(self) -> Iterator[Refused]:
        for part in ast.walk(self.node):
            if not isinstance(part, ast.Call) or self._resolved(part.func) not in _REFUSALS:
                continue
            place = f"{self.module.__name__}:{part.lineno}"
            status = part.args[0]
            assert isinstance(status, ast.Constant), place
            assert isinstance(status.value, int), place
            extra = [one.value for one in part.keywords if one.arg == "extra"]
            yield Refused(status.value, place, frozenset(self._keys_in(extra)))

    def _keys_in(self, values: Iterable[ast.expr]) -> Iterator[str]:
        for value in values:
            if isinstance(value, ast.Dict):
                keys = [key for key in value.keys if isinstance(key, ast.Constant)]
                yield from (str(key.value) for key in keys)
            elif isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
                makers = ast.walk(_tree_of(self.module)[value.func.id])
                returned = (one.value for one in makers if isinstance(one, ast.Return))
                yield from self._keys_in(one for one in returned if one is not None)

    def named(self) -> Iterator[object]:
        for part in _without_annotations(self.node):
            if isinstance(part, ast.Name | ast.Attribute):
                yield self._resolved(part)
        for part in ast.walk(self.node):
            if isinstance(part, ast.arg) and part.annotation is not None:
                yield from self._called_for(part.annotation)

    def _called_for(self, annotation: ast.expr) -> Iterator[object]:
        """The function that FastAPI calls to make an argument of that annotation."""
        for part in ast.walk(annotation):
            if isinstance(part, ast.Call):
                if self._resolved(part.func) in (fastapi.Depends, BeforeValidator):
                    yield self._resolved(part.args[0])
            elif isinstance(part, ast.expr):
                for extra in getattr(self._resolved(part), "__metadata__", ()):
                    yield getattr(extra, "dependency", None) or getattr(extra, "func", None)

    def _resolved(self, node: ast.expr) -> object:
        """The function, class or module that a name or a dotted name stands for."""
        if isinstance(node, ast.Name):
            return None if node.id in self._variables else _names_of(self.module).get(node.id)
        if isinstance(node, ast.Attribute):
            for owner in (self._resolved(node.value), self._kind_of(node.value)):
                if isinstance(owner, ModuleType | type):
                    return getattr(owner, node.attr, None)
        return None

    def _kind_of(self, node: ast.expr) -> type | None:
        """The class of a variable, or of a field of one."""
        if isinstance(node, ast.Name):
            return self._variables.get(node.id)
        if isinstance(node, ast.Attribute):
            owner = self._kind_of(node.value)
            if owner is not None and _is_ours(owner):
                return _field_of(owner, node.attr)
        return None

    def _class_in(self, annotation: ast.expr) -> type | None:
        return _class_in(annotation, self.module)


def _class_in(annotation: ast.expr, module: ModuleType) -> type | None:
    """A class of the server that an annotation names, be it one of several."""
    for part in ast.walk(annotation):
        if isinstance(part, ast.Name):
            value = _names_of(module).get(part.id)
            for one in (value, *get_args(value)[:1]):
                if isinstance(one, type) and _is_ours(one):
                    return one
    return None


@cache
def _field_of(owner: type, name: str) -> type | None:
    module = sys.modules[owner.__module__]
    for part in ast.walk(_tree_of(module)[owner.__qualname__]):
        if isinstance(part, ast.AnnAssign) and ast.unparse(part.target) in (name, f"self.{name}"):
            return _class_in(part.annotation, module)
    return None


def _without_annotations(node: ast.AST) -> Iterator[ast.AST]:
    notes = [getattr(node, name, None) for name in ("annotation", "returns")]
    for child in ast.iter_child_nodes(node):
        if child not in notes:
            yield child
            yield from _without_annotations(child)
