"""Keys as people handle them: made, found, limited, switched, deleted."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import sqlalchemy as sa
from tests.support.store import USD
from tests.unit.accounts.house import House
from tests.unit.management.estate import Estate

from modelgates_server import management
from modelgates_server.errors import BadRequest, NotFound, Unauthenticated
from modelgates_server.ledger.values import Hold, HoldRequest, Refusal, Stale
from modelgates_server.limits import Scope, Window
from modelgates_server.management import KeyRow, NewKey
from modelgates_server.management.assignments import assign_keys
from modelgates_server.management.guardrails import Rules, create_guardrail
from modelgates_server.management.workspaces import NewWorkspace, create_workspace
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading


def make(house: House, name: str = "k", **wanted: object) -> tuple[str, KeyRow]:
    return management.create_key(
        house.engine, house.pepper, house.made.organization_id, NewKey(name, **wanted), "test", house.clock.now_s()
    )


def version(house: House) -> int:
    with reading(house.engine) as connection:
        return int(connection.execute(sa.select(schema.policy.c.version)).scalar_one())


def request(house: House, caller: object, number: int, amount_nusd: int) -> HoldRequest:
    return HoldRequest(
        f"gen-{number}", caller.organization_id, caller.policy_version, caller.meters, amount_nusd, 0, 10,
        '{"provider": "p"}', house.clock.now_s(),
    )  # fmt: skip


async def test_a_key_is_described_with_its_use(estate: Estate) -> None:
    """Limit, remainder and counters by day, week, month and life, as product-surface 2.6 lists them."""
    secret, row = estate.key(limit_nusd=5 * USD, limit_reset="daily")
    await estate.spend(secret, 2)
    data = management.key_data(row, management.keys_use(estate.engine, [row], estate.now_s)[row.hash])
    assert (data["limit_nusd"], data["limit_remaining_nusd"], data["limit_reset"]) == (5 * USD, 3 * USD, "daily")
    assert {data[f"usage{period}_nusd"] for period in ("", "_daily", "_weekly", "_monthly")} == {2 * USD}
    estate.house.clock.advance(40 * 24 * 3600)
    later = management.key_data(row, management.keys_use(estate.engine, [row], estate.now_s)[row.hash])
    assert (later["usage_nusd"], later["usage_monthly_nusd"], later["limit_remaining_nusd"]) == (2 * USD, 0, 5 * USD)


def test_the_log_says_whose_a_new_key_is(estate: Estate) -> None:
    """Member and workspace beside its name, class and limit."""
    ann = estate.member()
    _, row = estate.key(member_id=ann.id, limit_nusd=USD)
    with reading(estate.engine) as connection:
        newest = sa.select(schema.audit.c.details).order_by(schema.audit.c.id.desc())
        details = json.loads(connection.execute(newest).scalars().first())
    assert details == {
        "name": "k", "class": "inference", "workspace_id": row.workspace_id, "member_id": ann.id, "limit_nusd": USD,
        "limit_reset": None, "expires_at_s": None,
    }  # fmt: skip


def test_keys_of_one_second_are_listed_by_name(house: House) -> None:
    """Their hashes are random, and people expect the same list on every machine."""
    for name in ("c", "a", "b"):
        make(house, name)
    house.clock.advance(1)
    make(house, "0")
    listed = [row.name for row in management.list_keys(house.engine, house.made.organization_id)]
    assert listed == ["a", "b", "c", "first key", "first management key", "0"]


def test_the_description_names_no_secret_and_is_plain_data(house: House) -> None:
    """It can be written as JSON as it is, and the key is not in it."""
    secret, row = make(house, expires_at_s=int(house.clock.now_s()) + 60)
    written = json.dumps(management.key_data(row, management.KeyUse()))
    assert secret not in written
    assert '"created_at": "2027-01-15T08:00:00Z"' in written
    assert '"label": "sk-mg-v1-...' in written


def test_keys_are_found_by_hash_beginning_and_name(house: House) -> None:
    """Eight characters of a hash are enough; two of a name are asked back; the key's own text finds nothing."""
    secret, row = make(house, "alpha")
    for selector in (row.hash, row.hash[:8], "alpha"):
        assert management.find_key(house.engine, house.made.organization_id, selector) == row
    for selector in (row.hash[:7], secret, "Alpha", "", "%"):
        with pytest.raises(NotFound):
            management.find_key(house.engine, house.made.organization_id, selector)
    make(house, "alpha")
    with pytest.raises(BadRequest, match="2 keys fit"):
        management.find_key(house.engine, house.made.organization_id, "alpha")


