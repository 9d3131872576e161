"""Activity: use by day, as rows and as CSV (product-surface 2.7)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import Annotated, Final, Literal

from fastapi import Depends, Query, Response

from modelgates_server.activity import daily
from modelgates_server.activity.daily import EXPORT_HEAD, Which
from modelgates_server.activity.exports import CONTENT_TYPE, csv_lines
from modelgates_server.api.answers import Answer, answer
from modelgates_server.api.named import workspace_named
from modelgates_server.api.routes import Housed, Managing, new_router
from modelgates_server.api.shapes import Shown, UsdShown
from modelgates_server.errors import BadRequest
from modelgates_server.storage.engine import reading
from modelgates_server.storage.patience import within

router = new_router("activity")

EXPORT_ROWS_MAX: Final = 100_000
"""About 25 MB. The command line writes more, straight into a file."""


@dataclass(frozen=True, slots=True)
class Whose:
    """Whose use: of a key, a member, a workspace; of everybody where none is named."""

    key_hash: str | None
    member_id: str | None
    workspace_id: str | None

    def of(self, which: Which) -> Which:
        """The same days, narrowed."""
        return replace(which, key_hash=self.key_hash, member_id=self.member_id, workspace_id=self.workspace_id)


def _whose(
    house: Housed,
    manager: Managing,
    api_key_hash: Annotated[str | None, Query(max_length=200, description="Of one key: its hash.")] = None,
    user_id: Annotated[str | None, Query(max_length=200, description="Of one member.")] = None,
    workspace_id: Annotated[str | None, Query(max_length=200, description="Of one workspace: its id or slug.")] = None,
) -> Whose:
    return Whose(api_key_hash, user_id, workspace_named(house, manager, workspace_id))


Narrowed = Annotated[Whose, Depends(_whose)]


class ActivityRow(Shown):
    """The use of one model at one provider on one day. `workspace_id` is there when rows are grouped by it."""

    date: str
    model: str
    model_permaslug: str
    endpoint_id: str
    provider_name: str
    usage: UsdShown
    byok_usage_inference: UsdShown
    requests: int
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    cached_tokens: int


class ActivityList(Shown):
    """Rows in the order of day, model and provider."""

    data: list[ActivityRow]


@router.get("/activity", response_model=ActivityList)
def show_activity(
    house: Housed,
    manager: Managing,
    whose: Narrowed,
    date: Annotated[str | None, Query(max_length=40, description="One completed day (UTC): 2026-11-26.")] = None,
    group_by: Annotated[Literal["workspace"] | None, Query(description="Split rows by workspace.")] = None,
) -> Answer:
    """Give the use of the last 30 completed days (UTC), or of one of them. The running day is not complete."""
    which = replace(whose.of(daily.completed(house.clock.now_s(), date)), by_workspace=group_by is not None)
    rows = daily.daily(house.engine, manager.organization_id, which, house.clock)
    return answer({"data": rows})


@router.get(
    "/activity/export.csv",
    response_class=Response,
    responses={200: {"content": {"text/csv": {}}, "description": "A table; its first line names the columns."}},
)
def export_activity(
    house: Housed,
    manager: Managing,
    whose: Narrowed,
    first: Annotated[str | None, Query(alias="from", max_length=40, description="The first day (UTC).")] = None,
    last: Annotated[str | None, Query(alias="to", max_length=40, description="The last day (UTC).")] = None,
) -> Response:
    """Give use by day, model, provider, key, member and workspace; by default of the last 30 completed days."""
    which = whose.of(daily.days(house.clock.now_s(), first, last))
    with reading(house.engine) as connection, within(connection, daily.PATIENCE_S, house.clock):
        found = daily.export(connection, manager.organization_id, which)
        rows = list(islice(found, EXPORT_ROWS_MAX + 1))
    if len(rows) > EXPORT_ROWS_MAX:
        raise BadRequest(
            f"This export has more than {EXPORT_ROWS_MAX} rows",
            remedy="ask for fewer days with from and to, or use `modelgates activity export`",
        )
    name = f"activity-{daily.day_text(which.since_s)}-{daily.day_text(which.until_s - daily.DAY_S)}.csv"
    headers = {"content-disposition": f'attachment; filename="{name}"', "x-content-type-options": "nosniff"}
    return Response("".join(csv_lines(EXPORT_HEAD, rows)), headers=headers, media_type=CONTENT_TYPE)
