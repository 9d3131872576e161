"""What the routes of the management API are given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa

from modelgates_server.accounts.quotas import Quotas
from modelgates_server.alerts.courier import Courier
from modelgates_server.catalogue.load import Catalogue
from modelgates_server.clock import Clock
from modelgates_server.management.credentials import Place
from modelgates_server.outbound.guard import Guard


@dataclass(frozen=True, slots=True)
class House:
    """The parts of the application that managing needs. `origin` is the address that people use, without a final slash.

    `api_grants` is the operator's leave for management keys to add credit. `places` are the providers that credentials may be sent to.
    `guard` says which URLs may be named; `courier` sends alerts, in a process that serves.
    """

    engine: sa.Engine
    pepper: bytes = field(repr=False)
    clock: Clock
    catalogue: Catalogue
    origin: str
    api_grants: bool = False
    quotas: Quotas = field(default_factory=Quotas)
    places: Mapping[str, Place] = field(default_factory=dict)
    guard: Guard = field(default_factory=Guard)
    courier: Courier | None = None
