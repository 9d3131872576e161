"""The rule of a workspace about prompts, and what was kept by it: who may change and read it, and when it goes."""

from __future__ import annotations

import zlib
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from tests.unit.management.estate import Estate

from modelgates_server import upkeep
from modelgates_server.activity.contents import DESTINATION
from modelgates_server.clock import ManualClock
from modelgates_server.errors import BadRequest, NotFound, SealBroken
from modelgates_server.management import contents, rotation, workspaces
from modelgates_server.management.prompt_log import PromptLog, prompt_log_of, set_prompt_log
from modelgates_server.management.workspaces import NewWorkspace
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading, transaction
from modelgates_server.vault.ring import open_vault

ON = PromptLog(enabled=True)


def rule(estate: Estate, wanted: PromptLog = ON, workspace: str = "default", organization_id: str = "") -> PromptLog:
    row = set_prompt_log(estate.engine, organization_id or estate.org, workspace, wanted, "ann", estate.now_s)
    return prompt_log_of(row)


def keep(estate: Estate, id_: str = "gen-1", *, workspace: str = "", kept_s: int = 1_000) -> None:
    """What a settlement writes."""
    plain = msgspec.json.encode({"request_bytes": 2, "request_cut": False, "answer_cut": False}) + b"\n{}"
    place = {"organization_id": estate.org, "record_id": id_, "destination": DESTINATION}
    now_s = int(estate.now_s)
    with transaction(estate.engine) as connection:
        sealed = open_vault(connection, estate.house.pepper, sealing=True).seal(zlib.compress(plain), **place)
        row = {
            "generation_id": id_, "organization_id": estate.org, "workspace_id": workspace or estate.workspace, "size_bytes": 2,
            "created_at_s": now_s, "expires_at_s": now_s + kept_s, "kek_id": sealed.kek_id, "sealed": sealed.text,
        }  # fmt: skip
        connection.execute(sa.insert(schema.contents).values(row))


def read(estate: Estate, id_: str = "gen-1", organization_id: str = "") -> Any:
    return contents.read_content(
        estate.engine, estate.house.pepper, organization_id or estate.org, id_, "ann", estate.now_s
    )


def ids(estate: Estate) -> list[str]:
    with reading(estate.engine) as connection:
        return sorted(connection.execute(sa.select(schema.contents.c.generation_id)).scalars())


async def test_a_rule_reaches_the_callers_of_its_workspace(either: Estate) -> None:
    """Off at first; on for all keys or for one; a new name with every change; off again."""
    secret, row = either.key()
    other, _ = either.key("other")
    keeping = [(await either.caller(secret)).keeping]
    assert rule(either) == ON
    keeping.append((await either.caller(secret)).keeping)
    rule(either, PromptLog(enabled=True, retention_days=7, key_hashes=(row.hash,), sampling_ppm=500_000))
    keeping += [(await either.caller(one)).keeping for one in (secret, other)]
    rule(either, PromptLog())
    keeping.append((await either.caller(secret)).keeping)
    plain, first, second, others, last = keeping

    assert (plain, others, last) == (None, None, None)
    assert first is not None
    assert second is not None
    assert (first.retention_s, first.sampling_ppm) == (90 * 86_400, 1_000_000)
    assert (second.retention_s, second.sampling_ppm, first.rule != second.rule) == (7 * 86_400, 500_000, True)


def test_every_change_is_noted_and_bites_and_none_changes_nothing(either: Estate) -> None:
    """The policy's version rises once a change; asking for what is there is no change."""
    before = either.version()
    for wanted in (ON, ON, PromptLog(enabled=True, retention_days=5)):
        rule(either, wanted)

    assert either.version() == before + 2
    assert either.noted()[-2:] == ["workspace.prompt_log"] * 2


@pytest.mark.parametrize(
    "wanted",
    [
        PromptLog(enabled=True, retention_days=0),
        PromptLog(enabled=True, retention_days=366),
        PromptLog(enabled=True, sampling_ppm=99),
        PromptLog(enabled=True, sampling_ppm=1_000_001),
        PromptLog(enabled=True, key_hashes=()),
        PromptLog(enabled=True, key_hashes=("0" * 64,)),
        PromptLog(enabled=True, key_hashes=tuple(map(str, range(101)))),
    ],
)
def test_what_cannot_be_is_refused(estate: Estate, wanted: PromptLog) -> None:
    """And nothing is changed by it."""
    with pytest.raises(BadRequest):
        rule(estate, wanted)

    assert prompt_log_of(workspaces.find_workspace(estate.engine, estate.org)) == PromptLog()


