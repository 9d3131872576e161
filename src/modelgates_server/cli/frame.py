"""What all commands share: the options after their last word, one way to print, one way to fail.

Exit codes (design section 6): 0 done, 1 failed or red, 2 usage or configuration, 3 store unreachable, locked or not
there, 4 not found.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from modelgates_server.cli.output import encode
from modelgates_server.errors import BadRequest, ConfigError, ModelGatesError, NotFound, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

EXIT_FAILED, EXIT_USAGE, EXIT_STORE, EXIT_NOT_FOUND, EXIT_INTERRUPTED = 1, 2, 3, 4, 130

_EXITS: Final[tuple[tuple[type[Exception], int], ...]] = (
    (ConfigError, EXIT_USAGE),
    (BadRequest, EXIT_USAGE),
    (click.UsageError, EXIT_USAGE),
    (StoreError, EXIT_STORE),
    (NotFound, EXIT_NOT_FOUND),
)


@dataclass(frozen=True, slots=True)
class Options:
    """What every command accepts after its last word; `organization` is whose things it is about, None for the first's."""

    as_json: bool = False
    config: Path | None = None
    data_dir: Path | None = None
    database_url: str | None = None
    organization: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What a command has to say: `data` for ``--json``, `text` for people, and its exit code."""

    data: object
    text: str
    exit_code: int = 0


_SPAN: Final = re.compile(r"([1-9][0-9]{0,5})([mhdw])", re.ASCII)
_SPAN_S: Final = {"m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def time_span_s(text: str) -> float:
    """Read a time span such as ``15m``, ``6h``, ``1d`` or ``2w``. Raises UsageError."""
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        raise click.BadParameter(
            f"{text!r} is no time span; write a number and m, h, d or w, such as 15m, 6h, 1d or 2w"
        )
    return float(int(found[1]) * _SPAN_S[found[2]])


_COMMON: Final = (
    click.option("--json", "as_json", is_flag=True, help="Print exactly one JSON object on standard output."),
    click.option(
        "--config",
        type=click.Path(path_type=Path),
        metavar="F",
        help="Configuration file.  [default: ./modelgates.toml, if there is one]",
    ),
    click.option(
        "--data-dir",
        type=click.Path(path_type=Path),
        metavar="D",
        help="Where the database and the secret are.  [default: ./modelgates-data]",
    ),
    click.option("--database-url", metavar="U", help="Database.  [default: sqlite:///D/modelgates.db]"),
)


def common(command: Callable[..., Report | int]) -> Callable[..., int]:
    """Give a command the shared options as one `Options` in its first place, and print what it reports.

    A command that prints by itself returns its exit code instead of a Report.
    """

    @functools.wraps(command)
    def run(*, as_json: bool, config: Path | None, data_dir: Path | None, database_url: str | None, **own: Any) -> int:
        report = command(Options(as_json, config, data_dir, database_url), **own)
        if isinstance(report, int):
            return report
        click.echo(encode(report.data) if as_json else report.text)
        return report.exit_code

    for option in reversed(_COMMON):
        run = option(run)
    return run


def placed(command: Callable[..., Report]) -> Callable[..., int]:
    """Give a command the shared options, and whose things it is about."""

    @functools.wraps(command)
    def run(options: Options, organization: str | None, **own: Any) -> Report:
        return command(replace(options, organization=organization), **own)

    whose = click.option(
        "--organization", metavar="ORG", help="Another organization: its id or exact name.  [default: the first]"
    )
    return whose(common(run))


class Family(click.Group):
    """A group whose commands are listed with whole sentences: one that breaks off in the middle says nothing."""

    group_class = type

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list."""
        known = [(name, self.commands[name]) for name in self.list_commands(ctx)]
        lines = [(name, command.get_short_help_str(_SENTENCE_MAX)) for name, command in known if not command.hidden]
        with formatter.section("Commands"):
            formatter.write_dl(lines)


_SENTENCE_MAX: Final = 500


def family(command: Callable[..., object]) -> Family:
    """A group of commands, as a decorator."""
    return click.group(cls=Family)(command)


def warn(text: str) -> None:
    """Say something on standard error that does not stop the command."""
    click.echo(f"{click.style('warning:', fg='yellow')} {text}", err=True)


def fail(error: ModelGatesError | click.ClickException, *, as_json: bool) -> int:
    """Print an error on standard error, in words or as JSON, and give its exit code."""
    kind, message, remedy = _anatomy(error)
    if as_json:
        click.echo(encode({"error": {"type": kind, "message": message, "remedy": remedy}}), err=True)
    else:
        click.echo(f"{click.style('error:', fg='red')} {message}", err=True)
        if remedy:
            click.echo(f"  remedy: {remedy}", err=True)
    return exit_code(type(error))


def exit_code(kind: type[Exception]) -> int:
    """How a command ends that fails with an error of this class."""
    return next((code for known, code in _EXITS if issubclass(kind, known)), EXIT_FAILED)


def _anatomy(error: ModelGatesError | click.ClickException) -> tuple[str, str, str | None]:
    if isinstance(error, ModelGatesError):
        own = "InternalError" if type(error) is ModelGatesError else type(error).__name__
        return re.sub(r"(?<!^)(?=[A-Z])", "_", own).lower(), error.message, error.remedy
    context = error.ctx if isinstance(error, click.UsageError) else None
    remedy = f"see {context.command_path} --help" if context is not None else None
    return "usage_error", error.format_message(), remedy
