"""Settings: where each comes from, what is refused, and a key that shows nowhere."""

from __future__ import annotations

import copy
import pickle
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from yarl import URL

from elluminate_async.config import (
    API_KEY_VARIABLE,
    BASE_URL_VARIABLE,
    DEFAULT_BASE_URL,
    TOKEN_VARIABLE,
    Secret,
    Settings,
    checked_base_url,
    is_loopback,
)
from elluminate_async.errors import ConfigurationError
from tests.matrix import Fired

CANARY = "canary-4f1d8a"


def key_of(settings: Settings) -> str | None:
    return settings.api_key and settings.api_key.reveal()


def token_of(settings: Settings) -> str | None:
    return settings.token and settings.token.reveal()


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    path = tmp_path / "settings.env"
    path.write_text(f"{API_KEY_VARIABLE}=file-key\n{BASE_URL_VARIABLE}=https://file.test\n")
    return path


def test_an_argument_wins_over_the_environment_and_the_file(env_file: Path) -> None:
    """The nearest source decides, for each setting."""
    environment = {API_KEY_VARIABLE: "env-key", BASE_URL_VARIABLE: "https://env.test"}

    settings = Settings.resolve(
        api_key="my-key", base_url="https://my.test", env_file=env_file, environment=environment
    )

    assert (key_of(settings), settings.base_url) == ("my-key", "https://my.test")


def test_the_environment_wins_over_the_file(env_file: Path) -> None:
    """The file is the last resort."""
    environment = {API_KEY_VARIABLE: "env-key", BASE_URL_VARIABLE: "https://env.test"}

    settings = Settings.resolve(env_file=env_file, environment=environment)

    assert (key_of(settings), settings.base_url) == ("env-key", "https://env.test")


def test_the_file_is_read_when_it_is_named(env_file: Path) -> None:
    """Both settings come from it."""
    settings = Settings.resolve(env_file=env_file, environment={})

    assert (key_of(settings), settings.base_url) == ("file-key", "https://file.test")


def test_a_file_that_is_not_named_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ``.env`` in the working directory cannot redirect the key to another host."""
    (tmp_path / ".env").write_text(f"{BASE_URL_VARIABLE}=https://evil.test\n")
    monkeypatch.chdir(tmp_path)

    settings = Settings.resolve(api_key="k", environment={})

    assert settings.base_url == DEFAULT_BASE_URL


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    """A typing error in the name does not silently fall back."""
    with pytest.raises(ConfigurationError, match="no such file"):
        Settings.resolve(api_key="k", env_file=tmp_path / "missing", environment={})


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an environment of its own it reads `os.environ`."""
    monkeypatch.setenv(API_KEY_VARIABLE, "from-process")
    monkeypatch.delenv(BASE_URL_VARIABLE, raising=False)

    assert key_of(Settings.resolve()) == "from-process"


def test_without_a_credential() -> None:
    """The text names the variable and the way to try without an account."""
    with pytest.raises(ConfigurationError, match=r"ELLUMINATE_API_KEY.*elluminate-async serve"):
        Settings.resolve(environment={})


def test_an_empty_setting_is_not_set(env_file: Path) -> None:
    """``ELLUMINATE_API_KEY=`` in a shell hides nothing."""
    settings = Settings.resolve(
        api_key="", env_file=env_file, environment={API_KEY_VARIABLE: "", BASE_URL_VARIABLE: ""}
    )

    assert (key_of(settings), settings.base_url) == ("file-key", "https://file.test")


def test_a_token_as_an_argument_hides_a_key_elsewhere() -> None:
    """Who passes one kind of credential means that one."""
    environment = {API_KEY_VARIABLE: "env-key", TOKEN_VARIABLE: "env-token"}

    with_token = Settings.resolve(token="mine", environment=environment)
    with_key = Settings.resolve(api_key="mine", environment=environment)

    assert (key_of(with_token), token_of(with_token)) == (None, "mine")
    assert (key_of(with_key), token_of(with_key)) == ("mine", None)


def test_the_key_wins_where_both_are_known() -> None:
    """As in the official clients; only one is ever sent."""
    environment = {API_KEY_VARIABLE: "env-key", TOKEN_VARIABLE: "env-token"}

    settings = Settings.resolve(environment=environment)

    assert (key_of(settings), token_of(settings)) == ("env-key", None)
    assert token_of(Settings.resolve(environment={TOKEN_VARIABLE: "t"})) == "t"


