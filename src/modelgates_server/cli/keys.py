"""`keys`: create, list, change, switch and delete API keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelgates_server.accounts.values import KeyClass
from modelgates_server.cli.frame import Options, Report
from modelgates_server.cli.local import ACTOR, opened
from modelgates_server.cli.output import dollars, facts, in_usd, moment, noted, shortened
from modelgates_server.cli.people import owner_id, owner_names
from modelgates_server.cli.welcome import SHOWN_ONCE
from modelgates_server.errors import BadRequest
from modelgates_server.limits import Scope
from modelgates_server.management import describe, keys
from modelgates_server.management.key_values import NewKey
from modelgates_server.money import nusd_from_usd

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from modelgates_server.management.describe import KeyUse
    from modelgates_server.management.key_values import KeyRow

NONE = "none"
"""The word that takes a limit away."""

NAME_SHOWN = 21
"""With it a line fits into a terminal, whatever the amounts are."""

HASH_SHOWN = 12
"""Enough characters of a hash to name a key among thousands."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The options of ``keys create``, as they were written."""

    name: str
    management: bool = False
    limit: str | None = None
    limit_reset: str | None = None
    include_byok: bool = False
    expires_at: str | None = None
    rpm: int | None = None
    tpm: int | None = None
    parallel: int | None = None
    workspace: str | None = None
    member: str | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """The options of ``keys update``, as they were written; None leaves a thing as it is, ``none`` takes it away."""

    name: str | None = None
    limit: str | None = None
    limit_reset: str | None = None
    include_byok: bool | None = None
    expires_at: str | None = None
    rpm: str | None = None
    tpm: str | None = None
    parallel: str | None = None


def create(options: Options, wanted: Wanted) -> Report:
    """Make a key and show it, this once. Raises BadRequest for amounts and times that make no sense."""
    if wanted.limit_reset is not None and wanted.limit is None:
        raise BadRequest("--limit-reset needs a limit to reset", remedy="add --limit USD")
    with opened(options) as place:
        new = NewKey(
            name=wanted.name,
            key_class=KeyClass.MANAGEMENT if wanted.management else KeyClass.INFERENCE,
            limit_nusd=None if wanted.limit is None else nusd_from_usd(wanted.limit),
            limit_reset=wanted.limit_reset,
            include_byok_in_limit=wanted.include_byok,
            expires_at_s=None if wanted.expires_at is None else describe.parse_expiry(wanted.expires_at, place.now_s),
            requests_per_minute=wanted.rpm,
            tokens_per_minute=wanted.tpm,
            parallel_max=wanted.parallel,
            workspace_id=wanted.workspace,
            member_id=None if wanted.member is None else owner_id(place, Scope.MEMBER, wanted.member),
        )
        secret, row = keys.create_key(place.engine, place.pepper, place.organization_id, new, ACTOR, place.now_s)
        names = owner_names(place)
    data = in_usd(describe.key_data(row, describe.KeyUse()))
    text = facts(
        (
            ("Key", secret),
            ("Name", row.name),
            ("Kind", "manages, cannot infer" if wanted.management else "inference"),
            ("Whose", names.get(row.member_id or "", "nobody's")),
            ("Workspace", names.get(row.workspace_id, row.workspace_id)),
            ("Limit", _limit(row)),
            ("Expires", moment(row.expires_at_s)),
            ("Hash", row.hash),
        )
    )
    return Report({"key": secret, "data": data}, f"{text}\n\n{SHOWN_ONCE}")


def update(options: Options, selector: str, wanted: Changes) -> Report:
    """Change what is said about a key; what it used stays counted. Raises NotFound, BadRequest."""
    with opened(options) as place:
        changes = dict(_changes(wanted, place.now_s))
        if not changes:
            raise BadRequest("nothing to change", remedy="modelgates keys update --help lists what can be")
        found = keys.find_key(place.engine, place.organization_id, selector)
        row = keys.update_key(place.engine, place.organization_id, found.hash, changes, ACTOR, place.now_s)
        use = describe.keys_use(place.engine, [row], place.now_s)[row.hash]
    return Report({"data": in_usd(describe.key_data(row, use))}, f"{_named(row)} is changed. Limit: {_limit(row)}.")


