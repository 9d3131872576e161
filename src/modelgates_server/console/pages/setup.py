"""Set-up: from nothing to a first answer. Real values, a key made on the spot, files to download, and the doctor.

A file that holds a key is made by a form whose body carries the key, is delivered once, and has no address of its own. The
page after a form shows the key as long as that page stands, and never again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import sqlalchemy as sa

from modelgates_server.accounts import directory, keys
from modelgates_server.accounts.values import KeyClass
from modelgates_server.console.clinic import Examination, examine, plain_off_loopback
from modelgates_server.console.key_forms import key_typed
from modelgates_server.console.pickers import caller_of, listed, served
from modelgates_server.console.recipes import code, desktop
from modelgates_server.console.recipes.values import Connection
from modelgates_server.console.routes import get, post
from modelgates_server.console.setup_texts import (
    CodeTexts,
    DesktopTexts,
    SdkTexts,
    code_texts,
    desktop_texts,
    sdk_texts,
)
from modelgates_server.console.visits import Download, Page, Visit
from modelgates_server.doctor.address import PLAIN_HTTP, PLAIN_HTTP_REMEDY
from modelgates_server.errors import BadRequest, NotFound
from modelgates_server.management.key_lists import KeysWanted, find_entry, slice_keys
from modelgates_server.management.key_values import NewKey
from modelgates_server.management.keys import get_key
from modelgates_server.management.names import NAME_CHARACTERS_MAX
from modelgates_server.management.own_keys import create_own
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading

CLIENTS: Final = {"desktop": "Claude Desktop", "code": "Claude Code", "sdk": "SDK"}
KEYS_MAX: Final = 50
YOUR_KEY: Final = "<your key>"
"""Stands in texts until there is a key."""

NO_KEY: Final = "Make a key first, or paste one: the file holds it."


@dataclass(frozen=True, slots=True)
class OwnKey:
    """A live key of the visitor's own."""

    hash: str
    name: str
    label: str


@dataclass(frozen=True, slots=True)
class GivenKey:
    """The key that this page was given or has just made. `secret` is its text: nothing shows it again."""

    secret: str
    hash: str
    name: str
    made: bool


@dataclass(frozen=True, slots=True)
class SetupPage:
    """A set-up page. `client` is desktop, code or sdk; empty on the page that offers all three, and then so are their texts."""

    client: str
    base_url: str
    plain_http: bool
    complaint: str
    remedy: str
    sandbox: bool
    suggested_name: str
    own_keys: tuple[OwnKey, ...]
    key: GivenKey | None
    models: int
    examination: Examination | None = None
    desktop: DesktopTexts | None = None
    code: CodeTexts | None = None
    sdk: SdkTexts | None = None


class FileKind(NamedTuple):
    """A file with a key in it: its name, its media type, and how it is written."""

    name: str
    media_type: str
    write: Callable[[Visit, Connection], bytes]


def overview(visit: Visit) -> Page:
    """Which client is it."""
    return _page(visit, "")


def desktop_page(visit: Visit) -> Page:
    """Claude Desktop."""
    return _page(visit, "desktop")


def code_page(visit: Visit) -> Page:
    """Claude Code."""
    return _page(visit, "code")


def sdk_page(visit: Visit) -> Page:
    """SDKs and curl."""
    return _page(visit, "sdk")


def again(visit: Visit) -> Page:
    """The page that a form was on."""
    return _page(visit, _client(visit))


def make_key(visit: Visit) -> Page:
    """Make a key of the visitor's own and show the page with it. Raises BadRequest."""
    house = visit.house
    wanted = NewKey(name=visit.form.get("name"), **key_typed(visit))
    secret, row = create_own(
        house.engine, house.secret, visit.organization_id, visit.member.id, wanted, visit.actor, visit.now_s
    )
    return _page(visit, _client(visit), GivenKey(secret, row.hash, row.name, made=True))


def use_key(visit: Visit) -> Page:
    """Show the page with a key that was pasted. Raises BadRequest."""
    return _page(visit, _client(visit), _given(visit))


def deliver(visit: Visit) -> Download:
    """A file with the key that the form carries. Raises BadRequest."""
    kind = FILES.get(visit.form.get("file"))
    if kind is None:
        raise BadRequest("there is no such file")
    connection = _connection(visit, _given(visit), discovery=visit.form.has("discovery"))
    return Download(kind.name, kind.media_type, (kind.write(visit, connection),))


def doctor(visit: Visit) -> Page:
    """Try everything that the app will do, as one of the visitor's keys. Raises BadRequest, NotFound, RateRefused."""
    given = _given(visit) if visit.form.get("key") else None
    key_hash = given.hash if given is not None else visit.form.get("key_hash")
    if not key_hash:
        raise BadRequest("choose the key that the doctor shall ask as; make one first if there is none")
    if given is None:
        find_entry(visit.house.engine, visit.organization_id, key_hash, visit.only_member_id)
    return _page(visit, _client(visit), given, examine(visit, key_hash))


