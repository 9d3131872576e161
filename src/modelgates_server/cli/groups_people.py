"""The commands of organisations, members and workspaces: words and options. What they do stands in modules of their own."""

# ruff: noqa: PLC0415 - a command that is not called costs nothing

from __future__ import annotations

from typing import Any

import click

from modelgates_server.cli.frame import Options, Report, common, family, placed

ROLES = click.Choice(["admin", "member"])
SCOPES = click.Choice(["organization", "workspace", "app", "member"])
RATE_SCOPES = click.Choice(["organization", "workspace", "member"])
WINDOWS = click.Choice(["day", "week", "month", "life"])


@family
def organizations() -> None:
    """Make and list organizations; each sees only itself."""


@organizations.command("create")
@click.argument("name")
@click.option("--admin", default="Admin", show_default=True, metavar="N", help="Its first admin's name.")
@click.option("--email", metavar="A", help="Its first admin's mail address.")
@click.option("--credit", metavar="USD", help="Credit that it begins with.")
@common
def organizations_create(options: Options, name: str, admin: str, email: str | None, credit: str | None) -> Report:
    """Make an organization; shows a management key and its admin's sign-in link, this once."""
    from modelgates_server.cli import organizations as work

    return work.create(options, name, admin, email, credit)


@organizations.command("list")
@common
def organizations_list(options: Options) -> Report:
    """List every organization of this installation."""
    from modelgates_server.cli import organizations as work

    return work.show(options)


@family
def members() -> None:
    """Invite, add, list and remove people; give them roles and shares."""


@members.command("list")
@placed
def members_list(options: Options) -> Report:
    """List the members with their shares."""
    from modelgates_server.cli import members as work

    return work.show(options)


@members.command("invite")
@click.argument("email")
@click.option("--name", required=True, metavar="N", help="What people call them.")
@click.option("--role", type=ROLES, default="member", show_default=True, help="What they may do.")
@click.option("--workspace", metavar="SLUG", help="A workspace to join besides the default one.")
@click.option("--share", metavar="USD", help="What all their keys together may spend.")
@click.option("--share-window", type=WINDOWS, help="How long the share counts.  [default: month]")
@placed
def members_invite(options: Options, **guest: Any) -> Report:
    """Invite EMAIL; shows a link that makes them a member, once, within seven days.

    An earlier invitation of the same address that is still open is taken back.
    """
    from modelgates_server.cli import members as work

    return work.invite(options, work.Guest(**guest))


@members.command("invitations")
@placed
def members_invitations(options: Options) -> Report:
    """List invitations, whatever became of them."""
    from modelgates_server.cli import members as work

    return work.show_invitations(options)


@members.command("revoke")
@click.argument("invitation")
@placed
def members_revoke(options: Options, invitation: str) -> Report:
    """Take an open INVITATION (its id) back."""
    from modelgates_server.cli import members as work

    return work.revoke(options, invitation)


@members.command("accept")
@click.argument("token")
@common
def members_accept(options: Options, token: str) -> Report:
    """Use an invitation's TOKEN here; shows a sign-in link for the new member."""
    from modelgates_server.cli import members as work

    return work.accept(options, token)


@members.command("add")
@click.option("--name", required=True, metavar="N", help="What people call them.")
@click.option("--email", metavar="A", help="Their mail address.")
@click.option("--role", type=ROLES, default="member", show_default=True, help="What they may do.")
@placed
def members_add(options: Options, name: str, email: str | None, role: str) -> Report:
    """Make somebody a member at once, without an invitation."""
    from modelgates_server.cli import members as work

    return work.add(options, name, email, role)


@members.command("link")
@click.argument("member")
@click.option(
    "--reset", is_flag=True, help="Also forget their password and identity provider account, and end their sessions."
)
@placed
def members_link(options: Options, member: str, reset: bool) -> Report:  # noqa: FBT001 - click gives it by name
    """Make a sign-in link for a MEMBER (id, address or exact name): once, within 24 hours."""
    from modelgates_server.cli import members as work

    return work.link(options, member, reset=reset)


@members.command("role")
@click.argument("member")
@click.argument("role", type=ROLES)
@placed
def members_role(options: Options, member: str, role: str) -> Report:
    """Make a MEMBER (id, address or exact name) an admin, or an admin a member."""
    from modelgates_server.cli import members as work

    return work.set_role(options, member, role)


@members.command("remove")
@click.argument("member")
@placed
def members_remove(options: Options, member: str) -> Report:
    """Remove a MEMBER (id, address or exact name); from now on no key of theirs admits a request."""
    from modelgates_server.cli import members as work

    return work.remove(options, member)


