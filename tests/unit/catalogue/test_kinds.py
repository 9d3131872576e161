"""Kinds of provider as data: the bundled file holds together, and an operator's file changes what it names and no more."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from tests.unit.catalogue.catalogue_samples import CATALOGUE

from modelgates_server.catalogue.kinds import LENIENT, Betas, Kind, Kinds, bundled_kinds, load_kinds
from modelgates_server.catalogue.models import Endpoint
from modelgates_server.errors import ConfigError

KINDS = load_kinds(bundled_kinds())
MODEL_IDS = {model.id for model in CATALOGUE.models.values()}


def with_overrides(**over: Any) -> Kinds:
    """The bundled kinds with an operator's file over them."""
    return load_kinds(bundled_kinds(), json.dumps({"version": "ours", **over}).encode())


def endpoint(kind: Kind, **fields: Any) -> Endpoint:
    model = CATALOGUE.resolve("claude-opus-5-5").model
    return Endpoint(fields.pop("provider", "mine"), kind.word, model, "x", CATALOGUE.modifiers, traits=kind, **fields)


# The bundled file.


def test_every_kind_of_the_matrix_is_there() -> None:
    """Those of providers 2 that speak the Messages dialect, and the sandbox; variants are kinds, but no words."""
    assert set(KINDS.words) == {
        *("anthropic", "claude-on-aws", "bedrock", "bedrock-invoke", "vertex", "foundry"),
        *("anthropic-compatible", "sandbox"),
    }
    assert set(KINDS.kinds) - set(KINDS.words) == {"foundry@azure"}
    assert KINDS.kinds["foundry@azure"].word == "foundry"


@pytest.mark.parametrize(
    ("kind", "operator", "rank", "body_mib", "cancel"),
    [
        ("anthropic", "anthropic", 3, 32, "stops"),
        ("claude-on-aws", "anthropic", 2, 32, "stops"),
        ("foundry", "anthropic", 2, 32, "stops"),
        ("foundry@azure", "azure", 1, 32, "stops"),
        ("bedrock", "aws", 1, 20, "bills_full"),
        ("bedrock-invoke", "aws", 0, 20, "bills_full"),
        ("vertex", "google", 1, 30, "bills_full"),
        ("anthropic-compatible", "other", 1, 32, "stops"),
    ],
)
def test_the_figures_are_the_matrix(kind: str, operator: str, rank: int, body_mib: int, cancel: str) -> None:
    """Who answers, how able it is, how much it takes, and what leaving costs (providers 2)."""
    found = KINDS.kinds[kind]

    assert (found.operator, found.rank, found.cancel) == (operator, rank, cancel)
    assert found.body_bytes_max == body_mib << 20


@pytest.mark.parametrize("kind", KINDS.kinds.values(), ids=lambda kind: kind.id)
def test_a_kind_names_only_what_exists(kind: Kind) -> None:
    """Its models are in the catalogue, its requirements among its settings, its betas said once."""
    models = {
        *kind.model_names,
        *(model for named in (kind.lacks_for, kind.lacks_but_for) for ids in named.values() for model in ids),
    }

    assert models <= MODEL_IDS
    assert {*kind.required, *kind.defaults} <= set(kind.settings)
    assert {setting for table in kind.environment for setting in table.values() if setting} <= set(kind.settings)
    assert not kind.betas.passed & kind.betas.drop
    assert not kind.betas.rename.keys() & (kind.betas.passed | kind.betas.drop)
    assert kind.name


@pytest.mark.parametrize("kind", KINDS.kinds.values(), ids=lambda kind: kind.id)
def test_what_a_kind_takes_it_does_not_lack(kind: Kind) -> None:
    """A field that a kind knows belongs to no feature that it lacks."""
    lacked = {field for name in kind.lacks for field in KINDS.features[name].fields if "." not in field}

    assert not lacked & (kind.fields or frozenset())


def test_only_the_first_party_lacks_nothing() -> None:
    """Everybody else lacks something of what Anthropic offers, or is not known to."""
    assert {kind.id for kind in KINDS.kinds.values() if not kind.lacks} == {
        "anthropic",
        "anthropic-compatible",
        "sandbox",
    }


# One kind.


@pytest.mark.parametrize(
    ("betas", "name", "sent"),
    [
        (Betas(), "x", ("x",)),
        (Betas(unlisted="drop"), "x", ()),
        (Betas(drop=frozenset({"x"})), "x", ()),
        (Betas(unlisted="drop", passed=frozenset({"x"})), "x", ("x",)),
        (Betas(rename={"x": ("y", "z")}), "x", ("y", "z")),
        (Betas(unlisted="drop", rename={"x": ()}), "x", ()),
        (Betas(drop=frozenset({"x"})), "y", ("y",)),
    ],
)
def test_a_beta_passes_is_dropped_or_renamed(betas: Betas, name: str, sent: tuple[str, ...]) -> None:
    """A new name wins over a listed one, a listed one over what holds for the others."""
    assert betas.sent(name) == sent


def test_lacking_is_of_all_of_some_or_of_all_but_some_models() -> None:
    """Three ways to say it; what is not said is offered."""
    kind = Kind("k", lacks=frozenset({"a"}), lacks_for={"b": frozenset({"m"})}, lacks_but_for={"c": frozenset({"m"})})

    assert [kind.lacking(feature, "m") for feature in "abcd"] == [True, True, False, False]
    assert [kind.lacking(feature, "n") for feature in "abcd"] == [True, False, True, False]
    assert not LENIENT.lacking("a", "m")


