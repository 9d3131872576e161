"""Keys and credit in the console, as an administrator and as a member, over a real port."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tests.support.console import Person, new_member, signed_in
from tests.support.gateway import Gateway, ask, open_gateway

from modelgates_server.limits import Scope, Window
from modelgates_server.management import grant_credits
from modelgates_server.management.budgets import Budget, set_budget
from modelgates_server.management.guardrails import Rules, create_guardrail
from modelgates_server.management.organizations import NewOrganization, create_organization
from modelgates_server.management.workspaces import NewWorkspace, create_workspace
from modelgates_server.money import NUSD_PER_USD
from modelgates_server.vault.secret import load_secret

pytestmark = pytest.mark.asyncio(loop_scope="session")

SECRET = re.compile(r"sk-mg-(?:mgmt-)?v1-[A-Za-z0-9]{20,}")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    async with open_gateway(tmp_path_factory.mktemp("console-keys") / "gateway") as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def member(house: Gateway) -> AsyncIterator[Person]:
    """Somebody with a share of $20 a month."""
    member_id = new_member(house)
    with house.engine() as (engine, now_s):
        share = Budget(Scope.MEMBER, member_id, Window.MONTH, 20 * NUSD_PER_USD)
        set_budget(engine, house.initialised.organization_id, share, "test", now_s)
    async with signed_in(house, member_id) as person:
        yield person


async def make(person: Person, name: str = "laptop", **fields: str) -> tuple[str, str]:
    """Make a key by the form; gives its text and its hash."""
    shown = await person.post("/keys", {"name": name, **fields}, accept="application/json")
    assert shown.status == 200, shown.text
    return shown.data["secret"], shown.data["hash"]


async def names(person: Person, query: str = "") -> list[str]:
    return [key["name"] for key in (await person.data(f"/keys{query}"))["keys"]]


async def test_a_key_is_shown_once_and_works(house: Gateway, admin: Person) -> None:
    """The page after the form shows the key with snippets to copy; no other page does; requests with it are answered."""
    shown = await admin.post("/keys", {"name": "shown once"})

    (secret,) = set(SECRET.findall(shown.text))
    assert f"ANTHROPIC_AUTH_TOKEN=&#34;{secret}&#34;" in shown.text
    assert shown.headers["cache-control"] == "no-store"
    assert (await house.send(ask(), key=secret)).status == 200
    (line,) = [key for key in (await admin.data("/keys"))["keys"] if key["name"] == "shown once"]
    for path in ("/keys", f"/keys/{line['hash']}"):
        assert secret not in (await admin.get(path)).text


async def test_what_was_typed_is_what_the_key_is(admin: Person) -> None:
    """Limit, reset, last day, rates and models stand on the key's page as they were typed, and an empty form takes them away."""
    typed = {
        "limit": "$12.50", "limit_reset": "weekly", "expires": "2099-12-31", "requests_per_minute": "7",
        "allowed_models": "anthropic/claude-haiku-4.5",
    }  # fmt: skip
    _, key_hash = await make(admin, **typed)
    fields = (await admin.data(f"/keys/{key_hash}"))["fields"]

    assert (fields["limit"], fields["limit_reset"], fields["expires"]) == ("12.5", "weekly", "2099-12-31")
    assert (fields["requests_per_minute"], fields["allowed_models"]) == (7, ["anthropic/claude-haiku-4.5"])

    assert (await admin.post(f"/keys/{key_hash}", {"name": "free"})).status == 303
    fields = (await admin.data(f"/keys/{key_hash}"))["fields"]
    assert (fields["name"], fields["limit"], fields["expires"], fields["allowed_models"]) == ("free", "", "", [])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": ""}, "A key needs a name."),
        ({"name": "k", "limit": "ten"}, "is not an amount in USD"),
        ({"name": "k", "limit_reset": "daily"}, "Say how many dollars the limit is"),
        ({"name": "k", "limit": "1", "limit_reset": "yearly"}, "A limit starts again daily, weekly, monthly or never."),
        ({"name": "k", "expires": "2020-01-01"}, "The expiry is in the past."),
        ({"name": "k", "expires": "tomorrow"}, "is not a day"),
        ({"name": "k", "allowed_models": "claude-typo"}, "there is no model"),
        ({"name": "k", "requests_per_minute": "0"}, "must be a whole number"),
    ],
)
async def test_a_form_that_cannot_be_done_comes_back(admin: Person, fields: dict[str, str], said: str) -> None:
    """It says why in a sentence and keeps what was typed."""
    shown = await admin.post("/keys", fields)

    assert shown.status == 400
    assert said in shown.text
    assert f'value="{fields["name"]}"' in shown.text


