"""What is read of a request, and in which words a wrong one is refused."""

from __future__ import annotations

import json

import pytest
from tests.unit.dialects.wire_samples import ask

from modelgates_server.dialects.anthropic import read_ask, read_count
from modelgates_server.dialects.values import NO_PREFERENCES, Preferences
from modelgates_server.errors import BadRequest


def test_the_fields_that_matter_are_read() -> None:
    """Every field of an Ask comes from the body, and the body is kept as the same object."""
    routing = {"models": ["a/b"], "provider": {"order": ["x"]}, "user": "u1", "session_id": "s1"}
    body = ask(speed="fast", service_tier="auto", inference_geo="us", thinking={"budget_tokens": 99}, **routing)
    read = read_ask(body)
    assert read.body is body
    assert (read.model, read.max_tokens, read.stream) == ("claude-opus-5-5", 1024, True)
    assert (read.speed, read.service_tier, read.inference_geo, read.thinking_budget) == ("fast", "auto", "us", 99)
    assert (read.models, read.user, read.session_id) == (("a/b",), "u1", "s1")
    assert read.provider == Preferences(order=("x",))
    assert json.loads(body[slice(*read.spans["messages"])]) == json.loads(body)["messages"]


def test_null_counts_as_absent() -> None:
    """Optional fields that are null are as if they were not there."""
    nothing = dict.fromkeys(("stream", "thinking", "tools", "models", "provider", "user", "metadata", "fallbacks"))
    read = read_ask(ask(**nothing))
    assert (read.stream, read.models, read.provider, read.user) == (False, (), NO_PREFERENCES, None)
    assert not read.shape.has_tools


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": ...}, "model: Field required"),
        ({"model": None}, "model: Field required"),
        ({"model": 5}, "model: Input should be a valid string"),
        ({"model": ""}, "model: String should have at least 1 character"),
        ({"model": "m" * 257}, "model: String should have at most 256 characters"),
        ({"model": "m" * 9_000}, "model: String should have at most 256 characters"),
        ({"model": "a\0b"}, "model: String should not contain control characters"),
        ({"messages": ...}, "messages: Field required"),
        ({"messages": {}}, "messages: Input should be a valid list"),
        ({"messages": []}, "messages: at least one message is required"),
        ({"max_tokens": ...}, "max_tokens: Field required"),
        ({"max_tokens": True}, "max_tokens: Input should be a valid integer"),
        ({"max_tokens": 1.0}, "max_tokens: Input should be a valid integer"),
        ({"max_tokens": "5"}, "max_tokens: Input should be a valid integer"),
        ({"max_tokens": -1}, "max_tokens: Input should be greater than or equal to 0"),
        ({"max_tokens": 10**9 + 1}, "max_tokens: Input should be less than or equal to 1000000000"),
        ({"max_tokens": 10**30}, "max_tokens: Input should be less than or equal to 1000000000"),
        ({"stream": "true"}, "stream: Input should be a valid boolean"),
        ({"stream": 1}, "stream: Input should be a valid boolean"),
        ({"thinking": {"budget_tokens": "1"}}, "thinking.budget_tokens: Input should be a valid integer"),
        ({"tools": {}}, "tools: Input should be a valid list"),
        ({"tools": [{"type": 5}]}, "tools.0.type: Input should be a valid string"),
        ({"tools": [{}, {"max_uses": -1}]}, "tools.1.max_uses: Input should be greater than or equal to 0"),
        ({"models": ["m"] * 9}, "models: List should have at most 8 items"),
        ({"models": [""]}, "models.0: String should have at least 1 character"),
        ({"models": "m" * 70_000}, "models: Input should have at most 65536 bytes"),
        ({"fallbacks": [{}]}, "fallbacks.0.model: Field required"),
        ({"fallbacks": [{"model": "m", "speed": "fast"}]}, "fallbacks.0.speed: Extra inputs are not permitted"),
        ({"fallbacks": [{"model": "m"}], "models": ["n"]}, "fallbacks: Cannot be used together with models"),
        ({"provider": "anthropic"}, "provider: Input should be an object"),
        ({"speed": 1}, "speed: Input should be a valid string"),
        ({"session_id": "s" * 257}, "session_id: String should have at most 256 characters"),
    ],
)
def test_a_wrong_field_is_refused_in_anthropics_words(changes: dict, said: str) -> None:
    """The path and the sentence are those that clients already parse."""
    with pytest.raises(BadRequest) as refused:
        read_ask(ask(**changes))
    assert refused.value.message == said