async def test_a_disabled_key_holds_nothing_even_for_a_process_that_has_not_heard(estate: Estate) -> None:
    """The caller in memory is stale inside the transaction, and reading it again refuses."""
    secret, row = estate.key()
    directory = estate.house.directory()
    caller = await directory.identify([secret])
    async with estate.bank() as bank:
        assert isinstance(await bank.ledger.hold(request(estate.house, caller, 1, USD)), Hold)
        management.set_key_disabled(estate.engine, estate.org, row.hash, True, "test", estate.now_s)
        assert isinstance(await bank.ledger.hold(request(estate.house, caller, 2, USD)), Stale)
        with pytest.raises(Unauthenticated, match="disabled"):
            await directory.reload(caller)
        management.set_key_disabled(estate.engine, estate.org, row.hash, False, "test", estate.now_s)
        again = await directory.reload(caller)
        assert isinstance(await bank.ledger.hold(request(estate.house, again, 3, USD)), Hold)


async def test_a_closed_meter_stops_a_hold_by_itself(estate: Estate) -> None:
    """Also a caller that was read at the newest version, but with the row from before, holds nothing."""
    secret, row = estate.key()
    await estate.spend(secret, 1)
    caller = await estate.caller(secret)
    for number, (disabled, expected) in enumerate(((True, Stale), (False, Hold)), 2):
        management.set_key_disabled(estate.engine, estate.org, row.hash, disabled, "test", estate.now_s)
        newest = replace(caller, policy_version=estate.version())
        async with estate.bank() as bank:
            assert isinstance(await bank.ledger.hold(request(estate.house, newest, number, USD)), expected)


def test_a_deleted_key_is_gone_for_people_but_not_from_the_books(house: House) -> None:
    """No list shows it, nothing changes it, its row stays."""
    _, row = make(house)
    management.delete_key(house.engine, house.made.organization_id, row.hash, "test", house.clock.now_s())
    assert row.hash not in [found.hash for found in management.list_keys(house.engine, house.made.organization_id)]
    with pytest.raises(NotFound):
        management.set_key_disabled(
            house.engine, house.made.organization_id, row.hash, False, "test", house.clock.now_s()
        )
    with reading(house.engine) as connection:
        kept = connection.execute(sa.select(schema.api_keys).where(schema.api_keys.c.hash == row.hash)).one()
    assert kept.deleted_at_s == int(house.clock.now_s())


async def test_a_new_limit_counts_what_was_used_before(estate: Estate) -> None:
    """Use survives edits: a daily limit set in the afternoon sees the morning (product-surface 5.3)."""
    secret, row = estate.key()
    assert isinstance(await estate.spend(secret, 3), Hold)
    estate.house.clock.advance(3600)
    now_s = estate.now_s
    changed = management.update_key_limit(estate.engine, estate.org, row.hash, 4 * USD, "daily", "test", now_s)
    assert (changed.limit_nusd, changed.limit_meter.window) == (4 * USD, Window.DAY)
    assert management.keys_use(estate.engine, [changed], now_s)[row.hash].limited_nusd == 3 * USD
    refused = await estate.spend(secret, 2)
    assert isinstance(refused, Refusal)
    assert (refused.scope, refused.available) == (Scope.KEY, USD)
    assert isinstance(await estate.spend(secret, 1), Hold)


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"name": " \x00 "}, "needs a name"),
        ({"name": "x" * 101}, "at most 100"),
        ({"limit_nusd": -1}, "zero or more"),
        ({"limit_nusd": 10**15 + 1}, "one million"),
        ({"limit_nusd": 1, "limit_reset": "hourly"}, "limit_reset must be one of"),
        ({"limit_reset": "daily"}, "needs a limit"),
        ({"requests_per_minute": 0}, "from 1 to"),
        ({"tokens_per_minute": -5}, "from 1 to"),
        ({"expires_at_s": 1}, "in the past"),
    ],
)
def test_a_key_that_makes_no_sense_is_refused(house: House, wanted: dict[str, object], told: str) -> None:
    """With the sentence that says why, and without a trace in the database."""
    before = len(management.list_keys(house.engine, house.made.organization_id))
    with pytest.raises(BadRequest, match=told):
        make(house, **{"name": "k"} | wanted)
    assert len(management.list_keys(house.engine, house.made.organization_id)) == before