async def test_a_key_page_shows_every_limit_over_it(house: Gateway, admin: Person, member: Person) -> None:
    """The key's limit, its guardrail and its owner's share, each with what is on it; the list shows those of the key alone."""
    with house.engine() as (engine, now_s):
        rules = Rules("Careful", limit_nusd=3 * NUSD_PER_USD, reset_interval="daily")
        guardrail = create_guardrail(engine, house.initialised.organization_id, None, rules, "test", now_s)
    wanted = {"limit": "5", "guardrail_id": guardrail.id, "member_id": member.member_id}
    secret, key_hash = await make(admin, "limited", **wanted)
    told = await house.send(ask(), key=secret)
    cost_nusd = house.generation(told.id)["cost_nusd"]
    await house.settled()

    page = await admin.data(f"/keys/{key_hash}")
    assert [(limit["title"], limit["per"], limit["used_nusd"]) for limit in page["limits"]] == [
        ("Share of Ines Intern", "a month", cost_nusd),
        ("Guardrail “Careful” of this key", "a day", cost_nusd),
        ("Limit of this key", "in all", cost_nusd),
    ]
    assert (page["used_nusd"], page["month_nusd"], page["days"][-1]["requests"]) == (cost_nusd, cost_nusd, 1)
    (line,) = [key for key in (await admin.data("/keys"))["keys"] if key["hash"] == key_hash]
    assert [limit["title"] for limit in line["limits"]] == ["Guardrail “Careful” of this key", "Limit of this key"]
    assert (line["member"], line["guardrail"]) == ("Ines Intern", "Careful")

    assert (await admin.post(f"/keys/{key_hash}", {"name": "limited", "limit": "5"})).status == 303
    assert (await admin.data(f"/keys/{key_hash}"))["guardrail"] is None


async def test_a_key_is_switched_off_and_on_and_deleted(house: Gateway, admin: Person) -> None:
    """Each bites at once: the next request is refused, or answered."""
    secret, key_hash = await make(admin, "switched")

    assert (await admin.post(f"/keys/{key_hash}/disable")).headers["location"].startswith(f"/keys/{key_hash}")
    assert (await house.send(ask(), key=secret)).status == 401
    assert (await admin.post(f"/keys/{key_hash}/enable")).status == 303
    assert (await house.send(ask(), key=secret)).status == 200
    assert (await admin.post(f"/keys/{key_hash}/delete")).headers["location"].startswith("/keys?")
    assert (await house.send(ask(), key=secret)).status == 401
    assert (await admin.get(f"/keys/{key_hash}")).status == 404


async def test_the_list_is_paged_by_key_and_filtered(house: Gateway, admin: Person) -> None:
    """Sixty keys fill two pages without one twice or missing; name, state and owner narrow the list."""
    made = [house.new_key_row(f"many {number:02}", member_id=admin.member_id) for number in range(60)]
    first = await admin.data("/keys?q=many")
    second = await admin.data(f"/keys?q=many&before={first['older']}")

    assert (len(first["keys"]), len(second["keys"]), second["older"]) == (50, 10, None)
    assert {key["hash"] for key in first["keys"] + second["keys"]} == {key_hash for _, key_hash in made}
    await admin.post(f"/keys/{made[7][1]}/disable")
    assert await names(admin, "?q=many&state=disabled") == ["many 07"]
    assert await names(admin, f"?q=many+08&member={admin.member_id}") == ["many 08"]
    assert (await admin.get("/keys?before=x", accept="application/json")).status == 400


