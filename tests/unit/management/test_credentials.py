"""An organisation's own provider keys: stored sealed, shown masked, and found by the callers that they serve."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from tests.unit.accounts.house import House, open_house

from modelgates_server.accounts.values import CredentialRef
from modelgates_server.catalogue.kinds import bundled_kinds, load_kinds
from modelgates_server.errors import BadRequest, Conflict, NotFound, SealBroken
from modelgates_server.management import credentials, rotation
from modelgates_server.management.credentials import CREDENTIALS_MAX, CredentialRow, NewCredential, Place, Safe
from modelgates_server.storage import schema
from modelgates_server.storage.engine import database_of, reading, transaction
from modelgates_server.vault.envelope import Ring, Vault
from modelgates_server.vault.ring import open_vault

KEY = "sk-ant-api03-canary-0123456789abcdef"
URL = "https://api.anthropic.com"
PLACES = {
    "anthropic": Place("anthropic", URL),
    "vertex": Place("vertex", "https://aiplatform.googleapis.com", "Google Vertex AI takes no API key"),
}


@pytest.fixture
def house(store_url: str) -> Iterator[House]:
    """On SQLite and on PostgreSQL: locks and patterns are written differently there."""
    with open_house(database_of(store_url)) as opened:
        yield opened


def safe(house: House) -> Safe:
    return Safe(house.pepper, PLACES)


def organization(house: House) -> str:
    return house.made.organization_id


def add(house: House, key: str = KEY, **wanted: Any) -> CredentialRow:
    new = NewCredential(**{"provider": "anthropic", "key": key} | wanted)
    return credentials.add_credential(house.engine, safe(house), organization(house), new, "ann", house.clock.now_s())


def change(house: House, row: CredentialRow, **said: Any) -> CredentialRow:
    house.clock.advance(1)
    return credentials.change_credential(
        house.engine, safe(house), organization(house), row.id, said, "ann", house.clock.now_s()
    )


def stored(house: House, row: CredentialRow) -> dict[str, Any]:
    table = schema.provider_credentials
    with reading(house.engine) as connection:
        return dict(connection.execute(sa.select(table).where(table.c.id == row.id)).mappings().one())


def opened(house: House, row: CredentialRow) -> str:
    kept = stored(house, row)
    place = {"organization_id": organization(house), "record_id": row.id, "destination": kept["base_url"]}
    with reading(house.engine) as connection:
        return open_vault(connection, house.pepper).open(kept["sealed"], **place).decode()


def everything(house: House) -> str:
    """The whole database as text."""
    with reading(house.engine) as connection:
        return "\n".join(
            repr(tuple(row)) for table in schema.metadata.sorted_tables for row in connection.execute(sa.select(table))
        )


async def carried(house: House, secret: str | None = None) -> tuple[CredentialRef, ...]:
    """What another process gives the caller of a key, at first the administrator's own."""
    return (await house.directory().identify([secret or house.made.api_key or ""])).credentials


def test_a_key_is_stored_sealed_and_shown_masked(house: House) -> None:
    """It opens for its organisation, record and address; nowhere in the database does it stand as it is."""
    row = add(house)

    assert opened(house, row) == KEY
    assert (row.label, row.name) == ("sk-ant...cdef", "anthropic key")
    assert stored(house, row)["base_url"] == URL
    assert "canary" not in everything(house)
    assert "canary" not in f"{row!r} {NewCredential('anthropic', KEY)!r} {json.dumps(credentials.credential_data(row))}"


def test_a_short_key_shows_next_to_nothing(house: House) -> None:
    """Six and four letters would be most of it."""
    assert add(house, key="abcdefghij").label == "...ij"


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"provider": "nobody"}, "there are anthropic"),
        ({"provider": "vertex"}, "takes no API key"),
        ({"key": "short"}, "not the form of a key"),
        ({"key": "with spaces in it"}, "not the form of a key"),
        ({"key": "line\nbreak-in-it"}, "not the form of a key"),
        ({"key": "schlüssel-12345"}, "not the form of a key"),
        ({"name": f"my {KEY}"}, "the name holds the key"),
        ({"key": "k" * 164, "name": "k" * 164}, "the name holds the key"),
        ({"sort_order": -1}, "sort_order"),
        ({"name": "x" * 101}, "at most 100"),
        ({"allowed_models": ()}, "from 1 to 100"),
        ({"allowed_member_ids": tuple(map(str, range(101)))}, "from 1 to 100"),
        ({"allowed_key_hashes": ("A" * 64,)}, "64 hexadecimal digits"),
    ],
)
def test_what_cannot_be_is_refused(house: House, wanted: dict[str, Any], said: str) -> None:
    """With a sentence that tells what to do, and never with the key in it."""
    with pytest.raises(BadRequest) as raised:
        add(house, **wanted)

    assert said in raised.value.message
    assert KEY not in f"{raised.value.message} {raised.value.remedy}"
    assert credentials.list_credentials(house.engine, organization(house)).total == 0


