"""The configuration as the rest of the gateway sees it: frozen, checked, every default filled in."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

from modelgates_server.catalogue.kinds import Kind, Kinds

BODY_BYTES_MAX: Final = 32 * 1024 * 1024
"""The largest request body, as at Anthropic; a constant, because clients know it."""


class Secret:
    """Text that must not be shown: it prints as ``Secret(hidden)``, only `reveal` gives it, it cannot be pickled."""

    __slots__ = ("_text",)
    _text: str

    def __init__(self, text: str) -> None:
        object.__setattr__(self, "_text", text)

    def reveal(self) -> str:
        """Give the text itself."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(hidden)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash(self._text)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a Secret does not change")

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not written anywhere")


class Listen(NamedTuple):
    """Where a socket listens; port 0 takes any free one."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Server:
    """Where the gateway listens. `drain_s` is how long running requests may take to finish when it stops.

    `public_url` is the address of clients when it is not host and port. With `admin_listen`, management and console are there and
    nowhere else; `admin_url` is what people call that address when it has another name.

    `outbound_allow` are networks and names that the destination guard lets pass (`outbound/guard.py`); `trusted_proxies` are
    believed when they say whose request they pass on.
    """

    host: str
    port: int
    public_url: str | None
    admin_listen: Listen | None
    admin_url: str | None
    drain_s: float
    workers: int
    tls_cert: Path | None
    tls_key: Path | None
    outbound_allow: tuple[str, ...]
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...]


@dataclass(frozen=True, slots=True)
class Database:
    """`url` is a SQLAlchemy URL, ``sqlite:///<file>`` in this version."""

    url: str


@dataclass(frozen=True, slots=True)
class Credits:
    """What a new organisation is granted, once, and whether management keys may add credit (`api_grants`)."""

    initial_grant_nusd: int
    api_grants: bool


@dataclass(frozen=True, slots=True)
class Routing:
    """The default order of providers, and the clocks of a request, all in seconds (design decisions 1 and 4).

    `attempts_max` bounds the attempts of one request over all providers, `cool_s_max` the pause of a provider that failed.
    """

    order: tuple[str, ...]
    attempts_max: int
    cool_s_max: float
    retry_pause_s: float
    connect_s: float
    first_ping_s: float
    ping_s: float
    first_byte_s: float
    answer_s: float
    idle_s: float
    total_s: float
    hold_wait_s: float
    clamp: bool


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The operator's own data files, which change single entries of the bundled ones: models and prices, kinds of providers."""

    models: Path | None
    providers: Path | None


@dataclass(frozen=True, slots=True)
class Smtp:
    """A mail server. `security` is tls (from the start), starttls, or local: in the clear, on this machine."""

    host: str
    port: int
    security: str
    user: str | None


@dataclass(frozen=True, slots=True)
class Alerts:
    """What is alerted, and where besides the channels that organisations have of their own. `thresholds` are percent of a limit."""

    thresholds: tuple[int, ...]
    webhook_url: str | None
    webhook_secret: Secret | None
    email_to: tuple[str, ...]
    email_from: str | None
    smtp_url: Smtp | None
    smtp_password: Secret | None


@dataclass(frozen=True, slots=True)
class SignIn:
    """How people sign in besides by link: with a `password`, or at an identity provider (OpenID Connect) if there is an issuer.

    Whoever has a verified address in one of `oidc_join_domains` may join; `oidc_name` is what the button calls the provider.
    """

    password: bool
    oidc_issuer: str | None
    oidc_client_id: str | None
    oidc_client_secret: Secret | None
    oidc_scopes: tuple[str, ...]
    oidc_join_domains: tuple[str, ...]
    oidc_name: str


@dataclass(frozen=True, slots=True)
class ProviderConfig:
    """One upstream. `base_url` has no trailing slash and no ``/v1``; it is empty for the sandbox.

    `kind` is the word of the file, `traits` what is known about it, hosting included. `key_header` is x-api-key, bearer or both;
    `models` maps our model id or slug to the provider's own name; `multiplier_ppm` is what the provider asks in millionths of
    the list price. `settings` are the kind's own: region, project, workspace_id, profile, inference_profile (with its dot, or
    empty), resource, credentials (an absolute path), tenant_id, client_id, hosting. `zdr`: it keeps nothing; `collects`: it may
    keep or train on prompts. `max_output_tokens` bounds what is asked of this provider. `admin_key` reads its usage and cost report.
    """

    slug: str
    kind: str
    base_url: str
    api_key: Secret | None
    key_header: str
    models: Mapping[str, str]
    multiplier_ppm: int
    traits: Kind
    settings: Mapping[str, str]
    zdr: bool
    collects: bool
    max_output_tokens: int | None
    admin_key: Secret | None = None

    @property
    def auth(self) -> str:
        """How it authenticates: with a `key`, with the credentials of `aws`, `google` or `azure`, or empty: not at all."""
        if self.api_key is not None:
            return "key"
        return next((way for way in self.traits.auth if way != "key"), "")


@dataclass(frozen=True, slots=True)
class Config:
    """Everything the operator decided. `warnings` are sentences for the operator; `source` is the file that was read.

    `kinds` is what is known about kinds of providers, with the operator's changes. `data_dir` is absolute; `secret` is
    MODELGATES_SECRET when it was given.
    """

    source: Path | None
    data_dir: Path
    server: Server
    database: Database
    credits: Credits
    routing: Routing
    catalogue: Catalogue
    alerts: Alerts
    sign_in: SignIn
    kinds: Kinds
    providers: tuple[ProviderConfig, ...]
    secret: Secret | None
    warnings: tuple[str, ...]

    @property
    def sandbox(self) -> bool:
        """Whether answers come from the built-in simulator only."""
        return all(provider.kind == "sandbox" for provider in self.providers)
