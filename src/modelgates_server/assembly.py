"""Puts the parts of the application together: which adapter stands behind which name. `app.py` owns their lives."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import sqlalchemy as sa

from modelgates_server.accounts.directory import Directory
from modelgates_server.accounts.oidc import Client
from modelgates_server.accounts.quotas import Quotas
from modelgates_server.accounts.values import CredentialRef
from modelgates_server.activity.contents import DESTINATION, Keeper
from modelgates_server.activity.metrics import Metrics
from modelgates_server.activity.reports import recall
from modelgates_server.addresses import AdminAddress
from modelgates_server.alerts.courier import Courier, Operator
from modelgates_server.alerts.outbox import Outbox
from modelgates_server.alerts.watch import Watch
from modelgates_server.api.app import OPENAPI_PATH, PREFIX, build_api, owned
from modelgates_server.api.house import House as ApiHouse
from modelgates_server.catalogue.load import bundled, load_catalogue
from modelgates_server.clock import Clock
from modelgates_server.config import Config, ProviderConfig
from modelgates_server.config.endpoints import endpoints_of
from modelgates_server.config.values import Alerts, SignIn
from modelgates_server.console import app as console
from modelgates_server.console.assets import PREFIX as PREFIX_OF_ASSETS
from modelgates_server.console.assets import SHARED, assets
from modelgates_server.console.house import House, ProviderLine
from modelgates_server.console.openid import OpenId
from modelgates_server.docsite.app import build_docs
from modelgates_server.docsite.app import owned as docs_words
from modelgates_server.docsite.house import DocsHouse
from modelgates_server.docsite.library import Library
from modelgates_server.edge.context import Context, EdgeSettings
from modelgates_server.edge.mount import Files, Mount, Pages
from modelgates_server.edge.server import Plane, Server
from modelgates_server.ledger.ledger import Ledger
from modelgates_server.listener import listen_url
from modelgates_server.management.credentials import places_of
from modelgates_server.outbound.guard import Guard
from modelgates_server.outbound.http import Outbound
from modelgates_server.outbound.smtp import MailServer
from modelgates_server.providers.base import Setup
from modelgates_server.providers.kinds import build_provider
from modelgates_server.providers.own import OwnProviders
from modelgates_server.reconcile.accounts import accounts_of
from modelgates_server.reconcile.run import Daily
from modelgates_server.relay.answers import StreamAnswer
from modelgates_server.relay.carry import Carrier
from modelgates_server.relay.funds import Funds
from modelgates_server.relay.own import Speakers
from modelgates_server.relay.router import Router
from modelgates_server.relay.spine import Relay
from modelgates_server.relay.values import Settings, Stopping
from modelgates_server.routing.fit import Fitter
from modelgates_server.routing.health import Health
from modelgates_server.routing.stick import Stickiness
from modelgates_server.storage.engine import open_engine
from modelgates_server.storage.opening import Store
from modelgates_server.storage.writer import Writer
from modelgates_server.tasks import Tasks
from modelgates_server.vault.envelope import Ring, Vault
from modelgates_server.vault.secret import load_secret

COUNT_S: Final = 10.0
"""A token count is quick or of no use: a refusal must not wait for it, and clients estimate by themselves."""

_SPREAD: Final = random.Random().random  # noqa: S311 - pauses that differ, not secrets


@dataclass(slots=True)
class Application:
    """A built gateway: the ASGI application and the parts that tests look at. `admin` serves the address of management, if there is one."""

    asgi: Server
    context: Context
    ledger: Ledger
    writer: Writer
    tasks: Tasks
    relay: Relay
    store: Store
    watch: Watch
    courier: Courier
    daily: Daily
    admin: Server | None = None


class Parts(NamedTuple):
    """What an application is assembled from."""

    config: Config
    store: Store
    ledger: Ledger
    outbound: Outbound
    guarded: Outbound
    tasks: Tasks
    sandbox_url: str | None


def assemble(parts: Parts) -> Application:
    """Build everything that serves requests."""
    config, store, ledger, outbound, guarded, tasks, sandbox_url = parts
    clock, reader, writer = store.clock, store.reader, store.writer
    catalogue = load_catalogue(bundled(), _file(config.catalogue.models))
    secret = load_secret(config, create=False)
    directory = Directory(reader, secret, clock)
    settings = _settings(config)
    metrics = Metrics()
    _watch_writer(metrics, writer)
    setups = {entry.slug: _setup(entry, sandbox_url) for entry in config.providers}
    providers = {slug: build_provider(setup, outbound) for slug, setup in setups.items()}
    speakers = Speakers(providers, OwnProviders(setups, outbound, partial(_unsealed, secret)).find)
    router = Router(
        catalogue=catalogue,
        endpoints=endpoints_of(catalogue, config.providers),
        fitter=Fitter(config.kinds, [entry.traits for entry in config.providers]),
        health=Health(_SPREAD, cool_s_max=config.routing.cool_s_max),
        stickiness=Stickiness(),
        clock=clock,
        order=tuple(config.routing.order),
        recall=partial(recall, reader),
        secret=secret,
    )
    metrics.watch_providers(
        providers, lambda: [slug for slug, _, _ in router.health.out_of_service(clock.monotonic_s())]
    )
    live: dict[str, StreamAnswer] = {}
    relay = Relay(
        catalogue=catalogue,
        router=router,
        speakers=speakers,
        carrier=Carrier(router, speakers, settings, live, _SPREAD),
        ledger=ledger,
        funds=Funds(ledger, directory, clock, settings, catalogue.version),
        metrics=metrics,
        clock=clock,
        settings=settings,
        live=live,
        stopping=Stopping(),
        spawn=tasks.spawn,
        keeper=Keeper(partial(_sealed, secret, directory)),
    )
    context = Context(
        relay, directory, catalogue, reader, metrics, clock, tasks,
        EdgeSettings(config.routing.first_ping_s, config.routing.ping_s),
    )  # fmt: skip
    engine = open_engine(store.database)
    origin, admin = _origin(config), _admin(config)
    people = origin if admin is None else admin.origin
    operator = operator_of(config.alerts)
    courier = Courier(engine, secret, operator, outbound, guarded, clock, people)
    places, quotas = places_of(config.providers), Quotas()
    api = Mount(
        build_api(
            ApiHouse(
                engine, secret, clock, catalogue, people,
                api_grants=config.credits.api_grants, places=places,
                guard=Guard(config.server.outbound_allow), courier=courier, quotas=quotas,
            )
        ),
        PREFIX, owned(), frozenset({OPENAPI_PATH}), lambda: store.writer.away,
    )  # fmt: skip
    house = _console_house(parts, context, engine, secret, courier, quotas)
    pages = Pages(console.build_console(house), console.owned())
    outbox = Outbox(operator.channels)
    watch = Watch(engine, outbox, clock, config.alerts.thresholds)
    daily = Daily(engine, accounts_of(catalogue, config.providers, outbound), outbox, clock)
    docs = _docs_house(context, engine, origin)
    servers = _whole(context, api, pages, docs) if admin is None else _apart(context, api, pages, docs, admin)
    return Application(servers[0], context, ledger, writer, tasks, relay, store, watch, courier, daily, servers[1])


def _watch_writer(metrics: Metrics, writer: Writer) -> None:
    metrics.watch("store_batches", "Transactions of the writer", lambda: writer.batches)
    metrics.watch("store_units", "Changes that those transactions carried", lambda: writer.units)
    metrics.watch("store_refused", "Settlements that the database refused in any form", lambda: writer.refused)


def _whole(context: Context, api: Mount, pages: Pages, docs: DocsHouse) -> tuple[Server, None]:
    """Everything at one address."""
    return Server(context, (api, pages, _docs(docs)), pages), None


def _apart(context: Context, api: Mount, pages: Pages, docs: DocsHouse, admin: AdminAddress) -> tuple[Server, Server]:
    """Clients at one address, people and management at another; both read the docs, which borrow two files of the console's."""
    borrowed = Files(pages.app, frozenset(PREFIX_OF_ASSETS + name for name in SHARED))
    clients = Server(context, (_docs(replace(docs, with_console=False)), borrowed), None, Plane.CLIENTS)
    return clients, Server(context, (api, pages, _docs(replace(docs, admin=admin))), pages, Plane.ADMIN)


