"""The page behind an invitation's link: opening it changes nothing, so a mail scanner cannot use it up; its button does."""

from __future__ import annotations

from dataclasses import dataclass

from modelgates_server.console.gate import session_cookie
from modelgates_server.console.routes import get, post
from modelgates_server.console.visits import OPEN, Moved, Page, Visit
from modelgates_server.errors import BadRequest, NotFound
from modelgates_server.management.invitations import accept_invitation, invitation_of
from modelgates_server.management.organizations import find_organization
from modelgates_server.management.sign_in import enter_by_link


@dataclass(frozen=True, slots=True)
class JoinPage:
    """Whom an invitation is for. `token` opens it, once."""

    organization: str
    name: str
    email: str
    role: str
    expires_at_s: int
    token: str


@dataclass(frozen=True, slots=True)
class DeadPage:
    """Why an invitation opens nothing."""

    reason: str


def show(visit: Visit) -> Page:
    """Tell whom the invitation is for, with a button."""
    token = visit.query.get("token")
    try:
        found = invitation_of(visit.house.engine, token, visit.now_s)
    except NotFound as dead:
        return _dead(dead)
    organization = find_organization(visit.house.engine, found.organization_id)
    shown = JoinPage(organization.name, found.name, found.email, found.role, found.expires_at_s, token)
    return Page("join.html", shown)


def join(visit: Visit) -> Page | Moved:
    """Become the member, in this browser."""
    token = visit.form.get("token")
    try:
        invitation_of(visit.house.engine, token, visit.now_s)  # a made-up one takes no lock
        made = accept_invitation(visit.house.engine, token, visit.now_s)
    except (NotFound, BadRequest) as dead:
        return _dead(dead)
    session = enter_by_link(visit.house.engine, made.sign_in_token, visit.now_s, visit.session)
    return Moved("/", said="joined", cookies=(session_cookie(session, secure=visit.house.secure),))


def _dead(error: NotFound | BadRequest) -> Page:
    return Page("join_dead.html", DeadPage(f"{error.message[:1].upper()}{error.message[1:].rstrip('.')}."), 404)


ROUTES = (get("/join", show, OPEN), post("/join", join, OPEN))
