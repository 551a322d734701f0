"""The model that a command's options name."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from elluminate_async import ConfigurationError

if TYPE_CHECKING:
    from elluminate_async.server import Model

OFFLINE = "offline"

_KEY_VARIABLES = ("LLM_API_KEY", "OPENAI_API_KEY")


def model_named(name: str, base_url: str | None) -> Model:
    """The offline stand-in, or the model of that name at an OpenAI-compatible endpoint.

    The endpoint's key comes from the environment, so that it is in no process list.

    Raises:
        ConfigurationError: The endpoint is no URL, or no model at it was named.
    """
    from elluminate_async.server import OfflineModel, OpenAIModel

    if base_url is not None and not base_url.startswith(("http://", "https://")):
        raise ConfigurationError("--llm-base-url must begin with http:// or https://")
    if name == OFFLINE:
        if base_url is not None:
            raise ConfigurationError("--llm-base-url needs the name of a model there as well")
        return OfflineModel()
    key = next((os.environ[name] for name in _KEY_VARIABLES if os.environ.get(name)), None)
    if base_url is None and key is None:
        raise ConfigurationError(
            f"where is the model {name!r}? Give --llm-base-url, or set {_KEY_VARIABLES[-1]} to use "
            "OpenAI's own endpoint"
        )
    return OpenAIModel(name, base_url=base_url, api_key=key)
