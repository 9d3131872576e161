"""Guardrails and budgets in the console: what is typed holds at the gate, and what it would have refused is told before."""

from __future__ import annotations

import pytest
from tests.support.console import Person, new_member, signed_in
from tests.support.gateway import Gateway, ask
from tests.support.hostile import ODD, live_parts
from tests.unit.activity.written import Asked, write
from tests.walk.managing import found_another

from modelgates_server.management.guardrails import Rules, create_guardrail
from modelgates_server.management.members import NewMember, add_member
from modelgates_server.money import NUSD_PER_USD

pytestmark = pytest.mark.asyncio(loop_scope="session")

PREVIEW = "/guardrails/preview"


def intern(house: Gateway, *usd: int, name: str = "Ines Intern", **told: object) -> tuple[str, str]:
    """A member whose key made a request for each amount, a second apart and just now; the ids of both."""
    member_id = new_member(house, name)
    _, key_hash = house.new_key_row(f"key of {name}", member_id=member_id)
    with house.engine() as (engine, now_s):
        at_ms = int(now_s) // 60 * 60_000 - len(usd)
        asked = [
            Asked(at_ms + number, number=int(key_hash[:6], 16) + number, hash=key_hash, who=member_id, cost_nusd=amount * NUSD_PER_USD,
                  organization_id=house.initialised.organization_id, **told)
            for number, amount in enumerate(usd)
        ]  # fmt: skip
        write(engine, asked)
    return member_id, key_hash


async def done(person: Person, path: str, **fields: str) -> str:
    """Send a form that must be taken; where it leads."""
    shown = await person.post(path, fields)
    assert shown.status == 303, shown.text
    return shown.headers["location"].partition("?")[0]


async def foresee(person: Person, **fields: str) -> list[dict[str, object]]:
    shown = await person.post(PREVIEW, fields, accept="application/json")
    assert shown.status == 200, shown.text
    return shown.data["findings"]


async def test_the_intern_is_stopped_at_twenty_a_week(house: Gateway, admin: Person) -> None:
    """One field sets the share; it shows with a bar and a reset; the next request that could pass it is refused by its name."""
    member_id = new_member(house)
    secret = house.new_key("intern's", member_id=member_id)
    assert (await house.send(ask(), key=secret)).status == 200
    await done(admin, "/guardrails/share", member=member_id, share="$0.000001 a week")
    (line,) = [one for one in (await admin.data("/guardrails"))["shares"] if one["member_id"] == member_id]
    refused = await house.send(ask(), key=secret)
    await done(admin, "/guardrails/share", member=member_id, share="20 a week")

    assert line["share"] == "$0.000001 a week"
    assert line["budgets"][0]["spent_nusd"] > 0
    assert line["budgets"][0]["resets_at_s"] is not None
    assert (refused.status, refused.error["details"]["scope"]) == (402, "member")
    assert (await house.send(ask(), key=secret)).status == 200


async def test_parts_of_a_share_stay_unless_all_of_it_is_typed(house: Gateway, admin: Person) -> None:
    """The field for anybody adds to what there is; the field of a person's line is all of it; none takes it away."""
    member_id = new_member(house)

    async def share() -> list[str]:
        return [one["share"] for one in (await admin.data("/guardrails"))["shares"] if one["member_id"] == member_id]

    await done(admin, "/guardrails/share", member=member_id, share="5 a day")
    await done(admin, "/guardrails/share", member=member_id, share="50 a month")
    assert await share() == ["$5.00 a day, $50.00 a month"]
    await done(admin, "/guardrails/share", member=member_id, share="7 a week", whole="on")
    assert await share() == ["$7.00 a week"]
    await done(admin, "/guardrails/share", member=member_id, share="none")
    assert await share() == []


