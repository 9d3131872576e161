"""Who asks, as the rest of the gateway sees it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from modelgates_server.limits import MeterRef


class KeyClass(StrEnum):
    """Two kinds of key, two planes (design decision 17): inference keys cannot manage, management keys cannot infer."""

    INFERENCE = "inference"
    MANAGEMENT = "management"


@dataclass(frozen=True, slots=True)
class Caller:
    """A live key and everything that is decided by it, read under one `policy_version`.

    `meters` are in the order in which a refusal names them: rates first, then member, workspace, key, organisation credit.
    `allowed_models` are slugs, None allows all. `routing` holds provider preferences as JSON, the workspace's before the key's.
    `expires_at_s` is Unix seconds or None; whoever uses a Caller checks it against the clock.
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
