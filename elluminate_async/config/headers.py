"""Headers besides the client's own: the caller's, of every request, and those of observers.

What nobody may say for this client is listed here: who asks, how a request is framed, what it is
about, and what the protocol says by a header of its own.
"""

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
    "partial": "it would have the service answer with a part, or with nothing",
    "protocol": "the protocol needs it as it is",
    "proxy": "it is for a proxy, and a proxy's user and password go into proxy=",
    "trace": "it is another for each request: see elluminate_async.integrations.opentelemetry",
}
_RESERVED: Final = {
    "authorization": "credential", "cookie": "credential", "cookie2": "credential",
    "x-api-key": "credential",
    "connection": "framing", "expect": "framing", "host": "framing", "http2-settings": "framing",
    "keep-alive": "framing", "te": "framing", "trailer": "framing",
    "transfer-encoding": "framing", "upgrade": "framing",
    "range": "partial",
    "accept": "protocol", "accept-encoding": "protocol", "idempotency-key": "protocol",
    "last-event-id": "protocol", "sdk-version": "protocol",
}  # fmt: skip
_RESERVED_FAMILIES: Final = {"content-": "framing", "if-": "partial", "proxy-": "proxy"}
# An observer's to say.
_OF_ONE_REQUEST: Final = {"traceparent": "trace", "tracestate": "trace"}


def _reserved(name: str) -> str | None:
    """Why nobody but the client says a header, a key of `_WHY`; None where others may."""
    lower = name.lower()
    family = next((f for f in _RESERVED_FAMILIES if lower.startswith(f)), "")
    return _RESERVED.get(lower) or _RESERVED_FAMILIES.get(family)


def with_added(own: Mapping[str, str], added: Mapping[str, str]) -> Mapping[str, str]:
    """``own`` headers, and what of ``added`` can be sent, is not among them and not reserved.

    Those are observers', and what does not fit of them is left out without a word.
    """
    if not added:
        return own
    taken = {name.lower() for name in own}
    fitting = {
        name: value
        for name, value in added.items()
        if name.lower() not in taken
        and not _reserved(name)
        and _NAME.fullmatch(name)
        and _VALUE.fullmatch(value)
    }
    return fitting | dict(own)


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
        if reason := _reserved(name) or _OF_ONE_REQUEST.get(lower):
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
