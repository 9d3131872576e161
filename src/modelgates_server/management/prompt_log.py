"""Whether prompts and answers of a workspace are kept: off until an admin opts in, for so many days, of all its keys or of some.

The rule stands in the workspace's settings and gets a new name with every change. What is being written under another name is not
written any more (`activity/contents.py`), so opting out holds from its commit on, in every process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import sqlalchemy as sa

from modelgates_server.errors import BadRequest
from modelgates_server.management.change import Change, Note, change
from modelgates_server.management.workspaces import (
    NewWorkspace,
    WorkspaceRow,
    add_workspace,
    changed_in,
    stored_settings,
    workspace_in,
)
from modelgates_server.storage import schema
from modelgates_server.vault.ring import open_vault

RETENTION_DAYS: Final = 90
RETENTION_DAYS_MAX: Final = 365
EVERY_PPM: Final = 1_000_000
SAMPLING_PPM_MIN: Final = 100
"""One request in ten thousand: less is none (product-surface 2.8)."""

KEYS_MAX: Final = 100
"""The rule is in memory with every key of the workspace."""

SETTING: Final = "prompt_log"

_SPACES = schema.workspaces


@dataclass(frozen=True, slots=True)
class PromptLog:
    """What a workspace decided. `key_hashes` None means all of its keys; `sampling_ppm` is of how many requests in a million."""

    enabled: bool = False
    retention_days: int = RETENTION_DAYS
    key_hashes: tuple[str, ...] | None = None
    sampling_ppm: int = EVERY_PPM


def prompt_log_of(row: WorkspaceRow) -> PromptLog:
    """Read a workspace's rule; off when it never had one."""
    said: Mapping[str, Any] = row.settings.get(SETTING) or {}
    hashes = said.get("key_hashes")
    return PromptLog(
        enabled="rule" in said,
        retention_days=said.get("retention_days", RETENTION_DAYS),
        key_hashes=None if hashes is None else tuple(hashes),
        sampling_ppm=said.get("sampling_ppm", EVERY_PPM),
    )


def set_prompt_log(
    engine: sa.Engine, organization_id: str, workspace_id: str, wanted: PromptLog, actor: str, now_s: float
) -> WorkspaceRow:
    """Opt a workspace (id or slug) in or out, or change its rule. Raises BadRequest, NotFound.

    What is stored already stays until its own time is over; `contents.delete_contents` removes it at once.
    """
    with change(engine, now_s) as changing:
        return _set(changing, workspace_in(changing.connection, organization_id, workspace_id), wanted, actor)


def create_workspace_with(
    engine: sa.Engine, organization_id: str, wanted: NewWorkspace, log: PromptLog, actor: str, now_s: float
) -> WorkspaceRow:
    """Make a workspace that begins with a rule, both or nothing. Raises BadRequest."""
    with change(engine, now_s) as changing:
        row = add_workspace(changing, organization_id, wanted)
        changing.note(Note(organization_id, actor, "workspace.create", row.id, {"slug": row.slug, "name": row.name}))
        return _set(changing, row, log, actor)


def update_workspace_with(  # noqa: PLR0913 - a change of a workspace, and the rule
    engine: sa.Engine,
    organization_id: str,
    selector: str,
    changes: Mapping[str, Any],
    log: PromptLog,
    actor: str,
    now_s: float,
) -> WorkspaceRow:
    """Change a workspace and its rule, both or nothing. Raises BadRequest, NotFound."""
    with change(engine, now_s) as changing:
        row = workspace_in(changing.connection, organization_id, selector)
        row = _set(changing, row, log, actor)
        return changed_in(changing, row, changes, "update", actor) if changes else row


def _set(changing: Change, row: WorkspaceRow, wanted: PromptLog, actor: str) -> WorkspaceRow:
    if wanted == prompt_log_of(row):
        return row
    _check(changing.connection, row, wanted)
    rule: dict[str, Any] = {name: value for name, value in asdict(wanted).items() if name != "enabled"}
    if wanted.enabled:
        rule["rule"] = changing.new_id("rule")
        open_vault(changing.connection, b"", sealing=True)  # there is a key-encryption key from now on
    changing.bump_policy()
    changing.connection.execute(
        sa.update(_SPACES)
        .where(_SPACES.c.id == row.id, _SPACES.c.organization_id == row.organization_id)
        .values(updated_at_s=changing.now_s, settings=stored_settings({**row.settings, SETTING: rule}))
    )
    changing.note(Note(row.organization_id, actor, "workspace.prompt_log", row.id, asdict(wanted)))
    return workspace_in(changing.connection, row.organization_id, row.id)


def _check(connection: sa.Connection, row: WorkspaceRow, wanted: PromptLog) -> None:
    if not 1 <= wanted.retention_days <= RETENTION_DAYS_MAX:
        raise BadRequest(f"prompts are kept for 1 to {RETENTION_DAYS_MAX} days")
    if not SAMPLING_PPM_MIN <= wanted.sampling_ppm <= EVERY_PPM:
        raise BadRequest("the sampling rate is from 0.0001 to 1")
    if wanted.key_hashes is None:
        return
    if not 1 <= len(wanted.key_hashes) <= KEYS_MAX:
        raise BadRequest(f"name 1 to {KEYS_MAX} keys, or none to keep the prompts of all keys of the workspace")
    keys = schema.api_keys.c
    query = sa.select(keys.hash).where(
        keys.organization_id == row.organization_id, keys.workspace_id == row.id, keys.deleted_at_s.is_(None),
        keys.hash.in_(wanted.key_hashes),
    )  # fmt: skip
    known = set(connection.execute(query).scalars())
    if missing := [one for one in wanted.key_hashes if one not in known]:
        raise BadRequest(
            f"the workspace {row.slug} has no key {missing[0][:64]!r}",
            remedy="name keys of this workspace by their hash",
        )
