"""Prompts and answers of workspaces that opted in: the one place where a prompt becomes a row, and where a row is read again.

Nobody keeps anything unless the caller carries a rule of its workspace. What is kept (`dialects/kept.py` says what) is packed and sealed
for its generation before it reaches any queue, so neither the database nor a log nor a backup ever has it in the clear.
It commits with the settlement, and only if the rule that it was gathered by still holds at that moment: who opts out is obeyed in the
order in which the database does things, whatever was under way anywhere.
"""

from __future__ import annotations

import hashlib
import logging
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec
import sqlalchemy as sa

from modelgates_server.activity.generation import Origin
from modelgates_server.dialects.kept import ContentMeter, Kept, kept_message, kept_request
from modelgates_server.dialects.values import Ask
from modelgates_server.storage import schema
from modelgates_server.storage.engine import transaction
from modelgates_server.storage.hot import Row, Statement
from modelgates_server.storage.portable import overwriting

log = logging.getLogger(__name__)

SIDE_BYTES_MAX: Final = 1024 * 1024
"""Most that is kept of a request, and most that is kept of its answer: a conversation of about 250,000 tokens."""

DELETED_AT_ONCE: Final = 100
"""Other writers wait so long: some milliseconds for contents of usual size."""

DESTINATION: Final = "contents"
"""What a sealed content is bound to besides its organisation and generation."""

_COMPRESSION: Final = 1
"""The fastest. Conversations repeat themselves: a fourth of the bytes for about twenty milliseconds a megabyte."""

_SPACES, _CONTENTS = schema.workspaces, schema.contents
_COLUMNS: Final = tuple(column.name for column in _CONTENTS.columns)


class Rule(Protocol):
    """What a workspace decided: its name (a new one with every change), for how long, and of how many requests in a million."""

    @property
    def rule(self) -> str: ...
    @property
    def retention_s(self) -> int: ...
    @property
    def sampling_ppm(self) -> int: ...


Seal = Callable[[bytes, str, str], tuple[str, str]]
"""Seals bytes for an organisation's generation; gives the text, and the id of the key-encryption key."""


@dataclass(frozen=True, slots=True)
class Keeper:
    """Begins to keep requests of those who opted in."""

    seal: Seal

    def begin(self, rule: Rule, ask: Ask, request_id: str) -> Record | None:
        """Keep a request; None when the sample leaves it out. A conversation is kept whole or not at all."""
        chosen = hashlib.blake2b((ask.session_id or request_id).encode("utf-8", "replace"), digest_size=8).digest()
        if int.from_bytes(chosen) % 1_000_000 >= rule.sampling_ppm:
            return None
        return Record(rule, ask, self.seal)


class Record:
    """What is kept of one request. `begun` and `left` tell which part of the answer its client was given."""

    __slots__ = ("_answer", "_ask", "_rule", "_seal")

    def __init__(self, rule: Rule, ask: Ask, seal: Seal) -> None:
        self._rule = rule
        self._ask = ask
        self._seal = seal
        self._answer: ContentMeter | bytes | None = None

    @staticmethod
    def meter() -> ContentMeter:
        """The meter for a streamed answer."""
        return ContentMeter(SIDE_BYTES_MAX)

    def begun(self, answer: object) -> None:
        """The client is given an answer: its body, or what passes this meter."""
        if isinstance(answer, bytes | ContentMeter):
            self._answer = answer

    def left(self) -> None:
        """The client is gone: nothing that comes from now on is kept."""
        if isinstance(self._answer, ContentMeter):
            self._answer.keeping = False

    def rows(self, origin: Origin) -> list[tuple[Statement | str, Row]]:
        """What to write with the settlement; nothing when that fails, because no receipt may fail with it."""
        try:
            return [(KEEP, self._row(origin))]
        except Exception as error:  # noqa: BLE001 - whatever it is: the money must be booked, and no text of it may be logged
            log.error("content_not_kept", extra={"request": origin.id, "reason": type(error).__name__})  # noqa: TRY400
            return []

    def _row(self, origin: Origin) -> Row:
        plain = self._packed()
        text, kek_id = self._seal(zlib.compress(plain, _COMPRESSION), origin.organization_id, origin.id)
        created_at_s = origin.created_at_ms // 1000
        return {
            "generation_id": origin.id,
            "organization_id": origin.organization_id,
            "workspace_id": origin.workspace_id,
            "created_at_s": created_at_s,
            "expires_at_s": created_at_s + self._rule.retention_s,
            "kek_id": kek_id,
            "sealed": text,
            "size_bytes": len(plain),
            "rule": self._rule.rule,
        }

    def _packed(self) -> bytes:
        """A line of JSON that tells where the sides end, then the request's JSON, then the answer's, if there was one."""
        asked, answer = kept_request(self._ask, SIDE_BYTES_MAX), self._answer
        told: Kept | None = None
        if isinstance(answer, bytes):
            told = kept_message(answer, SIDE_BYTES_MAX)
        elif answer is not None:
            told = answer.kept(SIDE_BYTES_MAX)
        head = {"request_bytes": len(asked.json), "request_cut": asked.cut, "answer_cut": told is not None and told.cut}
        return b"\n".join((msgspec.json.encode(head), asked.json + (b"" if told is None else told.json)))


