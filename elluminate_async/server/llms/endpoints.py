"""The endpoints that configurations name: which are allowed, and their keys."""

from __future__ import annotations

from elluminate_async.errors import ConfigurationError
from elluminate_async.server.llms.addresses import Reach, fault_of_url
from elluminate_async.server.llms.base import ModelError
from elluminate_async.server.llms.openai import OpenAIModel
from elluminate_async.server.problems import Problem
from elluminate_async.server.vault import UnreadableKeyError, Vault


class Endpoints:
    """Takes endpoints in with a new configuration, and makes the models behind them.

    Args:
        reach: How far configurations may reach.
        vault: Where their keys are safe.
    """

    def __init__(self, reach: Reach, vault: Vault) -> None:
        self._reach = reach
        self._vault = vault

    def admit(self, url: str | None, api_key: str | None) -> str | None:
        """A new configuration's key as it may be stored.

        Raises:
            Problem: 422 for a URL that no configuration may name; 507 when its key
                cannot be encrypted, and so not be stored.
        """
        if url is not None and (fault := fault_of_url(url, self._reach)):
            raise Problem(422, f"llm_base_url {fault}")
        if not api_key:
            return None
        if not (api_key.isascii() and api_key.isprintable()):
            raise Problem(422, "api_key must be printable ASCII")
        try:
            return self._vault.seal(api_key)
        except ConfigurationError as error:
            raise Problem(507, str(error)) from None

    def model(self, name: str, url: str, sealed_key: str | None) -> OpenAIModel:
        """The model of that name at an endpoint.

        Raises:
            ModelError: The URL is one that no configuration may name, as earlier versions
                stored them, or the key cannot be decrypted.
        """
        if fault := fault_of_url(url, self._reach):
            raise ModelError(f"the configuration's llm_base_url {fault}")
        try:
            key = None if sealed_key is None else self._vault.open(sealed_key)
        except UnreadableKeyError as error:
            raise ModelError(f"the configuration's api_key cannot be decrypted: {error}") from None
        return OpenAIModel(name, base_url=url, api_key=key, reach=self._reach)
