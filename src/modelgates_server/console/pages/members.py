"""The people of the organisation: who they are, what each may spend and did, and who was invited. For administrators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from modelgates_server.console.routes import get, post
from modelgates_server.console.shares import read_shares, shares_text
from modelgates_server.console.visits import ADMIN, Moved, Page, Visit
from modelgates_server.errors import BadRequest
from modelgates_server.management import members
from modelgates_server.management.address import sign_in_url
from modelgates_server.management.invitations import Invited, invite, join_url, open_invitations, revoke_invitation
from modelgates_server.management.key_lists import workspaces_for
from modelgates_server.management.roster import Colleague, colleague, roster, set_shares
from modelgates_server.management.sign_in import new_link, reset_sign_in, sign_out_everywhere

ROWS: Final = 50
INVITATIONS: Final = 100
"""More open invitations than that are shown by the command line."""


@dataclass(frozen=True, slots=True)
class Line:
    """A member in the list. `share` is what the share's field holds; `me` marks who looks."""

    person: Colleague
    share: str
    me: bool


@dataclass(frozen=True, slots=True)
class Pending:
    """An invitation that is open. `share` is what its acceptance gives; `workspace` what it leads into besides the default one."""

    id: str
    name: str
    email: str
    role: str
    share: str
    workspace: str | None
    expires_at_s: int


@dataclass(frozen=True, slots=True)
class Link:
    """A link that is shown this once. `kind` is invitation or sign-in."""

    kind: str
    name: str
    url: str


@dataclass(frozen=True, slots=True)
class MembersPage:
    """A page of the list, with the open invitations. `after` leads on; `workspaces` are pairs of id and name to invite into."""

    people: tuple[Line, ...]
    total: int
    after: str | None
    pending: tuple[Pending, ...]
    workspaces: tuple[tuple[str, str], ...]
    made: Link | None = None


@dataclass(frozen=True, slots=True)
class MemberPage:
    """One member, and what an administrator can do for them."""

    line: Line
    last_admin: bool
    made: Link | None = None


def show(visit: Visit) -> Page:
    """The list."""
    return _list(visit)


def call_in(visit: Visit) -> Page:
    """Invite somebody; the link is shown this once."""
    shares = read_shares(visit.form.get("share"))
    if len(shares) > 1:
        raise BadRequest("An invitation carries one share; give the others once they have joined.")
    window, share_nusd = next(iter(shares.items()), (None, None))
    invited = Invited(
        visit.form.get("email"), visit.form.get("name"), visit.form.get("role", members.MEMBER),
        visit.form.get("workspace") or None, share_nusd, window,
    )  # fmt: skip
    token, row = invite(visit.house.engine, visit.organization_id, invited, visit.actor, visit.now_s)
    return _list(visit, Link("invitation", row.name, join_url(visit.console_origin, token)))


def take_back(visit: Visit) -> Moved:
    """Take an open invitation back."""
    revoke_invitation(visit.house.engine, visit.organization_id, visit.path["id"], visit.actor, visit.now_s)
    return Moved("/members", said="invitation-revoked")


def one(visit: Visit) -> Page:
    """One member."""
    return _one(visit)


def give_share(visit: Visit) -> Moved:
    """Set what a member may spend."""
    limits = read_shares(visit.form.get("share"))
    set_shares(visit.house.engine, visit.organization_id, visit.path["id"], limits, visit.actor, visit.now_s)
    return Moved("/members" if visit.form.get("from") == "list" else _path(visit), said="share-set")


def change(visit: Visit) -> Moved:
    """Change a member's name or mail address."""
    changes = {"name": visit.form.get("name"), "email": visit.form.get("email") or None}
    members.change_member(
        visit.house.engine, visit.organization_id, visit.path["id"], changes, visit.actor, visit.now_s
    )
    return Moved(_path(visit), said="saved")


