"""The log in the console: as an administrator and as a member, as pages, JSON and CSV, over a real port."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
import sqlalchemy as sa
from tests.support.console import Person, signed_in
from tests.support.gateway import Gateway, ask
from tests.support.hostile import FORMULAS, MARKUP, ODD, live_parts
from tests.unit.activity.written import Asked, write
from tests.walk.managing import found_another

from modelgates_server.activity.generation import Attempt, Cost
from modelgates_server.management.members import NewMember, add_member
from modelgates_server.management.prompt_log import PromptLog, set_prompt_log
from modelgates_server.storage import schema
from modelgates_server.storage.engine import transaction

pytestmark = pytest.mark.asyncio(loop_scope="session")

PAGES = ("/logs", "/logs/sessions")


async def sent(house: Gateway, key: str | None = None, **fields: Any) -> str:
    """A request that was answered; its id."""
    told = await house.send(ask(**fields), key=key)
    assert told.status == 200, told.body
    return told.id


async def ids(person: Person, query: str = "") -> list[str]:
    return [line["id"] for line in (await person.data(f"/logs{query}"))["lines"]]


async def test_a_request_appears_with_all_that_it_was(house: Gateway, admin: Person) -> None:
    """The newest line is the request just made, with its cost; the page says the same as the JSON."""
    id_ = await sent(house, session_id="walk-1")
    (line, *_) = (await admin.data("/logs"))["lines"]
    page = (await admin.get("/logs")).text

    assert (line["id"], line["model"], line["outcome"], line["session_id"]) == (
        id_, "anthropic/claude-opus-4.8", "completed", "walk-1",
    )  # fmt: skip
    assert line["cost_nusd"] == house.generation(id_)["cost_nusd"] > 0
    assert f'href="/logs/{id_}"' in page
    assert 'hx-trigger="live from:body"' in page


async def test_filters_narrow_the_log(house: Gateway, admin: Person) -> None:
    """By key, any spelling of the model, session, outcome, way of asking, time; what fits nothing says so."""
    secret, key_hash = house.new_key_row("filtered")
    whole, streamed = await sent(house, secret, session_id="f-1"), await sent(house, secret, stream=True)
    (session,) = [line for line in (await admin.data("/logs/sessions"))["lines"] if line["session_id"] == "f-1"]

    assert await ids(admin, f"?key={key_hash}") == [streamed, whole]
    assert await ids(admin, f"?key={key_hash}&model=claude-opus-4-8&streamed=yes&outcome=completed") == [streamed]
    assert await ids(admin, f"?key={key_hash}&model=anthropic/claude-haiku-4.5") == []
    assert await ids(admin, "?session=f-1") == [whole]
    assert await ids(admin, f"?id={whole}") == [whole]
    assert await ids(admin, f"?key={key_hash}&to=2020-01-01") == []
    assert await ids(admin, f"?key={key_hash}&from=2020-01-01T00:00&cached=no") == [streamed, whole]
    assert session["requests"] == 1
    assert "No request fits" in (await admin.get("/logs?app=nobody")).text


@pytest.mark.parametrize(
    "query", ["outcome=odd", "cached=maybe", "from=yesterday", "at=x", "from=2026-13-01", "app=" + "a" * 600]
)
async def test_what_cannot_be_asked_is_refused(admin: Person, query: str) -> None:
    """With a sentence, and without an error inside."""
    assert (await admin.get(f"/logs?{query}")).status == 400


async def test_pages_lead_back_and_forth(house: Gateway, admin: Person) -> None:
    """Older and newer pages have no line in common, and the newest page is the first one again."""
    secret, key_hash = house.new_key_row("many")
    made = [await sent(house, secret) for _ in range(3)]
    with house.engine() as (engine, _):
        row = house.generation(made[0])
        rows = [Asked(row["created_at_ms"] - 10 - number, number=number, organization_id=row["organization_id"], hash=key_hash)
                for number in range(60)]  # fmt: skip
        write(engine, rows)
    first = await admin.data(f"/logs?key={key_hash}")
    second = await admin.data(f"/logs?key={key_hash}&at={first['older']}")
    again = await admin.data(f"/logs?key={key_hash}&at={second['newer']}")
    behind = (await admin.get(f"/logs?key={key_hash}&at={first['older']}")).text

    assert [line["id"] for line in first["lines"][:3]] == made[::-1]
    assert (len(first["lines"]), len(second["lines"]), second["older"]) == (50, 13, None)
    assert again["lines"] == first["lines"]
    assert again["live"] is True
    assert "live from:body" not in behind


async def test_a_failover_is_told_in_words(house: Gateway, admin: Person) -> None:
    """The page of a request that a second provider answered: both attempts, why, and the bill to the pico-dollar."""
    house.simulators[0].script.append({"status": 529})
    id_ = await sent(house, text="a conversation that nobody holds")
    data, page = await admin.data(f"/logs/{id_}"), (await admin.get(f"/logs/{id_}")).text

    assert [bar["kind"] for bar in data["timeline"]["bars"] if bar["kind"] in {"failed", "answered"}] == [
        "failed",
        "answered",
    ]
    assert "was overloaded. HTTP 529 after" in page
    assert "after 1 failed attempt" in page
    assert sum(line["pusd"] for line in data["bill"]) == data["bill_pusd"]
    assert -(-data["bill_pusd"] // 1000) == data["cost_nusd"] > 0
    assert {name for name, _ in data["fields"]} >= {"upstream_id", "price_version", "held_nusd", "user_agent"}


async def test_where_the_time_went_is_drawn(house: Gateway, admin: Person) -> None:
    """Bars are SVG without any style, their figures stand in a table, and the largest cause is said first."""
    tries = (Attempt("anthropic", "m", 529, "overloaded", 1_200), Attempt("backup-1", "m", 200, None, 800))
    with house.engine() as (engine, now_s):
        slow = Asked(int(now_s * 1000), organization_id=house.initialised.organization_id, attempts=tries, latency_ms=2_100,
                     provider="backup-1", generation_ms=4_000, number=77)  # fmt: skip
        write(engine, [slow])
    data, page = await admin.data(f"/logs/{slow.id}"), (await admin.get(f"/logs/{slow.id}")).text

    assert [bar["kind"] for bar in data["timeline"]["bars"]] == ["gateway", "failed", "answered", "writing"]
    assert page.count("<rect") == 5
    assert "Slow mostly because 1 attempt failed before and took 1.2 s." in page
    assert "anthropic (m) was overloaded. HTTP 529 after 1,200 ms." in page


async def test_members_see_only_their_own(house: Gateway, admin: Person, member: Person) -> None:
    """In the list, in sessions, in the file and by id; a stranger's filter changes nothing; details of the operator stay hidden."""
    theirs = await sent(house, house.new_key("of an admin", member_id=admin.member_id), session_id="shared")
    own = await sent(house, house.new_key("of a member", member_id=member.member_id), session_id="shared")
    with house.engine() as (engine, now_s):
        tries = (Attempt("anthropic", "m", 529, "overloaded", 5, "req_1", "Overloaded: SECRET-of-the-operator"),)
        odd = Asked(
            int(now_s * 1000),
            organization_id=house.initialised.organization_id,
            attempts=tries,
            number=78,
            who=member.member_id,
        )
        write(engine, [odd])
    (session,) = (await member.data("/logs/sessions"))["lines"]

    assert own in await ids(member)
    assert theirs not in await ids(member)
    assert await ids(member, f"?member={admin.member_id}") == []
    assert session["requests"] == 1
    assert theirs not in (await member.get("/logs.csv")).text
    assert (await member.get(f"/logs/{own}")).status == 200
    assert (await member.get(f"/logs/{theirs}")).status == 404
    assert (await member.post(f"/logs/{theirs}/feedback", {"category": "other"})).status == 404
    assert (await member.post(f"/logs/{own}/content")).status == 403
    assert "SECRET-of-the-operator" not in (await member.get(f"/logs/{odd.id}")).text
    assert (await admin.data("/logs"))["choices"]["members"] != []
    assert (await member.data("/logs"))["choices"]["members"] == []


