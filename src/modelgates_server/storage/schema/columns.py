"""How tables are written here: short words for columns, and options for both stores."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, MetaData, Table, Text

metadata = MetaData()

BIG = BigInteger().with_variant(Integer, "sqlite")  # a STRICT table knows no BIGINT; its INTEGER has 64 bits


def table(name: str, *columns: Column[object] | CheckConstraint | Index, rowid: bool = True, fill: int = 100) -> Table:
    """A table of the schema. `fill` is how full PostgreSQL packs its pages: rows that change often need room in theirs."""
    return Table(
        name, metadata, *columns, sqlite_strict=True, sqlite_with_rowid=rowid, postgresql_with={"fillfactor": fill}
    )


def text(name: str, *, null: bool = False, key: bool = False, default: str | None = None) -> Column[object]:
    """A column of text."""
    return Column(name, Text, nullable=null, primary_key=key, server_default=default)


def integer(name: str, *, null: bool = False, key: bool = False, default: str | None = None) -> Column[object]:
    """A column of 64-bit integers."""
    return Column(name, BIG, nullable=null, primary_key=key, server_default=default, autoincrement=False)
