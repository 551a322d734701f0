"""The way to the service: proxies from arguments and the environment, own headers, prefixes."""

from __future__ import annotations

from typing import Any

import pytest

from elluminate_async.config import Settings, checked_base_url
from elluminate_async.errors import ConfigurationError

PASSWORD = "canary-p4ss"
PROXY = "http://proxy.example:3128"


def resolved(
    environment: dict[str, str] | None = None, url: str = "https://a.example", **arguments: Any
) -> Settings:
    return Settings.resolve(base_url=url, api_key="key", environment=environment or {}, **arguments)


def proxy_of(environment: dict[str, str], url: str = "https://a.example") -> str | None:
    proxy = resolved(environment, url, allow_insecure_http=True).proxy
    return proxy and proxy.url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://a.example/api/v0", "https://a.example"),
        ("https://a.example/api/v0/", "https://a.example"),
        ("https://a.example/eval/api/v0/", "https://a.example/eval"),
        ("https://a.example/eval/", "https://a.example/eval"),
        ("https://a.example//api/v0", "https://a.example"),
        ("https://a.example/api/v01", "https://a.example/api/v01"),
        ("https://a.example/myapi/v0", "https://a.example/myapi/v0"),
    ],
)
def test_the_protocols_own_path_is_left_out(url: str, expected: str) -> None:
    """As copied from a request's address; a prefix before it stays."""
    assert checked_base_url(url) == expected


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"HTTPS_PROXY": PROXY}, PROXY),
        ({"https_proxy": PROXY}, PROXY),
        ({"ALL_PROXY": PROXY}, PROXY),
        ({"HTTP_PROXY": PROXY, "http_proxy": PROXY}, None),
        ({"HTTPS_PROXY": PROXY, "ALL_PROXY": "http://other:1"}, PROXY),
        ({"https_proxy": PROXY, "HTTPS_PROXY": "http://other:1"}, PROXY),
        ({"https_proxy": "", "HTTPS_PROXY": "http://other:1"}, None),
        ({"HTTPS_PROXY": "", "ALL_PROXY": PROXY}, PROXY),
        ({"HTTPS_PROXY": "proxy.example:3128"}, PROXY),
        ({"HTTPS_PROXY": "HTTP://Proxy.Example:3128/"}, PROXY),
        ({"HTTPS_PROXY": "https://proxy.example"}, "https://proxy.example"),
        ({"HTTPS_PROXY": "http://[2001:db8::1]:3128"}, "http://[2001:db8::1]:3128"),
    ],
)
def test_the_environments_proxy(environment: dict[str, str], expected: str | None) -> None:
    """That of https, else that of all; the lower case first, and an empty one is none."""
    assert proxy_of(environment) == expected


@pytest.mark.parametrize(
    "url",
    [
        "http://a.example", "http://127.0.0.1:8000", "https://127.0.0.1", "https://localhost:8443",
        "https://app.localhost", "https://[::1]:8443", "http://localhost",
    ],
)  # fmt: skip
def test_never_for_this_machine_or_plain_http(url: str) -> None:
    """Whatever the environment has."""
    names = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
    assert proxy_of(dict.fromkeys(names, PROXY), url) is None


@pytest.mark.parametrize(
    ("no_proxy", "url", "is_exempt"),
    [
        ("", "https://a.example", False),
        ("*", "https://a.example", True),
        ("a.example", "https://a.example", True),
        ("A.Example", "https://a.example", True),
        ("b.example, a.example", "https://a.example", True),
        ("b.example a.example", "https://a.example", True),
        ("example", "https://a.example", True),
        (".example", "https://a.example", True),
        ("*.example", "https://a.example", True),
        (".a.example", "https://a.example", True),
        ("a.example.", "https://a.example", True),
        ("a.example", "https://a.example.", True),
        ("xample", "https://a.example", False),
        ("b.a.example", "https://a.example", False),
        (".", "https://a.example", False),
        ("a.example:443", "https://a.example", True),
        ("a.example:8443", "https://a.example", False),
        ("a.example:8443", "https://a.example:8443", True),
        ("10.0.0.1", "https://10.0.0.1", True),
        ("10.0.0.0/8", "https://10.1.2.3", True),
        ("10.0.0.0/8", "https://11.1.2.3", False),
        ("10.0.0.0/8", "https://a.example", False),
        ("0.0.0.1", "https://10.0.0.1", False),
        ("2001:db8::1", "https://[2001:db8::1]", True),
        ("[2001:db8::1]", "https://[2001:db8::1]", True),
        ("[2001:db8::1]:443", "https://[2001:db8::1]", True),
        ("[2001:db8::1]:8443", "https://[2001:db8::1]", False),
        ("2001:db8::/32", "https://[2001:db8::1]", True),
    ],
)
def test_no_proxy(no_proxy: str, url: str, is_exempt: bool) -> None:
    """Names, domains, ports, addresses and networks."""
    for name in ("no_proxy", "NO_PROXY"):
        assert (proxy_of({"HTTPS_PROXY": PROXY, name: no_proxy}, url) is None) == is_exempt