def test_a_key_of_this_gateway_is_no_key_of_a_provider(house: House) -> None:
    """It would be sent to somebody who could use it here."""
    with pytest.raises(BadRequest, match="a key of this gateway"):
        add(house, key=house.made.api_key or "")


@pytest.mark.parametrize(
    "wanted", [{"workspace_id": "ws-x"}, {"allowed_key_hashes": ("0" * 64,)}, {"allowed_member_ids": ("mem-x",)}]
)
def test_it_can_be_kept_for_those_who_exist(house: House, wanted: dict[str, Any]) -> None:
    """Workspaces, keys and members of others are as unknown as those that never were."""
    with pytest.raises(NotFound):
        add(house, **wanted)


def test_kinds_that_take_no_key_say_so() -> None:
    """Every kind of the bundled data either takes a key or has a sentence; the clouds' identities stay with the operator."""
    kinds = load_kinds(bundled_kinds())
    refused = {word for word in kinds.words if credentials._refusal(kinds.find(word))}

    assert refused == {"vertex", "sandbox"}


def test_another_organisation_sees_nothing(house: House) -> None:
    """Foreign ids are unknown in every function."""
    row = add(house)
    at = (house.engine, "org-other", row.id)
    for act in (
        lambda: credentials.find_credential(*at),
        lambda: credentials.remove_credential(*at, "eve", 0),
        lambda: credentials.change_credential(
            house.engine, safe(house), "org-other", row.id, {"disabled": True}, "eve", 0
        ),
    ):
        with pytest.raises(NotFound):
            act()

    assert credentials.list_credentials(house.engine, "org-other").total == 0
    assert credentials.find_credential(house.engine, organization(house), row.id) == row


def test_a_change_touches_what_it_names(house: House) -> None:
    """The key stays where only its filters change, and a new key gets a new seal; the provider cannot be changed."""
    row = add(house, name="first", sort_order=3)
    changed = change(house, row, name="second", disabled=True, allowed_models=("anthropic/claude-opus-4.8",))

    assert (changed.name, changed.disabled, changed.sort_order, opened(house, row)) == ("second", True, 3, KEY)
    assert changed.updated_at_s > row.updated_at_s
    assert change(house, row, allowed_models=None, key="sk-another-key-of-that-account").label == "sk-ano...ount"
    assert opened(house, row) == "sk-another-key-of-that-account"
    with pytest.raises(BadRequest):
        change(house, row, provider="other")


def test_every_change_is_audited_without_the_key(house: House) -> None:
    """Who did what to which credential; the label is all that is said of a key."""
    row = add(house)
    change(house, row, key="sk-ant-api03-second-canary-key")
    credentials.remove_credential(house.engine, organization(house), row.id, "ann", house.clock.now_s())
    with reading(house.engine) as connection:
        notes = connection.execute(sa.select(schema.audit).where(schema.audit.c.target == row.id)).all()

    assert [(note.action, note.actor) for note in notes] == [
        ("credential.add", "ann"),
        ("credential.change", "ann"),
        ("credential.remove", "ann"),
    ]
    assert not any("canary" in note.details for note in notes)


def test_there_is_an_end(house: House) -> None:
    """Every live credential may become an endpoint of each request, so an organisation has not any number of them."""
    row = stored(house, add(house))
    with transaction(house.engine) as connection:
        copies = [row | {"id": f"byok-{n}"} for n in range(CREDENTIALS_MAX - 1)]
        connection.execute(sa.insert(schema.provider_credentials), copies)

    with pytest.raises(Conflict):
        add(house)


