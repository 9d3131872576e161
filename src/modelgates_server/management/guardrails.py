"""Guardrails: a budget with a reset, lists of models and providers, and retention rules, given to keys or members (product-surface 5.3).

Each key or member that it is given to has a budget of its own. A workspace's default guardrail needs no assignment: it holds for each
member and each key there. Where several hold, all must admit: allow-lists intersect, ignore-lists add up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

import sqlalchemy as sa

from modelgates_server.catalogue.load import Catalogue
from modelgates_server.errors import BadRequest, NotFound
from modelgates_server.limits import LIMIT_RESETS, MeterRef, Scope, Unit
from modelgates_server.management.change import Change, Note, change
from modelgates_server.management.names import stored_name
from modelgates_server.management.paging import Page, page
from modelgates_server.management.spent import HARD, check_limit, check_mode, count_all
from modelgates_server.management.workspaces import workspace_in
from modelgates_server.privacy import visible
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading

NAME_CHARACTERS_MAX: Final = 200
DESCRIPTION_CHARACTERS_MAX: Final = 1_000
LIST_ENTRIES_MAX: Final = 500
ENTRY_CHARACTERS_MAX: Final = 200
"""Lists are kept in memory for every live key."""

BUDGET: Final = ("limit_nusd", "reset_interval")
LISTS: Final = ("allowed_models", "ignored_models", "allowed_providers", "ignored_providers")
ZDR_GROUPS: Final = ("anthropic", "openai", "google", "xai", "other")
"""Whose models `enforce_zdr_…` is about (product-surface 2.8)."""

TRAINING: Final = ("enable_paid_model_training", "enable_free_model_training", "enable_free_model_publication")
SETTINGS: Final = (*(f"enforce_zdr_{group}" for group in ZDR_GROUPS), *TRAINING)
DEFAULT_PREFIX: Final = "grd-default-"

_REMEDY: Final = "GET /api/v1/guardrails and `modelgates guardrails list` show names and ids"
_GUARDRAILS = schema.guardrails


@dataclass(frozen=True, slots=True)
class Rules:
    """What a guardrail demands. Amounts in nano-USD, lists of slugs; None means that it demands nothing of that kind.

    `settings` has the members named in `SETTINGS`, true or false.
    """

    name: str
    description: str | None = None
    limit_nusd: int | None = None
    reset_interval: str | None = None
    mode: str = HARD
    include_byok: bool = False
    allowed_models: tuple[str, ...] | None = None
    ignored_models: tuple[str, ...] | None = None
    allowed_providers: tuple[str, ...] | None = None
    ignored_providers: tuple[str, ...] | None = None
    settings: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GuardrailRow:
    """A guardrail as it is stored. A default one that nobody wrote yet has no row: it demands nothing."""

    id: str
    organization_id: str
    workspace_id: str
    is_default: bool
    rules: Rules
    created_at_s: int
    updated_at_s: int | None
    stored: bool = True

    def meter(self, scope: Scope, scope_id: str) -> MeterRef | None:
        """The meter that its budget limits for somebody; None when it has no budget."""
        rules = self.rules
        if rules.limit_nusd is None or rules.reset_interval is None:
            return None
        unit = Unit.SPEND if rules.include_byok else Unit.NUSD
        return MeterRef(scope, scope_id, unit, LIMIT_RESETS[rules.reset_interval], rules.limit_nusd)


def default_guardrail_id(workspace_id: str) -> str:
    """The id of a workspace's default guardrail, whether it was written yet or not."""
    return DEFAULT_PREFIX + workspace_id


def default_guardrail_name(workspace_id: str) -> str:
    """The name of a workspace's default guardrail, as long as nobody gives it another."""
    return f"Workspace {workspace_id} Default"


