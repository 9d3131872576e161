"""Passes: credentials that live for a minute and are their key in everything.

Nobody can read a key again, so whoever wants to ask the gateway *as* a key, as the doctor does, is given a pass for it. A pass has the
form of an inference key. The directory takes it for its key (`accounts/directory.py`): the same meters, policy and limits, and its
requests stand in the books under the key. It dies with its key. The management plane knows no passes.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from modelgates_server.accounts import keys
from modelgates_server.accounts.values import KeyClass
from modelgates_server.errors import BadRequest
from modelgates_server.management.change import Note, change
from modelgates_server.management.keys import get_key
from modelgates_server.storage import schema

PASS_LIFE_S: Final = 60
"""A visit of the doctor takes seconds; nothing that leaks out of one may be of use for longer."""


def make_pass(engine: sa.Engine, pepper: bytes, organization_id: str, key_hash: str, actor: str, now_s: float) -> str:
    """Make a pass for a key and give its text, which is never shown to a person.

    Raises NotFound for a key that is not there, BadRequest for one that could ask nothing.
    """
    key = get_key(engine, organization_id, key_hash)  # if it dies before the pass is there, the pass is born dead
    if key.key_class is not KeyClass.INFERENCE:
        raise BadRequest("this is a management key, and those cannot ask models anything")
    if key.disabled:
        raise BadRequest("this key is disabled", remedy="enable it, or use another key")
    if key.expires_at_s is not None and key.expires_at_s <= now_s:
        raise BadRequest("this key has expired", remedy="use another key, or make a new one")
    minted = keys.mint(KeyClass.INFERENCE)
    with change(engine, now_s) as changing:
        row = {
            "hash": keys.digest(pepper, minted.secret),
            "organization_id": organization_id,
            "key_hash": key.hash,
            "made_by": actor,
            "created_at_s": changing.now_s,
            "expires_at_s": changing.now_s + PASS_LIFE_S,
        }
        changing.connection.execute(sa.insert(schema.passes).values(row))
        changing.note(Note(organization_id, actor, "pass.make", key.hash, {"expires_at_s": row["expires_at_s"]}))
    return minted.secret
