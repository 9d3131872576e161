"""What every recipe is made of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

MODELS_MAX: Final = 200
"""Claude Desktop takes no longer list (client-protocol D-7)."""

TIERS: Final = ("opus", "sonnet", "haiku", "fable", "mythos")
"""Families in the order of the list: the app's first choice is the first entry, and the dearest families are nobody's first choice."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A model as a client's list names it. `tier` is its Claude family; `is_default` says that it stands for its family."""

    name: str
    label: str
    tier: str | None = None
    supports_1m: bool = False
    is_default: bool = False


@dataclass(frozen=True, slots=True)
class Connection:
    """What a client must know: the base URL without ``/v1``, a key, and the models that the key may use.

    `discovery` lets Claude Desktop ask the gateway for its list at every start, instead of carrying one.
    """

    base_url: str
    key: str = field(repr=False)
    models: tuple[Listed, ...] = ()
    discovery: bool = False

    @property
    def listed(self) -> tuple[Listed, ...]:
        """The models in the order of Claude Desktop's list: families by `TIERS`, of each its default first."""
        ranked = sorted(self.models, key=lambda model: (_tier(model), not model.is_default))
        return tuple(ranked[:MODELS_MAX])

    def newest(self, tier: str) -> str | None:
        """The model that stands for a family."""
        return next((model.name for model in self.listed if model.tier == tier), None)


def compact(value: Any) -> str:
    """JSON on one line, as it stands inside another file's string."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def indented(value: Mapping[str, Any]) -> str:
    """JSON that people read and edit."""
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"


def lines(*parts: str | Iterable[str]) -> str:
    """Text of these lines, each ended."""
    flat: list[str] = []
    for part in parts:
        flat += [part] if isinstance(part, str) else part
    return "\n".join(flat) + "\n"


def _tier(model: Listed) -> int:
    return TIERS.index(model.tier) if model.tier in TIERS else len(TIERS)
