"""The command line: every command, its options and its help. What a command does is in the file of its noun.

Those files are imported when their command runs: `modelgates --help` must not wait for a database library.
"""
# ruff: noqa: PLC0415 - see above

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from modelgates_server import __version__
from modelgates_server.cli import groups, groups_alerts, groups_byok, groups_limits, groups_people, records
from modelgates_server.cli.frame import EXIT_INTERRUPTED, Family, Options, Report, common, fail, placed, time_span_s
from modelgates_server.errors import ModelGatesError

if TYPE_CHECKING:
    from collections.abc import Callable

_EXITS_HELP = (
    "Exit codes: 0 done, 1 failed or red, 2 usage or configuration, 3 store unreachable, locked or not there yet"
    " (run `modelgates init`), 4 not found."
)

REPORT_IT = "this is a mistake in ModelGates: please report it with the lines above"


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code; usage errors obey ``--json`` like all others."""
    words = sys.argv[1:] if arguments is None else arguments
    as_json = "--json" in words
    try:
        result = modelgates.main(words, prog_name="modelgates", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return error.exit_code
    except (ModelGatesError, click.ClickException) as error:
        return fail(error, as_json=as_json)
    except click.Abort:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `modelgates keys list | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - a mistake of ours: whoever reads JSON must still get an error as JSON
        traceback.print_exc()
        return fail(ModelGatesError(f"{type(error).__name__}: {error}", remedy=REPORT_IT), as_json=as_json)
    return result if isinstance(result, int) else 0


@click.group(
    cls=Family, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}, epilog=_EXITS_HELP
)
@click.version_option(__version__, message="modelgates %(version)s")
def modelgates() -> None:
    """ModelGates: a self-hosted gateway between Claude clients and the places that serve Claude."""


@modelgates.command()
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; 0 takes any free one.  [default: 8787]")
@click.option("--workers", type=click.IntRange(1), help="Serving processes.  [default: 1]")
@click.option("--tls-cert", type=click.Path(path_type=Path), metavar="F", help="Certificate chain (PEM).")
@click.option("--tls-key", type=click.Path(path_type=Path), metavar="F", help="Private key of the certificate (PEM).")
@common
def serve(
    options: Options,
    host: str | None,
    port: int | None,
    workers: int | None,
    tls_cert: Path | None,
    tls_key: Path | None,
) -> int:
    """Serve until stopped.

    On an empty database it first does what `init` does, and shows the key, this once.
    """
    from modelgates_server.cli import serve as work

    flags = {"host": host, "port": port, "workers": workers, "tls_cert": tls_cert, "tls_key": tls_key}
    return work.serve(options, {name: value for name, value in flags.items() if value is not None})


@modelgates.command()
@common
def init(options: Options) -> Report:
    """Set up the database and the first keys, once.

    Makes the database, the first administrator, the first keys and the initial credit. Later calls change nothing but
    give a fresh sign-in link.
    """
    from modelgates_server.cli import setup

    return setup.init(options)


modelgates.add_command(groups.keys)
modelgates.add_command(groups.credits)
modelgates.add_command(records.activity)
modelgates.add_command(records.audit)
modelgates.add_command(groups_byok.credentials)
modelgates.add_command(groups_byok.secrets)
modelgates.add_command(groups_people.organizations)
modelgates.add_command(groups_people.members)
modelgates.add_command(groups_people.workspaces)
modelgates.add_command(groups_limits.guardrails)
modelgates.add_command(groups_limits.budgets)
modelgates.add_command(groups_limits.rates)
modelgates.add_command(groups_alerts.alerts)


@modelgates.group()
def routing() -> None:
    """Say which providers answer for a key or a workspace, and in which order."""


def _scope(command: Callable[..., int]) -> Callable[..., int]:
    """Whose preferences: of a key, or of all keys of a workspace."""
    whose = click.option(
        "--key", metavar="KEY", help="A key: its hash, at least eight characters of it, or its exact name."
    )
    where = click.option(
        "--workspace", metavar="SLUG", help="All keys of a workspace.  [default: the default workspace]"
    )
    return whose(where(command))


@routing.command("show")
@_scope
@placed
def routing_show(options: Options, key: str | None, workspace: str | None) -> Report:
    """Show preferences, and the order that they make of the configured providers."""
    from modelgates_server.cli import routing as work

    return work.show(options, key, workspace)


@routing.command("set")
@_scope
@click.option("--order", metavar="A,B", help="Try these first, in this order; the others follow.")
@click.option("--only", metavar="A,B", help="Try no others.")
@click.option("--ignore", metavar="A,B", help="Never try these.")
@click.option("--sort", type=click.Choice(["price", "latency", "throughput", "none"]), help="Best first by a measure.")
@click.option("--fallbacks/--no-fallbacks", default=None, help="Whether others may take over.  [default: they may]")
@click.option("--zdr/--no-zdr", default=None, help="Only providers with zero data retention.")
@click.option("--data-collection", type=click.Choice(["allow", "deny"]), help="deny: nobody who keeps prompts.")
@click.option("--max-price-prompt", metavar="USD", help="Most per million prompt tokens.")
@click.option("--max-price-completion", metavar="USD", help="Most per million completion tokens.")
@click.option(
    "--require-parameters/--no-require-parameters", default=None, help="Only those that take every parameter."
)
@click.option("--clear", is_flag=True, help="Take all preferences back first.")
@placed
def routing_set(options: Options, key: str | None, workspace: str | None, **wanted: Any) -> Report:
    """Change the preferences that are given, and leave the others; an empty value takes one back.

    A, B are slugs of providers, or kinds, or slug/region. A key's preferences stand on top of its workspace's: its lists of
    --only narrow, those of --ignore add up, promises stay, the rest is replaced.
    """
    from modelgates_server.cli import routing as work

    return work.change(options, key, workspace, work.Wanted(**wanted))


@modelgates.command()
@click.option("--url", metavar="URL", help="Base URL of a gateway: replay what Claude clients do there.")
@click.option("--key", metavar="KEY", help="API key for the replay; it spends a few thousandths of a cent.")
@common
def doctor(options: Options, url: str | None, key: str | None) -> Report:
    """Check this installation, or a gateway.

    Without --url: configuration, secret, database, credit, providers, and the server if it runs. With --url (and --key):
    what Claude Desktop and Claude Code do at that gateway, step by step. Exit 1 if anything is red.
    """
    from modelgates_server.cli import doctor as work

    return work.doctor(options, url, key)


@modelgates.command()
@click.argument("generation", metavar="GEN_ID")
@common
def explain(options: Options, generation: str) -> Report:
    """Tell the story of one request.

    Who asked, which model and provider and why, each attempt, and the bill line by line.
    """
    from modelgates_server.cli import explain as work

    return work.explain(options, generation)


@modelgates.command()
@click.option(
    "--since", type=time_span_s, default="1d", show_default=True, metavar="T", help="How far back: 15m, 6h, 1d, 2w."
)
@click.option(
    "--limit", type=click.IntRange(0), default=10, show_default=True, metavar="N", help="Most examples to name."
)
@common
def replay(options: Options, since: float, limit: int) -> Report:
    """Plan recorded requests again under another configuration.

    Tells what --config F would have changed: which requests would have gone elsewhere first, at what cost, and which
    nobody could have served. It reads only. With a new file that keeps its database elsewhere, name --data-dir.
    """
    from modelgates_server.cli import replanning as work

    return work.replay(options, since, limit)


@modelgates.command()
@click.option("--from", "first", metavar="DAY", help="First day (UTC), such as 2026-11-25.  [default: a week ago]")
@click.option("--to", "last", metavar="DAY", help="Last day.  [default: yesterday]")
@click.option("--provider", metavar="SLUG", help="Only this provider's account.  [default: all with an admin_key]")
@common
def reconcile(options: Options, first: str | None, last: str | None, provider: str | None) -> Report:
    """Compare the books with the providers' own usage and cost reports, by day and model.

    Needs an admin_key in the [[providers]] table. A day counts once it is a day old. Exit 1 when more than a thousandth of a
    line is explained by nothing: not by estimates, attempts of unknown fate, or the turn of the day.
    """
    from modelgates_server.cli import reconcile as work

    return work.compare(options, first, last, provider)


@modelgates.command()
@click.option("--port", type=click.IntRange(0, 65535), required=True, metavar="P", help="Port; 0 takes any free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--wire", default="anthropic", show_default=True, metavar="KIND", help="Whose wire it speaks.")
@click.option("--key", "keys", multiple=True, metavar="KEY", help="A key it accepts; repeatable. Without it, any.")
@common
def simulate(options: Options, port: int, host: str, wire: str, keys: tuple[str, ...]) -> int:
    """Run a stand-in for a provider of Claude.

    It answers without a model, with faults on demand. KIND is anthropic, claude-on-aws, bedrock, bedrock-invoke,
    vertex, foundry or compatible.
    """
    from modelgates_server.cli import simulate as work

    return work.simulate(options, host, port, wire, keys)


@modelgates.group()
def db() -> None:
    """Create, upgrade, check, back up, restore and move the database."""


@db.command("upgrade")
@common
def db_upgrade(options: Options) -> Report:
    """Create the database, or bring it to this version's schema."""
    from modelgates_server.cli import database

    return database.upgrade(options)


@db.command("check")
@common
def db_check(options: Options) -> Report:
    """Check that every sum in the books agrees. Exit 1 if not."""
    from modelgates_server.cli import database

    return database.check(options)


@db.command("backup")
@click.argument("target", type=click.Path(path_type=Path), required=False)
@common
def db_backup(options: Options, target: Path | None) -> Report:
    """Copy the database to TARGET, by default into the data directory, while it is in use."""
    from modelgates_server.cli import database

    return database.backup(options, target)


@db.command("restore")
@click.argument("source", type=click.Path(path_type=Path), metavar="FILE")
@common
def db_restore(options: Options, source: Path) -> Report:
    """Make an empty database what FILE says.

    FILE is a copy that `db backup` made, of either kind of database and of this version or an older one.
    """
    from modelgates_server.cli import database

    return database.restore(options, source)


@db.command("move")
@click.option("--to", required=True, metavar="URL", help="An empty database: postgresql://user:password@host/name")
@common
def db_move(options: Options, to: str) -> Report:
    """Move everything from SQLite to PostgreSQL, and prove both equal.

    Stop the server first. Until everything is there and proven, nothing is; afterwards the old file is served no more.
    """
    from modelgates_server.cli import database

    return database.move(options, to)
