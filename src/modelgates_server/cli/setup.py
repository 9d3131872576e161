"""`init`: the database, the first administrator, the first keys and the initial credit, once per database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelgates_server.cli.frame import Options, Report
from modelgates_server.cli.local import addresses, configured, find_organization, translated
from modelgates_server.cli.output import facts
from modelgates_server.cli.welcome import Credentials, welcome
from modelgates_server.clock import SystemClock
from modelgates_server.management.address import sign_in_url
from modelgates_server.management.setup import initialise
from modelgates_server.storage.engine import database_of, open_engine
from modelgates_server.storage.maintenance import upgrade, verify_secret
from modelgates_server.vault.secret import load_secret

if TYPE_CHECKING:
    from modelgates_server.config import Config


def init(options: Options) -> Report:
    """Make what is missing; give a fresh sign-in link in any case."""
    config = configured(options)
    credentials = prepare(config)
    text = welcome(credentials.addresses, credentials)
    if credentials.already_initialised:
        text = "This database was initialised before; its keys stay as they are.\n\n" + facts(
            (
                ("Console", credentials.addresses.console),
                ("Sign in", f"{credentials.sign_in_url}  (once, within 24 hours)"),
            )
        )
    return Report(credentials.as_data(), text)


def prepare(config: Config, *, link: bool = True) -> Credentials:
    """Bring the database to the current schema and initialise it, if that was not done before.

    Without `link`, a database that is ready gets no new sign-in link: a server that starts again makes none.
    """
    with translated():
        database = database_of(config.database.url)
        upgrade(database)
        engine = open_engine(database)
        try:
            organization_id = find_organization(engine)
            pepper = load_secret(config, create=organization_id is None)
            if organization_id is not None and not link:
                verify_secret(engine, pepper)
                return Credentials(organization_id, None, None, None, already_initialised=True)
            made = initialise(engine, pepper, config.credits.initial_grant_nusd, SystemClock().now_s())
            at = addresses(config, engine)
        finally:
            engine.dispose()
    return Credentials(
        organization_id=made.organization_id,
        api_key=made.api_key,
        management_key=made.management_key,
        sign_in_url=sign_in_url(at.console, made.sign_in_token),
        already_initialised=made.already,
        addresses=at,
    )
