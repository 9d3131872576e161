"""An alert as the receivers of each kind of channel get it: a signed POST, or a plain mail. Pure."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any, Final

import msgspec

from modelgates_server.alerts.outbox import Kind, Told
from modelgates_server.money import usd_text
from modelgates_server.privacy import visible

SUBJECT_CHARACTERS_MAX: Final = 120
_MAIL: Final = policy.SMTP.clone(max_line_length=200)


def webhook_body(told: Told) -> bytes:
    """Write the body of the POST. Amounts are exact numbers in USD, times RFC 3339 in UTC."""
    alert = told.alert
    content = {
        "id": told.id,
        "type": f"alert.{alert.kind}",
        "created_at": rfc3339(told.created_at_s),
        "organization_id": alert.organization_id,
        "severity": str(alert.severity),
        "message": alert.message,
        "details": shown(alert.details),
    }
    return msgspec.json.encode(content)


def webhook_headers(told: Told, body: bytes, secret: str, now_s: float) -> tuple[tuple[str, str], ...]:
    """Give the headers of the POST: ``t=<unix seconds>,v1=<HMAC-SHA256 of "t.body", hex>``, renewed with each attempt.

    The time is signed too, so that a receiver can refuse what was recorded; the event's id stays, so that it can drop repeats.
    """
    stamp = str(int(now_s))
    return (
        ("content-type", "application/json"),
        ("user-agent", "ModelGates"),
        ("ModelGates-Event-Id", told.id),
        ("ModelGates-Signature", f"t={stamp},v1={sign(secret, stamp, body)}"),
    )


def sign(secret: str, stamp: str, body: bytes) -> str:
    """Give the signature, in hex."""
    return hmac.digest(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hex()


def mail(told: Told, sender: str, recipients: Sequence[str], origin: str, now_s: float) -> EmailMessage:
    """Write the mail: plain text only, so that no name in it can be markup. Raises ValueError for an impossible address.

    Headers are objects of the standard library, which refuses line breaks in them; names had theirs removed before.
    """
    alert = told.alert
    message = EmailMessage(policy=_MAIL)
    message["From"] = Address("ModelGates", addr_spec=sender)
    message["To"] = tuple(Address(addr_spec=recipient) for recipient in recipients)
    message["Subject"] = f"[ModelGates] {_SUBJECTS[alert.kind]}: {visible(alert.message, SUBJECT_CHARACTERS_MAX)}"
    message["Date"] = format_datetime(datetime.fromtimestamp(now_s, UTC))
    message["Message-ID"] = f"<{told.id}@{sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    lines = [alert.message, ""]
    lines += [f"{name}: {value}" for name, value in _facts(alert.details)]
    lines += ["", f"Alert {told.id}, {rfc3339(told.created_at_s)}, from the gateway at {origin}"]
    message.set_content("\n".join(lines) + "\n")
    return message


def shown(details: Mapping[str, Any]) -> dict[str, Any]:
    """Give an alert's details as others read them: ``<name>_nusd`` as ``<name>`` in USD, ``<name>_s`` as a time ``<name>``."""
    return dict(_member(name, value) for name, value in details.items())


def rfc3339(unix_s: int) -> str:
    """Write a time in UTC."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


_SUBJECTS: Final = {
    Kind.BUDGET: "Budget",
    Kind.CREDIT: "Credit",
    Kind.TOPUP: "Top-up",
    Kind.RECONCILIATION: "Reconciliation",
    Kind.TEST: "Test",
}


def _member(name: str, value: Any) -> tuple[str, Any]:
    if name.endswith("_nusd") and value is not None:
        return name.removesuffix("_nusd"), msgspec.Raw(usd_text(value).encode())
    if name.endswith("_at_s"):
        return name.removesuffix("_s"), None if value is None else rfc3339(value)
    return name, value


def _facts(details: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = []
    for name, value in details.items():
        if value is None:
            continue
        if name.endswith("_nusd"):
            facts.append((name.removesuffix("_nusd"), f"{usd_text(value)} USD"))
        elif name.endswith("_at_s"):
            facts.append((name.removesuffix("_s"), rfc3339(value)))
        else:
            facts.append((name, visible(str(value), 200)))
    return [(name.replace("_", " "), value) for name, value in facts]
