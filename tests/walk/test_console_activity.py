"""Activity and overview in the console: as an administrator and as a member, as pages, JSON, CSV and on paper, over a real port."""

from __future__ import annotations

import csv
import io
import re
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from tests.support.console import Person, new_member, signed_in
from tests.support.gateway import Gateway, ask
from tests.support.hostile import FORMULAS, MARKUP, ODD, live_parts
from tests.unit.activity.written import Asked, write
from tests.walk.managing import found_another

from modelgates_server.activity.series_slice import By, Metric, Period
from modelgates_server.management.members import NewMember, add_member
from modelgates_server.storage import schema
from modelgates_server.storage.engine import transaction

pytestmark = pytest.mark.asyncio(loop_scope="session")

PERIODS = [str(period) for period in Period]
GROUPS = [*map(str, By), "none"]


async def sent(house: Gateway, key: str | None = None, **fields: Any) -> int:
    """A request that was answered; what it cost."""
    told = await house.send(ask(**fields), key=key)
    assert told.status == 200, told.body
    return int(house.generation(told.id)["cost_nusd"])


def csv_rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


async def test_before_the_first_request_the_next_steps_are_shown(house: Gateway) -> None:
    """An organisation with nothing in it learns what to do: make a key, connect a client, ask."""
    async with signed_in(house, found_another(house).admin.id) as other:
        overview, page = await other.data("/"), (await other.get("/")).text

        assert [step["href"] for step in overview["steps"]] == ["/keys", "/setup", "/logs", "/members"]
        assert "First steps" in page
        assert "No activity yet" in (await other.get("/activity")).text
        assert (await other.data("/activity"))["total"]["requests"] == 0


@pytest.mark.parametrize("period", PERIODS)
async def test_a_request_shows_at_once_in_every_period(house: Gateway, admin: Person, period: str) -> None:
    """Total, group, chart and step by step: everything grows by the request that just ended, to the nano-dollar."""
    before = await admin.data(f"/activity?period={period}")
    cost = await sent(house)
    after = await admin.data(f"/activity?period={period}")
    drawn = sum(sum(row["values"]) for row in after["chart"]["rows"])

    assert after["total"]["spend_nusd"] - before["total"]["spend_nusd"] == cost > 0
    assert after["total"]["requests"] - before["total"]["requests"] == 1
    assert drawn == after["total"]["spend_nusd"] == sum(line["figures"]["spend_nusd"] for line in after["lines"])
    assert len(after["chart"]["labels"]) == len(after["steps"])
    assert after["ever"] is True


@pytest.mark.parametrize("period", PERIODS)
@pytest.mark.parametrize("group", GROUPS)
async def test_every_view_can_be_opened(house: Gateway, admin: Person, period: str, group: str) -> None:
    """Every period with every grouping and metric is a page, live where it is the current one, and nothing in it is inline."""
    await sent(house)
    for metric in Metric:
        shown = await admin.get(f"/activity?period={period}&by={group}&show={metric}")
        earlier = await admin.get(f"/activity?period={period}&by={group}&show={metric}&back=1")

        assert (shown.status, earlier.status) == (200, 200), shown.text
        assert live_parts(shown.text) == live_parts(earlier.text) == []
        assert "live from:body" in shown.text
        assert "live from:body" not in earlier.text


async def test_who_spent_most_this_week_takes_two_clicks(house: Gateway, admin: Person) -> None:
    """From the page: the tab of seven days, then grouping by member; the first line is the answer, with the log behind it."""
    big = new_member(house, "Greta Great")
    with house.engine() as (engine, now_s):
        org = house.initialised.organization_id
        asked = [
            Asked(int(now_s * 1000) - n, organization_id=org, who=big, cost_nusd=10**10, number=n) for n in range(3)
        ]
        write(engine, asked)
    page = (await admin.get("/activity")).text
    (week,) = re.findall(r'<a href="([^"]*)"[^>]*>7 days</a>', page)
    assert 'name="by"' in page
    found = await admin.data(f"{week.replace('&amp;', '&')}&by=member")
    first = found["lines"][0]

    assert (first["id"], first["name"]) == (big, "Greta Great")
    assert first["logs"].startswith(f"/logs?member={big}&from=")
    assert len((await admin.data(first["logs"]))["lines"]) == 3


