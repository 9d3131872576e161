"""Every kind of provider, from its table and from the usual variables."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from modelgates_server.config import Config, load_config
from modelgates_server.errors import ConfigError

REGION = {"AWS_REGION": "us-east-1"}
BEDROCK = {**REGION, "AWS_BEARER_TOKEN_BEDROCK": "b"}


def load(folder: Path, text: str | None = None, environ: dict[str, str] | None = None) -> Config:
    if text is not None:
        (folder / "modelgates.toml").write_text(text)
    return load_config(None, None, None, environ or {}, folder)


def table(**settings: Any) -> str:
    lines = [
        f"{name} = {str(value).lower() if isinstance(value, bool | int) else repr(value)}"
        for name, value in settings.items()
    ]
    return "\n".join(["[[providers]]", *lines, ""])


KINDS = [
    ({"kind": "claude-on-aws", "region": "us-east-1", "workspace_id": "wrkspc_1"},
     "https://aws-external-anthropic.us-east-1.api.aws", "aws"),
    ({"kind": "claude-on-aws", "region": "us-east-1", "workspace_id": "wrkspc_1", "api_key": "k"},
     "https://aws-external-anthropic.us-east-1.api.aws", "key"),
    ({"kind": "bedrock", "region": "eu-west-1"}, "https://bedrock-mantle.eu-west-1.api.aws/anthropic", "aws"),
    ({"kind": "bedrock", "region": "us-east-1", "base_url": "https://bedrock-runtime.us-east-1.amazonaws.com/anthropic/"},
     "https://bedrock-runtime.us-east-1.amazonaws.com/anthropic", "aws"),
    ({"kind": "bedrock-invoke", "region": "us-east-1", "api_key": "k"}, "https://bedrock-runtime.us-east-1.amazonaws.com", "key"),
    ({"kind": "vertex", "project": "p-1"}, "https://aiplatform.googleapis.com", "google"),
    ({"kind": "vertex", "project": "p-1", "region": "eu"}, "https://aiplatform.eu.rep.googleapis.com", "google"),
    ({"kind": "vertex", "project": "p-1", "region": "us-east5"}, "https://us-east5-aiplatform.googleapis.com", "google"),
    ({"kind": "vertex", "project": "p-1", "base_url": "https://v.example/v1"}, "https://v.example", "google"),
    ({"kind": "foundry", "resource": "acme"}, "https://acme.services.ai.azure.com/anthropic", "azure"),
    ({"kind": "foundry", "base_url": "https://f.example/anthropic", "api_key": "k"}, "https://f.example/anthropic", "key"),
    ({"kind": "anthropic-compatible", "base_url": "https://c.example/v1"}, "https://c.example", ""),
    ({"kind": "sandbox"}, "", ""),
]  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "base_url", "auth"), KINDS, ids=lambda value: value.get("kind") if isinstance(value, dict) else ""
)
def test_each_kind_has_its_address_and_its_way_to_authenticate(
    tmp_path: Path, settings: dict[str, Any], base_url: str, auth: str
) -> None:
    """The address follows from the settings, unless it is given; without a key, the cloud's credentials serve."""
    (provider,) = load(tmp_path, table(**settings)).providers
    assert (provider.base_url, provider.auth, provider.slug) == (base_url, auth, settings["kind"])
    assert provider.traits.word == provider.kind == settings["kind"]


def test_what_is_not_said_follows_from_the_kind(tmp_path: Path) -> None:
    """Retention, collection and limits have defaults by kind; the operator knows better."""
    said = {"zdr": False, "data_collection": "allow", "max_output_tokens": 32000}
    text = table(kind="bedrock", region="us-east-1") + table(kind="bedrock", slug="b", region="us-east-1", **said)
    text += table(kind="anthropic-compatible", base_url="https://c") + table(kind="anthropic", api_key="k", zdr=True)
    one, two, three, four = load(tmp_path, text).providers

    assert (one.zdr, one.collects, one.max_output_tokens) == (True, False, None)
    assert (two.zdr, two.collects, two.max_output_tokens) == (False, True, 32000)
    assert (three.collects, four.zdr) == (True, True)


