"""`members`: the people of an organisation, invited or added, with their roles and shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from modelgates_server.cli.frame import Options, Report
from modelgates_server.cli.local import ACTOR, opened
from modelgates_server.cli.output import dollars, facts, in_usd, listing, moment, table
from modelgates_server.errors import BadRequest
from modelgates_server.limits import Scope, Window
from modelgates_server.management import budgets, invitations, members
from modelgates_server.management.address import sign_in_url
from modelgates_server.management.budgets import WORDS
from modelgates_server.management.invitations import Invited
from modelgates_server.management.members import NewMember
from modelgates_server.management.shown import budgets_data, invitation_data, member_data
from modelgates_server.management.sign_in import new_link, reset_sign_in
from modelgates_server.management.spent import HARD
from modelgates_server.money import nusd_from_usd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelgates_server.management.budgets import BudgetRow

_PER: Final = {Window.DAY: "a day", Window.WEEK: "a week", Window.MONTH: "a month", Window.LIFE: "in all"}


@dataclass(frozen=True, slots=True)
class Guest:
    """The options of ``members invite``, as they were written."""

    email: str
    name: str
    role: str
    workspace: str | None = None
    share: str | None = None
    share_window: str | None = None


def show(options: Options) -> Report:
    """List the members with their shares."""
    with opened(options) as place:
        rows = members.list_members(place.engine, place.organization_id).rows
        found = budgets.list_budgets(place.engine, place.organization_id, Scope.MEMBER)
    shares = {row.id: [one for one in found if one.scope_id == row.id] for row in rows}
    lines = [
        (row.name, row.email or "-", row.role, _told(shares[row.id]), moment(row.created_at_s), row.id) for row in rows
    ]
    data = [member_data(row) | {"shares": [_share(one) for one in shares[row.id]]} for row in rows]
    return Report({"data": data}, table(("Name", "Address", "Role", "Shares", "Since", "Id"), lines))


def add(options: Options, name: str, email: str | None, role: str) -> Report:
    """Make somebody a member at once."""
    with opened(options) as place:
        wanted = NewMember(name, email, role)
        row = members.add_member(place.engine, place.organization_id, wanted, ACTOR, place.now_s)
    return Report({"data": member_data(row)}, f"{row.name} ({row.id}) is a member now.")


def invite(options: Options, guest: Guest) -> Report:
    """Make an invitation and show its link, this once."""
    if guest.share is None and guest.share_window is not None:
        raise BadRequest("--share-window needs --share: what may be spent in it", remedy="add --share USD")
    share_nusd = None if guest.share is None else nusd_from_usd(guest.share)
    window = None if guest.share_window is None else Window(guest.share_window)
    invited = Invited(guest.email, guest.name, guest.role, guest.workspace, share_nusd, window)
    with opened(options) as place:
        token, row = invitations.invite(place.engine, place.organization_id, invited, ACTOR, place.now_s)
        url = invitations.join_url(place.origin, token)
        data = in_usd(invitation_data(row, place.now_s))
    text = facts(
        (("For", f"{row.name} <{row.email}>"), ("Link", url), ("Until", moment(row.expires_at_s)), ("Id", row.id))
    )
    return Report(
        {"data": data, "token": token, "url": url},
        f"{text}\n\nThe link is shown once, and makes them a member once: send it to them alone.",
    )


def show_invitations(options: Options) -> Report:
    """List the invitations, whatever became of them."""
    with opened(options) as place:
        rows = invitations.list_invitations(place.engine, place.organization_id).rows
        data = [in_usd(invitation_data(row, place.now_s)) for row in rows]
        lines = [
            (row.name, row.email, row.role, row.state(place.now_s), moment(row.expires_at_s), row.id) for row in rows
        ]
    text = listing(("Name", "Address", "Role", "State", "Until", "Id"), lines, "Nobody was invited yet.")
    return Report({"data": data}, text)


def revoke(options: Options, invitation_id: str) -> Report:
    """Take an open invitation back."""
    with opened(options) as place:
        row = invitations.revoke_invitation(place.engine, place.organization_id, invitation_id, ACTOR, place.now_s)
        data = in_usd(invitation_data(row, place.now_s))
    return Report({"data": data}, f"The invitation of {row.email} opens nothing any more.")


def accept(options: Options, token: str) -> Report:
    """Use an invitation's token here, where the link cannot be opened; gives the new member a sign-in link."""
    with opened(options) as place:
        made = invitations.accept_invitation(place.engine, token, place.now_s)
        link = sign_in_url(place.origin, made.sign_in_token)
    text = facts((("Member", made.member.name), ("Sign in", f"{link}  (once, within 24 hours)")))
    return Report({"data": member_data(made.member), "sign_in_url": link}, text)


def link(options: Options, selector: str, *, reset: bool) -> Report:
    """Make a sign-in link for a member; with `reset` it is the only way in that they have from now on."""
    with opened(options) as place:
        found = members.find_member(place.engine, place.organization_id, selector)
        make = reset_sign_in if reset else new_link
        url = sign_in_url(place.origin, make(place.engine, place.organization_id, found.id, ACTOR, place.now_s))
    text = facts((("Member", found.name), ("Sign in", f"{url}  (once, within 24 hours)")))
    told = "\n\nTheir password and their account at the identity provider are forgotten; every session has ended."
    return Report({"data": member_data(found), "sign_in_url": url}, text + (told if reset else ""))


def set_role(options: Options, selector: str, role: str) -> Report:
    """Make a member an admin, or an admin a member."""
    with opened(options) as place:
        found = members.find_member(place.engine, place.organization_id, selector)
        row = members.set_member_role(place.engine, place.organization_id, found.id, role, ACTOR, place.now_s)
    return Report({"data": member_data(row)}, f"{row.name} is {'an admin' if role == 'admin' else 'a member'} now.")


def remove(options: Options, selector: str) -> Report:
    """Remove a member; their keys admit nothing more."""
    with opened(options) as place:
        found = members.find_member(place.engine, place.organization_id, selector)
        members.remove_member(place.engine, place.organization_id, found.id, ACTOR, place.now_s)
    text = f"{found.name} is removed: keys of theirs are off, sessions ended; what they used stays in the books."
    return Report({"deleted": True, "id": found.id}, text)


def share(options: Options, selector: str, limit: str, within: str) -> Report:
    """Give a member a share for each window, or (``none``) take it away."""
    limit_nusd, window = None if limit == "none" else nusd_from_usd(limit), Window(within)
    with opened(options) as place:
        found = members.find_member(place.engine, place.organization_id, selector)
        row = budgets.set_share(place.engine, place.organization_id, found.id, limit_nusd, ACTOR, place.now_s, window)
        data = [] if row is None else budgets_data(place.engine, [row], place.now_s)
    told = f"has no {WORDS[window]} share any more" if row is None else f"may spend {_told([row])}"
    return Report({"data": in_usd(data[0]) if data else None}, f"{found.name} {told}.")


def _told(shares: Sequence[BudgetRow]) -> str:
    """Shares in words, the narrowest first: ``$20.00 a week, $300.00 a month``; a dash for none."""
    parts = [
        f"{dollars(one.limit_nusd)} {_PER[one.window]}{'' if one.mode == HARD else ' (soft)'}"
        for one in reversed(shares)
    ]
    return ", ".join(parts) or "-"


def _share(row: BudgetRow) -> dict[str, Any]:
    """A share in the words of the API."""
    return in_usd({"interval": WORDS[row.window], "limit_usd_nusd": row.limit_nusd, "mode": row.mode})
