"""The organisation: its people, invitations, budgets and rates (product-surface 2.8; what is not there is ours)."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Query
from pydantic import Field

from modelgates_server.api import limits
from modelgates_server.api.answers import Answer, answer, page
from modelgates_server.api.limits import BudgetAnswer, BudgetList, Interval, PutBudget, PutRates, RatesAnswer
from modelgates_server.api.routes import Housed, Managing, new_router
from modelgates_server.api.shapes import Body, Deleted, Paged, Shown, Usd, UsdShown
from modelgates_server.limits import Scope
from modelgates_server.management import invitations, members
from modelgates_server.management.budgets import APP_CHARACTERS_MAX, INTERVALS
from modelgates_server.management.invitations import Invited
from modelgates_server.management.members import NewMember
from modelgates_server.management.shown import ROLE_PREFIX, invitation_data, member_data

router = new_router("organization")

Role = Literal["org:admin", "org:member"]
Name = Annotated[str, Field(min_length=1, max_length=400)]
Email = Annotated[str, Field(min_length=3, max_length=254)]
App = Annotated[
    str, Query(min_length=1, max_length=APP_CHARACTERS_MAX, description="The app's name, as its requests say it.")
]


class AddMember(Body):
    """A new member, without an invitation."""

    name: Name
    email: Email | None = None
    role: Role = "org:member"


class UpdateMember(Body):
    """What a member may do."""

    role: Role


class CreateInvitation(Body):
    """Who is asked in. `workspace_id` (id or slug) is joined besides the default one; `share_usd` is a budget for each interval."""

    email: Email
    name: Name
    role: Role = "org:member"
    workspace_id: str | None = None
    share_usd: Usd | None = None
    share_interval: Annotated[
        Interval | None, Field(description="How long the share counts; monthly if it is left out.")
    ] = None


class PutAppBudget(PutBudget):
    """A spending limit of an app: of the requests that say its name (``X-ModelGates-Title``, ``X-Title`` or ``HTTP-Referer``)."""

    app: Annotated[str, Field(min_length=1, max_length=APP_CHARACTERS_MAX)]


class MemberShown(Shown):
    """A member."""

    id: str
    email: str
    first_name: str | None
    last_name: str | None
    name: str
    role: Role
    created_at: str


class MemberAnswer(Shown):
    """One member."""

    data: MemberShown


class MemberList(Shown):
    """A page of members, oldest first."""

    data: list[MemberShown]
    total_count: int


class InvitationShown(Shown):
    """An invitation, without its token."""

    id: str
    email: str
    name: str
    role: Role
    workspace_id: str | None
    share_usd: UsdShown | None
    share_interval: Interval | None
    state: Literal["pending", "accepted", "revoked", "expired"]
    invited_by: str
    created_at: str
    expires_at: str
    user_id: str | None


class InvitationAnswer(Shown):
    """One invitation."""

    data: InvitationShown


class NewInvitationAnswer(InvitationAnswer):
    """The new invitation with its token and link: the only time that they are shown."""

    token: str
    url: str


class InvitationList(Shown):
    """A page of invitations, newest first."""

    data: list[InvitationShown]
    total_count: int


@router.get("/organization/members", response_model=MemberList)
def list_members(house: Housed, manager: Managing, paging: Paged) -> Answer:
    """List the members of the organization."""
    found = members.list_members(house.engine, manager.organization_id, paging.offset, paging.limit)
    return page([member_data(row) for row in found.rows], found.total)


@router.post("/organization/members", status_code=201, response_model=MemberAnswer)
def add_member(house: Housed, manager: Managing, body: AddMember) -> Answer:
    """Add a member at once, without an invitation."""
    wanted = NewMember(body.name, body.email, body.role.removeprefix(ROLE_PREFIX))
    row = members.add_member(house.engine, manager.organization_id, wanted, manager.actor, house.clock.now_s())
    return answer({"data": member_data(row)}, 201)


@router.get("/organization/members/{user_id}", response_model=MemberAnswer)
def get_member(house: Housed, manager: Managing, user_id: str) -> Answer:
    """Give one member."""
    return answer({"data": member_data(members.get_member(house.engine, manager.organization_id, user_id))})


@router.patch("/organization/members/{user_id}", response_model=MemberAnswer)
def update_member(house: Housed, manager: Managing, user_id: str, body: UpdateMember) -> Answer:
    """Change a member's role; there is always an admin. The member has to sign in again."""
    role = body.role.removeprefix(ROLE_PREFIX)
    row = members.set_member_role(
        house.engine, manager.organization_id, user_id, role, manager.actor, house.clock.now_s()
    )
    return answer({"data": member_data(row)})


@router.delete("/organization/members/{user_id}", response_model=Deleted)
def remove_member(house: Housed, manager: Managing, user_id: str) -> Answer:
    """Remove a member: from the moment of the answer on, no key of theirs admits a request and no session lives."""
    members.remove_member(house.engine, manager.organization_id, user_id, manager.actor, house.clock.now_s())
    return answer({"deleted": True})


@router.get("/organization/members/{user_id}/budgets", response_model=BudgetList)
def list_member_budgets(house: Housed, manager: Managing, user_id: str) -> Answer:
    """List the budgets of a member, which hold over all keys of theirs together."""
    members.get_member(house.engine, manager.organization_id, user_id)
    return limits.show_budgets(house, manager, Scope.MEMBER, user_id)


