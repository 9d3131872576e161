"""Whether an endpoint can do what a request needs, and what must be taken out of it there (providers 2 and 4). Pure.

What a request uses is read once from its top-level members, its tools and its betas; the facts about kinds are data
(`catalogue/kinds.py`). What a provider's own refusals taught in the last hour counts like data.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

import msgspec

from modelgates_server.catalogue.kinds import Feature, Kind, Kinds
from modelgates_server.catalogue.models import Endpoint
from modelgates_server.dialects.edit import GATEWAY_EXTRAS
from modelgates_server.dialects.scan import scan_object
from modelgates_server.dialects.shape import looked_through
from modelgates_server.dialects.values import FALLBACKS_BETA, Ask
from modelgates_server.errors import BadRequest

LEARNED_S: Final = 3600.0
"""How long a refusal is remembered (providers 6.3)."""

LEARNED_MAX: Final = 1000


_ADAPTERS_OWN: Final = frozenset({"model", "stream"})
"""Members that an adapter moves elsewhere when its wire does not have them."""


class Needs(msgspec.Struct, frozen=True):
    """What a request uses beyond plain messages: feature ids, beta names, and its top-level members where those matter."""

    features: tuple[str, ...] = ()
    betas: tuple[str, ...] = ()
    members: frozenset[str] = frozenset()
    body_bytes: int = 0


class Adaptation(msgspec.Struct, frozen=True):
    """What is different about a request at an endpoint.

    `betas` are those to send; `drop` and `cuts` remove members and members of members; `inside` names edits within large members;
    `told` says in words what the request loses there.
    """

    betas: tuple[str, ...] = ()
    drop: frozenset[str] = frozenset()
    cuts: tuple[tuple[str, str], ...] = ()
    inside: tuple[str, ...] = ()
    told: tuple[str, ...] = ()


class Fit(msgspec.Struct, frozen=True):
    """`missing` names what the endpoint cannot do, empty when it can serve; `behind`: others would serve better."""

    adaptation: Adaptation
    missing: str = ""
    code: str = ""
    behind: bool = False


class Fitter:
    """Reads needs and fits them to endpoints. Made once from the data; holds only what refusals taught.

    `served` are the kinds that are configured: what only others care about is not looked at. Left out, all are.
    """

    def __init__(self, kinds: Kinds, served: Iterable[Kind] | None = None) -> None:
        self._kinds = kinds.kinds
        self._features = kinds.features
        self._by_field: dict[str, list[tuple[str, Feature]]] = {}
        for feature in kinds.features.values():
            for field in feature.fields:
                top, _, sub = field.partition(".")
                self._by_field.setdefault(top, []).append((sub, feature))
        self._fields = frozenset(self._by_field)
        self._tools = [(prefix, feature.id) for feature in kinds.features.values() for prefix in feature.tools]
        self._shapes = [(feature.shape, feature.id) for feature in kinds.features.values() if feature.shape]
        self._inside = [feature.id for feature in kinds.features.values() if feature.inside and not feature.fields]
        served = tuple(kinds.kinds.values() if served is None else served)
        self._tables = any(kind.fields is not None for kind in served)
        self._bytes_least = min((kind.body_bytes_max for kind in served), default=0)
        self._learned: dict[tuple[str, str, str], float] = {}
        self._fit = lru_cache(maxsize=512)(self._fitted)

    def needs(self, ask: Ask, betas: Iterable[str]) -> Needs:
        """What a request uses. A beta alone uses nothing: clients send them by habit."""
        used = dict.fromkeys(self._inside)
        for top in self._fields.intersection(ask.spans):
            used.update((feature.id, None) for sub, feature in self._by_field[top] if _has(ask, top, sub))
        shape = ask.shape
        for tool in shape.tool_types:
            used.update((feature, None) for prefix, feature in self._tools if tool.startswith(prefix))
        if shape.has_files or shape.has_urls or shape.has_callers:
            shape = looked_through(ask)
            used.update((feature, None) for flag, feature in self._shapes if getattr(shape, flag))
        if ask.speed != "fast":
            used.pop("fast_mode", None)
        elif "fast_mode" in self._features:
            used["fast_mode"] = None  # also when only the name of a `-fast` model says so
        named = tuple(dict.fromkeys(betas))
        if not any(FALLBACKS_BETA in beta for beta in named):
            used.pop("server_fallbacks", None)  # without its beta the field is ours
        members = frozenset(ask.spans.keys() - GATEWAY_EXTRAS) if self._tables else frozenset()
        return Needs(tuple(name for name in self._features if name in used), named, members, shape.body_bytes)

    def fit(self, needs: Needs, endpoint: Endpoint, now_s: float) -> Fit:
        """How an endpoint fits."""
        kind = endpoint.traits
        if needs.body_bytes > kind.body_bytes_max:
            size = f"a request of {needs.body_bytes:,} bytes, above its {kind.body_bytes_max:,}"
            return Fit(Adaptation(), size, "request_size")
        taught = self._taught(endpoint, now_s) if self._learned else frozenset()
        members = needs.members if kind.fields is not None or taught else frozenset()
        return self._fit(kind.id, endpoint.model.id, needs.features, needs.betas, members, taught)

    def settled(self, needs: Needs) -> bool:
        """Whether fits depend on nothing but needs and endpoints: nothing was learnt, and everybody takes the size."""
        return not self._learned and needs.body_bytes <= self._bytes_least

    def learn(self, endpoint: Endpoint, refused: str, now_s: float) -> None:
        """Remember for an hour what a provider refused: ``beta:NAME``, ``field:NAME`` or a feature's id."""
        if len(self._learned) >= LEARNED_MAX:
            del self._learned[next(iter(self._learned))]
        self._learned[endpoint.provider, endpoint.model.slug, refused] = now_s + LEARNED_S

    def refused(self, message: str, needs: Needs, ask: Ask) -> str | None:
        """What the words of a capability refusal mean, of the things that the request has (see `learn`)."""
        for beta in needs.betas:
            if beta in message:
                return f"beta:{beta}"
        for name in _NAMES.findall(message):
            top, _, rest = name.replace("`", "").partition(".")
            for sub, feature in self._by_field.get(top, ()):
                if feature.id in needs.features and (not sub or rest.startswith(sub)):
                    return feature.id
            if top in ask.spans and top not in _ESSENTIAL and not rest:
                return f"field:{top}"
        said = message.replace("_", " ")
        for used in needs.features:
            words = f"{used.replace('_', ' ')}|{self._features[used].what}"
            if re.search(rf"\b(?:{words})\b", said, re.IGNORECASE):
                return used
        return None

    def _taught(self, endpoint: Endpoint, now_s: float) -> frozenset[str]:
        for key in [key for key, until_s in self._learned.items() if until_s <= now_s]:
            del self._learned[key]
        provider, model = endpoint.provider, endpoint.model.slug
        return frozenset(what for where, name, what in self._learned if (where, name) == (provider, model))

    def _fitted(
        self,
        kind_id: str,
        model_id: str,
        features: tuple[str, ...],
        betas: tuple[str, ...],
        members: frozenset[str],
        taught: frozenset[str],
    ) -> Fit:
        kind = self._kinds[kind_id]
        drop, cuts, inside, told = set[str](), list[tuple[str, str]](), list[str](), list[str]()
        lost_betas = {entry.removeprefix("beta:") for entry in taught if entry.startswith("beta:")}
        behind = False
        for name in features:
            feature = self._features[name]
            refused = name in taught or not lost_betas.isdisjoint(feature.betas)
            if not refused and not kind.lacking(name, model_id):
                continue
            if feature.effect == "answer":
                return Fit(Adaptation(), feature.what, "require_parameters")
            behind |= feature.effect == "prefer"
            lost_betas.update(feature.betas)
            if feature.inside:
                inside.append(feature.inside)
            else:
                told.append(feature.what)
            for field in feature.fields:
                top, _, sub = field.partition(".")
                if sub:
                    cuts.append((top, sub))
                else:
                    drop.add(top)
        unknown = {entry.removeprefix("field:") for entry in taught if entry.startswith("field:")}.intersection(members)
        if kind.fields is not None:
            unknown |= set(members) - kind.fields - _ADAPTERS_OWN - drop
        told += sorted(unknown - drop)
        drop |= unknown
        sent = [name for beta in betas for name in kind.betas.sent(beta) if lost_betas.isdisjoint((beta, name))]
        return Fit(
            Adaptation(tuple(dict.fromkeys(sent)), frozenset(drop), tuple(cuts), tuple(inside), tuple(told)),
            behind=behind,
        )


_NAMES: Final = re.compile(r"`?([a-z_]+(?:\.[a-z_0-9]+)*)`?(?=:|`|\b)")
_ESSENTIAL: Final = frozenset({"model", "messages", "system", "tools", "max_tokens", "stream", "thinking"})


def _has(ask: Ask, top: str, sub: str) -> bool:
    """Whether a member, or a member of it, is there and says something."""
    start, end = ask.spans[top]
    if ask.body.startswith(b"null", start):
        return False
    if not sub:
        return True
    if ask.body[start] != ord("{"):
        return False
    try:
        inner: Mapping[str, tuple[int, int]] = scan_object(ask.body, start, end)
    except BadRequest:
        return False  # the upstream will say so
    return sub in inner and not ask.body.startswith(b"null", inner[sub][0])
