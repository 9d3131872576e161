"""From the rows of a policy to what a caller carries: meters in the order of their checks, lists, provider rules. Pure.

The order is that of product-surface 5.1: rates; the workspace's default guardrail for the member and for the key, the member's and the
key's own; budgets of workspace, app and organisation, broad windows first; the key's limit; the credit. All must admit.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from modelgates_server.accounts.values import Caller, Keeping, KeyClass
from modelgates_server.limits import LIMIT_RESETS, MeterRef, Scope, Unit, Window

Row = Mapping[str, Any]

DAY_S: Final = 86_400
SOFT: Final = "soft"
BROAD_FIRST: Final = (Window.LIFE, Window.MONTH, Window.WEEK, Window.DAY)
BUDGET_LABELS: Final = {
    Window.LIFE: "lifetime budget",
    Window.MONTH: "monthly budget",
    Window.WEEK: "weekly budget",
    Window.DAY: "daily budget",
}
_RATES: Final = (
    (Unit.REQUESTS, Window.MINUTE, "requests_per_minute"),
    (Unit.TOKENS, Window.MINUTE, "tokens_per_minute"),
    (Unit.PARALLEL, Window.LIFE, "parallel_max"),
)
_RATE_SCOPES: Final = (Scope.ORGANIZATION, Scope.WORKSPACE, Scope.MEMBER)


class Layer(StrEnum):
    """Which kind of budget a limit comes from, in the order in which they are checked; the words are the API's."""

    DEFAULT_MEMBER = "workspace_default_member"
    DEFAULT_KEY = "workspace_default_key"
    MEMBER = "member"
    MEMBER_BUDGET = "member_budget"
    API_KEY = "api_key"
    WORKSPACE = "workspace"
    APP = "app"
    ORGANIZATION = "organization"
    KEY_LIMIT = "key_limit"


@dataclass(frozen=True, slots=True)
class Limit:
    """One budget that stands over a key: its meter (without a limit when it is soft), its amount in nano-USD, where it is from."""

    layer: Layer
    meter: MeterRef
    amount_nusd: int
    soft: bool = False
    guardrail_id: str | None = None
    budget_id: str | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything that decides about a key, as rows: its own, the budgets and rates of those it belongs to, its guardrails.

    A guardrail's row says in `held_by` why it holds: workspace, member or key.
    """

    key: Row
    budgets: Sequence[Row] = ()
    rates: Sequence[Row] = ()
    guardrails: Sequence[Row] = ()
    by_holder: Mapping[str, Row] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_holder", {row["held_by"]: row for row in self.guardrails})


def caller_of(policy: Policy, version: int) -> Caller:
    """What the rest of the gateway needs to know."""
    key = policy.key
    found = limits(policy)
    before, after = rate_meters(policy), (credit_meter(key["organization_id"]),)
    apps = dict.fromkeys(limit.meter.scope_id for limit in found if limit.layer is Layer.APP)
    general = [limit for limit in found if limit.layer is not Layer.APP]
    return Caller(
        organization_id=key["organization_id"],
        workspace_id=key["workspace_id"],
        member_id=key["member_id"],
        key_hash=key["hash"],
        key_name=key["name"],
        key_class=KeyClass(key["class"]),
        policy_version=version,
        meters=(*before, *merged(_refs(policy, general)), *after),
        app_meters={
            app.partition("/")[2]: (*before, *merged(_refs(policy, _for_app(found, app))), *after) for app in apps
        },
        allowed_models=_intersection([_list(key["allowed_models"]), *_lists(policy, "allowed_models")]),
        ignored_models=frozenset().union(*(ignored for ignored in _lists(policy, "ignored_models") if ignored)),
        retention_free=frozenset().union(*map(_retention_free, policy.guardrails)),
        expires_at_s=key["expires_at_s"],
        routing=tuple(_routing(policy)),
        keeping=_keeping(key),
    )


def limits(policy: Policy) -> list[Limit]:
    """Every budget over the key, in the order of the checks; those of apps concern only the requests of that app."""
    key, by_holder = policy.key, policy.by_holder
    default, own_place = by_holder.get("workspace"), key["workspace_id"]
    found: list[Limit | None] = []
    if key["member_id"] is not None:
        seat = f"{own_place}/{key['member_id']}"
        found.append(_guarded(Layer.DEFAULT_MEMBER, default, Scope.SEAT, seat))
    found.append(_guarded(Layer.DEFAULT_KEY, default, Scope.KEY, key["hash"]))
    if key["member_id"] is not None:
        found.append(_guarded(Layer.MEMBER, by_holder.get("member"), Scope.MEMBER, key["member_id"]))
    found += _budgets(policy, Layer.MEMBER_BUDGET, Scope.MEMBER)
    found.append(_guarded(Layer.API_KEY, by_holder.get("key"), Scope.KEY, key["hash"]))
    found += _budgets(policy, Layer.WORKSPACE, Scope.WORKSPACE)
    found += _budgets(policy, Layer.APP, Scope.APP)
    found += _budgets(policy, Layer.ORGANIZATION, Scope.ORGANIZATION)
    if key["limit_nusd"] is not None:
        window = LIMIT_RESETS.get(key["limit_reset"], Window.LIFE)
        meter = MeterRef(Scope.KEY, key["hash"], _unit(key["include_byok_in_limit"]), window, key["limit_nusd"])
        found.append(Limit(Layer.KEY_LIMIT, meter, key["limit_nusd"]))
    return [limit for limit in found if limit is not None]


def rate_meters(policy: Policy) -> tuple[MeterRef, ...]:
    """Rates and requests at the same time, the organisation's first, the key's own last."""
    by_scope = {row["scope"]: row for row in policy.rates}
    rows = [(scope, by_scope[scope]["scope_id"], by_scope[scope]) for scope in _RATE_SCOPES if scope in by_scope]
    rows.append((Scope.KEY, policy.key["hash"], policy.key))
    return tuple(
        MeterRef(scope, scope_id, unit, window, row[column])
        for scope, scope_id, row in rows
        for unit, window, column in _RATES
        if row[column] is not None
    )


def credit_meter(organization_id: str) -> MeterRef:
    """The meter of the organisation's prepaid credit; its limit is the sum of its grants, in the row itself."""
    return MeterRef(Scope.ORGANIZATION, organization_id, Unit.NUSD, Window.LIFE, limit_from_row=True)


