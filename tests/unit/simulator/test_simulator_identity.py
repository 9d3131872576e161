"""Tokens and temporary keys, fetched by the vendors' own libraries."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import asynccontextmanager

import aiohttp
import pytest
from tests.unit.simulator.simulator_caller import calling
from tests.unit.simulator.wire_caller import ASK, post, signed

from modelgates_server.simulator import Simulator, TokenIssuer, serve_identity

EMAIL = "robot@p.iam.gserviceaccount.com"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
AZURE = "https://ai.azure.com"


@asynccontextmanager
async def issuing(issuer: TokenIssuer):
    served = await serve_identity(issuer, "127.0.0.1", 0)
    yield served.url
    await served.stop()


@pytest.fixture
async def issuer():
    return TokenIssuer()


@pytest.fixture
async def url(issuer):
    async with issuing(issuer) as url:
        yield url


async def ask(method: str, url: str, *, headers: dict | None = None, form: dict | None = None) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, headers=headers, data=form) as response,
    ):
        return response.status, await response.text()


def key_pair() -> tuple[str, str]:
    """A private and a public key in PEM."""
    from cryptography.hazmat.primitives import serialization as form  # noqa: PLC0415 - only here
    from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415

    key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    public = key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


def refresh_google(info: dict) -> str:
    from google.auth.transport.requests import Request  # noqa: PLC0415 - slow to import
    from google.oauth2.service_account import Credentials  # noqa: PLC0415

    credentials = Credentials.from_service_account_info(info, scopes=[SCOPE])
    credentials.refresh(Request())
    return credentials.token


async def test_google_exchanges_assertions_of_trusted_accounts(issuer, url):
    """google-auth's assertion gives a token; one by another key is invalid_grant."""
    private, public = key_pair()
    issuer.trust(EMAIL, public)
    info = {"client_email": EMAIL, "token_uri": f"{url}/token", "private_key": private, "private_key_id": "1"}
    token = await asyncio.to_thread(refresh_google, info)
    with pytest.raises(Exception, match="invalid_grant"):
        await asyncio.to_thread(refresh_google, info | {"private_key": key_pair()[0]})
    assert issuer.valid(token)
    assert (issuer.audience(token), issuer.issued) == (SCOPE, 1)


async def test_google_refreshes_users_and_machines(issuer, url):
    """The refresh grant and the metadata server give tokens; the latter wants its header."""
    form = {"grant_type": "refresh_token", "refresh_token": "r", "client_id": "c", "client_secret": "s"}
    path = f"{url}/computeMetadata/v1/instance/service-accounts/default/token"
    flavor = {"Metadata-Flavor": "Google"}
    answers = [await ask("POST", f"{url}/token", form=form), await ask("GET", path, headers=flavor)]
    assert all(issuer.valid(json.loads(text)["access_token"]) for _, text in answers)
    assert (await ask("GET", path))[0] == 403
    project = await ask("GET", f"{url}/computeMetadata/v1/project/project-id", headers=flavor)
    assert project == (200, issuer.project)


async def test_azure_gives_tokens_to_machines_and_applications(issuer, url):
    """Managed identities want their header, applications their secret."""
    issuer.clients = {"app": "secret"}
    query = f"api-version=2018-02-01&resource={AZURE}"
    form = {"grant_type": "client_credentials", "client_id": "app", "scope": f"{AZURE}/.default"}
    imds, service, entra = f"{url}/metadata/identity/oauth2/token?{query}", f"{url}/msi/token?{query}", f"{url}/t"
    good = [
        await ask("GET", imds, headers={"Metadata": "true"}),
        await ask("GET", service, headers={"X-IDENTITY-HEADER": "x"}),
        await ask("POST", f"{entra}/oauth2/v2.0/token", form=form | {"client_secret": "secret"}),
    ]
    bad = [
        await ask("GET", imds),
        await ask("GET", service),
        await ask("POST", f"{entra}/oauth2/v2.0/token", form=form | {"client_secret": "no"}),
    ]
    assert all(issuer.valid(json.loads(text)["access_token"]) for _, text in good)
    assert [status for status, _ in bad] == [400, 401, 401]


