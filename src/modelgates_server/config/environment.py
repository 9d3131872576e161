"""Providers without a `[[providers]]` table: those that the usual environment variables describe, or the sandbox.

Which variables those are is data (`environment` of each kind). `ANTHROPIC_BASE_URL` is not among them: it is how the client
on the same machine finds this gateway.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from modelgates_server.catalogue.kinds import VARIANT_MARK, Kind, Kinds
from modelgates_server.config.extras import extra_missing, install_command
from modelgates_server.config.source import Source
from modelgates_server.config.table import Table
from modelgates_server.config.values import ProviderConfig

_OUR_KEY: Final = "sk-mg-"
_SECRETS: Final = frozenset({"api_key", "admin_key"})


def discovered(source: Source, kinds: Kinds, warnings: list[str]) -> tuple[ProviderConfig, ...]:
    """One provider for each kind that has a complete set of variables, in the order of the data. Raises ConfigError."""
    environ = {name: value.strip() for name, value in source.environ.items() if value.strip()}
    _set_our_keys_aside(environ, kinds, warnings)
    found = []
    for kind in kinds.kinds.values():
        if not kind.environment or VARIANT_MARK in kind.id:
            continue
        complete = next((names for names in kind.environment if environ.keys() >= names.keys()), None)
        if complete is None:
            warnings += _nearly(kind, environ)
        elif (provider := _provider(source, kinds, kind, complete, warnings)) is not None:
            found.append(provider)
    return tuple(found) or (_read(source, kinds, "sandbox", {}, warnings),)


def _set_our_keys_aside(environ: dict[str, str], kinds: Kinds, warnings: list[str]) -> None:
    keys = {
        name
        for kind in kinds.kinds.values()
        for names in kind.environment
        for name in names
        if names[name] == "api_key"
    }
    for name in sorted(keys & environ.keys()):
        if environ[name].startswith(_OUR_KEY):
            warnings.append(f"{name} holds a ModelGates key, not one of a provider; it is not used")
            del environ[name]


def _nearly(kind: Kind, environ: Mapping[str, str]) -> list[str]:
    """A key that is there while something else is missing was meant to be used."""
    for names in kind.environment:
        key = next((name for name, setting in names.items() if setting == "api_key"), None)
        if key is not None and key in environ:
            others = " and ".join(name for name in names if name not in environ)
            return [f"{key} is set, but {others} is not: {kind.name} is not used"]
    return []


def _provider(
    source: Source, kinds: Kinds, kind: Kind, names: Mapping[str, str], warnings: list[str]
) -> ProviderConfig | None:
    """A provider whose library is missing was perhaps not meant: AWS variables are there for many reasons."""
    provider = _read(source, kinds, kind.word, {setting: name for name, setting in names.items() if setting}, warnings)
    if not extra_missing(provider.auth):
        return provider
    warnings.append(
        f"{' and '.join(names)} describe {kind.name}, but the library for its credentials is not installed; "
        f"it is not used. To use it: {install_command(provider.auth)}"
    )
    return None


def _read(source: Source, kinds: Kinds, word: str, variables: Mapping[str, str], warnings: list[str]) -> ProviderConfig:
    """Read variables as if they stood in a table."""
    table: dict[str, Any] = {"kind": word}
    for setting, name in variables.items():
        table[setting] = f"env:{name}" if setting in _SECRETS else source.environ[name].strip()
    return Table(source, 0, table, kinds, warnings, with_keys=True, variables=variables).read()
