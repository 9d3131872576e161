"""One `[[providers]]` table while it is read. What a kind takes and needs is data (`catalogue/data/providers.json`)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

from modelgates_server.catalogue.kinds import Kind, Kinds
from modelgates_server.config.settings import PROVIDER_COMMON, PROVIDER_KEYS, SLUG, web_address
from modelgates_server.config.source import Source, hint
from modelgates_server.config.values import ProviderConfig, Secret
from modelgates_server.errors import ConfigError

KEY_HEADERS: Final = ("x-api-key", "bearer", "both")
HOSTINGS: Final = ("anthropic", "azure")
DATA_COLLECTION: Final = ("allow", "deny")

OUTPUT_TOKENS_MAX: Final = 1_000_000
"""More than any model writes: a larger limit is a mistake."""

_NOT_TEXT: Final = frozenset({"api_key", "key_header", "base_url", "admin_key"})
"""Settings of kinds that have a check of their own."""

_IDENTITIES: Final = frozenset({"profile", "credentials", "client_id"})
"""Whoever names one of these wants that identity, and not a key that happens to be in the environment."""

_FORMS: Final[Mapping[str, tuple[str, str]]] = {
    "region": (r"[a-z0-9-]{2,40}", "the name of a region, such as us-east-1"),
    "project": (r"[a-z0-9][a-z0-9:.-]{1,99}", "a project's id, such as my-project"),
    "workspace_id": (r"[A-Za-z0-9_-]{1,100}", "the id of a workspace, such as wrkspc_0123"),
    "inference_profile": (
        r"(?:[a-z]+(?:-[a-z]+)?\.?)?",
        'the first word of inference profiles, such as global or eu, or ""',
    ),
    "resource": (r"[A-Za-z0-9-]{2,64}", "the name of the resource, without its domain"),
    "tenant_id": (r"[A-Za-z0-9.-]{1,100}", "the id of a tenant"),
    "client_id": (r"[A-Za-z0-9-]{1,100}", "the id of an identity's client"),
}
"""What addresses and paths are made of must not hold anything that means something there."""

_VERTEX_HOSTS: Final = {
    "global": "aiplatform.googleapis.com",
    "us": "aiplatform.us.rep.googleapis.com",
    "eu": "aiplatform.eu.rep.googleapis.com",
}


def vertex_host(region: str) -> str:
    """The host that serves a region of Vertex AI (providers 2)."""
    return _VERTEX_HOSTS.get(region, f"{region}-aiplatform.googleapis.com")


@dataclass(frozen=True, slots=True)
class Table:
    """A table, and how its errors are told. `variables` names where settings came from that stand in no file."""

    source: Source
    index: int
    table: dict[str, Any]
    kinds: Kinds
    warnings: list[str]
    with_keys: bool
    variables: Mapping[str, str] = field(default_factory=dict)

    def read(self) -> ProviderConfig:
        """Check everything. Raises ConfigError, with the line."""
        word = self._kind()
        self._refuse_unknown(self.kinds.find(word))
        traits = self.kinds.find(word, self._one_of("hosting", HOSTINGS, "anthropic"))
        settings = self._settings(traits)
        collects = traits.collects
        if "data_collection" in self.table:
            collects = self._one_of("data_collection", DATA_COLLECTION, "") == "allow"
        return ProviderConfig(
            slug=self._slug(word),
            kind=word,
            base_url=self._base_url(traits, settings),
            api_key=self._api_key(traits),
            key_header=self._one_of("key_header", KEY_HEADERS, "x-api-key"),
            models=self._models(),
            multiplier_ppm=self._multiplier_ppm(),
            traits=traits,
            settings=MappingProxyType(settings),
            zdr=self._flag("zdr", default=traits.zdr),
            collects=collects,
            max_output_tokens=self._max_output_tokens(),
            admin_key=self._secret("admin_key", self.table.get("admin_key")),
        )

    def _error(self, name: str, message: str, remedy: str | None = None) -> ConfigError:
        if name in self.variables:
            return ConfigError(f"{self.variables[name]}: {message}", remedy=remedy)
        return self.source.error(("providers", self.index, name), message, remedy)

    def _one_of(self, name: str, choices: tuple[str, ...], default: str) -> str:
        value = self.table.get(name, default)
        if value not in choices:
            raise self._error(name, f"{name} must be one of {', '.join(choices)}", hint(str(value), choices))
        return str(value)

    def _kind(self) -> str:
        words = self.kinds.words
        if self.table.get("kind") is None:
            remedy = f"add kind = {words[0]!r}, or one of {', '.join(words[1:])}"
            raise self._error("kind", "a provider needs a kind", remedy)
        return self._one_of("kind", words, "")

    def _refuse_unknown(self, kind: Kind) -> None:
        mine = [*PROVIDER_COMMON, *(() if kind.word == "sandbox" else ("base_url",)), *kind.settings]
        for name in self.table:
            if name in mine:
                continue
            if name in PROVIDER_KEYS:
                raise self._error(
                    name, f"a provider of the kind {kind.word!r} takes no {name}", f"it takes {', '.join(mine)}"
                )
            raise self._error(name, f"unknown setting {name!r} in [[providers]]", hint(name, mine))

    def _slug(self, word: str) -> str:
        value = self.table.get("slug", word)
        if not isinstance(value, str) or not SLUG.fullmatch(value):
            raise self._error("slug", "slug must be lower-case letters, digits and hyphens, such as anthropic")
        return value

    def _settings(self, kind: Kind) -> dict[str, str]:
        """The kind's own settings, with its defaults; what is needed may also come from the usual variable."""
        settings = dict(kind.defaults)
        if "inference_profile" in kind.settings:
            settings.setdefault("inference_profile", "global.")
        for name in kind.settings:
            if name in self.table and name not in _NOT_TEXT:
                settings[name] = self._text(name, self.table[name])
        for name in kind.required:
            if name in settings or name in _NOT_TEXT or self._only_in_address(kind, name):
                continue
            variable = _variable_for(kind, name)
            value = self.source.environ.get(variable, "").strip()
            if not value:
                also = f", or set {variable}" if variable else ""
                raise self._error(
                    name, f"a provider of the kind {kind.word!r} needs a {name}", f'add {name} = "…"{also}'
                )
            settings[name] = self._text(name, value)
        return settings

    def _only_in_address(self, kind: Kind, name: str) -> bool:
        """Whether a setting is of no use when the address is given: signatures, for one, need their region all the same."""
        return "base_url" in self.table and f"{{{name}}}" in kind.base_url and not kind.service

    def _text(self, name: str, value: Any) -> str:
        form, meaning = _FORMS.get(name, (r"[^\x00-\x1f]{1,1000}", "text on one line"))
        text = value.strip() if isinstance(value, str) else None
        if text is None or not re.fullmatch(form, text):
            raise self._error(name, f"{name} must be {meaning}")
        if name == "inference_profile":
            return f"{text.removesuffix('.')}." if text else ""
        if name == "credentials":
            path = self.source.folder / Path(text).expanduser()
            if self.with_keys and not path.is_file():
                raise self._error(name, f"there is no file {path}", "name a file with Google credentials (JSON)")
            return str(path)
        return text

    def _base_url(self, kind: Kind, settings: Mapping[str, str]) -> str:
        value = self.table.get("base_url")
        if value is None and "base_url" in kind.required:
            raise self._error("base_url", f"a provider of the kind {kind.word!r} needs a base_url")
        if value is None:
            try:
                return kind.base_url.format_map({**settings, "vertex_host": vertex_host(settings.get("region", ""))})
            except (KeyError, ValueError, IndexError) as error:
                raise self._error("kind", f"the address of the kind {kind.word!r} cannot be made: {error}") from error
        try:
            url = re.sub(r"(?:/+v1)+$", "", web_address(value)).rstrip("/")
        except ValueError as error:
            raise self._error("base_url", f"base_url must be {error}") from error
        parts = urlsplit(url)
        if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
            self.warnings.append(
                f"{url} is plain http off this machine: prompts and the key travel unprotected; use https"
            )
        return url

    def _api_key(self, kind: Kind) -> Secret | None:
        value = self.table.get("api_key")
        if "api_key" in kind.settings and value is None:
            variable = _variable_for(kind, "api_key")
            here = bool(self.source.environ.get(variable, "").strip()) and self.table.keys().isdisjoint(_IDENTITIES)
            if variable and (here or kind.auth == ("key",)):
                value = f"env:{variable}"
        return self._secret("api_key", value)

    def _secret(self, name: str, value: Any) -> Secret | None:
        """A key as the file gives it: where it is, or itself."""
        if value is None or not self.with_keys:
            return None
        if not isinstance(value, str) or not value.strip():
            raise self._error(name, f"{name} must be text: env:NAME, file:PATH, or the key itself")
        scheme, _, place = value.strip().partition(":")
        match scheme:
            case "env":
                text = self._variable(name, place.strip())
            case "file":
                text = self._file(name, place.strip())
            case _:
                text = value.strip()
                self.warnings.append(
                    f"{self.source.place(('providers', self.index, name))}the key itself stands in the file; "
                    f'write {name} = "env:NAME" or "file:PATH" instead'
                )  # fmt: skip
        if not re.fullmatch(r"[!-~]+", text):
            raise self._error(name, "the key holds spaces, line breaks or characters that no key has")
        return Secret(text)

    def _variable(self, name: str, variable: str) -> str:
        text = self.source.environ.get(variable, "").strip()
        if not text:
            state = "is empty" if variable in self.source.environ else "is not set"
            raise self._error(
                name, f"the environment variable {variable!r} {state}", f"export {variable or 'NAME'}=<the key>"
            )
        return text

    def _file(self, name: str, place: str) -> str:
        path = self.source.folder / Path(place)
        try:
            text = path.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise self._error(name, f"cannot read the key from {path}: {reason}") from error
        if not text:
            raise self._error(name, f"{path} is empty", "write the key into it")
        return text

    def _models(self) -> Mapping[str, str]:
        value = self.table.get("models", {})
        if not isinstance(value, dict) or not all(isinstance(name, str) and name for name in value.values()):
            raise self._error("models", "models must be a table of our model id = the provider's name")
        return MappingProxyType(dict(value))

    def _multiplier_ppm(self) -> int:
        value = self.table.get("price_multiplier", "1")
        try:
            scaled = Decimal(value if isinstance(value, str) else "") * 1_000_000
            exact = scaled.is_finite() and 0 < scaled <= 1_000_000_000 and scaled == scaled.to_integral_value()
        except InvalidOperation:
            exact = False
        if not exact:
            raise self._error(
                "price_multiplier", 'price_multiplier must be text such as "1" or "1.1", at most six decimal places'
            )
        return int(scaled)

    def _flag(self, name: str, *, default: bool) -> bool:
        value = self.table.get(name, default)
        if not isinstance(value, bool):
            raise self._error(name, f"{name} must be true or false")
        return value

    def _max_output_tokens(self) -> int | None:
        value = self.table.get("max_output_tokens")
        if value is not None and (type(value) is not int or not 0 < value <= OUTPUT_TOKENS_MAX):
            raise self._error("max_output_tokens", "max_output_tokens must be a whole number above 0, such as 32000")
        return value


def _variable_for(kind: Kind, setting: str) -> str:
    """The usual variable of a setting, or nothing."""
    return next((name for names in kind.environment for name, meant in names.items() if meant == setting), "")


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
