"""The section ``[alerts]``: what each of its values may be, and what they need of each other."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from modelgates_server.config.references import read_reference
from modelgates_server.config.source import Source
from modelgates_server.config.values import Alerts, Secret, Smtp

EMAIL_CHARACTERS_MAX: Final = 254
RECIPIENTS_MAX: Final = 20
SECRET_CHARACTERS_MIN: Final = 22
"""128 bits take 22 letters of base64; an empty or short secret would verify what anybody signs."""

_EMAIL: Final = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")
_SECURITY: Final = {"smtps": ("tls", 465), "smtp": ("starttls", 587)}


def email_address(value: Any) -> str:
    """Check a plain address: no name, no line break, ASCII. Raises ValueError."""
    text = value.strip() if isinstance(value, str) else ""
    if len(text) > EMAIL_CHARACTERS_MAX or not _EMAIL.fullmatch(text):
        raise ValueError("an e-mail address such as alerts@example.com")
    return text


def email_addresses(value: Any) -> tuple[str, ...]:
    """Check a list of addresses. Raises ValueError."""
    try:
        if isinstance(value, list) and len(value) <= RECIPIENTS_MAX:
            return tuple(dict.fromkeys(email_address(item) for item in value))
    except ValueError:
        pass
    raise ValueError(f'a list of at most {RECIPIENTS_MAX} e-mail addresses, such as ["ops@example.com"]')


def percents(value: Any) -> tuple[int, ...]:
    """Check a list of thresholds. Raises ValueError."""
    if not isinstance(value, list) or not all(type(item) is int and 1 <= item <= 100 for item in value):
        raise ValueError("a list of whole numbers from 1 to 100, such as [50, 80, 95, 100]")
    return tuple(sorted(set(value)))


def percent_items(text: str) -> list[Any]:
    """Read thresholds from an environment variable: ``50,80``."""
    return [int(item) if item.strip().isdigit() else item for item in text.split(",") if item.strip()]


def hook_address(value: Any) -> str:
    """Check where events are posted: http or https, with a query if need be, without user and fragment. Raises ValueError."""
    text = value.strip() if isinstance(value, str) else ""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or "@" in parts.netloc or "#" in text or not re.fullmatch(r"[!-~]+", text):
        raise ValueError("an address that begins with http:// or https://, without user name or fragment")
    return text


def smtp_address(value: Any) -> Smtp:
    """Read a mail server's address: ``smtps://user@host:465`` or ``smtp://host:587``. Raises ValueError."""
    text = value.strip() if isinstance(value, str) else ""
    try:
        parts = urlsplit(text)
        security, usual_port = _SECURITY[parts.scheme]
        host, port = parts.hostname or "", parts.port or usual_port
    except (ValueError, KeyError):
        host = ""
    if not host or parts.path not in ("", "/") or parts.query or parts.fragment or not re.fullmatch(r"[!-~]+", text):
        raise ValueError("an address such as smtps://user@mail.example.com:465 or smtp://mail.example.com:587")
    if parts.password is not None:
        raise ValueError("an address without the password; write that as smtp_password")
    if security == "starttls" and is_loopback(host):
        security = "local"
    return Smtp(host, port, security, unquote(parts.username) if parts.username else None)


def read_alerts(values: Mapping[str, Any], source: Source, warnings: list[str], *, with_keys: bool) -> Alerts:
    """Put the section together. Raises ConfigError for what lacks something that it needs."""
    _check(values, source)
    secrets: dict[str, Secret | None] = {}
    for name in ("webhook_secret", "smtp_password"):
        value = values[name] if with_keys else None
        variable = f"MODELGATES_ALERTS_{name}".upper()
        path = ("alerts", name)
        secrets[name] = None if value is None else read_reference(source, path, value, variable, warnings)
    secret = secrets["webhook_secret"]
    if secret is not None and (len(secret.reveal()) < SECRET_CHARACTERS_MIN or len(set(secret.reveal())) < 8):
        weak = "webhook_secret is too weak: it needs at least 128 random bits"
        raise source.error(("alerts", "webhook_secret"), weak, "make one with: openssl rand -hex 32")
    url = values["webhook_url"]
    if url is not None and url.startswith("http://") and not is_loopback(urlsplit(url).hostname or ""):
        warnings.append(f"{url} is plain http off this machine: alerts travel unprotected; use https")
    return Alerts(**{**values, **secrets})


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


_NEEDS: Final = (
    ("webhook_url", "webhook_secret", "receivers could not tell our events from others"),
    ("smtp_url", "email_from", "mail needs a sender"),
    ("email_to", "smtp_url", "mail needs a server"),
)


def _check(values: Mapping[str, Any], source: Source) -> None:
    for name, needed, why in _NEEDS:
        if values[name] and not values[needed]:
            raise source.error(("alerts", name), f"{name} needs {needed}: {why}", f"set {needed} in [alerts]")
    server = values["smtp_url"]
    if server is not None and server.user is not None and not values["smtp_password"]:
        raise source.error(("alerts", "smtp_url"), "smtp_url names a user, and there is no smtp_password")