@members.command("share")
@click.argument("member")
@click.option("--limit", required=True, metavar="USD", help="What they may spend; none takes the share away.")
@click.option("--window", type=WINDOWS, default="month", show_default=True, help="How long it counts (UTC).")
@placed
def members_share(options: Options, member: str, limit: str, window: str) -> Report:
    """Let all keys of a MEMBER (id, address or exact name) together spend so much; shares of several windows all hold."""
    from modelgates_server.cli import members as work

    return work.share(options, member, limit, window)


@family
def workspaces() -> None:
    """Make, change and delete workspaces; say who is in them."""


@workspaces.command("list")
@placed
def workspaces_list(options: Options) -> Report:
    """List the workspaces, the default one first."""
    from modelgates_server.cli import workspaces as work

    return work.show(options)


@workspaces.command("create")
@click.argument("name")
@click.option("--slug", metavar="S", help="Its short name in addresses.  [default: made of the name]")
@click.option("--description", metavar="T", help="What it is for.")
@placed
def workspaces_create(options: Options, name: str, slug: str | None, description: str | None) -> Report:
    """Make a workspace called NAME."""
    from modelgates_server.cli import workspaces as work

    return work.create(options, name, slug, description)


@workspaces.command("update")
@click.argument("workspace")
@click.option("--name", metavar="N", help="What people call it.")
@click.option("--slug", metavar="S", help="Its short name in addresses.")
@click.option("--description", metavar="T", help="What it is for.")
@placed
def workspaces_update(options: Options, workspace: str, **changes: Any) -> Report:
    """Change a WORKSPACE (slug or id)."""
    from modelgates_server.cli import workspaces as work

    return work.update(options, workspace, {name: value for name, value in changes.items() if value is not None})


@workspaces.command("delete")
@click.argument("workspace")
@placed
def workspaces_delete(options: Options, workspace: str) -> Report:
    """Delete a WORKSPACE: not the default one, and not while keys are in it."""
    from modelgates_server.cli import workspaces as work

    return work.delete(options, workspace)


@workspaces.command("prompt-log")
@click.argument("workspace")
@click.option("--on/--off", "enabled", default=None, help="Whether prompts and answers are stored from now on.")
@click.option(
    "--days", "retention_days", type=int, metavar="N", help="How long they are kept, 1 to 365.  [default: 90]"
)
@click.option(
    "--key",
    "named",
    multiple=True,
    metavar="K",
    help="Only those of this key (hash or name); repeatable; all: of every key.",
)
@click.option("--sampling", metavar="R", help="Of which share of the conversations, 0.0001 to 1.")
@placed
def workspaces_prompt_log(
    options: Options, workspace: str, named: tuple[str, ...], sampling: str | None, **changes: Any
) -> Report:
    """Show whether prompts of a WORKSPACE are stored, or change it. They never are unless switched on here.

    What is stored stays for its time when it is switched off; `workspaces forget` deletes it.
    """
    from modelgates_server.cli import prompt_log as work

    given = {name: value for name, value in changes.items() if value is not None}
    return work.prompt_log(options, workspace, given, named, sampling)


@workspaces.command("forget")
@click.argument("workspace")
@placed
def workspaces_forget(options: Options, workspace: str) -> Report:
    """Delete every stored prompt and answer of a WORKSPACE."""
    from modelgates_server.cli import prompt_log as work

    return work.forget(options, workspace)


@workspaces.command("members")
@click.argument("workspace")
@placed
def workspaces_members(options: Options, workspace: str) -> Report:
    """List who is in a WORKSPACE; everybody is in the default one."""
    from modelgates_server.cli import workspaces as work

    return work.show_members(options, workspace)


@workspaces.command("join")
@click.argument("workspace")
@click.argument("member", nargs=-1, required=True)
@placed
def workspaces_join(options: Options, workspace: str, member: tuple[str, ...]) -> Report:
    """Make each MEMBER of the organization a member of a WORKSPACE."""
    from modelgates_server.cli import workspaces as work

    return work.join(options, workspace, member)


@workspaces.command("leave")
@click.argument("workspace")
@click.argument("member", nargs=-1, required=True)
@placed
def workspaces_leave(options: Options, workspace: str, member: tuple[str, ...]) -> Report:
    """Take each MEMBER out of a WORKSPACE; not while they have keys there."""
    from modelgates_server.cli import workspaces as work

    return work.leave(options, workspace, member)
