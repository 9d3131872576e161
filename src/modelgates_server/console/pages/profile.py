"""One's own page: name and address, password, sessions, and a link for another device."""

from __future__ import annotations

from dataclasses import dataclass

from modelgates_server.accounts.networks import network_of
from modelgates_server.accounts.passwords import CHARACTERS_ADVISED, CHARACTERS_MIN
from modelgates_server.accounts.sessions import SessionRow
from modelgates_server.console.gate import session_cookie
from modelgates_server.console.routes import get, post
from modelgates_server.console.visits import Moved, Page, Visit
from modelgates_server.errors import BadRequest, RateRefused
from modelgates_server.management.address import sign_in_url
from modelgates_server.management.members import change_member, get_member
from modelgates_server.management.organizations import find_organization
from modelgates_server.management.sign_in import (
    NewPassword,
    credentials_of,
    end_one_session,
    new_link,
    sessions_of,
    set_password,
    sign_out_everywhere,
)


@dataclass(frozen=True, slots=True)
class ProfilePage:
    """Who somebody is here, and how they sign in.

    `password_set_at_s` is None without a password; `provider` is the identity provider's name, None without one, and `bound` says whether
    it knows them. `link` is a sign-in link that is shown this once.
    """

    id: str
    name: str
    email: str | None
    role: str
    organization: str
    with_password: bool
    password_set_at_s: int | None
    provider: str | None
    bound: bool
    sessions: tuple[SessionRow, ...]
    characters_min: int = CHARACTERS_MIN
    characters_advised: int = CHARACTERS_ADVISED
    link: str | None = None


def show(visit: Visit) -> Page:
    """The page."""
    return _page(visit)


def change(visit: Visit) -> Moved:
    """Change one's own name, and as an admin one's address: an address says who somebody is, so others cannot choose theirs."""
    changes: dict[str, str | None] = {"name": visit.form.get("name")}
    if visit.is_admin:
        changes["email"] = visit.form.get("email") or None
    change_member(visit.house.engine, visit.organization_id, visit.member.id, changes, visit.actor, visit.now_s)
    return Moved("/profile", said="saved")


def choose_password(visit: Visit) -> Moved:
    """Set or change the password; every other session ends. Raises BadRequest."""
    wanted = visit.form.raw("password")
    if wanted != visit.form.raw("again"):
        raise BadRequest("The two new passwords differ. Type the same twice.")
    new = NewPassword(visit.form.raw("current"), wanted, network_of(visit.address))
    try:
        session = set_password(visit.house.reception, visit.organization_id, visit.member.id, new, visit.now_s)
    except RateRefused as hasty:
        raise BadRequest(hasty.message) from hasty
    except BadRequest as refused:
        told = f"{refused.message}; {refused.remedy}" if refused.remedy else refused.message
        raise BadRequest(told) from refused
    return Moved("/profile", said="password-set", cookies=(session_cookie(session, secure=visit.house.secure),))


def another_device(visit: Visit) -> Page:
    """Make a sign-in link for oneself; it is shown this once."""
    token = new_link(visit.house.engine, visit.organization_id, visit.member.id, visit.actor, visit.now_s)
    return _page(visit, sign_in_url(visit.console_origin, token))


def end_session(visit: Visit) -> Moved:
    """End one session."""
    end_one_session(visit.house.engine, visit.organization_id, visit.member.id, visit.form.get("session"), visit.now_s)
    return Moved("/profile", said="session-ended")


def leave_everywhere(visit: Visit) -> Moved:
    """End every session, this one too."""
    sign_out_everywhere(visit.house.engine, visit.organization_id, visit.member.id, visit.actor, visit.now_s)
    return Moved("/sign-in", said="signed-out-everywhere", cookies=(session_cookie("", secure=visit.house.secure),))


def _page(visit: Visit, link: str | None = None) -> Page:
    engine, organization_id, member_id = visit.house.engine, visit.organization_id, visit.member.id
    member = get_member(engine, organization_id, member_id)
    credentials = credentials_of(engine, organization_id, member_id)
    openid = visit.house.openid
    page = ProfilePage(
        id=member.id,
        name=member.name,
        email=member.email,
        role=member.role,
        organization=find_organization(engine, organization_id).name,
        with_password=visit.house.with_password,
        password_set_at_s=credentials.password_set_at_s,
        provider=None if openid is None else openid.client.name,
        bound=credentials.identity,
        sessions=tuple(sessions_of(engine, organization_id, member_id, visit.session, visit.now_s)),
        link=link,
    )
    return Page("profile.html", page)


ROUTES = (
    get("/profile", show),
    post("/profile", change, again=show),
    post("/profile/password", choose_password, again=show),
    post("/profile/link", another_device),
    post("/profile/session", end_session),
    post("/profile/sign-out", leave_everywhere),
)
