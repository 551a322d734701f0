"""The one way to say no: every refusal is a `Problem`, every error body a JSON object."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping


class Problem(Exception):
    """A request that cannot be served; becomes ``{"detail": ...}`` with the status.

    Attributes:
        status: The HTTP status.
        detail: What is wrong, in words a user can act on.
        extra: Further top-level keys of the body.
        headers: Further headers of the answer.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        extra: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.extra = dict(extra or {})
        self.headers = dict(headers or {})

    @property
    def is_models_failure(self) -> bool:
        """Whether it is one of `model_failed`."""
        return self.status == 424

    @property
    def body(self) -> dict[str, Any]:
        """The answer's JSON object."""
        return {"detail": self.detail, **self.extra}


def not_found(noun: str, key: object) -> Problem:
    """404 for an object that is not in the project, whether or not it exists elsewhere."""
    return Problem(404, f"no {noun} {key} in this project")


def taken(noun: str, name: str) -> Problem:
    """409 for a name that is in use; ``noun`` with its article."""
    return Problem(409, f"{noun} named {name!r} exists already")


def model_failed(detail: str) -> Problem:
    """424 for a model, or a judge, that failed or whose answer cannot be used.

    It was asked as often as it is worth, and may have been paid for each time. A 5xx would say that
    something is in the way, so that clients send the same again, and each time it is asked anew.
    """
    return Problem(424, detail)


def check_count(count: int, most: int, noun: str) -> None:
    """422 for more than ``most`` of what ``noun`` names in the plural."""
    if count > most:
        raise Problem(422, f"{count} {noun} are too many: {most} are the most")


@contextmanager
def storing_values() -> Generator[None]:
    """Around what writes a request's values down: 422 for a number that is none."""
    try:
        yield
    except UnicodeError:
        # Half a character, which is told of in its own words.
        raise
    except ValueError as error:
        raise Problem(422, f"a value cannot be stored: {error}") from None
