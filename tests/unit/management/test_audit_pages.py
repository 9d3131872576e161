"""The audit log by pages and in words, and an organisation's own part of it, on both stores."""

from __future__ import annotations

import json

import pytest
from tests.unit.management.estate import Estate

from modelgates_server.errors import BadRequest
from modelgates_server.management import audit, workspaces
from modelgates_server.management.audit import AuditFilter, Verdict
from modelgates_server.management.audit_extract import extract
from modelgates_server.management.audit_words import named, names_of, parts
from modelgates_server.management.organizations import find_organization, rename_organization


def test_pages_by_key_make_the_whole_log(either: Estate) -> None:
    """Newest first, none twice and none missing, whatever comes in between; of one's own organisation only."""
    for number in range(7):
        either.key(f"k{number}")
    seen: list[str] = []
    before: int | None = None
    while page := audit.audit_before(either.engine, either.org, AuditFilter(), before, 3):
        seen += [row.digest for _, row in page]
        before = page[-1][0]
        either.key(f"late {before}")
    listed = [row.digest for row in audit.list_audit(either.engine, either.org, AuditFilter(), 0, None).rows]

    assert len(seen) == len(set(seen))
    assert set(seen) < set(listed)
    assert listed[-len(seen) :] == seen


def test_filters_are_offered_as_they_occur(either: Estate) -> None:
    """Each word once; nothing of another organisation."""
    either.key()
    words = audit.words_of(either.engine, either.org)

    assert "key.create" in words.actions
    assert words.actors == ("setup", "test")
    assert "organization.create" in audit.words_of(either.engine, either.foreign.organization.id).actions


def test_ids_are_told_by_name(either: Estate) -> None:
    """Members, workspaces and keys, the latter also by the beginning of their hash; foreign ones keep their ids."""
    ann = either.member("Ann")
    _, key = either.key("laptop")
    texts = (f"member:{ann.id}", f"key:{key.hash[:12]}", f"workspace:{either.workspace}", either.foreign.admin.id)
    names = names_of(either.engine, either.org, texts)

    assert [named(text, names) for text in texts[:3]] == ["member:Ann", "key:laptop", "workspace:Default"]
    assert either.foreign.admin.id not in names
    assert named("member:unknown-and-long", names, 7) == "member:unknown"


def test_details_are_told_in_words() -> None:
    """Amounts in USD, times in UTC, lists, nested members; nothing for what is not said, but a limit that is none."""
    details = {
        "limit_nusd": 5_000_000_000, "ends_at_s": 1_800_000_000, "on": True, "none": None, "keys": [], "member_id": "mem-1",
        "rule": {"days": 5},
    }  # fmt: skip

    assert dict(parts(details, {"mem-1": "Ann"})) == {
        "limit": "$5.00",
        "ends at": "2027-01-15 08:00 UTC",
        "on": "yes",
        "keys": "none",
        "member": "Ann",
        "rule days": "5",
    }
    assert dict(parts({"window": "day", "limit_nusd": None, "mode": None}, {})) == {"window": "day", "limit": "none"}


def test_an_extract_has_our_rows_only_and_is_proved_later(either: Estate) -> None:
    """Also after more was changed; another organisation's extract is another one."""
    either.key()
    lines = list(extract(either.engine, either.house.pepper, either.org, either.now_s))
    foreign = list(extract(either.engine, either.house.pepper, either.foreign.organization.id, either.now_s))
    either.key("later")

    assert {json.loads(line)["organization_id"] for line in lines} == {either.org}
    for one in (lines, foreign):
        assert audit.verify_export(either.engine, either.house.pepper, one) == Verdict(None, len(one) - 1)
    mixed = [*lines[:-1], foreign[-1]]
    assert audit.verify_export(either.engine, either.house.pepper, mixed).broken is not None


def test_an_organisation_is_renamed(either: Estate) -> None:
    """It is noted; the same name is no change; a name that cannot be is refused."""
    row = rename_organization(either.engine, either.org, "  Heron  Ltd\x00 ", "ann", either.now_s)
    rename_organization(either.engine, either.org, row.name, "ann", either.now_s)
    for wrong in ("", "x" * 101):
        with pytest.raises(BadRequest):
            rename_organization(either.engine, either.org, wrong, "ann", either.now_s)

    assert find_organization(either.engine, either.org).name == row.name
    assert either.noted().count("organization.rename") == 1
    assert workspaces.find_workspace(either.engine, either.org).slug == "default"
