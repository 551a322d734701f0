"""URLs: what is checked is what every reader of it sees."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from yarl import URL

from elluminate_async.config.secrets import VISIBLE_ASCII
from elluminate_async.errors import ConfigurationError

# Narrower than RFC 3986: of what this lets through, every reader of URLs sees the same host.
_NAME = r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.?"
_HOST_NAME = re.compile(_NAME, re.IGNORECASE)
_BASE_URL = re.compile(
    rf"https?://(?:{_NAME}|\[[0-9a-f:.]+\])(?::[0-9]{{1,5}})?"
    r"(?:/(?:[a-z0-9._~!$&'()*+,;=:@/-]|%[0-9a-f]{2})*)?",
    re.IGNORECASE,
)
_LONGEST_HOST = 253

PROTOCOL_PATH = "/api/v0"
"""Below a base URL; that of every request begins so."""


def checked_base_url(url: str, *, allow_http: bool = False) -> str:
    """``url`` without its trailing slash, scheme and host in lower case.

    A path before the protocol's own is kept; that, as copied from an address of a request, is
    left out.

    Raises:
        ConfigurationError: It is not an http(s) URL, holds a user, a query or a
            fragment, or would send the key unencrypted to another machine.
    """
    if not isinstance(url, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"base_url must be a string, not {type(url).__name__}")
    shown = without_user(url)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        if host and ":" in host:
            ipaddress.IPv6Address(host)
    except ValueError:
        # Its text may quote what precedes the host.
        raise ConfigurationError(
            f"base_url={shown!r} is not a URL: check its host and port"
        ) from None
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigurationError(
            f"base_url must look like https://host or http://127.0.0.1:8000, not {shown!r}"
        )
    if parts.username is not None or parts.query or parts.fragment or "?" in url or "#" in url:
        raise ConfigurationError(
            "base_url must not hold a user, a password, a query or a fragment; "
            "the key goes into api_key="
        )
    if not VISIBLE_ASCII.fullmatch(url):
        raise ConfigurationError("base_url must be plain ASCII without spaces")
    if not _reads_alike(url, host, port):
        # What is checked here is to be what the key is sent to.
        raise ConfigurationError(
            f"base_url={shown!r} is not a URL that everybody reads alike: write the host "
            "in letters, digits, dots and hyphens, then at most a port from 1 to 65535 and a path"
        )
    if parts.scheme == "http" and not allow_http and not is_loopback(host):
        raise ConfigurationError(
            f"base_url={url!r} would send the key unencrypted over the network: use https, "
            "or pass allow_insecure_http=True if that network is trusted"
        )
    origin = f"{parts.scheme}://{parts.netloc.lower()}"
    path = url[len(origin) :].rstrip("/")
    return (origin + path.removesuffix(PROTOCOL_PATH)).rstrip("/")


def is_plain_origin(url: str) -> bool:
    """Whether ``url`` is scheme, host and at most a port, and everybody reads it alike."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        if host and ":" in host:
            ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return bool(host) and not parts.path and _reads_alike(url, host or "", port)


def _reads_alike(url: str, host: str, port: int | None) -> bool:
    is_usual = _BASE_URL.fullmatch(url) is not None and len(host) <= _LONGEST_HOST
    return is_usual and port != 0 and _is_domain_name(host)


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


def without_user(url: str) -> str:
    """``url`` without what precedes an @, which may be a password."""
    return url.rpartition("@")[2]