def create_guardrail(
    engine: sa.Engine, organization_id: str, workspace: str | None, rules: Rules, actor: str, now_s: float
) -> GuardrailRow:
    """Make a guardrail in a workspace (id or slug; None: the default). It enforces nothing until it is assigned.

    Raises BadRequest, NotFound.
    """
    rules = checked(rules)
    with change(engine, now_s) as changing:
        row = GuardrailRow(
            id=changing.new_id("grd"),
            organization_id=organization_id,
            workspace_id=workspace_in(changing.connection, organization_id, workspace).id,
            is_default=False,
            rules=rules,
            created_at_s=changing.now_s,
            updated_at_s=changing.now_s,
        )
        changing.connection.execute(sa.insert(_GUARDRAILS).values(_values(row)))
        changing.note(Note(organization_id, actor, "guardrail.create", row.id, _shown(row)))
        return row


def update_guardrail(
    engine: sa.Engine, organization_id: str, guardrail_id: str, changes: Mapping[str, Any], actor: str, now_s: float
) -> GuardrailRow:
    """Change what is named in `changes`, the members of `Rules`; lists are replaced whole, settings are merged.

    A default guardrail that was not written yet is made by this. What was spent in a new budget's window counts.
    Raises BadRequest, NotFound.
    """
    with change(engine, now_s) as changing:
        before = guardrail_in(changing.connection, organization_id, guardrail_id)
        settings = {**before.rules.settings, **(changes.get("settings") or {})}
        kept = {name: value for name, value in settings.items() if value is not None}
        if any(name in changes and changes[name] is None for name in BUDGET):
            changes = {**dict.fromkeys(BUDGET), **changes}  # who takes one of them away means the budget
        rules = checked(replace(before.rules, **{**changes, "settings": kept}))
        changing.bump_policy()
        row = replace(before, rules=rules, updated_at_s=changing.now_s, stored=True)
        if before.stored:
            statement: Any = sa.update(_GUARDRAILS).where(_GUARDRAILS.c.id == row.id)
        else:
            row = replace(row, created_at_s=changing.now_s)
            statement = sa.insert(_GUARDRAILS)
        changing.connection.execute(statement.values(_values(row)))
        count_all(changing, meters_of(changing.connection, row), organization_id)
        changing.note(Note(organization_id, actor, "guardrail.update", row.id, _shown(row)))
        return row


def delete_guardrail(engine: sa.Engine, organization_id: str, guardrail_id: str, actor: str, now_s: float) -> None:
    """Delete a guardrail and its assignments; what was spent under it stays on the meters. Raises NotFound."""
    with change(engine, now_s) as changing:
        row = guardrail_in(changing.connection, organization_id, guardrail_id)
        if not row.stored:
            raise NotFound("there is no such guardrail")
        changing.bump_policy()
        for table in (schema.guardrail_keys, schema.guardrail_members):
            changing.connection.execute(sa.delete(table).where(table.c.guardrail_id == row.id))
        changing.connection.execute(sa.delete(_GUARDRAILS).where(_GUARDRAILS.c.id == row.id))
        changing.note(Note(organization_id, actor, "guardrail.delete", row.id, {"name": row.rules.name}))


def list_guardrails(
    engine: sa.Engine, organization_id: str, workspace: str | None = None, offset: int = 0, limit: int | None = None
) -> Page[GuardrailRow]:
    """Give the guardrails of a workspace (id or slug; None: of all), oldest first. Raises NotFound."""
    query = sa.select(_GUARDRAILS).where(_GUARDRAILS.c.organization_id == organization_id)
    with reading(engine) as connection:
        if workspace is not None:
            place = workspace_in(connection, organization_id, workspace)
            query = query.where(_GUARDRAILS.c.workspace_id == place.id)
        return page(connection, query.order_by(_GUARDRAILS.c.created_at_s, _GUARDRAILS.c.id), _row, offset, limit)


def find_guardrail(engine: sa.Engine, organization_id: str, guardrail_id: str) -> GuardrailRow:
    """Find a guardrail by id; a default one is found whether it was written yet or not. Raises NotFound."""
    with reading(engine) as connection:
        return guardrail_in(connection, organization_id, guardrail_id)