def _docs(house: DocsHouse) -> Pages:
    return Pages(build_docs(house), docs_words())


def operator_of(alerts: Alerts) -> Operator:
    """The operator's own channels, and the way to send mail."""
    smtp, password, secret = alerts.smtp_url, alerts.smtp_password, alerts.webhook_secret
    server = None
    if smtp is not None:
        server = MailServer(smtp.host, smtp.port, smtp.security, smtp.user, password.reveal() if password else None)
    return Operator(alerts.webhook_url, secret.reveal() if secret else None, alerts.email_to, alerts.email_from, server)


def _console_house(
    parts: Parts, context: Context, engine: sa.Engine, secret: bytes, courier: Courier, quotas: Quotas
) -> House:
    """What the pages are given."""
    config, router = parts.config, context.relay.router
    return House(
        engine, secret, context.clock, context.catalogue, _origin(config), _local_url(config),
        providers=tuple(_shown(entry) for entry in config.providers), order=tuple(config.routing.order),
        places=places_of(config.providers), guard=Guard(config.server.outbound_allow), health=router.health, courier=courier,
        store=parts.store.database.kind, directory=context.directory, endpoints=router.endpoints,
        with_password=config.sign_in.password, openid=_openid(config.sign_in, parts.outbound, context.clock),
        proxies=config.server.trusted_proxies, api_grants=config.credits.api_grants, thresholds=config.alerts.thresholds,
        quotas=quotas, admin=_admin(config),
    )  # fmt: skip