async def test_another_organization_sees_nothing(house: Gateway, admin: Person) -> None:
    """Its administrator has an empty log, and no id opens anything."""
    id_ = await sent(house)
    async with signed_in(house, found_another(house).admin.id) as other:
        assert (await other.data("/logs"))["lines"] == []
        assert (await other.data("/logs/sessions"))["lines"] == []
        assert (await other.get(f"/logs/{id_}")).status == 404
        assert "No requests yet" in (await other.get("/logs")).text


async def test_feedback_is_kept_beside_the_receipt(house: Gateway, admin: Person) -> None:
    """What is said shows on the page with a name, and marks the line; what is no category comes back."""
    id_ = await sent(house)
    done = await admin.post(f"/logs/{id_}/feedback", {"category": "formatting", "comment": "no table"})
    refused = await admin.post(f"/logs/{id_}/feedback", {"category": "odd", "comment": "kept text"})

    assert (done.status, done.headers["location"]) == (303, f"/logs/{id_}?said=feedback-given")
    assert (refused.status, "kept text" in refused.text) == (400, True)
    assert (await admin.data(f"/logs/{id_}"))["feedback"][0]["comment"] == "no table"
    assert (await admin.data(f"/logs?id={id_}"))["lines"][0]["has_feedback"] is True


async def test_prompts_are_shown_where_they_are_stored_and_looking_is_noted(house: Gateway, admin: Person) -> None:
    """By default the page says that nothing is stored; after opting in a button shows it once, and the audit log says who looked."""
    before = await sent(house, text="PROMPT-before")
    with house.engine() as (engine, now_s):
        set_prompt_log(engine, house.initialised.organization_id, "default", PromptLog(enabled=True), "test", now_s)
    await house.application.context.directory.refresh()
    after = await sent(house, text="PROMPT-after <b>bold</b>")
    shown = await admin.post(f"/logs/{after}/content")
    noted = house.rows("SELECT actor FROM audit WHERE action = 'content.read' AND target = :id", id=after)

    assert "Neither prompt nor completion is stored" in (await admin.get(f"/logs/{before}")).text
    assert (await admin.post(f"/logs/{before}/content")).status == 404
    assert "PROMPT-after" not in (await admin.get(f"/logs/{after}")).text
    assert "PROMPT-after &lt;b&gt;bold" in shown.text
    assert live_parts(shown.text) == []
    assert [row["actor"] for row in noted] == [f"member:{admin.member_id}"]


