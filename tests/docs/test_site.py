"""The built site in a browser: it asks for nothing of another host, and its search works."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from tests.browser import browser as browser
from tests.browser import keeping

PAGES = ["", "tutorial/", "evaluate/", "how-to/compare/", "reference/batches/",
         "reference/commands/", "changelog/"]  # fmt: skip


class Quiet(SimpleHTTPRequestHandler):
    """Files, without a word."""

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    """Where the site is served."""
    handler = functools.partial(Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{served.server_address[1]}/"
        served.shutdown()
        thread.join()


def test_pages_need_nothing_from_elsewhere(browser: Any, address: str) -> None:
    """No request leaves for another host, no console has an error, and the search finds names."""
    asked: list[str] = []
    said: list[str] = []
    page = browser.new_context().new_page()
    for event, kept, what in (
        ("request", asked, "url"),
        ("requestfailed", said, "url"),
        ("console", said, "text"),
        ("pageerror", said, "message"),
    ):
        page.on(event, keeping(kept, what))
    for path in PAGES:
        page.goto(address + path, wait_until="networkidle")
        # A quiet network is not a drawn page, where the machine is busy.
        page.locator("article h1").first.wait_for()
        assert page.locator("article h1").count() == 1, path
    search = page.locator("input.md-search__input")
    search.click()
    # What is typed while the index is read is not looked for.
    page.get_by_text("Type to start searching").wait_for()
    search.press_sequentially("retry_failed")
    page.locator(".md-search-result__item a[href$='Batch.retry_failed']").wait_for()
    page.context.close()

    assert said == []
    hosts = {urlsplit(url).netloc for url in asked if not url.startswith(("data:", "blob:"))}
    assert hosts == {urlsplit(address).netloc}


def test_no_link_leads_nowhere(site: Path) -> None:
    """Neither to a page or a file that is not there, nor out of the site."""
    for page in site.rglob("index.html"):
        for link in re.findall(r'href="([^"#?]+)[^"]*"', page.read_text()):
            if "://" not in link:
                target = (page.parent / unquote(link)).resolve()
                assert target.exists(), f"{page.relative_to(site)}: {link}"
                assert target.is_relative_to(site.resolve()), f"{page.relative_to(site)}: {link}"


def test_the_built_files_name_no_other_host(site: Path) -> None:
    """No page has a script, a style, a font or an image that is not beside it."""
    for page in site.rglob("*.html"):
        for tag in re.findall(r"<(?:script|link|img|iframe|source)\b[^>]*>", page.read_text()):
            place = re.search(r'(?:src|href)="([^"]*)"', tag)
            assert place is None or not re.match(r"(?:https?:)?//", place[1]), (page.name, tag)