async def test_callers_carry_what_fits_them_in_the_order_of_trying(house: House) -> None:
    """By workspace, key and member; those that are off stay out, fallbacks come last."""
    member = next(iter(await _members(house)))
    last, second, first = add(house, is_fallback=True), add(house, sort_order=2), add(house, sort_order=1)
    mine = add(house, allowed_member_ids=(member,), sort_order=5)
    off = add(house)
    change(house, off, disabled=True)

    assert [ref.id for ref in await carried(house)] == [first.id, second.id, mine.id, last.id]


async def _members(house: House) -> list[str]:
    with reading(house.engine) as connection:
        return list(connection.execute(sa.select(schema.members.c.id)).scalars())


async def test_a_process_notices_changes(house: House) -> None:
    """What it remembers is dropped with the policy; callers of one organisation share what they carry."""
    directory = house.directory()
    caller = await directory.identify([house.made.api_key or ""])
    row = add(house)
    await directory.refresh()
    one = await directory.identify([house.made.api_key or ""])
    two = await directory.identify([house.made.management_key or ""])
    change(house, row, key="sk-another-key-of-that-account")
    await directory.refresh()
    three = await directory.identify([house.made.api_key or ""])

    assert caller.credentials == ()
    assert one.credentials[0] is two.credentials[0]
    assert three.credentials[0].version != one.credentials[0].version


async def test_what_a_caller_carries_opens_without_the_database(house: House) -> None:
    """The reference holds all that is needed besides the installation's secret, and shows none of it."""
    row = add(house)
    (ref,) = await carried(house)
    vault = Vault(house.pepper, Ring(ref.kek_id, {ref.kek_id: ref.salt}))

    assert (
        vault.open(ref.sealed, organization_id=ref.organization_id, record_id=row.id, destination=URL) == KEY.encode()
    )
    assert ref.sealed not in repr(ref)
    assert repr(ref.salt) not in repr(ref)


def test_rotation_wraps_everything_and_destroys_the_old_key(house: House) -> None:
    """Afterwards every secret opens as before, and nothing that was copied before does, even with the installation's secret."""
    rows = [add(house, key=f"sk-ant-api03-number-{n:08d}") for n in range(150)]
    before = stored(house, rows[0])
    done = rotation.rotate_secrets(house.engine, house.pepper, "ann", house.clock.now_s())

    assert (done.kek_id, done.wrapped, done.broken, done.retired) == ("2", 150, 0, ("1",))
    assert {stored(house, row)["kek_id"] for row in rows} == {"2"}
    assert [opened(house, row) for row in rows] == [f"sk-ant-api03-number-{n:08d}" for n in range(150)]
    with reading(house.engine) as connection, pytest.raises(SealBroken):
        open_vault(connection, house.pepper).rewrap(before["sealed"])


def test_an_interrupted_rotation_is_finished_by_the_next(house: House) -> None:
    """Rows of two key-encryption keys open alike; the next rotation wraps all of them and destroys both."""
    rows = [add(house) for _ in range(3)]
    with transaction(house.engine) as connection:
        rotation.add_kek(connection)
    rows.append(add(house))
    assert [stored(house, row)["kek_id"] for row in rows] == ["1", "1", "1", "2"]
    assert {opened(house, row) for row in rows} == {KEY}
    done = rotation.rotate_secrets(house.engine, house.pepper, "ann", house.clock.now_s())

    assert (done.kek_id, done.wrapped, done.retired) == ("3", 4, ("1", "2"))
    assert {opened(house, row) for row in rows} == {KEY}


def test_a_broken_secret_does_not_stop_a_rotation(house: House) -> None:
    """It is counted and left as it is, with its key-encryption key, which stays until the row is gone."""
    broken, sound = add(house), add(house)
    table = schema.provider_credentials
    with transaction(house.engine) as connection:
        connection.execute(sa.update(table).where(table.c.id == broken.id).values(sealed="v1.1.AAAA.AAAA"))
    done = rotation.rotate_secrets(house.engine, house.pepper, "ann", house.clock.now_s())
    assert (done.wrapped, done.broken, done.retired) == (1, 1, ())
    credentials.remove_credential(house.engine, organization(house), broken.id, "ann", house.clock.now_s())
    again = rotation.rotate_secrets(house.engine, house.pepper, "ann", house.clock.now_s())

    assert (again.kek_id, again.wrapped, again.broken, again.retired) == ("3", 1, 0, ("1", "2"))
    assert opened(house, sound) == KEY
