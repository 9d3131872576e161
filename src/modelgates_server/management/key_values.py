"""A key as it is asked for and as it is stored, and what it may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from modelgates_server.accounts import keys
from modelgates_server.accounts.values import KeyClass
from modelgates_server.errors import BadRequest
from modelgates_server.limits import LIMIT_RESETS, MeterRef, Scope, Unit, Window
from modelgates_server.management.names import stored_name
from modelgates_server.management.spent import check_limit

RATE_MAX = 10**9
EXPIRES_WITHIN_S: Final = 100 * 366 * 86_400
"""A hundred years: whoever wants longer wants a key that never ends. Beyond the year 9999 a time cannot even be written."""


@dataclass(frozen=True, slots=True)
class NewKey:
    """What is asked for. Amounts in nano-USD, `limit_reset` daily, weekly, monthly or None (never), times in Unix seconds.

    `workspace_id` may be its slug; without it the key belongs to the organisation's oldest workspace. `allowed_models` are
    slugs; None allows all. `routing` holds provider preferences as JSON (see `workspaces.stored_routing`).
    """

    name: str
    key_class: KeyClass = KeyClass.INFERENCE
    limit_nusd: int | None = None
    limit_reset: str | None = None
    expires_at_s: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    workspace_id: str | None = None
    member_id: str | None = None
    allowed_models: tuple[str, ...] | None = None
    parallel_max: int | None = None
    include_byok_in_limit: bool = False
    routing: str | None = None


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key as it is stored. `hash` is its public name; `label` is the masked form that people know it by.

    `routing` holds its provider preferences as JSON, None when it has none.
    """

    hash: str
    organization_id: str
    workspace_id: str
    member_id: str | None
    name: str
    label: str
    key_class: KeyClass
    disabled: bool
    limit_nusd: int | None
    limit_reset: str | None
    requests_per_minute: int | None
    tokens_per_minute: int | None
    allowed_models: tuple[str, ...] | None
    expires_at_s: int | None
    created_at_s: int
    updated_at_s: int
    routing: str | None
    parallel_max: int | None
    include_byok_in_limit: bool

    @property
    def limit_meter(self) -> MeterRef:
        """The meter that carries the key's own limit: that of its window, or of its lifetime."""
        window = LIMIT_RESETS.get(self.limit_reset or "", Window.LIFE)
        unit = Unit.SPEND if self.include_byok_in_limit else Unit.NUSD
        return MeterRef(Scope.KEY, self.hash, unit, window, self.limit_nusd)


@dataclass(frozen=True, slots=True)
class KeyFilter:
    """Which keys a list is about; None and true let all pass. An expired key is one whose `expires_at_s` has come.

    Without `everywhere` only those of one workspace: by its id or slug, or the default one.
    """

    everywhere: bool = True
    workspace_id: str | None = None
    key_class: KeyClass | None = None
    disabled: bool = True
    expired: bool = True


CHANGEABLE: Final = frozenset(
    {
        "name",
        "disabled",
        "limit_nusd",
        "limit_reset",
        "include_byok_in_limit",
        "expires_at_s",
        "requests_per_minute",
        "tokens_per_minute",
        "parallel_max",
        "allowed_models",
        "workspace_id",
        "routing",
    }
)
"""What `update_key` may set, by the names of `KeyRow`."""


def check_new(wanted: NewKey, now_s: int) -> None:
    """Refuse a key that makes no sense, with BadRequest."""
    key_name(wanted.name)
    check_reset(wanted.limit_nusd, wanted.limit_reset)
    check_rates(wanted.requests_per_minute, wanted.tokens_per_minute, wanted.parallel_max)
    check_expiry(wanted.expires_at_s, now_s)
    check_routing(wanted.key_class, wanted.routing)


def key_name(name: str) -> str:
    """The name as it is stored. Raises BadRequest, also for one that is a key."""
    if keys.well_formed(name.strip()) is not None:
        raise BadRequest("the name is a key; a key is not written anywhere, so it cannot be a name")
    return stored_name("a key", name)


def check_expiry(expires_at_s: int | None, now_s: int) -> None:
    """Refuse an expiry that has passed, or that nobody will live to see."""
    if expires_at_s is None:
        return
    if expires_at_s <= now_s:
        raise BadRequest("the expiry is in the past")
    if expires_at_s > now_s + EXPIRES_WITHIN_S:
        raise BadRequest("the expiry is more than a hundred years away; without one the key never ends")


def check_reset(limit_nusd: int | None, limit_reset: str | None) -> None:
    """Refuse a limit that cannot be, or one that starts again although there is none."""
    check_limit(limit_nusd)
    if limit_reset is None:
        return
    if limit_reset not in LIMIT_RESETS:
        raise BadRequest(f"limit_reset must be one of {', '.join(LIMIT_RESETS)}, or be left out")
    if limit_nusd is None:
        raise BadRequest("limit_reset says how often a limit starts again, so it needs a limit")


def check_routing(key_class: KeyClass, routing: str | None) -> None:
    """Refuse provider preferences of a key that is never routed."""
    if routing is not None and key_class is not KeyClass.INFERENCE:
        raise BadRequest("a management key sends no requests, so it has no routing; name an inference key")


def check_rates(*rates: int | None) -> None:
    """Refuse rates, and counts of parallel requests, that cannot be."""
    for rate in rates:
        if rate is not None and not 1 <= rate <= RATE_MAX:
            raise BadRequest(f"a rate must be from 1 to {RATE_MAX} a minute; to stop a key altogether, disable it")