def merged(refs: Iterable[MeterRef]) -> tuple[MeterRef, ...]:
    """One reference for each meter: of several limits on it the lowest hard one, in its own place and by its own name."""
    refs = list(refs)
    best: dict[tuple[str, ...], MeterRef] = {}
    for ref in refs:
        meter = (ref.scope, ref.scope_id, ref.unit, ref.window)
        known = best.get(meter)
        if known is None or (ref.limit is not None and (known.limit is None or ref.limit < known.limit)):
            best[meter] = ref
    chosen = {id(ref) for ref in best.values()}
    return tuple(ref for ref in refs if id(ref) in chosen)


def _refs(policy: Policy, found: Iterable[Limit]) -> Iterator[MeterRef]:
    """The meters of budgets, and the key's own for life: what a key ever used is counted, limit or not."""
    yield from (limit.meter for limit in found)
    yield MeterRef(Scope.KEY, policy.key["hash"], Unit.NUSD, Window.LIFE)


def _for_app(found: Iterable[Limit], app: str) -> Iterator[Limit]:
    return (limit for limit in found if limit.layer is not Layer.APP or limit.meter.scope_id == app)


def _guarded(layer: Layer, row: Row | None, scope: Scope, scope_id: str) -> Limit | None:
    if row is None or row["limit_nusd"] is None or row["reset_interval"] not in LIMIT_RESETS:
        return None
    label = f'guardrail "{row["name"]}"'
    window = LIMIT_RESETS[row["reset_interval"]]
    meter = MeterRef(scope, scope_id, _unit(row["include_byok"]), window, row["limit_nusd"], label=label)
    return _softened(Limit(layer, meter, row["limit_nusd"], guardrail_id=row["id"]), row["mode"])


def _budgets(policy: Policy, layer: Layer, scope: Scope) -> list[Limit]:
    rows = [row for row in policy.budgets if row["scope"] == scope]
    rows.sort(key=lambda row: (row["scope_id"], BROAD_FIRST.index(Window(row["window"])), row["limit_nusd"]))
    return [_budget(layer, scope, row) for row in rows]


def _budget(layer: Layer, scope: Scope, row: Row) -> Limit:
    window = Window(row["window"])
    meter = MeterRef(
        scope, row["scope_id"], _unit(row["include_byok"]), window, row["limit_nusd"], label=BUDGET_LABELS[window]
    )
    return _softened(Limit(layer, meter, row["limit_nusd"], budget_id=row["id"]), row["mode"])


def _softened(limit: Limit, mode: str) -> Limit:
    """A soft budget only counts: alerts look at its row."""
    return replace(limit, meter=replace(limit.meter, limit=None), soft=True) if mode == SOFT else limit


def _unit(include_byok: object) -> Unit:
    return Unit.SPEND if include_byok else Unit.NUSD


def _list(text: str | None) -> frozenset[str] | None:
    return None if text is None else frozenset(json.loads(text))


def _lists(policy: Policy, column: str) -> list[frozenset[str] | None]:
    return [_list(row[column]) for row in policy.guardrails]


def _intersection(lists: Iterable[frozenset[str] | None]) -> frozenset[str] | None:
    given = [found for found in lists if found is not None]
    return frozenset.intersection(*given) if given else None


def _settings(row: Row) -> dict[str, Any]:
    return json.loads(row["settings"]) if row["settings"] else {}


def _keeping(key: Row) -> Keeping | None:
    """What the key's workspace decided about prompts and answers (`management/prompt_log.py`); a rule's name is there while it is on."""
    text = key["workspace_settings"]
    said = json.loads(text).get("prompt_log") if text else None
    if not said or "rule" not in said or (said["key_hashes"] is not None and key["hash"] not in said["key_hashes"]):
        return None
    return Keeping(said["rule"], said["retention_days"] * DAY_S, said["sampling_ppm"])


def _retention_free(row: Row) -> frozenset[str]:
    """Whose models a guardrail allows only where nothing is kept: ``anthropic``, ``other`` and so on."""
    prefix = "enforce_zdr_"
    return frozenset(name.removeprefix(prefix) for name, on in _settings(row).items() if on and name.startswith(prefix))


def _routing(policy: Policy) -> Iterator[bytes]:
    """Provider preferences, the outer ones first: the guardrails', the workspace's, the key's (`routing.wishes.merged`)."""
    for row in policy.guardrails:
        said: dict[str, Any] = {}
        if row["allowed_providers"] is not None:
            said["only"] = json.loads(row["allowed_providers"])
        if row["ignored_providers"] is not None:
            said["ignore"] = json.loads(row["ignored_providers"])
        if _settings(row).get("enable_paid_model_training") is False:
            said["data_collection"] = "deny"
        if said:
            yield json.dumps(said, separators=(",", ":"), sort_keys=True).encode()
    for text in (policy.key["workspace_routing"], policy.key["routing"]):
        if text:
            yield text.encode()
