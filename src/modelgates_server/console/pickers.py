"""What each client's picker shows for a key, and why something is missing there.

The rules are those of `GET /v1/models` (edge/models.py: the key's policy, who serves what, whether anything can be paid) and of the
clients themselves (client-protocol M-3 to M-5, catalogue/listing.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from modelgates_server.accounts.values import Caller
from modelgates_server.catalogue.listing import claude_code_visible, desktop_visible
from modelgates_server.catalogue.models import Model
from modelgates_server.console.house import House
from modelgates_server.console.recipes.values import Listed
from modelgates_server.console.visits import Visit
from modelgates_server.errors import BadRequest, Unauthenticated
from modelgates_server.limits import MONEY, MeterRef, Unit
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading


@dataclass(frozen=True, slots=True)
class Shown:
    """Whether the pickers show a model. `why` is empty where both do."""

    desktop: bool
    code: bool
    why: str = ""


def caller_of(visit: Visit, key_hash: str) -> Caller:
    """What a key may do now. Raises BadRequest when it may do nothing any more."""
    if visit.house.directory is None:
        raise BadRequest("this process serves no requests, so it cannot tell what a key may do")
    try:
        return visit.call(visit.house.directory.caller, key_hash)
    except Unauthenticated as dead:
        raise BadRequest(dead.message) from dead


def served(house: House) -> list[Model]:
    """The models that some provider serves, in the order of the catalogue."""
    return [model for slug, model in house.catalogue.models.items() if house.endpoints.get(slug)]


def spent(house: House, caller: Caller, now_s: float) -> MeterRef | None:
    """The first budget that has nothing left, or the credit: with it the model list is empty. Own provider keys need no credit."""
    units = {Unit.SPEND} if caller.credentials else MONEY
    refs = {
        ref.row_id(now_s): ref
        for ref in caller.meters
        if ref.unit in units and (ref.limit is not None or ref.limit_from_row)
    }
    meters = schema.meters.c
    query = sa.select(meters.id, meters.posted, meters.limit).where(meters.id.in_(list(refs)))
    with reading(house.engine) as connection:
        stand = {row.id: row for row in connection.execute(query)}
    for row_id, ref in refs.items():
        row = stand.get(row_id)
        limit = (row.limit if row is not None else 0) or 0 if ref.limit_from_row else ref.limit
        if limit is not None and (row.posted if row is not None else 0) >= limit:
            return ref
    return None


def shown(house: House, model: Model, caller: Caller | None, unpaid: MeterRef | None) -> Shown:
    """What the pickers make of a model for a key; without one, what they make of it for anybody."""
    if not house.endpoints.get(model.slug):
        return Shown(desktop=False, code=False, why="no configured provider serves it")
    if caller is not None and not caller.may_use(model.slug):
        return Shown(desktop=False, code=False, why=_forbidden(model, caller))
    if unpaid is not None:
        return Shown(desktop=False, code=False, why=f"{_called(unpaid)} is used up, and then the list is empty")
    desktop, code = desktop_visible(model.id), claude_code_visible(model.id)
    if desktop[0] and code[0]:
        return Shown(desktop=True, code=True)
    # the gateway leaves out for both what one of them would drop: an entry that vanishes would look like a mistake
    return Shown(desktop=False, code=False, why=desktop[1] if not desktop[0] else code[1])


def listed(models: Iterable[Model]) -> tuple[Listed, ...]:
    """Models as the lists of clients name them, newest first as given: of each family the newest active one stands for it."""
    kept = [model for model in models if desktop_visible(model.id)[0] and claude_code_visible(model.id)[0]]
    newest: dict[str, Model] = {}
    for model in kept:
        if model.family is not None and model.lifecycle == "active":
            newest.setdefault(model.family, model)
    return tuple(
        Listed(
            name=model.id,
            label=model.name,
            tier=model.family,
            supports_1m=model.supports_1m,
            is_default=model.family is not None and newest.get(model.family) is model,
        )
        for model in kept
    )


def _forbidden(model: Model, caller: Caller) -> str:
    if model.slug in caller.ignored_models:
        return "a guardrail leaves it out"
    return "it is not among the models that the key or a guardrail allows"


def _called(ref: MeterRef) -> str:
    """A meter as people call it."""
    if ref.limit_from_row:
        return "the organization's credit"
    return f"the {ref.scope}'s {ref.label}" if ref.label else f"the {ref.scope}'s limit"
