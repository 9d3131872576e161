"""Every page with hostile queries and every form with hostile fields: refused in words or done, never an error of ours.

A seeded sample of all combinations, small enough for every run; `SAMPLE` may be raised to walk through more of them. After it every page
must still be there for everybody: what somebody stores must not break what others read.
"""

from __future__ import annotations

import random
import re
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlencode

import pytest
import pytest_asyncio
from tests.support.console import Person, signed_in
from tests.support.gateway import open_gateway
from tests.walk.furnished import MAIL, Furnished, filled, furnish, named
from yarl import URL

from modelgates_server import console
from modelgates_server.console.pages import PAGES
from modelgates_server.console.routes import PageRoute

pytestmark = pytest.mark.asyncio(loop_scope="session")

SEED: Final = 20261126
SAMPLE: Final = 120
FORM: Final = "application/x-www-form-urlencoded"
SLOW: Final = ("/setup/doctor", "/providers/test", "/sign-out", "/profile/sign-out", "/sign-in", "/profile/password")
"""Forms that take seconds each, or end the session that sends them; they have walks of their own."""

HOSTILE: Final = [quote(text, safe="") for text in (
    "", " ", "0", "-1", "1", "9" * 15, "9" * 18, "9" * 19, "1" + "0" * 30, "1e400", "1e999999", "1e-999999", "NaN", "inf", "\uff10\uff11",
    "²", "%", "_", "%_%", "\\", "'", '"', "';DROP TABLE members;--", "<script>alert(1)</script>", "{{7*7}}", "\r\nSet-Cookie: a=b",
    "\x7f", "\x1b[31m", "\u202e", "\U0010ffff", "e\u0301" * 10, "a" * 101, "a" * 600, "a" * 15_000, "9999-12-31", "0001-01-01",
    "9999-12-31T23:59", "2026-02-30", "99999-01-01", "253402300800", "o999999999999999.x", "n0.", "999999999999999.x", ".", "~none",
    "none", "hour", "year", "daily", "organization", "workspace:", "member:x", "app", "//evil.example", "/\\evil", "javascript:alert(1)",
    "on", "up:anthropic", "20 a week", "1 a day, 2 a week, 5", "1,2,3", "0.0000000001", "1000000.1", "[]", "null",
)] + ["%00", "%ff", "%ed%a0%80", "%", "%zz", "%c3%28", "+", "%25%00"]  # fmt: skip

_ASKED: Final = r'(?:(?:query|form)\.(?:get|has|all|raw)\(|(?:whole|_text|_switch|_one_of|_amount)\(visit, )"([a-z_]+)"'
_HELPERS: Final = re.compile(r"from modelgates_server\.console\.(\w+) import")
_FOLDER: Final = Path(console.__file__).parent


def read_by(route: PageRoute) -> list[str]:
    """The fields that a page reads: those that its module and the helpers of that name."""
    own = Path(sys.modules[route.handler.__module__].__file__ or "").read_text()
    files = (_FOLDER / f"{name}.py" for name in _HELPERS.findall(own))
    texts = [own, *(file.read_text() for file in files if file.is_file())]
    names = {name for text in texts for name in re.findall(_ASKED, text)}
    filters = {"model", "provider", "key", "member", "workspace", "app"} if "activity" in route.path else set()
    return sorted((names | filters | {"said"}) - {"token"})


