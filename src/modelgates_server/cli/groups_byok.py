"""The commands of `credentials` and `secrets`: words and options. What they do stands in `cli/byok.py`."""

# ruff: noqa: PLC0415 - a command that is not called costs nothing

from __future__ import annotations

import click

from modelgates_server.cli.frame import Options, Report, common, family, placed


@family
def credentials() -> None:
    """Store the organization's own provider keys (BYOK); requests served with them use no credit."""


@credentials.command("add")
@click.option("--provider", required=True, metavar="SLUG", help="The configured provider whose key it stands in for.")
@click.option("--key-from", metavar="SOURCE", help="env:NAME or file:PATH.  [default: a prompt, or standard input]")
@click.option("--name", default="", metavar="N", help="What people call it.")
@click.option("--workspace", metavar="SLUG", help="Only for this workspace.  [default: for all]")
@click.option("--fallback", is_flag=True, help="Only after the operator's own account; without it, before.")
@click.option("--order", "sort_order", type=click.IntRange(0), default=0, metavar="N", help="Lower ones first.")
@click.option("--model", "models", multiple=True, metavar="M", help="Only for this model; repeatable.")
@click.option("--key", "keys", multiple=True, metavar="HASH", help="Only for this API key; repeatable.")
@click.option("--member", "members", multiple=True, metavar="ID", help="Only for this member; repeatable.")
@placed
def credentials_add(options: Options, **wanted: object) -> Report:
    """Store a provider's key. It is encrypted, and shown to nobody again."""
    from modelgates_server.cli import byok as work

    return work.add(options, work.Wanted(**wanted))  # type: ignore[arg-type]


@credentials.command("list")
@placed
def credentials_list(options: Options) -> Report:
    """List the keys, masked, in the order of trying."""
    from modelgates_server.cli import byok as work

    return work.show(options)


@credentials.command("disable")
@click.argument("credential")
@placed
def credentials_disable(options: Options, credential: str) -> Report:
    """Switch a CREDENTIAL off: its id or its exact name."""
    from modelgates_server.cli import byok as work

    return work.switch(options, credential, disabled=True)


@credentials.command("enable")
@click.argument("credential")
@placed
def credentials_enable(options: Options, credential: str) -> Report:
    """Switch a CREDENTIAL on again."""
    from modelgates_server.cli import byok as work

    return work.switch(options, credential, disabled=False)


@credentials.command("remove")
@click.argument("credential")
@placed
def credentials_remove(options: Options, credential: str) -> Report:
    """Delete a CREDENTIAL for good; what it served stays in the books."""
    from modelgates_server.cli import byok as work

    return work.remove(options, credential)


@family
def secrets() -> None:
    """Look after what encrypts stored secrets."""


@secrets.command("rotate")
@common
def secrets_rotate(options: Options) -> Report:
    """Wrap every stored secret by a new key-encryption key, and destroy the old one, while the server runs.

    Run it again if it was interrupted. Exit 1 when a secret could not be opened.
    """
    from modelgates_server.cli import byok as work

    return work.rotate(options)
