"""Rows of a policy as the database gives them."""

from __future__ import annotations

import json
from typing import Any

USD = 10**9
KEY, MEMBER, PLACE, ORG = "key-1", "mem-1", "ws-1", "org-1"


def key(**changes: Any) -> dict[str, Any]:
    return {
        "hash": KEY,
        "organization_id": ORG,
        "workspace_id": PLACE,
        "member_id": MEMBER,
        "name": "k",
        "class": "inference",
        "limit_nusd": None,
        "limit_reset": None,
        "include_byok_in_limit": 0,
        "requests_per_minute": None,
        "tokens_per_minute": None,
        "parallel_max": None,
        "allowed_models": None,
        "expires_at_s": None,
        "routing": None,
        "workspace_routing": None,
        "workspace_settings": None,
    } | changes


def guardrail(held_by: str, limit_usd: int | None = None, reset: str | None = None, **changes: Any) -> dict[str, Any]:
    """A guardrail's row; lists and settings are given as they are and stored as JSON."""
    stored = {name: json.dumps(value) if isinstance(value, list | dict) else value for name, value in changes.items()}
    return {
        "id": f"grd-{held_by}",
        "held_by": held_by,
        "name": held_by.title(),
        "limit_nusd": None if limit_usd is None else limit_usd * USD,
        "reset_interval": reset,
        "mode": "hard",
        "include_byok": 0,
        "allowed_models": None,
        "ignored_models": None,
        "allowed_providers": None,
        "ignored_providers": None,
        "settings": None,
    } | stored


def budget(scope: str, scope_id: str, window: str, limit_usd: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"bud-{scope}-{window}",
        "scope": scope,
        "scope_id": scope_id,
        "window": window,
        "limit_nusd": limit_usd * USD,
        "mode": "hard",
        "include_byok": 0,
    } | changes


def rates(scope: str, scope_id: str, **changes: Any) -> dict[str, Any]:
    nothing = {"requests_per_minute": None, "tokens_per_minute": None, "parallel_max": None}
    return {"scope": scope, "scope_id": scope_id} | nothing | changes