async def test_a_click_goes_into_a_group_and_the_next_question(house: Gateway, admin: Person) -> None:
    """Bar, legend and row lead to the group's own parts; the filter can be taken away again, and the log has the same filter."""
    secret, key_hash = house.new_key_row("drilled")
    await sent(house, secret)
    found = await admin.data("/activity?period=day&by=key")
    line = next(line for line in found["lines"] if line["id"] == key_hash)
    inner = await admin.data(line["href"])
    (field,) = [field for field in inner["fields"] if field["value"]]

    assert {row["href"] for row in found["chart"]["rows"]} >= {line["href"]}
    assert (inner["by"], field["name"], field["shown"]) == ("model", "key", "drilled")
    assert inner["total"]["requests"] == 1
    assert (await admin.data(field["taken"]))["total"]["requests"] == found["total"]["requests"]
    assert len((await admin.data(inner["steps"][-1]["logs"]))["lines"]) == 1


async def test_filters_for_what_is_missing_work_too(house: Gateway, admin: Person) -> None:
    """Keys of nobody and requests without an app are groups like others; the log has no such filter, so no link leads there."""
    await sent(house)
    found = await admin.data("/activity?period=hour&by=app")
    line = next(line for line in found["lines"] if line["id"] == "")
    inner = await admin.data(line["href"])

    assert (line["name"], line["logs"]) == ("no app named", "")
    assert inner["total"]["requests"] == line["figures"]["requests"]


async def test_members_see_only_their_own(house: Gateway, admin: Person, member: Person) -> None:
    """On both pages, in the file and on paper; somebody else's key, name and workspace do not exist for them."""
    own_key, own_hash = house.new_key_row("own", member_id=member.member_id)
    their_key, their_hash = house.new_key_row("theirs", member_id=admin.member_id)
    cost = await sent(house, own_key)
    await sent(house, their_key)
    found, overview = await member.data("/activity?period=day&by=key"), await member.data("/")
    fields = {field["name"]: field for field in found["fields"]}

    assert [line["id"] for line in found["lines"]] == [own_hash]
    assert found["total"]["spend_nusd"] == overview["spent"]["today"]["spend_nusd"] == cost
    assert [id_ for id_, _ in fields["key"]["options"]] == [own_hash]
    assert "member" not in fields
    assert (await member.get(f"/activity?key={own_hash}")).status == 200
    for somebody in (f"key={their_hash}", f"member={admin.member_id}", "workspace=ws-none"):
        for path in ("/activity", "/activity.csv", "/activity/print"):
            assert (await member.get(f"{path}?{somebody}")).status == 404, (path, somebody)
    assert {row["group_id"] for row in csv_rows((await member.get("/activity.csv?by=key")).text)} == {own_hash}
    assert "theirs" not in (await member.get("/activity/print?by=key")).text
    assert (overview["credit"], overview["alerts"]) == (None, [])
    assert [line["key_hash"] for line in overview["newest"]] == [own_hash]


async def test_another_organization_is_not_there(house: Gateway, admin: Person) -> None:
    """Its keys cannot be filtered by, and its figures are in no sum."""
    other = found_another(house)
    with house.engine() as (engine, now_s):
        asked = Asked(int(now_s * 1000), organization_id=other.organization.id, hash="key-of-another", number=1)
        write(engine, [asked])
    found = await admin.data("/activity?period=hour&by=key")

    assert "key-of-another" not in {line["id"] for line in found["lines"]}
    assert (await admin.get("/activity?key=key-of-another")).status == 404


@pytest.mark.parametrize(
    "query",
    ["period=decade", "by=colour", "show=joy", "back=-1", "back=x", "back=199999&period=year", f"app={'a' * 600}"],
)
async def test_what_cannot_be_asked_is_refused(admin: Person, query: str) -> None:
    """With a sentence, in the page, the file and on paper."""
    for path in ("/activity", "/activity.csv", "/activity/print"):
        assert (await admin.get(f"{path}?{query}")).status == 400, path


async def test_the_file_has_every_group_in_every_step(house: Gateway, admin: Person) -> None:
    """Exact dollars that add up to the page's total, whatever is drawn; cells that no spreadsheet computes."""
    with house.engine() as (engine, now_s):
        org = house.initialised.organization_id
        asked = [
            Asked(int(now_s * 1000) + number, organization_id=org, app=text, cost_nusd=number + 1, number=100 + number)
            for number, text in enumerate([*FORMULAS, *(f"app {n}" for n in range(12))])
        ]
        write(engine, asked)
    shown = await admin.get("/activity.csv?period=month&by=app")
    rows = csv_rows(shown.text)
    total = (await admin.data("/activity?period=month&by=app"))["total"]
    nusd = sum(round(float(row["spend_usd"]) * 10**9) for row in rows)

    assert shown.headers["content-type"].startswith("text/csv")
    assert 'filename="activity.csv"' in shown.headers["content-disposition"]
    assert (nusd, sum(int(row["requests"]) for row in rows)) == (total["spend_nusd"], total["requests"])
    assert {row["group"] for row in rows} >= {f"'{text}" for text in FORMULAS}
    assert not any(cell.startswith(("=", "+", "@")) for row in rows for cell in row.values())