def choose_guardrail(engine: sa.Engine, organization_id: str, selector: str) -> GuardrailRow:
    """Find a guardrail by id or exact name. Raises NotFound, or BadRequest when several have that name."""
    with reading(engine) as connection:
        named = sa.select(_GUARDRAILS).where(
            _GUARDRAILS.c.organization_id == organization_id, _GUARDRAILS.c.name == selector
        )
        found = [_row(row) for row in connection.execute(named).mappings()]
        if len(found) > 1:
            raise BadRequest(f"{len(found)} guardrails have that name", remedy="name one by its id")
        return found[0] if found else guardrail_in(connection, organization_id, selector)


def guardrail_in(connection: sa.Connection, organization_id: str, guardrail_id: str) -> GuardrailRow:
    """Read a guardrail of the organisation on an open connection. Raises NotFound."""
    mine = (_GUARDRAILS.c.id == guardrail_id, _GUARDRAILS.c.organization_id == organization_id)
    row = connection.execute(sa.select(_GUARDRAILS).where(*mine)).mappings().one_or_none()
    if row is not None:
        return _row(row)
    if not guardrail_id.startswith(DEFAULT_PREFIX):
        raise NotFound("there is no such guardrail", remedy=_REMEDY)
    place = workspace_in(connection, organization_id, guardrail_id.removeprefix(DEFAULT_PREFIX))
    if default_guardrail_id(place.id) != guardrail_id:  # a slug is no id
        raise NotFound("there is no such guardrail", remedy=_REMEDY)
    rules = Rules(default_guardrail_name(place.id))
    return GuardrailRow(guardrail_id, organization_id, place.id, True, rules, place.created_at_s, None, stored=False)  # noqa: FBT003


def meters_of(connection: sa.Connection, row: GuardrailRow) -> list[MeterRef]:
    """Give every meter that a guardrail's budget limits now: of its keys and members, or of everybody in its workspace."""
    keys, members = schema.api_keys.c, schema.members.c
    owned = sa.select(keys.hash).where(keys.organization_id == row.organization_id, keys.deleted_at_s.is_(None))
    people = sa.select(members.id).where(members.organization_id == row.organization_id, members.removed_at_s.is_(None))
    if row.is_default:
        owned = owned.where(keys.workspace_id == row.workspace_id)
        refs = [row.meter(Scope.SEAT, f"{row.workspace_id}/{one}") for one in connection.execute(people).scalars()]
    else:
        given = schema.guardrail_keys.c
        owned = owned.join(schema.guardrail_keys, given.key_hash == keys.hash).where(given.guardrail_id == row.id)
        meant = schema.guardrail_members.c
        people = people.join(schema.guardrail_members, meant.member_id == members.id).where(
            meant.guardrail_id == row.id
        )
        refs = [row.meter(Scope.MEMBER, one) for one in connection.execute(people).scalars()]
    refs += [row.meter(Scope.KEY, one) for one in connection.execute(owned).scalars()]
    return [ref for ref in refs if ref is not None]


def count_under(changing: Change, row: GuardrailRow, scope: Scope, scope_ids: list[str]) -> None:
    """Make the budget see what those whom the guardrail is given now spent before."""
    refs = [ref for one in scope_ids if (ref := row.meter(scope, one)) is not None]
    count_all(changing, refs, row.organization_id)


def count_moved(changing: Change, organization_id: str, workspace_id: str, key_hash: str) -> None:
    """Make the default guardrail of the workspace that a key moved to see what the key spent before."""
    row = guardrail_in(changing.connection, organization_id, default_guardrail_id(workspace_id))
    count_under(changing, row, Scope.KEY, [key_hash])