def test_an_argument_wins() -> None:
    """Over the environment, and over its exceptions."""
    environment = {"HTTPS_PROXY": "http://other:1", "NO_PROXY": "*"}
    proxy = resolved(environment, proxy=PROXY).proxy

    assert proxy is not None
    assert (proxy.url, proxy.source) == (PROXY, "proxy=")


def test_without_trust_env() -> None:
    """The environment's is not looked at, be it as wrong as it likes."""
    assert resolved({"HTTPS_PROXY": "socks5://a"}, trust_env=False).proxy is None


@pytest.mark.parametrize(
    "value",
    [
        "", "proxy.example:3128", "ftp://proxy.example", "http://", "http://proxy.example:0",
        "http://proxy.example:99999", "http://proxy.example/path", "http://proxy.example?x=1",
        "http://a b", "http://proxy.example\\@other", "http://[::g]:1", 3128, b"http://a", True,
        f"http://me:{PASSWORD}@proxy.example/path", f"socks5://me:{PASSWORD}@proxy.example:1080",
        f"http://me:{PASSWORD}@a@b:c", f"me:{PASSWORD}@proxy.example:3128",
    ],
)  # fmt: skip
def test_a_bad_proxy(value: Any) -> None:
    """Refused in words that tell how to write it, and show no password."""
    with pytest.raises(ConfigurationError, match=r"proxy=.*http") as caught:
        resolved(proxy=value)

    assert PASSWORD not in str(caught.value)


def test_a_bad_proxy_of_the_environment() -> None:
    """Then the variable is named, and how to go without it."""
    with pytest.raises(ConfigurationError, match=r"ALL_PROXY=socks5.*trust_env=False") as caught:
        resolved({"ALL_PROXY": f"socks5://me:{PASSWORD}@a:1080"})

    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("value", [None, 1, "yes"])
def test_trust_env_is_a_switch(value: Any) -> None:
    """Anything else is a slip."""
    with pytest.raises(ConfigurationError, match="trust_env must be True or False"):
        resolved(trust_env=value)


@pytest.mark.parametrize(
    "name",
    [
        "Authorization", "authorization", "X-API-Key", "x-api-key", "Host", "Content-Length",
        "Content-Type", "Transfer-Encoding", "Connection", "Idempotency-Key", "Last-Event-ID",
        "Accept", "Accept-Encoding", "SDK-Version", "Cookie", "Cookie2", "Proxy-Authorization",
        "Proxy-Anything", "Range", "If-Match", "If-None-Match", "If-Modified-Since",
        "If-Unmodified-Since", "If-Range", "Content-Encoding", "Content-Range", "Content-MD5",
        "Keep-Alive", "TE", "Trailer", "Upgrade", "Expect", "HTTP2-Settings", "traceparent",
        "TraceState",
    ],
)  # fmt: skip
def test_a_header_that_is_not_the_callers(name: str) -> None:
    """Refused by name, with the reason."""
    with pytest.raises(ConfigurationError, match=rf"must not set {name}: "):
        resolved(default_headers={name: "canary"})


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"X Tenant": "a"}, "no name of a header"),
        ({"": "a"}, "no name of a header"),
        ({"X-A\r\nX-B": "a"}, "no name of a header"),
        ({1: "a"}, "no name of a header"),
        ({"X-Tenant": "a\r\nX-API-Key: b"}, "value of X-Tenant"),
        ({"X-Tenant": " a"}, "value of X-Tenant"),
        ({"X-Tenant": ""}, "value of X-Tenant"),
        ({"X-Tenant": "ä"}, "value of X-Tenant"),
        ({"X-Tenant": 7}, "value of X-Tenant"),
        ({"X-Tenant": "a", "x-tenant": "b"}, "twice"),
        ([("X-Tenant", "a")], "must be a mapping"),
    ],
)
def test_a_header_that_cannot_be_sent(headers: Any, words: str) -> None:
    """Neither name nor value may end a line, and no name comes twice."""
    with pytest.raises(ConfigurationError, match=words):
        resolved(default_headers=headers)


def test_headers_are_copied() -> None:
    """What the caller does to the mapping afterwards changes nothing."""
    headers = {"X-Tenant": "a b\tc"}
    settings = resolved(default_headers=headers)
    headers["X-Tenant"] = "other"

    assert {name: value.reveal() for name, value in settings.headers.items()} == {
        "X-Tenant": "a b\tc"
    }
