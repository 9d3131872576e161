"""People, places, guardrails, budgets and rates as programs and people read them, in the field names of product-surface 2.8.

Members whose name ends in ``_nusd`` are whole nano-USD; whoever writes them for others drops the ending and writes USD.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from modelgates_server.limits import Scope, Window
from modelgates_server.management.assignments import KeyAssignment, MemberAssignment
from modelgates_server.management.budgets import WORDS, BudgetRow, spent_nusd
from modelgates_server.management.describe import rfc3339
from modelgates_server.management.guardrails import TRAINING, ZDR_GROUPS, GuardrailRow, default_guardrail_id
from modelgates_server.management.invitations import InvitationRow
from modelgates_server.management.members import MemberRow
from modelgates_server.management.prompt_log import EVERY_PPM, prompt_log_of
from modelgates_server.management.rates import Paced
from modelgates_server.management.workspaces import Place, WorkspaceRow

ROLE_PREFIX: Final = "org:"
PROMISES: Final = (
    "is_observability_broadcast_enabled",
    "is_data_discount_logging_enabled",
)
"""Switches of a workspace that are always off: what they would do is not done here."""

ZDR: Final = tuple(f"enforce_zdr_{group}" for group in ZDR_GROUPS)


def member_data(row: MemberRow) -> dict[str, Any]:
    """Describe a member."""
    first, _, last = row.name.partition(" ")
    return {
        "id": row.id,
        "email": row.email or "",
        "first_name": first,
        "last_name": last or None,
        "name": row.name,
        "role": ROLE_PREFIX + row.role,
        "created_at": rfc3339(row.created_at_s),
    }


def invitation_data(row: InvitationRow, now_s: float) -> dict[str, Any]:
    """Describe an invitation, without its token."""
    return {
        "id": row.id,
        "email": row.email,
        "name": row.name,
        "role": ROLE_PREFIX + row.role,
        "workspace_id": row.workspace_id,
        "share_usd_nusd": row.share_nusd,
        "share_interval": None if row.share_window is None else WORDS[row.share_window],
        "state": row.state(now_s),
        "invited_by": row.invited_by,
        "created_at": rfc3339(row.created_at_s),
        "expires_at": rfc3339(row.expires_at_s),
        "user_id": row.member_id,
    }


def workspace_data(row: WorkspaceRow, *, include_byok: bool) -> dict[str, Any]:
    """Describe a workspace; `include_byok` says whether its budgets count what own provider keys are asked."""
    sort = json.loads(row.routing).get("sort") if row.routing else None
    log = prompt_log_of(row)
    return {
        "id": row.id,
        "name": row.name,
        "slug": row.slug,
        "description": row.description,
        "created_at": rfc3339(row.created_at_s),
        "updated_at": rfc3339(row.updated_at_s or row.created_at_s),
        "created_by": None,
        "default_guardrail_id": default_guardrail_id(row.id),
        "default_text_model": row.settings.get("default_text_model"),
        "default_image_model": row.settings.get("default_image_model"),
        "default_provider_sort": sort.get("by") if isinstance(sort, dict) else sort,
        "provider": None if row.routing is None else msgspec.Raw(row.routing.encode()),
        "include_byok_in_budgets": include_byok,
        "is_observability_io_logging_enabled": log.enabled,
        "io_logging_api_key_ids": None,  # keys have no numbers here
        "io_logging_api_key_hashes": None if log.key_hashes is None else list(log.key_hashes),
        "io_logging_sampling_rate": log.sampling_ppm / EVERY_PPM,
        "io_logging_retention_days": log.retention_days,
        **dict.fromkeys(PROMISES, False),
    }


def place_data(place: Place) -> dict[str, Any]:
    """Describe a member's place in a workspace."""
    return {
        "id": f"{place.workspace_id}:{place.member.id}",
        "user_id": place.member.id,
        "workspace_id": place.workspace_id,
        "role": place.member.role,
        "created_at": rfc3339(place.created_at_s),
    }


def guardrail_data(row: GuardrailRow) -> dict[str, Any]:
    """Describe a guardrail; null is no rule."""
    rules = row.rules
    retention = {name: rules.settings.get(name) for name in ZDR}
    return {
        "id": row.id,
        "workspace_id": row.workspace_id,
        "name": rules.name,
        "description": rules.description,
        "is_default": row.is_default,
        "limit_usd_nusd": rules.limit_nusd,
        "reset_interval": rules.reset_interval,
        "mode": rules.mode,
        "include_byok_in_budgets": rules.include_byok,
        "allowed_models": rules.allowed_models,
        "ignored_models": rules.ignored_models,
        "allowed_providers": rules.allowed_providers,
        "ignored_providers": rules.ignored_providers,
        "enforce_zdr": retention[ZDR[0]] if len(set(retention.values())) == 1 else None,
        **retention,
        **{name: rules.settings.get(name) for name in TRAINING},
        "allowed_data_regions": None,
        "content_filters": None,
        "content_filter_builtins": None,
        "created_at": rfc3339(row.created_at_s),
        "updated_at": None if row.updated_at_s is None else rfc3339(row.updated_at_s),
    }


def assignment_data(row: KeyAssignment | MemberAssignment) -> dict[str, Any]:
    """Describe who has a guardrail."""
    own = {name: getattr(row, name) for name in type(row).__slots__ if name != "created_at_s"}
    return own | {"created_at": rfc3339(row.created_at_s)}


def budgets_data(engine: sa.Engine, rows: Sequence[BudgetRow], now_s: float) -> list[dict[str, Any]]:
    """Describe budgets with what stands on their meters now."""
    spent = spent_nusd(engine, [row.meter for row in rows], now_s)
    return [_budget_data(row, spent[row.meter.row_id(now_s)], now_s) for row in rows]


def rates_data(paced: Paced) -> dict[str, Any]:
    """Describe somebody's rates."""
    return {
        "scope": str(paced.scope),
        f"{paced.scope}_id": paced.scope_id,
        "requests_per_minute": paced.rates.requests_per_minute,
        "tokens_per_minute": paced.rates.tokens_per_minute,
        "parallel_max": paced.rates.parallel_max,
    }


def _budget_data(row: BudgetRow, spent: int, now_s: float) -> dict[str, Any]:
    ends_at_s = row.window.bounds_s(now_s)[1]
    return {
        "id": row.id,
        "scope": str(row.scope),
        "app" if row.scope is Scope.APP else f"{row.scope}_id": row.owner,
        "limit_usd_nusd": row.limit_nusd,
        "spend_usd_nusd": spent,
        "remaining_usd_nusd": row.limit_nusd - spent,
        "reset_interval": None if row.window is Window.LIFE else WORDS[row.window],
        "resets_at": None if ends_at_s is None else rfc3339(ends_at_s),
        "mode": row.mode,
        "include_byok": row.include_byok,
        "created_at": rfc3339(row.created_at_s),
        "updated_at": rfc3339(row.updated_at_s or row.created_at_s),
    }