async def test_a_member_has_their_own_keys_only(house: Gateway, admin: Person, member: Person) -> None:
    """They see and touch nobody else's key, and what they make is theirs, whatever the form says."""
    _, foreign = await make(admin, "the admin's")
    secret, own = await make(member, "mine", member_id=admin.member_id, guardrail_id="grd-none")

    assert await names(member) == ["mine"]
    assert (await admin.data(f"/keys/{own}"))["member_id"] == member.member_id
    page = await member.data("/keys")
    assert (page["choices"]["members"], page["choices"]["guardrails"]) == ([], [])
    assert [(share["title"], share["limit_nusd"]) for share in page["shares"]] == [("Your share", 20 * NUSD_PER_USD)]
    for path in (f"/keys/{foreign}", f"/keys/{foreign}/disable", f"/keys/{foreign}/delete"):
        assert (await member.post(path, {"name": "x"})).status == 404, path
    assert (await member.get(f"/keys/{foreign}")).status == 404
    assert (await house.send(ask(), key=secret)).status == 200


async def test_a_member_makes_a_key_stricter_and_not_wider(admin: Person, member: Person) -> None:
    """They lower a limit; raising it, lifting it or another reset takes an administrator."""
    _, key_hash = await make(member, "mine", limit="5", limit_reset="weekly")
    form = {"name": "mine", "limit": "4", "limit_reset": "weekly"}

    assert (await member.post(f"/keys/{key_hash}", form)).status == 303
    for wider in ({"limit": "6"}, {"limit": "", "limit_reset": ""}, {"limit_reset": "daily"}):
        refused = await member.post(f"/keys/{key_hash}", form | wider)
        assert refused.status == 400
        assert "You can make your key stricter here, not wider." in refused.text
    assert (await admin.post(f"/keys/{key_hash}", form | {"limit": "6"})).status == 303


async def test_what_an_administrator_switched_off_stays_off(admin: Person, member: Person) -> None:
    """A member switches their key off and on; after an administrator did, only an administrator switches it on."""
    _, key_hash = await make(member)

    for action, status in (("disable", 303), ("enable", 303)):
        assert (await member.post(f"/keys/{key_hash}/{action}")).status == status
    await admin.post(f"/keys/{key_hash}/disable")
    refused = await member.post(f"/keys/{key_hash}/enable")
    assert refused.status == 403
    assert "An administrator switched this key off." in refused.text
    assert (await member.post(f"/keys/{key_hash}/delete")).status == 303


async def test_a_member_chooses_among_their_own_workspaces(house: Gateway, admin: Person, member: Person) -> None:
    """A workspace that they are no member of is not offered, and not taken."""
    with house.engine() as (engine, now_s):
        organization_id = house.initialised.organization_id
        closed = create_workspace(engine, organization_id, NewWorkspace("Closed"), "test", now_s)

    assert "Closed" not in (await member.get("/keys")).text
    assert (await member.post("/keys", {"name": "k", "workspace_id": closed.id})).status == 404
    assert (await make(admin, "k", workspace_id=closed.id))[1]


async def test_management_keys_have_a_page_of_their_own(admin: Person, member: Person, house: Gateway) -> None:
    """They are made, switched and deleted there, by administrators only, and stand in no other list."""
    shown = await admin.post("/settings/management-keys", {"name": "robot"})
    (secret,) = set(SECRET.findall(shown.text))
    listed = (await admin.data("/settings/management-keys"))["keys"]
    (key_hash,) = [key["hash"] for key in listed if key["name"] == "robot"]
    bearer = {"authorization": f"Bearer {secret}"}

    assert (await house.request("GET", "/api/v1/keys", bearer)).status == 200
    assert "robot" not in await names(admin)
    assert (await admin.get(f"/keys/{key_hash}")).status == 404
    assert (await member.get("/settings/management-keys")).status == 403
    assert (await member.post("/settings/management-keys", {"name": "mine"})).status == 403
    assert (await admin.post(f"/settings/management-keys/{key_hash}/disable")).status == 303
    assert (await house.request("GET", "/api/v1/keys", bearer)).status == 401
    assert (await admin.post(f"/settings/management-keys/{key_hash}/enable")).status == 303
    _, inference = await make(admin, "no manager")
    assert (await admin.post(f"/settings/management-keys/{inference}/delete")).status == 404
    assert (await admin.post(f"/settings/management-keys/{key_hash}/delete")).status == 303