@pytest.mark.parametrize(("written", "prefix"), [(None, "global."), ("eu", "eu."), ("us-gov.", "us-gov."), ("", "")])
def test_inference_profiles_are_a_prefix_of_the_models_name(tmp_path: Path, written: str | None, prefix: str) -> None:
    """Global unless said otherwise; none for models that are called by their own name."""
    more = {} if written is None else {"inference_profile": written}
    (provider,) = load(tmp_path, table(kind="bedrock-invoke", region="us-east-1", **more)).providers
    assert provider.traits.upstream_name("claude-opus-5-5", provider.settings) == f"{prefix}anthropic.claude-opus-5-5"


def test_hosting_is_a_variant_of_the_kind(tmp_path: Path) -> None:
    """What Azure hosts can do less; the kind's word stays."""
    text = table(kind="foundry", resource="r-1") + table(kind="foundry", slug="f", resource="r-1", hosting="azure")
    plain, azure = load(tmp_path, text).providers
    assert (plain.traits.id, azure.traits.id, azure.kind) == ("foundry", "foundry@azure", "foundry")
    assert "structured_outputs" in azure.traits.lacks


def test_a_table_may_leave_to_the_usual_variables_what_they_say(tmp_path: Path) -> None:
    """Region and key come from the environment; whoever names a profile wants that and no key."""
    (provider,) = load(tmp_path, table(kind="bedrock"), BEDROCK).providers
    assert (provider.settings["region"], provider.auth) == ("us-east-1", "key")
    (provider,) = load(tmp_path, table(kind="bedrock", profile="prod"), BEDROCK).providers
    assert (provider.settings["profile"], provider.auth) == ("prod", "aws")
    with pytest.raises(ConfigError, match="needs a region") as refused:
        load(tmp_path, table(kind="bedrock"))
    assert "or set AWS_REGION" in (refused.value.remedy or "")


def test_google_credentials_are_a_file_beside_the_configuration(tmp_path: Path) -> None:
    """Found relative to the file that names it, and kept as a whole path."""
    (tmp_path / "google.json").write_text("{}")
    (provider,) = load(tmp_path, table(kind="vertex", project="p-1", credentials="google.json")).providers
    assert provider.settings["credentials"] == str(tmp_path / "google.json")


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (BEDROCK, [("bedrock", "key")]),
        ({**REGION, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s"}, [("bedrock", "aws")]),
        ({**REGION, "AWS_PROFILE": "prod"}, [("bedrock", "aws")]),
        ({**REGION, "ANTHROPIC_AWS_WORKSPACE_ID": "w", "ANTHROPIC_AWS_API_KEY": "k"}, [("claude-on-aws", "key")]),
        ({**REGION, "ANTHROPIC_AWS_WORKSPACE_ID": "w"}, [("claude-on-aws", "aws")]),
        ({"ANTHROPIC_VERTEX_PROJECT_ID": "p-1"}, [("vertex", "google")]),
        ({"ANTHROPIC_FOUNDRY_API_KEY": "k", "ANTHROPIC_FOUNDRY_RESOURCE": "r-1"}, [("foundry", "key")]),
        (REGION, [("sandbox", "")]),
        ({"ANTHROPIC_API_KEY": " "}, [("sandbox", "")]),
    ],
)
def test_a_complete_set_of_variables_is_a_provider(
    tmp_path: Path, environ: dict[str, str], expected: list[tuple[str, str]]
) -> None:
    """Without a table; what is incomplete makes none, and with none at all the sandbox answers."""
    config = load(tmp_path, None, environ)
    assert [(provider.slug, provider.auth) for provider in config.providers] == expected
    assert config.warnings == ()


def test_several_providers_are_found_together(tmp_path: Path) -> None:
    """In the usual order, each with what its variables say."""
    environ = {**BEDROCK, "ANTHROPIC_API_KEY": "k", "ANTHROPIC_VERTEX_PROJECT_ID": "p-1", "CLOUD_ML_REGION": "us"}
    config = load(tmp_path, None, environ)
    assert [provider.slug for provider in config.providers] == ["anthropic", "bedrock", "vertex"]
    assert config.providers[2].base_url == "https://aiplatform.us.rep.googleapis.com"


