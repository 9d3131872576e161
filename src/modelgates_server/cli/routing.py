"""`routing`: which providers are tried for a key, or for all keys of a workspace, and in which order."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from modelgates_server.activity import words
from modelgates_server.catalogue.load import bundled, load_catalogue
from modelgates_server.cli.frame import Options, Report, warn
from modelgates_server.cli.local import ACTOR, Workplace, opened
from modelgates_server.cli.output import COLUMNS, facts, indented, table
from modelgates_server.config.endpoints import endpoints_of
from modelgates_server.dialects.values import Preferences
from modelgates_server.errors import BadRequest
from modelgates_server.management import keys, workspaces
from modelgates_server.routing.fit import Adaptation, Fit
from modelgates_server.routing.plan import Considered, Question, make_plan
from modelgates_server.routing.wishes import Facts, merged

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelgates_server.catalogue.models import Endpoint
    from modelgates_server.config import Config
    from modelgates_server.management.key_values import KeyRow
    from modelgates_server.management.workspaces import WorkspaceRow

NO_SORT: Final = "none"

_SLUG: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}(/[a-z0-9][a-z0-9-]{0,63})?")
_USD: Final = re.compile(r"\d{1,7}(\.\d{1,12})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The options of ``routing set``, as they were written: None was not given, an empty text takes a preference back."""

    order: str | None = None
    only: str | None = None
    ignore: str | None = None
    sort: str | None = None
    fallbacks: bool | None = None
    zdr: bool | None = None
    data_collection: str | None = None
    max_price_prompt: str | None = None
    max_price_completion: str | None = None
    require_parameters: bool | None = None
    clear: bool = False


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose preferences: of a key, or with None of its workspace."""

    key: KeyRow | None
    workspace: WorkspaceRow

    @property
    def own(self) -> dict[str, Any]:
        row = self.workspace if self.key is None else self.key
        return msgspec.json.decode(row.routing, type=dict[str, Any]) if row.routing else {}

    @property
    def effective(self) -> Preferences:
        """What the gateway plans by: the workspace's with the key's on top."""
        outer = _read(self.workspace.routing)
        return outer if self.key is None else merged(outer, _read(self.key.routing))


def show(options: Options, key: str | None, workspace: str | None) -> Report:
    """Show preferences, and the order that they make of the configured providers. Raises NotFound, BadRequest."""
    with opened(options) as place:
        return _report(place, _subject(place, key, workspace))


def change(options: Options, key: str | None, workspace: str | None, wanted: Wanted) -> Report:
    """Change what is given and leave the rest. Raises NotFound, BadRequest."""
    if wanted == Wanted():
        raise BadRequest("there is nothing to set", remedy="name a preference, such as --order, or --clear for all")
    with opened(options) as place:
        subject = _subject(place, key, workspace)
        said = _changed({} if wanted.clear else subject.own, wanted)
        _warn_unknown(place.config, said)
        text = msgspec.json.encode(said).decode() if said else None
        if subject.key is None:
            workspaces.set_workspace_routing(
                place.engine, place.organization_id, subject.workspace.id, text, ACTOR, place.now_s
            )
        else:
            keys.set_key_routing(place.engine, place.organization_id, subject.key.hash, text, ACTOR, place.now_s)
        return _report(place, _subject(place, key, workspace))


def _subject(place: Workplace, key: str | None, workspace: str | None) -> Subject:
    if key is not None and workspace is not None:
        raise BadRequest("--key and --workspace are two scopes; name one")
    if key is None:
        return Subject(None, workspaces.find_workspace(place.engine, place.organization_id, workspace))
    row = keys.find_key(place.engine, place.organization_id, key)
    return Subject(row, workspaces.find_workspace(place.engine, place.organization_id, row.workspace_id))


def _changed(own: dict[str, Any], wanted: Wanted) -> dict[str, Any]:
    """The preferences with what was given in place. Raises BadRequest for what cannot be meant."""
    said = dict(own)
    for name in ("order", "only", "ignore"):
        if (text := getattr(wanted, name)) is not None:
            said[name] = _slugs(f"--{name}", text)
    if wanted.sort is not None:
        said["sort"] = None if wanted.sort == NO_SORT else wanted.sort
    if wanted.zdr is not None:
        said["zdr"] = True if wanted.zdr else None  # it is a promise: false would promise nothing
    given = {
        "allow_fallbacks": wanted.fallbacks,
        "data_collection": wanted.data_collection,
        "require_parameters": wanted.require_parameters,
    }
    said |= {name: value for name, value in given.items() if value is not None}
    said["max_price"] = _max_price(said.get("max_price") or {}, wanted)
    kept = {name: value for name, value in said.items() if value is not None}
    msgspec.convert(kept, Preferences)
    return kept


def _slugs(option: str, text: str) -> list[str] | None:
    found = list(dict.fromkeys(item.strip().lower() for item in text.split(",") if item.strip()))
    for slug in found:
        if not _SLUG.fullmatch(slug):
            raise BadRequest(
                f"{option}: {slug[:80]!r} is no provider's slug",
                remedy="write slugs with commas between them, such as anthropic,bedrock or vertex/us-east5",
            )
    return found or None


def _max_price(own: Mapping[str, Any], wanted: Wanted) -> dict[str, str] | None:
    said = dict(own)
    for name, text in (("prompt", wanted.max_price_prompt), ("completion", wanted.max_price_completion)):
        if text is None:
            continue
        if text and not _USD.fullmatch(text):
            raise BadRequest(
                f"--max-price-{name} must be USD per million tokens, such as 5 or 12.50, not {text[:40]!r}"
            )
        said[name] = text or None
    return {name: value for name, value in said.items() if value is not None} or None


def _warn_unknown(config: Config, said: Mapping[str, Any]) -> None:
    endpoints = next(iter(_endpoints(config).values()))
    for name in ("order", "only", "ignore"):
        for slug in said.get(name) or ():
            if not any(endpoint.named_by(slug) for endpoint in endpoints):
                configured = ", ".join(endpoint.tag for endpoint in endpoints)
                warn(f"{name} names {slug!r}, which no configured provider is called; there are: {configured}")


def _endpoints(config: Config) -> dict[str, tuple[Endpoint, ...]]:
    path = config.catalogue.models
    return endpoints_of(load_catalogue(bundled(), path.read_bytes() if path else None), config.providers)


def _read(stored: str | None) -> Preferences:
    return msgspec.json.decode(stored, type=Preferences) if stored else Preferences()


def _report(place: Workplace, subject: Subject) -> Report:
    effective = _plain(subject.effective)
    own_keys = [] if subject.key else [
        row for row in keys.list_keys(place.engine, place.organization_id) if row.routing and row.workspace_id == subject.workspace.id
    ]  # fmt: skip
    outcomes = _outcomes(place.config, subject.effective, place.now_s)
    data = {
        "scope": "workspace" if subject.key is None else "key",
        "workspace": {"id": subject.workspace.id, "slug": subject.workspace.slug},
        "key": None if subject.key is None else {"hash": subject.key.hash, "name": subject.key.name},
        "routing": subject.own or None,
        "effective": effective or None,
        "keys_with_their_own": [{"hash": row.hash, "name": row.name} for row in own_keys],
        "outcomes": [outcome.data() for outcome in outcomes],
    }
    for outcome in outcomes:
        if not outcome.steps:
            warn(f"no configured provider is left for {outcome.named}: such requests will be refused")
    return Report(data, f"{_head(subject, effective, own_keys)}\n\n" + "\n\n".join(map(_told, outcomes)))


def _plain(said: Preferences) -> dict[str, Any]:
    plain = {name: value for name, value in msgspec.to_builtins(said).items() if value is not None}
    return {
        name: {key: inner for key, inner in value.items() if inner is not None} if isinstance(value, dict) else value
        for name, value in plain.items()
    }


def _head(subject: Subject, effective: Mapping[str, Any], own_keys: list[KeyRow]) -> str:
    own = words.preferences(subject.own) or "none"
    workspace = f"{subject.workspace.name} ({subject.workspace.slug})"
    if subject.key is None:
        of_keys = words.listed(f"{row.name} ({row.hash[:8]})" for row in own_keys) or "none"
        return facts((("Workspace", workspace), ("Preferences", own), ("Keys with their own", of_keys)), width=COLUMNS)
    outer = words.preferences(msgspec.json.decode(subject.workspace.routing or "{}")) or "none"
    pairs = (
        ("Key", f"{subject.key.name} ({subject.key.label})"),
        ("Its preferences", own),
        (f"Of workspace {subject.workspace.slug}", outer),
        ("Together", words.preferences(effective) or "none"),
    )
    return facts(pairs, width=COLUMNS)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What preferences come to for some models: an ordinary request, with everybody in service."""

    models: tuple[str, ...]
    every: bool
    considered: tuple[Considered, ...]

    @property
    def steps(self) -> list[Considered]:
        return [entry for entry in self.considered if entry.place is not None]

    @property
    def named(self) -> str:
        return "every model" if self.every else words.listed(self.models)

    def data(self) -> dict[str, Any]:
        return {
            "models": self.models,
            "order": [{"provider": entry.endpoint.provider, "reason": entry.reason} for entry in self.steps],
            "left_out": [
                {"provider": entry.endpoint.provider, "reason": entry.reason, "code": entry.code}
                for entry in self.considered
                if entry.place is None
            ],
        }


