"""The audit log: shown by organisation, whole or not, and proved by what was exported before (gate R25, in short)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from modelgates_server.errors import BadRequest
from modelgates_server.management import audit
from modelgates_server.management.audit import AuditFilter, Verdict
from modelgates_server.management.change import AUDIT_HEAD, Note, change
from modelgates_server.storage import chain, schema
from modelgates_server.storage.engine import database_of, open_engine, reading, transaction

NOW_S = 1_800_000_000
SECRET, OTHER_SECRET = bytes(range(32)), bytes(range(1, 33))
ROWS = 10_000
MIDDLE = ROWS // 2


def _open(url: str) -> Iterator[sa.Engine]:
    engine = open_engine(database_of(url))
    try:
        schema.metadata.create_all(engine)
        with transaction(engine) as connection:
            connection.execute(sa.insert(schema.policy).values(id=1, version=1))
        yield engine
    finally:
        engine.dispose()


@pytest.fixture
def engine(empty_url: str) -> Iterator[sa.Engine]:
    """Once on SQLite, once on PostgreSQL."""
    yield from _open(empty_url)


@pytest.fixture(scope="module")
def long_log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sa.Engine]:
    """Ten thousand changes of two organisations."""
    opened = _open(f"sqlite:///{tmp_path_factory.mktemp('audit') / 'long.db'}")
    engine = next(opened)
    digest, rows = chain.START, []
    for number in range(1, ROWS + 1):
        row = {
            "organization_id": f"org-{number % 2}", "created_at_s": NOW_S + number, "actor": "ann", "action": "key.limit",
            "target": f"key-{number}", "details": "{}", "previous": digest,
        }  # fmt: skip
        digest = chain.link(digest, row)
        rows.append(row | {"id": number, "digest": digest})
    with transaction(engine) as connection:
        connection.execute(sa.insert(schema.audit), rows)
        connection.execute(sa.insert(schema.meta).values(key=AUDIT_HEAD, value=digest))
    yield engine
    opened.close()


def changes(engine: sa.Engine, *notes: Note) -> None:
    for number, note in enumerate(notes):
        with change(engine, NOW_S + number) as changing:
            changing.note(note)


def _flip(column: str, value: Any) -> Callable[[sa.Connection, int], None]:
    def tamper(connection: sa.Connection, id_: int) -> None:
        connection.execute(sa.update(schema.audit).where(schema.audit.c.id == id_).values({column: value}))

    return tamper


def _drop(connection: sa.Connection, id_: int) -> None:
    connection.execute(sa.delete(schema.audit).where(schema.audit.c.id == id_))


def _swap(connection: sa.Connection, id_: int) -> None:
    other = id_ + 1 if id_ < ROWS else id_ - 1
    for old, new in ((id_, 0), (other, id_), (0, other)):
        connection.execute(sa.update(schema.audit).where(schema.audit.c.id == old).values(id=new))


def _insert(connection: sa.Connection, id_: int) -> None:
    """A row of one's own after another, linked as it should be."""
    audit_rows = schema.audit
    before = dict(connection.execute(sa.select(audit_rows).where(audit_rows.c.id == id_)).mappings().one())
    row = {**before, "action": "credits.grant", "previous": before["digest"]}
    row.pop("id")
    row["digest"] = chain.link(row["previous"], row)
    connection.execute(sa.update(audit_rows).where(audit_rows.c.id > id_).values(id=-audit_rows.c.id - 1))
    connection.execute(sa.update(audit_rows).where(audit_rows.c.id < 0).values(id=-audit_rows.c.id))
    connection.execute(sa.insert(audit_rows).values(**row, id=id_ + 1))


def _truncate(connection: sa.Connection, id_: int) -> None:
    connection.execute(sa.delete(schema.audit).where(schema.audit.c.id >= id_))


def _relink(connection: sa.Connection, id_: int) -> None:
    """Alter a row and its digest, but not what follows; the last row then stands against the head."""
    row = dict(connection.execute(sa.select(schema.audit).where(schema.audit.c.id == id_)).mappings().one())
    row["actor"] = "bob"
    digest = chain.link(row["previous"], {name: value for name, value in row.items() if name not in {"id", "digest"}})
    _flip("actor", "bob")(connection, id_)
    _flip("digest", digest)(connection, id_)


TAMPERINGS: dict[str, Callable[[sa.Connection, int], None]] = {
    "time": _flip("created_at_s", 1),
    "organisation": _flip("organization_id", "org-2"),
    "actor": _flip("actor", "bob"),
    "action": _flip("action", "key.enable"),
    "target": _flip("target", "key-0"),
    "details": _flip("details", '{"a": 1}'),
    "previous": _flip("previous", "f" * 64),
    "digest": _flip("digest", "f" * 64),
    "drop": _drop,
    "swap": _swap,
    "insert": _insert,
    "truncate": _truncate,
    "relink": _relink,
}


@pytest.mark.parametrize("id_", [1, MIDDLE, ROWS])
@pytest.mark.parametrize("kind", list(TAMPERINGS))
def test_every_tampering_is_found(long_log: sa.Engine, kind: str, id_: int) -> None:
    """Among ten thousand rows, whatever is done to the first, one in the middle or the last breaks the chain."""
    with long_log.connect() as connection:  # nothing is committed
        TAMPERINGS[kind](connection, id_)
        rows = connection.execute(sa.select(schema.audit).order_by(schema.audit.c.id)).mappings()
        head = connection.execute(sa.select(schema.meta.c.value).where(schema.meta.c.key == AUDIT_HEAD)).scalar_one()
        assert chain.first_break(map(dict, rows), head) is not None


