"""Where the gateway was served last: links that commands write lead there, also when only a flag of `serve` said it."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

import sqlalchemy as sa

from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading, transaction
from modelgates_server.storage.portable import upsert

SERVED_URL: Final = "served_url"
SERVED_ADMIN_URL: Final = "served_admin_url"
"""Their names in `meta`. They are facts about the database, not changes that somebody made, so no audit row goes with them."""


def sign_in_url(origin: str, token: str) -> str:
    """Give the link that signs its holder in, once."""
    return f"{origin.rstrip('/')}/sign-in?token={quote(token, safe='')}"


def note_served_url(engine: sa.Engine, url: str, admin_url: str | None = None) -> None:
    """Keep the addresses of a server that has started; of several the last one counts. Raises StoreUnavailable."""
    known = schema.meta.c
    with transaction(engine) as connection:
        connection.execute(sa.delete(schema.meta).where(known.key == SERVED_ADMIN_URL))
        for key, value in ((SERVED_URL, url), (SERVED_ADMIN_URL, admin_url)):
            if value is not None:
                noted = upsert(connection, schema.meta).values(key=key, value=value)
                noted = noted.on_conflict_do_update(index_elements=["key"], set_={"value": noted.excluded.value})
                connection.execute(noted)


def served_url(engine: sa.Engine) -> str | None:
    """Give the address of clients; None before the first start. Raises StoreUnavailable."""
    return _noted(engine, SERVED_URL)


def served_admin_url(engine: sa.Engine) -> str | None:
    """Give the address of management; None when it had none of its own. Raises StoreUnavailable."""
    return _noted(engine, SERVED_ADMIN_URL)


def _noted(engine: sa.Engine, key: str) -> str | None:
    known = schema.meta.c
    with reading(engine) as connection:
        return connection.execute(sa.select(known.value).where(known.key == key)).scalar_one_or_none()
