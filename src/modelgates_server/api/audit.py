"""The audit log: who changed what, and whether it is whole."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import Query

from modelgates_server.accounts.quotas import AUDIT_CHECKS
from modelgates_server.api.answers import Answer, answer, page
from modelgates_server.api.routes import Housed, Managing, new_router
from modelgates_server.api.shapes import Paged, Shown
from modelgates_server.api.times import instant_ms
from modelgates_server.management import audit
from modelgates_server.management.audit import AuditFilter, AuditRow
from modelgates_server.management.describe import rfc3339

router = new_router("audit")

Text = Annotated[str | None, Query(max_length=300)]


class AuditShown(Shown):
    """One change. `id` is its digest; `details` is what the digest covers, amounts in it are nano-USD."""

    id: str
    created_at: str
    actor: str
    action: str
    target: str
    details: dict[str, Any]


class AuditList(Shown):
    """A page of changes, newest first."""

    data: list[AuditShown]
    total_count: int


class Whole(Shown):
    """Whether no row was altered, removed, added or moved."""

    whole: bool


class WholeAnswer(Shown):
    """Whether the log is whole."""

    data: Whole


@router.get("/audit", response_model=AuditList)
def list_audit(  # noqa: PLR0913 - the filters
    house: Housed,
    manager: Managing,
    paging: Paged,
    action: Text = None,
    actor: Text = None,
    target: Text = None,
    since: Annotated[str | None, Query(alias="from", max_length=40, description="Not before this time or day.")] = None,
    until: Annotated[str | None, Query(alias="to", max_length=40, description="Before this time or day.")] = None,
) -> Answer:
    """List the organisation's changes, newest first."""
    wanted = AuditFilter(
        action=action,
        actor=actor,
        target=target,
        since_s=None if since is None else -(-instant_ms(since, "from") // 1000),
        until_s=None if until is None else -(-instant_ms(until, "to") // 1000),
    )
    found = audit.list_audit(house.engine, manager.organization_id, wanted, paging.offset, paging.limit)
    return page([_shown(row) for row in found.rows], found.total)


@router.get("/audit/verify", response_model=WholeAnswer)
def verify_audit(house: Housed, manager: Managing) -> Answer:
    """Walk the chain of digests through the whole log. `modelgates audit verify` says where it is broken."""
    with house.quotas.spend(AUDIT_CHECKS, manager.key_hash, house.clock.monotonic_s()):
        verdict = audit.verify(house.engine)
    return answer({"data": {"whole": verdict.broken is None}})


def _shown(row: AuditRow) -> dict[str, Any]:
    return {
        "id": row.digest,
        "created_at": rfc3339(row.created_at_s),
        "actor": row.actor,
        "action": row.action,
        "target": row.target,
        "details": msgspec.Raw(row.details.encode()),
    }
