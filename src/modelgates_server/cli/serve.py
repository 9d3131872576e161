"""`serve`: prepare the database, tell the owner what a client needs, serve."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from modelgates_server import app
from modelgates_server.cli.address import Addresses
from modelgates_server.cli.frame import Options, warn
from modelgates_server.cli.local import addresses, configured
from modelgates_server.cli.output import encode
from modelgates_server.cli.setup import prepare
from modelgates_server.cli.welcome import SANDBOX_NOTICE, Credentials, ready, welcome
from modelgates_server.cli.welcome import addresses as told
from modelgates_server.doctor.address import PLAIN_HTTP, PLAIN_HTTP_REMEDY, base_url, is_loopback
from modelgates_server.errors import StoreError
from modelgates_server.management.address import note_served_url
from modelgates_server.privacy import configure_logging
from modelgates_server.storage.engine import database_of, open_engine

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelgates_server.config import Config


PLAIN_CONSOLE: Final = (
    "the console is served to other machines over plain http: passwords and sessions travel unprotected"
)
PLAIN_CONSOLE_REMEDY: Final = (
    "give serve --tls-cert and --tls-key, or put a TLS proxy in front and set [server] admin_url"
)


def serve(options: Options, flags: Mapping[str, object]) -> int:
    """Serve until told to stop; the exit code. Raises ConfigError, StoreError."""
    config = configured(options, {f"server.{name}": value for name, value in flags.items()}, with_keys=True)
    configure_logging("INFO")
    if _exposed(config):
        warn(f"{PLAIN_HTTP}. Remedy: {PLAIN_HTTP_REMEDY}.")
    if _console_exposed(config):
        warn(f"{PLAIN_CONSOLE}. Remedy: {PLAIN_CONSOLE_REMEDY}.")
    announcement = _Announcement(config, prepare(config, link=False), as_json=options.as_json)
    try:
        return app.serve(config, announcement.make)
    finally:
        announcement.rescue(addresses(config))


def _exposed(config: Config) -> bool:
    """Whether other machines would be served over plain http."""
    public = config.server.public_url
    secure = config.server.tls_cert is not None or (public is not None and public.startswith("https://"))
    return not secure and not is_loopback(config.server.host)


def _console_exposed(config: Config) -> bool:
    """Whether people on other machines would sign in over plain http at an address of their own."""
    server = config.server
    secure = server.tls_cert is not None or (server.admin_url or "").startswith("https://")
    return server.admin_listen is not None and not secure and not is_loopback(server.admin_listen.host)


def _note(config: Config, at: Addresses) -> None:
    """Tell commands where links lead; a database that was lost since it was prepared does not keep from serving."""
    engine = open_engine(database_of(config.database.url))
    try:
        with suppress(StoreError):
            note_served_url(engine, at.clients, at.console if at.apart else None)
    finally:
        engine.dispose()


@dataclass(slots=True)
class _Announcement:
    """Says what the owner must know, once: when the server can be reached, or else when it turns out that it cannot."""

    config: Config
    credentials: Credentials
    as_json: bool
    made: bool = False

    def make(self, served: app.Served) -> None:
        """Print addresses, and on the first start the credentials; last the line that says ready."""
        self.made = True
        at = Addresses(served.url, served.admin_url or served.url)
        self.credentials = self.credentials.at(at.console)
        _note(self.config, at)
        if self.as_json:
            click.echo(encode(self._facts(at, ready=True, sandbox=served.sandbox)))
            return
        if served.sandbox:
            warn(SANDBOX_NOTICE)
        text = told(at) if self.credentials.already_initialised else welcome(at, self.credentials)
        click.echo(f"{text}\n\n{ready(at)}")

    def rescue(self, at: Addresses) -> None:
        """Print new keys also when the server did not start: nobody could ever read them again."""
        if self.made or self.credentials.already_initialised:
            return
        if self.as_json:
            click.echo(encode(self._facts(at, ready=False, sandbox=None)))
        else:
            click.echo(welcome(at, self.credentials) + "\n")

    def _facts(self, at: Addresses, *, ready: bool, sandbox: bool | None) -> dict[str, Any]:
        return {
            "ready": ready,
            "url": at.clients,
            "admin_url": at.console if at.apart else None,
            "base_url": base_url(at.clients),
            "openai_base_url": f"{base_url(at.clients)}/v1",
            "sandbox": sandbox,
            **self.credentials.as_data(),
        }
