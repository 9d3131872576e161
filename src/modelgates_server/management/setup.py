"""The first start: organisation, first administrator, first keys and the initial credit, exactly once per database."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import sqlalchemy as sa

from modelgates_server.accounts import sessions
from modelgates_server.accounts.values import KeyClass
from modelgates_server.ledger import credit
from modelgates_server.management.change import Change, Note, change
from modelgates_server.management.key_values import NewKey
from modelgates_server.management.keys import add_key
from modelgates_server.management.members import ADMIN, NewMember
from modelgates_server.management.organizations import found
from modelgates_server.storage import schema
from modelgates_server.storage.maintenance import adopt_secret, refuse_other_secret
from modelgates_server.storage.portable import one_at_a_time

ACTOR = "setup"
FIRST_ADMIN = NewMember("Admin", role=ADMIN)

INITIALISE_KEY: Final = 5_494_120_400_002
"""Before the first start there is no row that replicas could lock, so on PostgreSQL they take turns by this number."""


@dataclass(frozen=True, slots=True)
class Initialised:
    """What the owner is told. The keys are None when the database was initialised before (`already`)."""

    organization_id: str
    api_key: str | None = field(repr=False)
    management_key: str | None = field(repr=False)
    sign_in_token: str = field(repr=False)
    already: bool


def initialise(engine: sa.Engine, pepper: bytes, initial_grant_nusd: int, now_s: float) -> Initialised:
    """Fill an empty database, or give only a fresh sign-in token if that was done before.

    However many processes start together, on however many machines, one of them fills it.
    Raises StoreMismatch when the database was made with another secret, StoreUnavailable.
    """
    with change(engine, now_s) as changing:
        one_at_a_time(changing.connection, INITIALISE_KEY)
        refuse_other_secret(changing.connection, pepper)
        first = sa.select(schema.organizations.c.id).order_by(schema.organizations.c.created_at_s)
        known = changing.connection.execute(first).scalars().first()
        if known is None:
            return _fill(changing, pepper, initial_grant_nusd)
        return Initialised(known, None, None, _admin_link(changing, known, ACTOR), already=True)


def new_sign_in_link(engine: sa.Engine, organization_id: str, actor: str, now_s: float) -> str:
    """Make a sign-in token for the organisation's first administrator."""
    with change(engine, now_s) as changing:
        return _admin_link(changing, organization_id, actor)


def _fill(changing: Change, pepper: bytes, initial_grant_nusd: int) -> Initialised:
    connection, now_s = changing.connection, changing.now_s
    adopt_secret(connection, pepper)
    connection.execute(sa.insert(schema.policy).values(id=1, version=1))
    organization, _, admin = found(changing, "Organization", FIRST_ADMIN)
    organization_id = organization.id
    api_key, _ = add_key(changing, pepper, organization_id, NewKey("first key", member_id=admin.id), ACTOR)
    management_key, _ = add_key(
        changing, pepper, organization_id, NewKey("first management key", KeyClass.MANAGEMENT), ACTOR
    )
    if initial_grant_nusd:
        credit.grant(connection, organization_id, initial_grant_nusd, "initial grant", ACTOR, now_s)
    changing.note(
        Note(organization_id, ACTOR, "initialise", organization_id, {"initial_grant_nusd": initial_grant_nusd})
    )
    return Initialised(
        organization_id, api_key, management_key, _admin_link(changing, organization_id, ACTOR), already=False
    )


def _admin_link(changing: Change, organization_id: str, actor: str) -> str:
    members = schema.members.c
    member_id = changing.connection.execute(
        sa.select(members.id)
        .where(members.organization_id == organization_id, members.role == ADMIN, members.removed_at_s.is_(None))
        .order_by(members.created_at_s, members.id)
    ).scalars().first()  # fmt: skip
    if member_id is None:
        raise AssertionError("an organisation always has an administrator")
    changing.note(Note(organization_id, actor, "sign_in_link.create", member_id))
    return sessions.create_link(changing.connection, member_id, changing.now_s)
