"""Claude Desktop: its managed configuration for macOS, Windows and Linux, and the values of its own form.

Sources: client-protocol D-1, D-7, D-8; product-surface 3.1. In a macOS profile and in the Windows registry every value is a string,
and a list is JSON in a string: a native array is the mistake that the app's documentation warns of. Linux reads JSON itself.
"""

from __future__ import annotations

import plistlib
import uuid
from typing import Any, Final

from modelgates_server.console.recipes.values import Connection, Listed, compact, indented

DOMAIN: Final = "com.anthropic.claudefordesktop"
REGISTRY_KEY: Final = r"HKEY_LOCAL_MACHINE\SOFTWARE\Policies\Claude"
LINUX_PATH: Final = "/etc/claude-desktop/managed-settings.json"

PROFILE_FILE: Final = "modelgates-claude-desktop.mobileconfig"
REGISTRY_FILE: Final = "modelgates-claude-desktop.reg"
LINUX_FILE: Final = "managed-settings.json"

PROFILE_TYPE: Final = "application/x-apple-aspen-config"
REGISTRY_TYPE: Final = "application/octet-stream"
LINUX_TYPE: Final = "application/json"

BACKEND: Final = "Gateway (Anthropic-compatible)"
SCHEME: Final = "bearer"


def settings(connection: Connection) -> dict[str, Any]:
    """The keys that make the app use this gateway, with their values as JSON has them."""
    found: dict[str, Any] = {
        "inferenceProvider": "gateway",
        "inferenceCredentialKind": "static",
        "inferenceGatewayBaseUrl": connection.base_url,
        "inferenceGatewayApiKey": connection.key,
        "inferenceGatewayAuthScheme": SCHEME,
    }
    if connection.discovery or not connection.models:
        return found | {"modelDiscoveryEnabled": True}
    return found | {"modelDiscoveryEnabled": False, "inferenceModels": model_list(connection)}


def model_list(connection: Connection) -> list[dict[str, Any]]:
    """The entries of `inferenceModels`; what is false is left out, as the app writes them itself."""
    return [_entry(model) for model in connection.listed]


def form_values(connection: Connection) -> tuple[tuple[str, str], ...]:
    """The fields of Developer > Configure Third-Party Inference, in their order, with what to type."""
    return (
        ("Inference provider", BACKEND),
        ("Gateway base URL", connection.base_url),
        ("Gateway API key", connection.key),
        ("Gateway auth scheme", SCHEME),
    )


def profile(connection: Connection, organization: str) -> bytes:
    """A configuration profile for macOS, to be opened or given out by device management.

    Its identifiers are always the same, so that a newer one replaces it.
    """
    payload = {
        "PayloadType": DOMAIN,
        "PayloadIdentifier": f"{DOMAIN}.settings",
        "PayloadUUID": _uuid(connection, "payload"),
        "PayloadVersion": 1,
        "PayloadDisplayName": "Claude Desktop",
        **_strings(connection),
    }
    whole = {
        "PayloadContent": [payload],
        "PayloadDisplayName": "Claude Desktop through ModelGates",
        "PayloadDescription": f"Claude Desktop asks {connection.base_url}. The profile holds a key: treat it as one.",
        "PayloadIdentifier": "org.modelgates.claude-desktop",
        "PayloadOrganization": organization,
        "PayloadType": "Configuration",
        "PayloadUUID": _uuid(connection, "profile"),
        "PayloadVersion": 1,
    }
    return plistlib.dumps(whole, sort_keys=False)


def registry(connection: Connection) -> bytes:
    """A registry file for Windows, in UTF-16 with its mark, as regedit writes them itself; `reg import` takes it too."""
    rows = [f'"{name}"="{_escaped(value)}"' for name, value in _strings(connection).items()]
    text = "\r\n".join(["Windows Registry Editor Version 5.00", "", f"[{REGISTRY_KEY}]", *rows, "", ""])
    return b"\xff\xfe" + text.encode("utf-16-le")


def linux(connection: Connection) -> bytes:
    """The file that the app reads on Linux."""
    return indented(settings(connection)).encode()


def _entry(model: Listed) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": model.name, "labelOverride": model.label}
    if model.supports_1m:
        entry["supports1m"] = True
    if model.tier is not None:
        entry["anthropicFamilyTier"] = model.tier
    if model.is_default:
        entry["isFamilyDefault"] = True
    return entry


def _strings(connection: Connection) -> dict[str, str]:
    """The settings as a preference store keeps them: strings, and JSON in strings."""
    return {name: value if isinstance(value, str) else compact(value) for name, value in settings(connection).items()}


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')


def _uuid(connection: Connection, part: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{connection.base_url}#{part}")).upper()
