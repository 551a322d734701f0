"""The public names: sorted, complete, and each where it says it is."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import get_args, get_origin, get_type_hints

from pydantic import BaseModel

import elluminate_async
from elluminate_async import errors, testing
from elluminate_async.resources.base import Resource

GENERIC = {"Any", "Literal", "Mapping", "None", "Sequence", "Unpack"}
"""Of the standard library, in signatures."""


def test_names_are_sorted_and_unique() -> None:
    """`__all__` reads like an index."""
    assert elluminate_async.__all__ == sorted(set(elluminate_async.__all__))


def test_names_are_complete() -> None:
    """What the package's namespace holds is in `__all__`, and the other way round."""
    held = {
        name
        for name, value in vars(elluminate_async).items()
        if not isinstance(value, ModuleType)
        and not (name.startswith("_") and name != "__version__")
    }

    assert held == set(elluminate_async.__all__)


def test_every_error_is_public() -> None:
    """Users can catch each class by a name they may import."""
    classes = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.ElluminateError)
    }

    assert classes <= set(elluminate_async.__all__)


def test_every_class_says_what_it_is() -> None:
    """Each public class has a docstring of its own and can be imported from the package."""
    for name in elluminate_async.__all__:
        value = getattr(elluminate_async, name)
        if isinstance(value, type):
            assert value.__name__ == name
            assert "__doc__" in vars(value), name
            assert value.__doc__, name


def test_importing_does_nothing() -> None:
    """An import starts no loop, opens no file, and leaves the logger's level alone."""
    code = (
        "import asyncio, logging, sys, threading, elluminate_async\n"
        "assert threading.active_count() == 1\n"
        "assert logging.getLogger('elluminate_async').level == logging.NOTSET\n"
        "(handler,) = logging.getLogger('elluminate_async').handlers\n"
        "assert type(handler) is logging.NullHandler\n"
        "assert not logging.root.handlers\n"
        "assert 'fastapi' not in sys.modules and 'typer' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr


def _classes_in(hint: object) -> Iterator[type]:
    """The package's classes in a type hint, however deep."""
    if isinstance(hint, type) and hint.__module__.startswith("elluminate_async"):
        yield hint
    for part in (get_origin(hint), *get_args(hint)):
        yield from _classes_in(part) if part is not None else ()


def _handed_out() -> set[type]:
    """What methods of the client and its nouns return, and what that has in its fields."""
    client = elluminate_async.AsyncClient(api_key="k")
    nouns = [value for value in vars(client).values() if isinstance(value, Resource)]
    # What a module imports for its annotations only is not among its own names.
    names = {name: getattr(elluminate_async, name) for name in elluminate_async.__all__}
    left: list[type] = []
    for owner in (client, *nouns):
        for name, method in inspect.getmembers(type(owner), inspect.isfunction):
            if not name.startswith("_"):
                left += _classes_in(
                    get_type_hints(method, {**names, **method.__globals__}).get("return")
                )
    found: set[type] = set()
    while left:
        one = left.pop()
        if one not in found:
            found.add(one)
            fields = one.model_fields.values() if issubclass(one, BaseModel) else ()
            for field in fields:
                left += _classes_in(field.annotation)
    return found


def test_every_type_that_a_user_is_handed_is_public() -> None:
    """Results, and what they hold, can be named in a program's own annotations."""
    handed = {kind.__name__ for kind in _handed_out()}

    assert {"Batch", "Listing", "PromptResponse", "Rating"} <= handed
    assert handed <= set(elluminate_async.__all__)


def test_every_name_in_a_signature_is_public_or_explained() -> None:
    """`help` of a noun shows annotations by name: what cannot be imported is told there."""
    client = elluminate_async.AsyncClient(api_key="k")
    for noun in (value for value in vars(client).values() if isinstance(value, Resource)):
        for name, method in inspect.getmembers(type(noun), inspect.isfunction):
            if name.startswith("_"):
                continue
            for hint in inspect.get_annotations(method).values():
                for word in re.findall("[A-Z][A-Za-z]+", hint):
                    public = word in elluminate_async.__all__ or word in GENERIC
                    told = f"``{word}``" in (inspect.getdoc(type(noun)) or "")
                    assert public or told, f"{type(noun).__name__}.{name}: {word}"


def test_help_of_the_client_lists_its_resources() -> None:
    """Each with a line that says what it is for."""
    client = elluminate_async.AsyncClient(api_key="k")
    text = inspect.getdoc(type(client)) or ""
    for name, value in vars(client).items():
        if isinstance(value, Resource):
            assert re.search(rf"^    {name}: \w.+\.$", text, re.MULTILINE), name


def test_the_testing_package_exports_what_users_need() -> None:
    """About a dozen names; the rest is in its modules."""
    assert testing.__all__ == sorted(testing.__all__, key=lambda n: (not n.isupper(), n))
    assert len(testing.__all__) <= 15