def test_a_whole_chain_is_whole(long_log: sa.Engine) -> None:
    """Every row of every organisation was walked."""
    assert audit.verify(long_log) == Verdict(None, ROWS)


def test_a_log_that_was_cut_and_sealed_again_is_proved_wrong_by_an_export(long_log: sa.Engine, tmp_path: Path) -> None:
    """Cutting the newest rows off and moving the head back leaves a whole chain; the signed head of before tells."""
    lines = list(audit.export(long_log, SECRET, NOW_S))
    copy = next(opened := _open(f"sqlite:///{tmp_path / 'copy.db'}"))
    kept = [json.loads(line) for line in lines[: ROWS - 5]]
    with transaction(copy) as connection:
        connection.execute(sa.insert(schema.audit), kept)
        connection.execute(sa.insert(schema.meta).values(key=AUDIT_HEAD, value=kept[-1]["digest"]))

    assert audit.verify(copy).broken is None
    told = audit.verify_export(copy, SECRET, lines).broken
    assert told == f"the export holds {ROWS} rows; the log has only {ROWS - 5} rows"
    opened.close()


def test_a_log_that_was_rewritten_is_proved_wrong_by_an_export(engine: sa.Engine) -> None:
    """Another history of the same length, whole in itself, is not the one that was exported; later rows do not hide it."""
    changes(engine, *(Note("org-a", "ann", "key.create", f"key-{number}") for number in range(3)))
    lines = list(audit.export(engine, SECRET, NOW_S))
    changes(engine, Note("org-a", "ann", "key.delete", "key-0"))
    assert audit.verify_export(engine, SECRET, lines) == Verdict(None, 4)
    with transaction(engine) as connection:
        connection.execute(sa.delete(schema.audit))
        connection.execute(sa.delete(schema.meta))
    changes(engine, *(Note("org-a", "bob", "key.create", f"key-{number}") for number in range(4)))

    assert audit.verify(engine).broken is None
    assert audit.verify_export(engine, SECRET, lines).broken == "the export holds 3 rows; the log was rewritten"


@pytest.mark.parametrize("place", [0, 1, -1])
def test_an_export_cannot_be_forged(engine: sa.Engine, place: int) -> None:
    """Each altered, missing or foreign line is found, and so is another installation's signature."""
    changes(engine, *(Note("org-a", "ann", "key.create", f"key-{number}") for number in range(3)))
    lines = list(audit.export(engine, SECRET, NOW_S))
    altered = [*lines]
    altered[place] = altered[place].replace('"ann"', '"bob"').replace(": 3", ": 2")

    assert audit.verify_export(engine, SECRET, altered).broken is not None
    assert audit.verify_export(engine, SECRET, [lines[0], lines[2], lines[3]]).broken is not None
    assert audit.verify_export(engine, SECRET, list(audit.export(engine, OTHER_SECRET, NOW_S))).broken is not None
    assert audit.verify_export(engine, SECRET, lines).broken is None


@pytest.mark.parametrize(
    "lines", [[], ["{}"], ["no JSON"], ["[]"], ['"text"'], ['{"a": 1}', '{"head": 1, "rows": 1, "exported_at_s": 1}']]
)
def test_what_is_no_export_is_refused(engine: sa.Engine, lines: list[str]) -> None:
    """Other files are a bad request, not a broken log."""
    with pytest.raises(BadRequest):
        audit.verify_export(engine, SECRET, lines)


def test_an_export_holds_no_secret_and_every_row(engine: sa.Engine) -> None:
    """The rows of all organisations in their order, then the head; the signature is not the secret."""
    changes(engine, Note("org-a", "ann", "a.b", "x", {"limit_nusd": 5}), Note("org-b", "bob", "c.d", "y"))
    *rows, head = (json.loads(line) for line in audit.export(engine, SECRET, NOW_S))

    assert [row["organization_id"] for row in rows] == ["org-a", "org-b"]
    assert (head["rows"], head["head"], head["exported_at_s"]) == (2, rows[-1]["digest"], NOW_S)
    assert SECRET.hex() not in str(head)


def test_an_organisation_sees_its_own_changes(engine: sa.Engine) -> None:
    """Newest first, in pages, by action, actor, target and time; no filter shows anybody else's."""
    mine = [Note("org-a", f"key:{number % 2}", "key.create", f"key-{number}") for number in range(5)]
    changes(engine, *mine, Note("org-b", "key:9", "key.delete", "theirs"))

    def targets(offset: int = 0, limit: int = 100, **wanted: Any) -> list[str]:
        return [row.target for row in audit.list_audit(engine, "org-a", AuditFilter(**wanted), offset, limit).rows]

    assert targets() == ["key-4", "key-3", "key-2", "key-1", "key-0"]
    assert targets(1, 2) == ["key-3", "key-2"]
    assert targets(10**6) == []
    assert targets(actor="key:1") == ["key-3", "key-1"]
    assert targets(since_s=NOW_S + 3) == ["key-4", "key-3"]
    assert targets(until_s=NOW_S + 1) == ["key-0"]
    assert targets(target="key-2", action="key.create") == ["key-2"]
    for hostile in ("theirs", "key.delete", "key:9", "%", "' OR 1=1 --"):
        assert targets(action=hostile) == targets(actor=hostile) == targets(target=hostile) == []
    assert audit.list_audit(engine, "org-a", AuditFilter(), 0, 2).total == 5
    with reading(engine) as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(schema.audit)).scalar_one() == 6
