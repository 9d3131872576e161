"""`replay`: what another configuration would have decided, over recorded decisions."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from tests.unit.cli.planted import HAIKU, OPUS, Line, plant, write_config

from modelgates_server.activity.generation import Cost
from modelgates_server.dialects.values import Usage

if TYPE_CHECKING:
    from tests.unit.cli.terminal import Terminal

BOTH = (Line("anthropic", 1), Line("cloud", 2))


@pytest.fixture
def house(home: Terminal) -> Terminal:
    write_config(home, "anthropic anthropic 1", "cloud bedrock 1.1", order=("anthropic", "cloud"))
    write_config(home, "anthropic anthropic 1", "cloud bedrock 1.1", order=("cloud",), name="cloud-first.toml")
    return home


def test_the_same_configuration_changes_nothing(house: Terminal) -> None:
    """Also for who was out then, and for a conversation that was held."""
    plant(house, *BOTH, inputs={})
    plant(house, Line("cloud", 1), Line("anthropic", 2), inputs={"out": {f"anthropic {OPUS}": "overloaded"}})
    plant(house, Line("cloud", 1), Line("anthropic", 2), inputs={"sticky": "cloud"})
    data = house.json("replay").data

    assert (data["requests"], data["same"], data["elsewhere"], data["no_endpoint"]) == (3, 3, 0, 0)
    assert (data["moves"], data["examples"]) == ([], [])


def test_another_order_moves_requests_and_money(house: Terminal) -> None:
    """The recorded usage is priced where it would have gone; the difference is exact, and ids are named up to the limit."""
    usage, cost = Usage(input_tokens=1_000_000, output_tokens=100_000), Cost(7_500_000_000, 7_500_000_000)
    ids = [plant(house, *BOTH, inputs={}, usage=usage, cost=cost) for _ in range(3)]
    data = house.json("replay", "--config", "cloud-first.toml", "--limit", "2").data

    assert data["moves"] == [{
        "from": "anthropic", "to": "cloud", "requests": 3,
        "cost": Decimal("22.5"), "cost_then": Decimal("24.75"), "difference": Decimal("2.25"),
    }]  # fmt: skip
    assert [example["id"] for example in data["examples"]] == ids[:2]
    assert data["examples"][0]["reason"] == "number 1 in the routing order"


def test_who_could_not_serve_is_counted_with_reasons(house: Terminal) -> None:
    """A capability, a policy and a model that is gone each leave somebody without a provider."""
    write_config(house, "cloud bedrock 1", order=("cloud",), name="only-cloud.toml")
    plant(house, *BOTH, inputs={"features": ["web_search"]})
    plant(house, *BOTH, inputs={"policy": {"only": ["anthropic"]}})
    plant(house, *BOTH, inputs={"models": ["anthropic/claude-none"]})
    data = house.json("replay", "--config", "only-cloud.toml").data

    assert data["no_endpoint"] == 3
    assert {entry["reason"] for entry in data["no_endpoint_reasons"]} == {
        "cloud: Amazon Bedrock cannot do web search",
        "cloud: the key's policy allows only anthropic",
        "nobody serves anthropic/claude-none there",
    }


def test_a_conversation_stays_where_it_would_have_begun(house: Terminal) -> None:
    """Its later requests were held by the old provider; they follow the first one to the new one, for an hour."""
    plant(house, *BOTH, inputs={}, conversation="c", ago_s=9_000)
    plant(house, *BOTH, inputs={"sticky": "anthropic"}, conversation="c", ago_s=8_000)
    plant(house, *BOTH, inputs={"sticky": "anthropic"}, conversation="c", ago_s=60)
    data = house.json("replay", "--config", "cloud-first.toml").data

    assert [example["reason"] for example in data["examples"]] == [
        "number 1 in the routing order",
        "holds this conversation",
    ]
    assert (data["same"], data["elsewhere"]) == (1, 2)


def test_an_alternative_model_is_named(house: Terminal) -> None:
    """When only the client's second choice can serve, the move says which model that is."""
    plant(house, *BOTH, Line("anthropic", 3, HAIKU), inputs={"models": ["anthropic/claude-gone", HAIKU]})
    data = house.json("replay").data

    assert data["moves"][0]["to"] == "anthropic (claude-haiku-4-5)"


def test_what_the_budget_could_not_pay_stays_out(house: Terminal) -> None:
    """An endpoint that was too dear then is not taken for a place to go to."""
    line = Line("cloud", None)
    plan = ({**Line("anthropic", 1).data}, {**line.data, "code": "budget"})
    plant(house, inputs={}, plan=plan)

    assert house.json("replay", "--config", "cloud-first.toml").data["same"] == 1


def test_only_the_time_that_was_asked_for(house: Terminal) -> None:
    """Older receipts and those that do not say what was decided on are not planned again."""
    plant(house, *BOTH, inputs={}, ago_s=7_200)
    plant(house, *BOTH, ago_s=60)
    data = house.json("replay", "--since", "1h").data

    assert (data["requests"], data["not_recorded"]) == (0, 1)
    assert house.json("replay", "--since", "2w").data["requests"] == 1


def test_people_read_a_table(house: Terminal) -> None:
    """Counts, moves with their cost, and reasons, in 100 columns; speeds that are not recorded are admitted."""
    plant(house, *BOTH, inputs={"wishes": {"sort": "latency"}})
    plant(house, *BOTH, inputs={"features": ["web_search"], "policy": {"ignore": ["anthropic"]}})
    text = house.run("replay", "--config", "cloud-first.toml").out

    for told in ("2  requests planned again", "1  to nobody: they would have been refused", "Would have had no provider",
                 "gen-1  anthropic → nobody", "1 of them rank by measured speed"):  # fmt: skip
        assert told in text
    assert max(map(len, text.splitlines())) <= 100


def test_mistakes_have_their_exit_codes(house: Terminal) -> None:
    """A span that is none and a file that is not there are usage; a missing database is the store."""
    assert house.json("replay", "--since", "3y").code == 2
    assert house.json("replay", "--config", "none.toml").code == 2
    assert house.json("replay", "--data-dir", "elsewhere").code == 3
