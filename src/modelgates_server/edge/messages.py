"""`POST /v1/messages` and `/v1/messages/count_tokens`: from HTTP to the relay and back."""

from __future__ import annotations

import asyncio
import logging

from modelgates_server.activity.metrics import Metrics
from modelgates_server.dialects.ask import read_ask, read_count
from modelgates_server.dialects.values import FALLBACKS_BETA
from modelgates_server.edge.context import Context
from modelgates_server.edge.exchange import Request
from modelgates_server.edge.identify import identify
from modelgates_server.edge.stream import Outlet
from modelgates_server.errors import Draining, ModelGatesError, MoneyRefused
from modelgates_server.privacy import visible
from modelgates_server.relay.answers import Answer
from modelgates_server.relay.values import Incoming

log = logging.getLogger(__name__)

_NOT_FORWARDED = frozenset({b"anthropic-organization-id", b"anthropic-workspace-id", b"anthropic-beta"})
_FORWARDED = frozenset({b"user-agent", b"accept"})
_REPORT_HEADERS = (b"x-modelgates-metadata", b"x-modelgates-experimental-metadata", b"x-openrouter-metadata")
_BETA_HEADER = b"anthropic-beta"


async def messages(context: Context, request: Request) -> None:
    """Answer a Messages request; a client that leaves cancels it wherever it stands."""
    caller = await identify(request, context.directory)
    body = await request.body()
    betas = _betas(request)
    fallbacks_beta = any(FALLBACKS_BETA in beta for beta in betas)
    ask = read_ask(body, _session(request), fallbacks_beta=fallbacks_beta)
    incoming = _incoming(context, request, betas, fallbacks_beta=fallbacks_beta)
    outlet = Outlet(request, context, stream=ask.stream)
    with request.cancelled_when_gone():
        answer: Answer | None = None
        try:
            answer = await context.relay.answer(caller, ask, incoming)
            await outlet.carry(answer)
        except ModelGatesError as error:
            _count_refusal(context.metrics, error)
            await outlet.fail(error)
        except asyncio.CancelledError:
            if request.left or not context.draining:
                raise
            await outlet.fail(Draining("The gateway is stopping; please send the request again."))  # the drain limit
        except Exception as error:
            log.exception("request_failed", extra={"request": request.id})
            await outlet.fail(error)
        finally:
            outlet.close()
            if answer is not None:
                answer.close()


async def count_tokens(context: Context, request: Request) -> None:
    """Count input tokens: free of charge, no receipt, no rate limit (an IDE asks 25 at once)."""
    caller = await identify(request, context.directory)
    ask = read_count(await request.body(), _session(request))
    with request.cancelled_when_gone():
        tokens = await context.relay.count(
            caller, ask, _incoming(context, request, _betas(request), fallbacks_beta=False)
        )
        request.finished()
        await request.respond(200, b'{"input_tokens":%d}' % tokens)


def _forwarded(request: Request) -> tuple[tuple[str, str], ...]:
    """The client's headers that may travel upstream (design section 6; client-protocol H-1 to H-4)."""
    return tuple(
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in request.raw_headers
        if (name.startswith(b"anthropic-") and name not in _NOT_FORWARDED) or name in _FORWARDED
    )


def _betas(request: Request) -> tuple[str, ...]:
    """The names in `anthropic-beta`, from one header or several."""
    if _BETA_HEADER not in request.headers:
        return ()
    values = [value.decode("latin-1") for name, value in request.raw_headers if name == _BETA_HEADER]
    return tuple(dict.fromkeys(name for value in values for part in value.split(",") if (name := part.strip())))


def _session(request: Request) -> str | None:
    return request.header(b"x-claude-code-session-id") or request.header(b"x-session-id")


def _incoming(context: Context, request: Request, betas: tuple[str, ...], *, fallbacks_beta: bool) -> Incoming:
    report = any(request.headers.get(name, b"").lower() == b"enabled" for name in _REPORT_HEADERS)
    app = (
        request.header(b"x-modelgates-title")
        or request.header(b"x-title")
        or request.header(b"http-referer")
        or request.header(b"referer")
    )
    return Incoming(
        id=request.id,
        received_s=context.clock.monotonic_s(),
        headers=_forwarded(request),
        betas=betas,
        beta_query=b"beta=true" in request.query.split(b"&"),
        app=visible(app, 200) if app else None,
        user_agent=visible(request.header(b"user-agent") or "", 200) or None,
        report=report,
        fallbacks_beta=fallbacks_beta,
    )


def _count_refusal(metrics: Metrics, error: ModelGatesError) -> None:
    reason = f"money_{error.scope}" if isinstance(error, MoneyRefused) else type(error).__name__
    metrics.refusals.labels(reason).inc()
