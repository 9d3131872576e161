"""What the pages are given: the parts of the application that people look at and change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import BoundedSemaphore
from typing import Final

import sqlalchemy as sa

from modelgates_server.accounts.directory import Directory
from modelgates_server.accounts.guesses import Guesses
from modelgates_server.accounts.networks import Network
from modelgates_server.accounts.passwords import Passwords
from modelgates_server.accounts.quotas import Quotas
from modelgates_server.addresses import AdminAddress
from modelgates_server.alerts.courier import Courier
from modelgates_server.catalogue.load import Catalogue
from modelgates_server.catalogue.models import Endpoint
from modelgates_server.clock import Clock
from modelgates_server.console.openid import OpenId
from modelgates_server.management.credentials import Place
from modelgates_server.management.sign_in import Reception
from modelgates_server.outbound.guard import Guard
from modelgates_server.routing.health import Health

DOCTORS_MAX: Final = 4
"""Each holds a thread of the pages for seconds, and there are forty."""


@dataclass(frozen=True, slots=True)
class ProviderLine:
    """A configured provider as pages name it. `base_url` holds no secret; `has_key` says whether the operator gave it one."""

    slug: str
    kind: str
    base_url: str = ""
    has_key: bool = False

    @property
    def is_sandbox(self) -> bool:
        return self.kind == "sandbox"


@dataclass(frozen=True, slots=True)
class House:
    """The parts of the application that pages need.

    `origin` is the address that clients use, without a final slash; `local_url` is where this process listens for them. People come
    there too, unless the console has an address of its own, `admin`.
    `order` are the slugs of providers in the configured order of trying; `places` are those that own keys may be sent to.
    `health` is what this process knows of providers. `courier` sends alerts, in a process that serves. `directory` knows what a key may
    do; `endpoints` are those of each model, by its slug. What asks somebody and waits (the doctor, a test of a provider or a
    channel) takes one of the `doctor_turns`; how often a person may do what is dear is in `quotas`.
    `passwords` are the places in which passwords are hashed, if people may sign in `with_password`; `openid` is the identity provider, if
    there is one. `proxies` are believed when they say whose request they pass on. `api_grants` is the operator's leave to add credit.
    `thresholds` are the percents at which organisations are told that chose none.
    """

    engine: sa.Engine
    secret: bytes = field(repr=False)
    clock: Clock
    catalogue: Catalogue
    origin: str
    local_url: str
    providers: tuple[ProviderLine, ...] = ()
    order: tuple[str, ...] = ()
    places: Mapping[str, Place] = field(default_factory=dict)
    guard: Guard = field(default_factory=Guard)
    health: Health | None = None
    courier: Courier | None = None
    store: str = "sqlite"
    directory: Directory | None = None
    endpoints: Mapping[str, tuple[Endpoint, ...]] = field(default_factory=dict)
    passwords: Passwords = field(default_factory=Passwords)
    with_password: bool = True
    openid: OpenId | None = None
    proxies: tuple[Network, ...] = ()
    api_grants: bool = False
    thresholds: tuple[int, ...] = ()
    doctor_turns: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(DOCTORS_MAX))
    quotas: Quotas = field(default_factory=Quotas)
    admin: AdminAddress | None = None

    @property
    def reception(self) -> Reception:
        """What signing in needs."""
        return Reception(self.engine, Guesses(self.secret), self.passwords, self.with_password)

    @property
    def base_url(self) -> str:
        """What Claude clients are given."""
        return f"{self.origin}/api"

    @property
    def console_origin(self) -> str:
        """The address that people use."""
        return self.origin if self.admin is None else self.admin.origin

    @property
    def management_url(self) -> str:
        """Where the management API is."""
        return f"{self.console_origin}/api/v1"

    @property
    def secure(self) -> bool:
        """Whether people come over https."""
        return self.console_origin.startswith("https://")

    @property
    def loopback(self) -> bool:
        """Whether Claude Desktop takes the address although it is plain http (client-protocol E-11)."""
        return self.origin.startswith(("http://127.", "http://[::1]", "http://localhost"))

    @property
    def sandbox(self) -> bool:
        """Whether answers come from the built-in sandbox."""
        return any(provider.is_sandbox for provider in self.providers)
