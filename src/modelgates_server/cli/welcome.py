"""What a new installation tells its owner: where it is, how to sign in, what to paste into which client. Pure.

Sources: product-surface 3.1 and 3.3, client-protocol D-1 and section 9.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlsplit

from modelgates_server.cli.address import Addresses
from modelgates_server.cli.output import facts, indented
from modelgates_server.doctor.address import base_url

SANDBOX_NOTICE: Final = (
    "no provider key found: answers come from the built-in sandbox, at list price, not from a model."
    " Set ANTHROPIC_API_KEY or a [[providers]] table for real ones."
)
NOWHERE: Final = Addresses("", "")
YOUR_KEY: Final = "<your key>"
SHOWN_ONCE: Final = "Keys are shown once and stored nowhere: copy them now."


@dataclass(frozen=True, slots=True)
class Credentials:
    """What `init` makes. The keys are None when the database was initialised before; `addresses` are those of its server."""

    organization_id: str
    api_key: str | None
    management_key: str | None
    sign_in_url: str | None
    already_initialised: bool
    addresses: Addresses = NOWHERE

    def at(self, origin: str) -> Credentials:
        """The same, with the sign-in link at the address where the server really is (port 0 takes any)."""
        if self.sign_in_url is None:
            return self
        path = urlsplit(self.sign_in_url)
        return replace(self, sign_in_url=f"{origin.rstrip('/')}{path.path}?{path.query}")

    def as_data(self) -> dict[str, Any]:
        """Give the contract of ``init --json`` (design section 6)."""
        return {
            "api_key": self.api_key,
            "management_key": self.management_key,
            "sign_in_url": self.sign_in_url,
            "organization_id": self.organization_id,
            "already_initialised": self.already_initialised,
        }


def welcome(at: Addresses, credentials: Credentials) -> str:
    """Everything that a new installation needs, ready to copy."""
    key = credentials.api_key or YOUR_KEY
    pairs = [
        ("Console", at.console),
        ("Sign in", f"{credentials.sign_in_url}  (once, within 24 hours)"),
        ("Set-up", f"{at.console}/setup  (every client, step by step)"),
    ]
    if credentials.api_key is not None:
        pairs.append(("API key", credentials.api_key))
    if credentials.management_key is not None:
        pairs.append(("Management", f"{credentials.management_key}  (manages, cannot infer)"))
    parts = [facts(pairs)]
    if credentials.api_key is not None:
        parts.append(SHOWN_ONCE)
    return "\n\n".join([*parts, clients(at.clients, key)])


def clients(origin: str, key: str) -> str:
    """Write the set-up of Claude Desktop and Claude Code."""
    desktop = facts(
        (
            ("Provider", "Gateway (Anthropic-compatible)"),
            ("Base URL", base_url(origin)),
            ("API key", key),
            ("Auth scheme", "bearer"),
        )
    )
    code = "\n".join(
        (
            f'export ANTHROPIC_BASE_URL="{base_url(origin)}"',
            f'export ANTHROPIC_AUTH_TOKEN="{key}"',
            'export ANTHROPIC_API_KEY=""',
        )
    )
    return (
        "Claude Desktop: Developer > Configure Third-Party Inference, then quit fully and reopen\n"
        f"{indented(desktop)}\n\nClaude Code\n{indented(code)}"
    )


def addresses(at: Addresses) -> str:
    """Write what a later start prints."""
    return facts(
        (
            ("Console", f"{at.console}  (modelgates init prints a sign-in link)"),
            ("Set-up", f"{at.console}/setup"),
            ("Base URL", base_url(at.clients)),
        )
    )


def ready(at: Addresses) -> str:
    """Write the line that says that the server answers."""
    beside = f", its console and management API at {at.console}" if at.apart else ""
    return f"ModelGates is ready at {at.clients}{beside}"