async def test_a_share_is_foreseen(house: Gateway, admin: Person) -> None:
    """How many requests, whose, how much and since when: in a sentence on a page, beside the form, and as JSON."""
    member_id, _ = intern(house, 9, 8, 7, 2)
    fields = {"what": "share", "member": member_id, "share": "20 a day"}
    (found,) = await foresee(admin, **fields)
    page = await admin.post(PREVIEW, fields)
    none = await foresee(admin, **(fields | {"share": "26 a day, 30 a month"}))

    assert (found["requests"], found["nusd"], found["exact"]) == (1, 7 * NUSD_PER_USD, True)
    assert [(one["id"], one["requests"]) for one in found["people"]] == [(member_id, 1)]
    assert found["sentence"].startswith(
        "In the last 30 days $20.00 a day for Ines Intern would have refused 1 request of 1 person, worth $7.00; the first one on "
    )
    assert found["sentence"] in page.text
    assert 'value="20 a day"' in page.text
    assert [one["requests"] for one in none] == [0, 0]
    assert all("would have refused nothing." in one["sentence"] for one in none)


async def test_budgets_are_set_foreseen_and_lifted(house: Gateway, admin: Person) -> None:
    """For the organization, a workspace and an app: shown with what is spent, foreseen over everybody's requests, and gone again."""
    intern(house, 3, 4, app="wiki")
    place = house.rows("SELECT id FROM workspaces")[0]["id"]
    owners = (("organization", ""), (f"workspace:{place}", ""), ("app", "wiki"))
    for owner, app in owners:
        fields = {"owner": owner, "app": app, "amount": "$5000", "interval": "monthly"}
        await done(admin, "/guardrails/budgets", **fields)
        (never,) = await foresee(admin, what="budget", **fields)
        assert never["requests"] == 0
    (some,) = await foresee(admin, what="budget", owner="app", app="wiki", amount="4", interval="daily")
    (soft,) = await foresee(
        admin, what="budget", owner="app", app="wiki", amount="4", interval="daily", budget_soft="on"
    )
    lines = {one["scope"]: one for one in (await admin.data("/guardrails"))["budgets"]}

    assert set(lines) == {"organization", "workspace", "app"}
    assert lines["app"]["spent_nusd"] == 7 * NUSD_PER_USD
    assert (lines["app"]["owner"], lines["app"]["interval"]) == ("wiki", "monthly")
    assert (some["requests"], some["nusd"]) == (1, 4 * NUSD_PER_USD)
    assert "a hard budget of $4.00 a day for the app wiki would have refused 1 request" in soft["sentence"]
    assert soft["sentence"].endswith("As a soft one it refuses nothing and only warns.")
    for line in lines.values():
        gone = {name: line[name] for name in ("scope", "scope_id", "interval")}
        await done(admin, "/guardrails/budgets/lift", **gone)
    assert (await admin.data("/guardrails"))["budgets"] == []


async def test_rates_are_set_foreseen_and_lifted(house: Gateway, admin: Person) -> None:
    """Requests beyond the rate of a minute are told; an empty form lifts it; what receipts do not tell is said."""
    member_id, _ = intern(house, 1, 1, 1)
    rate = {"paced": f"member:{member_id}", "requests_per_minute": "2"}
    (found,) = await foresee(admin, what="rates", **rate)
    await done(admin, "/guardrails/rates", **rate)
    (line,) = (await admin.data("/guardrails"))["rates"]
    blind = await admin.post(PREVIEW, {"what": "rates", "paced": "organization", "tokens_per_minute": "5"})
    await done(admin, "/guardrails/rates", paced=f"member:{member_id}")

    assert (found["requests"], line["requests_per_minute"], line["tokens_per_minute"]) == (1, 2, None)
    assert "2 requests a minute for Ines Intern would have refused 1 request" in found["sentence"]
    assert "receipts do not tell the others" in blind.text
    assert (await admin.data("/guardrails"))["rates"] == []


async def test_a_guardrail_from_its_making_to_its_end(house: Gateway, admin: Person) -> None:
    """Made, changed, given to a member, shown with what they used, taken away, deleted; its model list refuses at the gate."""
    member_id, _ = intern(house, 3)
    secret = house.new_key("guarded", member_id=member_id)
    path = await done(admin, "/guardrails", name="Interns", limit="20", reset_interval="weekly")
    made = await admin.data(path)
    await done(admin, f"{path}/give", members=member_id)
    given = await admin.data(path)
    await done(
        admin,
        path,
        name="Interns",
        limit="25",
        reset_interval="weekly",
        allowed_models="claude-haiku-4-5",
        zdr="openai",
    )
    changed = await admin.data(path)
    await house.application.context.directory.refresh()
    refused = await house.send(ask(), key=secret)

    assert (made["fields"]["limit"], made["holders"]) == ("20", [])
    assert [(one["id"], one["spent_nusd"]) for one in given["holders"]] == [(member_id, 3 * NUSD_PER_USD)]
    assert given["resets_at_s"] is not None
    assert changed["in_words"] == [
        "$25.00 a week for each", "only the models anthropic/claude-haiku-4.5", "zero data retention for models of openai",
    ]  # fmt: skip
    assert refused.status == 404
    await done(admin, f"{path}/take", members=member_id)
    await house.application.context.directory.refresh()
    assert (await house.send(ask(), key=secret)).status == 200
    await done(admin, f"{path}/delete")
    assert (await admin.get(path)).status == 404


