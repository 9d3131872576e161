"""`credentials`: the organisation's own provider keys; and `secrets`: what seals them.

A key is read from a variable, a file, the standard input or a prompt, and never from the command line, which others can see.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from modelgates_server.catalogue.load import bundled, load_catalogue
from modelgates_server.cli.frame import Options, Report
from modelgates_server.cli.local import ACTOR, Workplace, opened
from modelgates_server.cli.output import facts, listing
from modelgates_server.errors import BadRequest, NotFound
from modelgates_server.management import credentials, rotation, workspaces
from modelgates_server.management.credentials import NewCredential, Safe

if TYPE_CHECKING:
    from modelgates_server.management.credentials import CredentialRow

KEY_BYTES_MAX: Final = 16 * 1024
"""Far above any key; what is longer is another file."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The options of ``credentials add``, as they were written."""

    provider: str
    key_from: str | None = None
    name: str = ""
    workspace: str | None = None
    fallback: bool = False
    sort_order: int = 0
    models: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    members: tuple[str, ...] = ()


def add(options: Options, wanted: Wanted) -> Report:
    """Store a key. Raises BadRequest, NotFound."""
    with opened(options) as place:
        path = place.config.catalogue.models
        catalogue = load_catalogue(bundled(), path.read_bytes() if path else None)
        new = NewCredential(
            provider=wanted.provider,
            key=_key(wanted.key_from),
            name=wanted.name,
            workspace_id=_workspace_id(place, wanted.workspace),
            is_fallback=wanted.fallback,
            allowed_models=credentials.slugs_of(catalogue, wanted.models or None),
            allowed_key_hashes=wanted.keys or None,
            allowed_member_ids=wanted.members or None,
            sort_order=wanted.sort_order,
        )
        row = credentials.add_credential(place.engine, _safe(place), place.organization_id, new, ACTOR, place.now_s)
    return Report({"data": credentials.credential_data(row)}, facts(_facts(row)))


def show(options: Options) -> Report:
    """List the keys, in the order of trying."""
    with opened(options) as place:
        rows = credentials.list_credentials(place.engine, place.organization_id).rows
    head = ("Name", "Provider", "Key", "State", "Turn", "Order", "For", "Id")
    lines = [
        (row.name, row.provider, row.label, _state(row), _turn(row), row.sort_order, _whom(row), row.id) for row in rows
    ]
    text = listing(head, lines, "There are no provider keys of your own.", right=(5,))
    return Report({"data": [credentials.credential_data(row) for row in rows]}, text)


def switch(options: Options, selector: str, *, disabled: bool) -> Report:
    """Switch a key off or on. Raises NotFound, or BadRequest when more than one fits."""
    with opened(options) as place:
        found = _found(place, selector)
        row = credentials.change_credential(
            place.engine, _safe(place), place.organization_id, found.id, {"disabled": disabled}, ACTOR, place.now_s
        )
    done = "is off: no further request is planned with it" if disabled else "is on again"
    return Report({"data": credentials.credential_data(row)}, f"{row.name} ({row.label}) {done}.")


def remove(options: Options, selector: str) -> Report:
    """Delete a key. Raises NotFound, or BadRequest when more than one fits."""
    with opened(options) as place:
        row = _found(place, selector)
        credentials.remove_credential(place.engine, place.organization_id, row.id, ACTOR, place.now_s)
    return Report({"deleted": True, "id": row.id}, f"{row.name} ({row.label}) is deleted.")


def rotate(options: Options) -> Report:
    """Wrap everything that is sealed by a new key. Exit 1 when something could not be opened."""
    with opened(options) as place:
        done = rotation.rotate_secrets(place.engine, place.pepper, ACTOR, place.now_s)
    data = {"kek": done.kek_id, "wrapped": done.wrapped, "broken": done.broken, "retired": list(done.retired)}
    text = f"Key {done.kek_id} seals what is stored now; wrapped anew: {done.wrapped:,}."
    text += f" Destroyed: key {', '.join(done.retired)}." if done.retired else ""
    if done.broken:
        text += (
            f"\n{done.broken:,} could not be opened: they were changed, or made with another secret. Store them again."
        )
    return Report(data, text, 1 if done.broken else 0)


def _safe(place: Workplace) -> Safe:
    return Safe(place.pepper, credentials.places_of(place.config.providers))


def _key(source: str | None) -> str:
    """The key, from where `source` says: ``env:NAME``, ``file:PATH``, or by itself. Raises BadRequest."""
    if source is None:
        if sys.stdin.isatty():
            return str(click.prompt("Key", hide_input=True))
        return sys.stdin.read(KEY_BYTES_MAX).strip()
    scheme, _, where = source.partition(":")
    if scheme == "env":
        text = os.environ.get(where, "").strip()
        if not text:
            raise BadRequest(
                f"the environment variable {where!r} is not set", remedy=f"export {where or 'NAME'}=<the key>"
            )
        return text
    if scheme == "file":
        try:
            return Path(where).read_text(encoding="utf-8")[:KEY_BYTES_MAX].strip()
        except (OSError, ValueError) as error:
            raise BadRequest(f"cannot read the key from {where}") from error
    raise BadRequest(
        "--key-from must be env:NAME or file:PATH",
        remedy="leave it out to type the key, or to send it to standard input",
    )


def _workspace_id(place: Workplace, slug: str | None) -> str | None:
    if slug is None:
        return None
    return workspaces.find_workspace(place.engine, place.organization_id, slug).id


def _found(place: Workplace, selector: str) -> CredentialRow:
    """A credential by its id or its exact name."""
    rows = credentials.list_credentials(place.engine, place.organization_id).rows
    found = [row for row in rows if row.id == selector] or [row for row in rows if row.name == selector]
    if not found:
        raise NotFound("there is no such credential", remedy="modelgates credentials list shows names and ids")
    if len(found) > 1:
        listed = ", ".join(row.id for row in found[:5])
        raise BadRequest(f"{len(found)} credentials have that name: {listed}", remedy="name one by its id")
    return found[0]


def _facts(row: CredentialRow) -> list[tuple[str, object]]:
    return [
        ("Id", row.id),
        ("Name", row.name),
        ("Provider", row.provider),
        ("Key", row.label),
        ("State", _state(row)),
        ("Turn", _turn(row)),
        ("For", _whom(row)),
    ]


def _state(row: CredentialRow) -> str:
    return "off" if row.disabled else "on"


def _turn(row: CredentialRow) -> str:
    return "after the operator's" if row.is_fallback else "first"


def _whom(row: CredentialRow) -> str:
    parts = [] if row.workspace_id is None else [f"workspace {row.workspace_id}"]
    for what, entries in (
        ("model", row.allowed_models),
        ("key", row.allowed_key_hashes),
        ("member", row.allowed_member_ids),
    ):
        if entries is not None:
            parts.append(f"{len(entries)} {what}{'s' if len(entries) > 1 else ''}")
    return ", ".join(parts) or "everybody"