def test_a_url_from_the_file_with_a_key_from_the_environment(env_file: Path) -> None:
    """A key is not silently sent to a host that another source names."""
    with pytest.warns(UserWarning, match="make sure that they belong together") as seen:
        Settings.resolve(env_file=env_file, environment={API_KEY_VARIABLE: CANARY})

    assert CANARY not in str(seen[0].message)


def test_sources_that_belong_together_do_not_warn(env_file: Path) -> None:
    """Both from the file, or the URL given as an argument."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Settings.resolve(env_file=env_file, environment={})
        Settings.resolve(
            base_url="https://x.test", env_file=env_file, environment={API_KEY_VARIABLE: "k"}
        )


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://x.test", "https://x.test"),
        ("https://x.test/", "https://x.test"),
        ("https://x.test:8443/prefix/", "https://x.test:8443/prefix"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://localhost:1", "http://localhost:1"),
        ("http://[::1]:8000/", "http://[::1]:8000"),
        ("http://app.localhost", "http://app.localhost"),
    ],
)
def test_a_good_url(url: str, expected: str) -> None:
    """Kept as it is, without the slash at its end."""
    assert checked_base_url(url) == expected


@pytest.mark.row(102)
@pytest.mark.parametrize(
    "url",
    [
        "x.test",
        "ftp://x.test",
        "https://",
        "https:///path",
        "//x.test",
        "https://x.test:port",
        "https://x.test:99999",
        "https://[::1",
        "https://x.test?a=1",
        "https://x.test?",
        "https://x.test#top",
        "https://x.test/ path",
        "https://x.test/\r\nX-Evil: 1",
        "https://ex\u00e4mple.test",
        "file:///etc/passwd",
        "http://evil.test\\.localhost",
        "http://evil.test\\@127.0.0.1",
        "http://127.0.0.1\\@evil.test",
        "http://127.0.0.1#@evil.test",
        "http://127.0.0.1?@evil.test",
        "http://127.0.0.1\t.evil.test",
        "http://evil.test/\\.localhost",
        "http://evil%2etest.localhost",
        "http://%6cocalhost",
        "http://localhost\u3002evil.test",
        "http://evil.test\uff0flocalhost",
        "http://\u2488evil.localhost",
        "http:///127.0.0.1",
        "http:127.0.0.1",
        "http:/\\127.0.0.1",
        "http://[::1",
        "http://[::1]evil.test",
        "http://[fe80::1%25eth0]",
        "http://[::1].localhost",
        "http://[1:2]",
        "http://[v1.a]",
        "http://127.0.0.1:0",
        "http://127.0.0.1:70000",
        "http://127.0.0.1:",
        "http://127.0.0.1:+80",
        "http://127.0.0.1:8\u0660",
        "http://.localhost",
        "http://a..localhost",
        "http://-.localhost",
        f"http://{'a' * 64}.localhost",
        f"http://{'a.' * 130}localhost",
        "https://x.test/%zz",
        "https://x.test/<b>",
        " https://x.test",
        "https://x.test\n",
        "\x00https://x.test",
    ],
)
def test_a_bad_url(url: str, fired: Fired) -> None:
    """Refused before anything is sent, by the name of the setting."""
    fired()
    with pytest.raises(ConfigurationError, match="base_url"):
        Settings.resolve(api_key="k", base_url=url, environment={})


@pytest.mark.row(102)
@pytest.mark.parametrize(
    "url",
    [
        "https://user:canary-4f1d8a@x.test",
        "https://canary-4f1d8a@x.test",
        "ftp://u:canary-4f1d8a@x",
        "https://user:canary-4f1d8a@x.test:port",
    ],
)
def test_a_password_in_the_url(url: str, fired: Fired) -> None:
    """Refused, and not repeated in the error."""
    fired()
    with pytest.raises(ConfigurationError) as caught:
        checked_base_url(url)

    assert CANARY not in str(caught.value)


@pytest.mark.row(102)
@pytest.mark.parametrize(
    "url",
    [
        "http://x.test",
        "http://10.0.0.1",
        "http://0.0.0.0:1",
        "http://127.0.0.1.evil.test",
        "http://localhost.",
        "http://0x7f.1",
        "http://127.1",
        "http://0177.0.0.1",
        "http://2130706433",
        "http://[::ffff:10.0.0.1]",
        "http://[::]",
    ],
)
def test_plain_http_to_another_machine(url: str, fired: Fired) -> None:
    """The key does not travel unencrypted unless that was asked for."""
    fired()
    with pytest.raises(ConfigurationError, match="unencrypted"):
        checked_base_url(url)
    assert checked_base_url(url, allow_http=True) == url


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("10.0.0.1", False),
        ("notlocalhost", False),
        ("localhost.evil.test", False),
        ("2130706433", False),
        ("evil.test\\.localhost", False),
        ("evil.test/.localhost", False),
        ("evil.test@.localhost", False),
        (".localhost", False),
        ("", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    """Only what can be nothing but this machine."""
    assert is_loopback(host) is expected


URL_PARTS = [
    "http://", "https://", "HTTP://", "//", "/", "\\", "@", ":", "?", "#", "[", "]", "%", "..",
    "127.0.0.1", "localhost", ".localhost", "evil.test", "::1", "8000", "0", "70000", "-", "_",
    "\t", "\n", " ", "\x00", "\u3002", "\u00df", "\u2488", "xn--", "user:secret", "%2e", "0x7f.1",
]  # fmt: skip


@pytest.mark.unmeasured
@given(
    st.text() | st.lists(st.sampled_from(URL_PARTS) | st.text(max_size=2), max_size=8).map("".join),
    st.booleans(),
)
@settings(max_examples=2000, deadline=None)
@example("http://evil.test\\.localhost", False)
@example("HTTPS://XN--A", False)
@example("HTTPS://XN--B", False)
@example("HTTPS://00--A", False)
@example("https://XN--MNCHEN-3YA.de:8000/Api", False)
@example("https://xn--fa-hia.de", False)
def test_whatever_is_given_as_a_url(text: str, allow_http: bool) -> None:
    """Settings or `ConfigurationError`; what passes is read alike by all that read it."""
    try:
        url = checked_base_url(text, allow_http=allow_http)
    except ConfigurationError:
        return
    parts = urlsplit(url)
    for read in (URL(url), URL(url + "/api/v0", encoded=True)):
        assert (read.scheme, read.raw_host, read.explicit_port) == (
            parts.scheme, parts.hostname, parts.port
        )  # fmt: skip
        assert read.user is None
        assert read.host
    if parts.scheme == "http" and not allow_http:
        assert is_loopback(URL(url).host or "")


def test_an_international_name_is_taken_as_it_is_sent() -> None:
    """A host's case means nothing, a path's does."""
    url = checked_base_url("HTTPS://XN--MNCHEN-3YA.de:8000/Api/", allow_http=False)
    assert url == "https://xn--mnchen-3ya.de:8000/Api"
    for bad in ("https://xn--a", "https://xn--b.de", "https://xn--.de"):
        with pytest.raises(ConfigurationError, match="everybody reads alike"):
            checked_base_url(bad)


@pytest.mark.row(103)
@pytest.mark.parametrize(
    "bad", ["a\r\nX-Evil: 1", "a\nb", "a b", "k\u00e4y", "a\x00b", "key\n", "\t"]
)
def test_a_key_that_would_break_a_header(bad: str, fired: Fired) -> None:
    """A line end in a key would be another header; the key is not repeated in the error."""
    fired()
    with pytest.raises(ConfigurationError, match="API key") as caught:
        Settings.resolve(api_key=bad, environment={})
    assert bad not in str(caught.value)
    with pytest.raises(ConfigurationError, match="token"):
        Settings.resolve(token=bad, environment={})


@pytest.mark.parametrize("value", [1, b"bytes", ["x"], object()])
def test_a_setting_that_is_no_string(value: Any) -> None:
    """Refused by name, and not shown."""
    with pytest.raises(ConfigurationError, match="base_url must be a string"):
        Settings.resolve(api_key="k", base_url=value, environment={})
    with pytest.raises(ConfigurationError, match="the API key"):
        Settings.resolve(api_key=value, environment={})


def test_a_secret_shows_only_when_asked_by_name() -> None:
    """Not in `repr`, `str`, a format, or the settings' own `repr`."""
    secret = Secret(CANARY)
    settings = Settings.resolve(api_key=CANARY, environment={})

    for text in (repr(secret), str(secret), f"{secret}", f"{secret!r}", repr([secret])):
        assert CANARY not in text
    assert CANARY not in repr(settings)
    assert secret.reveal() == CANARY


@pytest.mark.parametrize("way", [pickle.dumps, copy.deepcopy])
def test_a_secret_is_not_pickled(way: object) -> None:
    """It does not get into a queue, a cache or a crash report by accident."""
    assert callable(way)
    with pytest.raises(TypeError, match="not pickled"):
        way(Settings.resolve(api_key=CANARY, environment={}))


def test_settings_cannot_be_changed() -> None:
    """Where the key goes is decided once."""
    with pytest.raises(AttributeError):
        Settings.resolve(api_key="k", environment={}).base_url = "https://evil.test"  # type: ignore[misc]
