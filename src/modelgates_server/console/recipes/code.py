"""Claude Code: variables for three shells, its settings file, the roles of models, a GitHub workflow, the status line.

Sources: client-protocol 9; product-surface 3.3 and 3.4. `ANTHROPIC_API_KEY` is set to the empty text on purpose: a key of
another account that is left there would be sent beside ours.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from importlib import resources
from typing import Any, Final, NamedTuple

from modelgates_server.console.recipes.values import Connection, indented, lines

SETTINGS_FILE: Final = "settings.json"
SETTINGS_TYPE: Final = "application/json"
STATUS_LINE_FILE: Final = "modelgates-status-line.py"
STATUS_LINE_TYPE: Final = "text/x-python"
STATUS_LINE_COMMAND: Final = f"python3 ~/.claude/{STATUS_LINE_FILE}"
SECRET: Final = "MODELGATES_API_KEY"  # noqa: S105 - the name of a GitHub secret, not one

SCHEMA: Final = "https://json.schemastore.org/claude-code-settings.json"

ROLES: Final = {
    "opus": "ANTHROPIC_DEFAULT_OPUS_MODEL",
    "sonnet": "ANTHROPIC_DEFAULT_SONNET_MODEL",
    "haiku": "ANTHROPIC_DEFAULT_HAIKU_MODEL",
    "fable": "ANTHROPIC_DEFAULT_FABLE_MODEL",
}
"""What Claude Code asks for when somebody chooses a family, by that family."""

SUBAGENTS: Final = "CLAUDE_CODE_SUBAGENT_MODEL"
FAST: Final = {"CLAUDE_CODE_SKIP_FAST_MODE_ORG_CHECK": "1"}
DISCOVERY: Final = {"CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY": "1"}


class Variable(NamedTuple):
    """Another variable of Claude Code: its name, a value that makes sense here, and what it does."""

    name: str
    value: str
    what: str


OTHERS: Final = (
    Variable(
        "CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK", "1",
        "After a stream that broke off, do not send the same request again without streaming: nothing is paid twice.",
    ),
    Variable(
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1",
        "No telemetry, no error reports, no update check: a plain run then talks to this gateway only.",
    ),
    Variable(
        "CLAUDE_CODE_GATEWAY_HINT_HEADERS", "1", "Say what kind of request each is, so that logs can group one prompt's requests.",
    ),
    Variable(
        "ANTHROPIC_CUSTOM_HEADERS", "X-Title: my-project",
        "Further headers. X-Title names the app: activity can then be grouped by it, and it may have a budget.",
    ),
    Variable(
        "CLAUDE_CODE_USE_GATEWAY", "1",
        "Show what is left of the budget: the gateway says it in every answer. It also changes the default model.",
    ),
    Variable(
        "CLAUDE_CODE_MAX_RETRIES", "10",
        "How often a request that failed is sent again. The gateway tries other providers by itself.",
    ),
    Variable("API_TIMEOUT_MS", "600000", "How long to wait for an answer, in milliseconds."),
    Variable("ENABLE_TOOL_SEARCH", "true", "Load the definitions of MCP tools only when they are needed."),
    Variable(
        "CLAUDE_CODE_DISABLE_EXPERIMENTAL_BETAS", "1",
        "Leave experimental features out of requests. Needed only where every provider refuses them.",
    ),
    Variable(
        "CLAUDE_CODE_ATTRIBUTION_HEADER", "0",
        "Leave out the first line of the system prompt, which changes with each version. Only for providers that cache by prefix.",
    ),
    Variable("CLAUDE_CODE_AUTO_MODE_SERVER", "0", "Let auto mode's safety check run as an ordinary request."),
)  # fmt: skip
"""Source: client-protocol 9."""


def variables(connection: Connection) -> dict[str, str]:
    """What Claude Code needs, and no more: its own default models are served by their names."""
    return {
        "ANTHROPIC_BASE_URL": connection.base_url,
        "ANTHROPIC_AUTH_TOKEN": connection.key,
        "ANTHROPIC_API_KEY": "",
    }


def latest_roles(connection: Connection) -> dict[str, str]:
    """Every role as the alias of the newest model of its family: new models come by themselves. Only families that are served."""
    served = {tier: name for tier, name in ROLES.items() if connection.newest(tier) is not None}
    roles = {name: f"~anthropic/claude-{tier}-latest" for tier, name in served.items()}
    return roles | ({SUBAGENTS: "~anthropic/claude-sonnet-latest"} if "sonnet" in served else {})


def pinned_roles(connection: Connection) -> dict[str, str]:
    """Every role as one model by its id: nothing changes by itself, and fast mode knows the model."""
    roles = {name: newest for tier, name in ROLES.items() if (newest := connection.newest(tier)) is not None}
    sonnet = connection.newest("sonnet")
    return roles | ({SUBAGENTS: sonnet} if sonnet is not None else {})


def shell(values: Mapping[str, str]) -> str:
    """For bash, zsh and every other POSIX shell."""
    return lines(f"export {name}={shlex.quote(value)}" for name, value in values.items())


def powershell(values: Mapping[str, str]) -> str:
    """For PowerShell: text in single quotes, which are doubled inside."""
    return lines("$env:{} = '{}'".format(name, value.replace("'", "''")) for name, value in values.items())


def fish(values: Mapping[str, str]) -> str:
    """For fish: in single quotes only the quote and the backslash mean something."""
    escaped = {name: value.replace("\\", "\\\\").replace("'", "\\'") for name, value in values.items()}
    return lines(f"set -gx {name} '{value}'" for name, value in escaped.items())


def settings_file(values: Mapping[str, str], *, status_line: bool = False) -> bytes:
    """``~/.claude/settings.json``, for every project of one person."""
    told: dict[str, Any] = {"$schema": SCHEMA, "env": dict(values)}
    if status_line:
        told["statusLine"] = {"type": "command", "command": STATUS_LINE_COMMAND}
    return indented(told).encode()


def github_workflow(connection: Connection) -> str:
    """A workflow that lets Claude answer in issues and pull requests. It reads the key from a secret of the repository."""
    secret = f"${{{{ secrets.{SECRET} }}}}"
    return lines(
        "name: Claude",
        "on:",
        "  issue_comment:",
        "    types: [created]",
        "  pull_request_review_comment:",
        "    types: [created]",
        "jobs:",
        "  claude:",
        "    if: contains(github.event.comment.body, '@claude')",
        "    runs-on: ubuntu-latest",
        "    permissions:",
        "      contents: write",
        "      pull-requests: write",
        "      issues: write",
        "      id-token: write",
        "    steps:",
        "      - uses: actions/checkout@v5",
        "      - uses: anthropics/claude-code-action@v1",
        "        with:",
        f"          anthropic_api_key: {secret}",
        "        env:",
        f"          ANTHROPIC_BASE_URL: {_yaml(connection.base_url)}",
        f"          ANTHROPIC_AUTH_TOKEN: {secret}",
    )


def status_line() -> bytes:
    """The script that shows in Claude Code what a session cost."""
    return resources.files("modelgates_server.console").joinpath("recipes", "status_line.txt").read_bytes()


def _yaml(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