@pytest.mark.parametrize("text", ["1e999", "1e3", "0.5", "1" * 100_000])
def test_numbers_that_python_reads_generously_are_refused(text: str) -> None:
    """Numbers beyond or beside the integers are 400 for the field, not a crash and not a rounded value."""
    body = ask(max_tokens=77).replace(b"77", text.encode())
    with pytest.raises(BadRequest, match="max_tokens: "):
        read_ask(body)


def test_the_smallest_and_largest_max_tokens_are_legal() -> None:
    """Zero and a thousand million are read as they are."""
    assert [read_ask(ask(max_tokens=value)).max_tokens for value in (0, 10**9)] == [0, 10**9]


def test_a_count_needs_no_max_tokens_and_never_streams() -> None:
    """The body of count_tokens is the same body without what makes output."""
    read = read_count(ask(max_tokens=..., stream=True))
    assert (read.max_tokens, read.stream, read.model) == (None, False, "claude-opus-5-5")


def test_fallbacks_are_ours_only_without_their_beta() -> None:
    """With the beta they stay the upstream's field, whatever they hold."""
    body = ask(fallbacks=[{"model": "x"}, {"model": "y"}])
    assert read_ask(body).models == ("x", "y")
    assert read_ask(body, fallbacks_beta=True).models == ()
    assert read_ask(ask(fallbacks="default"), fallbacks_beta=True).models == ()


USER_ID = json.dumps({"device_id": "d", "account_uuid": "", "session_id": "of-metadata"})


@pytest.mark.parametrize(
    ("changes", "header", "session"),
    [
        ({"session_id": "own", "metadata": {"user_id": USER_ID}}, "of-header", "own"),
        ({"metadata": {"user_id": USER_ID}}, "of-header", "of-header"),
        ({"metadata": {"user_id": USER_ID}}, None, "of-metadata"),
        ({"metadata": {"user_id": USER_ID}}, "h" * 300, "of-metadata"),
        ({"metadata": {"user_id": "user_1_account_2_session_3-4"}}, None, "3-4"),
        ({"metadata": {"user_id": "somebody"}}, None, None),
        ({"metadata": {"user_id": '{"session_id": 5}'}}, None, None),
        ({"metadata": {"user_id": "{broken"}}, None, None),
        ({"metadata": {"user_id": ["list"]}}, None, None),
        ({"metadata": "text"}, None, None),
        ({}, None, None),
    ],
)
def test_the_session_comes_from_the_first_place_that_names_it(
    changes: dict, header: str | None, session: str | None
) -> None:
    """Field, then header, then metadata; what cannot be read there is ignored, never an error."""
    assert read_ask(ask(**changes), header).session_id == session


PROBE = {"stream": ..., "system": ..., "max_tokens": 1, "messages": [{"role": "user", "content": "."}]}


@pytest.mark.parametrize(
    ("changes", "is_probe"),
    [
        ({}, True),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "."}]}]}, True),
        ({"messages": [{"role": "user", "content": ".."}]}, False),
        ({"messages": [{"role": "assistant", "content": "."}]}, False),
        ({"messages": [{"role": "user", "content": "."}] * 2}, False),
        ({"messages": [5]}, False),
        ({"max_tokens": 2}, False),
        ({"system": "x"}, False),
        ({"tools": [{"name": "t"}]}, False),
        ({"stop_sequences": ["x" * 500]}, False),
    ],
)
def test_only_the_connection_test_of_claude_desktop_is_a_probe(changes: dict, is_probe: bool) -> None:
    """One token, one message that is a dot, and nothing else."""
    assert read_ask(ask(**(PROBE | changes))).is_probe is is_probe
