"""Putting the configuration together: flags win over the environment, that over the file, the file over defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from modelgates_server.catalogue.kinds import Kinds, bundled_kinds, load_kinds
from modelgates_server.config.alerts import read_alerts
from modelgates_server.config.lines import Where
from modelgates_server.config.providers import read_providers
from modelgates_server.config.settings import NOT_BUILT, OTHER_VARIABLES, SETTINGS, Setting
from modelgates_server.config.sign_in import read_sign_in
from modelgates_server.config.source import Source, hint, nearest, read_source
from modelgates_server.config.values import (
    Catalogue,
    Config,
    Credits,
    Database,
    ProviderConfig,
    Routing,
    Secret,
    Server,
)
from modelgates_server.errors import ConfigError

_SECTIONS = ("server", "database", "credits", "routing", "catalogue", "alerts", "sign_in")
_NO_OVERRIDES: Mapping[str, object] = MappingProxyType({})


def load_config(  # noqa: PLR0913 - where a configuration can come from
    config_path: Path | None,
    data_dir: Path | None,
    database_url: str | None,
    environ: Mapping[str, str],
    cwd: Path,
    overrides: Mapping[str, object] = _NO_OVERRIDES,
    *,
    with_keys: bool = True,
) -> Config:
    """Read the configuration (design section 6).

    `overrides` are flags, as ``{"server.port": 8080}``; None means that the flag was not given. `data_dir` defaults to
    ``./modelgates-data`` and `config_path` to ``./modelgates.toml`` if there is one. `with_keys` is for whoever calls
    providers: the others must work where the providers' keys are not to be had. Raises ConfigError, with the line.
    """
    environ = _without_empty(environ)
    source = read_source(_config_path(config_path, environ, cwd), cwd, environ)
    _refuse_unknown(source)
    warnings = _variable_warnings(environ)
    flags = {**overrides, "database.url": database_url if database_url is not None else overrides.get("database.url")}
    values: dict[str, dict[str, Any]] = {section: {} for section in _SECTIONS}
    for setting in SETTINGS:
        values[setting.section][setting.field or setting.name] = _value(setting, source, flags)
    folder = cwd / (data_dir or Path(environ.get("MODELGATES_DATA_DIR") or "modelgates-data"))
    values["database"]["url"] = _database_url(values["database"]["url"], folder)
    catalogue = Catalogue(**{name: _data_file(source, name, path, cwd) for name, path in values["catalogue"].items()})
    kinds = _kinds(catalogue.providers)
    providers = read_providers(source, source.values.get("providers"), kinds, warnings, with_keys=with_keys)
    config = Config(
        source=source.path,
        data_dir=folder,
        server=Server(**values["server"]),
        database=Database(**values["database"]),
        credits=Credits(**values["credits"]),
        routing=Routing(**values["routing"]),
        catalogue=catalogue,
        alerts=read_alerts(values["alerts"], source, warnings, with_keys=with_keys),
        sign_in=read_sign_in(values["sign_in"], source, warnings, with_keys=with_keys),
        kinds=kinds,
        providers=providers,
        secret=Secret(environ["MODELGATES_SECRET"]) if "MODELGATES_SECRET" in environ else None,
        warnings=(*warnings, *_order_warnings(values["routing"]["order"], providers, kinds)),
    )
    _check_server(config.server, config.database.url)
    return config


def _without_empty(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without settings that are empty: a compose file passes on what nobody set like that."""
    ours = {setting.environment for setting in SETTINGS}
    return {name: value for name, value in environ.items() if name not in ours or value.strip()}


def _config_path(named: Path | None, environ: Mapping[str, str], cwd: Path) -> Path | None:
    chosen = named or (Path(environ["MODELGATES_CONFIG"]) if environ.get("MODELGATES_CONFIG") else None)
    if chosen is None:
        usual = cwd / "modelgates.toml"
        return usual if usual.is_file() else None
    path = cwd / chosen
    if not path.is_file():
        raise ConfigError(
            f"there is no configuration file {path}", remedy="name an existing file, or leave --config out"
        )
    return path


def _refuse_unknown(source: Source) -> None:
    known: dict[str, list[str]] = {}
    for setting in SETTINGS:
        known.setdefault(setting.section, []).append(setting.name)
    for section, table in source.values.items():
        if section == "providers":
            continue
        if section in NOT_BUILT:
            if table == {}:
                continue  # an empty section asks for nothing
            told = f"[{section}] is not built yet: {NOT_BUILT[section]}"
            raise source.error((section,), told, "remove it; a later version will have it")
        if section not in known:
            raise source.error((section,), f"unknown section [{section}]", hint(section, [*known, "providers"]))
        if not isinstance(table, dict):
            raise source.error((section,), f"{section} must be a section, written [{section}]")
        for name in table:
            if name not in known[section]:
                remedy = hint(name, known[section]) or f"[{section}] knows {', '.join(known[section])}"
                raise source.error((section, name), f"unknown setting {name!r} in [{section}]", remedy)