def test_a_foreign_workspace_does_not_exist(either: Estate) -> None:
    """Neither to be opted in, nor to be emptied, nor to be read."""
    keep(either)
    for act in (
        lambda: rule(either, workspace=either.workspace, organization_id=either.foreign.organization.id),
        lambda: contents.delete_contents(
            either.engine, either.foreign.organization.id, either.workspace, "eve", either.now_s
        ),
        lambda: read(either, organization_id=either.foreign.organization.id),
    ):
        with pytest.raises(NotFound):
            act()

    assert contents.delete_contents(either.engine, either.foreign.organization.id, None, "eve", either.now_s) == 0
    assert not contents.has_content(either.engine, either.foreign.organization.id, "gen-1", either.now_s)
    assert ids(either) == ["gen-1"]


def test_reading_is_noted_in_the_same_change(either: Estate) -> None:
    """Once for each reading; nothing is noted where nothing was read."""
    keep(either)
    read(either)
    read(either)
    with pytest.raises(NotFound):
        read(either, "gen-2")

    assert either.noted()[-2:] == ["content.read"] * 2
    assert either.noted().count("content.read") == 2


def test_a_content_opens_only_as_what_it_is(either: Estate) -> None:
    """Under another generation's name it does not, and that is no reading."""
    keep(either, "gen-1")
    with transaction(either.engine) as connection:
        connection.execute(sa.update(schema.contents).values(generation_id="gen-2"))
    with pytest.raises(SealBroken):
        read(either, "gen-2")

    assert "content.read" not in either.noted()


def test_what_is_over_is_not_read_and_goes(either: Estate) -> None:
    """At its time, or with its workspace; what is left of others stays. Upkeep does both."""
    space = workspaces.create_workspace(either.engine, either.org, NewWorkspace("Lab"), "ann", either.now_s).id
    keep(either, "gen-1", kept_s=100)
    keep(either, "gen-2", workspace=space)
    keep(either, "gen-3")
    workspaces.delete_workspace(either.engine, either.org, space, "ann", either.now_s)
    later = ManualClock(either.now_s + 100)
    for gone in ("gen-1", "gen-2"):
        with pytest.raises(NotFound):
            contents.read_content(either.engine, either.house.pepper, either.org, gone, "ann", later.now_s())

    assert (upkeep.prune_contents(either.engine, later), ids(either)) == (2, ["gen-3"])


def test_deleting_takes_one_workspace_or_all_and_is_noted(either: Estate) -> None:
    """In any number of batches; it says how many."""
    space = workspaces.create_workspace(either.engine, either.org, NewWorkspace("Lab"), "ann", either.now_s)
    for number in range(120):
        keep(either, f"gen-{number:03}")
    keep(either, "gen-lab", workspace=space.id)
    stored = contents.stored_contents(either.engine, either.org, either.now_s)
    some = contents.delete_contents(either.engine, either.org, "default", "ann", either.now_s)
    left = ids(either)
    rest = contents.delete_contents(either.engine, either.org, None, "ann", either.now_s)

    assert (stored[either.workspace].count, stored[space.id].oldest_at_s) == (120, int(either.now_s))
    assert (some, left, rest, ids(either)) == (120, ["gen-lab"], 1, [])
    assert either.noted()[-2:] == ["content.delete"] * 2


def test_rotation_wraps_contents_and_keeps_the_key_of_one_that_is_broken(either: Estate) -> None:
    """In any number of batches; the ciphertext stays as it is."""
    for number in range(25):
        keep(either, f"gen-{number:02}")
    with transaction(either.engine) as connection:
        broken = sa.update(schema.contents).where(schema.contents.c.generation_id == "gen-07")
        connection.execute(broken.values(sealed="v1.1.x.y"))
    first = rotation.rotate_secrets(either.engine, either.house.pepper, "ann", either.now_s)
    read(either, "gen-06")
    with transaction(either.engine) as connection:
        connection.execute(sa.delete(schema.contents).where(schema.contents.c.generation_id == "gen-07"))
    second = rotation.rotate_secrets(either.engine, either.house.pepper, "ann", either.now_s)
    read(either, "gen-24")

    assert (first.wrapped, first.broken, first.retired) == (24, 1, ())
    assert (second.wrapped, second.broken, second.retired) == (24, 0, ("1", "2"))


def test_settings_of_others_stay_as_they_are(either: Estate) -> None:
    """The rule stands beside what the API keeps about a workspace, and neither overwrites the other."""
    workspaces.update_workspace(
        either.engine, either.org, "default", {"settings": {"default_text_model": "m"}}, "ann", either.now_s
    )
    rule(either)
    row = workspaces.update_workspace(
        either.engine, either.org, "default", {"settings": {"default_image_model": "i"}}, "ann", either.now_s
    )

    assert prompt_log_of(row) == ON
    assert {row.settings["default_text_model"], row.settings["default_image_model"]} == {"m", "i"}