FORMS: Final[dict[str, dict[str, str]]] = {
    "/keys": {
        "name": "k", "limit": "5", "limit_reset": "daily", "expires": "2030-01-01", "allowed_models": "claude-opus-4-8",
        "requests_per_minute": "5", "tokens_per_minute": "5", "parallel_max": "5", "workspace_id": "{workspace}", "member_id": "{member}",
        "guardrail_id": "{guardrail}",
    },
    "/keys/{key_hash}": {"name": "k", "limit": "5", "limit_reset": "daily", "expires": "2030-01-01", "guardrail_id": "{guardrail}"},
    "/credits/grants": {"amount": "1", "note": "x", "once": "a-form-of-the-fuzz-1"},
    "/credits/adjustments": {"adjustment": "1", "direction": "up", "reason": "x", "once": "a-form-of-the-fuzz-2"},
    "/credits/refunds": {"generation_id": "{generation}", "refund": "0.000001", "refund_note": "x", "once": "a-form-of-the-fuzz-3"},
    "/guardrails": {
        "name": "g", "description": "d", "limit": "5", "reset_interval": "daily", "allowed_models": "claude-opus-4-8",
        "ignored_providers": "x", "zdr": "anthropic", "workspace_id": "{workspace}",
    },
    "/guardrails/{id}": {"name": "g", "limit": "5", "reset_interval": "daily", "allowed_providers": "anthropic"},
    "/guardrails/share": {"member": "{member}", "share": "20 a week", "whole": "on"},
    "/guardrails/budgets": {"owner": "workspace:{workspace}", "amount": "5", "interval": "monthly"},
    "/guardrails/budgets/lift": {"scope": "member", "scope_id": "{member}", "interval": "monthly"},
    "/guardrails/rates": {"paced": "member:{member}", "requests_per_minute": "5", "tokens_per_minute": "5", "parallel_max": "5"},
    "/guardrails/{id}/give": {"members": "{member}", "keys": "{key}"},
    "/guardrails/preview": {"what": "rules", "id": "{guardrail}", "name": "g", "limit": "5", "reset_interval": "daily", "days": "30"},
    "/members": {"email": "a@example.com", "name": "A", "role": "member", "workspace": "{workspace}", "share": "20 a week"},
    "/members/{id}": {"name": "A", "email": "b@example.com"},
    "/members/{id}/share": {"share": "20 a week", "from": "list"},
    "/logs/{id}/feedback": {"category": "other", "comment": "x"},
    "/privacy/{workspace}": {"keeps": "on", "days": "30", "share": "50", "keys": "{key}"},
    "/profile": {"name": "A", "email": "c@example.com"},
    "/providers/order": {"order": "anthropic", "move": "up:anthropic", "workspace": "{workspace}"},
    "/providers/credentials": {"provider": "anthropic", "key": "sk-ant-1234567890123", "name": "x", "for_workspace": "{workspace}"},
    "/settings/alerts": {"thresholds": "50,80", "low_balance": "5"},
    "/settings/topup": {"topup_enabled": "on", "topup_below": "5", "topup_amount": "5", "topup_month": "50"},
    "/settings/channels": {"channel_kind": "webhook", "channel_target": "https://example.com/x"},
    "/settings/management-keys": {"name": "x", "expires": "2030-01-01"},
    "/setup/key": {"name": "x", "client": "desktop"},
    "/setup/use": {"key": "{secret}", "client": "code"},
    "/setup/file": {"key": "{secret}", "file": "macos", "client": "desktop"},
}  # fmt: skip
"""Forms as somebody would fill them in: one field after the other is replaced, so that the rest leads deep inside."""


@pytest_asyncio.fixture(loop_scope="session")
async def scene(store_url: str, tmp_path: Path) -> AsyncIterator[Furnished]:
    async with open_gateway(tmp_path / "gateway", toml=MAIL, database_url=store_url) as gateway:
        yield await furnish(gateway)


def queries(scene: Furnished) -> Iterator[str]:
    """Every page with every field and every value, and with every value in its path."""
    for route in PAGES:
        if route.method != "GET":
            continue
        kind = named(route.path)
        path, names = route.path if kind is None else filled(route.path, scene.ids[kind]), read_by(route)
        for value in HOSTILE:
            if kind is not None and value:
                yield filled(route.path, value)
            for name in names:
                yield f"{path}?{name}={value}"


def forms(scene: Furnished) -> Iterator[tuple[str, str]]:
    """Every form with every field replaced by every value, and with every value in its path."""
    for route in PAGES:
        if route.method != "POST" or route.path in SLOW:
            continue
        kind = named(route.path)
        typed = {name: put(value, scene.ids) for name, value in FORMS.get(route.path, {}).items()}
        for value in HOSTILE:
            if kind is not None and value:
                yield filled(route.path, value), urlencode(typed)
            for name in typed:
                rest = urlencode({other: text for other, text in typed.items() if other != name})
                yield route.path if kind is None else filled(route.path, scene.ids[kind]), f"{rest}&{name}={value}"


def put(text: str, ids: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: ids[found[1]], text)


async def status_of(person: Person, path: str, form: str | None = None) -> int:
    """Ask for exactly this path and query, or send exactly this form."""
    url = URL(person.url + path, encoded=True)
    if form is None:
        async with person.http.get(url, allow_redirects=False) as response:
            await response.read()
            return response.status
    headers = {"Origin": person.url, "Content-Type": FORM}
    async with person.http.post(url, data=form.encode(), headers=headers, allow_redirects=False) as response:
        await response.read()
        return response.status


async def test_hostile_fields_are_refused_in_words(scene: Furnished) -> None:
    """Whatever stands in a query, a path or a form: no 5xx, by anybody, and no page is broken by it afterwards."""
    chance = random.Random(SEED)
    asked = chance.sample(list(queries(scene)), SAMPLE)
    sent = chance.sample(list(forms(scene)), SAMPLE)
    async with signed_in(scene.gateway) as admin, signed_in(scene.gateway, scene.ids["member"]) as member:
        tokens = {admin.member_id: await admin.csrf(), member.member_id: await member.csrf()}
        for path in asked:
            assert await status_of(chance.choice((admin, member)), path) < 500, path
        for path, form in sent:
            person = chance.choice((admin, admin, admin, member))
            assert await status_of(person, path, f"{form}&csrf={tokens[person.member_id]}") < 500, (path, form)
        for route in PAGES:
            if route.method == "GET" and named(route.path) is None:
                assert await status_of(admin, route.path) < 500, route.path
                assert await status_of(member, route.path) < 500, route.path
