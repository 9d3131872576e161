"""Write the pages of docs/ that come from the code. `make docs` runs it; a test fails when a page is stale."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import click

from modelgates_server.cli.main import modelgates
from modelgates_server.config import settings_reference

HERE = Path(__file__).parent

CONFIGURATION = """# Configuration

*Generated from the code by `make docs`.*

ModelGates reads `./modelgates.toml`, or the file named by `--config` or `MODELGATES_CONFIG`. Without a file it runs on
defaults. Every setting is also an environment variable; a variable wins over the file (an empty one counts as unset), a flag
wins over both. An unknown key, a wrong type or a secret that cannot be read is refused at the start, with the line and a hint.

```toml
[server]
host = "127.0.0.1"
port = 8787

[[providers]]
slug = "anthropic"
kind = "anthropic"
api_key = "env:ANTHROPIC_API_KEY"
```

Without a `[[providers]]` table, the usual environment variables make providers, several together if they are complete (the
last column of the last table); without any of them, the built-in sandbox answers. [providers.md](providers.md) has a working
example for each kind.
`MODELGATES_SECRET` replaces `<data-dir>/secret.key`; `MODELGATES_DATA_DIR` is `--data-dir`.

"""

COMMANDS = """# Commands

*Generated from the code by `make docs`.*

"""


def beside(name: str) -> ModuleType:
    """A module of this folder, which is no package."""
    found = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    if found is None or found.loader is None:
        raise ImportError(name)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def pages() -> dict[str, Callable[[], str]]:
    """Every generated page by its file name, and what writes it."""
    return {
        "configuration.md": lambda: CONFIGURATION + settings_reference(),
        "commands.md": lambda: COMMANDS + _commands(),
        "errors.md": beside("generate_errors").page,
        "routes.md": beside("generate_routes").page,
    }


def _commands() -> str:
    parts: list[str] = []
    top = click.Context(modelgates, info_name="modelgates", max_content_width=100, terminal_width=100)
    _describe(top, modelgates, parts)
    return "\n".join(parts)


def _describe(context: click.Context, command: click.Command, parts: list[str]) -> None:
    if isinstance(command, click.Group):
        if context.parent is None:
            parts.append(f"```\n{command.get_help(context)}\n```\n")
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None:
                sub = click.Context(inner, info_name=name, parent=context, max_content_width=100, terminal_width=100)
                _describe(sub, inner, parts)
        return
    parts.append(f"## `{context.command_path}`\n\n```\n{command.get_help(context)}\n```\n")


def main() -> int:
    for name, write in pages().items():
        (HERE / name).write_text(write())
    return 0


if __name__ == "__main__":
    sys.exit(main())
