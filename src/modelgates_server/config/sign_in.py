"""The section ``[sign_in]``: how people sign in besides by link, and what the settings of an identity provider need of each other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from modelgates_server.config.alerts import is_loopback
from modelgates_server.config.references import read_reference
from modelgates_server.config.source import Source
from modelgates_server.config.values import Secret, SignIn

LIST_MAX: Final = 50

_SCOPE: Final = re.compile(r"[!#-\[\]-~]{1,100}")
"""A scope token (RFC 6749 3.3)."""

_DOMAIN: Final = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{2,63}")


def issuer_address(value: Any) -> str:
    """Check an issuer: https, or http on this machine; it is kept as written, because it is compared as written. Raises ValueError."""
    text = value.strip() if isinstance(value, str) else ""
    try:
        parts = urlsplit(text)
        usable = bool(parts.hostname) and parts.port != 0
        secure = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
    except ValueError:
        usable = secure = False
    if (
        not usable
        or not secure
        or "@" in parts.netloc
        or "?" in text
        or "#" in text
        or not re.fullmatch(r"[!-~]+", text)
    ):
        raise ValueError("the address of an issuer, such as https://login.example.com; plain http only on this machine")
    if parts.path.rstrip("/").endswith("/.well-known/openid-configuration"):
        raise ValueError("the issuer alone, without /.well-known/openid-configuration")
    return text


def scopes(value: Any) -> tuple[str, ...]:
    """Check a list of scopes, which holds openid. Raises ValueError."""
    if (
        isinstance(value, list)
        and len(value) <= LIST_MAX
        and all(isinstance(item, str) and _SCOPE.fullmatch(item) for item in value)
        and "openid" in value
    ):
        return tuple(dict.fromkeys(value))
    raise ValueError('a list of scopes with openid in it, such as ["openid", "email", "profile"]')


def domains(value: Any) -> tuple[str, ...]:
    """Check a list of mail domains; each means itself alone, not what lies below it. Raises ValueError."""
    if isinstance(value, list) and len(value) <= LIST_MAX and all(isinstance(item, str) for item in value):
        found = tuple(dict.fromkeys(item.strip().lower().removeprefix("@") for item in value))
        if all(map(_DOMAIN.fullmatch, found)):
            return found
    raise ValueError('a list of mail domains, such as ["example.com"]')


def read_sign_in(values: Mapping[str, Any], source: Source, warnings: list[str], *, with_keys: bool) -> SignIn:
    """Put the section together. Raises ConfigError for what lacks something that it needs."""
    if values["oidc_issuer"] is None:
        for name in ("oidc_client_id", "oidc_client_secret", "oidc_join_domains"):
            if values[name]:
                told = f"{name} needs oidc_issuer: nobody could be asked"
                raise source.error(("sign_in", name), told, "set oidc_issuer in [sign_in]")
    elif values["oidc_client_id"] is None:
        told = "oidc_issuer needs oidc_client_id: the identity provider knows this gateway by it"
        raise source.error(
            ("sign_in", "oidc_issuer"), told, "register a client there and set oidc_client_id in [sign_in]"
        )
    secret: Secret | None = None
    if with_keys and values["oidc_client_secret"] is not None:
        path, variable = ("sign_in", "oidc_client_secret"), "MODELGATES_SIGN_IN_OIDC_CLIENT_SECRET"
        secret = read_reference(source, path, values["oidc_client_secret"], variable, warnings)
    return SignIn(**{**values, "oidc_client_secret": secret})
