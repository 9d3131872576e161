"""Listening: the socket, the event loop, and uvicorn with our connection protocol.

uvicorn opens and closes connections and stops gracefully; what a connection does is in `edge/protocol.py`.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Final

import uvicorn

from modelgates_server.config import Config
from modelgates_server.edge.protocol import GatewayProtocol
from modelgates_server.edge.server import Server
from modelgates_server.errors import ConfigError

PORT_REMEDY: Final = "--port"
ADMIN_REMEDY: Final = "[server] admin_listen"
"""Where each address is changed."""


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - not there on every platform
    except ImportError:
        return None
    return uvloop.new_event_loop


def listen(host: str, port: int, remedy: str = PORT_REMEDY) -> socket.socket:
    """Open a listening socket. Raises ConfigError when the address cannot be used."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048, dualstack_ipv6=False)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host} port {port}: {error.strerror or error}",
            remedy=f"stop whatever uses the port, or choose another with {remedy}",
        ) from error


def listen_url(host: str, port: int, *, tls: bool) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "localhost": "127.0.0.1"}.get(
        host, f"[{host}]" if ":" in host else host
    )
    return f"{'https' if tls else 'http'}://{shown}:{port}"


def server_config(config: Config, asgi: Server) -> uvicorn.Config:
    return uvicorn.Config(
        asgi,
        http=GatewayProtocol,
        ws="none",
        loop="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(config.server.drain_s),
        ssl_certfile=config.server.tls_cert,
        ssl_keyfile=config.server.tls_key,
    )


class Listener(uvicorn.Server):
    """Tells when it listens and when it has been asked to stop.

    `second` is another application with its socket: connections of both are counted, drained and ended together.

    A second Ctrl-C cuts what still runs, but not in a `worker`: the terminal and the parent both ask it, in any order.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        started: Callable[[], Awaitable[None]],
        stopping: Callable[[], None],
        *,
        worker: bool,
        second: tuple[uvicorn.Config, socket.socket] | None = None,
    ) -> None:
        super().__init__(config)
        self._second = second
        self._started = started
        self._stopping = stopping
        self._worker = worker

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._second is not None:
            self.servers.append(await self._listen_too(*self._second))
        await self._started()

    async def _listen_too(self, config: uvicorn.Config, listener: socket.socket) -> asyncio.Server:
        config.load()

        def connection() -> GatewayProtocol:
            return GatewayProtocol(config=config, server_state=self.server_state, app_state=self.lifespan.state)

        loop = asyncio.get_running_loop()
        return await loop.create_server(connection, sock=listener, ssl=config.ssl, backlog=config.backlog)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:
            self._stopping()
        super().handle_exit(sig, frame)
        self._captured_signals.clear()  # a graceful stop is a success: do not raise the signal again at the end
        if sig == signal.SIGTERM or self._worker:
            self.force_exit = False
