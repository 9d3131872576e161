"""`guardrails`: budgets and lists that are given to keys or members."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelgates_server.catalogue.load import bundled, load_catalogue
from modelgates_server.cli.frame import Options, Report, warn
from modelgates_server.cli.local import ACTOR, opened
from modelgates_server.cli.output import dollars, in_usd, listing
from modelgates_server.cli.people import owner_names
from modelgates_server.errors import BadRequest, NotFound
from modelgates_server.management import assignments, guardrails, keys, members, workspaces
from modelgates_server.management.guardrails import DEFAULT_PREFIX, Rules, default_guardrail_id, model_slugs
from modelgates_server.management.shown import ZDR, guardrail_data
from modelgates_server.money import nusd_from_usd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelgates_server.cli.local import Workplace
    from modelgates_server.management.guardrails import GuardrailRow


@dataclass(frozen=True, slots=True)
class Wanted:
    """The options of ``guardrails create`` and ``update``, as they were written; ``none`` clears."""

    name: str | None = None
    description: str | None = None
    limit: str | None = None
    reset: str | None = None
    soft: bool | None = None
    include_byok: bool | None = None
    allow_model: tuple[str, ...] = ()
    ignore_model: tuple[str, ...] = ()
    allow_provider: tuple[str, ...] = ()
    ignore_provider: tuple[str, ...] = ()
    zdr: bool | None = None


def create(options: Options, workspace: str | None, wanted: Wanted) -> Report:
    """Make a guardrail; it enforces nothing until it is assigned."""
    with opened(options) as place:
        changes = _changes(place, wanted)
        _check_budget(Rules(""), changes)
        rules = Rules(**{"name": "", **changes})
        row = guardrails.create_guardrail(place.engine, place.organization_id, workspace, rules, ACTOR, place.now_s)
        text = f"{_told(place, row)}\nIt enforces nothing until it is assigned."
    return Report({"data": _data(row)}, text)


def update(options: Options, selector: str | None, default_of: str | None, wanted: Wanted) -> Report:
    """Change a guardrail, or a workspace's default one, which is made by this."""
    if (selector is None) is (default_of is None):
        raise BadRequest("name a guardrail, or a workspace with --default-of")
    with opened(options) as place:
        changes = _changes(place, wanted)
        if not changes:
            raise BadRequest("there is nothing to change", remedy="name a rule, such as --limit 5 --reset daily")
        if default_of is not None:
            space = workspaces.find_workspace(place.engine, place.organization_id, default_of)
            selector = default_guardrail_id(space.id)
        before = _chosen(place, selector or "")
        _check_budget(before.rules, changes)
        row = guardrails.update_guardrail(place.engine, place.organization_id, before.id, changes, ACTOR, place.now_s)
        return Report({"data": _data(row)}, _told(place, row))


def show(options: Options, workspace: str | None) -> Report:
    """List guardrails with those who have them."""
    with opened(options) as place:
        rows = guardrails.list_guardrails(place.engine, place.organization_id, workspace).rows
        of_keys = assignments.list_key_assignments(place.engine, place.organization_id).rows
        of_members = assignments.list_member_assignments(place.engine, place.organization_id).rows
        names = owner_names(place)
    data = [
        _data(row)
        | {
            "key_hashes": [one.key_hash for one in of_keys if one.guardrail_id == row.id],
            "member_user_ids": [one.user_id for one in of_members if one.guardrail_id == row.id],
        }
        for row in rows
    ]
    head = ("Name", "Budget", "Mode", "Rules", "Keys", "Members", "Id")
    lines = [
        (
            names.get(row.rules.name, row.rules.name), _budget(row), row.rules.mode, _lists(row),
            *(("all", "all") if row.is_default else (len(one["key_hashes"]), len(one["member_user_ids"]))), row.id,
        )
        for row, one in zip(rows, data, strict=True)
    ]  # fmt: skip
    return Report({"data": data}, listing(head, lines, "There are no guardrails."))


def assign(options: Options, selector: str, key: Sequence[str], member: Sequence[str]) -> Report:
    """Give a guardrail to keys and members."""
    with opened(options) as place:
        row, hashes, ids = _whom(place, selector, key, member)
        given = {"keys": 0, "members": 0}
        if hashes:
            given["keys"] = assignments.assign_keys(
                place.engine, place.organization_id, row.id, hashes, ACTOR, place.now_s
            )
        if ids:
            given["members"] = assignments.assign_members(
                place.engine, place.organization_id, row.id, ids, ACTOR, place.now_s
            )
    text = f"{row.rules.name} holds for {_counted(given)} now."
    return Report({"assigned_count": sum(given.values()), **given}, text)


def unassign(options: Options, selector: str, key: Sequence[str], member: Sequence[str]) -> Report:
    """Take a guardrail from keys and members."""
    with opened(options) as place:
        row, hashes, ids = _whom(place, selector, key, member)
        taken = {"keys": 0, "members": 0}
        if hashes:
            taken["keys"] = assignments.unassign_keys(
                place.engine, place.organization_id, row.id, hashes, ACTOR, place.now_s
            )
        if ids:
            taken["members"] = assignments.unassign_members(
                place.engine, place.organization_id, row.id, ids, ACTOR, place.now_s
            )
    text = f"{row.rules.name} is taken from {_counted(taken)}."
    return Report({"unassigned_count": sum(taken.values()), **taken}, text)


