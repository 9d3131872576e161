"""The client's request as an upstream gets it: its own bytes, but for the few top-level edits of design section 4."""

from __future__ import annotations

from typing import Final

from modelgates_server.catalogue.models import Endpoint
from modelgates_server.dialects.adapt import cut_member, edited_inside
from modelgates_server.dialects.edit import GATEWAY_EXTRAS, GATEWAY_EXTRAS_BUT_FALLBACKS
from modelgates_server.dialects.values import Ask
from modelgates_server.providers.base import Outgoing
from modelgates_server.relay.values import Incoming
from modelgates_server.routing.fit import Adaptation

LONG_CONTEXT_BETA: Final = "context-1m-2025-08-07"
FAST_BETA: Final = "fast-mode-2026-02-01"

_COUNTED: Final = frozenset({
    "model", "messages", "system", "tools", "tool_choice", "thinking", "output_config", "cache_control",
    "context_management", "mcp_servers", "speed", "container",
})  # fmt: skip
"""What `count_tokens` accepts of a Messages body; it refuses the rest (providers 3.1)."""


def with_betas(betas: tuple[str, ...], *, one_m: bool, fast: bool) -> tuple[str, ...]:
    """The client's betas, and those that the model's name or `speed` stands for."""
    wanted = (LONG_CONTEXT_BETA,) * one_m + (FAST_BETA,) * fast
    return tuple(dict.fromkeys((*betas, *wanted))) if wanted else betas


def outgoing(
    ask: Ask,
    endpoint: Endpoint,
    adaptation: Adaptation,
    incoming: Incoming,
    *,
    clamped: int | None = None,
    count: bool = False,
) -> Outgoing:
    """The request for one endpoint; with `count`, the one that asks how many input tokens it has."""
    if adaptation.inside:
        ask = edited_inside(ask, adaptation.inside)
    drop = GATEWAY_EXTRAS_BUT_FALLBACKS if incoming.fallbacks_beta else GATEWAY_EXTRAS
    if count and ask.max_tokens is not None:
        drop = frozenset(ask.spans) - _COUNTED
    put: dict[str, bytes] = {}
    for top, sub in adaptation.cuts:
        if top in ask.spans and top not in drop and top not in adaptation.drop:
            value = cut_member(put.get(top) or ask.body[slice(*ask.spans[top])], sub)
            if value is None:
                drop |= {top}
                put.pop(top, None)
            else:
                put[top] = value
    if ask.speed == "fast" and "speed" not in ask.spans and "speed" not in adaptation.drop:
        put["speed"] = b'"fast"'  # asked for by the name of a `-fast` model
    return Outgoing(
        ask=ask,
        model=endpoint.upstream_model,
        headers=incoming.headers,
        betas=adaptation.betas
        if endpoint.model.supports_1m
        else tuple(b for b in adaptation.betas if b != LONG_CONTEXT_BETA),
        max_tokens=None if count else _most(ask.max_tokens if clamped is None else clamped, endpoint.max_output_tokens),
        drop=drop | adaptation.drop if adaptation.drop else drop,
        put=put,
        beta_query=incoming.beta_query,
        stream=ask.stream and not count,
    )


def _most(wanted: int | None, limit: int | None) -> int | None:
    """What is asked for, at most the endpoint's own limit."""
    return wanted if wanted is None or limit is None else min(wanted, limit)
