"""Every setting, once: its section, name, kind, default and meaning. Reading, checking, hints and docs follow this."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from modelgates_server.catalogue.kinds import bundled_kinds, load_kinds
from modelgates_server.config.alerts import (
    email_address,
    email_addresses,
    hook_address,
    percent_items,
    percents,
    smtp_address,
)
from modelgates_server.config.listen import listen_address
from modelgates_server.config.sign_in import domains, issuer_address, scopes
from modelgates_server.errors import BadRequest
from modelgates_server.money import nusd_from_usd

SECONDS_MAX = 86_400
"""A day: a longer wait is a mistake in units."""


class Kind(NamedTuple):
    """How a value is written. `check` takes what TOML gave and `parse` turns an environment variable's text into that.

    Both raise ValueError with the rest of the sentence "must be …".
    """

    expected: str
    check: Callable[[Any], Any]
    parse: Callable[[str], Any] = str


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError("text on one line")
    return value.strip()


def _whole(low: int, high: int, expected: str) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError(expected)
        return value

    return check


def _seconds(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or not 0 < value <= SECONDS_MAX:
        raise ValueError("a number of seconds above 0 and at most 86400, such as 10")
    return float(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")  # noqa: TRY004 - one kind of error for every bad value
    return value


def _usd(value: Any) -> int:
    try:
        return nusd_from_usd(value if isinstance(value, str) else "")
    except BadRequest as error:
        raise ValueError('an amount in USD written as text, such as "100" or "12.50"') from error


def _slugs(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) and SLUG.fullmatch(item) for item in value):
        raise ValueError('a list of provider slugs, such as ["anthropic"]')
    return tuple(dict.fromkeys(value))


def _destinations(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) and _is_destination(item) for item in value):
        raise ValueError('a list of networks and host names, such as ["10.1.0.0/16", "hooks.internal"]')
    return tuple(dict.fromkeys(item.lower() for item in value))


def _networks(value: Any) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    try:
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(dict.fromkeys(map(ipaddress.ip_network, value)))
    except ValueError:
        pass
    raise ValueError('a list of networks, such as ["10.1.0.0/16", "192.0.2.7"]')


def _is_destination(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return re.fullmatch(r"[A-Za-z0-9.-]{1,253}", text) is not None and not re.fullmatch(r"[0-9.]+", text)
    return True


def web_address(value: Any) -> str:
    """Check an http or https address without user or query; a trailing slash is removed. Raises ValueError."""
    text = value.strip().rstrip("/") if isinstance(value, str) else ""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not re.fullmatch(r"[!-~]+", text) or "?" in text or "#" in text:
        raise ValueError("an address that begins with http:// or https://, without query or fragment")
    if "@" in parts.netloc:
        raise ValueError("an address without user name or password")
    return text


def _number(text: str) -> Any:
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        return text


def _truth(text: str) -> Any:
    return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(
        text.strip().lower(), text
    )


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")

TEXT = Kind("text", _text)
PORT = Kind("port", _whole(0, 65_535, "a port number from 0 to 65535"), _number)
COUNT = Kind("whole number", _whole(1, 1_024, "a whole number from 1"), _number)
ATTEMPTS = Kind("whole number", _whole(1, 10, "a whole number from 1 to 10"), _number)
SECONDS = Kind("seconds", _seconds, _number)
FLAG = Kind("true or false", _flag, _truth)
USD = Kind("USD as text", _usd)
SLUGS = Kind("list of slugs", _slugs, _items)
DESTINATIONS = Kind("list of networks and names", _destinations, _items)
NETWORKS = Kind("list of networks", _networks, _items)
ADDRESS = Kind("address", web_address)
LISTEN = Kind("host:port", listen_address)
EMAIL = Kind("e-mail address", email_address)
EMAILS = Kind("list of e-mail addresses", email_addresses, _items)
SMTP = Kind("mail server", smtp_address)
HOOK = Kind("address", hook_address)
ISSUER = Kind("address", issuer_address)
SCOPES = Kind("list of scopes", scopes, _items)
DOMAINS = Kind("list of mail domains", domains, _items)
PERCENTS = Kind("list of percents", percents, percent_items)
FILE = Kind("file", lambda value: Path(_text(value)))


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. `default` is written as TOML would give it; None means that there is none."""

    section: str
    name: str
    kind: Kind
    default: Any
    help: str
    field: str = ""

    @property
    def environment(self) -> str:
        """The environment variable that sets it too."""
        return f"MODELGATES_{self.section}_{self.name}".upper()


