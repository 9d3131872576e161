"""Signing in, with a link, a password or at the identity provider, and signing out."""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass, replace
from typing import Final

from modelgates_server.accounts import oidc
from modelgates_server.accounts.networks import network_of
from modelgates_server.accounts.oidc import Begun
from modelgates_server.console.gate import read_cookie, session_cookie
from modelgates_server.console.openid import OpenId
from modelgates_server.console.routes import get, post
from modelgates_server.console.visits import OPEN, Moved, Page, Visit
from modelgates_server.errors import IdentityFailed, ModelGatesError, NotFound, RateRefused, Unauthenticated
from modelgates_server.management.identity import Arrival, enter_by_identity
from modelgates_server.management.sign_in import Claim, enter_by_link, enter_by_password, owner_of_link, sign_out

CALLBACK: Final = "/sign-in/oidc/callback"
HOME: Final = "/"
FROM_ELSEWHERE: Final = frozenset({"cross-site", "same-site"})
"""What Sec-Fetch-Site says when a page of somebody else led here; from a mail program, or typed, it is ``none``."""

_NEXT: Final = re.compile(r"/[a-z][a-z-]{0,40}(?:/[A-Za-z0-9._:~-]{1,200}){0,4}(?:\?[A-Za-z0-9._:~=&%+,-]{0,500})?")
"""A path of our pages: a word first, so that neither ``//host`` nor ``/\\host`` fits (reliability row 92)."""

_CANNOT: Final = {
    "access_denied": "You did not sign in at the identity provider, or it does not let you in here.",
    "login_required": "The identity provider wants you to sign in there first.",
    "temporarily_unavailable": "The identity provider is busy. Try again in a minute.",
}
"""What a provider may say instead of a code, in words. Its own words are not repeated: anybody can write them into an address."""


@dataclass(frozen=True, slots=True)
class LinkFor:
    """A one-time link that is not used yet: whom it is for, and who is signed in now, if it is somebody else."""

    token: str
    name: str
    email: str | None
    instead_of: str | None


@dataclass(frozen=True, slots=True)
class SignInPage:
    """What somebody sees who must sign in first.

    `next` is the page that they wanted; `problem` says why signing in did not work. `provider` is what the button of the identity
    provider says; None without one. `link` is a link that somebody led them to: they are asked whether that is who they want to be.
    """

    next: str
    with_password: bool
    provider: str | None
    problem: str | None = None
    remedy: str | None = None
    link: LinkFor | None = None


def required(visit: Visit) -> Page:
    """What stands in the place of a page that needs a session."""
    return _form(visit, 401, next_path(visit.url))


def show(visit: Visit) -> Page | Moved:
    """Redeem a one-time link; without one, the ways to sign in."""
    if visit.query.has("token") and visit.method != "HEAD":  # HEAD only looks whether the link leads anywhere
        return _led_here(visit, visit.query.get("token"))
    wanted = next_path(visit.query.get("next"))
    return Moved(wanted) if visit.visitor is not None else _form(visit, 200, wanted)


def enter(visit: Visit) -> Page | Moved:
    """Sign in with a mail address and a password, or with a link that somebody was led to."""
    if visit.form.has("token"):
        return _by_link(visit, visit.form.get("token"))
    wanted = next_path(visit.form.get("next"))
    claim = Claim(visit.form.get("email"), visit.form.raw("password"), network_of(visit.address), visit.session)
    try:
        session = enter_by_password(visit.house.reception, claim, visit.now_s)
    except Unauthenticated as wrong:
        return _form(visit, 401, wanted, wrong)
    except RateRefused as hasty:
        return _form(visit, 429, wanted, hasty)
    return _entered(visit, session, wanted)


def leave(visit: Visit) -> Moved:
    """End the session."""
    sign_out(visit.house.engine, visit.session)
    return Moved("/sign-in", said="signed-out", cookies=(session_cookie("", secure=visit.house.secure),))


def go(visit: Visit) -> Page | Moved:
    """Send the browser to the identity provider."""
    openid = _openid(visit)
    begun = oidc.begin(next_path(visit.query.get("next")), visit.now_s)
    try:
        url = visit.call(openid.authorization_url, begun, _redirect_uri(visit))
    except (IdentityFailed, RateRefused) as failed:
        return _form(visit, _status(failed), begun.next, failed)
    return Moved(url, cookies=(_begun_cookie(visit, oidc.seal(visit.house.secret, begun)),))