def _value(setting: Setting, source: Source, flags: Mapping[str, object]) -> Any:
    """Give the setting's value from the strongest source that has one. Raises ConfigError naming that source."""
    flag = flags.get(f"{setting.section}.{setting.name}")
    path: Where = (setting.section, setting.name)
    if flag is not None:
        value, where = str(flag) if isinstance(flag, Path) else flag, f"--{setting.name.replace('_', '-')}"
    elif setting.environment in source.environ:
        value, where = setting.kind.parse(source.environ[setting.environment]), setting.environment
    elif setting.name in source.values.get(setting.section, {}):
        value, where = source.values[setting.section][setting.name], ""
    elif setting.default is None:
        return None
    else:
        value, where = setting.default, "the default"
    try:
        return setting.kind.check(value)
    except ValueError as error:
        if where:
            raise ConfigError(f"{where} must be {error}") from error
        raise source.error(path, f"{setting.name} must be {error}, not {_shown(value)}") from error


def _shown(value: object) -> str:
    words = {bool: "a truth value", int: "a number", float: "a number", str: "text", list: "a list", dict: "a table"}
    return (
        f"{words.get(type(value), 'that')} ({str(value)[:40]!r})"
        if isinstance(value, str | int | float)
        else words.get(type(value), "that")
    )


def _database_url(url: str | None, folder: Path) -> str:
    """The database's address; without one, SQLite in the data directory. PostgreSQL's is taken as written. Raises ConfigError."""
    if url is None:
        return f"sqlite:///{folder / 'modelgates.db'}"
    scheme = url.partition(":")[0].partition("+")[0]
    if scheme in ("postgresql", "postgres") and "://" in url:
        return url
    if not url.startswith("sqlite:///") or url in ("sqlite:///", "sqlite:///:memory:"):
        raise ConfigError(
            f"the database must be a SQLite file or on PostgreSQL, not {scheme!r}",
            remedy="write sqlite:///path/to/modelgates.db or postgresql://user:password@host/name",
        )
    return url


def _data_file(source: Source, name: str, path: Path | None, cwd: Path) -> Path | None:
    """The operator's own data file: relative to the file that names it. Raises ConfigError when it is not there."""
    if path is None:
        return None
    variable = f"MODELGATES_CATALOGUE_{name}".upper()
    if variable in source.environ:
        found = cwd / path
        if not found.is_file():
            raise ConfigError(f"{variable}: there is no file {found}")
    else:
        found = source.folder / path
        if not found.is_file():
            raise source.error(("catalogue", name), f"there is no file {found}")
    return found


def _kinds(overrides: Path | None) -> Kinds:
    """What is known about kinds of providers. Raises ConfigError."""
    if overrides is None:
        return load_kinds(bundled_kinds())
    try:
        return load_kinds(bundled_kinds(), overrides.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read {overrides}: {error.strerror}") from error
    except ConfigError as error:
        raise ConfigError(f"{overrides}: {error.message}", remedy=error.remedy) from error


def _check_server(server: Server, database_url: str) -> None:
    if server.workers > 1 and not database_url.startswith("postgres"):
        raise ConfigError(
            "more than one worker needs PostgreSQL: SQLite is served by one process",
            remedy="leave --workers at 1 (one process serves hundreds of concurrent streams), or set [database] url",
        )
    if (server.tls_cert is None) != (server.tls_key is None):
        raise ConfigError("https needs both a certificate and its key", remedy="give --tls-cert and --tls-key together")
    for path in (server.tls_cert, server.tls_key):
        if path is not None and not path.is_file():
            raise ConfigError(f"there is no file {path}", remedy="give --tls-cert and --tls-key as existing PEM files")
    _check_admin(server)


def _check_admin(server: Server) -> None:
    """Two planes have two ports: one that differs in its host only would be taken for the other."""
    if server.admin_listen is None:
        if server.admin_url is not None:
            raise ConfigError(
                "[server] admin_url needs admin_listen: without it the console is at public_url",
                remedy='set [server] admin_listen too, such as "127.0.0.1:8788", or remove admin_url',
            )
    elif server.admin_listen.port == server.port != 0:
        raise ConfigError(
            f"[server] admin_listen has the port of the main address, {server.port}",
            remedy=f"choose another port, such as {server.port % 65_535 + 1}, or leave admin_listen out",
        )


def _variable_warnings(environ: Mapping[str, str]) -> list[str]:
    """One warning per MODELGATES_ variable that means nothing; a closely misspelt one is told what was meant."""
    known = {setting.environment for setting in SETTINGS} | set(OTHER_VARIABLES)
    unknown = sorted(name for name in environ if name.startswith("MODELGATES_") and name not in known)
    return [f"the environment variable {name} means nothing here{_meant(name, known)}" for name in unknown]


def _meant(name: str, known: set[str]) -> str:
    close = nearest(name, known, cutoff=0.85)  # they all begin alike
    return f"; did you mean {close}?" if close else ""


def _order_warnings(order: Sequence[str], providers: Sequence[ProviderConfig], kinds: Kinds) -> list[str]:
    slugs = [provider.slug for provider in providers]
    usual = {*slugs, *kinds.words}
    return [
        f"[routing] order names {slug!r}, but no provider has that slug"
        + (f"; {close}" if (close := hint(slug, slugs)) else "")
        for slug in order
        if slug not in usual
    ]