async def test_a_guardrail_is_foreseen_for_those_it_holds_for(house: Gateway, admin: Person) -> None:
    """Its budget for each of them, its models, its providers: refused, or sent elsewhere; for those who were chosen, or everybody."""
    member_id, key_hash = intern(house, 6, 6, name="Gilda Given", model="anthropic/claude-fable-5", provider="backup-1")
    intern(house, 6, 6, name="Otto Other", provider="backup-1")
    with house.engine() as (engine, now_s):
        rules = Rules("g", limit_nusd=10 * NUSD_PER_USD, reset_interval="daily")
        row = create_guardrail(engine, house.initialised.organization_id, None, rules, "test", now_s)
    (of_one,) = await foresee(admin, what="give", id=row.id, members=member_id)
    (of_key,) = await foresee(admin, what="give", id=row.id, keys=key_hash)
    await done(admin, f"/guardrails/{row.id}/give", members=member_id, keys=key_hash)
    typed = {
        "what": "rules",
        "id": row.id,
        "name": "g",
        "ignored_models": "claude-fable-5",
        "ignored_providers": "backup-1",
    }
    models, nowhere, moved = await foresee(admin, **typed)
    everybody = await foresee(admin, what="guardrail", name="new", ignored_providers="backup-1")
    alone = await foresee(admin, **(typed | {"allowed_providers": "backup-9", "ignored_models": ""}))

    assert [(one["requests"], one["people"][0]["name"]) for one in (of_one, of_key)] == [
        (1, "Gilda Given"), (1, "Gilda Given"),
    ]  # fmt: skip
    assert (models["requests"], nowhere["requests"], moved["requests"]) == (2, 0, 0)
    assert [one["kind"] for one in everybody] == ["refused", "moved"]
    assert {one["name"] for one in everybody[1]["people"]} >= {"Gilda Given", "Otto Other"}
    assert [(one["kind"], one["requests"]) for one in alone] == [("refused", 2), ("moved", 0)]
    assert "No provider is left for them." in alone[0]["sentence"]


async def test_the_default_guardrail_of_a_workspace_holds_for_everybody(house: Gateway, admin: Person) -> None:
    """It stands in the list before anybody wrote it, is made by its first change, and is given to nobody by hand."""
    (default,) = [one for one in (await admin.data("/guardrails"))["guardrails"] if one["is_default"]]
    path = f"/guardrails/{default['id']}"
    (found,) = await foresee(admin, what="rules", id=default["id"], name="All", limit="100", reset_interval="monthly")
    await done(admin, path, name="All", limit="1000", reset_interval="monthly")
    page = await admin.data(path)

    assert default["rules"] == []
    assert "its budget of $100.00 a month for each would have" in found["sentence"]
    assert (page["name"], page["is_default"]) == ("All", True)
    assert page["holders"] != []
    assert (await admin.post(f"{path}/give", {"members": page["holders"][0]["id"]})).status == 400
    await done(admin, f"{path}/delete")


