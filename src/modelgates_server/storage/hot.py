"""Statements for the hot path: built from the schema, rendered to text once for each store, run on the raw driver.

SQLite takes a row at a time; PostgreSQL takes all rows of a statement as one JSON array, which costs one round trip and no
planning per row.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, Final, Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

Row = dict[str, Any]
"""One row as column name → value."""

_DIALECT = sqlite.dialect(paramstyle="qmark")

NEW: Final = "new "
"""Begins a parameter's name where it must differ from its column's."""

NAMED: Final[dict[str, Statement]] = {}
"""Every statement by its name, so that one can be written down (`storage/journal.py`) and found again."""


class Statement:
    """A rendered statement. `values` takes a row's parameters in their order: binding by place costs half of binding by name.

    `postgres` takes the rows of one batch as a JSON array. What is not `journaled` is written only once the store is there.
    """

    __slots__ = ("gather", "journaled", "name", "postgres", "sql", "values")

    def __init__(self, name: str, statement: sa.ClauseElement, postgres: str) -> None:
        compiled = statement.compile(dialect=_DIALECT)
        self.name = name
        self.sql = str(compiled)
        self.postgres = postgres
        self.gather: Callable[[Iterable[Row]], Iterable[Row]] | None = None
        self.journaled = True
        names = [name.removeprefix(NEW) for name in getattr(compiled, "positiontup", None) or ()]
        self.values: Callable[[Row], tuple[Any, ...]] = (
            itemgetter(*names) if len(names) > 1 else lambda row: (row[names[0]],)
        )
        NAMED[name] = self

    def run(self, connection: sqlite3.Connection, rows: Iterable[Row]) -> None:
        """Run it once for every row, on SQLite."""
        connection.executemany(self.sql, map(self.values, rows if self.gather is None else self.gather(rows)))


class Text:
    """A statement that is written by hand, with ``:name`` for values; `postgres` where that says it differently."""

    __slots__ = ("name", "postgres", "sql")

    def __init__(self, name: str, sql: str, postgres: str | None = None) -> None:
        self.name = name
        self.sql = sql
        self.postgres = postgres or sql


def insert(table: sa.Table) -> Statement:
    """``INSERT`` of a whole row of `table`, except a primary key that the database numbers itself."""
    columns = [column.name for column in table.columns if column.autoincrement is not True]
    statement = sa.insert(table).values({name: sa.bindparam(name) for name in columns})
    return Statement(f"insert {table.name}", statement, _from_json(table, columns))


def upsert(table: sa.Table, update: Iterable[str]) -> Statement:
    """``INSERT`` of a whole row that overwrites the columns in `update` when the row exists; on PostgreSQL it must exist."""
    statement = sqlite.insert(table).values({column.name: sa.bindparam(column.name) for column in table.columns})
    changes = {name: statement.excluded[name] for name in update}
    (key,) = table.primary_key.columns
    sets = ", ".join(f'"{name}" = fresh."{name}"' for name in update)
    return Statement(
        f"update {table.name}",
        statement.on_conflict_do_update(index_elements=[key], set_=changes),
        f'UPDATE "{table.name}" AS known SET {sets} FROM {_recordset(table)} AS fresh'  # noqa: S608 - names from the schema
        f' WHERE known."{key.name}" = fresh."{key.name}"',
    )


def update(table: sa.Table, columns: Sequence[str]) -> Statement:
    """``UPDATE`` of some columns of rows that exist."""
    (key,) = table.primary_key.columns
    values: dict[str, Any] = {name: sa.bindparam(NEW + name) for name in columns}
    sets = ", ".join(f'"{name}" = fresh."{name}"' for name in columns)
    statement = sa.update(table).values(values).where(key == sa.bindparam(NEW + key.name))
    return Statement(
        f"change {table.name}",
        statement,
        f'UPDATE "{table.name}" AS known SET {sets} FROM {_recordset(table)} AS fresh'  # noqa: S608 - names from the schema
        f' WHERE known."{key.name}" = fresh."{key.name}"',
    )


def accumulate(table: sa.Table, sums: Iterable[str]) -> Statement:
    """``INSERT`` of a whole row that adds the columns in `sums` when the row exists."""
    statement = sqlite.insert(table).values({column.name: sa.bindparam(column.name) for column in table.columns})
    sums = tuple(sums)
    keys = [column.name for column in table.primary_key.columns]
    changes = {name: table.columns[name] + statement.excluded[name] for name in sums}
    columns = [column.name for column in table.columns]
    # rows of one batch are added up first, and come in the order of their key: that is the order in which they are locked
    taken = {name: f'"{name}"' for name in keys} | {
        name: f'CAST(SUM("{name}") AS BIGINT)' if name in sums else f'MAX("{name}")'
        for name in columns
        if name not in keys
    }
    by = ", ".join(f'"{name}"' for name in keys)
    adds = ", ".join(f'"{name}" = "{table.name}"."{name}" + excluded."{name}"' for name in sums)
    made = Statement(
        f"accumulate {table.name}",
        statement.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=changes),
        f'INSERT INTO "{table.name}" ({_names(columns)}) SELECT {", ".join(taken[name] for name in columns)}'  # noqa: S608
        f" FROM {_recordset(table)} GROUP BY {by} ORDER BY {by} ON CONFLICT ({by}) DO UPDATE SET {adds}",
    )
    made.gather = partial(_added_up, itemgetter(*keys), itemgetter(*sums), sums)
    return made


def _added_up(
    key: Callable[[Row], Any], amounts: Callable[[Row], Sequence[int]], sums: Sequence[str], rows: Iterable[Row]
) -> Iterable[Row]:
    """Rows with the same key as one: a batch mostly falls into one hour of a few keys.

    The rows themselves stay as they are: a unit that is tried again brings them again.
    """
    found: dict[Any, list[Row]] = {}
    for row in rows:
        place = key(row)
        if place in found:
            found[place].append(row)
        else:
            found[place] = [row]
    for alike in found.values():
        first = alike[0]
        if len(alike) > 1:
            totals = map(sum, zip(*map(amounts, alike), strict=True))
            first = first | dict(zip(sums, totals, strict=True))
        yield first


class Lockable:
    """A table whose rows a unit reads and changes under the writer's lock. `key` is its one-column primary key.

    `reads` names the columns that units look at, when they need not see whole rows. `lock` is how PostgreSQL locks them: SHARE
    keeps others from changing them.
    """

    def __init__(
        self,
        table: sa.Table,
        *,
        changes: Sequence[str] = (),
        reads: Sequence[str] = (),
        lock: Literal["SHARE", "NO KEY UPDATE", "UPDATE"] = "NO KEY UPDATE",
    ) -> None:
        (key,) = table.primary_key.columns
        self.name = table.name
        self.key: str = key.name
        self.columns = tuple(reads) or tuple(column.name for column in table.columns)
        names = _names(self.columns)
        self.select = f'SELECT {names} FROM "{table.name}" WHERE "{self.key}" IN (SELECT value FROM json_each(?))'  # noqa: S608 - names from the schema
        self.save = (update if reads else upsert)(table, changes) if changes else insert(table)
        self.delete = Statement(
            f"delete {table.name}",
            sa.delete(table).where(key == sa.bindparam("key")),
            f'DELETE FROM "{table.name}" WHERE "{self.key}" = ANY(%s)',  # noqa: S608
        )
        self.lock = f'SELECT {names} FROM "{table.name}" WHERE "{self.key}" = ANY(%s) ORDER BY "{self.key}" FOR {lock}'  # noqa: S608
        self.insert = _from_json(table, [column.name for column in table.columns])
        self.seed = self.insert + f' ORDER BY "{self.key}" ON CONFLICT DO NOTHING'

    def rows(self, found: Iterable[Sequence[Any]]) -> dict[Any, Row]:
        """Index fetched tuples by their key."""
        rows = [dict(zip(self.columns, values, strict=True)) for values in found]
        return {row[self.key]: row for row in rows}


def id_list(ids: Iterable[Any]) -> str:
    """Ids as the JSON array that `Lockable.select` takes: one statement for any number of them."""
    return msgspec.json.encode(list(ids)).decode()


def row_list(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as the JSON array that PostgreSQL's statements take. It knows no NUL in text: one is left out."""
    rows = list(rows)
    text = msgspec.json.encode(rows).decode()
    if "\\u0000" in text:
        clean = [{name: v.replace("\0", "") if isinstance(v, str) else v for name, v in row.items()} for row in rows]
        text = msgspec.json.encode(clean).decode()
    return text


def _names(columns: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in columns)


def _recordset(table: sa.Table) -> str:
    return f'json_populate_recordset(NULL::"{table.name}", %s::json)'


def _from_json(table: sa.Table, columns: Sequence[str]) -> str:
    return f'INSERT INTO "{table.name}" ({_names(columns)}) SELECT {_names(columns)} FROM {_recordset(table)}'  # noqa: S608 - names from the schema
