"""Every page with a thing of somebody else in its address or its form (reliability rows 86, 87, 89, 90, 98).

Another organisation's admin, and a colleague who is a member, ask for one of everything. What they are told must be what is told of
things that never were. A route with a parameter that the tables do not know fails.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from html.parser import HTMLParser

import pytest
import pytest_asyncio
from tests.support.console import Person, Shown, new_member, signed_in
from tests.support.gateway import Gateway, ask, open_gateway
from tests.walk.furnished import CANARY, MAIL, Furnished, filled, furnish, named

from modelgates_server.console.pages import PAGES
from modelgates_server.management.passes import make_pass
from modelgates_server.vault.secret import load_secret

pytestmark = pytest.mark.asyncio(loop_scope="session")

SEEN: dict[str, dict[str, str]] = {
    "/activity": {"member": "{member}", "key": "{key}", "workspace": "{workspace}"},
    "/activity.csv": {"member": "{member}", "key": "{key}", "workspace": "{workspace}"},
    "/activity/print": {"member": "{member}", "key": "{key}", "workspace": "{workspace}"},
    "/logs": {"member": "{member}", "key": "{key}", "workspace": "{workspace}", "id": "{generation}", "session": "{session}"},
    "/logs/sessions": {"member": "{member}", "key": "{key}", "workspace": "{workspace}", "session": "{session}"},
    "/logs.csv": {"member": "{member}", "key": "{key}", "workspace": "{workspace}", "id": "{generation}"},
    "/keys": {"member": "{member}", "workspace": "{workspace}", "q": CANARY, "before": "99999999999.{key}"},
    "/models": {"key": "{key}"},
    "/audit": {"actor": "member:{member}", "target": "{key}"},
    "/providers": {"workspace": "{workspace}"},
    "/members": {"after": "{member}"},
}  # fmt: skip
"""What filters and cursors can name."""

WRITTEN: tuple[tuple[str, dict[str, str]], ...] = (
    ("/keys", {"name": "x", "workspace_id": "{workspace}"}),
    ("/keys", {"name": "x", "member_id": "{member}"}),
    ("/keys", {"name": "x", "guardrail_id": "{guardrail}"}),
    ("/members", {"name": "x", "email": "z@example.com", "workspace": "{workspace}"}),
    ("/guardrails", {"name": "x", "workspace_id": "{workspace}"}),
    ("/guardrails/share", {"member": "{member}", "share": "5 a day"}),
    ("/guardrails/budgets", {"owner": "workspace:{workspace}", "amount": "5"}),
    ("/guardrails/budgets", {"owner": "member:{member}", "amount": "5"}),
    ("/guardrails/budgets/lift", {"scope": "workspace", "scope_id": "{workspace}", "interval": "monthly"}),
    ("/guardrails/rates", {"paced": "workspace:{workspace}", "requests_per_minute": "5"}),
    ("/guardrails/rates", {"paced": "member:{member}", "requests_per_minute": "5"}),
    ("/guardrails/preview", {"what": "share", "member": "{member}", "share": "0.0001 a day"}),
    ("/guardrails/preview", {"what": "budget", "owner": "workspace:{workspace}", "amount": "0.0001", "interval": "daily"}),
    ("/guardrails/preview", {"what": "rates", "paced": "workspace:{workspace}", "requests_per_minute": "1"}),
    ("/guardrails/preview", {"what": "give", "id": "{guardrail}", "keys": "{key}"}),
    ("/guardrails/{own}/give", {"members": "{member}"}),
    ("/guardrails/{own}/give", {"keys": "{key}"}),
    ("/guardrails/preview", {"what": "give", "id": "{own}", "members": "{member}", "keys": "{key}"}),
    ("/privacy/default", {"keeps": "on", "keys": "{key}"}),
    ("/credits/refunds", {"generation_id": "{generation}"}),
    ("/providers/order", {"order": "anthropic", "workspace": "{workspace}"}),
    ("/providers/credentials", {"provider": "anthropic", "key": "sk-ant-0123456789012", "for_workspace": "{workspace}"}),
    ("/setup/doctor", {"key_hash": "{key}", "client": "code"}),
)  # fmt: skip
"""What forms can name."""

WRONG = frozenset({400, 403, 404})
ODD = f'"><img src=x onerror=alert(1)><script>{CANARY}</script>{{{{7*7}}}}'
FORMULA = f"=HYPERLINK(1;{CANARY})"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Furnished]:
    async with open_gateway(tmp_path_factory.mktemp("isolation") / "gateway", toml=MAIL) as gateway:
        made = await furnish(gateway)
        made.ids["session"] = f"{CANARY}-session"
        yield made


def never(ids: Mapping[str, str]) -> dict[str, str]:
    """Ids of the same shape that nobody has."""
    return {name: value[:-4] + "0f0f" for name, value in ids.items()}


def put(text: str, ids: Mapping[str, str]) -> str:
    """A text with ids in the places of their names."""
    return re.sub(r"\{(\w+)\}", lambda found: ids[found[1]], text)


def plain(shown: Shown, ids: Mapping[str, str]) -> tuple[int, str]:
    """An answer without what differs between any two: the ids that were asked for, and a form's own tokens."""
    text = re.sub(r'name="(csrf|once)" value="[\w-]+"', "", shown.text)
    for name, value in sorted(ids.items(), key=lambda entry: -len(entry[1])):
        for start in (value, value[:60], value[:24], value[:12]):
            text = text.replace(start, name)
    return shown.status, text