@dataclass(frozen=True, slots=True)
class Content:
    """What was kept of a generation.

    `request` has the members of the client's body that are kept, `answer` its `content` blocks and `stop_reason`; None when nothing
    reached the client. `…_cut` says that something was left out because it was too long. A request that is nested too deeply
    stands as it came in `request["prompt"]`.
    """

    request: dict[str, Any]
    answer: dict[str, Any] | None
    request_cut: bool
    answer_cut: bool

    @property
    def completion(self) -> str | None:
        """The answer's text; None when it has none."""
        return self._joined("text", "text")

    @property
    def reasoning(self) -> str | None:
        """The answer's thinking, as far as its provider shows it."""
        return self._joined("thinking", "thinking")

    def _joined(self, kind: str, member: str) -> str | None:
        blocks = (self.answer or {}).get("content", [])
        found = [block[member] for block in blocks if block.get("type") == kind and isinstance(block.get(member), str)]
        return "".join(found) if found else None


class _Head(msgspec.Struct):
    request_bytes: int
    request_cut: bool
    answer_cut: bool


def unpacked(packed: bytes) -> Content:
    """Read what `Record` packed and compressed, after it was opened."""
    line, _, sides = zlib.decompress(packed).partition(b"\n")
    head = msgspec.json.decode(line, type=_Head)
    asked, told = sides[: head.request_bytes], sides[head.request_bytes :]
    return Content(_request(asked), msgspec.json.decode(told) if told else None, head.request_cut, head.answer_cut)


def delete_some(engine: sa.Engine, *wanted: sa.ColumnElement[bool]) -> int:
    """Delete a batch of the contents that meet the conditions; how many. Their places in the file are overwritten."""
    ids = sa.select(_CONTENTS.c.generation_id).where(*wanted).limit(DELETED_AT_ONCE).with_for_update(skip_locked=True)
    with transaction(engine) as connection:
        overwriting(connection)
        found = list(connection.execute(ids).scalars())
        if found:
            connection.execute(sa.delete(_CONTENTS).where(_CONTENTS.c.generation_id.in_(found)))
    return len(found)


def no_longer_wanted(now_s: float) -> tuple[sa.ColumnElement[bool], ...]:
    """Conditions, each for itself, under which a content has to go: its time is over, or its workspace is gone."""
    gone = sa.select(_SPACES.c.id).where(_SPACES.c.deleted_at_s.is_not(None))
    return (_CONTENTS.c.expires_at_s <= int(now_s), _CONTENTS.c.workspace_id.in_(gone))


def _request(text: bytes) -> dict[str, Any]:
    """What the client wrote. It was JSON when it came, but whoever reads it may have less room for nesting."""
    try:
        found = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return {"prompt": text.decode("utf-8", "replace")}
    return found


def _keep() -> Statement:
    """``INSERT`` of a content whose rule still holds. PostgreSQL locks the workspace: a rule that is being changed is waited for."""
    holds = (
        _SPACES.c.id == sa.bindparam("workspace_id"),
        _SPACES.c.organization_id == sa.bindparam("organization_id"),
        _SPACES.c.deleted_at_s.is_(None),
        sa.func.json_extract(_SPACES.c.settings, sa.literal_column("'$.prompt_log.rule'"), type_=sa.Text)
        == sa.bindparam("rule"),
    )
    row = sa.select(*(sa.bindparam(name, type_=_CONTENTS.c[name].type) for name in _COLUMNS)).where(
        sa.exists().where(*holds)
    )
    names = ", ".join(f'"{name}"' for name in _COLUMNS)
    values = ", ".join(
        f"CAST(fresh.value ->> '{name}' AS {'TEXT' if isinstance(_CONTENTS.c[name].type, sa.Text) else 'BIGINT'})"
        for name in _COLUMNS
    )
    made = Statement(
        "keep a content",
        sa.insert(_CONTENTS).from_select(_COLUMNS, row),
        f"INSERT INTO contents ({names}) SELECT {values} FROM json_array_elements(%s::json) AS fresh(value)"  # noqa: S608 - names from the schema
        " JOIN workspaces w ON w.id = fresh.value ->> 'workspace_id'"
        " AND w.organization_id = fresh.value ->> 'organization_id'"
        " WHERE w.deleted_at_s IS NULL AND CAST(w.settings AS json) #>> '{prompt_log,rule}' = fresh.value ->> 'rule'"
        " FOR SHARE OF w",
    )
    made.journaled = False  # a few of them would fill a journal that is there for thousands of receipts
    return made


KEEP: Final = _keep()
