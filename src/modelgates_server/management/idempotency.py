"""Doing a create once: the first answer under an organisation's idempotency key is kept for a day and given again.

What Stripe does (reliability-security 1.1); what a crash cut off is never done a second time. The answer may show a new key,
so it is stored sealed; this module never sees its text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from modelgates_server.errors import BadRequest, Conflict, KeyReused
from modelgates_server.management.change import Change
from modelgates_server.storage import schema
from modelgates_server.storage.engine import transaction
from modelgates_server.storage.portable import upsert

KEPT_S: Final = 24 * 3600
CLAIM_S: Final = 60
"""A create that takes longer than this is taken for dead. Whether it was done is not known, so it is not done again."""

_RUNNING: Final = "The first request under this idempotency key is still running. Ask again in a moment."
_UNKNOWN: Final = (
    "The first request under this idempotency key ended without an answer, and may have been done. Look whether it was; if not,"
    " send it again under a new key."
)

FORM_STATUS: Final = 303
"""What stands in a form's row for the answer, which leads to the page that shows what was done. No API key of a client can be a form's:
those have no line breaks."""

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{16,64}")
_TABLE = schema.idempotency


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to do the create. `request_digest` is of method, path and body."""

    organization_id: str
    key: str
    request_digest: str
    claimed_at_s: int


@dataclass(frozen=True, slots=True)
class Kept:
    """The first answer."""

    status: int
    sealed: str


def claim(engine: sa.Engine, wanted: Claim) -> Kept | None:
    """Take the claim (None), or give the answer that is there.

    Raises KeyReused when another request came under this key, Conflict while the first one is still running or when it died.
    """
    with transaction(engine) as connection:
        row = upsert(connection, _TABLE).values(_row(wanted)).on_conflict_do_nothing().returning(_TABLE.c.key)
        if connection.execute(row).first() is not None:
            return None
        found = connection.execute(sa.select(_TABLE).where(*_mine(wanted)).with_for_update()).mappings().one_or_none()
        if found is None or found["created_at_s"] + KEPT_S <= wanted.claimed_at_s:
            _take_over(connection, wanted)
            return None
        if found["request_digest"] != wanted.request_digest:
            raise KeyReused
        if found["status"] is not None:
            return Kept(found["status"], found["sealed"])
        running = found["created_at_s"] + CLAIM_S > wanted.claimed_at_s
        raise Conflict(_RUNNING if running else _UNKNOWN)


@dataclass(frozen=True, slots=True)
class Form:
    """A form that must be done once, however often it is sent: what it was given when it was shown, and a digest of what was typed."""

    token: str
    digest: str


class DoneAlready(Conflict):
    """This form was sent before, and what it says is done."""


def do_once(changing: Change, organization_id: str, form: Form) -> None:
    """Note in the change itself that a form is done: it is done together with that, or not at all.

    Raises DoneAlready the second time, BadRequest when something else was typed then, or when it is no form of a page of ours.
    """
    if not _TOKEN.fullmatch(form.token):
        raise BadRequest("open the page again, and send the form from there")
    claimed = Claim(organization_id, f"form\n{form.token}", form.digest, changing.now_s)
    row = upsert(changing.connection, _TABLE).values({**_row(claimed), "status": FORM_STATUS, "sealed": ""})
    if changing.connection.execute(row.on_conflict_do_nothing().returning(_TABLE.c.key)).first() is not None:
        return
    before = changing.connection.execute(sa.select(_TABLE.c.request_digest).where(*_mine(claimed))).scalar_one()
    if before != form.digest:
        raise BadRequest("this form was sent before with something else in it; open the page again to send another one")
    raise DoneAlready


def keep(engine: sa.Engine, done: Claim, status: int, sealed: str) -> None:
    """Store the answer."""
    with transaction(engine) as connection:
        connection.execute(sa.update(_TABLE).where(*_claimed(done)).values(status=status, sealed=sealed))


def release(engine: sa.Engine, given_up: Claim) -> None:
    """Give the claim back: nothing was done, and the same key may be used again."""
    with transaction(engine) as connection:
        connection.execute(sa.delete(_TABLE).where(*_claimed(given_up)))


def _take_over(connection: sa.Connection, wanted: Claim) -> None:
    connection.execute(sa.delete(_TABLE).where(*_mine(wanted)))
    connection.execute(sa.insert(_TABLE).values(_row(wanted)))


def _row(wanted: Claim) -> dict[str, object]:
    return {
        "organization_id": wanted.organization_id,
        "key": wanted.key,
        "request_digest": wanted.request_digest,
        "status": None,
        "sealed": None,
        "created_at_s": wanted.claimed_at_s,
    }


def _mine(wanted: Claim) -> tuple[sa.ColumnElement[bool], ...]:
    return (_TABLE.c.organization_id == wanted.organization_id, _TABLE.c.key == wanted.key)


def _claimed(one: Claim) -> tuple[sa.ColumnElement[bool], ...]:
    """The claim itself: somebody who took it over has another time."""
    return (*_mine(one), _TABLE.c.status.is_(None), _TABLE.c.created_at_s == one.claimed_at_s)
