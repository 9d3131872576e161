"""One guardrail: its rules, whom it holds for, and what they used of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from modelgates_server.console.forms import refuse_older, shown
from modelgates_server.console.guard_forms import GuardChoices, RulesFields, guard_choices, rules_fields, rules_typed
from modelgates_server.console.pages.guardrails import guardrail_name, rules_in_words
from modelgates_server.console.routes import get, post
from modelgates_server.console.visits import ADMIN, Moved, Page, Visit
from modelgates_server.errors import BadRequest
from modelgates_server.limits import LIMIT_RESETS
from modelgates_server.management import assignments, guardrails
from modelgates_server.management.assigned import Holder, holders
from modelgates_server.management.guardrails import GuardrailRow, Rules
from modelgates_server.management.workspaces import find_workspace
from modelgates_server.money import usd_text

HOLDERS_SHOWN: Final = 100


@dataclass(frozen=True, slots=True)
class GuardrailPage:
    """A guardrail. Nano-USD; `resets_at_s` is when its budget starts again (Unix seconds), None without one.

    `holders` are those whom it holds for, `more` how many further ones there are. `shown` names what the form shows: it comes back with it.
    """

    id: str
    name: str
    workspace: str
    is_default: bool
    in_words: tuple[str, ...]
    limit_nusd: int | None
    resets_at_s: int | None
    holders: tuple[Holder, ...]
    more: int
    fields: RulesFields
    shown: str
    choices: GuardChoices


def show(visit: Visit) -> Page:
    """The guardrail. Raises NotFound."""
    row = _row(visit)
    place = find_workspace(visit.house.engine, visit.organization_id, row.workspace_id).name
    found = holders(visit.house.engine, row, visit.now_s)
    rules = row.rules
    window = None if rules.reset_interval is None else LIMIT_RESETS[rules.reset_interval]
    context = GuardrailPage(
        id=row.id,
        name=guardrail_name(row, place),
        workspace=place,
        is_default=row.is_default,
        in_words=rules_in_words(rules),
        limit_nusd=rules.limit_nusd,
        resets_at_s=None if window is None else window.bounds_s(visit.now_s)[1],
        holders=tuple(found[:HOLDERS_SHOWN]),
        more=max(0, len(found) - HOLDERS_SHOWN),
        fields=_fields(rules),
        shown=shown(_fields(rules)),
        choices=guard_choices(visit, rules),
    )
    return Page("guardrail.html", context)


def update(visit: Visit) -> Moved:
    """Change its rules. Raises BadRequest, NotFound."""
    refuse_older(visit, _fields(_row(visit).rules), "this guardrail")
    guardrails.update_guardrail(
        visit.house.engine, visit.organization_id, visit.path["id"], rules_typed(visit), visit.actor, visit.now_s
    )
    return Moved(f"/guardrails/{visit.path['id']}", said="saved")


def delete(visit: Visit) -> Moved:
    """Delete it. Raises NotFound."""
    guardrails.delete_guardrail(visit.house.engine, visit.organization_id, visit.path["id"], visit.actor, visit.now_s)
    return Moved("/guardrails", said="deleted")


def give(visit: Visit) -> Moved:
    """Give it to members and keys; it replaces another of theirs. Raises BadRequest, NotFound."""
    engine, organization_id, id_ = visit.house.engine, visit.organization_id, visit.path["id"]
    members, keys = visit.form.all("members"), visit.form.all("keys")
    if not members and not keys:
        raise BadRequest("Choose to whom the guardrail is given.")
    if members:
        assignments.assign_members(engine, organization_id, id_, members, visit.actor, visit.now_s)
    if keys:
        assignments.assign_keys(engine, organization_id, id_, keys, visit.actor, visit.now_s)
    return Moved(f"/guardrails/{id_}", said="guardrail-given")


def take(visit: Visit) -> Moved:
    """Take it from members and keys. Raises BadRequest, NotFound."""
    engine, organization_id, id_ = visit.house.engine, visit.organization_id, visit.path["id"]
    members, keys = visit.form.all("members"), visit.form.all("keys")
    if not members and not keys:
        raise BadRequest("Choose from whom the guardrail is taken.")
    if members:
        assignments.unassign_members(engine, organization_id, id_, members, visit.actor, visit.now_s)
    if keys:
        assignments.unassign_keys(engine, organization_id, id_, keys, visit.actor, visit.now_s)
    return Moved(f"/guardrails/{id_}", said="guardrail-taken")


def _fields(rules: Rules) -> RulesFields:
    return rules_fields(rules, "" if rules.limit_nusd is None else usd_text(rules.limit_nusd))


def _row(visit: Visit) -> GuardrailRow:
    return guardrails.find_guardrail(visit.house.engine, visit.organization_id, visit.path["id"])


ROUTES = (
    get("/guardrails/{id}", show, ADMIN),
    post("/guardrails/{id}", update, ADMIN, again=show),
    post("/guardrails/{id}/delete", delete, ADMIN),
    post("/guardrails/{id}/give", give, ADMIN, again=show),
    post("/guardrails/{id}/take", take, ADMIN, again=show),
)
