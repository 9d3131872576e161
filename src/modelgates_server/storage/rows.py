"""One batch's working copy of the rows it locked, and the changes it will make. Knows no store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from modelgates_server.storage.hot import Lockable, Row, Statement, Text

Write = Statement | Text | str
"""What may be run at the end of a batch; a plain text must mean the same to every store."""


class Rows:
    """The rows as this batch sees them now. Change them only through `save` and `delete`."""

    __slots__ = ("_rows", "deleted", "known", "saved", "tables", "writes")

    def __init__(self, tables: Mapping[str, Lockable]) -> None:
        self.tables = tables
        self._rows: dict[str, dict[Any, Row]] = {name: {} for name in tables}
        self.known: dict[str, frozenset[Any]] = {}
        self.saved: dict[str, dict[Any, Row]] = {name: {} for name in tables}
        self.deleted: dict[str, dict[Any, None]] = {name: {} for name in tables}
        self.writes: dict[Write, list[Row]] = {}

    def put(self, table: str, found: Iterable[tuple[Any, ...]]) -> None:
        """Take in what the database has of a table."""
        self._rows[table] = self.tables[table].rows(found)
        self.known[table] = frozenset(self._rows[table])

    def get(self, table: str, key: Any) -> Row | None:
        """The row, or None when it does not exist."""
        return self._rows[table].get(key)

    def of(self, table: str) -> Mapping[Any, Row]:
        """All of the table's rows that the batch knows, by their key."""
        return self._rows[table]

    def save(self, table: str, row: Row) -> None:
        """Insert the row, or update it when the table allows."""
        key = row[self.tables[table].key]
        self._rows[table][key] = row
        self.saved[table][key] = row

    def save_all(self, table: str, rows: Iterable[Row]) -> None:
        """The same for several rows of one table."""
        key, known, saved = self.tables[table].key, self._rows[table], self.saved[table]
        for row in rows:
            known[row[key]] = saved[row[key]] = row

    def delete(self, table: str, key: Any) -> None:
        """Remove the row. One that this very batch made is never written at all."""
        self._rows[table].pop(key, None)
        self.saved[table].pop(key, None)
        self.deleted[table][key] = None

    def write(self, statement: Write, row: Row) -> None:
        """Run `statement` with `row` at the end of the batch; equal statements run together. A text binds by name."""
        self.writes.setdefault(statement, []).append(row)


def wanted(needs: Iterable[Mapping[str, Iterable[Any]]]) -> dict[str, set[Any]]:
    """Every row that some units name, by table."""
    found: dict[str, set[Any]] = {}
    for need in needs:
        for name, ids in need.items():
            if name in found:
                found[name].update(ids)
            else:
                found[name] = set(ids)
    return found


class Unit(Protocol):
    """One indivisible change. `needs` names the rows to read; `decide` looks at them and says what to write.

    `decide` must raise before it changes anything, or not at all. `keep` units are never given up: they are tried again until
    the database takes them, so deciding twice must come to the same as once. `size_bytes` is told by those that write much.
    """

    keep: bool
    size_bytes: int

    def needs(self) -> Mapping[str, Iterable[Any]]: ...

    def decide(self, rows: Rows) -> Any: ...

    def seed(self, table: str, key: Any) -> Row | None:
        """The row to begin with, where several processes may make the same one at once; None when there is nothing to make."""
        ...

    def abandoned(self, result: Any) -> None:
        """It is committed, and whoever waited for it is gone or was told something else before."""
        ...

    def follow(self, result: Any) -> Unit | None:
        """It is committed: what has to be done next, before anybody is told; None when that was all."""
        ...

    def unsure(self, result: Any) -> None:
        """The connection broke during the commit: nobody knows whether it happened. Whoever waited is told that it did not."""
        ...

    def plainer(self, why: str) -> Unit | None:
        """The database refused it, or it could not decide: what is tried once in its place; None when it has no plainer form."""
        ...

    def record(self) -> Row | None:
        """What to write into the journal while the store is away, so that nobody has to wait; None when there is nothing to say."""
        ...
