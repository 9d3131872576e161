"""`doctor`: whether this installation is well, and whether a gateway answers as Claude clients expect.

Local checks are a table of small functions over the configuration; a client's visit to a gateway is in the package `doctor`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import click

from modelgates_server.cli.frame import EXIT_FAILED, Options, Report
from modelgates_server.cli.local import configured, existing, origin, translated
from modelgates_server.cli.output import clean, dollars
from modelgates_server.cli.provider_checks import provider_checks
from modelgates_server.doctor.address import PLAIN_HTTP, read_address
from modelgates_server.doctor.checks import FROM_OUTSIDE
from modelgates_server.doctor.finding import GREEN, RED, YELLOW, Check, Finding
from modelgates_server.doctor.visit import make_visit
from modelgates_server.errors import ConfigError, ModelGatesError
from modelgates_server.ledger.credit import CREDIT_STANDING, credit_meter
from modelgates_server.money import NUSD_PER_USD
from modelgates_server.storage.engine import Database, database_of, open_engine
from modelgates_server.storage.maintenance import schema_state, verify_secret
from modelgates_server.storage.reader import Lookups
from modelgates_server.vault.secret import load_secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelgates_server.config import Config

_COLOURS: Final = {GREEN: "green", YELLOW: "yellow", RED: "red"}

LOW_NUSD: Final = NUSD_PER_USD
"""Below one dollar a single long request may no longer fit."""


def doctor(options: Options, url: str | None, key: str | None) -> Report:
    """Check a gateway from outside when `url` is given, else this installation and its server if it runs."""
    if url is not None:
        address = read_address(url)
        checks = [Check("base URL", YELLOW, note, remedy) for note, remedy in address.notes]
        checks += asyncio.run(make_visit(address, key, FROM_OUTSIDE))
    else:
        checks = _local(options, key)
    ok = all(check.status != RED for check in checks)
    data = {"ok": ok, "checks": [check.as_data() for check in checks]}
    return Report(data, _as_text(checks), 0 if ok else EXIT_FAILED)


def _local(options: Options, key: str | None) -> list[Check]:
    try:
        config = configured(options, with_keys=True)
    except ConfigError as error:
        return [Check("configuration", RED, error.message, error.remedy)]
    checks = [_run(name, act, config) for name, act in CHECKS]
    return checks + provider_checks(config) + _server(config, key)


def _run(name: str, act: Callable[[Config], Finding], config: Config) -> Check:
    """Run one check; what it raises is its finding."""
    try:
        with translated():
            return Check(name, *act(config))
    except ModelGatesError as error:
        return Check(name, RED, error.message, error.remedy)


def _configuration(config: Config) -> Finding:
    where = str(config.source) if config.source is not None else "defaults and environment, no file"
    if config.warnings:
        return YELLOW, f"{where}; {len(config.warnings)} warnings above", None
    return GREEN, where, None


def _secret(config: Config) -> Finding:
    path, database = config.data_dir / "secret.key", database_of(config.database.url)
    made = schema_state(database) != "empty"
    if config.secret is None and not path.exists():
        if made:
            return RED, f"{path} is missing, and without it no key works", "restore it from your backup"
        return YELLOW, f"{path} is not there yet", "the first `modelgates init` or `serve` makes it"
    pepper = load_secret(config)
    if made:
        _verify(database, pepper)
    if config.secret is not None:
        return GREEN, "from MODELGATES_SECRET", None
    if path.stat().st_mode & 0o077:
        return RED, f"{path} can be read by others", f"chmod 600 {path}"
    return GREEN, f"{path}, readable by its owner only", None


def _verify(database: Database, pepper: bytes) -> None:
    engine = open_engine(database)
    try:
        verify_secret(engine, pepper)
    finally:
        engine.dispose()


def _database(config: Config) -> Finding:
    database = existing(config)
    reader = Lookups(database)
    try:
        if database.kind == "postgresql":
            told = reader.one("SELECT current_setting('server_version') AS version") or {}
            return GREEN, f"{database.shown}, PostgreSQL {told.get('version')}, schema current", None
        verdict = str(next(iter((reader.one("PRAGMA quick_check(1)") or {"": "no answer"}).values())))
    finally:
        reader.close()
    if verdict != "ok":
        return (
            RED,
            f"{database.shown} is damaged: {verdict}",
            "restore the newest backup; `modelgates db check` tells more",
        )
    return GREEN, f"{database.shown}, schema current", None


def _credit(config: Config) -> Finding:
    reader = Lookups(existing(config))
    try:
        organization = reader.one("SELECT id, name FROM organizations ORDER BY created_at_s")
        if organization is None:
            return RED, "nobody is there yet: no organisation, no key", "run `modelgates init`"
        meter = credit_meter(organization["id"]).row_id(0)
        row = reader.one(CREDIT_STANDING, {"id": meter}) or {"limit": 0, "posted": 0}
    finally:
        reader.close()
    left_nusd = (row["limit"] or 0) - row["posted"]
    if left_nusd <= 0:
        return RED, f"{organization['name']} has no credit left", "modelgates credits grant USD --note TEXT"
    status = YELLOW if left_nusd < LOW_NUSD else GREEN
    remedy = "modelgates credits grant USD --note TEXT" if status == YELLOW else None
    return status, f"{organization['name']} has {dollars(left_nusd)} left", remedy


CHECKS: Final[tuple[tuple[str, Callable[[Config], Finding]], ...]] = (
    ("configuration", _configuration),
    ("secret", _secret),
    ("database", _database),
    ("credit", _credit),
)


def _server(config: Config, key: str | None) -> list[Check]:
    """Tell what the server at the configured address answers; none running is not an illness."""
    here = _here(config)
    if config.server.port == 0 and config.server.public_url is None:
        return [Check("server", YELLOW, "port 0: its address is known only to whoever started it", "doctor --url URL")]
    address = read_address(here)
    checks = asyncio.run(make_visit(address, key, FROM_OUTSIDE))
    if checks[0].status == RED:
        return [Check("server", YELLOW, f"none answers at {here}", "modelgates serve")]
    plain = [Check("base URL", YELLOW, note, remedy) for note, remedy in address.notes if note == PLAIN_HTTP]
    return plain + [check for check in checks if key is not None or check.name != "key"]


def _here(config: Config) -> str:
    """Where the server is, as far as anybody here knows."""
    try:
        with translated():
            engine = open_engine(existing(config))
            try:
                return origin(config, engine)
            finally:
                engine.dispose()
    except ModelGatesError:
        return origin(config)


def _as_text(checks: list[Check]) -> str:
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        mark = click.style(f"{check.mark:<4}", fg=_COLOURS[check.status], bold=check.status == RED)
        took = f"{check.ms:>6,} ms" if check.ms is not None else " " * 9
        lines.append(f"{mark}  {check.name:<{width}}  {took}  {clean(check.detail)}")
        if check.remedy:
            lines.append(f"{'':<4}  {'':<{width}}  {'':<9}  remedy: {clean(check.remedy)}")
    return "\n".join(lines)
