"""`GET /v1/key` and `/v1/generation`: what a key may know about itself and its requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs

import msgspec

from modelgates_server.accounts.policy import Layer, Limit, limits
from modelgates_server.accounts.values import KeyClass
from modelgates_server.activity import reports
from modelgates_server.edge.context import Context
from modelgates_server.edge.exchange import Request
from modelgates_server.edge.identify import credentials
from modelgates_server.edge.numbers import in_usd, rfc3339
from modelgates_server.errors import BadRequest, NotFound
from modelgates_server.ledger.standings import standings
from modelgates_server.limits import LIMIT_RESETS, MeterRef, Scope, Unit, Window

_KEY = "SELECT name, label, limit_nusd, limit_reset, include_byok_in_limit, expires_at_s, member_id FROM api_keys WHERE hash = :hash"
_RESETS = {window: word for word, window in LIMIT_RESETS.items()}


async def key(context: Context, request: Request) -> None:
    """The key that asks: its limit, what is left of it, what it used, and every budget over it (product-surface 2.6)."""
    caller = await context.directory.identify(credentials(request))
    now_s = context.clock.now_s()
    row = (await context.reader.one(_KEY, {"hash": caller.key_hash})) or {}
    use = await reports.key_use_nusd(context.reader, caller.key_hash, now_s)
    found = limits(await context.directory.policy(caller.key_hash))
    life = MeterRef(Scope.KEY, caller.key_hash, Unit.NUSD, Window.LIFE)
    stood = await standings(context.reader, [life, *(limit.meter for limit in found)], now_s)
    own = next((limit for limit in found if limit.layer is Layer.KEY_LIMIT), None)
    budgets = [_budget(limit, stood[limit.meter]["posted"], now_s) for limit in found]
    management = caller.key_class is KeyClass.MANAGEMENT
    data = {
        "label": row.get("label"),
        "name": row.get("name"),
        "limit_nusd": row.get("limit_nusd"),
        "limit_remaining_nusd": None if own is None else max(0, own.amount_nusd - stood[own.meter]["posted"]),
        "limit_reset": row.get("limit_reset"),
        "include_byok_in_limit": bool(row.get("include_byok_in_limit")),
        "usage_nusd": stood[life]["posted"],
        "usage_daily_nusd": use.get("day", 0),
        "usage_weekly_nusd": use.get("week", 0),
        "usage_monthly_nusd": use.get("month", 0),
        "byok_usage_nusd": use.get("byok_life", 0),
        "byok_usage_daily_nusd": use.get("byok_day", 0),
        "byok_usage_weekly_nusd": use.get("byok_week", 0),
        "byok_usage_monthly_nusd": use.get("byok_month", 0),
        "is_free_tier": False,
        "is_management_key": management,
        "is_provisioning_key": management,
        "creator_user_id": row.get("member_id"),
        "organization_id": caller.organization_id,
        "workspace_id": caller.workspace_id,
        "expires_at": None if row.get("expires_at_s") is None else rfc3339(row["expires_at_s"]),
        "budgets": [in_usd(budget) for budget in budgets],
        "effective_budget": _effective(budgets),
        "free_model_daily_requests": {"limit": 0, "used": 0, "remaining": 0},
        "allowed_data_regions": ["global"],
        "rate_limit": {"requests": -1, "interval": "10s", "note": "deprecated"},
    }
    await request.respond(200, msgspec.json.encode({"data": in_usd(data)}))


def _budget(limit: Limit, spent_nusd: int, now_s: float) -> dict[str, Any]:
    """One budget as `GET /key` shows it; `remaining_usd` falls below zero when a limit was lowered after it was spent."""
    meter = limit.meter
    ends_at_s = meter.window.bounds_s(now_s)[1]
    return {
        "scope": str(limit.layer),
        "limit_usd_nusd": limit.amount_nusd,
        "spend_usd_nusd": spent_nusd,
        "remaining_usd_nusd": limit.amount_nusd - spent_nusd,
        "reset_interval": _RESETS.get(meter.window),
        "resets_at": None if ends_at_s is None else rfc3339(ends_at_s),
        "include_byok": meter.unit is Unit.SPEND,
        "guardrail_id": limit.guardrail_id,
        "budget_id": limit.budget_id,
        "mode": "soft" if limit.soft else "hard",
        "app": meter.scope_id.partition("/")[2] if limit.layer is Layer.APP else None,
    }


def _effective(budgets: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The budget that refuses first: the first that is spent already, else the one with the least left.

    Soft ones refuse nothing, and an app's concerns only that app.
    """
    binding = [one for one in budgets if one["mode"] == "hard" and one["app"] is None]
    spent = [one for one in binding if one["remaining_usd_nusd"] <= 0]
    first = spent[0] if spent else min(binding, key=lambda one: one["remaining_usd_nusd"], default=None)
    return None if first is None else in_usd(first)


async def generation(context: Context, request: Request) -> None:
    """One receipt by its id; any key of the same organisation may read it (product-surface 2.7)."""
    caller = await context.directory.identify(credentials(request))
    wanted = parse_qs(request.query.decode("latin-1")).get("id", [""])[0]
    if not wanted:
        raise BadRequest("id: Field required")
    row = await reports.generation(context.reader, caller.organization_id, wanted)
    if row is None:
        raise NotFound(f"Generation {wanted[:100]} not found")
    await request.respond(200, msgspec.json.encode({"data": in_usd(reports.generation_data(row))}))