@pytest.mark.parametrize("wanted", [{"member_id": "mem-x"}, {"workspace_id": "ws-x"}])
def test_a_key_belongs_to_somebody_who_exists(house: House, wanted: dict[str, str]) -> None:
    """Members and workspaces that are not there are refused by name, not by the database."""
    with pytest.raises(NotFound, match="there is no such"):
        make(house, **wanted)


def test_every_change_of_policy_raises_the_version_and_leaves_a_note(house: House) -> None:
    """Disable, enable, limit, rates and delete: one audit row and one version each."""
    _, row = make(house)
    now_s, before = house.clock.now_s(), version(house)
    management.set_key_disabled(house.engine, house.made.organization_id, row.hash, True, "ann", now_s)
    management.set_key_disabled(house.engine, house.made.organization_id, row.hash, False, "ann", now_s)
    management.update_key_limit(house.engine, house.made.organization_id, row.hash, 5, None, "ann", now_s)
    management.update_key(house.engine, house.made.organization_id, row.hash, {"requests_per_minute": 10}, "ann", now_s)
    management.delete_key(house.engine, house.made.organization_id, row.hash, "ann", now_s)
    assert version(house) == before + 5
    with reading(house.engine) as connection:
        noted = (
            connection.execute(sa.select(schema.audit.c.action).where(schema.audit.c.actor == "ann")).scalars().all()
        )
    assert noted == ["key.disable", "key.enable", "key.limit", "key.update", "key.delete"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("2030-01-01T00:00:00", "not a time in UTC"),
        ("2030-01-01T00:00:00+02:00", "not a time in UTC"),
        ("2030-13-01T00:00:00Z", "not a time"),
        ("2030-02-30T00:00:00Z", "not a time"),
        ("tomorrow", "not a time in UTC"),
        ("2020-01-01T00:00:00Z", "in the past"),
    ],
)
def test_an_expiry_must_be_utc_and_to_come(text: str, told: str) -> None:
    """A naive time would mean another moment on every machine."""
    with pytest.raises(BadRequest, match=told):
        management.parse_expiry(text, 1_800_000_000)


def test_an_expiry_is_read_to_the_second() -> None:
    """Both spellings of UTC, with and without a fraction."""
    for text in ("2027-01-15T08:00:01Z", "2027-01-15t08:00:01.9z", " 2027-01-15T08:00:01+00:00 "):
        assert management.parse_expiry(text, 1_800_000_000) == 1_800_000_001


async def test_a_limit_that_includes_own_provider_keys_counts_both(estate: Estate) -> None:
    """Switched on later it sees what both paid before; switched off, credit alone counts again."""
    secret, row = estate.key(limit_nusd=10 * USD)
    await estate.spend(secret, 2, byok_usd=5)
    both = {"include_byok_in_limit": True}
    changed = management.update_key(estate.engine, estate.org, row.hash, both, "test", estate.now_s)
    data = management.key_data(changed, management.keys_use(estate.engine, [changed], estate.now_s)[row.hash])
    assert (data["limit_remaining_nusd"], data["usage_nusd"], data["byok_usage_daily_nusd"]) == (
        3 * USD,
        2 * USD,
        5 * USD,
    )
    assert await estate.refused(secret, 1, byok_usd=3) == ("key", "")
    management.update_key(estate.engine, estate.org, row.hash, {"include_byok_in_limit": False}, "test", estate.now_s)
    assert await estate.refused(secret, 1, byok_usd=3) is None


