"""The forms of guardrails, budgets and rates: what they offer, and what was typed into them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from modelgates_server.console.key_forms import OPTIONS_MAX, Option
from modelgates_server.console.visits import Visit, whole
from modelgates_server.errors import BadRequest
from modelgates_server.limits import LIMIT_RESETS, Scope
from modelgates_server.management.budgets import INTERVALS, Budget
from modelgates_server.management.guardrails import ZDR_GROUPS, Rules, model_slugs
from modelgates_server.management.key_lists import KeysWanted, slice_keys, workspaces_for
from modelgates_server.management.members import list_members
from modelgates_server.management.rates import RATE_MAX, Paced, Rates
from modelgates_server.management.spent import HARD, SOFT
from modelgates_server.money import nusd_from_usd

ORGANIZATION: Final = "organization"
APP: Final = "app"
KEYS_MAX: Final = 500

MAKERS: Final = {
    "anthropic": "Anthropic",
    "openai": "OpenAI",
    "google": "Google",
    "xai": "xAI",
    "other": "anybody else",
}
"""Whose models `enforce_zdr_…` is about, in words."""


@dataclass(frozen=True, slots=True)
class GuardChoices:
    """What the forms offer. `owners` are those that a budget or a rate may belong to, without members and apps."""

    members: tuple[Option, ...]
    keys: tuple[Option, ...]
    owners: tuple[Option, ...]
    workspaces: tuple[Option, ...]
    models: tuple[Option, ...]
    providers: tuple[Option, ...]
    makers: tuple[Option, ...]


@dataclass(frozen=True, slots=True)
class RulesFields:
    """What the form of a guardrail shows: as it is stored, in the words of its fields. None stands for a new one."""

    name: str
    description: str
    limit: str
    reset_interval: str
    soft: bool
    include_byok: bool
    allowed_models: tuple[str, ...]
    ignored_models: tuple[str, ...]
    allowed_providers: tuple[str, ...]
    ignored_providers: tuple[str, ...]
    zdr: tuple[str, ...]


def guard_choices(visit: Visit, rules: Rules | None = None) -> GuardChoices:
    """What there is to choose from; with `rules` also models and providers that these name and nobody here serves."""
    house, organization_id = visit.house, visit.organization_id
    whose = "nobody's"
    members = list_members(house.engine, organization_id, 0, OPTIONS_MAX).rows
    keys = slice_keys(house.engine, organization_id, KeysWanted(), None, KEYS_MAX, visit.now_s).entries
    spaces = tuple(Option(*one) for one in workspaces_for(house.engine, organization_id, None))
    models = [Option(model.slug, model.name) for model in house.catalogue.models.values()]
    providers = [Option(one.slug, one.slug) for one in house.providers]
    listed = (
        () if rules is None else (*(rules.allowed_models or ()), *(rules.ignored_models or ())),
        () if rules is None else (*(rules.allowed_providers or ()), *(rules.ignored_providers or ())),
    )
    return GuardChoices(
        members=tuple(
            Option(one.id, one.name if one.email is None else f"{one.name} ({one.email})") for one in members
        ),
        keys=tuple(
            Option(one.row.hash, f"{one.row.name} ({one.member_name or whose}, {one.row.label})") for one in keys
        ),
        owners=(
            Option(ORGANIZATION, "the whole organization"),
            *(Option(f"workspace:{one.value}", f"workspace {one.text}") for one in spaces),
        ),
        workspaces=spaces,
        models=_with(models, listed[0]),
        providers=_with(providers, listed[1]),
        makers=tuple(Option(name, MAKERS[name]) for name in ZDR_GROUPS),
    )


def rules_fields(rules: Rules, limit: str) -> RulesFields:
    """What the form shows of a guardrail; `limit` is its amount as text."""
    return RulesFields(
        name=rules.name,
        description=rules.description or "",
        limit=limit,
        reset_interval=rules.reset_interval or "",
        soft=rules.mode == SOFT,
        include_byok=rules.include_byok,
        allowed_models=rules.allowed_models or (),
        ignored_models=rules.ignored_models or (),
        allowed_providers=rules.allowed_providers or (),
        ignored_providers=rules.ignored_providers or (),
        zdr=tuple(group for group in ZDR_GROUPS if rules.settings.get(f"enforce_zdr_{group}")),
    )


def rules_typed(visit: Visit) -> dict[str, Any]:
    """What was typed into the form of a guardrail, by the names of `Rules`. Raises BadRequest."""
    form, catalogue = visit.form, visit.house.catalogue
    amount, reset = form.get("limit").lstrip("$ "), form.get("reset_interval")
    if reset and reset not in LIMIT_RESETS:
        raise BadRequest("A guardrail's budget starts again daily, weekly or monthly.")
    if bool(amount) is not bool(reset):
        raise BadRequest("A guardrail's budget needs both: how many dollars, and when it starts again.")
    zdr = form.all("zdr")
    return {
        "name": form.get("name"),
        "description": form.get("description") or None,
        "limit_nusd": nusd_from_usd(amount) if amount else None,
        "reset_interval": reset or None,
        "mode": SOFT if form.has("soft") else HARD,
        "include_byok": form.has("include_byok"),
        "allowed_models": model_slugs(catalogue, form.all("allowed_models") or None, "allowed models"),
        "ignored_models": model_slugs(catalogue, form.all("ignored_models") or None, "ignored models"),
        "allowed_providers": form.all("allowed_providers") or None,
        "ignored_providers": form.all("ignored_providers") or None,
        "settings": {f"enforce_zdr_{group}": True if group in zdr else None for group in ZDR_GROUPS},
    }


def budget_typed(visit: Visit) -> Budget:
    """The budget that was typed. Raises BadRequest."""
    form = visit.form
    scope, scope_id = _owner(visit, form.get("owner"), form.get("app"))
    amount = form.get("amount").lstrip("$ ")
    if not amount:
        raise BadRequest("Say how many dollars the budget is.")
    window = INTERVALS.get(form.get("interval", "monthly"))
    if window is None:
        raise BadRequest(f"A budget starts again {', '.join(INTERVALS)}.")
    mode = SOFT if form.has("budget_soft") else HARD
    return Budget(scope, scope_id, window, nusd_from_usd(amount), mode, form.has("budget_byok"))


def rates_typed(visit: Visit) -> Paced:
    """The rates that were typed; empty fields are no limit. Raises BadRequest."""
    scope, scope_id = _owner(visit, visit.form.get("paced"), "")
    names = ("requests_per_minute", "tokens_per_minute", "parallel_max")
    given = {name: whole(visit, name, 1, RATE_MAX) if visit.form.get(name) else None for name in names}
    return Paced(scope, scope_id, Rates(**given))


def _owner(visit: Visit, chosen: str, app: str) -> tuple[Scope, str]:
    kind, _, id_ = chosen.partition(":")
    if chosen == ORGANIZATION:
        return Scope.ORGANIZATION, visit.organization_id
    if chosen == APP:
        if not app:
            raise BadRequest("Name the app as its requests do: the log shows the names.")
        return Scope.APP, app
    if kind in {Scope.WORKSPACE, Scope.MEMBER} and id_:
        return Scope(kind), id_
    raise BadRequest("Choose whose it is.")


def _with(options: Sequence[Option], listed: Sequence[str]) -> tuple[Option, ...]:
    known = {one.value for one in options}
    return (*options, *(Option(name, name) for name in dict.fromkeys(listed) if name not in known))
