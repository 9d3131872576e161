"""Looking back before a change: what would it have refused? Shown beside the form, and without script as a page of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from modelgates_server.console.guard_forms import budget_typed, rates_typed, rules_typed
from modelgates_server.console.pages.guardrails import owner_name
from modelgates_server.console.previews import Finding, look_back, of_guardrail
from modelgates_server.console.routes import post
from modelgates_server.console.shares import read_shares
from modelgates_server.console.visits import ADMIN, Page, Visit, whole
from modelgates_server.errors import BadRequest, NotFound, TookTooLong
from modelgates_server.limits import Scope
from modelgates_server.management import guardrails
from modelgates_server.management.assigned import holders
from modelgates_server.management.budgets import Budget
from modelgates_server.management.guardrails import GuardrailRow, Rules, checked
from modelgates_server.management.keys import list_keys

DAYS: Final = 30
DAYS_MAX: Final = 90

ONLY_STRICTER: Final = (
    "What was refused already left no receipt, so this shows what stricter rules would do, not looser ones. It goes by what each"
    " request cost in the end; the gate asks for room for the most that it may cost, and would have refused a little earlier."
)
ABOUT: Final = "There was too much to replay request by request, so some figures are about right."


@dataclass(frozen=True, slots=True)
class PreviewPage:
    """What a change would have refused. `problem` says why there is no answer.

    `apply` is the path that makes the change, and `fields` are what was typed, so that it can be made from here.
    """

    title: str
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    problem: str | None
    apply: str
    fields: tuple[tuple[str, str], ...]


def preview(visit: Visit) -> Page:
    """Look back over the last days: what would the change that was typed have refused? Raises BadRequest, NotFound, TookTooLong."""
    kind = visit.form.get("what")
    if kind not in _PREVIEWS:
        raise BadRequest("There is nothing to look back at: send one of the forms of this page.")
    title, apply, look = _PREVIEWS[kind]
    try:
        days = whole(visit, "days", 1, DAYS_MAX, DAYS)
        findings, problem = tuple(look(visit, days)), None
    except (BadRequest, NotFound, TookTooLong) as refused:
        if not visit.partial:  # the region of a page cannot show an error's own page
            raise
        findings, problem = (), refused.message
    fields = tuple((name, value) for name, value in visit.form.pairs() if name not in {"csrf", "what", "days", "id"})
    context = PreviewPage(
        title=title,
        findings=findings,
        notes=_notes(findings),
        problem=problem,
        apply=apply.format(id=visit.form.get("id")),
        fields=fields,
    )
    return Page("preview.html", context)


def _share(visit: Visit, days: int) -> list[Finding]:
    member_id = visit.form.get("member")
    if not member_id:
        raise BadRequest("Choose whose share it is.")
    limits, named = read_shares(visit.form.get("share")), owner_name(visit, Scope.MEMBER, member_id)
    if not limits:
        raise BadRequest("Say how much it is: 20 a week, for example.")
    with look_back(visit, days) as back:
        return [back.budget(Budget(Scope.MEMBER, member_id, *one), named) for one in limits.items()]


def _budget(visit: Visit, days: int) -> list[Finding]:
    wanted = budget_typed(visit)
    named = owner_name(visit, wanted.scope, wanted.scope_id)
    with look_back(visit, days) as back:
        return [back.budget(wanted, named)]


def _rates(visit: Visit, days: int) -> list[Finding]:
    paced = rates_typed(visit)
    if paced.rates.requests_per_minute is None:
        raise BadRequest("Only a rate of requests a minute can be looked at: receipts do not tell the others.")
    named = owner_name(visit, paced.scope, paced.scope_id)
    with look_back(visit, days) as back:
        return [back.rates(paced, named)]


def _guardrail(visit: Visit, days: int) -> list[Finding]:
    typed = rules_typed(visit)
    kept = {name: value for name, value in typed["settings"].items() if value is not None}
    rules = checked(replace(Rules("-"), **{**typed, "name": typed["name"] or "-", "settings": kept}))
    id_ = visit.form.get("id")
    row = guardrails.find_guardrail(visit.house.engine, visit.organization_id, id_) if id_ else _unmade(visit, rules)
    found = holders(visit.house.engine, row, visit.now_s) if id_ else []
    members = [one.id for one in found if one.kind == Scope.MEMBER]
    keys = [(one.id, one.member_id) for one in found if one.kind == Scope.KEY]
    with look_back(visit, days) as back:
        return _asked(back.rules(rules, of_guardrail(row, members, keys)))


def _given(visit: Visit, days: int) -> list[Finding]:
    """The rules as they are, for those who were chosen."""
    members, keys = visit.form.all("members"), visit.form.all("keys")
    if not members and not keys:
        raise BadRequest("Choose to whom the guardrail is given.")
    engine, organization_id = visit.house.engine, visit.organization_id
    row = guardrails.find_guardrail(engine, organization_id, visit.form.get("id"))
    owners = {one.hash: one.member_id for one in list_keys(engine, organization_id)} if keys else {}
    pairs = [(key_hash, owners.get(key_hash)) for key_hash in keys]
    with look_back(visit, days) as back:
        return _asked(back.rules(row.rules, of_guardrail(row, members, pairs)))


def _unmade(visit: Visit, rules: Rules) -> GuardrailRow:
    """A guardrail that is not made yet."""
    return GuardrailRow("", visit.organization_id, "", is_default=False, rules=rules, created_at_s=0, updated_at_s=None)


def _asked(findings: list[Finding]) -> list[Finding]:
    if not findings:
        raise BadRequest("These rules refuse nothing: they have neither a budget nor a list.")
    return findings


def _notes(findings: tuple[Finding, ...]) -> tuple[str, ...]:
    if not findings:
        return ()
    return (ONLY_STRICTER,) if all(one.exact for one in findings) else (ONLY_STRICTER, ABOUT)


_Look = Callable[[Visit, int], list[Finding]]
_PREVIEWS: Final[Mapping[str, tuple[str, str, _Look]]] = {
    "share": ("This share", "/guardrails/share", _share),
    "budget": ("This budget", "/guardrails/budgets", _budget),
    "rates": ("This rate", "/guardrails/rates", _rates),
    "guardrail": ("This guardrail", "/guardrails", _guardrail),
    "rules": ("These rules", "/guardrails/{id}", _guardrail),
    "give": ("Giving this guardrail", "/guardrails/{id}/give", _given),
}

ROUTES = (post("/guardrails/preview", preview, ADMIN),)
