"""Who we are in each cloud, by the cloud's own library: the usual chains of AWS, Google and Azure (providers 12.5).

The libraries are extras, so they are imported when a provider that needs one is built. They block, so all of this runs in threads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC
from importlib import import_module
from typing import Any, Final

from modelgates_server.clock import SystemClock
from modelgates_server.errors import ConfigError
from modelgates_server.providers.base import Setup
from modelgates_server.providers.sigv4 import Keys, SigV4Credential, signer
from modelgates_server.providers.tokens import BearerCredential, FrozenHeaders, Granted, Refreshing
from modelgates_server.providers.wire import Credential

GOOGLE_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
AZURE_SCOPE: Final = "https://ai.azure.com/.default"

AWS_KEPT_S: Final = 600.0
"""botocore itself sees to it that what it gives is good for ten minutes; it is asked again after five."""

_UNKNOWN_END_S: Final = 3600.0
_TIMEOUT_S: Final = 10.0
"""Token servers are near and quick; a library's own minutes would hold a thread, and every request that waits for it."""

_NAMES: Final = {"aws": "AWS", "google": "Google", "azure": "Azure"}

_TALKATIVE: Final = ("botocore", "google.auth", "azure", "msal", "urllib3")
"""Libraries that write what they send, headers and all, when everything is to be logged."""


def aws(setup: Setup, service: str) -> Credential:
    """Signatures with the keys that the AWS chain gives: variables, profile, container, instance, web identity.

    Raises ConfigError when the library is not installed.
    """
    sign = _imported(setup, "aws", lambda: signer(service, setup.settings["region"]))
    session = _imported(setup, "aws", lambda: import_module("botocore.session"))
    chain = AwsChain(session.Session, setup.settings.get("profile"))
    return SigV4Credential(Refreshing("AWS credentials", chain.fetch), sign)


def google(setup: Setup) -> Credential:
    """Tokens by the file that `credentials` names, else by Google's application-default chain. Raises ConfigError."""
    auth = _imported(setup, "google", lambda: import_module("google.auth"))
    transport = _imported(setup, "google", lambda: import_module("google.auth.transport.requests"))
    chain = GoogleChain(auth, transport.Request(), setup.settings.get("credentials"))
    return BearerCredential(Refreshing("a Google token", chain.fetch))


def azure(setup: Setup) -> Credential:
    """Tokens by Azure's default chain: variables with a client secret, workload or managed identity, the Azure CLI.

    Raises ConfigError when the library is not installed.
    """
    identity = _imported(setup, "azure", lambda: import_module("azure.identity"))
    chain = AzureChain(identity, setup.settings.get("tenant_id"), setup.settings.get("client_id"))
    return BearerCredential(Refreshing("an Entra token", chain.fetch))


def _imported(setup: Setup, extra: str, load: Callable[[], Any]) -> Any:
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        return load()
    except ImportError as error:
        raise ConfigError(
            f"the provider {setup.slug!r} authenticates with {_NAMES[extra]} credentials, "
            f"but a library for that is not installed ({error.name})",
            remedy=f"pip install 'modelgates-server[{extra}]'",
        ) from error


class AwsChain:
    """botocore's chain. What it found is kept, because it renews itself; a refusal makes it look again."""

    def __init__(self, session: Any, profile: str | None) -> None:
        self._session = session
        self._profile = profile
        self._found: Any = None

    def fetch(self, forced: bool) -> Granted[Keys]:  # noqa: FBT001 - a `tokens.Fetch`
        found, self._found = self._found, None  # kept only when it is good for something
        if forced or found is None:
            found = self._session(profile=self._profile).get_credentials()
        if found is None:
            raise LookupError("there are none in variables, profile, container or instance")
        frozen = found.get_frozen_credentials()
        self._found = found
        return Granted(Keys(frozen.access_key, frozen.secret_key, frozen.token), SystemClock().now_s() + AWS_KEPT_S)


class GoogleChain:
    """google-auth. Its credentials must not be refreshed by two threads at once; `Refreshing` sees to that."""

    def __init__(self, auth: Any, request: Any, path: str | None) -> None:
        self._auth = auth
        self._request = request
        self._path = path
        self._found: Any = None

    def fetch(self, forced: bool) -> Granted[FrozenHeaders]:  # noqa: FBT001
        found, self._found = self._found, None
        if forced or found is None:
            found = self._load()
        found.refresh(self._ask)
        headers: dict[str, str] = {}
        found.apply(headers)  # the token, and the project that pays if the credential names one
        self._found = found
        ends_s = (
            found.expiry.replace(tzinfo=UTC).timestamp() if found.expiry else SystemClock().now_s() + _UNKNOWN_END_S
        )
        return Granted(tuple((name.lower(), value) for name, value in headers.items()), ends_s)

    def _load(self) -> Any:
        if self._path:
            return self._auth.load_credentials_from_file(self._path, scopes=[GOOGLE_SCOPE])[0]
        return self._auth.default(scopes=[GOOGLE_SCOPE])[0]

    def _ask(self, *arguments: Any, **options: Any) -> Any:
        return self._request(*arguments, **{"timeout": _TIMEOUT_S, **options})


class AzureChain:
    """azure-identity. A refused token makes it forget what it has kept."""

    def __init__(self, identity: Any, tenant_id: str | None, client_id: str | None) -> None:
        self._identity = identity
        self._options = {
            "managed_identity_client_id": client_id,
            "workload_identity_client_id": client_id,
            "workload_identity_tenant_id": tenant_id,
        }
        self._found: Any = None

    def fetch(self, forced: bool) -> Granted[FrozenHeaders]:  # noqa: FBT001
        if self._found is not None and forced:
            self._found.close()
            self._found = None
        if self._found is None:
            named = {name: value for name, value in self._options.items() if value}
            self._found = self._identity.DefaultAzureCredential(process_timeout=int(_TIMEOUT_S), **named)
        token = self._found.get_token(AZURE_SCOPE)
        return Granted((("authorization", f"Bearer {token.token}"),), float(token.expires_on))
