"""Running a simulator on a port: inside another process's loop, or alone."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from modelgates_server.simulator.client import TRANSPORT_EXTENSION
from modelgates_server.simulator.server import Simulator

BACKLOG: Final = 4_096
STOP_S: Final = 5
"""Every request ends as soon as its connection does; this only bounds a fault of our own."""

KEEP_ALIVE_S: Final = 75
"""As long as common front ends keep idle connections, so that a pool in front of us is not surprised."""


class _Protocol(HttpToolsProtocol):
    """Hands the transport to the application, which cuts connections on demand."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {TRANSPORT_EXTENSION: {"transport": self.transport}}


class Served:
    """A running simulator, or identity server. `url` has no trailing slash."""

    def __init__(self, server: uvicorn.Server, host: str, port: int) -> None:
        self.port = port
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        self._server = server
        self._ticks = asyncio.get_running_loop().create_task(server.main_loop())

    async def stop(self) -> None:
        """Close the port and every connection, also stalled ones; open requests are booked as cancelled."""
        self._ticks.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._ticks
        for listener in self._server.servers:
            listener.close()
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()  # a full buffer to a stalled reader would never drain
        if self._server.server_state.tasks:
            await asyncio.wait(set(self._server.server_state.tasks), timeout=STOP_S)
        for listener in self._server.servers:
            await listener.wait_closed()


async def serve(simulator: Simulator, host: str = "127.0.0.1", port: int = 0) -> Served:
    """Start listening (port 0: any free one) and return when ready. Raises OSError if the address cannot be bound.

    Installs no signal handlers, so it can run in a loop beside another server.
    """
    return await listen(simulator.app, host, port)


async def listen(app: Any, host: str, port: int) -> Served:
    """Start serving any ASGI application in the same way."""
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
    )
    config.load()
    listener = _bind(host, port)
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets=[listener])
    return Served(server, host, listener.getsockname()[1])


def run(host: str = "127.0.0.1", port: int = 0, simulator: Simulator | None = None) -> None:
    """Serve until SIGTERM or SIGINT; print one line with the URL when ready. Without a simulator: Anthropic's wire."""
    simulator = simulator or Simulator()
    loop_factory = uvicorn.Config(simulator.app).get_loop_factory()
    with asyncio.Runner(loop_factory=loop_factory) as runner, contextlib.suppress(KeyboardInterrupt):
        runner.run(_run_until_told(simulator, host, port))


async def _run_until_told(simulator: Simulator, host: str, port: int) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):  # Windows: the interrupt arrives as KeyboardInterrupt
            loop.add_signal_handler(number, told.set)
    served = await serve(simulator, host, port)
    sys.stdout.write(f"simulator ready at {served.url}\n")
    sys.stdout.flush()
    await told.wait()
    await served.stop()


def _bind(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)  # noqa: FBT003 - the standard library's signature
    return listener
