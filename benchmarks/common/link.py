"""A link of a chosen round trip between a client and a server, which counts what passes.

Delay only: no loss, no limit of bandwidth, no slow start. A new connection costs one round trip
more, as TCP's handshake does.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import deque
from dataclasses import asdict, dataclass

_REQUEST_LINE_END = b" HTTP/1.1\r\n"


@dataclass
class Counts:
    """What has passed since the last time that it was asked for."""

    connections: int = 0
    requests: int = 0
    bytes_up: int = 0
    bytes_down: int = 0


class Link:
    """State of all connections."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.round_trip = 0.0
        self.counts = Counts()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection to its end."""
        self.counts.connections += 1
        connected_at = asyncio.get_running_loop().time() + self.round_trip
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.port)
        await asyncio.gather(
            self._carry(reader, up_writer, earliest=connected_at, up=True),
            self._carry(up_reader, writer, earliest=0.0, up=False),
            return_exceptions=True,
        )

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        earliest: float,
        up: bool,
    ) -> None:
        loop = asyncio.get_running_loop()
        under_way: deque[tuple[float, bytes]] = deque()
        arrived = asyncio.Event()

        async def deliver() -> None:
            while True:
                while not under_way:
                    arrived.clear()
                    await arrived.wait()
                due, data = under_way.popleft()
                if (wait := due - loop.time()) > 0:
                    await asyncio.sleep(wait)
                if not data:
                    writer.close()
                    return
                writer.write(data)

        delivering = asyncio.create_task(deliver())
        data, tail = b"-", b""
        while data:
            try:
                data = await reader.read(1 << 18)
            except ConnectionError:
                data = b""
            if up:
                text = tail + data
                self.counts.requests += text.count(_REQUEST_LINE_END)
                tail = text[1 - len(_REQUEST_LINE_END) :]
                self.counts.bytes_up += len(data)
            else:
                self.counts.bytes_down += len(data)
            under_way.append((max(loop.time(), earliest) + self.round_trip / 2, data))
            arrived.set()
        await delivering


async def main(port: int) -> None:
    """Carry connections to this port until the standard input ends."""
    link = Link(port)
    server = await asyncio.start_server(link.accept, "127.0.0.1", 0)
    async with server:
        print(json.dumps(server.sockets[0].getsockname()[1]), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            counts, link.counts = link.counts, Counts()
            link.round_trip = json.loads(line)["round_trip"]
            print(json.dumps(asdict(counts)), flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
