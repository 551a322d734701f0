"""The public names: sorted, complete, and each where it says it is."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import elluminate_async
from elluminate_async import errors


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