def _counted(those: dict[str, int]) -> str:
    """So many keys and members: ``1 member``, ``2 keys and 1 member``."""
    parts = [f"{count} {name if count != 1 else name.removesuffix('s')}" for name, count in those.items() if count]
    return " and ".join(parts) or "nobody else"


def delete(options: Options, selector: str) -> Report:
    """Delete a guardrail and its assignments."""
    with opened(options) as place:
        row = _chosen(place, selector)
        guardrails.delete_guardrail(place.engine, place.organization_id, row.id, ACTOR, place.now_s)
        text = f"{_name(place, row)} is deleted, with its assignments."
    return Report({"deleted": True, "id": row.id}, text)


def _whom(
    place: Workplace, selector: str, key: Sequence[str], member: Sequence[str]
) -> tuple[GuardrailRow, list[str], list[str]]:
    if not key and not member:
        raise BadRequest("there is nobody to assign", remedy="name --key or --member, also several times")
    row = _chosen(place, selector)
    hashes = [keys.find_key(place.engine, place.organization_id, one).hash for one in key]
    ids = [members.find_member(place.engine, place.organization_id, one).id for one in member]
    return row, hashes, ids


def _chosen(place: Workplace, selector: str) -> GuardrailRow:
    """Find a guardrail by id, name, or the name that the list shows for a default one. Raises NotFound, BadRequest for several."""
    try:
        return guardrails.choose_guardrail(place.engine, place.organization_id, selector)
    except NotFound:
        shown = owner_names(place).items()
        ids = [id_ for id_, name in shown if name == selector and id_.startswith(DEFAULT_PREFIX)]
        if not ids:
            raise
    if len(ids) > 1:
        raise BadRequest(f"{len(ids)} guardrails have that name", remedy="name one by its id")
    return guardrails.find_guardrail(place.engine, place.organization_id, ids[0])


def _changes(place: Workplace, wanted: Wanted) -> dict[str, Any]:
    """What was given, by the names of `Rules`."""
    said: dict[str, Any] = {}
    if wanted.name is not None:
        said["name"] = wanted.name
    if wanted.description is not None:
        said["description"] = None if wanted.description == "none" else wanted.description
    if wanted.limit is not None:
        said["limit_nusd"] = None if wanted.limit == "none" else nusd_from_usd(wanted.limit)
        if wanted.limit == "none":
            said["reset_interval"] = None
    if wanted.reset is not None:
        said["reset_interval"] = wanted.reset
    if wanted.soft is not None:
        said["mode"] = "soft" if wanted.soft else "hard"
    if wanted.include_byok is not None:
        said["include_byok"] = wanted.include_byok
    if wanted.zdr is not None:
        said["settings"] = dict.fromkeys(ZDR, wanted.zdr)
    return said | _listed(place, wanted)


def _check_budget(before: Rules, changes: dict[str, Any]) -> None:
    """Refuse half a budget in the words of the command line."""
    limit_nusd = changes.get("limit_nusd", before.limit_nusd)
    reset = changes.get("reset_interval", before.reset_interval)
    if limit_nusd is not None and reset is None:
        raise BadRequest(
            "--limit needs --reset: when the budget starts anew", remedy="add --reset daily, weekly or monthly"
        )
    if limit_nusd is None and reset is not None:
        raise BadRequest("--reset needs --limit: what may be spent until then", remedy="add --limit USD")


def _listed(place: Workplace, wanted: Wanted) -> dict[str, Any]:
    said: dict[str, Any] = {}
    path = place.config.catalogue.models
    for field, entries in (("allowed_models", wanted.allow_model), ("ignored_models", wanted.ignore_model)):
        if entries == ("none",):
            said[field] = None
        elif entries:
            catalogue = load_catalogue(bundled(), path.read_bytes() if path else None)
            said[field] = model_slugs(catalogue, entries, field)
    for field, slugs in (("allowed_providers", wanted.allow_provider), ("ignored_providers", wanted.ignore_provider)):
        if slugs:
            said[field] = None if slugs == ("none",) else slugs
            _tell_unknown(place, said[field] or ())
    return said


def _tell_unknown(place: Workplace, slugs: Sequence[str]) -> None:
    """A rule may speak of a provider that comes later; a misspelt one should not go unnoticed."""
    known = {word for one in place.config.providers for word in (one.slug, one.traits.word, *one.traits.aliases)}
    for slug in slugs:
        if slug.lower().partition("/")[0] not in known:
            warn(f"no provider of this gateway is called {slug!r}")


def _data(row: GuardrailRow) -> dict[str, Any]:
    return in_usd(guardrail_data(row))


def _name(place: Workplace, row: GuardrailRow) -> str:
    """What people call it; that of a workspace's default one says whose it is."""
    return owner_names(place).get(row.rules.name, row.rules.name)


def _told(place: Workplace, row: GuardrailRow) -> str:
    return f"{_name(place, row)} ({row.id}): {_budget(row)}, {row.rules.mode}; {_lists(row)}."


def _budget(row: GuardrailRow) -> str:
    rules = row.rules
    return "no budget" if rules.limit_nusd is None else f"{dollars(rules.limit_nusd)} {rules.reset_interval}"


def _lists(row: GuardrailRow) -> str:
    rules = row.rules
    parts = [
        f"{word} {', '.join(entries)}"
        for word, entries in (
            ("only", rules.allowed_models), ("not", rules.ignored_models), ("only from", rules.allowed_providers),
            ("not from", rules.ignored_providers),
        )
        if entries
    ]  # fmt: skip
    if any(rules.settings.get(name) for name in ZDR):
        parts.append("zero data retention")
    return "; ".join(parts) or "no lists"