@router.put("/organization/members/{user_id}/budgets/{interval}", response_model=BudgetAnswer)
def put_member_budget(house: Housed, manager: Managing, user_id: str, interval: Interval, body: PutBudget) -> Answer:
    """Give a member a share: a budget over all keys of theirs together."""
    return limits.put_budget(house, manager, Scope.MEMBER, user_id, interval, body)


@router.delete("/organization/members/{user_id}/budgets/{interval}", response_model=Deleted)
def delete_member_budget(house: Housed, manager: Managing, user_id: str, interval: Interval) -> Answer:
    """Lift a budget of a member."""
    return limits.delete_budget(house, manager, Scope.MEMBER, user_id, interval)


@router.get("/organization/members/{user_id}/rates", response_model=RatesAnswer)
def get_member_rates(house: Housed, manager: Managing, user_id: str) -> Answer:
    """Give the rates of a member, which hold over all keys of theirs together."""
    return limits.show_rates(house, manager, Scope.MEMBER, user_id)


@router.put("/organization/members/{user_id}/rates", response_model=RatesAnswer)
def put_member_rates(house: Housed, manager: Managing, user_id: str, body: PutRates) -> Answer:
    """Set the rates of a member."""
    return limits.put_rates(house, manager, Scope.MEMBER, user_id, body)


@router.get("/organization/invitations", response_model=InvitationList)
def list_invitations(house: Housed, manager: Managing, paging: Paged) -> Answer:
    """List invitations, whatever became of them."""
    found = invitations.list_invitations(house.engine, manager.organization_id, paging.offset, paging.limit)
    return page([invitation_data(row, house.clock.now_s()) for row in found.rows], found.total)


@router.post("/organization/invitations", status_code=201, response_model=NewInvitationAnswer)
def create_invitation(house: Housed, manager: Managing, body: CreateInvitation) -> Answer:
    """Invite somebody; the link is in this answer only. An earlier open invitation to the address is taken back."""
    role = body.role.removeprefix(ROLE_PREFIX)
    window = None if body.share_interval is None else INTERVALS[body.share_interval]
    invited = Invited(body.email, body.name, role, body.workspace_id, body.share_usd, window)
    token, row = invitations.invite(house.engine, manager.organization_id, invited, manager.actor, house.clock.now_s())
    url = invitations.join_url(house.origin, token)
    return answer({"data": invitation_data(row, house.clock.now_s()), "token": token, "url": url}, 201)


@router.get("/organization/invitations/{invitation_id}", response_model=InvitationAnswer)
def get_invitation(house: Housed, manager: Managing, invitation_id: str) -> Answer:
    """Give one invitation."""
    row = invitations.find_invitation(house.engine, manager.organization_id, invitation_id)
    return answer({"data": invitation_data(row, house.clock.now_s())})


@router.delete("/organization/invitations/{invitation_id}", response_model=InvitationAnswer)
def revoke_invitation(house: Housed, manager: Managing, invitation_id: str) -> Answer:
    """Take an open invitation back."""
    row = invitations.revoke_invitation(
        house.engine, manager.organization_id, invitation_id, manager.actor, house.clock.now_s()
    )
    return answer({"data": invitation_data(row, house.clock.now_s())})


@router.get("/organization/budgets", response_model=BudgetList)
def list_organization_budgets(house: Housed, manager: Managing) -> Answer:
    """List the budgets of the whole organization."""
    return limits.show_budgets(house, manager, Scope.ORGANIZATION, manager.organization_id)


@router.put("/organization/budgets/{interval}", response_model=BudgetAnswer)
def put_organization_budget(house: Housed, manager: Managing, interval: Interval, body: PutBudget) -> Answer:
    """Set a budget of the whole organization, daily, weekly or monthly; for life there is the credit."""
    return limits.put_budget(house, manager, Scope.ORGANIZATION, manager.organization_id, interval, body)


@router.delete("/organization/budgets/{interval}", response_model=Deleted)
def delete_organization_budget(house: Housed, manager: Managing, interval: Interval) -> Answer:
    """Lift a budget of the whole organization."""
    return limits.delete_budget(house, manager, Scope.ORGANIZATION, manager.organization_id, interval)


@router.get("/organization/app-budgets", response_model=BudgetList)
def list_app_budgets(
    house: Housed, manager: Managing, app: Annotated[str | None, Query(max_length=APP_CHARACTERS_MAX)] = None
) -> Answer:
    """List the budgets of apps, or of one."""
    return limits.show_budgets(house, manager, Scope.APP, app)


@router.put("/organization/app-budgets/{interval}", response_model=BudgetAnswer)
def put_app_budget(house: Housed, manager: Managing, interval: Interval, body: PutAppBudget) -> Answer:
    """Set a budget of an app. It binds requests that say the app's name: who hides it is not bound by it."""
    return limits.put_budget(house, manager, Scope.APP, body.app, interval, body)


@router.delete("/organization/app-budgets/{interval}", response_model=Deleted)
def delete_app_budget(house: Housed, manager: Managing, interval: Interval, app: App) -> Answer:
    """Lift a budget of an app."""
    return limits.delete_budget(house, manager, Scope.APP, app, interval)


@router.get("/organization/rates", response_model=RatesAnswer)
def get_organization_rates(house: Housed, manager: Managing) -> Answer:
    """Give the rates of the whole organization."""
    return limits.show_rates(house, manager, Scope.ORGANIZATION, manager.organization_id)


@router.put("/organization/rates", response_model=RatesAnswer)
def put_organization_rates(house: Housed, manager: Managing, body: PutRates) -> Answer:
    """Set the rates of the whole organization."""
    return limits.put_rates(house, manager, Scope.ORGANIZATION, manager.organization_id, body)
