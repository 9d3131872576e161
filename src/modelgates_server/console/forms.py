"""Forms that are sent twice, and forms that are older than what they change.

Whoever clicks twice means one thing; so does whoever comes back to a page and sends it once more. And whoever opened a form before
somebody else changed the same thing must not put the old values back without seeing that.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from modelgates_server.console.visits import Visit
from modelgates_server.errors import BadRequest
from modelgates_server.management.idempotency import Form

ONCE: Final = "once"
"""The field that is new each time a form is shown (`ui.once()`)."""

SHOWN: Final = "shown"
"""The field that says what the form showed of the thing that it changes."""

_NOT_TYPED: Final = frozenset({ONCE, "csrf"})


def form_of(visit: Visit) -> Form:
    """What tells a form from others of its kind: it is done once."""
    typed = [(visit.here, ""), *(pair for pair in visit.form.pairs() if pair[0] not in _NOT_TYPED)]
    return Form(visit.form.get(ONCE), _digest(typed))


def shown(fields: object) -> str:
    """A short name for what a form shows, for its hidden field."""
    return _digest(fields)[:16]


def refuse_older(visit: Visit, fields: object, what: str) -> None:
    """Refuse a form that was shown when the thing looked otherwise; `fields` are what it would show now. Raises BadRequest.

    A program that sends no such field means what it says.
    """
    if visit.form.has(SHOWN) and visit.form.get(SHOWN) != shown(fields):
        raise BadRequest(
            f"Somebody changed {what} after you opened this page. Nothing of yours is saved yet: compare what you typed with how it is"
            f" now, and save again."
        )


def _digest(value: object) -> str:
    return hashlib.sha256(msgspec.json.encode(value)).hexdigest()
