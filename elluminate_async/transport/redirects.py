"""Redirects: those of a GET are followed within the origin, so that the key stays there."""

from __future__ import annotations

from typing import Final

from yarl import URL

from elluminate_async.errors import RedirectError
from elluminate_async.transport.blotting import BLOT
from elluminate_async.transport.exchange import Answer, Request, redirect_error

MAX_REDIRECTS: Final = 3
_FOLLOWED: Final = frozenset({301, 302, 303, 307, 308})


class Trail:
    """The addresses that one sending has been led to.

    Attributes:
        url: Where it goes next.
    """

    def __init__(self, request: Request, base_url: str) -> None:
        self.url = URL(base_url + request.target, encoded=True)
        if request.query:
            self.url = self.url.with_query(list(request.query))
        self._request = request
        self._seen = [self.url]

    def leads_on(self, answer: Answer) -> bool:
        """Whether ``answer`` is a redirect to follow; one of a POST never is."""
        return self._request.method == "GET" and answer.status in _FOLLOWED

    def follow(self, answer: Answer) -> None:
        """Go where ``answer`` points.

        Raises:
            RedirectError: That is another origin, a loop, one too many, or no address.
        """
        where = answer.headers.get("Location", "")
        if BLOT in where:
            raise self._refusal("to an address that holds the key")
        try:
            url = self.url.join(URL(where)).with_fragment(None)
            origin, target = _origin(self.url), _origin(url)
        except ValueError:
            raise self._refusal("to what is no address") from None
        if not where or None in target or url.user is not None:
            raise self._refusal("to what is no address")
        if target != origin:
            raise self._refusal(f"to {url.scheme}://{url.host}:{url.port}, which is another origin")
        if url in self._seen:
            raise self._refusal("in a circle")
        if len(self._seen) > MAX_REDIRECTS:
            raise self._refusal(f"more than {MAX_REDIRECTS} times")
        self._seen.append(url)
        self.url = url

    def _refusal(self, how: str) -> RedirectError:
        return redirect_error(self._request, f" {how}")


def _origin(url: URL) -> tuple[str, str | None, int | None]:
    return url.scheme, url.host, url.port
