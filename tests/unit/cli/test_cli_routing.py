"""`routing`: preferences said in one line, shown with what they come to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.unit.cli.planted import write_config

if TYPE_CHECKING:
    from tests.unit.cli.terminal import Ran, Terminal


def order(ran: Ran) -> list[str]:
    """Who is tried for the first group of models, in order."""
    assert ran.code == 0, ran.err
    return [entry["provider"] for entry in ran.data["outcomes"][0]["order"]]


@pytest.fixture
def house(home: Terminal) -> Terminal:
    write_config(
        home, "anthropic anthropic 1", "cloud bedrock 1.1", "acme anthropic-compatible 0.9", order=("anthropic",)
    )
    return home


def test_without_preferences_the_house_order_stands(house: Terminal) -> None:
    """The default scope is the default workspace; each provider has its reason."""
    ran = house.run("routing", "show")

    assert "Preferences          none" in ran.out
    assert "Tried for every model, in this order: anthropic, cloud, acme" in ran.out
    assert "the maker of the model comes first" in ran.out


def test_a_workspace_orders_for_its_keys(house: Terminal) -> None:
    """What is set for the workspace shows in the key, and the key's own order stands on top."""
    assert order(house.json("routing", "set", "--order", "cloud,acme")) == ["cloud", "acme", "anthropic"]
    assert order(house.json("routing", "show", "--key", "first key")) == ["cloud", "acme", "anthropic"]
    ran = house.json("routing", "set", "--key", "first key", "--order", "acme")

    assert order(ran) == ["acme", "anthropic", "cloud"]
    assert (ran.data["scope"], ran.data["routing"], ran.data["effective"]) == (
        "key", {"order": ["acme"]}, {"order": ["acme"]},
    )  # fmt: skip
    assert [row["name"] for row in house.json("routing", "show").data["keys_with_their_own"]] == ["first key"]


def test_given_flags_change_only_those(house: Terminal) -> None:
    """The rest stays; an empty value takes one back; --clear takes all back before it sets."""
    house.json("routing", "set", "--order", "acme", "--zdr", "--max-price-prompt", "5.50", "--no-fallbacks")
    both = house.json("routing", "set", "--ignore", "anthropic", "--max-price-completion", "30")
    fewer = house.json("routing", "set", "--order", "", "--max-price-prompt", "", "--no-zdr", "--sort", "none")
    cleared = house.json("routing", "set", "--clear", "--sort", "price")

    assert both.data["routing"] == {
        "order": ["acme"], "zdr": True, "allow_fallbacks": False, "ignore": ["anthropic"],
        "max_price": {"prompt": "5.50", "completion": "30"},
    }  # fmt: skip
    assert fewer.data["routing"] == {
        "allow_fallbacks": False,
        "ignore": ["anthropic"],
        "max_price": {"completion": "30"},
    }
    assert (cleared.data["routing"], order(cleared)) == ({"sort": "price"}, ["acme", "anthropic", "cloud"])


def test_what_a_price_leaves_out_depends_on_the_model(house: Terminal) -> None:
    """Models for which it comes to the same stand together; a model that nobody may serve is warned about."""
    ran = house.json("routing", "set", "--max-price-completion", "5", "--only", "acme,anthropic")
    haiku = next(one for one in ran.data["outcomes"] if "claude-haiku-4-5" in one["models"])
    opus = next(one for one in ran.data["outcomes"] if "claude-opus-4-8" in one["models"])

    assert [entry["provider"] for entry in haiku["order"]] == ["anthropic", "acme"]
    assert opus["order"] == []
    assert {entry["code"] for entry in opus["left_out"]} == {"max_price", "allowed_providers"}
    assert "no configured provider is left for" in ran.err


def test_unknown_slugs_are_warned_about(house: Terminal) -> None:
    """They may be configured tomorrow; kinds and regions are known names."""
    ran = house.json("routing", "set", "--order", "bedrock,cloud/us-east-1,bedrok")

    assert ran.data["routing"]["order"] == ["bedrock", "cloud/us-east-1", "bedrok"]
    assert "'bedrok', which no configured provider is called; there are: anthropic, cloud/us-east-1, acme" in ran.err
    assert ran.err.count("no configured provider is called") == 1


@pytest.mark.parametrize(
    "words",
    [
        ("--order", "a b"),
        ("--only", "https://example.com"),
        ("--max-price-prompt", "cheap"),
        ("--max-price-completion", "-1"),
        ("--sort", "mood"),
        (),
        ("--key", "first key", "--workspace", "default", "--zdr"),
        ("--key", "first management key", "--zdr"),
    ],
)
def test_senseless_preferences_are_refused(house: Terminal, words: tuple[str, ...]) -> None:
    """Malformed values, two scopes and nothing at all exit 2 and change nothing."""
    ran = house.json("routing", "set", *words)

    assert ran.code == 2
    assert ran.error["message"]
    assert house.json("routing", "show").data["routing"] is None


def test_unknown_scopes_are_not_found(house: Terminal) -> None:
    """A key or a workspace that is not there exits 4."""
    assert house.json("routing", "show", "--key", "nobody's").code == 4
    assert house.json("routing", "set", "--workspace", "elsewhere", "--zdr").code == 4


def test_no_line_is_too_long(house: Terminal) -> None:
    """Whatever was set can be read in a terminal of 100 columns."""
    every = ("--order", "cloud,acme,anthropic", "--ignore", "acme", "--require-parameters", "--zdr", "--no-fallbacks")
    prices = ("--max-price-prompt", "3.123456", "--max-price-completion", "15.123456", "--data-collection", "deny")
    ran = house.run("routing", "set", "--key", "first key", *every, *prices)

    assert ran.code == 0
    assert max(map(len, ran.out.splitlines())) <= 100
