"""Providers: the order in which they are tried, how they are doing, a test of each, and the organisation's own keys at them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from modelgates_server.console.clinic import own_socket, pass_for, turn
from modelgates_server.console.key_forms import Option
from modelgates_server.console.pickers import caller_of
from modelgates_server.console.provider_lines import (
    Outage,
    ShownProvider,
    cheapest_model,
    others_than,
    outages_here,
    shown_providers,
)
from modelgates_server.console.routes import get, post
from modelgates_server.console.visits import ADMIN, Moved, Page, Visit
from modelgates_server.doctor.address import base_url, read_address
from modelgates_server.errors import BadRequest
from modelgates_server.management.credentials import (
    CredentialRow,
    NewCredential,
    Safe,
    add_credential,
    change_credential,
    list_credentials,
    remove_credential,
)
from modelgates_server.management.key_lists import KeysWanted, slice_keys
from modelgates_server.management.key_values import KeyRow
from modelgates_server.management.workspaces import (
    WorkspaceRow,
    find_workspace,
    list_workspaces,
    set_workspace_routing,
)
from modelgates_server.routing.wishes import read_preferences

MOVES: Final = {"up": -1, "down": 1}
_ENCODER: Final = msgspec.json.Encoder(decimal_format="number")


@dataclass(frozen=True, slots=True)
class ShownCredential:
    """One of the organisation's own provider keys, masked. `workspace` is None when it serves all of them."""

    id: str
    provider: str
    name: str
    label: str
    workspace: str | None
    is_fallback: bool
    disabled: bool
    outages: tuple[Outage, ...]


@dataclass(frozen=True, slots=True)
class TriedHere:
    """One attempt of a test."""

    provider: str
    status: int
    fault: str
    detail: str


@dataclass(frozen=True, slots=True)
class Tested:
    """What came of a test: asked was `model`, in the name of the key called `key`. `cost_nusd` is what was charged."""

    slug: str
    model: str
    key: str
    answered: bool
    sentence: str
    ms: int
    cost_nusd: int | None
    generation_id: str
    attempts: tuple[TriedHere, ...]


@dataclass(frozen=True, slots=True)
class ProvidersPage:
    """The page. `has_order` says that the workspace has an order of its own; `more` are its further preferences, as JSON."""

    workspace: str
    workspaces: tuple[Option, ...]
    has_order: bool
    more: str
    providers: tuple[ShownProvider, ...]
    credentials: tuple[ShownCredential, ...]
    places: tuple[Option, ...]
    refusals: tuple[Option, ...]
    sandbox: bool
    tested: Tested | None = None


def show(visit: Visit) -> Page:
    """The page for one workspace: the default one unless another is named."""
    return _page(visit)


def reorder(visit: Visit) -> Moved:
    """Store the order of a workspace: as dragged, or with one entry moved; or none of its own. Raises BadRequest, NotFound."""
    house, row = visit.house, _workspace(visit)
    said = _said(row)
    said["order"] = None if visit.form.has("reset") else _order(visit)
    kept = {name: value for name, value in said.items() if value is not None}
    text = _ENCODER.encode(kept)
    try:
        read_preferences(text)
    except msgspec.ValidationError as error:
        raise BadRequest(f"this is no order of providers: {error}") from error
    set_workspace_routing(
        house.engine, visit.organization_id, row.id, text.decode() if kept else None, visit.actor, visit.now_s
    )
    return _back(row.id, "order-set")


def test(visit: Visit) -> Page:
    """Ask one provider the smallest question, and show what came of it. Raises BadRequest, RateRefused."""
    house, slug = visit.house, visit.form.get("slug")
    key = _asking_key(visit)
    model = cheapest_model(house, slug, caller_of(visit, key.hash), visit.now_s)
    if not model:
        raise BadRequest(f"the provider serves no model that the key {key.name} may use, so there is nothing to ask it")
    from modelgates_server.doctor.probe import ask_provider  # noqa: PLC0415 - a client that serving does not need

    with turn(visit):
        address, others = read_address(base_url(own_socket(visit))), others_than(house, slug)
        probed = asyncio.run(ask_provider(address, pass_for(visit, key.hash), model, slug, others))
    tested = Tested(
        slug=slug,
        model=model,
        key=key.name,
        answered=probed.answered,
        sentence=probed.sentence,
        ms=probed.ms,
        cost_nusd=probed.cost_nusd,
        generation_id=probed.generation_id,
        attempts=tuple(TriedHere(one.provider, one.status, one.fault, one.detail) for one in probed.attempts),
    )
    return _page(visit, tested)


def add_own(visit: Visit) -> Moved:
    """Store one of the organisation's own keys at a provider. Raises BadRequest, NotFound, Conflict."""
    house = visit.house
    wanted = NewCredential(
        provider=visit.form.get("provider"),
        key=visit.form.get("key"),
        name=visit.form.get("name"),
        workspace_id=visit.form.get("for_workspace") or None,
        is_fallback=visit.form.has("is_fallback"),
    )
    add_credential(house.engine, _safe(visit), visit.organization_id, wanted, visit.actor, visit.now_s)
    return _back(visit.form.get("workspace"), "credential-added")