async def test_no_address_tells_of_things_of_others(scene: Furnished) -> None:
    """Every route with a parameter: a stranger and a colleague are told of ours what they are told of nothing."""
    nobodys = never(scene.ids)
    colleague_id = new_member(scene.gateway, "Colleague")
    async with (
        signed_in(scene.gateway, scene.stranger.admin.id) as stranger,
        signed_in(scene.gateway, colleague_id) as colleague,
    ):
        for person in (stranger, colleague):
            for route in PAGES:
                kind = named(route.path)
                if kind is None:
                    continue
                send = person.get if route.method == "GET" else person.post
                ours = await send(filled(route.path, scene.ids[kind]))
                unknown = await send(filled(route.path, nobodys[kind]))
                assert plain(ours, scene.ids) == plain(unknown, nobodys), (route.method, route.path)
                assert ours.status in WRONG, (route.method, route.path)


async def test_no_filter_or_cursor_finds_things_of_others(scene: Furnished) -> None:
    """Each filter alone, on pages, files and JSON: as if it named nothing."""
    nobodys = never(scene.ids)
    colleague_id = new_member(scene.gateway, "Colleague")
    async with (
        signed_in(scene.gateway, scene.stranger.admin.id) as stranger,
        signed_in(scene.gateway, colleague_id) as colleague,
    ):
        for person in (stranger, colleague):
            for path, fields in SEEN.items():
                for name, value in fields.items():
                    for accept in ("text/html", "application/json"):
                        ours = await person.get(f"{path}?{name}={put(value, scene.ids)}", accept=accept)
                        unknown = await person.get(f"{path}?{name}={put(value, nobodys)}", accept=accept)
                        assert ours.status == unknown.status, (path, name)
                        told = ours.text.replace(put(value, scene.ids), "")
                        assert CANARY not in told, (path, name, accept)


async def test_no_form_takes_things_of_others(scene: Furnished) -> None:
    """Their ids in every field of every form: refused like ids of nothing, and nothing changes here."""
    nobodys = never(scene.ids)
    async with signed_in(scene.gateway, scene.stranger.admin.id) as stranger:
        rail = {"name": "own", "limit": "0.0001", "reset_interval": "daily"}
        own = (await stranger.post("/guardrails", rail)).headers["location"].split("/")[-1].partition("?")[0]
        for path, fields in WRITTEN:
            answers = []
            for ids in ({**scene.ids, "own": own}, {**nobodys, "own": own}):
                sent = {name: put(value, ids) for name, value in fields.items()}
                answers.append(plain(await stranger.post(put(path, ids), sent), ids))
            assert answers[0] == answers[1], (path, fields)
            assert answers[0][0] in WRONG or path == "/guardrails/preview", (path, fields)
            assert CANARY not in answers[0][1], (path, fields)
    given = "SELECT COUNT(*) AS number FROM guardrail_keys"
    assert scene.gateway.rows(given)[0]["number"] == 0