@pytest.mark.parametrize(
    ("kind", "model", "name"),
    [
        ("anthropic", "claude-opus-5-5", "claude-opus-5-5"),
        ("bedrock", "claude-opus-5-5", "anthropic.claude-opus-5-5"),
        ("bedrock-invoke", "claude-haiku-4-5", "eu.anthropic.claude-haiku-4-5-20251001-v1:0"),
        ("bedrock-invoke", "claude-opus-5-5", "eu.anthropic.claude-opus-5-5"),
        ("vertex", "claude-haiku-4-5", "claude-haiku-4-5@20251001"),
        ("vertex", "claude-sonnet-4-6", "claude-sonnet-4-6"),
    ],
)
def test_models_have_their_names_there(kind: str, model: str, name: str) -> None:
    """As providers 3.4, 3.5 and 9 have them."""
    assert KINDS.kinds[kind].upstream_name(model, {"inference_profile": "eu.", "region": "x"}) == name


def test_a_variant_is_found_by_its_word() -> None:
    """One that a kind does not know is the kind itself; an unknown kind is a KeyError."""
    assert KINDS.find("foundry", "azure").operator == "azure"
    assert KINDS.find("foundry", "anthropic") is KINDS.find("foundry") is KINDS.kinds["foundry"]
    assert KINDS.find("vertex", "azure").id == "vertex"


@pytest.mark.parametrize(
    ("slug", "named"),
    [
        ("mine", True), ("MINE", True), ("vertex", True), ("google-vertex", True), ("google", True), ("mine/us-east5", True),
        ("google/us-east5", True), ("mine/us", False), ("mine/", True), ("bedrock", False), ("", False), ("/us-east5", False),
    ],
)  # fmt: skip
def test_an_endpoint_is_named_by_slug_kind_and_alias(slug: str, *, named: bool) -> None:
    """With its region or without, in any case; by no part of a name."""
    assert endpoint(KINDS.kinds["vertex"], region="us-east5").named_by(slug) is named


def test_a_variant_is_named_like_its_kind() -> None:
    """`only: [foundry]` and `[azure]` mean deployments of either hosting."""
    at = endpoint(KINDS.kinds["foundry@azure"])

    assert at.named_by("foundry")
    assert at.named_by("azure")
    assert (at.cancel, at.tag) == ("stops", "mine")


# An operator's file.


def test_an_operator_adds_to_a_table_without_copying_it() -> None:
    """Tables within a kind are added to, also those within tables; lists are replaced; nothing else changes."""
    ours = with_overrides(
        kinds={
            "bedrock": {
                "base_url": "https://proxy.example/{region}",
                "model_names": {"claude-opus-5-5": "x"},
                "betas": {"rename": {"new-2031-01-01": ["newer-2031-01-01"]}},
            },
            "foundry": {"variants": {"azure": {"rank": 0}}},
        }
    )
    bedrock, before = ours.kinds["bedrock"], KINDS.kinds["bedrock"]

    assert ours.version == f"{KINDS.version}+ours"
    assert bedrock.betas.rename == before.betas.rename | {"new-2031-01-01": ("newer-2031-01-01",)}
    assert bedrock.betas.passed == before.betas.passed
    assert (bedrock.base_url, bedrock.lacks) == ("https://proxy.example/{region}", before.lacks)
    azure = KINDS.kinds["foundry@azure"]
    assert ours.kinds["foundry@azure"] == msgspec.structs.replace(azure, rank=0)
    assert ours.kinds["vertex"] == KINDS.kinds["vertex"]


def test_an_operator_adds_a_kind_and_a_feature() -> None:
    """Both by their names; a feature of the file changes single fields."""
    ours = with_overrides(
        features=[{"id": "telepathy", "effect": "answer", "what": "telepathy"}, {"id": "effort", "effect": "answer"}],
        kinds={"house": {"name": "House", "lacks": ["telepathy"]}},
    )

    assert ours.kinds["house"].lacking("telepathy", "x")
    assert (ours.features["effort"].effect, ours.features["effort"].fields) == ("answer", ("output_config.effort",))
    assert list(ours.features) == [*KINDS.features, "telepathy"]
    assert "house" in ours.words


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"kinds": {"bedrock": {"rnak": 3}}}, "bedrock: Object contains unknown field `rnak`"),
        ({"kinds": {"bedrock": {"cancel": "maybe"}}}, "bedrock: Invalid enum value 'maybe'"),
        ({"kinds": {"bedrock": {"lacks": ["telepathy"]}}}, "bedrock lacks 'telepathy', which is no feature"),
        ({"kinds": {"foundry": {"variants": {"azure": {"rnak": 3}}}}}, "foundry@azure: Object contains unknown field"),
        ({"features": [{"id": "effort", "effect": "loud"}]}, "feature effort: Invalid enum value 'loud'"),
        ({"features": [{"effect": "answer", "what": "x"}]}, "missing required field `id`"),
        ({"features": [{"id": "Bad Id", "effect": "answer", "what": "x"}]}, "feature Bad Id"),
        ({"kindes": {}}, "unknown field `kindes`"),
        ({"kinds": {"foundry@azure": {"rank": 0}}}, "foundry@azure"),
    ],
)
def test_an_operators_mistake_is_named(over: dict[str, Any], said: str) -> None:
    """The refusal says which kind or feature, and which field."""
    with pytest.raises(ConfigError) as caught:
        with_overrides(**over)
    assert said in caught.value.message


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b'{"version":""}', b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_a_mistake_of_the_configuration(data: bytes) -> None:
    """Ours or the operator's."""
    for files in ((data,), (bundled_kinds(), data)):
        with pytest.raises(ConfigError, match="the providers file cannot be read"):
            load_kinds(*files)