async def test_paper_has_a_summary_and_a_section_for_each_group(house: Gateway, admin: Person) -> None:
    """Saved as PDF from the browser: figures of the whole, then each group with its steps."""
    await sent(house, house.new_key("on paper"))
    page = (await admin.get("/activity/print?period=day&by=key")).text
    data = await admin.data("/activity/print?period=day&by=key")

    assert page.count('class="sheet"') == len(data["sections"]) == data["group_count"]
    assert "data-print" in page
    assert live_parts(page) == []
    assert sum(section["figures"]["requests"] for section in data["sections"]) == data["total"]["requests"]
    assert all(
        sum(step["figures"]["spend_nusd"] for step in section["steps"]) == section["figures"]["spend_nusd"]
        for section in data["sections"]
    )


async def test_what_others_wrote_is_only_text(house: Gateway, admin: Person) -> None:
    """Markup in the names of keys, members, apps, models and providers stands on the pages, in charts and in links as text."""
    org = house.initialised.organization_id
    with house.engine() as (engine, now_s):
        odd = add_member(engine, org, NewMember(ODD[:90], "odd@example.com"), "test", now_s).id
        asked = [
            Asked(int(now_s * 1000) + number, organization_id=org, who=odd, hash="hash-odd", model=text, provider=text, app=text,
                  number=200 + number, cost_nusd=10**12 + number)
            for number, text in enumerate((ODD, *MARKUP))
        ]  # fmt: skip
        write(engine, asked)
        (place,) = house.rows("SELECT MIN(id) AS id FROM workspaces WHERE organization_id = :id", id=org)
        row = {"hash": "hash-odd", "organization_id": org, "workspace_id": place["id"], "name": ODD, "label": ODD,
               "class": "inference", "created_at_s": 0, "updated_at_s": 0}  # fmt: skip
        with transaction(engine) as connection:
            connection.execute(sa.insert(schema.api_keys).values(row))
    paths = ["/"]
    for group in GROUPS:
        paths += [f"{path}?period=hour&by={group}" for path in ("/activity", "/activity/print")]
    paths += [f"/activity?period=hour&app={quote(text)}&by=model" for text in MARKUP]
    for path in paths:
        page = (await admin.get(path)).text
        assert live_parts(page) == [], path
        assert "<script>alert" not in page, path
    assert "&lt;script&gt;alert(1)" in (await admin.get("/activity?period=hour&by=app")).text


async def test_one_look_says_what_was_spent_by_whom_on_what_through_whom(house: Gateway, admin: Person) -> None:
    """Today's sums agree with the receipts; the newest request stands first; the pace and the limits are told."""
    secret, key_hash = house.new_key_row("limited", limit_nusd=10**9, limit_reset="daily")
    before = await admin.data("/")
    cost = await sent(house, secret)
    found, page = await admin.data("/"), (await admin.get("/")).text
    spent = found["spent"]

    assert spent["today"]["spend_nusd"] - before["spent"]["today"]["spend_nusd"] == cost
    for by in ("by_member", "by_model", "by_provider"):
        assert sum(line["today_nusd"] for line in spent[by]) <= spent["today"]["spend_nusd"]
        assert spent[by][0]["today_nusd"] >= spent[by][-1]["today_nusd"]
    assert found["newest"][0]["key_hash"] == key_hash
    assert found["credit"]["per_day_nusd"] > 0
    (limit,) = [limit for limit in found["limits"] if limit["href"] == f"/keys/{key_hash}"]
    assert (limit["used_nusd"], limit["limit_nusd"], limit["per"]) == (cost, 10**9, "a day")
    assert [provider["slug"] for provider in found["providers"]] == ["anthropic", "backup-1"]
    assert found["providers"][0]["day"]["attempts"] > 0
    assert "live from:body" in page
    assert live_parts(page) == []


async def test_a_provider_that_is_out_is_named(house: Gateway, admin: Person) -> None:
    """With what it did and when it is tried again; its failed attempt counts in its day."""
    house.simulators[0].script.append({"status": 529})
    await sent(house, text="a conversation of its own")
    found = await admin.data("/")
    first = found["providers"][0]

    assert first["day"]["hours"][-1]["answered"] < first["day"]["hours"][-1]["attempts"]
    assert first["outages"][0]["why"]
    house.forget()


async def test_the_sandbox_says_so(tmp_path_factory: pytest.TempPathFactory, house: Gateway, admin: Person) -> None:
    """Only where it answers."""
    assert (await admin.data("/"))["sandbox"] is False
    assert "sandbox" not in (await admin.get("/")).text
