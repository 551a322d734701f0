"""The keys that the models of the installed official client know, as JSON: by class."""

import json
import pkgutil
from importlib import import_module

from elluminate import schemas
from pydantic import BaseModel

found = {}
for module in pkgutil.walk_packages(schemas.__path__, f"{schemas.__name__}."):
    for one in vars(import_module(module.name)).values():
        if not isinstance(one, type) or not issubclass(one, BaseModel) or "[" in one.__name__:
            continue
        if one.__module__.startswith("elluminate."):
            fields = one.model_fields.items()
            found[one.__name__] = sorted(field.alias or name for name, field in fields)
print(json.dumps(found))
