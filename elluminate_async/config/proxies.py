"""`Proxy`: the forward proxy on the way to the service, if there is one.

Only ever a tunnel: a proxy is asked by CONNECT for a connection to the service, and what is said
in it is TLS. So there is none for plain http, where it would read the key, and none from the
environment for this machine itself.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from elluminate_async.config.secrets import Secret
from elluminate_async.config.urls import is_loopback, is_plain_origin, without_user
from elluminate_async.errors import ConfigurationError
from elluminate_async.errors.arguments import flag

if TYPE_CHECKING:
    from collections.abc import Mapping

PROXY_ARGUMENT: Final = "proxy="

# The lower case first, as curl has it; one that is empty is none.
_VARIABLES: Final = (("https_proxy", "HTTPS_PROXY"), ("all_proxy", "ALL_PROXY"))
_EXCEPTIONS: Final = ("no_proxy", "NO_PROXY")
# Of RFC 3986: what else is in one has to be escaped, lest others take it for the host.
_USER_INFO: Final = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:-]|%[0-9A-Fa-f]{2})*")
_WITH_PORT: Final = re.compile(r"(?P<name>[^:]+|\[[^]]+\]):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Proxy:
    """A forward proxy.

    Attributes:
        url: Scheme, host and port; without its user.
        source: Where it was named: ``proxy=``, or a variable of the environment.
        password: Its user's, where it has one.
        authorization: The value of ``Proxy-Authorization``; None where it has no user.
    """

    url: str
    source: str
    password: Secret | None = None
    authorization: Secret | None = None


def proxy_for(
    base_url: str, proxy: str | None, *, trust_env: bool, environment: Mapping[str, str]
) -> Proxy | None:
    """The proxy to a service at ``base_url``; None for a direct connection.

    Raises:
        ConfigurationError: It cannot be used, or would be shown the key.
    """
    trust_env = flag(trust_env, "trust_env", ConfigurationError)
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    if proxy is not None:
        found = _checked(proxy, PROXY_ARGUMENT)
        if parts.scheme != "https":
            hint = "use an https base_url"
            if is_loopback(host):
                hint = "leave it out, as the service is on this machine"
            raise ConfigurationError(
                f"proxy={found.url!r} would read the key, as base_url={base_url!r} is plain http: "
                f"{hint}"
            )
        return found
    if not trust_env or parts.scheme != "https" or is_loopback(host):
        return None
    for names in _VARIABLES:
        name, value = _first_set(names, environment)
        if value and not _is_exempt(host, parts.port or 443, environment):
            # Without a scheme, as many write it, it is an http one.
            return _checked(value if "://" in value else f"http://{value}", name)
    return None


def _first_set(names: tuple[str, ...], environment: Mapping[str, str]) -> tuple[str, str]:
    """The first of ``names`` that is set, and its value, which may be empty."""
    return next(
        ((name, environment[name].strip()) for name in names if name in environment), ("", "")
    )


def _is_exempt(host: str, port: int, environment: Mapping[str, str]) -> bool:
    """Whether ``NO_PROXY`` names ``host``, a domain that it is in, or a network that it is in."""
    _, exceptions = _first_set(_EXCEPTIONS, environment)
    return any(
        _names(exception, host.rstrip("."), port)
        for exception in exceptions.lower().replace(",", " ").split()
    )


def _names(exception: str, host: str, port: int) -> bool:
    """Whether one entry of ``NO_PROXY``, perhaps with a port of its own, is about ``host``."""
    if exception == "*":
        return True
    if match := _WITH_PORT.fullmatch(exception):
        exception = match["name"]
        if int(match["port"]) != port:
            return False
    try:
        network = ipaddress.ip_network(exception.strip("[]"), strict=False)
        return ipaddress.ip_address(host) in network
    except ValueError:
        # One of them is a name.
        domain = exception.removeprefix("*").strip(".")
        return bool(domain) and (host == domain or host.endswith(f".{domain}"))


def _checked(url: object, source: str) -> Proxy:
    """The proxy at ``url``.

    Raises:
        ConfigurationError: It is no http(s) URL of a host and a port; the text shows no password.
    """
    said = source if source == PROXY_ARGUMENT else f"the environment's {source}="
    if not isinstance(url, str):
        raise ConfigurationError(
            f"{said} must be a URL such as http://host:3128, not {type(url).__name__}"
        )
    scheme, _, rest = url.rstrip("/").partition("://")
    user_info, at, address = rest.rpartition("@")
    shown = without_user(url)
    other_way = "" if source == PROXY_ARGUMENT else "; trust_env=False leaves the environment alone"
    if scheme.lower().startswith("socks"):
        raise ConfigurationError(
            f"{said}{scheme}://… is a SOCKS proxy, which is not spoken here: name one that speaks "
            f"HTTP, such as http://host:3128{other_way}"
        )
    origin = f"{scheme}://{address}".lower()
    is_usual = is_plain_origin(origin) and _USER_INFO.fullmatch(user_info) is not None
    if scheme.lower() not in ("http", "https") or not is_usual:
        raise ConfigurationError(
            f"{said}{shown!r} is not the URL of a proxy: write http://host:port, or "
            f"http://user:password@host:port with %40 for an @ in them, and so on{other_way}"
        )
    if not at:
        return Proxy(origin, source)
    user, _, password = (unquote(part) for part in user_info.partition(":"))
    token = base64.b64encode(f"{user}:{password}".encode()).decode()
    return Proxy(origin, source, Secret(password), Secret(f"Basic {token}"))