def come_back(visit: Visit) -> Page | Moved:
    """Let in who comes back from the identity provider, in the browser that was sent there."""
    openid = _openid(visit)
    begun = oidc.unseal(visit.house.secret, read_cookie(visit.cookies, _begun_name(visit)), visit.now_s)
    wanted = HOME if begun is None else begun.next
    try:
        session = _by_identity(visit, openid, begun)
    except (Unauthenticated, IdentityFailed, RateRefused) as refused:
        return _form(visit, _status(refused), wanted, refused)
    return _entered(visit, session, wanted, _begun_cookie(visit, ""))


def next_path(text: str) -> str:
    """The page to go to after signing in, if it is one of ours; else the overview."""
    fits = _NEXT.fullmatch(text) and not re.match(r"/(?:sign-|join\b|assets\b|api\b)", text)
    return text if fits else HOME


def _led_here(visit: Visit, token: str) -> Page | Moved:
    """Use a link, but ask first where another site led here, or somebody else is signed in.

    Otherwise anybody could make a link for themselves and have others, who think that they are in their own account, work in it.
    """
    try:
        owner = owner_of_link(visit.house.engine, token, visit.now_s)
    except Unauthenticated as dead:
        return _form(visit, 401, HOME, dead)
    now = visit.visitor
    other = None if now is None or now.id == owner.id else now.name
    if other is None and visit.site not in FROM_ELSEWHERE:
        return _by_link(visit, token)
    page = replace(_page(visit, HOME), link=LinkFor(token, owner.name, owner.email, other))
    return Page("sign_in.html", page)


def _by_link(visit: Visit, token: str) -> Page | Moved:
    try:
        session = enter_by_link(visit.house.engine, token, visit.now_s, visit.session)
    except Unauthenticated as dead:
        return _form(visit, 401, HOME, dead)
    return _entered(visit, session, HOME)


def _by_identity(visit: Visit, openid: OpenId, begun: Begun | None) -> str:
    """The token of a new session. Raises Unauthenticated, IdentityFailed, RateRefused."""
    state = visit.query.get("state")
    if begun is None or not hmac.compare_digest(state.encode(), begun.state.encode()):
        raise Unauthenticated(
            "This sign-in was not begun in this browser, or it took longer than ten minutes.", remedy="begin again"
        )
    if visit.query.has("error"):
        said = _CANNOT.get(visit.query.get("error"), "The identity provider did not sign you in.")
        raise Unauthenticated(said, remedy="begin again, or ask an admin of the organization")
    identity = visit.call(openid.identity, visit.query.get("code"), begun, _redirect_uri(visit), visit.query.get("iss"))
    arrival = Arrival(identity, begun, openid.client.join_domains, visit.session)
    return enter_by_identity(visit.house.engine, arrival, visit.now_s)


def _form(visit: Visit, status: int, wanted: str, problem: ModelGatesError | None = None) -> Page:
    return Page("sign_in.html", _page(visit, wanted, problem), status)


def _page(visit: Visit, wanted: str, problem: ModelGatesError | None = None) -> SignInPage:
    openid = visit.house.openid
    return SignInPage(
        wanted,
        visit.house.with_password,
        None if openid is None else openid.client.name,
        None if problem is None else problem.message,
        None if problem is None else problem.remedy,
    )


def _entered(visit: Visit, session: str, path: str, *cookies: str) -> Moved:
    return Moved(path, cookies=(session_cookie(session, secure=visit.house.secure), *cookies))


def _openid(visit: Visit) -> OpenId:
    if visit.house.openid is None:
        raise NotFound("No identity provider is set up here.", remedy="the operator can name one in [sign_in]")
    return visit.house.openid


def _redirect_uri(visit: Visit) -> str:
    return visit.house.console_origin + CALLBACK


def _begun_name(visit: Visit) -> str:
    return "__Host-mg_begun" if visit.house.secure else "mg_begun"


def _begun_cookie(visit: Visit, sealed: str) -> str:
    """The header that keeps a begun sign-in in the browser; an empty one takes it away."""
    age = oidc.BEGUN_S if sealed else 0
    cookie = f"{_begun_name(visit)}={sealed}; Path=/; HttpOnly; SameSite=Lax; Max-Age={age}"
    return cookie + "; Secure" if visit.house.secure else cookie


def _status(error: ModelGatesError) -> int:
    return {Unauthenticated: 401, RateRefused: 429}.get(type(error), 502)


ROUTES = (
    get("/sign-in", show, OPEN),
    post("/sign-in", enter, OPEN),
    post("/sign-out", leave),
    get("/sign-in/oidc", go, OPEN),
    get(CALLBACK, come_back, OPEN),
)
