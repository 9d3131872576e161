"""Who holds a conversation, for how long, and how many are remembered (design decision 12)."""

from __future__ import annotations

import itertools

from modelgates_server.routing import stick
from modelgates_server.routing.stick import STICK_S, Stickiness, conversation_id


def test_a_conversation_is_known_for_an_hour_after_its_last_answer() -> None:
    """Each answer renews it and may move it; then nobody knows it."""
    known = Stickiness()
    known.keep("c", "anthropic", 0.0)
    known.keep("c", "bedrock", 100.0)

    assert known.find("c", 99.0 + STICK_S) == (True, "bedrock")
    assert known.find("c", 100.0 + STICK_S) == (False, None)
    assert known.find("other", 0.0) == (False, None)


def test_that_nobody_holds_it_is_known_too() -> None:
    """So that the receipts are asked once, not with every request."""
    known = Stickiness()
    known.keep("c", None, 0.0)

    assert known.find("c", 1.0) == (True, None)


def test_the_one_that_was_quiet_for_longest_is_forgotten() -> None:
    """Memory is bounded."""
    known = Stickiness()
    for number in range(stick.CONVERSATIONS_MAX):
        known.keep(str(number), "x", 0.0)
    known.keep("0", "x", 1.0)
    known.keep("new", "x", 2.0)

    assert [known.find(name, 3.0)[0] for name in ("0", "1", "2", "new")] == [True, False, True, True]


def test_a_conversations_name_tells_its_parts_apart() -> None:
    """Organisation, model and session make it, and no two mixtures of them are alike; it says nothing about them."""
    parts = itertools.product(("a", "ab", "b"), ("m", "bm"), ("s", "ms"))
    names = {conversation_id(b"secret", *part) for part in parts}

    assert len(names) == 12
    assert conversation_id(b"secret", "a", "m", "s") == conversation_id(b"secret", "a", "m", "s")
    assert conversation_id(b"secret", "a", "m", "s") != conversation_id(b"another", "a", "m", "s")
    assert all(len(name) == 24 for name in names)