def enable_own(visit: Visit) -> Moved:
    """Use an own key again. Raises NotFound."""
    return _switch(visit, disabled=False)


def disable_own(visit: Visit) -> Moved:
    """Stop using an own key; it stays stored. Raises NotFound."""
    return _switch(visit, disabled=True)


def remove_own(visit: Visit) -> Moved:
    """Delete an own key. Raises NotFound."""
    house = visit.house
    remove_credential(house.engine, visit.organization_id, visit.path["credential_id"], visit.actor, visit.now_s)
    return _back(visit.form.get("workspace"), "credential-removed")


def _page(visit: Visit, tested: Tested | None = None) -> Page:
    house, row = visit.house, _workspace(visit)
    said = _said(row)
    spaces = list_workspaces(house.engine, visit.organization_id).rows
    own = list_credentials(house.engine, visit.organization_id).rows
    places = [place for place in house.places.values() if not place.refusal]
    more = {name: value for name, value in said.items() if name != "order"}
    context = ProvidersPage(
        workspace=row.id,
        workspaces=tuple(Option(space.id, space.name) for space in spaces),
        has_order=bool(said.get("order")),
        more=_ENCODER.encode(more).decode() if more else "",
        providers=shown_providers(house, visit.organization_id, row.routing, own, visit.now_s),
        credentials=_credentials(visit, own, spaces),
        places=tuple(Option(place.slug, place.slug) for place in places),
        refusals=tuple(Option(place.slug, place.refusal) for place in house.places.values() if place.refusal),
        sandbox=house.sandbox,
        tested=tested,
    )
    return Page("providers.html", context)


def _credentials(visit: Visit, own: list[CredentialRow], spaces: list[WorkspaceRow]) -> tuple[ShownCredential, ...]:
    names = {space.id: space.name for space in spaces}
    outages = {account.partition("/")[0]: found for account, found in outages_here(visit.house).items()}
    return tuple(
        ShownCredential(
            id=row.id,
            provider=row.provider,
            name=row.name,
            label=row.label,
            workspace=None if row.workspace_id is None else names.get(row.workspace_id, row.workspace_id),
            is_fallback=row.is_fallback,
            disabled=row.disabled,
            outages=outages.get(row.id, ()),
        )
        for row in own
    )


def _asking_key(visit: Visit) -> KeyRow:
    """The key that a test is asked with: the visitor's newest, else anybody's. Raises BadRequest when there is none."""
    for wanted in (KeysWanted(member_id=visit.member.id, state="active"), KeysWanted(state="active")):
        found = slice_keys(visit.house.engine, visit.organization_id, wanted, None, 1, visit.now_s).entries
        if found:
            return found[0].row
    raise BadRequest("the question is asked in the name of a key, and there is none; make one on the page Keys")


def _workspace(visit: Visit) -> WorkspaceRow:
    wanted = visit.form.get("workspace") or visit.query.get("workspace") or None
    return find_workspace(visit.house.engine, visit.organization_id, wanted)


def _said(row: WorkspaceRow) -> dict[str, Any]:
    return dict(json.loads(row.routing, parse_float=Decimal)) if row.routing else {}


def _order(visit: Visit) -> list[str]:
    """The slugs in the order of the form, with one of them moved when a button says so. Raises BadRequest."""
    order = list(dict.fromkeys(visit.form.all("order")))
    known = {provider.slug for provider in visit.house.providers}
    if not order or not set(order) <= known:
        raise BadRequest("the order names a provider that is not configured here; open the page again")
    way, _, slug = visit.form.get("move").partition(":")
    if way in MOVES and slug in order:
        place = order.index(slug)
        order.insert(max(0, place + MOVES[way]), order.pop(place))
    return order


def _safe(visit: Visit) -> Safe:
    return Safe(visit.house.secret, visit.house.places)


def _switch(visit: Visit, *, disabled: bool) -> Moved:
    house, credential_id = visit.house, visit.path["credential_id"]
    said = {"disabled": disabled}
    change_credential(house.engine, _safe(visit), visit.organization_id, credential_id, said, visit.actor, visit.now_s)
    return _back(visit.form.get("workspace"), "credential-disabled" if disabled else "credential-enabled")


def _back(workspace: str, said: str) -> Moved:
    return Moved(f"/providers?{urlencode({'workspace': workspace})}" if workspace else "/providers", said=said)


ROUTES = (
    get("/providers", show, ADMIN),
    post("/providers/order", reorder, ADMIN, again=show),
    post("/providers/test", test, ADMIN, again=show),
    post("/providers/credentials", add_own, ADMIN, again=show),
    post("/providers/credentials/{credential_id}/disable", disable_own, ADMIN),
    post("/providers/credentials/{credential_id}/enable", enable_own, ADMIN),
    post("/providers/credentials/{credential_id}/remove", remove_own, ADMIN),
)