@pytest.mark.parametrize(
    "variables",
    [
        {"IDENTITY_ENDPOINT": "{url}/msi/token", "IDENTITY_HEADER": "x"},
        {"AZURE_POD_IDENTITY_AUTHORITY_HOST": "{url}"},
    ],
)
async def test_real_azure_identity_gets_tokens(issuer, url, variables):
    """azure-identity's own clients for App Service and for machines get a token."""
    code = f"from azure.identity import ManagedIdentityCredential as M;print(M().get_token('{AZURE}/.default').token)"
    assert issuer.valid(await in_process(code, {name: told.format(url=url) for name, told in variables.items()}))


async def test_real_google_auth_finds_the_metadata_server(issuer, url):
    """google-auth's default credentials come from the machine, with its project."""
    code = (
        "import google.auth; from google.auth.transport.requests import Request;"
        f"c, p = google.auth.default(scopes=['{SCOPE}']); c.refresh(Request()); print(c.token, p)"
    )
    host = url.removeprefix("http://")
    token, project = (await in_process(code, {"GCE_METADATA_HOST": host, "GCE_METADATA_IP": host})).split()
    assert (issuer.valid(token), project) == (True, issuer.project)


async def test_real_botocore_fetches_temporary_keys_that_sign(issuer, url):
    """Keys from the container endpoint and from the machine's metadata pass the simulator until they expire."""
    code = (
        "from botocore.session import Session;"
        "k = Session().get_credentials().get_frozen_credentials();"
        "print(k.access_key, k.secret_key, k.token)"
    )
    container = await in_process(code, {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{url}/creds"})
    machine = await in_process(code, {"AWS_EC2_METADATA_SERVICE_ENDPOINT": url})
    body = json.dumps({"anthropic_version": "bedrock-2023-05-31", **ASK}).encode()
    path = "/model/us.anthropic.claude-opus-4-8/invoke"
    async with calling(Simulator(wire="bedrock-invoke", aws=issuer.aws_keys)) as caller:

        async def invoke(fetched: str, token: str | None = None) -> tuple[int, str]:
            key_id, secret, session = fetched.split()
            headers = signed(caller.url + path, body, "bedrock", key_id=key_id, secret=secret, token=token or session)
            answer = await post(caller, path, body, headers)
            return answer.status, answer.headers.get("x-amzn-errortype", "").split(":")[0]

        assert [await invoke(container), await invoke(machine)] == [(200, ""), (200, "")]
        assert await invoke(container, "other") == (403, "UnrecognizedClientException")
        issuer.expire()
        assert await invoke(container) == (403, "ExpiredTokenException")


async def in_process(code: str, variables: dict[str, str]) -> str:
    """What a Python process with only these variables prints: the libraries read the environment."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, env={"HOME": "/nonexistent", **variables}, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    return printed.decode().strip()


async def test_metadata_server_of_aws_wants_a_session(url):
    """Version 1 of the protocol is off."""
    assert (await ask("GET", f"{url}/latest/meta-data/iam/security-credentials/"))[0] == 401


async def test_issuer_fails_and_dawdles_on_demand(issuer, url):
    """The next requests fail, later ones are late."""
    issuer.fail_next = 1
    path, flavor = f"{url}/computeMetadata/v1/project/project-id", {"Metadata-Flavor": "Google"}
    statuses = [(await ask("GET", path, headers=flavor))[0] for _ in range(2)]
    issuer.delay_s = 0.05
    started_s = time.monotonic()
    await ask("GET", path, headers=flavor)
    assert statuses == [503, 200]
    assert time.monotonic() - started_s >= 0.05
    assert len(issuer.asked) == 3


def test_tokens_expire_by_themselves():
    """A lifetime of nothing is over at once."""
    issuer = TokenIssuer(lifetime_s=0)
    assert not issuer.valid(issuer.issue("a"))
