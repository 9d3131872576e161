"""Feedback on generations."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from tests.unit.accounts.house import House
from tests.unit.console.planted import receipt

from modelgates_server.activity.generation import rows
from modelgates_server.errors import BadRequest, NotFound
from modelgates_server.management import audit
from modelgates_server.management.audit import AuditFilter
from modelgates_server.management.feedback import CATEGORIES, Feedback, give_feedback
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading, transaction


def plant(house: House, organization_id: str) -> str:
    row = rows(receipt(organization_id, "k"))[0][1]
    with transaction(house.engine) as connection:
        connection.execute(sa.insert(schema.generations).values(row))
    return str(row["id"])


def kept(house: House) -> list[sa.RowMapping]:
    with reading(house.engine) as connection:
        return list(connection.execute(sa.select(schema.generation_feedback)).mappings())


def test_feedback_is_kept_and_noted(house: House) -> None:
    """With its author; the audit row names the category, and not the comment, which may quote the answer."""
    organization_id = house.made.organization_id
    id_ = plant(house, organization_id)
    said = Feedback(id_, "latency", "slow\r\n and\x00 \x1b[31mred")
    made = give_feedback(house.engine, organization_id, said, "key:1", house.clock.now_s())
    (row,) = kept(house)
    newest = audit.list_audit(house.engine, organization_id, AuditFilter(), 0, 1).rows[0]

    assert (row["id"], row["category"], row["author"]) == (made, "latency", "key:1")
    assert row["comment"] == "slow and [31mred"
    assert (newest.action, newest.target) == ("generation.feedback", id_)
    assert "slow" not in newest.details
    assert audit.verify(house.engine).broken is None


@pytest.mark.parametrize("said", [("x", None), ("", None), ("other", "a" * 1_001), ("Latency", None)])
def test_feedback_that_makes_no_sense_is_refused(house: House, said: tuple[str, str | None]) -> None:
    """Unknown categories, comments that are too long: nothing is kept."""
    id_ = plant(house, house.made.organization_id)
    with pytest.raises(BadRequest):
        give_feedback(house.engine, house.made.organization_id, Feedback(id_, *said), "key:1", house.clock.now_s())

    assert kept(house) == []


def test_nobody_speaks_about_anothers_generation(house: House) -> None:
    """A foreign generation is as unknown as one that does not exist."""
    id_ = plant(house, "org-other")
    for unknown in (id_, "gen-none", "%", "' OR 1=1 --"):
        with pytest.raises(NotFound):
            give_feedback(
                house.engine, house.made.organization_id, Feedback(unknown, CATEGORIES[0]), "key:1", house.clock.now_s()
            )

    assert kept(house) == []
