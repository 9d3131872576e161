"""The commands of guardrails, budgets and rates: words and options. What they do stands in modules of their own."""

# ruff: noqa: PLC0415 - a command that is not called costs nothing

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from modelgates_server.cli.frame import Options, Report, family, placed
from modelgates_server.cli.groups_people import RATE_SCOPES, SCOPES, WINDOWS

if TYPE_CHECKING:
    from collections.abc import Callable

_MODE = click.option("--soft/--hard", default=None, help="Only count and alert, or refuse.  [default: refuse]")
_BYOK = click.option(
    "--include-byok/--exclude-byok", default=None, help="Whether what own provider keys are asked counts too."
)
_RULES = (
    click.option("--description", metavar="T", help="What it is for; none takes it back."),
    click.option("--limit", metavar="USD", help="What each key or member may spend; none lifts it. Needs --reset."),
    click.option("--reset", type=click.Choice(["daily", "weekly", "monthly"]), help="When it starts anew (UTC)."),
    _MODE,
    _BYOK,
    click.option("--allow-model", multiple=True, metavar="M", help="Only these models; repeatable; none allows all."),
    click.option("--ignore-model", multiple=True, metavar="M", help="Never these models; repeatable."),
    click.option("--allow-provider", multiple=True, metavar="P", help="Only these providers; repeatable."),
    click.option("--ignore-provider", multiple=True, metavar="P", help="Never these providers; repeatable."),
    click.option("--zdr/--no-zdr", default=None, help="Only providers with zero data retention."),
)
_TO_KEYS = click.option(
    "--key", multiple=True, metavar="KEY", help="A key: hash, eight characters of it, or exact name; repeatable."
)
_TO_MEMBERS = click.option("--member", multiple=True, metavar="M", help="A member: id, address or name; repeatable.")


def _rules(command: Callable[..., int]) -> Callable[..., int]:
    for option in reversed(_RULES):
        command = option(command)
    return command


@family
def guardrails() -> None:
    """Give keys and members budgets and lists of models and providers."""


@guardrails.command("create")
@click.argument("name")
@click.option("--workspace", metavar="SLUG", help="Where it belongs.  [default: the default workspace]")
@_rules
@placed
def guardrails_create(options: Options, workspace: str | None, **wanted: Any) -> Report:
    """Make a guardrail called NAME; it enforces nothing until it is assigned.

    Each key or member that it is given to has a budget of its own.
    """
    from modelgates_server.cli import guardrails as work

    return work.create(options, workspace, work.Wanted(**wanted))


@guardrails.command("update")
@click.argument("guardrail", required=False)
@click.option("--default-of", metavar="SLUG", help="The default of a workspace: for each member and each key there.")
@click.option("--name", metavar="N", help="What people call it.")
@_rules
@placed
def guardrails_update(options: Options, guardrail: str | None, default_of: str | None, **wanted: Any) -> Report:
    """Change a GUARDRAIL (id or exact name), or the default one of a workspace; what was spent stays counted."""
    from modelgates_server.cli import guardrails as work

    return work.update(options, guardrail, default_of, work.Wanted(**wanted))


@guardrails.command("list")
@click.option("--workspace", metavar="SLUG", help="Only of this workspace.")
@placed
def guardrails_list(options: Options, workspace: str | None) -> Report:
    """List guardrails, and how many have them."""
    from modelgates_server.cli import guardrails as work

    return work.show(options, workspace)


@guardrails.command("assign")
@click.argument("guardrail")
@_TO_KEYS
@_TO_MEMBERS
@placed
def guardrails_assign(options: Options, guardrail: str, key: tuple[str, ...], member: tuple[str, ...]) -> Report:
    """Give a GUARDRAIL (id or exact name) to keys and members; it replaces an earlier one of theirs."""
    from modelgates_server.cli import guardrails as work

    return work.assign(options, guardrail, key, member)


@guardrails.command("unassign")
@click.argument("guardrail")
@_TO_KEYS
@_TO_MEMBERS
@placed
def guardrails_unassign(options: Options, guardrail: str, key: tuple[str, ...], member: tuple[str, ...]) -> Report:
    """Take a GUARDRAIL from keys and members."""
    from modelgates_server.cli import guardrails as work

    return work.unassign(options, guardrail, key, member)


@guardrails.command("delete")
@click.argument("guardrail")
@placed
def guardrails_delete(options: Options, guardrail: str) -> Report:
    """Delete a GUARDRAIL and its assignments."""
    from modelgates_server.cli import guardrails as work

    return work.delete(options, guardrail)


@family
def budgets() -> None:
    """Limit what the organization, workspaces, apps and members spend."""


@budgets.command("set")
@click.argument("scope", type=SCOPES)
@click.argument("owner", required=False)
@click.option("--window", type=WINDOWS, required=True, help="How long it counts (UTC, weeks from Monday).")
@click.option("--limit", required=True, metavar="USD", help="The most that may be spent in it.")
@_MODE
@_BYOK
@placed
def budgets_set(options: Options, scope: str, owner: str | None, **wanted: Any) -> Report:
    """Set a budget of a SCOPE.

    OWNER is a workspace's slug, an app's name, or a member's id, address or name. A workspace's budgets strictly decrease from
    life over month and week to day.
    """
    from modelgates_server.cli import budgets as work

    return work.put(options, scope, owner, work.Wanted(**wanted))


@budgets.command("list")
@click.argument("scope", type=SCOPES, required=False)
@click.argument("owner", required=False)
@placed
def budgets_list(options: Options, scope: str | None, owner: str | None) -> Report:
    """List budgets with what is spent: all, those of a SCOPE, or those of one OWNER."""
    from modelgates_server.cli import budgets as work

    return work.show(options, scope, owner)


@budgets.command("clear")
@click.argument("scope", type=SCOPES)
@click.argument("owner", required=False)
@click.option("--window", type=WINDOWS, required=True, help="Which of its budgets.")
@placed
def budgets_clear(options: Options, scope: str, owner: str | None, window: str) -> Report:
    """Lift a budget of a SCOPE's OWNER."""
    from modelgates_server.cli import budgets as work

    return work.clear(options, scope, owner, window)


@family
def rates() -> None:
    """Limit how fast the organization, workspaces and members may be; a key has its own."""


@rates.command("set")
@click.argument("scope", type=RATE_SCOPES)
@click.argument("owner", required=False)
@click.option("--rpm", type=click.IntRange(1), metavar="N", help="Requests per minute.")
@click.option("--tpm", type=click.IntRange(1), metavar="N", help="Tokens per minute.")
@click.option("--parallel", type=click.IntRange(1), metavar="N", help="Requests at the same time.")
@placed
def rates_set(
    options: Options, scope: str, owner: str | None, rpm: int | None, tpm: int | None, parallel: int | None
) -> Report:
    """Set all rates of a SCOPE's OWNER (slug, id, address or name); those that are left out are lifted."""
    from modelgates_server.cli import budgets as work
    from modelgates_server.management.rates import Rates

    return work.set_rates(options, scope, owner, Rates(rpm, tpm, parallel))


@rates.command("list")
@placed
def rates_list(options: Options) -> Report:
    """List the rates above the keys' own."""
    from modelgates_server.cli import budgets as work

    return work.show_rates(options)