def show(options: Options) -> Report:
    """List every key that is not deleted, with its limit and use; whose it is and what else is to say stands under it."""
    with opened(options) as place:
        rows = keys.list_keys(place.engine, place.organization_id)
        use = describe.keys_use(place.engine, rows, place.now_s)
        names = owner_names(place)
    lines = [_line(row, use[row.hash], place.now_s) for row in rows]
    notes = [", ".join(_note(row, use[row.hash], names)) for row in rows]
    data = {"data": [in_usd(describe.key_data(row, use[row.hash])) for row in rows]}
    text = noted(("Name", "Key", "State", "Limit", "Used"), lines, notes, right=(4,)) if rows else "There are no keys."
    return Report(data, text)


def switch(options: Options, selector: str, *, disabled: bool) -> Report:
    """Switch a key off or on. Raises NotFound, or BadRequest when more than one fits."""
    with opened(options) as place:
        found = keys.find_key(place.engine, place.organization_id, selector)
        row = keys.set_key_disabled(place.engine, place.organization_id, found.hash, disabled, ACTOR, place.now_s)
        use = describe.keys_use(place.engine, [row], place.now_s)[row.hash]
    done = "is off: no further request is admitted" if disabled else "is on again"
    return Report({"data": in_usd(describe.key_data(row, use))}, f"{_named(row)} {done}.")


def delete(options: Options, selector: str) -> Report:
    """Delete a key for good; its past use stays in the books. Raises NotFound, BadRequest."""
    with opened(options) as place:
        row = keys.find_key(place.engine, place.organization_id, selector)
        keys.delete_key(place.engine, place.organization_id, row.hash, ACTOR, place.now_s)
    return Report({"deleted": True, "hash": row.hash}, f"{_named(row)} is deleted; what it used stays in the books.")


def _changes(wanted: Changes, now_s: float) -> Iterator[tuple[str, Any]]:
    """What is to be set, by the names of `KeyRow`."""
    if wanted.name is not None:
        yield "name", wanted.name
    if wanted.limit is not None:
        yield "limit_nusd", None if wanted.limit == NONE else nusd_from_usd(wanted.limit)
    if wanted.limit_reset is not None:
        yield "limit_reset", None if wanted.limit_reset == "never" else wanted.limit_reset
    if wanted.include_byok is not None:
        yield "include_byok_in_limit", wanted.include_byok
    if wanted.expires_at is not None:
        yield "expires_at_s", None if wanted.expires_at == NONE else describe.parse_expiry(wanted.expires_at, now_s)
    for name, text in (
        ("requests_per_minute", wanted.rpm),
        ("tokens_per_minute", wanted.tpm),
        ("parallel_max", wanted.parallel),
    ):
        if text is not None:
            yield name, None if text == NONE else _count(text)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 10:
        raise BadRequest(
            f"{text[:60]!r} is no whole number", remedy=f"write a number, or {NONE} to take the limit away"
        )
    return int(text)


def _named(row: KeyRow) -> str:
    return f"{row.name} ({row.label})"


def _limit(row: KeyRow) -> str:
    own = ", own provider keys included" if row.include_byok_in_limit else ""
    return _amount(row) + own if row.limit_nusd is not None else "none"


def _amount(row: KeyRow) -> str:
    return "none" if row.limit_nusd is None else f"{dollars(row.limit_nusd)} {row.limit_reset or 'for life'}"


def _line(row: KeyRow, use: KeyUse, now_s: float) -> tuple[str, ...]:
    expired = row.expires_at_s is not None and row.expires_at_s <= now_s
    state = "off" if row.disabled else "expired" if expired else "on"
    return shortened(row.name, NAME_SHOWN), row.label, state, _amount(row), dollars(use.life_nusd)


def _note(row: KeyRow, use: KeyUse, names: Mapping[str, str]) -> Iterator[str]:
    """What stands under a key's line: its hash, whose and where it is, its use and its other limits."""
    yield f"hash {row.hash[:HASH_SHOWN]}"
    if row.key_class is KeyClass.MANAGEMENT:
        yield "manages"
    whose = "nobody's" if row.member_id is None else f"of {names.get(row.member_id, 'somebody who left')}"
    yield f"{whose} in {names.get(row.workspace_id, row.workspace_id)}"
    yield f"{dollars(use.day_nusd)} today"
    yield f"{dollars(use.month_nusd)} this month"
    if row.include_byok_in_limit:
        yield "own provider keys count"
    for rate, what in (
        (row.requests_per_minute, "requests a minute"),
        (row.tokens_per_minute, "tokens a minute"),
        (row.parallel_max, "at the same time"),
    ):
        if rate is not None:
            yield f"{rate:,} {what}"
    if row.expires_at_s is not None:
        yield f"expires {moment(row.expires_at_s)}"
