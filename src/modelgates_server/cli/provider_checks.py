"""The doctor's lines about providers: what each is, where it is, how we prove to it who we are, and whether we can."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from modelgates_server.cli.welcome import SANDBOX_NOTICE
from modelgates_server.config import extra_missing, install_command
from modelgates_server.doctor.finding import GREEN, RED, YELLOW, Check

if TYPE_CHECKING:
    from modelgates_server.config import Config, ProviderConfig

_WAYS: Final = {
    "key": "an API key",
    "aws": "AWS credentials",
    "google": "Google credentials",
    "azure": "Entra credentials",
    "": "no credential",
}


_PLACES: Final = ("region", "project", "resource", "workspace_id")


def provider_checks(config: Config) -> list[Check]:
    """One line for each provider; one for all when there is only the sandbox."""
    if config.sandbox:
        return [Check("providers", YELLOW, SANDBOX_NOTICE, "export ANTHROPIC_API_KEY=… and start again")]
    return [_check(provider) for provider in config.providers]


def _check(provider: ProviderConfig) -> Check:
    name = f"provider {provider.slug}"
    if provider.kind == "sandbox":
        return Check(name, GREEN, provider.traits.name)
    settings = provider.settings
    place = [settings[setting] for setting in _PLACES if settings.get(setting)]
    parts = [provider.traits.name, *place, f"with {_way(provider)}", f"at {provider.base_url}"]
    if extra_missing(provider.auth):
        told = f"{', '.join(parts)}: the library for these credentials is not installed"
        return Check(name, RED, told, install_command(provider.auth))
    return Check(name, GREEN, ", ".join(parts))


def _way(provider: ProviderConfig) -> str:
    way = _WAYS[provider.auth]
    if profile := provider.settings.get("profile"):
        return f"{way} of the profile {profile}" if provider.auth == "aws" else way
    if file := provider.settings.get("credentials"):
        return f"{way} from {file}"
    return way
