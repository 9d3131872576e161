"""Organisations: founded whole, and unseen by each other."""

from __future__ import annotations

import pytest
from tests.support.store import USD
from tests.unit.management.estate import Estate

from modelgates_server.accounts import sessions
from modelgates_server.accounts.values import KeyClass
from modelgates_server.errors import BadRequest, NotFound
from modelgates_server.ledger.credit import standing
from modelgates_server.management.keys import list_keys
from modelgates_server.management.members import NewMember, list_members
from modelgates_server.management.organizations import (
    NewOrganization,
    create_organization,
    find_organization,
    list_organizations,
)
from modelgates_server.management.workspaces import find_workspace
from modelgates_server.storage.engine import reading, transaction
from modelgates_server.storage.maintenance import check


async def test_an_organisation_begins_with_all_it_needs(either: Estate) -> None:
    """A default workspace, an admin who can sign in, a management key, and its credit; the books agree."""
    founded = either.foreign
    org = founded.organization
    assert find_workspace(either.engine, org.id).slug == "default"
    assert [(row.name, row.role) for row in list_members(either.engine, org.id).rows] == [("Admin", "admin")]
    caller = await either.caller(founded.management_key)
    assert (caller.organization_id, caller.key_class) == (org.id, KeyClass.MANAGEMENT)
    with transaction(either.engine) as connection:
        session = sessions.redeem_link(connection, founded.sign_in_token, either.now_s)
        found = sessions.find_session(connection, session, either.now_s)
    assert found is not None
    assert found.member.organization_id == org.id
    with reading(either.engine) as connection:
        assert standing(connection, org.id).granted_nusd == 50 * USD
    assert check(either.house.database) == []


def test_organisations_are_listed_and_found(estate: Estate) -> None:
    """Oldest first; by id or exact name; without a name it is the first, the house's own."""
    estate.house.clock.advance(1)
    admin = NewMember("Zoe", "zoe@x.de", "admin")
    second = create_organization(
        estate.engine, estate.house.pepper, NewOrganization("Foreign", admin), "cli", estate.now_s
    )
    assert (second.admin.name, second.admin.email) == ("Zoe", "zoe@x.de")
    assert {row.name for row in list_organizations(estate.engine)} == {"Organization", "Foreign"}
    assert list_organizations(estate.engine)[-1] == second.organization
    assert find_organization(estate.engine, estate.org).id == estate.org
    assert find_organization(estate.engine, "Organization").id == estate.org
    with pytest.raises(BadRequest, match="2 organizations"):
        find_organization(estate.engine, "Foreign")
    with pytest.raises(NotFound, match="no such organization"):
        find_organization(estate.engine, "nobody")


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (NewOrganization(""), "needs a name"),
        (NewOrganization("x" * 101), "at most 100"),
        (NewOrganization("x", NewMember("m")), "must be an admin"),
        (NewOrganization("x", grant_nusd=10**15 + 1), "one million"),
    ],
)
def test_an_organisation_that_makes_no_sense_is_refused(estate: Estate, wanted: NewOrganization, told: str) -> None:
    """And nothing of it stays."""
    before = list_organizations(estate.engine)
    with pytest.raises(BadRequest, match=told):
        create_organization(estate.engine, estate.house.pepper, wanted, "cli", estate.now_s)
    assert list_organizations(estate.engine) == before


def test_keys_of_two_organisations_never_meet(estate: Estate) -> None:
    """Each has its own list; the same address may be a member of both."""
    _, row = estate.key("mine")
    assert row.hash not in {one.hash for one in list_keys(estate.engine, estate.foreign.organization.id)}
    estate.member("Ann", email="ann@x.de")
    admin = NewMember("Ann", "ann@x.de", "admin")
    create_organization(estate.engine, estate.house.pepper, NewOrganization("Third", admin), "cli", estate.now_s)
