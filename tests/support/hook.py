"""A receiver of webhooks, independent of ours: it knows the documented scheme of signatures and nothing else."""

from __future__ import annotations

import hashlib
import hmac
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class Hook:
    """Answers with the statuses of `plan` in turn, then 200; keeps what came."""

    plan: list[int] = field(default_factory=list)
    url: str = ""
    port: int = 0
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for body in self.bodies]

    def verified(self, index: int, secret: str) -> bool:
        """Check a signature as the documentation tells receivers to."""
        parts = dict(part.split("=", 1) for part in self.headers[index]["modelgates-signature"].split(","))
        mac = hmac.new(secret.encode(), parts["t"].encode() + b"." + self.bodies[index], hashlib.sha256)
        return hmac.compare_digest(mac.hexdigest(), parts["v1"])

    async def take(self, request: web.Request) -> web.Response:
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        self.bodies.append(await request.read())
        status = self.plan.pop(0) if self.plan else 200
        return web.Response(
            status=status, headers={"location": self.url} if 300 <= status < 400 else {}, text="inner secret"
        )


@asynccontextmanager
async def open_hook(tls: ssl.SSLContext | None = None, name: str = "127.0.0.1") -> AsyncIterator[Hook]:
    """Listen on a free port of this machine; with `tls` the URL is https, to that name."""
    hook = Hook()
    application = web.Application()
    application.router.add_post("/in", hook.take)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    hook.port = runner.addresses[0][1]
    hook.url = f"{'http' if tls is None else 'https'}://{name}:{hook.port}/in"
    try:
        yield hook
    finally:
        await runner.cleanup()
