"""Opening what is on this machine: the configuration, the secret, the database. Works beside a running server."""

from __future__ import annotations

import os
import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from modelgates_server.cli.address import Addresses, local_origin
from modelgates_server.cli.frame import Options, warn
from modelgates_server.clock import SystemClock
from modelgates_server.config import SETTINGS, Config, load_config
from modelgates_server.errors import StoreMismatch, StoreUnavailable
from modelgates_server.management import organizations
from modelgates_server.management.address import served_admin_url, served_url
from modelgates_server.storage import schema
from modelgates_server.storage.engine import Database, database_of, open_engine, reading
from modelgates_server.storage.maintenance import schema_state, verify_secret
from modelgates_server.storage.reader import Lookups
from modelgates_server.storage.upgrades import newer
from modelgates_server.vault.secret import load_secret

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ACTOR: Final = "cli"
"""Who the audit log names for a change made here: whoever may use the data directory."""

_USUAL: Final = tuple(one.default for one in SETTINGS if one.section == "server" and one.name in {"host", "port"})
"""Host and port of a configuration that says nothing about them."""

_NO_FLAGS: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Workplace:
    """An initialised database at the current schema, and what belongs to it."""

    config: Config
    database: Database
    engine: sa.Engine
    pepper: bytes
    organization_id: str
    now_s: float

    @property
    def origin(self) -> str:
        """The address that links lead to: the console's."""
        return addresses(self.config, self.engine).console


def configured(options: Options, flags: Mapping[str, object] = _NO_FLAGS, *, with_keys: bool = False) -> Config:
    """Read the configuration that the shared options mean; its warnings go to standard error. Raises ConfigError.

    `with_keys` reads the providers' keys too; what only manages must work where they are not to be had.
    """
    config = load_config(
        options.config, options.data_dir, options.database_url, os.environ, Path.cwd(), flags, with_keys=with_keys
    )
    for warning in config.warnings:
        warn(warning)
    return config


def origin(config: Config, engine: sa.Engine | None = None) -> str:
    """Give the address of the server that this configuration starts, as clients use it.

    Where it says nothing about it, an open database knows what flags the last `serve` was given (`management/address.py`).
    """
    server = config.server
    if server.public_url is not None:
        return server.public_url
    told = None if engine is None or (server.host, server.port) != _USUAL else served_url(engine)
    return told or local_origin(server.host, server.port, tls=server.tls_cert is not None)


def addresses(config: Config, engine: sa.Engine | None = None) -> Addresses:
    """Give the addresses of that server for clients and for people, which are one unless management has its own.

    What the configuration does not say about the second, such as a port 0 or what only `serve` was told, an open database knows too.
    """
    server, clients = config.server, origin(config, engine)
    if server.admin_url is not None:
        return Addresses(clients, server.admin_url)
    listen = server.admin_listen
    told = None if engine is None or (listen is not None and listen.port != 0) else served_admin_url(engine)
    if told is None and listen is not None:
        told = local_origin(*listen, tls=server.tls_cert is not None)
    return Addresses(clients, told or clients)


def existing(config: Config) -> Database:
    """Find the database. Raises StoreUnavailable when it is not there yet or away, StoreMismatch at another schema."""
    database = database_of(config.database.url)
    state = schema_state(database)
    if state == "empty":
        raise StoreUnavailable(
            f"there is no database at {database.shown} yet",
            remedy="run `modelgates init`, or name another --data-dir or --database-url",
        )
    if state == "old":
        raise StoreMismatch(f"the database {database.shown} has an older schema", remedy="run `modelgates db upgrade`")
    if state == "newer":
        raise newer(database)
    return database


@contextmanager
def translated() -> Iterator[None]:
    """Database errors as StoreUnavailable, whoever raised them."""
    try:
        yield
    except (sqlite3.Error, sa.exc.DBAPIError) as error:
        raise StoreUnavailable(f"the database cannot serve: {getattr(error, 'orig', error)}") from error


@contextmanager
def opened(options: Options, *, with_keys: bool = False) -> Iterator[Workplace]:
    """Open a place to change things, in the organisation that the options mean.

    Raises ConfigError, StoreUnavailable, StoreMismatch, NotFound when there is no such organisation.
    """
    config = configured(options, with_keys=with_keys)
    with translated():
        database = existing(config)
        engine = open_engine(database)
        try:
            organization_id = find_organization(engine)
            if organization_id is None:
                raise StoreUnavailable(
                    f"the database {database.shown} is not initialised yet", remedy="run `modelgates init`"
                )
            if options.organization is not None:
                organization_id = organizations.find_organization(engine, options.organization).id
            pepper = load_secret(config, create=False)
            verify_secret(engine, pepper)
            yield Workplace(config, database, engine, pepper, organization_id, SystemClock().now_s())
        finally:
            engine.dispose()


@contextmanager
def lookups(options: Options) -> Iterator[Lookups]:
    """Open a place to look things up, without the secret. Raises ConfigError, StoreUnavailable, StoreMismatch."""
    with translated():
        reader = Lookups(existing(configured(options)))
        try:
            yield reader
        finally:
            reader.close()


def find_organization(engine: sa.Engine) -> str | None:
    """Find the organisation of this installation; None before `init`."""
    known = schema.organizations.c
    with reading(engine) as connection:
        return connection.execute(sa.select(known.id).order_by(known.created_at_s)).scalars().first()