def give_role(visit: Visit) -> Moved:
    """Make a member an admin, or an admin a member. Raises BadRequest for oneself: nobody should lose their own rights by a slip."""
    _refuse_self(visit, "Another admin has to change your role.")
    members.set_member_role(
        visit.house.engine, visit.organization_id, visit.path["id"], visit.form.get("role"), visit.actor, visit.now_s
    )
    return Moved(_path(visit), said="role-changed")


def give_link(visit: Visit) -> Page:
    """Make a sign-in link; it is shown this once."""
    token = new_link(visit.house.engine, visit.organization_id, visit.path["id"], visit.actor, visit.now_s)
    return _one(visit, token)


def start_over(visit: Visit) -> Page:
    """Forget every way in that a member has, and show a link with which they begin anew."""
    _refuse_self(visit, "Another admin has to reset your own sign-in, or: modelgates members link NAME --reset.")
    token = reset_sign_in(visit.house.engine, visit.organization_id, visit.path["id"], visit.actor, visit.now_s)
    return _one(visit, token)


def send_out(visit: Visit) -> Moved:
    """End every session of a member."""
    sign_out_everywhere(visit.house.engine, visit.organization_id, visit.path["id"], visit.actor, visit.now_s)
    return Moved(_path(visit), said="member-signed-out")


def remove(visit: Visit) -> Moved:
    """Remove a member."""
    _refuse_self(visit, "Another admin has to remove you.")
    members.remove_member(visit.house.engine, visit.organization_id, visit.path["id"], visit.actor, visit.now_s)
    return Moved("/members", said="member-removed")


def _list(visit: Visit, made: Link | None = None) -> Page:
    engine, organization_id = visit.house.engine, visit.organization_id
    found = roster(engine, organization_id, visit.query.get("after"), ROWS, visit.now_s)
    spaces = workspaces_for(engine, organization_id, None)
    names = dict(spaces)
    pending = tuple(
        Pending(
            row.id, row.name, row.email, row.role,
            "" if row.share_nusd is None else shares_text([(str(row.share_window), row.share_nusd)]),
            None if row.workspace_id is None else names.get(row.workspace_id, "a deleted workspace"),
            row.expires_at_s,
        )
        for row in open_invitations(engine, organization_id, visit.now_s, INVITATIONS)
    )  # fmt: skip
    people = tuple(_line(visit, person) for person in found.people)
    return Page("members.html", MembersPage(people, found.total, found.after, pending, tuple(spaces[1:]), made))


def _one(visit: Visit, token: str | None = None) -> Page:
    engine, organization_id = visit.house.engine, visit.organization_id
    person = colleague(engine, organization_id, visit.path["id"], visit.now_s)
    alone = members.is_last_admin(engine, organization_id, person.id)
    made = None if token is None else Link("sign-in", person.name, sign_in_url(visit.console_origin, token))
    return Page("member.html", MemberPage(_line(visit, person), alone, made))


def _line(visit: Visit, person: Colleague) -> Line:
    share = shares_text((one.window, one.limit_nusd) for one in person.shares)
    return Line(person, share, me=person.id == visit.member.id)


def _path(visit: Visit) -> str:
    return f"/members/{visit.path['id']}"


def _refuse_self(visit: Visit, sentence: str) -> None:
    if visit.path["id"] == visit.member.id:
        raise BadRequest(sentence)


ROUTES = (
    get("/members", show, ADMIN),
    post("/members", call_in, ADMIN, again=show),
    post("/members/invitations/{id}/revoke", take_back, ADMIN),
    get("/members/{id}", one, ADMIN),
    post("/members/{id}", change, ADMIN, again=one),
    post("/members/{id}/share", give_share, ADMIN, again=one),
    post("/members/{id}/role", give_role, ADMIN, again=one),
    post("/members/{id}/link", give_link, ADMIN),
    post("/members/{id}/reset", start_over, ADMIN, again=one),
    post("/members/{id}/sign-out", send_out, ADMIN),
    post("/members/{id}/remove", remove, ADMIN, again=one),
)