SETTINGS = (
    Setting("server", "host", TEXT, "127.0.0.1", "Address to listen on; 0.0.0.0 for every interface."),
    Setting("server", "port", PORT, 8787, "Port to listen on; 0 takes any free one."),
    Setting("server", "public_url", ADDRESS, None,
            "The address that people and clients use, when it differs from host and port; clients only, with admin_listen."),
    Setting("server", "admin_listen", LISTEN, None,
            "A second address (127.0.0.1:8788, [::1]:8788) where console, management API and metrics are then, and nowhere else."),
    Setting("server", "admin_url", ADDRESS, None, "The address of the console, when it differs from admin_listen."),
    Setting("server", "drain_s", SECONDS, 30, "How long running requests may take to finish when the server stops."),
    Setting("server", "workers", COUNT, 1, "Serving processes; SQLite allows one."),
    Setting("server", "tls_cert", FILE, None, "Certificate chain (PEM) for https; needs tls_key."),
    Setting("server", "tls_key", FILE, None, "Private key (PEM) for https; needs tls_cert."),
    Setting("server", "outbound_allow", DESTINATIONS, [],
            "Private networks and host names that webhooks may be sent to; public addresses need no entry."),
    Setting("server", "trusted_proxies", NETWORKS, [],
            "Your reverse proxies: their X-Forwarded-For is believed, so that wrong passwords slow down who sends them, not everybody."),
    Setting("database", "url", TEXT, None, "Where rows are kept. [default: SQLite, in the data directory]"),
    Setting("credits", "initial_grant_usd", USD, "100", "Credit of a new installation, granted once.",
            field="initial_grant_nusd"),
    Setting("credits", "api_grants", FLAG, False,  # noqa: FBT003
            "Whether management keys may add credit over the API, and admins of every organization in the console; otherwise this"
            " machine's commands do, and admins of the first organization in the console."),
    Setting("routing", "order", SLUGS, ["anthropic", "claude-on-aws", "bedrock", "vertex", "foundry"],
            "Which provider is tried first, by slug; those not named follow in the order of the file."),
    Setting("routing", "attempts_max", ATTEMPTS, 5, "Most attempts for one request, over all providers."),
    Setting("routing", "cool_s_max", SECONDS, 300, "Longest time for which a provider that failed is passed over."),
    Setting("routing", "retry_pause_s", SECONDS, 0.5,
            "About how long the last provider left is given before it is asked once more after a hiccup."),
    Setting("routing", "connect_s", SECONDS, 5, "Longest wait for a connection to a provider."),
    Setting("routing", "first_ping_s", SECONDS, 10, "A stream without content is opened with a ping after this."),
    Setting("routing", "ping_s", SECONDS, 15, "Pause between later pings in a silent stream."),
    Setting("routing", "first_byte_s", SECONDS, 120, "Longest wait for a provider's first content, before the next."),
    Setting("routing", "answer_s", SECONDS, 600, "Longest wait for a whole answer, when it is not streamed."),
    Setting("routing", "idle_s", SECONDS, 300, "Longest silence of a provider in the middle of an answer."),
    Setting("routing", "total_s", SECONDS, 3600, "Longest duration of one request."),
    Setting("routing", "hold_wait_s", SECONDS, 2, "Longest wait for other requests to give reserved money back."),
    Setting("routing", "clamp", FLAG, True, "Lower max_tokens to what the budget affords instead of refusing."),  # noqa: FBT003
    Setting("catalogue", "models", FILE, None, "Your own models and prices (JSON): changes single entries of the bundled data."),
    Setting("catalogue", "providers", FILE, None, "The same for kinds of providers: what each takes and refuses."),
    Setting("alerts", "thresholds", PERCENTS, [50, 80, 95, 100],
            "Percent of a limit at which an organization is told, unless it chose its own."),
    Setting("alerts", "webhook_url", HOOK, None, "Where every organization's alerts are posted to, signed."),
    Setting("alerts", "webhook_secret", TEXT, None, "Signs them: env:NAME, file:PATH, or the secret itself, which is warned about."),
    Setting("alerts", "email_to", EMAILS, [], "Who gets every organization's alerts by mail."),
    Setting("alerts", "email_from", EMAIL, None, "The sender of all mail."),
    Setting("alerts", "smtp_url", SMTP, None,
            "The mail server: smtps://user@host:465 (TLS) or smtp://user@host:587 (STARTTLS; in the clear on this machine only)."),
    Setting("alerts", "smtp_password", TEXT, None, "Its password: env:NAME, file:PATH, or the password itself."),
    Setting("sign_in", "password", FLAG, True, "Whether people may sign in with a password; links work in any case."),  # noqa: FBT003
    Setting("sign_in", "oidc_issuer", ISSUER, None,
            "The identity provider (OpenID Connect) where people sign in; its redirect address is public_url (admin_url, with"
            " admin_listen) and /sign-in/oidc/callback."),
    Setting("sign_in", "oidc_client_id", TEXT, None, "What the provider calls this gateway."),
    Setting("sign_in", "oidc_client_secret", TEXT, None,
            "The client's secret: env:NAME, file:PATH, or the secret itself, which is warned about. A public client has none."),
    Setting("sign_in", "oidc_scopes", SCOPES, ["openid", "email", "profile"], "What the provider is asked for."),
    Setting("sign_in", "oidc_join_domains", DOMAINS, [],
            "Whose verified address is in one of these becomes a member on the first sign-in; others must be members or invited."),
    Setting("sign_in", "oidc_name", TEXT, "single sign-on", "What the button calls the provider, after the words: Sign in with."),
)  # fmt: skip

