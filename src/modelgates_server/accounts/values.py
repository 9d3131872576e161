"""Who asks, as the rest of the gateway sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from modelgates_server.limits import MeterRef


class KeyClass(StrEnum):
    """Two kinds of key, two planes (design decision 17): inference keys cannot manage, management keys cannot infer."""

    INFERENCE = "inference"
    MANAGEMENT = "management"


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class CredentialRef:
    """One of the organisation's own provider keys, still sealed, with what opening it needs (`vault/envelope.py`).

    `base_url` is the only address that it may be sent to. `salt` is that of the key-encryption key, empty when that is gone.
    `version` is another one for another key. None in a filter allows all; `models` are slugs. Callers share it, and what is made
    with it lives as long as it does.
    """

    id: str
    organization_id: str
    provider: str
    base_url: str
    sealed: str = field(repr=False)
    kek_id: str
    salt: bytes = field(repr=False)
    version: str
    is_fallback: bool = False
    sort_order: int = 0
    workspace_id: str | None = None
    models: frozenset[str] | None = None
    key_hashes: frozenset[str] | None = None
    member_ids: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Keeping:
    """That prompts and answers are kept, by which rule of the workspace: for how long, and of how many requests in a million."""

    rule: str
    retention_s: int
    sampling_ppm: int


@dataclass(frozen=True, slots=True)
class Wrapping:
    """The key-encryption key that is current, as serving processes know it: its id and its salt (`vault/envelope.py`)."""

    kek_id: str
    salt: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Caller:
    """A live key and everything that is decided by it, read under one `policy_version`.

    `meters` are in the order in which a refusal names them (`accounts/policy.py`). `app_meters` are those of the requests of apps that
    have budgets, by the app's name: ask `meters_for`. `allowed_models` are slugs, None allows all; `ignored_models` are left out of
    them: ask `may_use`. Models of the makers in `retention_free` are served only where nothing is kept (`maker_of`). `routing` holds
    provider preferences as JSON, the guardrails' before the workspace's before the key's. `expires_at_s` is Unix seconds or None;
    whoever uses a Caller checks it against the clock. `credentials` are the organisation's own provider keys that may serve it, in
    the order of trying. `keeping` is None unless its workspace opted in to keeping prompts and answers.
    """

    organization_id: str
    workspace_id: str
    member_id: str | None
    key_hash: str
    key_name: str
    key_class: KeyClass
    policy_version: int
    meters: tuple[MeterRef, ...]
    allowed_models: frozenset[str] | None = None
    routing: tuple[bytes, ...] = ()
    expires_at_s: int | None = None
    app_meters: Mapping[str, tuple[MeterRef, ...]] = field(default_factory=dict)
    ignored_models: frozenset[str] = frozenset()
    retention_free: frozenset[str] = frozenset()
    credentials: tuple[CredentialRef, ...] = ()
    keeping: Keeping | None = None

    def meters_for(self, app: str | None) -> tuple[MeterRef, ...]:
        """Every meter that a request of `app` passes."""
        return self.app_meters.get(app, self.meters) if self.app_meters and app is not None else self.meters

    def goes_where(self, other: Caller) -> bool:
        """Whether requests of both may go to the same models and places, and belong to the same: what they may spend may differ."""
        return (
            self.workspace_id == other.workspace_id
            and self.keeping == other.keeping
            and self.routing == other.routing
            and self.allowed_models == other.allowed_models
            and self.ignored_models == other.ignored_models
            and self.retention_free == other.retention_free
            and self.credentials == other.credentials
        )

    def may_use(self, slug: str) -> bool:
        """Whether the policy lets the caller use a model."""
        return slug not in self.ignored_models and (self.allowed_models is None or slug in self.allowed_models)


MAKERS = {"anthropic": "anthropic", "openai": "openai", "google": "google", "x-ai": "xai"}
"""Makers of models by the first part of their slugs, in the words of guardrails; everybody else is ``other``."""


def maker_of(slug: str) -> str:
    """Tell whose model a slug names, in the words of guardrails."""
    return MAKERS.get(slug.partition("/")[0], "other")
