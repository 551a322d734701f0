"""The embedded server: the service's protocol on this machine.

Needs the extra ``server``; without it, using a name of this module says what to install.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from elluminate_async.errors import MissingExtraError

if TYPE_CHECKING:
    from elluminate_async.server.administration import Administration
    from elluminate_async.server.app import create_app
    from elluminate_async.server.llms.base import (
        BusyError,
        JsonSchema,
        Model,
        ModelAnswer,
        ModelError,
        ModelRequest,
    )
    from elluminate_async.server.llms.offline import OfflineModel
    from elluminate_async.server.llms.openai import OpenAIModel
    from elluminate_async.server.local import LocalServer
    from elluminate_async.server.profile import WireProfile

__all__ = [
    "Administration",
    "BusyError",
    "JsonSchema",
    "LocalServer",
    "Model",
    "ModelAnswer",
    "ModelError",
    "ModelRequest",
    "OfflineModel",
    "OpenAIModel",
    "WireProfile",
    "create_app",
]

_HOME = {
    "Administration": "administration",
    "BusyError": "llms.base",
    "JsonSchema": "llms.base",
    "LocalServer": "local",
    "Model": "llms.base",
    "ModelAnswer": "llms.base",
    "ModelError": "llms.base",
    "ModelRequest": "llms.base",
    "OfflineModel": "llms.offline",
    "OpenAIModel": "llms.openai",
    "WireProfile": "profile",
    "create_app": "app",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("elluminate_async"):
            raise
        raise MissingExtraError("the embedded server", "server") from error
