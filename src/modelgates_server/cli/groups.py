"""The commands of `keys` and `credits`: words and options. What they do stands in modules that are loaded when it is done."""

# ruff: noqa: PLC0415 - a command that is not called costs nothing

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from modelgates_server.cli.frame import Options, Report, common, family, placed

if TYPE_CHECKING:
    from collections.abc import Callable

RESETS = ("daily", "weekly", "monthly")


def _noted(command: Callable[..., int]) -> Callable[..., int]:
    return click.option("--note", required=True, metavar="T", help="Why; it stays in the books.")(command)


@family
def keys() -> None:
    """Create, list and switch API keys."""


@keys.command("create")
@click.option("--name", required=True, metavar="N", help="What people call the key.")
@click.option("--management", is_flag=True, help="A key that manages and cannot infer.")
@click.option("--limit", metavar="USD", help='The most it may spend, such as "12.50".')
@click.option("--limit-reset", type=click.Choice(RESETS), help="When its limit starts anew (UTC).")
@click.option("--include-byok", is_flag=True, help="What own provider keys are asked counts against the limit too.")
@click.option("--expires-at", metavar="T", help="RFC 3339 time in UTC, such as 2027-01-31T00:00:00Z.")
@click.option("--rpm", type=click.IntRange(1), metavar="N", help="Requests per minute.")
@click.option("--tpm", type=click.IntRange(1), metavar="N", help="Tokens per minute.")
@click.option("--parallel", type=click.IntRange(1), metavar="N", help="Requests at the same time.")
@click.option("--workspace", metavar="SLUG", help="Where it belongs.  [default: the default workspace]")
@click.option("--member", metavar="M", help="Whose spending it is: id, address or exact name.  [default: nobody's]")
@placed
def keys_create(options: Options, **wanted: object) -> Report:
    """Create a key and show it, this once."""
    from modelgates_server.cli import keys as work

    return work.create(options, work.Wanted(**wanted))  # type: ignore[arg-type]


@keys.command("update")
@click.argument("key")
@click.option("--name", metavar="N", help="What people call the key.")
@click.option("--limit", metavar="USD", help='The most it may spend, such as "12.50"; none lifts the limit.')
@click.option("--limit-reset", type=click.Choice([*RESETS, "never"]), help="When its limit starts anew (UTC).")
@click.option("--include-byok/--exclude-byok", default=None, help="Whether own provider keys count against the limit.")
@click.option("--expires-at", metavar="T", help="RFC 3339 time in UTC; none lets it live on.")
@click.option("--rpm", metavar="N", help="Requests per minute, or none.")
@click.option("--tpm", metavar="N", help="Tokens per minute, or none.")
@click.option("--parallel", metavar="N", help="Requests at the same time, or none.")
@placed
def keys_update(options: Options, key: str, **wanted: object) -> Report:
    """Change a KEY (its hash, at least eight characters of it, or its exact name); what it used stays counted."""
    from modelgates_server.cli import keys as work

    return work.update(options, key, work.Changes(**wanted))  # type: ignore[arg-type]


@keys.command("list")
@placed
def keys_list(options: Options) -> Report:
    """List all keys with their limits and use."""
    from modelgates_server.cli import keys as work

    return work.show(options)


@keys.command("disable")
@click.argument("key")
@placed
def keys_disable(options: Options, key: str) -> Report:
    """Switch a KEY off: its hash, at least eight characters of it, or its exact name."""
    from modelgates_server.cli import keys as work

    return work.switch(options, key, disabled=True)


@keys.command("enable")
@click.argument("key")
@placed
def keys_enable(options: Options, key: str) -> Report:
    """Switch a KEY on again: its hash, at least eight characters of it, or its exact name."""
    from modelgates_server.cli import keys as work

    return work.switch(options, key, disabled=False)


@keys.command("delete")
@click.argument("key")
@placed
def keys_delete(options: Options, key: str) -> Report:
    """Delete a KEY for good: its hash, at least eight characters of it, or its exact name."""
    from modelgates_server.cli import keys as work

    return work.delete(options, key)


@family
def credits() -> None:  # noqa: A001 - the command's name
    """Show and change prepaid credit."""


@credits.command("show")
@placed
def credits_show(options: Options) -> Report:
    """Show what was granted, used, is held by open requests, and is left."""
    from modelgates_server.cli import credits as work

    return work.show(options)


@credits.command("list")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, metavar="N", help="How many.")
@placed
def credits_list(options: Options, limit: int) -> Report:
    """List what changed the credit, newest first; what requests used is in their receipts."""
    from modelgates_server.cli import credits as work

    return work.transactions(options, limit)


@credits.command("grant")
@click.argument("usd")
@_noted
@placed
def credits_grant(options: Options, usd: str, note: str) -> Report:
    """Add USD (such as 25 or 12.50) to the credit."""
    from modelgates_server.cli import credits as work

    return work.grant(options, usd, note)


@credits.command("adjust")
@click.argument("usd")
@click.option("--down", is_flag=True, help="Take the amount away instead of adding it.")
@_noted
@placed
def credits_adjust(options: Options, usd: str, down: bool, note: str) -> Report:  # noqa: FBT001 - the option itself
    """Adjust the credit by USD, such as after a mistake in a grant."""
    from modelgates_server.cli import credits as work

    return work.adjust(options, usd, note, down=down)


@credits.command("refund")
@click.argument("generation")
@click.option("--amount", metavar="USD", help="A part of it.  [default: all that is left of its charge]")
@_noted
@placed
def credits_refund(options: Options, generation: str, amount: str | None, note: str) -> Report:
    """Give back what a GENERATION (its id) was charged."""
    from modelgates_server.cli import credits as work

    return work.refund(options, generation, amount, note)


@credits.command("transfer")
@click.argument("usd")
@click.option("--from", "giver", metavar="ORG", help="Who gives: id or exact name.  [default: the first organization]")
@click.option("--to", "receiver", required=True, metavar="ORG", help="Who receives.")
@_noted
@common
def credits_transfer(options: Options, usd: str, giver: str | None, receiver: str, note: str) -> Report:
    """Move USD that is neither used nor held by open requests from one organization to another."""
    from modelgates_server.cli import credits as work

    return work.transfer(options, usd, work.Ends(giver, receiver), note)


@credits.command("topup")
@click.option("--threshold", metavar="USD", help="Top up when the balance falls below this.")
@click.option("--amount", metavar="USD", help="How much to add each time.")
@click.option("--monthly-max", metavar="USD", help="The most to add in a month (UTC); none lifts it.")
@click.option("--on/--off", "enabled", default=None, help="Whether the rule is followed.")
@placed
def credits_topup(options: Options, **wanted: object) -> Report:
    """Show the rule by which credit is added, or change it."""
    from modelgates_server.cli import credits as work

    return work.topup(options, work.Rule(**wanted))  # type: ignore[arg-type]
