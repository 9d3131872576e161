"""`serve`: prepare the database, tell the owner what a client needs, serve."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from modelgates_server import app
from modelgates_server.cli.frame import Options, warn
from modelgates_server.cli.local import configured, origin
from modelgates_server.cli.output import encode
from modelgates_server.cli.setup import prepare
from modelgates_server.cli.welcome import SANDBOX_NOTICE, Credentials, addresses, welcome
from modelgates_server.doctor.address import PLAIN_HTTP, PLAIN_HTTP_REMEDY, base_url, is_loopback
from modelgates_server.errors import StoreError
from modelgates_server.management.address import note_served_url
from modelgates_server.privacy import configure_logging
from modelgates_server.storage.engine import database_of, open_engine

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelgates_server.config import Config


def serve(options: Options, flags: Mapping[str, object]) -> int:
    """Serve until told to stop; the exit code. Raises ConfigError, StoreError."""
    config = configured(options, {f"server.{name}": value for name, value in flags.items()}, with_keys=True)
    configure_logging("INFO")
    if _exposed(config):
        warn(f"{PLAIN_HTTP}. Remedy: {PLAIN_HTTP_REMEDY}.")
    announcement = _Announcement(config, prepare(config, link=False), as_json=options.as_json)
    try:
        return app.serve(config, announcement.make)
    finally:
        announcement.rescue(origin(config))


def _exposed(config: Config) -> bool:
    """Whether other machines would be served over plain http."""
    public = config.server.public_url
    secure = config.server.tls_cert is not None or (public is not None and public.startswith("https://"))
    return not secure and not is_loopback(config.server.host)


def _note(config: Config, url: str) -> None:
    """Tell commands where links lead; a database that was lost since it was prepared does not keep from serving."""
    engine = open_engine(database_of(config.database.url))
    try:
        with suppress(StoreError):
            note_served_url(engine, url)
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
        self.credentials = self.credentials.at(served.url)
        _note(self.config, served.url)
        if self.as_json:
            click.echo(encode(self._facts(served.url, ready=True, sandbox=served.sandbox)))
            return
        if served.sandbox:
            warn(SANDBOX_NOTICE)
        text = addresses(served.url) if self.credentials.already_initialised else welcome(served.url, self.credentials)
        click.echo(f"{text}\n\nModelGates is ready at {served.url}")

    def rescue(self, address: str) -> None:
        """Print new keys also when the server did not start: nobody could ever read them again."""
        if self.made or self.credentials.already_initialised:
            return
        if self.as_json:
            click.echo(encode(self._facts(address, ready=False, sandbox=None)))
        else:
            click.echo(welcome(address, self.credentials) + "\n")

    def _facts(self, address: str, *, ready: bool, sandbox: bool | None) -> dict[str, Any]:
        return {
            "ready": ready,
            "url": address,
            "base_url": base_url(address),
            "openai_base_url": f"{base_url(address)}/v1",
            "sandbox": sandbox,
            **self.credentials.as_data(),
        }
