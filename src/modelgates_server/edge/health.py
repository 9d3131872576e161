"""For orchestrators and monitoring: alive, ready, metrics. Open to anybody who reaches the port; they name nobody."""

from __future__ import annotations

from modelgates_server.activity.metrics import CONTENT_TYPE
from modelgates_server.edge.context import Context
from modelgates_server.edge.exchange import Request
from modelgates_server.errors import StoreError


async def live(_context: Context, request: Request) -> None:
    """The process runs and its loop turns."""
    await request.respond(200, b'{"status":"ok"}')


async def ready(context: Context, request: Request) -> None:
    """Requests can be admitted: the store answers and the process is not stopping."""
    status = "draining" if context.draining else "ok" if context.ready else "starting"
    if status == "ok":
        try:
            await context.reader.one("SELECT version FROM policy")
        except StoreError:
            status = "store unavailable"
    await request.respond(200 if status == "ok" else 503, b'{"status":"%s"}' % status.encode())


async def metrics(context: Context, request: Request) -> None:
    """Prometheus text."""
    await request.respond(200, context.metrics.text(), ((b"content-type", CONTENT_TYPE.encode()),))
