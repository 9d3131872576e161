"""A TCP proxy that breaks connections where a test wants them broken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal


@dataclass
class Proxy:
    """Carries bytes to `target` and back. `cut` is text in a client's bytes at which the connection is broken, once.

    `when` says whether that piece is passed on before: "after" leaves the server to act on it without being heard.
    """

    target: int
    cut: bytes = b""
    when: Literal["before", "after"] = "before"
    cuts: int = 0
    port: int = 0
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", self.target)
        self._writers |= {writer, upstream}
        back = asyncio.get_running_loop().create_task(self._copy(upstream_reader, writer))
        with suppress(ConnectionError, asyncio.CancelledError):
            while data := await reader.read(65536):
                if self.cut and self.cut in data:
                    self.cut, self.cuts = b"", self.cuts + 1
                    back.cancel()
                    await asyncio.gather(back, return_exceptions=True)
                    if self.when == "after":
                        upstream.write(data)
                        await upstream.drain()
                        await upstream_reader.read(1)  # the server has acted
                    break
                upstream.write(data)
                await upstream.drain()
        writer.transport.abort()
        upstream.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.close()

    def close(self) -> None:
        for writer in self._writers:
            writer.transport.abort()


@asynccontextmanager
async def open_proxy(target: int) -> AsyncIterator[Proxy]:
    """A proxy to a port of this machine."""
    proxy = Proxy(target)
    server = await asyncio.start_server(proxy.carry, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.close()