async def test_credits_add_up(house: Gateway, admin: Person) -> None:
    """Grant, adjustment and refund change the balance by their amounts and stand in the list with note and name."""
    told = await house.send(ask())
    await house.settled()
    cost_nusd = house.generation(told.id)["cost_nusd"]
    before = await admin.data("/credits")

    assert (await admin.post("/credits/grants", {"amount": "$50", "note": "November"})).status == 303
    taken = {"adjustment": "20", "direction": "down", "reason": "typed one zero too many"}
    assert (await admin.post("/credits/adjustments", taken)).status == 303
    assert (await admin.post("/credits/refunds", {"generation_id": told.id})).status == 303

    after = await admin.data("/credits")
    assert after["balance_nusd"] - before["balance_nusd"] == 30 * NUSD_PER_USD + cost_nusd
    assert [(one["kind"], one["amount_nusd"], one["note"], one["author"]) for one in after["transactions"][:3]] == [
        ("refund", cost_nusd, "", "Admin"),
        ("adjustment", -20 * NUSD_PER_USD, "typed one zero too many", "Admin"),
        ("grant", 50 * NUSD_PER_USD, "November", "Admin"),
    ]
    runway = after["runway"]
    assert runway["lasts_s"] == after["free_nusd"] * runway["span_s"] // runway["spent_nusd"]


@pytest.mark.parametrize(
    ("path", "fields", "said"),
    [
        ("grants", {"amount": ""}, "Say how many dollars."),
        ("grants", {"amount": "0"}, "must be more than zero"),
        ("grants", {"amount": "-5"}, "is not an amount in USD"),
        ("adjustments", {"adjustment": "5"}, "needs a note that says why"),
        ("refunds", {"generation_id": "gen-nobody"}, "There is no request of that id here."),
    ],
)
async def test_credit_forms_come_back_with_a_reason(
    admin: Person, path: str, fields: dict[str, str], said: str
) -> None:
    """What cannot be booked is said on the page, and nothing changes."""
    before = (await admin.data("/credits"))["balance_nusd"]
    shown = await admin.post(f"/credits/{path}", fields)

    assert (shown.status, said in shown.text) == (400, True)
    assert (await admin.data("/credits"))["balance_nusd"] == before


async def test_transactions_are_paged_by_key(house: Gateway, admin: Person) -> None:
    """Two pages hold every transaction once, newest first."""
    with house.engine() as (engine, now_s):
        for _ in range(55):
            grant_credits(engine, house.initialised.organization_id, NUSD_PER_USD, "one of many", "test", now_s)
    first = await admin.data("/credits")
    second = await admin.data(f"/credits?before={first['older']}")
    ids = [one["id"] for one in first["transactions"] + second["transactions"]]

    assert (len(first["transactions"]), first["newest"], second["newest"]) == (50, True, False)
    assert ids == sorted(set(ids), reverse=True)
    assert (second["older"], second["transactions"][-1]["note"]) == (None, "initial grant")


async def test_credit_is_for_administrators_of_the_gateways_own_organization(house: Gateway, member: Person) -> None:
    """A member sees no credit; another organisation's administrator sees theirs, and cannot print money."""
    with house.engine() as (engine, now_s):
        foreign = create_organization(engine, load_secret(house.config), NewOrganization("Guests"), "test", now_s)

    assert (await member.get("/credits")).status == 403
    async with signed_in(house, foreign.admin.id) as guest:
        page = await guest.data("/credits")
        assert (page["granted_nusd"], page["transactions"]) == (0, [])
        assert "whoever runs the gateway" in page["refused"]
        assert (await guest.post("/credits/grants", {"amount": "5"})).status == 403
        assert (await guest.data("/keys"))["keys"] == []
