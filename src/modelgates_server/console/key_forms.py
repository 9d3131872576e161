"""The form of a key, as it is shown and as it is read: the same fields for a new key and for one that is changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from modelgates_server.activity.daily import DAY_S, day_text, midnight_s
from modelgates_server.console.visits import Visit, whole
from modelgates_server.errors import BadRequest
from modelgates_server.limits import LIMIT_RESETS
from modelgates_server.management.guardrails import list_guardrails, model_slugs
from modelgates_server.management.key_lists import workspaces_for
from modelgates_server.management.key_values import RATE_MAX, KeyRow
from modelgates_server.management.members import list_members
from modelgates_server.money import nusd_from_usd

OPTIONS_MAX: Final = 1_000
"""A longer list is of no use in a form."""

RATES: Final = ("requests_per_minute", "tokens_per_minute", "parallel_max")


@dataclass(frozen=True, slots=True)
class Option:
    """An entry of a list to choose from."""

    value: str
    text: str


@dataclass(frozen=True, slots=True)
class KeyChoices:
    """What a form of a key offers. Members and guardrails are an administrator's to choose; others are shown none."""

    workspaces: tuple[Option, ...]
    members: tuple[Option, ...]
    guardrails: tuple[Option, ...]
    models: tuple[Option, ...]


def choices(visit: Visit, row: KeyRow | None = None) -> KeyChoices:
    """What the visitor may choose; with `row` also models that the key names and nobody serves."""
    engine, organization_id = visit.house.engine, visit.organization_id
    spaces = tuple(Option(*one) for one in workspaces_for(engine, organization_id, visit.only_member_id))
    members: tuple[Option, ...] = ()
    guardrails: tuple[Option, ...] = ()
    if visit.is_admin:
        people = list_members(engine, organization_id, 0, OPTIONS_MAX).rows
        members = tuple(
            Option(one.id, one.name if one.email is None else f"{one.name} ({one.email})") for one in people
        )
        rules = list_guardrails(engine, organization_id, None, 0, OPTIONS_MAX).rows
        guardrails = tuple(Option(one.id, one.rules.name) for one in rules if not one.is_default)
    models = {model.slug: model.name for model in visit.house.catalogue.models.values()}
    models |= {slug: slug for slug in (row.allowed_models or () if row is not None else ()) if slug not in models}
    return KeyChoices(spaces, members, guardrails, tuple(Option(*one) for one in models.items()))


def key_typed(visit: Visit) -> dict[str, Any]:
    """What was typed into a form of a key, by the names of `KeyRow`, but not its name. Raises BadRequest."""
    typed: dict[str, Any] = {
        **_limit(visit),
        "expires_at_s": expiry_typed(visit),
        "allowed_models": model_slugs(
            visit.house.catalogue, visit.form.all("allowed_models") or None, "allowed models"
        ),
    }
    for name in RATES:
        typed[name] = whole(visit, name, 1, RATE_MAX) if visit.form.get(name) else None
    if visit.form.get("workspace_id"):
        typed["workspace_id"] = visit.form.get("workspace_id")
    if visit.is_admin:
        typed["include_byok_in_limit"] = visit.form.has("include_byok_in_limit")
    return typed


def expiry_typed(visit: Visit) -> int | None:
    """When a key ends: at the end of the day that was typed (UTC). Raises BadRequest."""
    text = visit.form.get("expires")
    return midnight_s(text, "Expires") + DAY_S if text else None


def expiry_shown(expires_at_s: int | None) -> str:
    """The last day of a key, for the field."""
    return "" if expires_at_s is None else day_text(expires_at_s - 1)


def owner_typed(visit: Visit) -> str | None:
    """Whose a new key is: the visitor's own unless somebody else was chosen, or ``nobody``."""
    chosen = visit.form.get("member_id", visit.member.id)
    return None if chosen == "nobody" else chosen or visit.member.id


def guardrail_typed(visit: Visit) -> str | None:
    """The guardrail that was chosen; None for none of its own."""
    return visit.form.get("guardrail_id") or None


def _limit(visit: Visit) -> dict[str, Any]:
    amount, reset = visit.form.get("limit").lstrip("$ "), visit.form.get("limit_reset")
    if reset and reset not in LIMIT_RESETS:
        raise BadRequest("A limit starts again daily, weekly, monthly or never.")
    if reset and not amount:
        raise BadRequest("Say how many dollars the limit is, or choose that it never starts again.")
    return {"limit_nusd": nusd_from_usd(amount) if amount else None, "limit_reset": reset or None}