def test_a_key_that_lacks_its_companion_is_told(tmp_path: Path) -> None:
    """It was meant to be used."""
    config = load(tmp_path, None, {"AWS_BEARER_TOKEN_BEDROCK": "t", "ANTHROPIC_FOUNDRY_API_KEY": "k"})
    assert config.sandbox
    assert config.warnings == (
        "AWS_BEARER_TOKEN_BEDROCK is set, but AWS_REGION is not: Amazon Bedrock is not used",
        "ANTHROPIC_FOUNDRY_API_KEY is set, but ANTHROPIC_FOUNDRY_RESOURCE is not: Microsoft Foundry is not used",
    )


def test_a_variable_that_cannot_be_used_is_told_by_its_name(tmp_path: Path) -> None:
    """What would go into an address must look like what it is."""
    with pytest.raises(ConfigError, match="AWS_REGION: region must be"):
        load(tmp_path, None, {**BEDROCK, "AWS_REGION": "evil.example/"})


def test_the_operators_own_facts_change_what_is_known(tmp_path: Path) -> None:
    """A data file beside the configuration changes a kind, and adds one; it must exist and be right."""
    facts = '{"version": "1", "kinds": {"bedrock": {"zdr": false}, "mine": {"base_url": "https://m", "auth": ["key"]}}}'
    (tmp_path / "kinds.json").write_text(facts)
    text = '[catalogue]\nproviders = "kinds.json"\n' + table(kind="mine") + table(kind="bedrock", region="us-east-1")
    config = load(tmp_path, text)

    assert [(provider.base_url, provider.zdr) for provider in config.providers][:1] == [("https://m", False)]
    assert not config.providers[1].zdr
    assert config.kinds.version.endswith("+1")
    assert config.catalogue.providers == tmp_path / "kinds.json"
    (tmp_path / "kinds.json").write_text('{"version": "1", "kinds": {"bedrock": {"zdr": 3}}}')
    with pytest.raises(ConfigError, match=r"kinds\.json: .*bedrock"):
        load(tmp_path, text)


def test_the_models_file_may_come_from_its_variable(tmp_path: Path) -> None:
    """Then it is relative to where the gateway was started."""
    (tmp_path / "models.json").write_text("{}")
    config = load(tmp_path, None, {"MODELGATES_CATALOGUE_MODELS": "models.json"})
    assert config.catalogue.models == tmp_path / "models.json"
    with pytest.raises(ConfigError, match="MODELGATES_CATALOGUE_MODELS: there is no file"):
        load(tmp_path, None, {"MODELGATES_CATALOGUE_MODELS": "other.json"})


def test_a_cloud_whose_library_is_missing_is_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS variables are there for many reasons: without the library a warning tells how to use them, and we start."""
    monkeypatch.setitem(sys.modules, "botocore", None)
    config = load(tmp_path, None, {**REGION, "AWS_PROFILE": "prod", "ANTHROPIC_API_KEY": "k"})

    assert [provider.slug for provider in config.providers] == ["anthropic"]
    assert "AWS_PROFILE and AWS_REGION describe Amazon Bedrock" in config.warnings[0]
    assert "pip install 'modelgates-server[aws]'" in config.warnings[0]


EXAMPLES = re.findall(
    r"```toml\n(.*?)```", (Path(__file__).parents[3] / "docs" / "providers.md").read_text(), re.DOTALL
)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: (re.findall(r'kind = "(.+)"', text) or ["catalogue"])[0])
def test_the_examples_of_the_documents_work(tmp_path: Path, example: str) -> None:
    """What people copy is a configuration."""
    (tmp_path / "my-kinds.json").write_text('{"version": "mine-1", "kinds": {"bedrock": {"zdr": false}}}')
    environ = dict.fromkeys(re.findall(r'"env:(\w+)"', example), "the-key")
    assert load(tmp_path, example, environ).warnings == ()