async def test_a_member_is_given_nothing_by_fields_that_are_not_theirs(scene: Furnished) -> None:
    """Somebody else's key, a workspace of others, a guardrail, a wider limit, another role: ignored or refused, never done."""
    gateway, ids = scene.gateway, scene.ids
    member_id = new_member(gateway, "Max Member")
    kept = dict(gateway.rows("SELECT name, email, role, organization_id FROM members WHERE id = :id", id=member_id)[0])
    taken = {
        "role": "admin",
        "organization_id": scene.stranger.organization.id,
        "id": ids["member"],
        "email": "x@example.com",
    }
    async with signed_in(gateway, member_id) as member:
        wanted = {
            "name": "mine",
            "member_id": ids["member"],
            "guardrail_id": ids["guardrail"],
            "include_byok_in_limit": "on",
            **taken,
        }
        assert (await member.post("/keys", wanted)).status == 200
        (row,) = gateway.rows("SELECT * FROM api_keys WHERE name = 'mine'")
        assert (row["member_id"], row["organization_id"], row["class"]) == (
            member_id,
            kept["organization_id"],
            "inference",
        )
        assert row["include_byok_in_limit"] == 0
        assert (await member.post("/keys", {"name": "there", "workspace_id": ids["workspace"]})).status == 404
        assert (await member.post("/keys", {"name": "there", "workspace_id": ids["slug"]})).status == 404
        await member.post("/profile", {"name": kept["name"], **taken})
        assert gateway.rows("SELECT name, email, role, organization_id FROM members WHERE id = :id", id=member_id) == [
            kept
        ]
        for path in (
            "/members",
            f"/members/{member_id}/role",
            f"/guardrails/{ids['guardrail']}/take",
            "/credits/grants",
        ):
            assert (await member.post(path, {"role": "admin", "keys": row["hash"], "amount": "1"})).status == 403


@pytest.mark.parametrize(
    "wider",
    [
        {"limit": "6"}, {"limit": ""}, {"limit_reset": "monthly"}, {"limit_reset": ""}, {"expires": ""}, {"expires": "2031-01-01"},
        {"requests_per_minute": "6"}, {"requests_per_minute": ""}, {"tokens_per_minute": ""}, {"parallel_max": "6"},
        {"allowed_models": ""}, {"allowed_models": "claude-haiku-4-5"}, {"workspace_id": "{workspace}"},
    ],
)  # fmt: skip
async def test_a_member_cannot_widen_a_key(scene: Furnished, wider: dict[str, str]) -> None:
    """Whatever an admin set on a member's key: the member makes it stricter, never wider, one field at a time."""
    gateway = scene.gateway
    member_id = new_member(gateway)
    async with signed_in(gateway) as admin, signed_in(gateway, member_id) as member:
        narrow = {
            "name": "narrow", "limit": "5", "limit_reset": "daily", "expires": "2030-01-01", "requests_per_minute": "5",
            "tokens_per_minute": "5", "parallel_max": "5", "allowed_models": "claude-opus-4-8",
        }  # fmt: skip
        await admin.post("/keys", {**narrow, "member_id": member_id})
        before = gateway.rows("SELECT * FROM api_keys WHERE member_id = :id", id=member_id)
        changed = {name: put(value, scene.ids) for name, value in wider.items()}
        refused = await member.post(f"/keys/{before[0]['hash']}", {**narrow, **changed})
        assert refused.status == 400, refused.text
        assert gateway.rows("SELECT * FROM api_keys WHERE member_id = :id", id=member_id) == before


