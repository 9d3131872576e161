"""Rates and requests at the same time: of the organisation, its workspaces and members. A key's own stand in its row."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final

import sqlalchemy as sa

from modelgates_server.errors import BadRequest, NotFound
from modelgates_server.limits import Scope
from modelgates_server.management.change import Change, Note, change
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading
from modelgates_server.storage.portable import upsert

RATE_MAX: Final = 10**9
RATE_SCOPES: Final = (Scope.ORGANIZATION, Scope.WORKSPACE, Scope.MEMBER)

_RATES = schema.rates


@dataclass(frozen=True, slots=True)
class Rates:
    """How fast, and how much at the same time. None is no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    parallel_max: int | None = None


NO_RATES: Final = Rates()


@dataclass(frozen=True, slots=True)
class Paced:
    """Whose rates they are, and how they stand."""

    scope: Scope
    scope_id: str
    rates: Rates


def pace(engine: sa.Engine, organization_id: str, paced: Paced, actor: str, now_s: float) -> Paced:
    """Set all three rates of somebody. Raises BadRequest, NotFound when nobody of the organisation has that id."""
    if paced.scope not in RATE_SCOPES:
        raise BadRequest("rates belong to the organization, a workspace or a member; a key has its own")
    check_rates(paced.rates)
    with change(engine, now_s) as changing:
        _check_owner(changing.connection, organization_id, paced)
        changing.bump_policy()
        _store(changing, organization_id, paced)
        changing.note(Note(organization_id, actor, "rates.set", f"{paced.scope}:{paced.scope_id}", asdict(paced.rates)))
    return paced


def rates_of(engine: sa.Engine, organization_id: str, scope: Scope, scope_id: str) -> Paced:
    """Give somebody's rates. Raises NotFound when nobody of the organisation has that id."""
    with reading(engine) as connection:
        _check_owner(connection, organization_id, Paced(scope, scope_id, NO_RATES))
        query = sa.select(_RATES).where(_RATES.c.scope == str(scope), _RATES.c.scope_id == scope_id)
        found = connection.execute(query).mappings().one_or_none()
        return Paced(scope, scope_id, NO_RATES if found is None else _rates(found))


def list_rates(engine: sa.Engine, organization_id: str) -> list[Paced]:
    """Give every rate above the keys' own."""
    query = (
        sa.select(_RATES).where(_RATES.c.organization_id == organization_id).order_by(_RATES.c.scope, _RATES.c.scope_id)
    )
    with reading(engine) as connection:
        return [
            Paced(Scope(row["scope"]), row["scope_id"], _rates(row)) for row in connection.execute(query).mappings()
        ]


def check_rates(rates: Rates) -> None:
    """Refuse rates that cannot be, with BadRequest."""
    for rate in (rates.requests_per_minute, rates.tokens_per_minute):
        if rate is not None and not 1 <= rate <= RATE_MAX:
            raise BadRequest(f"a rate must be from 1 to {RATE_MAX} a minute; to stop a key altogether, disable it")
    if rates.parallel_max is not None and not 1 <= rates.parallel_max <= RATE_MAX:
        raise BadRequest(
            f"requests at the same time must be from 1 to {RATE_MAX}; to stop a key altogether, disable it"
        )


def _store(changing: Change, organization_id: str, paced: Paced) -> None:
    mine = (_RATES.c.scope == str(paced.scope), _RATES.c.scope_id == paced.scope_id)
    if paced.rates == NO_RATES:
        changing.connection.execute(sa.delete(_RATES).where(*mine))
        return
    values = asdict(paced.rates)
    row = {"scope": str(paced.scope), "scope_id": paced.scope_id, "organization_id": organization_id, **values}
    statement = upsert(changing.connection, _RATES).values(row)
    changing.connection.execute(statement.on_conflict_do_update(index_elements=["scope", "scope_id"], set_=values))


def _check_owner(connection: sa.Connection, organization_id: str, paced: Paced) -> None:
    spaces, members, organizations = schema.workspaces.c, schema.members.c, schema.organizations.c
    if paced.scope is Scope.ORGANIZATION:
        query = sa.select(organizations.id).where(organizations.id == organization_id)
        query = query.where(organizations.id == paced.scope_id)
    elif paced.scope is Scope.WORKSPACE:
        query = sa.select(spaces.id).where(spaces.id == paced.scope_id, spaces.organization_id == organization_id)
        query = query.where(spaces.deleted_at_s.is_(None))
    else:
        query = sa.select(members.id).where(members.id == paced.scope_id, members.organization_id == organization_id)
        query = query.where(members.removed_at_s.is_(None))
    if connection.execute(query).one_or_none() is None:
        raise NotFound(f"there is no such {paced.scope}")


def _rates(row: sa.RowMapping) -> Rates:
    return Rates(row["requests_per_minute"], row["tokens_per_minute"], row["parallel_max"])