def checked(rules: Rules) -> Rules:
    """The rules as they are stored. Raises BadRequest for what cannot be, with the field's name."""
    name = stored_name("a guardrail", rules.name, longest=NAME_CHARACTERS_MAX)
    if rules.description is not None and len(rules.description) > DESCRIPTION_CHARACTERS_MAX:
        raise BadRequest(f"description may have at most {DESCRIPTION_CHARACTERS_MAX:,} characters")
    description = visible(rules.description or "", DESCRIPTION_CHARACTERS_MAX) or None
    check_limit(rules.limit_nusd)
    check_mode(rules.mode)
    if (rules.limit_nusd is None) != (rules.reset_interval is None):
        raise BadRequest("limit_usd and reset_interval must come together: a budget needs both")
    if rules.reset_interval is not None and rules.reset_interval not in LIMIT_RESETS:
        raise BadRequest(f"reset_interval must be one of {', '.join(LIMIT_RESETS)}")
    if unknown := set(rules.settings) - set(SETTINGS):
        raise BadRequest(f"a guardrail has no setting {min(unknown)!r}")
    lists: dict[str, Any] = {name: _list(name, getattr(rules, name)) for name in LISTS}
    return replace(rules, name=name, description=description, **lists)


def model_slugs(catalogue: Catalogue, names: Sequence[str] | None, field_name: str) -> tuple[str, ...] | None:
    """Models by their slugs, whatever spelling was sent. Models of makers that nobody serves here stay as they were written.

    Raises BadRequest for a name that means nothing here: a misspelt one on an ignore-list would let the model pass.
    """
    if names is None:
        return None
    makers = {slug.partition("/")[0] for slug in catalogue.models}
    found = []
    for name in names:
        resolved = catalogue.names.find(name)
        maker, slash, _ = name.lower().partition("/")
        if resolved is None and (not slash or maker.strip().lstrip("~") in makers):
            raise BadRequest(f"{field_name}: there is no model {name[:100]!r}", remedy="GET /api/v1/models lists them")
        found.append(name if resolved is None else resolved.model.slug)
    return tuple(found)


def _list(name: str, entries: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if entries is None:
        return None
    if not entries and name.startswith("ignored"):
        return None  # to ignore nobody is to say nothing
    if not entries:
        raise BadRequest(f"{name} is empty, so nothing would be allowed; null allows all")
    if len(entries) > LIST_ENTRIES_MAX:
        raise BadRequest(f"{name} may have at most {LIST_ENTRIES_MAX} entries")
    for entry in entries:
        if not entry or len(entry) > ENTRY_CHARACTERS_MAX or visible(entry, ENTRY_CHARACTERS_MAX) != entry:
            raise BadRequest(f"{name} has an entry that is no slug")
    return tuple(dict.fromkeys(entries))


def _values(row: GuardrailRow) -> dict[str, Any]:
    rules = asdict(row.rules)
    written = {name: None if rules[name] is None else json.dumps(rules[name]) for name in LISTS}
    settings = json.dumps(rules["settings"], sort_keys=True) if rules["settings"] else None
    own = {
        name: getattr(row, name) for name in ("id", "organization_id", "workspace_id", "created_at_s", "updated_at_s")
    }
    converted = {"is_default": int(row.is_default), "include_byok": int(row.rules.include_byok), "settings": settings}
    return rules | written | own | converted


def _shown(row: GuardrailRow) -> dict[str, Any]:
    """For the audit log: what the guardrail demands."""
    demanded = {name: value for name, value in asdict(row.rules).items() if value not in (None, {}, False)}
    return demanded | {"workspace_id": row.workspace_id}


def _row(row: sa.RowMapping) -> GuardrailRow:
    lists = {name: None if row[name] is None else tuple(json.loads(row[name])) for name in LISTS}
    rules = Rules(
        name=row["name"],
        description=row["description"],
        limit_nusd=row["limit_nusd"],
        reset_interval=row["reset_interval"],
        mode=row["mode"],
        include_byok=bool(row["include_byok"]),
        settings=json.loads(row["settings"]) if row["settings"] else {},
        **lists,
    )
    own = {name: row[name] for name in ("id", "organization_id", "workspace_id", "created_at_s", "updated_at_s")}
    return GuardrailRow(**own, is_default=bool(row["is_default"]), rules=rules)