@pytest.mark.parametrize(
    ("path", "fields", "said"),
    [
        ("/guardrails/share", {"member": "", "share": "5"}, "Choose whose share it is."),
        ("/guardrails/share", {"member": "X", "share": "a lot"}, "is no share"),
        ("/guardrails/budgets", {"owner": "organization", "amount": ""}, "Say how many dollars the budget is."),
        ("/guardrails/budgets", {"owner": "app", "amount": "5"}, "Name the app as its requests do"),
        ("/guardrails/budgets", {"owner": "key:ab", "amount": "5"}, "Choose whose it is."),
        ("/guardrails/budgets", {"owner": "organization", "amount": "5", "interval": "lifetime"}, "for life"),
        ("/guardrails/budgets/lift", {"scope": "x", "interval": "daily"}, "There is no such budget."),
        ("/guardrails/rates", {"paced": "organization", "requests_per_minute": "0"}, "must be a whole number"),
        ("/guardrails", {"name": ""}, "A guardrail needs a name"),
        ("/guardrails", {"name": "g", "limit": "5"}, "needs both"),
        ("/guardrails", {"name": "g", "ignored_models": "claude-typo"}, "there is no model"),
        (PREVIEW, {"what": "odd"}, "There is nothing to look back at"),
        (PREVIEW, {"what": "guardrail", "name": "g"}, "These rules refuse nothing"),
        (PREVIEW, {"what": "share", "member": "X", "share": "none"}, ""),
        (PREVIEW, {"what": "share", "member": "X", "share": "5", "days": "900"}, "Days must be a whole number"),
    ],
)
async def test_what_cannot_be_is_refused_in_a_sentence(
    admin: Person, path: str, fields: dict[str, str], said: str
) -> None:
    """The form comes back with what was typed; nothing was changed."""
    member_id = admin.member_id
    shown = await admin.post(path, {name: member_id if value == "X" else value for name, value in fields.items()})

    assert shown.status == 400
    assert said in shown.text


async def test_beside_a_form_a_problem_is_told_in_its_region(admin: Person) -> None:
    """The script shows only answers that succeed, so the sentence stands where the answer would."""
    shown = await admin.post(PREVIEW, {"what": "share", "member": ""}, hx_request="true")

    assert shown.status == 200
    assert 'id="preview"' in shown.text
    assert "Choose whose share it is." in shown.text


async def test_only_administrators_come_here(house: Gateway, admin: Person) -> None:
    """A member gets none of the pages and none of the forms; an administrator of another organization none of ours."""
    with house.engine() as (engine, now_s):
        row = create_guardrail(engine, house.initialised.organization_id, None, Rules("ours"), "test", now_s)
    async with signed_in(house, new_member(house)) as member:
        for path in ("/guardrails", f"/guardrails/{row.id}"):
            assert (await member.get(path)).status == 403
        for path in (
            "/guardrails",
            "/guardrails/share",
            PREVIEW,
            f"/guardrails/{row.id}",
            f"/guardrails/{row.id}/delete",
        ):
            assert (await member.post(path, {"member": member.member_id, "share": "9"})).status == 403
    async with signed_in(house, found_another(house).admin.id) as other:
        assert (await other.get(f"/guardrails/{row.id}")).status == 404
        assert (await other.post(f"/guardrails/{row.id}/delete")).status == 404
        assert (await other.post(PREVIEW, {"what": "share", "member": admin.member_id, "share": "1"})).status == 404
        assert (await other.data("/guardrails"))["shares"] == []
    assert (await admin.get(f"/guardrails/{row.id}")).status == 200


async def test_what_others_wrote_is_only_text(house: Gateway, admin: Person) -> None:
    """Names of people, keys, apps and guardrails with markup in them stand on the pages as text."""
    organization_id = house.initialised.organization_id
    with house.engine() as (engine, now_s):
        member_id = add_member(engine, organization_id, NewMember(ODD[:90], "odd@example.com"), "test", now_s).id
    _, key_hash = house.new_key_row(ODD[:90], member_id=member_id)
    path = await done(admin, "/guardrails", name=ODD[:150], description=ODD, limit="1", reset_interval="daily",
                      ignored_providers=ODD[:150])  # fmt: skip
    await done(admin, f"{path}/give", members=member_id, keys=key_hash)
    await done(admin, "/guardrails/share", member=member_id, share="1 a day")
    await done(admin, "/guardrails/budgets", owner="app", app=ODD[:150], amount="1")
    foreseen = await admin.post(PREVIEW, {"what": "budget", "owner": "app", "app": ODD[:150], "amount": "1"})
    refused = await admin.post("/guardrails/share", {"member": ODD, "share": ODD})
    for text in ((await admin.get("/guardrails")).text, (await admin.get(path)).text, foreseen.text, refused.text):
        assert live_parts(text) == []
        assert "<script>alert" not in text
        assert "&lt;script&gt;alert(1)" in text
