"""Kinds of provider as data: what each is called, needs, offers and refuses. Pure; `data/providers.json` is its content.

Sources: providers 2 (matrix) and 4 (betas). A *feature* is something a request may ask for beyond plain messages. Its `effect`
says what to do where it is missing: `answer` changes the answer, so the provider is skipped; `prefer` puts the provider behind
those that have it; `advisory` is taken out of the request. Header and body fields of a feature travel together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct, field

from modelgates_server.errors import ConfigError

VARIANT_MARK: Final = "@"
"""``foundry@azure`` is the kind `foundry` with the differences that its hosting on Azure makes."""

_T = TypeVar("_T")
_Id = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]


class Feature(Struct, frozen=True, forbid_unknown_fields=True):
    """Something a request may ask for.

    It is in use when one of `fields` (``top`` or ``top.sub``) or `tools` (prefixes of a tool's type) is there, or when the `shape`
    flag is set. `betas` belong to it; `inside` names an edit within large fields.
    """

    id: _Id
    effect: Literal["answer", "prefer", "advisory"]
    what: str
    fields: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    betas: tuple[str, ...] = ()
    shape: Literal["has_files", "has_urls", "has_callers"] | None = None
    inside: Literal["cache_control.scope", "attribution", "breakpoint", "turn_control"] | None = None


class Betas(Struct, frozen=True, forbid_unknown_fields=True):
    """Which `anthropic-beta` names a kind takes. `unlisted` ones pass where Anthropic itself answers."""

    unlisted: Literal["pass", "drop"] = "pass"
    passed: frozenset[str] = field(default=frozenset(), name="pass")
    drop: frozenset[str] = frozenset()
    rename: dict[str, tuple[str, ...]] = {}

    def sent(self, name: str) -> tuple[str, ...]:
        """What to send for a beta that the client named: itself, other names, or nothing."""
        if name in self.rename:
            return self.rename[name]
        if name in self.passed:
            return (name,)
        return () if name in self.drop or self.unlisted == "drop" else (name,)


class Kind(Struct, frozen=True, forbid_unknown_fields=True):
    """One kind of provider. `id` is what `kind = "…"` says in the configuration, with its variant.

    `operator` is who answers: only Anthropic's own errors are shown to clients unchanged. A fault that names a missing capability
    moves on to kinds of higher `rank` only. `fields`, when given, are the only top-level members of a body that the kind
    takes. `cancel` is `stops` or `bills_full` (design decision 5). `environment` lists sets of variables that configure it.
    """

    id: str = ""
    name: str = ""
    operator: Literal["anthropic", "aws", "google", "azure", "other"] = "anthropic"
    rank: int = 3
    aliases: tuple[str, ...] = ()
    base_url: str = ""
    settings: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    defaults: dict[str, str] = {}
    auth: tuple[Literal["key", "aws", "google", "azure"], ...] = ()
    service: str = ""
    environment: tuple[dict[str, str], ...] = ()
    model_name: str = "{id}"
    model_names: dict[str, str] = {}
    zdr: bool = False
    collects: bool = False
    body_bytes_max: int = 32 << 20
    image_bytes_max: int = 10 << 20
    cancel: Literal["stops", "bills_full"] = "stops"
    legacy_version_before: str = ""
    fields: frozenset[str] | None = None
    lacks: frozenset[str] = frozenset()
    lacks_for: dict[str, frozenset[str]] = {}
    lacks_but_for: dict[str, frozenset[str]] = {}
    betas: Betas = Betas()
    variants: dict[str, dict[str, Any]] = {}
    about: dict[str, Any] = {}

    @property
    def word(self) -> str:
        """The kind as the configuration writes it, without its variant."""
        return self.id.partition(VARIANT_MARK)[0]

    def lacking(self, feature: str, model_id: str) -> bool:
        """Whether a model of this kind cannot do a feature."""
        return (
            feature in self.lacks
            or model_id in self.lacks_for.get(feature, ())
            or (feature in self.lacks_but_for and model_id not in self.lacks_but_for[feature])
        )

    def upstream_name(self, model_id: str, settings: Mapping[str, str]) -> str:
        """What this kind calls a model; `settings` are the provider's own (region, inference_profile)."""
        return self.model_name.format_map({**settings, "id": self.model_names.get(model_id, model_id)})


LENIENT: Final = Kind(id="anthropic", name="Anthropic")
"""Takes everything: what an endpoint is unless somebody says otherwise."""


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    version: Annotated[str, Meta(min_length=1)]
    features: tuple[dict[str, Any], ...] = ()
    kinds: dict[str, dict[str, Any]] = {}


@dataclass(frozen=True, slots=True)
class Kinds:
    """All kinds by id (variants included), and all features by id in the order of the file."""

    version: str
    kinds: Mapping[str, Kind]
    features: Mapping[str, Feature]

    def find(self, word: str, variant: str | None = None) -> Kind:
        """The kind that a configuration means; a variant that the kind does not know is the kind itself."""
        return self.kinds.get(f"{word}{VARIANT_MARK}{variant}") or self.kinds[word]

    @property
    def words(self) -> tuple[str, ...]:
        """What `kind = "…"` may say."""
        return tuple(kind for kind in self.kinds if VARIANT_MARK not in kind)


def bundled_kinds() -> bytes:
    """The data file of this release."""
    return files("modelgates_server.catalogue").joinpath("data/providers.json").read_bytes()


def load_kinds(data: bytes, overrides: bytes | None = None) -> Kinds:
    """Read a data file; `overrides` is the operator's own: it replaces single fields of kinds and features by their names.

    Raises ConfigError naming the kind and the field.
    """
    file = _decode(data)
    raw_kinds, raw_features, version = dict(file.kinds), {entry["id"]: entry for entry in file.features}, file.version
    if overrides is not None:
        over = _decode(overrides)
        version = f"{version}+{over.version}"
        for name, entry in over.kinds.items():
            raw_kinds[name] = _merged(raw_kinds.get(name, {}), entry)
        for entry in over.features:
            raw_features[str(entry.get("id"))] = raw_features.get(str(entry.get("id")), {}) | entry
    features = {name: _convert(entry, Feature, f"feature {name}") for name, entry in raw_features.items()}
    kinds: dict[str, Kind] = {}
    for name, entry in raw_kinds.items():
        if VARIANT_MARK in name:
            raise ConfigError(f"the providers file: {name}: write it among the `variants` of its kind")
        kinds[name] = _convert({**entry, "id": name}, Kind, name)
        for variant, differences in kinds[name].variants.items():
            id_ = f"{name}{VARIANT_MARK}{variant}"
            kinds[id_] = _convert({**entry, **differences, "id": id_, "variants": {}}, Kind, id_)
    for kind in kinds.values():
        for feature in (*kind.lacks, *kind.lacks_for, *kind.lacks_but_for):
            if feature not in features:
                raise ConfigError(f"the providers file: {kind.id} lacks {feature!r}, which is no feature")
    return Kinds(version, MappingProxyType(kinds), MappingProxyType(features))


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """An operator adds a beta or a name without copying the whole table; lists are replaced."""
    merged = base | over
    for name, value in over.items():
        if isinstance(value, dict) and isinstance(base.get(name), dict):
            merged[name] = _merged(base[name], value)
    return merged


def _decode(data: bytes) -> _File:
    try:
        return msgspec.json.decode(data, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the providers file cannot be read: {error}") from error


def _convert(raw: dict[str, Any], kind: type[_T], where: str) -> _T:
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"the providers file: {where}: {error}") from error
