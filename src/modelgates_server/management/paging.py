"""Lists a page at a time, with how many there are in all (product-surface 2, conventions)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import sqlalchemy as sa

T = TypeVar("T")

PAGE_ROWS_MAX = 100
"""What one page of a list of the management API holds at most."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some rows of a list, and how many rows it has."""

    rows: list[T]
    total: int


def page(
    connection: sa.Connection, query: sa.Select[Any], read: Callable[[sa.RowMapping], T], offset: int, limit: int | None
) -> Page[T]:
    """Read `limit` rows (None: all) from `offset` on. The query says the order."""
    total = connection.execute(sa.select(sa.func.count()).select_from(query.order_by(None).subquery())).scalar_one()
    found = connection.execute(query.offset(offset).limit(limit)).mappings()
    return Page([read(row) for row in found], total)
