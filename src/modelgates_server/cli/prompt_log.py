"""`workspaces prompt-log` and `workspaces forget`: whether prompts of a workspace are kept, and removing those that are."""

from __future__ import annotations

from dataclasses import asdict, replace
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from modelgates_server.cli.frame import Options, Report
from modelgates_server.cli.local import ACTOR, opened
from modelgates_server.errors import BadRequest
from modelgates_server.management import contents, keys, workspaces
from modelgates_server.management.contents import Stored
from modelgates_server.management.prompt_log import EVERY_PPM, PromptLog, prompt_log_of, set_prompt_log

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from modelgates_server.cli.local import Workplace
    from modelgates_server.management.workspaces import WorkspaceRow


def prompt_log(
    options: Options, selector: str, changes: Mapping[str, Any], named: Sequence[str], sampling: str | None
) -> Report:
    """Show a workspace's rule, or change what is given of it."""
    with opened(options) as place:
        row = workspaces.find_workspace(place.engine, place.organization_id, selector)
        wanted = replace(prompt_log_of(row), **changes)
        if named:
            wanted = replace(wanted, key_hashes=None if "all" in named else _hashes(place, named))
        if sampling is not None:
            wanted = replace(wanted, sampling_ppm=_ppm(sampling))
        if wanted != prompt_log_of(row):
            row = set_prompt_log(place.engine, place.organization_id, row.id, wanted, ACTOR, place.now_s)
        stored = contents.stored_contents(place.engine, place.organization_id, place.now_s).get(row.id, Stored())
    return Report({"data": _data(row, stored)}, _told(row, stored))


def forget(options: Options, selector: str) -> Report:
    """Delete everything that is kept of a workspace."""
    with opened(options) as place:
        row = workspaces.find_workspace(place.engine, place.organization_id, selector)
        count = contents.delete_contents(place.engine, place.organization_id, row.id, ACTOR, place.now_s)
    told = f"{count} stored prompt{'' if count == 1 else 's'} of {row.slug}, with the answers, are deleted."
    return Report({"deleted_count": count, "id": row.id}, told)


def _hashes(place: Workplace, named: Sequence[str]) -> tuple[str, ...]:
    found = [keys.find_key(place.engine, place.organization_id, one).hash for one in named]
    return tuple(dict.fromkeys(found))


def _ppm(text: str) -> int:
    try:
        rate = Decimal(text)
    except InvalidOperation:
        rate = Decimal(-1)
    if not rate.is_finite() or not 0 <= rate <= 1:  # before it is made an integer: 1e999999 has a million digits
        raise BadRequest(f"{text[:20]!r} is no rate", remedy="name a number from 0.0001 to 1")
    return int((rate * EVERY_PPM).to_integral_value())


def _data(row: WorkspaceRow, stored: Stored) -> dict[str, Any]:
    log = prompt_log_of(row)
    rate = float(Decimal(log.sampling_ppm) / EVERY_PPM)
    told = {name: value for name, value in asdict(log).items() if name != "sampling_ppm"}
    return {"workspace_id": row.id, "slug": row.slug, **told, "sampling_rate": rate, "stored": stored.count}


def _told(row: WorkspaceRow, stored: Stored) -> str:
    log: PromptLog = prompt_log_of(row)
    kept = f"{stored.count} are stored now." if stored.count else "None are stored now."
    if not log.enabled:
        return f"Prompts and answers of {row.slug} are not stored. {kept}"
    whose = "all its keys" if log.key_hashes is None else f"{len(log.key_hashes)} of its keys"
    share = "" if log.sampling_ppm == EVERY_PPM else f", {Decimal(log.sampling_ppm) / 10_000:f} % of the conversations"
    days = f"{log.retention_days} day{'' if log.retention_days == 1 else 's'}"
    return (
        f"Prompts and answers of {row.slug} are stored for {days}, of {whose}{share}. Only admins can read them. {kept}"
    )
