"""Where the gateway was served last: links that commands write lead there, also when only a flag of `serve` said it."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

import sqlalchemy as sa

from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading, transaction
from modelgates_server.storage.portable import upsert

SERVED_URL: Final = "served_url"
"""Its name in `meta`. It is a fact about the database, not a change that somebody made, so no audit row goes with it."""


def sign_in_url(origin: str, token: str) -> str:
    """Give the link that signs its holder in, once."""
    return f"{origin.rstrip('/')}/sign-in?token={quote(token, safe='')}"


def note_served_url(engine: sa.Engine, url: str) -> None:
    """Keep the address of a server that has started; of several the last one counts. Raises StoreUnavailable."""
    with transaction(engine) as connection:
        noted = upsert(connection, schema.meta).values(key=SERVED_URL, value=url)
        connection.execute(noted.on_conflict_do_update(index_elements=["key"], set_={"value": noted.excluded.value}))


def served_url(engine: sa.Engine) -> str | None:
    """Give that address; None before the first start. Raises StoreUnavailable."""
    known = schema.meta.c
    with reading(engine) as connection:
        return connection.execute(sa.select(known.value).where(known.key == SERVED_URL)).scalar_one_or_none()