def _outcomes(config: Config, policy: Preferences, when_s: float) -> list[Outcome]:
    """Models for which it comes to the same stand together."""
    found: dict[tuple[Any, ...], list[str]] = {}
    plans: dict[tuple[Any, ...], tuple[Considered, ...]] = {}
    fit = Fit(Adaptation())
    all_endpoints = _endpoints(config)
    for endpoints in all_endpoints.values():
        candidates = tuple(Facts(endpoint, fit) for endpoint in endpoints)
        plan = make_plan(Question((candidates,), policy, house_order=config.routing.order, when_s=when_s))
        shape = tuple((entry.endpoint.provider, entry.place, entry.code) for entry in plan.considered)
        found.setdefault(shape, []).append(endpoints[0].model.id)
        plans.setdefault(shape, plan.considered)
    return [Outcome(tuple(models), len(models) == len(all_endpoints), plans[shape]) for shape, models in found.items()]


def _told(outcome: Outcome) -> str:
    order = ", ".join(entry.endpoint.provider for entry in outcome.steps) or "nobody"
    rows = [
        (
            entry.place or "-",
            entry.endpoint.provider,
            entry.reason if entry.place else f"left out: {entry.reason}",
        )
        for entry in outcome.considered
    ]
    head = textwrap.fill(f"Tried for {outcome.named}, in this order: {order}", COLUMNS, break_on_hyphens=False)
    return head + "\n" + indented(table(("#", "provider", "why"), rows, right=(0,), width=COLUMNS - 2))
