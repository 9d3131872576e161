"""The vendors' own libraries against endpoints that give tokens and keys: whom we ask, how often, and what we say when it fails."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.unit.providers.google_account import service_account
from tests.unit.providers.provider_samples import setup

from modelgates_server.catalogue.kinds import Kind
from modelgates_server.errors import ConfigError
from modelgates_server.outbound.http import Outbound
from modelgates_server.providers import clouds
from modelgates_server.providers.base import Setup
from modelgates_server.providers.kinds import BUILDERS, build_provider
from modelgates_server.providers.wire import Call, CredentialError
from modelgates_server.simulator import TokenIssuer, serve_identity

# The vendors warn their own users: about generic files of credentials, and about loops that end while a client is open.
pytestmark = pytest.mark.filterwarnings("ignore")

CALL = Call("POST", "https://h/v1/messages", [("content-type", "application/json")], b"{}")
BEDROCK = setup("bedrock", "https://h", settings={"region": "us-east-1"})
VERTEX = setup("vertex", "https://h", settings={"region": "global", "project": "p"})
FOUNDRY = setup("foundry", "https://h", settings={"resource": "r"})


class House:
    """A running issuer."""

    def __init__(self, issuer: TokenIssuer, url: str) -> None:
        self.issuer = issuer
        self.url = url


@pytest.fixture
async def house(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[House]:
    """An issuer, and an environment that knows nothing else."""
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_BEARER_TOKEN_BEDROCK"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "CLOUDSDK_CONFIG", "AZURE_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "nothing"))
    monkeypatch.setenv("NO_PROXY", "*")
    issuer = TokenIssuer()
    served = await serve_identity(issuer)
    yield House(issuer, served.url)
    await served.stop()


async def test_a_service_account_gives_tokens(house: House, tmp_path: Path) -> None:
    """One for all calls; another one after a refusal."""
    path = service_account(house.issuer, house.url, tmp_path)
    credential = clouds.google(setup("vertex", "https://h", settings={**VERTEX.settings, "credentials": path}))
    first, *others = await asyncio.gather(*(credential.headers(CALL) for _ in range(20)))

    assert others == [first] * 19
    assert house.issuer.valid(dict(first)["authorization"].removeprefix("Bearer "))
    assert await credential.renew(first)
    assert await credential.headers(CALL) != first
    assert house.issuer.issued == 2


async def test_application_default_credentials_are_found(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the variable that Google's tools use."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", service_account(house.issuer, house.url, tmp_path))
    headers = dict(await clouds.google(VERTEX).headers(CALL))
    assert house.issuer.audience(headers["authorization"].removeprefix("Bearer ")) == clouds.GOOGLE_SCOPE


@pytest.mark.slow
async def test_a_token_server_that_fails_is_told_without_secrets(house: House, tmp_path: Path) -> None:
    """The operator reads what is wrong; the assertion and the key are not in it."""
    path = service_account(house.issuer, house.url, tmp_path)
    house.issuer.fail_next, house.issuer.fail_status = 100, 400
    credential = clouds.google(setup("vertex", "https://h", settings={**VERTEX.settings, "credentials": path}))

    with pytest.raises(CredentialError, match="cannot get a Google token: RefreshError") as failed:
        await credential.headers(CALL)
    assert "eyJ" not in str(failed.value)
    assert "PRIVATE" not in str(failed.value)


async def test_azure_takes_the_identity_of_where_it_runs(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """App Service's, for one; the scope is Foundry's."""
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{house.url}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", "header-of-the-house")
    credential = clouds.azure(FOUNDRY)
    headers = await credential.headers(CALL)

    token = dict(headers)["authorization"].removeprefix("Bearer ")
    assert house.issuer.valid(token)
    assert "ai.azure.com" in house.issuer.audience(token)
    assert await credential.renew(headers)
    assert await credential.headers(CALL) != headers


async def test_aws_takes_the_keys_of_the_variables(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first place of the chain; nothing is asked of anybody."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAHERE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    headers = dict(await clouds.aws(BEDROCK, "bedrock").headers(CALL))

    assert "Credential=AKIAHERE/" in headers["authorization"]
    assert "/us-east-1/bedrock/aws4_request" in headers["authorization"]
    assert house.issuer.asked == []


async def test_aws_takes_the_keys_of_a_profile(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that the configuration names, which is read anew after a refusal: keys are rotated."""
    path = tmp_path / "credentials"
    path.write_text("[prod]\naws_access_key_id = AKIAONE\naws_secret_access_key = s\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    named = setup("bedrock", "https://h", settings={**BEDROCK.settings, "profile": "prod"})
    credential = clouds.aws(named, "bedrock")
    first = await credential.headers(CALL)
    assert "Credential=AKIAONE/" in dict(first)["authorization"]

    path.write_text("[prod]\naws_access_key_id = AKIATWO\naws_secret_access_key = s\n")
    assert await credential.renew(first)
    assert "Credential=AKIATWO/" in dict(await credential.headers(CALL))["authorization"]
    assert house.issuer.asked == []


@pytest.mark.parametrize("place", ["container", "instance"])
async def test_aws_takes_the_keys_of_where_it_runs(house: House, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """A task's or an instance's role: temporary keys with their session."""
    if place == "container":
        house.issuer.container_token = "the-token"
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{house.url}/creds")
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "the-token")
    else:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", house.url)
    credential = clouds.aws(BEDROCK, "bedrock")
    first = dict(await credential.headers(CALL))

    (key,) = house.issuer.aws_keys
    assert f"Credential={key}/" in first["authorization"]
    assert first["x-amz-security-token"] == house.issuer.aws_keys.session[key][0]
    assert await credential.renew(list(first.items()))
    assert house.issuer.issued == 2


async def test_no_aws_keys_anywhere_is_told(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where we looked is said."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(CredentialError, match="there are none in variables, profile, container or instance"):
        await clouds.aws(BEDROCK, "bedrock").headers(CALL)


@pytest.mark.parametrize(
    ("module", "extra", "needy"),
    [("botocore", "aws", BEDROCK), ("google.auth", "google", VERTEX), ("azure.identity", "azure", FOUNDRY)],
)
async def test_a_missing_library_is_told_at_the_start(
    monkeypatch: pytest.MonkeyPatch, module: str, extra: str, needy: Setup
) -> None:
    """Not with the first request; and not at all when there is a key."""
    for name in [loaded for loaded in sys.modules if loaded.startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    outbound = Outbound(connect_s=1)
    build = BUILDERS[needy.kind.word]
    with pytest.raises(ConfigError, match=f"provider '{needy.slug}' authenticates with") as refused:
        build(needy, outbound)

    assert refused.value.remedy == f"pip install 'modelgates-server[{extra}]'"
    if "key" in needy.kind.auth:
        build(setup(needy.slug, "https://h", api_key="k", settings=needy.settings), outbound)


def test_the_libraries_do_not_write_what_they_sign() -> None:
    """At the level `debug`, botocore would log session tokens."""
    clouds.aws(BEDROCK, "bedrock")
    assert not logging.getLogger("botocore.auth").isEnabledFor(logging.DEBUG)


async def test_a_kind_without_an_adapter_is_told() -> None:
    """An operator's own data may describe a kind that nobody speaks to."""
    own = Setup("mine", Kind(id="mine", name="Mine"), "https://m")
    with pytest.raises(ConfigError, match="which no adapter speaks to"):
        build_provider(own, Outbound(connect_s=1))
