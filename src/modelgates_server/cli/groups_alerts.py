"""The commands of `alerts`: words and options. What they do stands in `cli/alerts.py`."""

# ruff: noqa: PLC0415 - a command that is not called costs nothing

from __future__ import annotations

import click

from modelgates_server.cli.frame import Options, Report, family, placed


@family
def alerts() -> None:
    """See what was alerted, and say where alerts go and when."""


@alerts.command("list")
@click.option("--all", "everything", is_flag=True, help="Also those that somebody saw to, or that are over.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, metavar="N", help="Most to show.")
@placed
def alerts_list(options: Options, everything: bool, limit: int) -> Report:  # noqa: FBT001 - an option
    """List alerts, newest first, with where they could not be delivered."""
    from modelgates_server.cli import alerts as work

    return work.show(options, limit, everything=everything)


@alerts.command("acknowledge")
@click.argument("alert")
@placed
def alerts_acknowledge(options: Options, alert: str) -> Report:
    """Say that somebody sees to an ALERT (its id): it leaves the list."""
    from modelgates_server.cli import alerts as work

    return work.acknowledge(options, alert)


@alerts.command("settings")
@click.option("--thresholds", metavar="P,P", help="Percent of a limit, such as 50,80,95; none for no alerts, default.")
@click.option("--low-balance", metavar="USD", help="Tell when the credit falls below this; none for no alert.")
@placed
def alerts_settings(options: Options, thresholds: str | None, low_balance: str | None) -> Report:
    """Show when the organization is told, and change what is given."""
    from modelgates_server.cli import alerts as work

    return work.settings(options, thresholds, low_balance)


@alerts.group("channels")
def channels() -> None:
    """Where the organization's alerts go."""


@channels.command("add")
@click.option("--webhook", metavar="URL", help="Post them, signed, to an https URL.")
@click.option("--email", metavar="ADDRESS", help="Mail them to an address.")
@placed
def channels_add(options: Options, webhook: str | None, email: str | None) -> Report:
    """Add a channel; a webhook's signing secret is shown this once."""
    from modelgates_server.cli import alerts as work

    return work.add(options, webhook, email)


@channels.command("list")
@placed
def channels_list(options: Options) -> Report:
    """List the channels."""
    from modelgates_server.cli import alerts as work

    return work.list_channels(options)


@channels.command("remove")
@click.argument("channel")
@placed
def channels_remove(options: Options, channel: str) -> Report:
    """Remove a CHANNEL (its id), and what still waits to be sent there."""
    from modelgates_server.cli import alerts as work

    return work.remove(options, channel)


@channels.command("test")
@click.argument("channel")
@placed
def channels_test(options: Options, channel: str) -> Report:
    """Send a test through a CHANNEL (its id) now. Exit 1 if it is not taken."""
    from modelgates_server.cli import alerts as work

    return work.test(options, channel)