async def test_a_pass_opens_nothing_but_requests(scene: Furnished) -> None:
    """It is its key at the model routes for a minute; the management API and the pages do not know it, and it dies with the key."""
    gateway = scene.gateway
    _, key_hash = gateway.new_key_row("for a pass")
    with gateway.engine() as (engine, now_s):
        secret = load_secret(gateway.config)
        text = make_pass(engine, secret, gateway.initialised.organization_id, key_hash, "test", now_s)
    assert (await gateway.send(ask("hello"), key=text)).status == 200
    for path in ("/api/v1/keys", "/api/v1/credits", "/api/v1/activity"):
        assert (await gateway.request("GET", path, {"authorization": f"Bearer {text}"})).status in {401, 403}
    async with signed_in(gateway) as admin:
        assert (await admin.get("/keys", authorization=f"Bearer {text}")).status == 200
        assert (await admin.post(f"/keys/{key_hash}/disable")).status == 303
        assert (await gateway.send(ask("hello"), key=text)).status == 401
        assert text not in "".join(map(str, gateway.rows("SELECT * FROM passes")))


class Tags(HTMLParser):
    """Finds what a name could smuggle into a page: elements, handlers, addresses that run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            runs = (value or "").strip().lower().startswith(("javascript:", "data:text", "vbscript:"))
            if name.startswith("on") or (runs and name in {"href", "src", "action", "hx-get", "hx-post"}):
                self.found.append(f"{tag} {name}={value}")
        if tag in {"img", "iframe", "object", "embed"} or (tag == "script" and not dict(attrs).get("src")):
            self.found.append(tag)


async def odd_names(gateway: Gateway, scene: Furnished, text: str) -> str:
    """Name everything that can be named like this; gives a generation's id."""
    ids = scene.ids
    async with signed_in(gateway) as admin:
        place = (await scene.made("/workspaces", {"name": text[:90]}))["id"]
        for path, fields in (
            ("/keys", {"name": text, "member_id": ids["member"]}),
            ("/guardrails", {"name": text, "description": text, "limit": "5", "reset_interval": "daily", "workspace_id": place}),
            ("/guardrails/budgets", {"owner": "app", "app": text, "amount": "5"}),
            ("/members", {"name": text, "email": "odd@example.com", "share": "5 a day"}),
            (f"/members/{ids['member']}", {"name": text, "email": "odd2@example.com"}),
            ("/settings/organization", {"organization_name": text}),
            ("/settings/management-keys", {"name": text}),
            ("/credits/grants", {"amount": "1", "note": text}),
            ("/providers/credentials", {"provider": "anthropic", "key": "sk-ant-0123456789012", "name": text}),
        ):  # fmt: skip
            assert (await admin.post(path, fields)).status in {200, 303}, path
        secret = gateway.new_key(text, member_id=ids["member"])
        told = await gateway.send(
            ask("hello", metadata={"user_id": text}), key=secret, x_title=text, x_session_id=text, user_agent=text
        )
        await gateway.send({**ask("hello"), "model": text}, key=secret)
        await gateway.settled()
        assert (await admin.post(f"/logs/{told.id}/feedback", {"category": "other", "comment": text})).status == 303
        return told.id


def every_page(scene: Furnished, generation_id: str) -> Iterator[str]:
    ids = {**scene.ids, "generation": generation_id}
    for route in PAGES:
        kind = named(route.path)
        if route.method == "GET" and not route.path.endswith((".csv", ".jsonl", ".sh")):
            yield route.path if kind is None else filled(route.path, ids[kind])


async def cells(person: Person, path: str) -> list[str]:
    return [cell for row in csv.reader(io.StringIO((await person.get(path)).text)) for cell in row]


async def test_odd_names_are_text_everywhere(scene: Furnished) -> None:
    """Markup and formulas in every name there is: pages show them as text, files as text too."""
    for text in (ODD, FORMULA):
        generation_id = await odd_names(scene.gateway, scene, text)
        async with signed_in(scene.gateway) as admin:
            seen = 0
            for path in every_page(scene, generation_id):
                shown = await admin.get(path)
                assert shown.status < 500, path
                tags = Tags()
                tags.feed(shown.text)
                assert tags.found == [], path
                seen += CANARY in shown.text
            assert seen > 8
            for path in ("/logs.csv", "/activity.csv?by=key", "/activity.csv?by=app", "/activity.csv?by=member"):
                found = await cells(admin, path)
                assert not [one for one in found if one.startswith(("=", "+", "-", "@", "\t", "\r"))], path
