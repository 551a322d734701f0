"""Settings: argument over environment over an ``.env`` file that was asked for."""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dotenv import dotenv_values
from yarl import URL

from elluminate_async.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_BASE_URL = "https://app.elluminate.de"
API_KEY_VARIABLE = "ELLUMINATE_API_KEY"
TOKEN_VARIABLE = "ELLUMINATE_OAUTH_TOKEN"
BASE_URL_VARIABLE = "ELLUMINATE_BASE_URL"

_HEADER_SAFE = re.compile(r"[\x21-\x7e]+")

# Narrower than RFC 3986: of what this lets through, every reader of URLs sees the same host.
_NAME = r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.?"
_HOST_NAME = re.compile(_NAME, re.IGNORECASE)
_BASE_URL = re.compile(
    rf"https?://(?:{_NAME}|\[[0-9a-f:.]+\])(?::[0-9]{{1,5}})?"
    r"(?:/(?:[a-z0-9._~!$&'()*+,;=:@/-]|%[0-9a-f]{2})*)?",
    re.IGNORECASE,
)
_LONGEST_HOST = 253


class Secret:
    """A string that shows itself only when asked by name: not in `repr`, `str` or a pickle."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret itself."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not pickled; pass the settings to the other process instead")


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the service is and who asks.

    Attributes:
        base_url: Scheme, host, port and path prefix, without a trailing slash.
        api_key: Sent as ``X-API-Key``; None when a token is used.
        token: Sent as ``Authorization: Bearer``; None when a key is used.
    """

    base_url: str
    api_key: Secret | None = field(default=None)
    token: Secret | None = field(default=None)

    @property
    def secret(self) -> Secret | None:
        """The credential that is sent."""
        return self.api_key or self.token

    @classmethod
    def resolve(
        cls,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        token: str | None = None,
        env_file: str | os.PathLike[str] | None = None,
        allow_insecure_http: bool = False,
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
        layers = _Layers(os.environ if environment is None else environment, env_file)
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
        return cls(
            base_url=checked_base_url(url or DEFAULT_BASE_URL, allow_http=allow_insecure_http),
            api_key=None if key is None else _checked_secret(key, "API key"),
            # As the official clients: the key wins when both are known.
            token=None if bearer is None or key is not None else _checked_secret(bearer, "token"),
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


def checked_base_url(url: str, *, allow_http: bool = False) -> str:
    """``url`` without its trailing slash, scheme and host in lower case.

    Raises:
        ConfigurationError: It is not an http(s) URL, holds a user, a query or a
            fragment, or would send the key unencrypted to another machine.
    """
    if not isinstance(url, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"base_url must be a string, not {type(url).__name__}")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        if host and ":" in host:
            ipaddress.IPv6Address(host)
    except ValueError:
        # Its text may quote what precedes the host.
        raise ConfigurationError(
            f"base_url={_shown(url)!r} is not a URL: check its host and port"
        ) from None
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigurationError(
            f"base_url must look like https://host or http://127.0.0.1:8000, not {_shown(url)!r}"
        )
    if parts.username is not None or parts.query or parts.fragment or "?" in url or "#" in url:
        raise ConfigurationError(
            "base_url must not hold a user, a password, a query or a fragment; "
            "the key goes into api_key="
        )
    if not _HEADER_SAFE.fullmatch(url):
        raise ConfigurationError("base_url must be plain ASCII without spaces")
    if (
        not _BASE_URL.fullmatch(url)
        or port == 0
        or len(host) > _LONGEST_HOST
        or not _is_domain_name(host)
    ):
        # What is checked here is to be what the key is sent to.
        raise ConfigurationError(
            f"base_url={_shown(url)!r} is not a URL that everybody reads alike: write the host "
            "in letters, digits, dots and hyphens, then at most a port from 1 to 65535 and a path"
        )
    if parts.scheme == "http" and not allow_http and not is_loopback(host):
        raise ConfigurationError(
            f"base_url={url!r} would send the key unencrypted over the network: use https, "
            "or pass allow_insecure_http=True if that network is trusted"
        )
    origin = f"{parts.scheme}://{parts.netloc.lower()}"
    return (origin + url[len(origin) :]).rstrip("/")


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


def is_loopback(host: str) -> bool:
    """Whether a host name or literal address can only be this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        # A backslash in it, and others take what precedes that for the host.
        return _HOST_NAME.fullmatch(host) is not None
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_domain_name(host: str) -> bool:
    # "xn--a" has the form of an international name and stands for none: to show it fails later.
    if ":" in host:
        return True
    try:
        return URL.build(scheme="https", host=host).host is not None
    except ValueError:
        return False


def _shown(url: str) -> str:
    # What precedes an @ may be a password.
    return url.rpartition("@")[2]


def _checked_secret(value: str, what: str) -> Secret:
    if not isinstance(value, str) or not _HEADER_SAFE.fullmatch(value):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(
            f"the {what} holds a space, a line end or a character that is not ASCII: "
            "copy it again, without quotes or a trailing newline"
        )
    return Secret(value)
