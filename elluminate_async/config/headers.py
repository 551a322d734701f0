"""Headers of the caller's own, which go along with every request to the service."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from elluminate_async.config.secrets import Secret
from elluminate_async.errors import ConfigurationError

# Source: RFC 9110 sections 5.1 and 5.5, without what is not ASCII.
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+", re.IGNORECASE)
_VALUE = re.compile(r"[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?")

_WHY: Final = {
    "credential": "the credential is api_key= or token=",
    "framing": "it says how a request is framed, and that is seen to",
    "protocol": "the protocol needs it as it is",
    "proxy": "it is for a proxy, and a proxy's user and password go into proxy=",
}
_RESERVED: Final = {
    "authorization": "credential", "x-api-key": "credential", "cookie": "credential",
    "connection": "framing", "content-encoding": "framing", "content-length": "framing",
    "expect": "framing", "host": "framing", "keep-alive": "framing", "te": "framing",
    "trailer": "framing", "transfer-encoding": "framing", "upgrade": "framing",
    "accept": "protocol", "accept-encoding": "protocol", "content-type": "protocol",
    "idempotency-key": "protocol", "last-event-id": "protocol", "sdk-version": "protocol",
}  # fmt: skip


def checked_headers(headers: Mapping[str, str] | None) -> Mapping[str, Secret]:
    """``headers`` by name; their values may be credentials of a gateway, and are not shown.

    Raises:
        ConfigurationError: A name or a value cannot be sent, or a name is not the caller's.
    """
    if headers is None:
        return MappingProxyType({})
    if not isinstance(headers, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(
            "default_headers must be a mapping of names to values, such as {'X-Tenant': 'a'}, "
            f"not {type(headers).__name__}"
        )
    found: dict[str, Secret] = {}
    for name, value in headers.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"default_headers: {name!r:.80} is no name of a header")
        lower = name.lower()
        reason = "proxy" if lower.startswith("proxy-") else _RESERVED.get(lower)
        if reason is not None:
            raise ConfigurationError(f"default_headers must not set {name}: {_WHY[reason]}")
        if lower in map(str.lower, found):
            raise ConfigurationError(f"default_headers has {name} twice, in upper and lower case")
        if not isinstance(value, str) or not _VALUE.fullmatch(value):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(
                f"default_headers: the value of {name} must be a text of printable ASCII, without "
                "spaces or line ends around it"
            )
        found["User-Agent" if lower == "user-agent" else name] = Secret(value)
    return MappingProxyType(found)
