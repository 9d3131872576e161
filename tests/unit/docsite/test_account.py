"""What a key is told about itself, and that it is told of nobody else."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from tests.unit.docsite.front import OPUS, Front

from modelgates_server.accounts.values import KeyClass
from modelgates_server.docsite import account
from modelgates_server.errors import NotFound, Unauthenticated, WrongKeyClass
from modelgates_server.limits import Window
from modelgates_server.storage import schema
from modelgates_server.storage.engine import transaction

TOOLS = (
    account.models,
    account.budget,
    lambda house, headers: account.explanation(house, headers, "gen-1"),
)


def sent(key: str) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", f"Bearer {key}".encode())]


@pytest.mark.parametrize("tool", TOOLS, ids=["models", "budget", "explanation"])
async def test_without_a_live_key_nothing_is_told(front: Front, tool: object) -> None:
    """None, a foreign one, a damaged one, a switched-off one, and a management key: each with its sentence."""
    good, key_hash = front.key("off")
    with transaction(front.house.engine) as connection:
        connection.execute(sa.update(schema.api_keys).where(schema.api_keys.c.hash == key_hash).values(disabled=1))
    managing, _ = front.key("m", key_class=KeyClass.MANAGEMENT)

    with pytest.raises(Unauthenticated, match="no key came with the request") as missing:
        await tool(front.docs, [])  # type: ignore[operator]
    assert "claude mcp add --transport http" in (missing.value.remedy or "")
    for key, sentence in (("sk-ant-x", "not keys of a provider"), (good[:-1] + "_", "cut off"), (good, "disabled")):
        with pytest.raises(Unauthenticated, match=sentence):
            await tool(front.docs, sent(key))  # type: ignore[operator]
    with pytest.raises(WrongKeyClass, match="management key"):
        await tool(front.docs, sent(managing))  # type: ignore[operator]


async def test_a_key_sees_the_models_that_it_may_use(front: Front) -> None:
    """Those that its policy allows and somebody serves, with context and prices; both headers work."""
    all_of_them, _ = front.key("all")
    some, _ = front.key("some", allowed_models=(OPUS,))
    told, few = await account.models(front.docs, sent(all_of_them)), await account.models(front.docs, sent(some))

    assert "| claude-opus-4-8 | anthropic/claude-opus-4.8 | 1,000,000 | 128,000 | 5 | 25 | 0.5 | 6.25 | 10 |" in told
    assert "haiku" not in told
    assert [line.split(" | ")[1] for line in few.splitlines()[2:] if line.startswith("| claude")] == [OPUS]
    assert await account.models(front.docs, [(b"x-api-key", some.encode())]) == few


async def test_a_key_without_models_is_told_so(front: Front) -> None:
    """An empty table would look like a mistake."""
    key, _ = front.key("none", allowed_models=("anthropic/claude-haiku-4.5",))

    assert "may use no model" in await account.models(front.docs, sent(key))


async def test_a_key_sees_every_limit_over_it(either: Front) -> None:
    """Spent, held and left, and when it resets."""
    ana = either.member("Ana")
    key, key_hash = either.key("ana", member_id=ana, limit_nusd=20 * 10**9, limit_reset="weekly")
    now_s = either.house.clock.now_s()
    caller = await either.docs.directory.identify([key])
    week = next(meter for meter in caller.meters if meter.scope_id == key_hash and meter.window is Window.WEEK)
    row = {
        "id": week.row_id(now_s), "organization_id": either.organization_id, "scope": "key", "scope_id": key_hash, "unit": "nusd",
        "window": "week", "starts_at_s": Window.WEEK.bounds_s(now_s)[0], "limit": 20 * 10**9, "posted": 5 * 10**9, "held": 10**9,
    }  # fmt: skip
    with transaction(either.house.engine) as connection:
        connection.execute(sa.insert(schema.meters).values(row))
    told = await account.budget(either.docs, sent(key))

    assert "Key: ana" in told
    assert "| this key (its limit) | $20.00 | $5.00 | $1.00 | $14.00 |" in told


async def test_a_key_without_limits_is_told_so(front: Front) -> None:
    """And whether there is credit at all."""
    key, _ = front.key("free")
    other = front.another()
    poor, _ = front.key("poor", other)

    assert "No limit stands over this key" in await account.budget(front.docs, sent(key))
    assert "credit is used up" not in await account.budget(front.docs, sent(key))
    assert "credit is used up" in await account.budget(front.docs, sent(poor))


async def test_a_request_is_explained_to_its_own_organization_only(either: Front) -> None:
    """To another one it does not exist, whatever is asked."""
    key, key_hash = either.key("mine")
    stranger, _ = either.key("theirs", either.another())
    either.book("gen-1", key_hash)

    told = await account.explanation(either.docs, sent(key), "gen-1")
    assert told.startswith("# gen-1: completed, $0.012345679")
    assert "1. anthropic (claude-opus-4-8) was overloaded. HTTP 529 after 98 ms." in told
    assert "Overloaded" not in told  # the provider's own words
    with pytest.raises(NotFound, match="that this key may see"):
        await account.explanation(either.docs, sent(stranger), "gen-1")


async def test_a_members_key_sees_its_members_requests_only(either: Front) -> None:
    """And no other member's id as what came before in a conversation."""
    ana, bob = either.member("Ana"), either.member("Bob")
    (hers, her_hash), (_, his_hash), (shared, shared_hash) = (
        either.key("a", member_id=ana), either.key("b", member_id=bob), either.key("s"),
    )  # fmt: skip
    either.book("gen-b", his_hash, member_id=bob, conversation="c")
    either.book(
        "gen-a", her_hash, member_id=ana, conversation="c", created_at_ms=1_800_000_001_000, inputs=b'{"models":["m"]}'
    )
    either.book("gen-s", shared_hash)

    mine = await account.explanation(either.docs, sent(hers), "gen-a")
    assert "gen-b" not in mine
    assert "gen-b" in await account.explanation(either.docs, sent(shared), "gen-a")
    for other in ("gen-b", "gen-s"):
        with pytest.raises(NotFound):
            await account.explanation(either.docs, sent(hers), other)


@pytest.mark.parametrize("id_", ["", "gen-1' OR '1'='1", "%", "gen-1\x00", "x" * 10_000, ":id"])
async def test_ids_are_only_looked_up(front: Front, id_: str) -> None:
    """Whatever they hold, and no long one is repeated."""
    key, _ = front.key()

    with pytest.raises(NotFound) as refused:
        await account.explanation(front.docs, sent(key), id_)
    assert len(refused.value.message) < 200