def status_line(visit: Visit) -> Download:
    """The script for Claude Code's status line. It holds no key."""
    return Download(code.STATUS_LINE_FILE, code.STATUS_LINE_TYPE, (code.status_line(),))


def _page(visit: Visit, client: str, key: GivenKey | None = None, examination: Examination | None = None) -> Page:
    own = _own_keys(visit)
    connection = _connection(visit, key or _any(own))
    context = SetupPage(
        client=client,
        base_url=visit.base_url,
        plain_http=plain_off_loopback(visit.base_url),
        complaint=PLAIN_HTTP,
        remedy=PLAIN_HTTP_REMEDY,
        sandbox=visit.house.sandbox,
        suggested_name=f"{CLIENTS.get(client, 'Claude')} of {visit.member.name}"[:NAME_CHARACTERS_MAX],
        own_keys=own,
        key=key,
        models=len(connection.models),
        examination=examination,
        desktop=desktop_texts(connection) if client == "desktop" else None,
        code=code_texts(connection) if client == "code" else None,
        sdk=sdk_texts(connection) if client == "sdk" else None,
    )
    return Page(f"setup_{client}.html" if client else "setup.html", context)


def _connection(visit: Visit, key: GivenKey | OwnKey | None, *, discovery: bool = False) -> Connection:
    """What a client is told. The models are those that the key may use; without one, all that are served."""
    models = served(visit.house)
    try:
        caller = caller_of(visit, key.hash) if key is not None else None
    except BadRequest:
        if isinstance(key, GivenKey):
            raise
        caller = None  # one of the visitor's keys died just now; the page is about the next one
    if caller is not None:
        models = [model for model in models if caller.may_use(model.slug)]
    secret = key.secret if isinstance(key, GivenKey) else YOUR_KEY
    return Connection(visit.base_url, secret, listed(models), discovery)


def _given(visit: Visit) -> GivenKey:
    """The key whose text the form carries. Raises BadRequest for anything but a live inference key of the organisation."""
    text = visit.form.get("key")
    if not text:
        raise BadRequest(NO_KEY)
    key_class = keys.well_formed(text)
    if key_class is None:
        raise BadRequest(directory.malformed(text))
    if key_class is not KeyClass.INFERENCE:
        raise BadRequest("this is a management key, and those cannot ask models; use one that begins with sk-mg-v1-")
    try:
        row = get_key(visit.house.engine, visit.organization_id, keys.digest(visit.house.secret, text))
    except NotFound as unknown:
        raise BadRequest(directory.UNKNOWN) from unknown
    return GivenKey(text, row.hash, row.name, made=False)


def _own_keys(visit: Visit) -> tuple[OwnKey, ...]:
    wanted = KeysWanted(member_id=visit.member.id, state="active")
    found = slice_keys(visit.house.engine, visit.organization_id, wanted, None, KEYS_MAX, visit.now_s)
    return tuple(OwnKey(entry.row.hash, entry.row.name, entry.row.label) for entry in found.entries)


def _any(own: tuple[OwnKey, ...]) -> OwnKey | None:
    return own[0] if own else None


def _client(visit: Visit) -> str:
    wanted = visit.form.get("client")
    return wanted if wanted in CLIENTS else ""


def _organization(visit: Visit) -> str:
    names = schema.organizations.c
    with reading(visit.house.engine) as connection:
        query = sa.select(names.name).where(names.id == visit.organization_id)
        name: str = connection.execute(query).scalar_one()
    return name


def _settings(visit: Visit, connection: Connection) -> bytes:
    values = code.variables(connection)
    roles = {"pinned": code.pinned_roles, "latest": code.latest_roles}.get(visit.form.get("roles"))
    values |= roles(connection) if roles is not None else {}
    values |= code.FAST if visit.form.has("fast") else {}
    values |= code.DISCOVERY if visit.form.has("gateway_models") else {}
    return code.settings_file(values, status_line=visit.form.has("status_line"))


FILES: Final = {
    "macos": FileKind(
        desktop.PROFILE_FILE,
        desktop.PROFILE_TYPE,
        lambda visit, connection: desktop.profile(connection, _organization(visit)),
    ),
    "windows": FileKind(
        desktop.REGISTRY_FILE, desktop.REGISTRY_TYPE, lambda _, connection: desktop.registry(connection)
    ),
    "linux": FileKind(desktop.LINUX_FILE, desktop.LINUX_TYPE, lambda _, connection: desktop.linux(connection)),
    "settings": FileKind(code.SETTINGS_FILE, code.SETTINGS_TYPE, _settings),
}
"""By the word of the form."""

ROUTES = (
    get("/setup", overview),
    get("/setup/desktop", desktop_page),
    get("/setup/code", code_page),
    get("/setup/sdk", sdk_page),
    get(f"/setup/{code.STATUS_LINE_FILE}", status_line),
    post("/setup/key", make_key, again=again),
    post("/setup/use", use_key, again=again),
    post("/setup/file", deliver, again=again),
    post("/setup/doctor", doctor, again=again),
)
