"""What an audit row says, for people: ids by name, amounts in USD, times in UTC."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa

from modelgates_server.money import dollars
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading

HASH_SHOWN: Final = 12
"""As many letters of a key's hash as an actor of the API carries."""

_ID: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{5,79}")
_IDS_AT_ONCE: Final = 500


def names_of(engine: sa.Engine, organization_id: str, texts: Iterable[str]) -> dict[str, str]:
    """Give the names of those of an organisation's members, workspaces and keys whose ids stand in `texts`, by id."""
    ids = sorted({one for text in texts for one in _ID.findall(text)})
    members, spaces, keys = schema.members.c, schema.workspaces.c, schema.api_keys.c
    short = sa.func.substr(keys.hash, 1, HASH_SHOWN)
    found: dict[str, str] = {}
    with reading(engine) as connection:
        for start in range(0, len(ids), _IDS_AT_ONCE):
            some = ids[start : start + _IDS_AT_ONCE]
            for table, id_ in ((members, members.id), (spaces, spaces.id), (keys, keys.hash), (keys, short)):
                query = sa.select(id_, table.name).where(table.organization_id == organization_id, id_.in_(some))
                found |= {row[0]: row[1] for row in connection.execute(query)}
    return found


def named(text: str, names: Mapping[str, str], most: int | None = None) -> str:
    """An actor or a target as people know it; ``workspace:ws-…`` keeps its first word. An id is cut to `most` letters."""
    kind, colon, name = text.rpartition(":")
    return kind + colon + names.get(name, name[:most])


def who(actor: str, names: Mapping[str, str]) -> str:
    """An actor in words: a member by name, a key by name and as a key, anything else as it is called."""
    kind, colon, id_ = actor.partition(":")
    if not colon or id_ not in names:
        return actor
    return names[id_] if kind == "member" else f"{kind} {names[id_]}"


def parts(details: Mapping[str, Any], names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The details of a change as names and values in words: ``limit`` and ``$5.00``.

    Nothing for what is not said, but ``none`` for a limit that is none.
    """
    for name, value in details.items():
        words = name.removesuffix("_nusd").removesuffix("_s").removesuffix("_id").replace("_", " ")
        if isinstance(value, dict):
            yield from ((f"{words} {inner}", text) for inner, text in parts(value, names))
        elif isinstance(value, list):
            yield words, " ".join(names.get(str(one), str(one)) for one in value) or "none"
        elif name.endswith("_nusd") and isinstance(value, int):
            yield words, dollars(value)
        elif name.endswith("_at_s") and isinstance(value, int):
            yield words, datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M UTC")
        elif isinstance(value, bool):
            yield words, "yes" if value else "no"
        elif value is None and name == "limit_nusd":
            yield words, "none"
        elif value is not None:
            text = json.dumps(value, ensure_ascii=False) if " " in str(value) else str(value)
            yield words, names.get(str(value), text)