NOT_BUILT = {"privacy": "switching on the storage of prompts for everybody (each workspace opts in for itself)"}
"""Sections of the design that this version does not have: refused, because silence would look like consent."""

OTHER_VARIABLES = ("MODELGATES_SECRET", "MODELGATES_CONFIG", "MODELGATES_DATA_DIR")
"""Variables that are no setting of the file, because the file or the data directory depends on them."""

PROVIDER_COMMON = {
    "slug": "The name that routing and people use. [default: the kind]",
    "kind": "What it is; see the table below.",
    "models": "Our model id or slug = the provider's own name for it, such as a deployment or an ARN.",
    "price_multiplier": 'What it asks, as a multiple of the list price, written as text. [default: "1"]',
    "zdr": "Whether you have its word that it keeps nothing. [default: by kind]",
    "data_collection": "allow or deny: whether it may keep prompts, or train on them. [default: by kind]",
    "max_output_tokens": "Most output tokens that this provider is asked for; quotas may count what is asked.",
}
"""What every `[[providers]]` table may hold."""

PROVIDER_KEYS = PROVIDER_COMMON | {
    "base_url": "Its address, when it is not the kind's usual one; a trailing slash or a pasted /v1 is removed.",
    "api_key": "env:NAME, file:PATH (relative to this file), or the key itself, which is warned about.",
    "key_header": "Which header carries the key: x-api-key, bearer or both. [default: x-api-key]",
    "admin_key": "An admin key, written like api_key: the provider's usage and cost report is compared with the books daily.",
    "region": "The cloud's region, such as us-east-1; global, us and eu exist at Google.",
    "project": "The Google project that pays.",
    "workspace_id": "The Anthropic workspace, or the Bedrock project.",
    "profile": "A profile of the AWS configuration, instead of the usual chain of credentials.",
    "inference_profile": 'First word of the inference profiles: global, us, eu, …; "" for none. [default: "global"]',
    "resource": "The name of the Foundry resource.",
    "hosting": "Who runs the deployments: anthropic or azure. [default: anthropic]",
    "credentials": "A file with Google credentials, relative to this file, instead of the application-default ones.",
    "tenant_id": "The Entra tenant of a workload identity.",
    "client_id": "The client id of a managed or workload identity.",
}
"""What a `[[providers]]` table may hold, whatever its kind."""


def settings_reference() -> str:
    """Write the reference of all settings as Markdown, for the docs."""
    out = []
    for section in dict.fromkeys(setting.section for setting in SETTINGS):
        out += [
            f"## `[{section}]`",
            "",
            "| setting | kind | default | environment | meaning |",
            "|---|---|---|---|---|",
        ]
        out += [_line(setting) for setting in SETTINGS if setting.section == section]
        out.append("")
    out += ["## `[[providers]]`", "", "| setting | meaning |", "|---|---|"]
    out += [f"| `{name}` | {meaning} |" for name, meaning in PROVIDER_KEYS.items()]
    out += ["", *_kinds_table()]
    out += ["", "Further environment variables: " + ", ".join(f"`{name}`" for name in OTHER_VARIABLES) + ".", ""]
    return "\n".join(out)


def _kinds_table() -> list[str]:
    """What each kind takes, from the bundled data; what it needs is in bold."""
    out = ["| kind | is | takes | found without a table by |", "|---|---|---|---|"]
    kinds = load_kinds(bundled_kinds())
    for kind in map(kinds.find, kinds.words):
        takes = [
            f"**`{name}`**" if name in kind.required else f"`{name}`" for name in kind.settings if name != "base_url"
        ]
        if "base_url" in kind.required:
            takes.append("**`base_url`**")
        sets = [" + ".join(f"`{name}`" for name in names) for names in kind.environment]
        out.append(f"| `{kind.word}` | {kind.name} | {', '.join(takes)} | {' or '.join(sets)} |")
    return out


def _line(setting: Setting) -> str:
    default = "" if setting.default is None else f"`{_toml(setting.default)}`"
    return f"| `{setting.name}` | {setting.kind.expected} | {default} | `{setting.environment}` | {setting.help} |"


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value).lower()
