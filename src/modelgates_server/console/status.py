"""The one status page: how the gateway stands, what it did last, and how to connect a client.

Rendered on the server, without scripts and without inline styles, so that it works under a strict content security
policy; its only resource is ``/assets/status.css``. The whole console (design decision 19) is being built.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

import jinja2

from modelgates_server import __version__
from modelgates_server.ledger.credit import CREDIT_STANDING, credit_meter
from modelgates_server.money import usd_text

if TYPE_CHECKING:
    import sqlalchemy as sa

STYLESHEET_PATH: Final = "/assets/status.css"
NEWEST: Final = 20
"""Generations on the page: what fits on a screen or two."""

_PACKAGE: Final = "modelgates_server.console"
_ORGANIZATION: Final = "SELECT id, name FROM organizations WHERE id = :id"
_GENERATIONS: Final = """
    SELECT g.id, g.created_at_ms, g.model, g.provider, g.outcome, g.estimated, g.cost_nusd, g.output_tokens,
           g.input_tokens + g.cache_read_tokens + g.cache_write_5m_tokens + g.cache_write_1h_tokens AS input_tokens,
           k.name AS key_name
    FROM generations g LEFT JOIN api_keys k ON k.hash = g.key_hash
    WHERE g.organization_id = :id ORDER BY g.created_at_ms DESC, g.id DESC LIMIT :newest
"""


@dataclass(frozen=True, slots=True)
class ProviderLine:
    """A configured provider as the page names it."""

    slug: str
    kind: str

    @property
    def is_sandbox(self) -> bool:
        return self.kind == "sandbox"


@dataclass(frozen=True, slots=True)
class GenerationLine:
    """One row of the newest generations. `cost` is the exact amount in USD as text, `created_at` is RFC 3339."""

    id: str
    created_at: str
    key_name: str
    model: str
    provider: str
    input_tokens: int
    output_tokens: int
    cost: str
    outcome: str
    estimated: bool


@dataclass(frozen=True, slots=True)
class House:
    """What the page knows from the configuration. `origin` is the address that people use, without a final slash."""

    origin: str
    providers: tuple[ProviderLine, ...]

    @property
    def base_url(self) -> str:
        """What clients are given."""
        return f"{self.origin}/api"

    @property
    def secure(self) -> bool:
        """Whether people come over https."""
        return self.origin.startswith("https://")

    @property
    def sandbox(self) -> bool:
        return any(provider.is_sandbox for provider in self.providers)

    @property
    def loopback(self) -> bool:
        """Whether Claude Desktop takes the address although it is plain http (client-protocol E-11)."""
        return self.origin.startswith(("http://127.", "http://[::1]"))


@dataclass(frozen=True, slots=True)
class StatusContext:
    """Everything that the page shows. Amounts are in nano-USD."""

    organization: str
    balance_nusd: int
    used_nusd: int
    held_nusd: int
    house: House
    generations: tuple[GenerationLine, ...]


def status_context(connection: sa.Connection, organization_id: str, house: House) -> StatusContext:
    """Read what the page shows. For a thread: it waits for the disk."""
    organization = _rows(connection, _ORGANIZATION, {"id": organization_id})
    credit = _rows(connection, CREDIT_STANDING, {"id": credit_meter(organization_id).row_id(0)})
    generations = _rows(connection, _GENERATIONS, {"id": organization_id, "newest": NEWEST})
    standing = credit[0] if credit else {"limit": 0, "posted": 0, "held": 0}
    return StatusContext(
        organization=organization[0]["name"] if organization else organization_id,
        balance_nusd=(standing["limit"] or 0) - standing["posted"],
        used_nusd=standing["posted"],
        held_nusd=standing["held"],
        house=house,
        generations=tuple(map(_line, generations)),
    )


def render_status(context: StatusContext) -> bytes:
    """Write the page as UTF-8 HTML."""
    return _page("status.html", status=context)


def sign_in_required() -> bytes:
    """Write what a visitor without a session sees: how to get a sign-in link."""
    return _page("sign_in.html")


def join_page(organization: str, name: str, email: str, token: str) -> bytes:
    """Write what somebody sees who was invited: by whom, and the button that joins."""
    return _page("join.html", organization=organization, name=name, email=email, token=token)


def join_dead(reason: str) -> bytes:
    """Write what somebody sees whose invitation opens nothing."""
    return _page("join_dead.html", reason=reason)


def stylesheet() -> bytes:
    """Give the page's only resource, to be served at `STYLESHEET_PATH` as ``text/css``."""
    return resources.files(_PACKAGE).joinpath("assets", "status.css").read_bytes()


def _rows(connection: sa.Connection, statement: str, values: dict[str, Any]) -> list[dict[str, Any]]:
    """Read on the driver itself: the engine opens transactions with the write lock, which a page must not take."""
    cursor = connection.connection.cursor()
    try:
        cursor.execute(statement, values)
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, found, strict=True)) for found in cursor.fetchall()]
    finally:
        cursor.close()


def _line(row: dict[str, Any]) -> GenerationLine:
    return GenerationLine(
        id=row["id"],
        created_at=datetime.fromtimestamp(row["created_at_ms"] / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        key_name=row["key_name"] or "removed key",
        model=row["model"],
        provider=row["provider"] or "-",
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        cost=_dollars(row["cost_nusd"]),
        outcome=row["outcome"],
        estimated=bool(row["estimated"]),
    )


def _dollars(nusd: int) -> str:
    """Exact, with at least two decimals: ``$12.50``, ``$0.000123``."""
    whole, _, rest = usd_text(nusd).partition(".")
    return f"{'-' if nusd < 0 else ''}${whole.removeprefix('-')}.{rest:<02}"


def _page(template: str, **values: object) -> bytes:
    return (
        _templates().get_template(template).render(version=__version__, stylesheet=STYLESHEET_PATH, **values).encode()
    )


@functools.cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(_PACKAGE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["dollars"] = _dollars
    return environment
