"""The commands of `activity` and `audit`: words and options. What they do stands in modules that are loaded when it is done."""

# ruff: noqa: PLC0415 - a command that is not called costs nothing

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from modelgates_server.cli.frame import Options, Report, common, family, placed

BY: Final = ("model", "key", "member", "workspace", "provider")
DAYS_MAX: Final = 366


@family
def activity() -> None:
    """Show and export what was used, by whom, at what cost."""


@activity.command("show")
@click.option(
    "--days", type=click.IntRange(1, DAYS_MAX), default=30, show_default=True, metavar="N", help="Days, today included."
)
@click.option("--by", type=click.Choice(BY), default="model", show_default=True, help="What to break it down by.")
@placed
def activity_show(options: Options, days: int, by: str) -> Report:
    """Show requests, tokens and spending, the dearest first."""
    from modelgates_server.cli import activity as work

    return work.show(options, days, by)


@activity.command("export")
@click.option(
    "--csv", "target", required=True, type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Where to."
)
@click.option("--from", "first", metavar="DAY", help="First day (UTC), such as 2026-11-25.  [default: 30 days ago]")
@click.option("--to", "last", metavar="DAY", help="Last day.  [default: yesterday]")
@placed
def activity_export(options: Options, target: Path, first: str | None, last: str | None) -> Report:
    """Write use by day, model, provider, key, member and workspace into a file."""
    from modelgates_server.cli import activity as work

    return work.export(options, target, first, last)


@family
def audit() -> None:
    """Show, prove and take away the log of all changes."""


@audit.command("list")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, metavar="N", help="How many.")
@click.option("--action", metavar="WHAT", help="Only this, such as key.create.")
@click.option("--actor", metavar="WHO", help="Only what this one did.")
@click.option("--target", metavar="ID", help="Only what was done to this.")
@placed
def audit_list(options: Options, limit: int, action: str | None, actor: str | None, target: str | None) -> Report:
    """List changes, newest first."""
    from modelgates_server.cli import audit as work

    return work.show(options, limit, work.AuditFilter(action, actor, target))


@audit.command("verify")
@click.option(
    "--export",
    "file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="Prove also that the log still begins with what `audit export` wrote.",
)
@common
def audit_verify(options: Options, file: Path | None) -> Report:
    """Check that no change was altered, removed, added or moved. Exit 1 if one was."""
    from modelgates_server.cli import audit as work

    return work.verify(options, file)


@audit.command("export")
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE")
@common
def audit_export(options: Options, target: Path) -> Report:
    """Write all changes into FILE, one JSON object a line, with the chain's head signed at the end.

    Keep it where whoever can write to the database cannot: it proves later that nothing was cut off.
    """
    from modelgates_server.cli import audit as work

    return work.export(options, target)
