"""`members`: the people of an organisation, invited or added, with their roles and shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelgates_server.cli.address import sign_in_url
from modelgates_server.cli.frame import Options, Report
from modelgates_server.cli.local import ACTOR, opened, origin
from modelgates_server.cli.output import dollars, facts, in_usd, moment, table
from modelgates_server.limits import Scope, Window
from modelgates_server.management import budgets, invitations, members
from modelgates_server.management.invitations import Invited
from modelgates_server.management.members import NewMember
from modelgates_server.management.shown import budgets_data, invitation_data, member_data
from modelgates_server.money import nusd_from_usd

if TYPE_CHECKING:
    from modelgates_server.management.budgets import BudgetRow


@dataclass(frozen=True, slots=True)
class Guest:
    """The options of ``members invite``, as they were written."""

    email: str
    name: str
    role: str
    workspace: str | None = None
    share: str | None = None


def show(options: Options) -> Report:
    """List the members with their monthly shares."""
    with opened(options) as place:
        rows = members.list_members(place.engine, place.organization_id).rows
        shares = _shares(budgets.list_budgets(place.engine, place.organization_id, Scope.MEMBER))
    head = ("Name", "Address", "Role", "Share a month", "Since", "Id")
    lines = [
        (row.name, row.email or "-", row.role, dollars(shares.get(row.id)), moment(row.created_at_s), row.id)
        for row in rows
    ]
    data = [in_usd(member_data(row) | {"share_usd_nusd": shares.get(row.id)}) for row in rows]
    return Report({"data": data}, table(head, lines, right=(3,)))


def add(options: Options, name: str, email: str | None, role: str) -> Report:
    """Make somebody a member at once."""
    with opened(options) as place:
        wanted = NewMember(name, email, role)
        row = members.add_member(place.engine, place.organization_id, wanted, ACTOR, place.now_s)
    return Report({"data": member_data(row)}, f"{row.name} ({row.id}) is a member now.")


def invite(options: Options, guest: Guest) -> Report:
    """Make an invitation and show its link, this once."""
    share_nusd = None if guest.share is None else nusd_from_usd(guest.share)
    invited = Invited(guest.email, guest.name, guest.role, guest.workspace, share_nusd)
    with opened(options) as place:
        token, row = invitations.invite(place.engine, place.organization_id, invited, ACTOR, place.now_s)
        url = invitations.join_url(origin(place.config), token)
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
    return Report({"data": data}, table(("Name", "Address", "Role", "State", "Until", "Id"), lines))


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
        link = sign_in_url(origin(place.config), made.sign_in_token)
    text = facts((("Member", made.member.name), ("Sign in", f"{link}  (once, within 24 hours)")))
    return Report({"data": member_data(made.member), "sign_in_url": link}, text)


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


def share(options: Options, selector: str, usd: str) -> Report:
    """Give a member a monthly share, or (``none``) take it away."""
    limit_nusd = None if usd == "none" else nusd_from_usd(usd)
    with opened(options) as place:
        found = members.find_member(place.engine, place.organization_id, selector)
        row = budgets.set_share(place.engine, place.organization_id, found.id, limit_nusd, ACTOR, place.now_s)
        data = [] if row is None else budgets_data(place.engine, [row], place.now_s)
    told = "has no share any more" if row is None else f"may spend {dollars(row.limit_nusd)} a month"
    return Report({"data": in_usd(data[0]) if data else None}, f"{found.name} {told}.")


def _shares(rows: list[BudgetRow]) -> dict[str, int]:
    return {row.scope_id: row.limit_nusd for row in rows if row.window is Window.MONTH}
