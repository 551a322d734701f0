"""The share that an option or the environment names, and what ``doctor`` says of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from elluminate_async import ConfigurationError, FileShare
from elluminate_async.batch.share import LimitShare

if TYPE_CHECKING:
    from elluminate_async.batch.share import ShareState

VARIABLE: Final = "ELLUMINATE_SHARE"
"""Names the share of runs at a service elsewhere, as ``--share`` of ``doctor`` does."""

FAR: Final = 0.01
"""Seconds of a round trip that a limit of a second uses less with."""

_FORMS: Final = "file:/run/my-app/limits#name or redis://host:6379/0#name"
_REDIS: Final = ("redis", "rediss", "unix")


def share_of(text: str) -> LimitShare:
    """The share that ``text`` names, such as ``file:PATH#NAME`` or ``redis://HOST/0#NAME``.

    Raises:
        ConfigurationError: It names none.
        MissingExtraError: The extra of its kind is not installed.
    """
    address, _, name = text.partition("#")
    kind, _, path = address.partition(":")
    if kind == "file" and path:
        plain = path.removeprefix("//")
        return FileShare(plain, name or "default")
    if kind in _REDIS:
        from elluminate_async.integrations.redis import RedisShare

        return RedisShare(address, name=name or "default")
    # Not the text itself: there may be a password in it.
    raise ConfigurationError(f"a share is named as in {_FORMS}")


def share_of_environment() -> LimitShare | None:
    """That of `VARIABLE`; None where it is not set.

    Raises:
        ConfigurationError, MissingExtraError: As `share_of`.
    """
    text = os.environ.get(VARIABLE, "").strip()
    try:
        return share_of(text) if text else None
    except ConfigurationError as error:
        raise ConfigurationError(f"{VARIABLE}: {error}") from None


def told(name: str, state: ShareState) -> str:
    """The state of a share, in a line."""
    parts = [f"{name!r} answers in {1_000 * state.round_trip:.1f} ms"]
    for limit, ahead in sorted(state.slots.items()):
        if limit == "pace":
            continue
        when = f"given away for {ahead:.1f} s ahead" if ahead > 0 else f"free since {-ahead:.0f} s"
        parts.append(f"slots of {limit} are {when}")
    if not (state.slots or state.hold or state.pace.refused_rate):
        parts.append("nobody has used it yet: is it the name that the processes have?")
    if state.hold > 0:
        parts.append(f"all are held for {state.hold:.1f} s, as the service asked for it")
    if state.pace.refused_rate:
        parts.append(
            f"the service last refused one at {state.pace.refused_rate:.1f} requests a second, "
            f"{state.pace.since:.0f} s ago; in the last seconds it took "
            f"{state.pace.measured:.1f} a second of them all"
        )
    return "; ".join(parts)
