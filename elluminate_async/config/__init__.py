"""Settings: argument over environment over an ``.env`` file that was asked for."""

from __future__ import annotations

import os
import ssl
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dotenv import dotenv_values

from elluminate_async.config.headers import checked_headers
from elluminate_async.config.proxies import Proxy as Proxy
from elluminate_async.config.proxies import proxy_for
from elluminate_async.config.secrets import Secret as Secret
from elluminate_async.config.secrets import checked_secret
from elluminate_async.config.urls import checked_base_url as checked_base_url
from elluminate_async.config.urls import is_loopback as is_loopback
from elluminate_async.errors import ConfigurationError
from elluminate_async.errors.arguments import flag

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_BASE_URL = "https://app.elluminate.de"
API_KEY_VARIABLE = "ELLUMINATE_API_KEY"
TOKEN_VARIABLE = "ELLUMINATE_OAUTH_TOKEN"
BASE_URL_VARIABLE = "ELLUMINATE_BASE_URL"


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the service is, which way leads to it, and who asks.

    Attributes:
        base_url: Scheme, host, port and path prefix, without a trailing slash.
        api_key: Sent as ``X-API-Key``; None when a token is used.
        token: Sent as ``Authorization: Bearer``; None when a key is used.
        proxy: Between this machine and the service; None for a direct connection.
        headers: The caller's own, sent to the service with each request.
    """

    base_url: str
    api_key: Secret | None = field(default=None)
    token: Secret | None = field(default=None)
    proxy: Proxy | None = field(default=None)
    headers: Mapping[str, Secret] = field(default_factory=dict[str, Secret])

    @property
    def secret(self) -> Secret | None:
        """The credential that is sent."""
        return self.api_key or self.token

    @property
    def secrets(self) -> list[str]:
        """All that nobody is to be shown: the credential, the proxy's password, own headers."""
        password = None if self.proxy is None else self.proxy.password
        secrets = (self.secret, password, *self.headers.values())
        return [secret.reveal() for secret in secrets if secret is not None]

    @classmethod
    def resolve(
        cls,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        token: str | None = None,
        env_file: str | os.PathLike[str] | None = None,
        allow_insecure_http: bool = False,
        proxy: str | None = None,
        trust_env: bool = True,
        default_headers: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Settings:
        """The settings from arguments, then the environment, then ``env_file``.

        A credential passed as an argument hides the other kind found elsewhere. An
        ``.env`` file is read only when it is named.

        Raises:
            ConfigurationError: No credential was found, or a value cannot work.
        """
        if base_url == "":
            # Not the hosted service by mistake: the key would go there.
            raise ConfigurationError(
                "base_url is empty; a LocalServer has its url once it is entered with async with"
            )
        environment = os.environ if environment is None else environment
        layers = _Layers(environment, env_file)
        url, url_source = layers.find(base_url, BASE_URL_VARIABLE)
        key, key_source = layers.find(api_key, API_KEY_VARIABLE, hidden=token is not None)
        bearer, bearer_source = layers.find(token, TOKEN_VARIABLE, hidden=api_key is not None)
        if key is None and bearer is None:
            raise ConfigurationError(
                f"no API key: pass api_key=... or set the environment variable {API_KEY_VARIABLE}; "
                "to try things without an account, run `elluminate-async serve` and use its key"
            )
        if url_source == "file" and "environment" in (key_source, bearer_source):
            warnings.warn(
                f"{BASE_URL_VARIABLE} comes from {env_file} and the credential from the "
                "environment: make sure that they belong together",
                stacklevel=3,
            )
        allow_http = flag(allow_insecure_http, "allow_insecure_http", ConfigurationError)
        where = checked_base_url(url or DEFAULT_BASE_URL, allow_http=allow_http)
        return cls(
            base_url=where,
            api_key=None if key is None else checked_secret(key, "API key"),
            # As the official clients: the key wins when both are known.
            token=None if bearer is None or key is not None else checked_secret(bearer, "token"),
            proxy=proxy_for(where, proxy, trust_env=trust_env, environment=environment),
            headers=checked_headers(default_headers),
        )


class _Layers:
    """The three places a setting may come from."""

    def __init__(self, environment: Mapping[str, str], env_file: str | os.PathLike[str] | None):
        self._environment = environment
        self._file: Mapping[str, str | None] = {}
        if env_file is not None:
            if not Path(env_file).is_file():
                raise ConfigurationError(f"env_file={os.fspath(env_file)!r}: there is no such file")
            self._file = dotenv_values(env_file)

    def find(
        self, argument: str | None, variable: str, *, hidden: bool = False
    ) -> tuple[str | None, str]:
        """The value and where it is from; empty strings count as not set."""
        if argument:
            return argument, "argument"
        if hidden:
            return None, ""
        if value := self._environment.get(variable):
            return value, "environment"
        if value := self._file.get(variable):
            return value, "file"
        return None, ""


def checked_ssl_context(context: ssl.SSLContext) -> ssl.SSLContext:
    """``context``, which must verify whom it speaks to.

    Raises:
        ConfigurationError: It does not: whoever is in between would get the key.
    """
    if context.verify_mode is not ssl.CERT_REQUIRED or not context.check_hostname:
        raise ConfigurationError(
            "ssl_context does not verify the server's certificate and name, and would show the "
            "key to whoever is in between: for a private authority pass "
            "ssl.create_default_context(cafile=...)"
        )
    return context
