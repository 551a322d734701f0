"""`Connector`: aiohttp's connections, of which some can be opened before they are needed."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import aiohttp

from elluminate_async.transport.forks import let_go_of

if TYPE_CHECKING:
    from yarl import URL


class Connector(aiohttp.TCPConnector):
    """A pool of connections that can be filled ahead.

    A new connection takes a round trip of TCP and one or two of TLS. aiohttp opens one when a
    request finds none idle, so that requests which begin together wait for theirs together.
    """

    async def open_ahead(self, url: URL, count: int, connect_timeout: float) -> None:
        """Have ``count`` connections to ``url``'s origin, those in use and idle ones included.

        What cannot be opened is left to the requests, which tell why.
        """
        there = len(self._acquired) + sum(map(len, self._conns.values()))  # pyright: ignore[reportPrivateUsage]
        # Only its origin matters: it is never sent.
        request = aiohttp.ClientRequest("GET", url, loop=self._loop)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout)

        async def open_one() -> None:
            protocol = await self._create_connection(request, [], timeout)
            if self.closed:
                protocol.close()
            else:
                self._release(request.connection_key, protocol)

        await asyncio.gather(*(open_one() for _ in range(there, count)), return_exceptions=True)

    def leave_to_parent(self) -> None:
        """Have no connections any more, in a child process, without closing one of the parent's.

        Nor is one closed once this is garbage, as aiohttp's own are.
        """
        pool, acquired = self._conns, self._acquired  # pyright: ignore[reportPrivateUsage]
        idle = [protocol for of_host in pool.values() for protocol, _ in of_host]
        for protocol in [*idle, *acquired]:
            if protocol.transport is not None:
                # One that is closed has none.
                with suppress(AttributeError, OSError):
                    let_go_of(protocol.transport.get_extra_info("socket").fileno())
        pool.clear()
        acquired.clear()
        self._closed = True
