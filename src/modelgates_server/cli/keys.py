"""`keys`: create, list, change, switch and delete API keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelgates_server.accounts.values import KeyClass
from modelgates_server.cli.frame import Options, Report
from modelgates_server.cli.local import ACTOR, opened
from modelgates_server.cli.output import dollars, facts, in_usd, moment, table
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
    """List every key that is not deleted, with its limit and use."""
    with opened(options) as place:
        rows = keys.list_keys(place.engine, place.organization_id)
        use = describe.keys_use(place.engine, rows, place.now_s)
        names = owner_names(place)
    head = (
        "Name",
        "Key",
        "Kind",
        "Whose",
        "Workspace",
        "State",
        "Limit",
        "Used",
        "Today",
        "This month",
        "Expires",
        "Hash",
    )
    lines = [_line(row, use[row.hash], names, place.now_s) for row in rows]
    data = {"data": [in_usd(describe.key_data(row, use[row.hash])) for row in rows]}
    return Report(data, table(head, lines, right=(7, 8, 9)))


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
    if row.limit_nusd is None:
        return "none"
    own = ", own provider keys included" if row.include_byok_in_limit else ""
    return f"{dollars(row.limit_nusd)} {row.limit_reset or 'for life'}{own}"


def _line(row: KeyRow, use: KeyUse, names: Mapping[str, str], now_s: float) -> tuple[str, ...]:
    expired = row.expires_at_s is not None and row.expires_at_s <= now_s
    return (
        row.name,
        row.label,
        str(row.key_class),
        names.get(row.member_id or "", "-"),
        names.get(row.workspace_id, row.workspace_id),
        "off" if row.disabled else "expired" if expired else "on",
        _limit(row),
        dollars(use.life_nusd),
        dollars(use.day_nusd),
        dollars(use.month_nusd),
        moment(row.expires_at_s),
        row.hash[:HASH_SHOWN],
    )
