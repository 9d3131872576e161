"""Organisations, members, workspaces, guardrails, budgets and rates in the terminal, on a real database."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.unit.cli.terminal import Terminal


def rows(home: Terminal, *words: str) -> list[dict[str, Any]]:
    return home.json(*words).data["data"]


def test_members_come_by_invitation_and_go(home: Terminal) -> None:
    """Invited with a share of a month, accepted here, made an admin, removed; the link is shown once."""
    made = home.json(
        "members", "invite", "ann@x.de", "--name", "Ann Lee", "--share", "12.5", "--workspace", "default"
    ).data
    assert made["url"].endswith(f"/join?token={made['token']}")
    assert made["token"] not in home.run("members", "invitations").out
    accepted = home.json("members", "accept", made["token"]).data
    assert "/sign-in?token=" in accepted["sign_in_url"]
    assert [row["name"] for row in rows(home, "members", "list")] == ["Admin", "Ann Lee"]
    assert rows(home, "budgets", "list", "member")[0]["limit_usd"] == Decimal("12.5")
    assert rows(home, "members", "invitations")[0]["state"] == "accepted"
    assert home.json("members", "role", "ann@x.de", "admin").data["data"]["role"] == "org:admin"
    assert home.json("members", "share", "Ann Lee", "--limit", "none").data == {"data": None}
    assert "Ann Lee is removed" in home.run("members", "remove", "Ann Lee").out
    assert home.run("members", "remove", "Ann Lee").code == 4


def test_a_member_gets_a_sign_in_link(home: Terminal) -> None:
    """By name or address; a reset says what it ended."""
    home.json("members", "add", "--name", "Ann", "--email", "ann@x.de")
    first = home.json("members", "link", "ann@x.de").data
    assert first["data"]["name"] == "Ann"
    again = home.run("members", "link", "Ann", "--reset").out
    assert "/sign-in?token=" in first["sign_in_url"]
    assert first["sign_in_url"] not in again
    assert "forgotten" in again
    assert home.run("members", "link", "Nobody").code == 4
    assert "sign_in.reset" in home.run("audit", "list", "--limit", "1").out


def test_shares_hold_for_any_window(home: Terminal) -> None:
    """Promised or given; the list has all of them, the narrowest first; taking one away leaves the others."""
    words = ("--name", "Ann", "--share", "20", "--share-window", "week")
    made = home.json("members", "invite", "ann@x.de", *words).data
    assert (made["data"]["share_usd"], made["data"]["share_interval"]) == (20, "weekly")
    home.json("members", "accept", made["token"])
    assert "Ann may spend $300.00 a month." in home.run("members", "share", "Ann", "--limit", "300").out
    home.json("members", "share", "Ann", "--limit", "0.5", "--window", "day")
    assert "$0.50 a day, $20.00 a week, $300.00 a month" in home.run("members", "list").out
    told = home.run("members", "share", "Ann", "--limit", "none", "--window", "week").out
    assert told == "Ann has no weekly share any more.\n"
    ann = next(row for row in rows(home, "members", "list") if row["name"] == "Ann")
    assert ann["shares"] == [
        {"interval": "monthly", "limit_usd": 300, "mode": "hard"},
        {"interval": "daily", "limit_usd": Decimal("0.5"), "mode": "hard"},
    ]


def test_a_second_invitation_replaces_the_first(home: Terminal) -> None:
    """Its link opens nothing any more, the list says so, and the log says which one it replaced."""
    first, second = (home.json("members", "invite", "ann@x.de", "--name", "Ann").data for _ in range(2))
    assert [row["state"] for row in rows(home, "members", "invitations")] == ["pending", "revoked"]
    assert home.run("members", "accept", first["token"]).code == 4
    assert f"replaces {first['data']['id']}" in home.run("audit", "list", "--limit", "1").out
    assert home.run("members", "accept", second["token"]).code == 0


def test_a_provider_that_nobody_knows_is_said(home: Terminal) -> None:
    """It may come later, so the rule is made; who misspelt one reads so."""
    home.folder.joinpath("modelgates.toml").write_text(
        '[[providers]]\nslug = "eu"\nkind = "anthropic"\napi_key = "k"\n'
    )
    for slug, known in (("anthropc", False), ("eu", True), ("Anthropic", True), ("anthropic/us", True), ("none", True)):
        ran = home.run("guardrails", "create", f"Without {slug}", "--ignore-provider", slug)
        assert (ran.code, "no provider of this gateway is called" in ran.err) == (0, not known), slug


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("members", "invitations"), "Nobody was invited yet."),
        (("guardrails", "list"), "There are no guardrails."),
        (("budgets", "list"), "There are no budgets."),
        (("rates", "list"), "There are no rates."),
        (("credentials", "list"), "There are no provider keys of your own."),
        (("alerts", "channels", "list"), "There are no channels."),
        (("audit", "list", "--action", "nothing"), "There is no such change."),
        (("activity", "show"), "Nothing was used."),
    ],
)
def test_an_empty_list_is_a_sentence(home: Terminal, words: tuple[str, ...], told: str) -> None:
    """A head without rows looks like a mistake."""
    assert home.run(*words).out.splitlines()[-1] == told


def test_an_invitation_is_taken_back(home: Terminal) -> None:
    """By its id, once."""
    made = home.json("members", "invite", "ann@x.de", "--name", "Ann").data["data"]
    assert home.json("members", "revoke", made["id"]).data["data"]["state"] == "revoked"
    assert home.run("members", "revoke", made["id"]).code == 4


def test_workspaces_are_made_filled_and_deleted(home: Terminal) -> None:
    """By slug; the default one stays; nobody is in a new one."""
    home.json("members", "add", "--name", "Ann")
    made = home.json("workspaces", "create", "Team Lab", "--description", "d").data["data"]
    assert made["slug"] == "team-lab"
    assert home.json("workspaces", "update", "team-lab", "--slug", "lab").data["data"]["slug"] == "lab"
    assert home.json("workspaces", "join", "lab", "Ann").data["added_count"] == 1
    assert "Ann" in home.run("workspaces", "members", "lab").out
    assert home.json("workspaces", "leave", "lab", "Ann").data == {"removed_count": 1}
    assert [row["slug"] for row in rows(home, "workspaces", "list")] == ["default", "lab"]
    assert home.json("workspaces", "delete", "lab").data["deleted"] is True
    assert home.run("workspaces", "delete", "default").code == 2
    assert home.run("workspaces", "update", "default").code == 2


def test_guardrails_are_given_and_taken(home: Terminal) -> None:
    """Made with a budget and lists, given to a key and a member by name, changed, deleted."""
    home.json("members", "add", "--name", "Ann")
    home.json("keys", "create", "--name", "laptop")
    made = home.json(
        "guardrails", "create", "Interns", "--limit", "5", "--reset", "daily", "--allow-model", "claude-haiku-4-5",
        "--ignore-provider", "bedrock", "--zdr",
    ).data["data"]  # fmt: skip
    assert (made["limit_usd"], made["allowed_models"]) == (5, ["anthropic/claude-haiku-4.5"])
    assert (made["enforce_zdr"], made["ignored_providers"]) == (True, ["bedrock"])
    assert (
        home.json("guardrails", "assign", "Interns", "--key", "laptop", "--member", "Ann").data["assigned_count"] == 2
    )
    assert "1     1" in home.run("guardrails", "list").out
    changed = home.json("guardrails", "update", "Interns", "--soft", "--allow-model", "none", "--limit", "none").data[
        "data"
    ]
    assert (changed["mode"], changed["allowed_models"], changed["limit_usd"]) == ("soft", None, None)
    assert home.json("guardrails", "unassign", "Interns", "--key", "laptop").data["unassigned_count"] == 1
    assert home.json("guardrails", "delete", "Interns").data["deleted"] is True
    assert home.run("guardrails", "delete", "Interns").code == 4


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("guardrails", "create", "g", "--limit", "5"), "--limit needs --reset"),
        (("guardrails", "create", "g", "--limit", "none", "--reset", "daily"), "--reset needs --limit"),
        (("guardrails", "update", "--default-of", "default", "--limit", "5"), "add --reset daily, weekly or monthly"),
        (("members", "invite", "ann@x.de", "--name", "Ann", "--share-window", "week"), "--share-window needs --share"),
        (("guardrails", "create", "g", "--ignore-model", "claude-opus-4-99"), "there is no model"),
        (("guardrails", "update", "--limit", "5"), "--default-of"),
        (("guardrails", "update", "--default-of", "default"), "nothing to change"),
        (("guardrails", "assign", "g"), "nobody to assign"),
        (("budgets", "set", "organization", "--window", "life", "--limit", "5"), "its credit"),
        (("members", "invite", "ann", "--name", "Ann"), "not a mail address"),
    ],
)
def test_what_makes_no_sense_is_refused(home: Terminal, words: tuple[str, ...], told: str) -> None:
    """With exit code 2 and the sentence that says why."""
    ran = home.run(*words)
    assert (ran.code, told in ran.err) == (2, True), ran.err


def test_a_workspaces_default_guardrail_is_made_by_a_change(home: Terminal) -> None:
    """It has everybody, so nobody is counted."""
    made = home.json("guardrails", "update", "--default-of", "default", "--limit", "9", "--reset", "weekly").data[
        "data"
    ]
    assert (made["is_default"], made["limit_usd"], made["reset_interval"]) == (True, 9, "weekly")
    (line,) = home.run("guardrails", "list").out.splitlines()[1:]
    assert (line.startswith("Default of Default  $9.00 weekly"), "all" in line) == (True, True)
    assert "guardrail.update Default of Default limit $9.00" in " ".join(home.run("audit", "list").out.split())
    changed = home.run("guardrails", "update", "--default-of", "default", "--name", "House rules", "--limit", "8")
    assert changed.out.startswith("House rules (grd-default-")


def test_the_name_that_a_default_guardrail_is_shown_by_names_it(home: Terminal) -> None:
    """For changing it and for deleting it; where several have it, an id is asked for."""
    home.json("workspaces", "create", "Research")
    made = home.json("guardrails", "update", "Default of Research", "--limit", "9", "--reset", "weekly").data["data"]
    assert (made["is_default"], made["limit_usd"]) == (True, 9)
    assert home.run("guardrails", "list").out.splitlines()[1].startswith("Default of Research ")
    assert home.run("guardrails", "delete", "Default of Research").out.startswith("Default of Research is deleted")
    assert home.run("guardrails", "update", "Default of Nobody", "--limit", "none").code == 4
    home.json("workspaces", "create", "Research", "--slug", "research-2")
    several = home.json("guardrails", "update", "Default of Research", "--limit", "none")
    assert (several.code, several.error["message"]) == (2, "2 guardrails have that name")


def test_a_budget_that_is_not_there_is_not_lifted(home: Terminal) -> None:
    """A mistyped window or app leaves the real limit standing, so it is an error, and nothing is noted."""
    home.json("budgets", "set", "app", "code", "--window", "month", "--limit", "3")
    for words in (("app", "code", "--window", "day"), ("app", "cod", "--window", "month")):
        ran = home.json("budgets", "clear", *words)
        assert (ran.code, ran.error["message"]) == (4, "there is no such budget")
        assert "modelgates budgets list" in ran.error["remedy"]
    assert len(rows(home, "audit", "list", "--action", "budget.set")) == 1
    assert home.run("budgets", "clear", "app", "code", "--window", "month").code == 0
    assert "limit none" in home.run("audit", "list", "--limit", "1").out


def test_budgets_are_set_listed_and_cleared(home: Terminal) -> None:
    """For each scope by the name that people know; a soft one stays soft until it is told otherwise."""
    home.json("members", "add", "--name", "Ann", "--email", "ann@x.de")
    for words in (("organization",), ("workspace", "default"), ("app", "code"), ("member", "ann@x.de")):
        home.json("budgets", "set", *words, "--window", "month", "--limit", "12.50", "--soft")
    (changed,) = rows(home, "budgets", "set", "app", "code", "--window", "month", "--limit", "3")
    assert (changed["app"], changed["limit_usd"], changed["mode"]) == ("code", 3, "soft")
    listed = rows(home, "budgets", "list")
    assert [row["scope"] for row in listed] == ["organization", "workspace", "app", "member"]
    assert "$12.50" in home.run("budgets", "list", "member", "Ann").out
    home.json("budgets", "clear", "app", "code", "--window", "month")
    assert rows(home, "budgets", "list", "app") == []
    assert home.run("budgets", "list", "member", "Bob").code == 4


def test_rates_are_set_and_lifted(home: Terminal) -> None:
    """All at once: what is left out is lifted."""
    home.json("rates", "set", "workspace", "default", "--rpm", "60", "--parallel", "4")
    assert rows(home, "rates", "list")[0]["parallel_max"] == 4
    home.json("rates", "set", "workspace", "default")
    assert rows(home, "rates", "list") == []


def test_an_organisation_is_made_and_managed_from_here(home: Terminal) -> None:
    """With a management key and a link, once; --organization names it for everything that is about people and places."""
    made = home.json("organizations", "create", "Other", "--admin", "Zoe", "--email", "zoe@x.de", "--credit", "7").data
    assert made["management_key"].startswith("sk-mg-mgmt-v1-")
    assert "/sign-in?token=" in made["sign_in_url"]
    assert [row["name"] for row in rows(home, "organizations", "list")] == ["Organization", "Other"]
    assert [row["name"] for row in rows(home, "members", "list", "--organization", "Other")] == ["Zoe"]
    home.json("workspaces", "create", "Lab", "--organization", made["data"]["id"])
    assert [row["slug"] for row in rows(home, "workspaces", "list")] == ["default"]
    assert home.run("members", "list", "--organization", "nobody").code == 4


def test_another_organisations_keys_and_credit_are_managed_from_here(home: Terminal) -> None:
    """By its name, with every command about what belongs to somebody; nothing of it shows in the first one."""
    home.json("organizations", "create", "Other", "--admin", "Zoe", "--email", "zoe@x.de")
    there = ("--organization", "Other")
    home.json("credits", "grant", "7", "--note", "start", *there)
    home.json("keys", "create", "--name", "hers", "--member", "zoe@x.de", *there)
    home.json("credits", "transfer", "3", "--to", "Other", "--note", "more")
    assert home.json("credits", "show", *there).data["balance"] == 10
    assert "hers" in home.run("keys", "list", *there).out
    assert "hers" not in home.run("keys", "list").out
    assert home.json("audit", "list", "--action", "key.create", *there).data["data"][0]["details"]["name"] == "hers"


def test_people_and_places_are_shown_by_name(home: Terminal) -> None:
    """Whose key, budget or rate it is: by address and slug, as they are written in commands."""
    home.json("members", "add", "--name", "Ann", "--email", "ann@x.de")
    home.json("workspaces", "create", "Lab")
    made = home.run("keys", "create", "--name", "laptop", "--member", "Ann", "--workspace", "lab").out
    home.json("budgets", "set", "workspace", "lab", "--window", "day", "--limit", "5")
    home.json("rates", "set", "member", "Ann", "--rpm", "5")
    listed = home.run("keys", "list").out.splitlines()
    (place,) = (place for place, line in enumerate(listed) if line.startswith("laptop"))
    assert "ann@x.de" in made
    assert "of ann@x.de in lab" in listed[place + 1]
    assert "member ann@x.de, name laptop, workspace lab" in home.run("audit", "list", "--action", "key.create").out
    assert "lab  " in home.run("budgets", "list").out
    assert "ann@x.de" in home.run("rates", "list").out
    assert home.run("keys", "create", "--name", "x", "--member", "Bob").code == 4
