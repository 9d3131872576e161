"""The pages of members: inviting, shares in one field, roles, links, removal; and that members come nowhere near."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.console import Person, Shown, new_member, signed_in
from tests.support.gateway import Gateway, ask, open_gateway

from modelgates_server.management.budgets import list_budgets
from modelgates_server.management.invitations import list_invitations
from modelgates_server.management.members import list_members

USD = 1_000_000_000
JOIN = re.compile(r"/join\?token=[\w-]+")
SIGN_IN = re.compile(r"/sign-in\?token=[\w-]+")


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with open_gateway(tmp_path) as opened:
        yield opened


async def invited(admin: Person, **more: str) -> Shown:
    return await admin.post("/members", {"name": "Ann", "email": "ann@example.com", "role": "member"} | more)


def people(gateway: Gateway) -> dict[str, str]:
    """Roles by name."""
    with gateway.engine() as (engine, _):
        return {row.name: row.role for row in list_members(engine, gateway.initialised.organization_id).rows}


def shares(gateway: Gateway, member_id: str) -> dict[str, int]:
    with gateway.engine() as (engine, _):
        rows = list_budgets(engine, gateway.initialised.organization_id)
    return {str(row.window): row.limit_nusd for row in rows if row.scope_id == member_id}


async def test_an_invitation_is_shown_once_and_leads_in(house: Gateway) -> None:
    """With the role and the share that the form said; it is pending until then, and can be taken back."""
    async with signed_in(house) as admin:
        shown = await invited(admin, share="20 a week")
        link = JOIN.search(shown.text)
        assert (shown.status, link is not None) == (200, True)
        assert link is not None
        listed = await admin.get("/members")
        assert link[0] not in listed.text
        (pending,) = (await admin.data("/members"))["pending"]
        assert (pending["email"], pending["share"], pending["role"]) == ("ann@example.com", "$20.00 a week", "member")
        joined = await admin.get(link[0])
        assert "and Admin out" in joined.text
        token = link[0].partition("=")[2]
        assert (await admin.post("/join", {"token": token})).status == 303  # in the same browser: now it is Ann's
        profile = await admin.data("/profile")
        assert (profile["name"], profile["role"]) == ("Ann", "member")
        assert shares(house, profile["id"]) == {"week": 20 * USD}
        assert (await admin.get("/members")).status == 403


async def test_invitations_are_taken_back(house: Gateway) -> None:
    """Their link opens nothing any more; what is no invitation is not found."""
    async with signed_in(house) as admin:
        link = JOIN.search((await invited(admin)).text)
        assert link is not None
        (pending,) = (await admin.data("/members"))["pending"]
        path = f"/members/invitations/{pending['id']}/revoke"
        assert (await admin.post(path)).headers["location"].startswith("/members")
        assert (await admin.get(link[0])).status == 404
        assert (await admin.post(path)).status == 404
        assert "Nobody is invited" in (await admin.get("/members")).text


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"email": "nonsense"}, "not a mail address"),
        ({"name": ""}, "needs a name"),
        ({"role": "owner"}, "Role must be one of"),
        ({"share": "lots"}, "is no share"),
        ({"share": "5 a day, 50 a month"}, "carries one share"),
        ({"workspace": "ws-nothing"}, "no such workspace"),
    ],
)
async def test_what_cannot_be_invited_comes_back_as_it_was_typed(
    house: Gateway, more: dict[str, str], told: str
) -> None:
    """With the reason above the form; nobody is invited."""
    async with signed_in(house) as admin:
        shown = await invited(admin, **({"name": "Kept Name"} | more))
        assert shown.status in {400, 404}
        assert told in shown.text
        assert shown.status == 404 or "name" in more or 'value="Kept Name"' in shown.text
    with house.engine() as (engine, _):
        assert list_invitations(engine, house.initialised.organization_id).total == 0


async def test_a_share_is_one_field_and_holds_at_once(house: Gateway) -> None:
    """From the list or from the member's page; the next request is refused; none lets it through again."""
    async with signed_in(house) as admin:
        member_id = new_member(house, "Ann")
        key = house.new_key(member_id=member_id)
        assert (await house.send(ask(), key=key)).status == 200
        said = await admin.post(f"/members/{member_id}/share", {"share": "0.000001 a day, 50 a month", "from": "list"})
        assert (said.status, said.headers["location"].partition("?")[0]) == (303, "/members")
        assert shares(house, member_id) == {"day": 1000, "month": 50 * USD}
        await house.application.context.directory.refresh()
        assert (await house.send(ask(), key=key)).status == 402
        (line,) = [one for one in (await admin.data("/members"))["people"] if one["person"]["id"] == member_id]
        assert line["share"] == "$0.000001 a day, $50.00 a month"
        assert line["person"]["month_nusd"] > 0
        assert line["person"]["keys"] == 1
        refused = await admin.post(f"/members/{member_id}/share", {"share": "a lot", "from": "list"})
        assert (refused.status, 'value="a lot"' in refused.text) == (400, True)
        assert (await admin.post(f"/members/{member_id}/share", {"share": "none"})).status == 303
        assert shares(house, member_id) == {}
        await house.application.context.directory.refresh()
        assert (await house.send(ask(), key=key)).status == 200