def _openid(section: SignIn, outbound: Outbound, clock: Clock) -> OpenId | None:
    """The identity provider, if the operator named one."""
    if section.oidc_issuer is None or section.oidc_client_id is None:
        return None
    secret = section.oidc_client_secret
    client = Client(
        section.oidc_issuer, section.oidc_client_id, secret.reveal() if secret else None, section.oidc_scopes,
        section.oidc_join_domains, section.oidc_name,
    )  # fmt: skip
    return OpenId(client, outbound, clock)


def _docs_house(context: Context, engine: sa.Engine, origin: str) -> DocsHouse:
    endpoints = context.relay.endpoints
    return DocsHouse(
        origin=origin, library=Library(), directory=context.directory, reader=context.reader, engine=engine,
        catalogue=context.catalogue, clock=context.clock, served=lambda slug: bool(endpoints.get(slug)),
        spawn=context.tasks.spawn, stylesheet=assets().url("console.css"),
    )  # fmt: skip


def _origin(config: Config) -> str:
    """The address that clients use."""
    return config.server.public_url or _local_url(config)


def _local_url(config: Config) -> str:
    server = config.server
    return listen_url(server.host, server.port, tls=server.tls_cert is not None)


def _admin(config: Config) -> AdminAddress | None:
    """The address of management, if it is another."""
    server = config.server
    if server.admin_listen is None:
        return None
    own = listen_url(*server.admin_listen, tls=server.tls_cert is not None)
    return AdminAddress(
        server.admin_url or own,
        own,
        _origin(config),
        named=server.admin_url is not None,
        any_host=server.public_url is None and server.host in {"0.0.0.0", "::"},
    )


def _shown(entry: ProviderConfig) -> ProviderLine:
    return ProviderLine(entry.slug, entry.kind, entry.base_url or "", has_key=entry.api_key is not None)


def _settings(config: Config) -> Settings:
    routing = config.routing
    return Settings(
        first_byte_s=routing.first_byte_s,
        answer_s=routing.answer_s,
        count_s=min(COUNT_S, routing.first_byte_s),
        idle_s=routing.idle_s,
        total_s=routing.total_s,
        hold_wait_s=routing.hold_wait_s,
        retry_pause_s=routing.retry_pause_s,
        attempts_max=routing.attempts_max,
        clamp=routing.clamp,
    )


def _file(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()


def _unsealed(secret: bytes, ref: CredentialRef) -> str:
    """An organisation's own key, from what callers carry of it. Raises SealBroken."""
    vault = Vault(secret, Ring(ref.kek_id, {ref.kek_id: ref.salt}))
    place = {"organization_id": ref.organization_id, "record_id": ref.id, "destination": ref.base_url}
    return vault.open(ref.sealed, **place).decode()


def _sealed(
    secret: bytes, directory: Directory, plain: bytes, organization_id: str, generation_id: str
) -> tuple[str, str]:
    """What is kept of a generation, under the key-encryption key that this process knows. Raises SealBroken when it knows none."""
    wrapping = directory.wrapping
    ring = Ring("", {}) if wrapping is None else Ring(wrapping.kek_id, {wrapping.kek_id: wrapping.salt})
    return Vault(secret, ring).seal(
        plain, organization_id=organization_id, record_id=generation_id, destination=DESTINATION
    )


def _setup(entry: ProviderConfig, sandbox_url: str | None) -> Setup:
    sandbox = entry.kind == "sandbox"
    return Setup(
        slug=entry.slug,
        kind=entry.traits,
        base_url=(sandbox_url or "") if sandbox else entry.base_url,
        api_key="sandbox" if sandbox else entry.api_key.reveal() if entry.api_key else None,
        key_header=entry.key_header,
        settings=entry.settings,
    )