async def test_a_change_of_many_things_is_one_change(estate: Estate) -> None:
    """One audit row and one version; a key that is switched off by it admits nothing from then on."""
    secret, row = estate.key()
    before, noted = estate.version(), len(estate.noted())
    wanted = {"name": "new", "disabled": True, "parallel_max": 3, "limit_nusd": 5, "limit_reset": "daily"}
    changed = management.update_key(estate.engine, estate.org, row.hash, wanted, "test", estate.now_s)
    assert (changed.name, changed.disabled, changed.parallel_max, changed.limit_reset) == ("new", True, 3, "daily")
    assert (estate.version(), estate.noted()[noted:]) == (before + 1, ["key.update"])
    with pytest.raises(Unauthenticated, match="disabled"):
        await estate.caller(secret)


def test_a_key_moves_only_within_its_organisation(estate: Estate) -> None:
    """To a workspace by its slug; another organisation's does not exist."""
    _, row = estate.key()
    other = create_workspace(estate.engine, estate.org, NewWorkspace("Other", "other"), "test", estate.now_s)
    moved = management.update_key(estate.engine, estate.org, row.hash, {"workspace_id": "other"}, "test", estate.now_s)
    assert moved.workspace_id == other.id
    theirs = {"workspace_id": estate.foreign.workspace.id}
    with pytest.raises(NotFound):
        management.update_key(estate.engine, estate.org, row.hash, theirs, "test", estate.now_s)


async def test_a_key_tells_when_it_was_used_last(estate: Estate) -> None:
    """Never, until its first request."""
    secret, row = estate.key()
    assert management.keys_use(estate.engine, [row], estate.now_s)[row.hash].last_used_ms is None
    await estate.spend(secret, 1)
    assert management.keys_use(estate.engine, [row], estate.now_s)[row.hash].last_used_ms == int(estate.now_s * 1000)


def test_a_foreign_organisation_has_no_such_key(estate: Estate) -> None:
    """Every function that names a key is told whose it may be."""
    _, row = estate.key()
    foreign, engine, now_s = estate.foreign.organization.id, estate.engine, estate.now_s
    for act in (
        lambda: management.get_key(engine, foreign, row.hash),
        lambda: management.find_key(engine, foreign, row.hash),
        lambda: management.update_key(engine, foreign, row.hash, {"name": "mine"}, "test", now_s),
        lambda: management.set_key_disabled(engine, foreign, row.hash, True, "test", now_s),
        lambda: management.set_key_routing(engine, foreign, row.hash, None, "test", now_s),
        lambda: management.update_key_limit(engine, foreign, row.hash, 5, None, "test", now_s),
        lambda: management.delete_key(engine, foreign, row.hash, "test", now_s),
    ):
        with pytest.raises(NotFound, match="there is no such key"):
            act()
    assert management.get_key(engine, estate.org, row.hash) == row


async def test_a_guardrail_goes_with_its_key(estate: Estate) -> None:
    """Moving to another workspace is no way out of a guardrail that the key itself was given."""
    secret, row = estate.key()
    create_workspace(estate.engine, estate.org, NewWorkspace("Other", "other"), "test", estate.now_s)
    rules = Rules("tight", limit_nusd=USD, reset_interval="daily")
    rail = create_guardrail(estate.engine, estate.org, None, rules, "test", estate.now_s)
    assign_keys(estate.engine, estate.org, rail.id, [row.hash], "test", estate.now_s)
    management.update_key(estate.engine, estate.org, row.hash, {"workspace_id": "other"}, "test", estate.now_s)
    assert await estate.refused(secret, 2) == ("key", 'guardrail "tight"')