async def test_roles_and_removal(house: Gateway) -> None:
    """Of others, not of oneself; what is open in their browsers ends at once, and so do their keys."""
    async with signed_in(house) as admin:
        member_id = new_member(house, "Ann")
        key = house.new_key(member_id=member_id)
        async with signed_in(house, member_id) as ann:
            assert (await ann.get("/members")).status == 403
            assert (await admin.post(f"/members/{member_id}/role", {"role": "admin"})).status == 303
            assert (await ann.get("/profile")).status == 401
        async with signed_in(house, member_id) as ann:
            assert (await ann.get("/members")).status == 200
            assert (await admin.post(f"/members/{member_id}/remove")).headers["location"].startswith("/members")
            assert (await ann.get("/profile")).status == 401
        await house.application.context.directory.refresh()
        assert (await house.send(ask(), key=key)).status == 401
        assert (await admin.get(f"/members/{member_id}")).status == 404
        assert people(house) == {"Admin": "admin"}


async def test_nobody_loses_their_own_rights_by_a_slip(house: Gateway) -> None:
    """Another admin has to do it; the organisation keeps one in any case."""
    async with signed_in(house) as admin:
        me = (await admin.data("/profile"))["id"]
        for path, fields in (("role", {"role": "member"}), ("remove", {}), ("reset", {})):
            shown = await admin.post(f"/members/{me}/{path}", fields)
            assert (shown.status, "Another admin" in shown.text) == (400, True)
        page = (await admin.get(f"/members/{me}")).text
        assert "Another admin has to change your role" in page
        assert "/remove" not in page
    assert people(house) == {"Admin": "admin"}


async def test_links_and_resets_let_others_in(house: Gateway) -> None:
    """Each link is shown this once; a reset ends what was open."""
    async with signed_in(house) as admin:
        member_id = new_member(house, "Ann")
        for path, ends in (("link", False), ("reset", True), ("sign-out", True)):
            async with signed_in(house, member_id) as ann:
                shown = await admin.post(f"/members/{member_id}/{path}")
                assert ((await ann.get("/profile")).status == 401) is ends
                link = SIGN_IN.search(shown.text)
                assert (link is None) is (path == "sign-out")
                if link is not None:
                    assert link[0] not in (await admin.get(f"/members/{member_id}")).text
                    assert (await ann.get(link[0])).status == 303
                    assert (await ann.data("/profile"))["id"] == member_id


async def test_names_are_text(house: Gateway) -> None:
    """What people are called cannot become part of a page, nor what is typed into a form that comes back."""
    evil = "<img src=x onerror=alert(1)>\"'"
    async with signed_in(house) as admin:
        member_id = new_member(house, "Ann")
        assert (await admin.post(f"/members/{member_id}", {"name": evil, "email": "ann@example.com"})).status == 303
        await invited(admin, name=evil, email="bob@example.com")
        for path in ("/members", f"/members/{member_id}"):
            assert "<img" not in (await admin.get(path)).text
        assert "<img" not in (await admin.post(f"/members/{member_id}/share", {"share": evil})).text


async def test_the_list_is_turned(house: Gateway) -> None:
    """Fifty to a page, each once, with the way back."""
    for number in range(55):
        new_member(house, f"m{number}")
    async with signed_in(house) as admin:
        first = await admin.data("/members")
        assert (len(first["people"]), first["total"]) == (50, 56)
        second = await admin.data(f"/members?after={first['after']}")
        assert (len(second["people"]), second["after"]) == (6, None)
        names = [line["person"]["name"] for page in (first, second) for line in page["people"]]
        assert len(set(names)) == 56
        assert 'rel="next"' in (await admin.get("/members")).text
        assert (await admin.get("/members?after=nonsense")).status == 400


async def test_no_page_tells_a_secret(house: Gateway) -> None:
    """Neither as HTML nor as JSON: no hash of a password, no subject, no token of a session or link."""
    async with signed_in(house) as admin:
        member_id = new_member(house, "Ann")
        for path in ("/members", f"/members/{member_id}", "/profile"):
            for accept in ("text/html", "application/json"):
                text = (await admin.get(path, accept=accept)).text
                for word in ("argon2", "password_hash", "token_hash", "oidc_subject"):
                    assert word not in text