async def test_what_others_wrote_is_only_text(house: Gateway, admin: Person) -> None:
    """Markup in every field that a client, a provider or a colleague can fill stands on the pages as text."""
    organization_id = house.initialised.organization_id
    with house.engine() as (engine, now_s):
        tries = (Attempt(ODD, ODD, 500, "upstream", 5, ODD, ODD), Attempt("backup-1", ODD, 200, None, 5, ODD))
        plan = tuple({"provider": ODD, "model": ODD, "place": place, "reason": ODD} for place in (1, None))
        cost = Cost(5, 5, price_version=ODD, parts=({"name": ODD, "quantity": 3, "pusd": 5},))
        odd = add_member(engine, organization_id, NewMember(ODD[:90], "odd@example.com"), "test", now_s).id
        asked = [
            Asked(int(now_s * 1000) + 50 + number, who=odd, organization_id=organization_id, model=text, provider=text, app=text,
                  session_id=text, external_user=text, finish_reason=text, attempts=tries, cost=cost, number=300 + number,
                  more={"plan": plan, "upstream_model": text, "upstream_request_id": text})
            for number, text in enumerate((ODD, *MARKUP))
        ]  # fmt: skip
        write(engine, asked)
        row = {
            "hash": asked[0].key_hash,
            "organization_id": organization_id,
            "name": ODD,
            "label": ODD,
            "class": "inference",
        }
        place = house.rows("SELECT id FROM workspaces WHERE organization_id = :id", id=organization_id)[0]["id"]
        with transaction(engine) as connection:
            connection.execute(
                sa.insert(schema.api_keys).values(
                    row | {"workspace_id": place, "created_at_s": int(now_s), "updated_at_s": 0}
                )
            )
    await admin.post(f"/logs/{asked[0].id}/feedback", {"category": "other", "comment": ODD})
    for path in (
        *PAGES,
        f"/logs/{asked[0].id}",
        *(f"/logs?app={text}" for text in ("<script>", "%22%3E%3Cimg%20src=x%3E")),
    ):
        page = (await admin.get(path)).text
        assert live_parts(page) == [], path
        assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in (await admin.get(f"/logs/{asked[0].id}")).text


async def test_the_file_has_every_line_and_no_formula(house: Gateway, admin: Person) -> None:
    """CSV with exact amounts, every line of the filter, and cells that no spreadsheet computes."""
    secret, key_hash = house.new_key_row("=HYPERLINK(1)")
    made = await sent(house, secret)
    with house.engine() as (engine, now_s):
        asked = [
            Asked(int(now_s * 1000) + 90_000 + number, organization_id=house.initialised.organization_id, app=text,
                  session_id=text, external_user=text, number=500 + number)
            for number, text in enumerate(FORMULAS)
        ]  # fmt: skip
        write(engine, asked)
    shown = await admin.get("/logs.csv")
    rows = list(csv.DictReader(io.StringIO(shown.text)))
    by_id = {row["id"]: row for row in rows}

    assert shown.headers["content-type"].startswith("text/csv")
    assert 'filename="logs.csv"' in shown.headers["content-disposition"]
    assert len(rows) == house.rows("SELECT COUNT(*) AS n FROM generations WHERE organization_id = :id",
                                   id=house.initialised.organization_id)[0]["n"]  # fmt: skip
    assert by_id[made]["key"] == "'=HYPERLINK(1)"
    assert all(by_id[one.id]["app"].startswith("'") for one in asked)
    assert [row["id"] for row in csv.DictReader(io.StringIO((await admin.get(f"/logs.csv?key={key_hash}")).text))] == [
        made
    ]
