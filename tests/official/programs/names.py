"""Print every public name of the installed official client, one a line."""

import inspect
import json
import sys

import elluminate
import elluminate.schemas
from elluminate import Client
from elluminate.resources.base import BaseResource

# Of pydantic, and of a model's own checks.
CHECKS = ("validate_", "fix_", "model_")


def methods(cls: type) -> set[str]:
    """The public ones that its package defines; asynchronous twins, with an a before, left out."""
    found = set[str]()
    for base in cls.__mro__:
        if base.__module__.split(".")[0] != "elluminate":
            continue
        for name, value in vars(base).items():
            is_method = inspect.isfunction(value) or isinstance(
                value, classmethod | staticmethod | property
            )
            if is_method and not name.startswith(("_", *CHECKS)):
                found.add(name)
    return {name for name in found if not (name.startswith("a") and name[1:] in found)}


def clients() -> list[type]:
    """Both of them, where there are two."""
    return [
        getattr(elluminate, name) for name in ("Client", "AsyncClient") if hasattr(elluminate, name)
    ]


def names() -> set[str]:
    """All names, as docs/migration.md has them."""
    found = {*elluminate.__all__, *elluminate.schemas.__all__} - {"__version__"}
    for cls in clients():
        found |= {f"client.{name}" for name in methods(cls)}
        parameters = inspect.signature(cls.__init__).parameters
        found |= {f"Client({name}=)" for name in parameters if name != "self"}
    with_client = Client()
    for attribute, value in vars(with_client).items():
        if isinstance(value, BaseResource):
            found |= {f"client.{attribute.lstrip('_')}.{name}" for name in methods(type(value))}
    for module, cls in all_classes():
        if module.startswith(("elluminate.schemas", "elluminate.streaming", "elluminate.utils")):
            found |= {f"{cls.__name__}.{name}" for name in methods(cls)}
    if "elluminate.evaluate" in sys.modules:
        # The package has the function by the module's name.
        found.add(sys.modules["elluminate.evaluate"].reset_default_client.__name__)
    return found


def all_classes() -> list[tuple[str, type]]:
    """The classes of its modules that are loaded, and where each is."""
    return [
        (name, value)
        for name, module in list(sys.modules.items())
        if name.split(".")[0] == "elluminate"
        for value in vars(module).values()
        if inspect.isclass(value) and value.__module__ == name and "[" not in value.__name__
    ]


print(json.dumps(sorted(names())))
