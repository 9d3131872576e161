"""What the set-up pages show for one connection: the values of the app's form, and blocks of text to copy."""

from __future__ import annotations

from dataclasses import dataclass

from modelgates_server.console.recipes import code, desktop, sdk
from modelgates_server.console.recipes.values import Connection, Listed


@dataclass(frozen=True, slots=True)
class FormValue:
    """A field of Claude Desktop's form and what to type into it."""

    field: str
    value: str


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of text to copy. `id` is its element's; `note` says what to do with it."""

    id: str
    title: str
    text: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class DesktopTexts:
    """Claude Desktop: the form's values, and the list that the files carry."""

    form: tuple[FormValue, ...]
    models: tuple[Listed, ...]
    linux_path: str = desktop.LINUX_PATH
    registry_key: str = desktop.REGISTRY_KEY
    domain: str = desktop.DOMAIN


@dataclass(frozen=True, slots=True)
class OtherVariable:
    """A further variable of Claude Code."""

    name: str
    value: str
    what: str


@dataclass(frozen=True, slots=True)
class CodeTexts:
    """Claude Code: the same three variables for each shell and as a file, and what else there is to choose."""

    shells: tuple[Block, ...]
    settings: Block
    roles: tuple[Block, ...]
    extras: tuple[Block, ...]
    workflow: Block
    secret: str
    others: tuple[OtherVariable, ...]


@dataclass(frozen=True, slots=True)
class SdkTexts:
    """SDKs: the variable with the key, and a program each."""

    variable: Block
    programs: tuple[Block, ...]


def desktop_texts(connection: Connection) -> DesktopTexts:
    """For the page of Claude Desktop."""
    return DesktopTexts(tuple(FormValue(*pair) for pair in desktop.form_values(connection)), connection.listed)


def code_texts(connection: Connection) -> CodeTexts:
    """For the page of Claude Code."""
    variables = code.variables(connection)
    fast = code.shell(code.FAST)
    return CodeTexts(
        shells=(
            Block("sh", "bash, zsh", code.shell(variables), "Paste it into the terminal; to keep it, into ~/.zshrc or ~/.bashrc."),
            Block("powershell", "PowerShell", code.powershell(variables), "To keep it, put it into the file that $PROFILE names."),
            Block("fish", "fish", code.fish(variables), "To keep it, put it into ~/.config/fish/config.fish."),
        ),
        settings=Block("settings", "~/.claude/settings.json", code.settings_file(variables).decode()),
        roles=(
            Block(
                "pinned", "One model for each role", code.shell(code.pinned_roles(connection)),
                "Claude Code knows these ids: their prices, their limits, and fast mode.",
            ),
            Block(
                "latest", "Always the newest of each family", code.shell(code.latest_roles(connection)),
                "New models come by themselves. Claude Code does not know these names: it cannot reckon prices itself,"
                " takes 32,000 tokens for the longest answer, and offers no fast mode.",
            ),
        ),
        extras=(
            Block("fast", "Fast mode", fast, "Lets /fast work through a gateway, for the Opus models that have it. It costs more."),
            Block(
                "discovery", "Models of this gateway in /model", code.shell(code.DISCOVERY),
                "Claude Code asks for the list at an interactive start, and shows what its own list lacks as 'From gateway'.",
            ),
        ),
        workflow=Block(
            "workflow", ".github/workflows/claude.yml", code.github_workflow(connection),
            "The runner must reach the gateway. Give the workflow a key of its own, with a limit.",
        ),
        secret=code.SECRET,
        others=tuple(OtherVariable(*one) for one in code.OTHERS),
    )  # fmt: skip


def sdk_texts(connection: Connection) -> SdkTexts:
    """For the page of the SDKs."""
    return SdkTexts(
        variable=Block("variable", "The key", sdk.key_variable(connection), "Every program below reads it."),
        programs=(
            Block("python", "Python", sdk.python(connection), "pip install anthropic"),
            Block("typescript", "TypeScript", sdk.typescript(connection), "npm install @anthropic-ai/sdk"),
            Block("curl", "curl", sdk.curl(connection)),
            Block("agent-python", "Agent SDK, Python", sdk.agent_python(connection), "pip install claude-agent-sdk"),
            Block(
                "agent-typescript", "Agent SDK, TypeScript", sdk.agent_typescript(connection),
                "npm install @anthropic-ai/claude-agent-sdk",
            ),
        ),
    )  # fmt: skip
