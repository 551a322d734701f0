"""Where configurations may send prompts: which URLs, and which addresses behind them."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

ALLOW = "--allow-private-endpoints (LocalServer: allow_private_endpoints=True)"

# Narrow on purpose: what matches is the same host to every reader of URLs.
_URL = re.compile(
    r"https?://(?:\[(?P<v6>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+))(?::(?P<port>[0-9]{1,5}))?"
    r"(?:/[a-z0-9._~!$&'()*+,;=:@%/-]*)?",
    re.IGNORECASE,
)
_LONGEST_URL = 2048

# Those of clouds that are not link-local; none of them is ever a model.
_METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd00:42::42",
        "fd20:ce::254",
    )
)
_THIS_NETWORK = ipaddress.IPv4Network("0.0.0.0/8")
_COMPATIBLE = ipaddress.IPv6Network("::/96")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")


@dataclass(frozen=True, slots=True)
class Reach:
    """How far configurations may reach; the public Internet always is.

    Attributes:
        loopback: To this machine.
        private: To this machine and to private networks.
    """

    loopback: bool = False
    private: bool = False


def fault_of_url(url: str, reach: Reach) -> str | None:
    """Why a configuration may not name this URL; None when it may.

    A name is not looked up: what it leads to is judged whenever it is connected to.
    """
    if not url.lower().startswith(("http://", "https://")):
        return "must begin with http:// or https://"
    authority = re.split(r"[/?#\\]", url.partition("://")[2], maxsplit=1)[0]
    if "@" in authority:
        return "must hold no user name or password: the key has a field of its own, api_key"
    if "?" in url or "#" in url:
        return "must have no query and no fragment: the key has a field of its own, api_key"
    parts = _URL.fullmatch(url)
    if parts is None or len(url) > _LONGEST_URL or not 0 < int(parts["port"] or 1) < 1 << 16:
        return "is no URL of an endpoint, which is like https://models.example.com:8443/v1"
    try:
        addresses = _numeric(parts["v6"] or parts["name"])
    except UnicodeError:
        return "holds a host name that cannot be"
    if parts["v6"] and not addresses:
        return "holds an IPv6 address that cannot be"
    faults = (fault_of_address(address, reach) for address in addresses)
    return next((f"leads to {fault}" for fault in faults if fault), None)


def fault_of_address(address: str, reach: Reach) -> str | None:
    """Why a configuration's endpoint may not be at this IP address; None when it may."""
    for one in _meant(ipaddress.ip_address(address.partition("%")[0])):
        if one.is_link_local or one in _METADATA:
            return "a link-local or metadata address, which is never called"
        if one.is_unspecified or one.is_multicast or _is_void(one):
            return "an address that is no single machine's"
        if one.is_loopback:
            if not (reach.loopback or reach.private):
                return (
                    "the server's own machine, which is called only by a server that listens on "
                    f"loopback or was started with {ALLOW}"
                )
        elif not (reach.private or _is_public(one)):
            return f"a private network, which is called only by a server started with {ALLOW}"
    return None


def _numeric(host: str) -> list[str]:
    """The addresses of a host that is written as one, in whatever way; none for a name."""
    try:
        found = socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except OSError:
        return []
    return [str(sockaddr[0]) for *_, sockaddr in found]


def _meant(ip: Address) -> Iterator[Address]:
    """The addresses that packets to ``ip`` may end at: the ones within it, or itself."""
    if not isinstance(ip, ipaddress.IPv6Address):
        yield ip
        return
    last = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    if ip.ipv4_mapped is not None:
        yield ip.ipv4_mapped
    elif ip.sixtofour is not None:
        yield ip.sixtofour
    elif ip in _NAT64 or (ip in _COMPATIBLE and int(ip) > 1):
        yield last
    else:
        yield ip
        if ip in _LOCAL_NAT64:
            yield last
        if ip.teredo is not None:
            yield from ip.teredo


def _is_void(ip: Address) -> bool:
    return isinstance(ip, ipaddress.IPv4Address) and (ip in _THIS_NETWORK or ip.is_reserved)


def _is_public(ip: Address) -> bool:
    if isinstance(ip, ipaddress.IPv6Address) and (ip.is_site_local or ip in _LOCAL_NAT64):
        return False
    return ip.is_global
