"""Routing in words: preferences, faults, and why somebody is out of service. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from modelgates_server.dialects.values import Preferences
from modelgates_server.routing.health import ON_TRIAL
from modelgates_server.routing.verdict import FaultClass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_F = FaultClass
HAPPENED: Final = {
    _F.UNREACHABLE: "could not be reached; nothing was sent",
    _F.STALE: "had closed a connection that was kept open; nothing was accepted",
    _F.RESET: "broke the connection after the request was sent; whether it worked on it is not known",
    _F.TIMEOUT: "gave no content in the time it has; whether it worked on it is not known",
    _F.RATE_LIMIT: "was at its rate limit",
    _F.RAMP: "refused because the traffic there grew too fast",
    _F.QUOTA: "had no quota left",
    _F.OVERLOADED: "was overloaded",
    _F.UPSTREAM: "failed by itself",
    _F.MISCONFIGURED: "did not accept the gateway's credentials or rights; only its operator can mend that",
    _F.REGION: "does not serve this model to this account or region; only its operator can mend that",
    _F.ACCOUNT: "refused because of its account: billing, a spending limit or a hold; only its operator can mend that",
    _F.ABSENT: "does not have this model",
    _F.NOT_OFFERED: "does not offer this interface for the model",
    _F.TOO_LARGE: "does not take a request of this size; only those that take larger ones were asked then",
    _F.CONFLICT: "was in the middle of a change",
    _F.CAPABILITY: "refused something that the request asks for; only abler providers were asked then",
    _F.PORTABILITY: "did not accept thinking that was signed elsewhere",
    _F.CONTEXT: "said that the conversation is longer than the model's window; nobody else can change that",
    _F.CLIENT: "refused the request as wrong; every other provider would do the same",
    _F.BROKEN: "gave an answer that is no message; whether it bills for it is not known",
    _F.STREAM: "broke off after its answer had begun, so it could not be tried elsewhere",
}
"""What the provider did, in a sentence that begins with its name."""

LAST_RESORT: Final = "last resort"
"""How the reason for the place of a provider begins that is out of service (`routing.plan`)."""

SHORT: Final = {
    _F.UNREACHABLE: "it could not be reached",
    _F.RATE_LIMIT: "its rate limit",
    _F.RAMP: "too fast a growth of traffic",
    _F.QUOTA: "its quota",
    _F.OVERLOADED: "it was overloaded",
    _F.UPSTREAM: "it failed by itself",
    _F.MISCONFIGURED: "its credentials or rights",
    _F.REGION: "its account or region",
    _F.ACCOUNT: "its account: billing, limit or hold",
    _F.ABSENT: "it does not have the model",
    _F.NOT_OFFERED: "it does not offer the interface",
    _F.RESET: "it broke connections",
    _F.TIMEOUT: "it was too slow",
    _F.BROKEN: "its answers were no messages",
    _F.STREAM: "its streams broke off",
}
"""Why a provider is out of service, for those classes that can take it out."""

_CLASS: Final = re.compile(rf"\b({'|'.join(sorted((str(kind) for kind in SHORT), key=len, reverse=True))})\b")
_SAID: Final[Mapping[str, Mapping[Any, str]]] = {
    "allow_fallbacks": {True: "fallbacks are allowed", False: "no fallbacks"},
    "zdr": {True: "only those with zero data retention"},
    "require_parameters": {True: "only those that take every parameter", False: "parameters may be dropped"},
    "data_collection": {"deny": "nobody who keeps prompts", "allow": "keeping prompts is allowed"},
}


def happened(fault: str | None) -> str:
    """What a provider did in an attempt. A class of another version is told as it is."""
    if fault is None:
        return "answered"
    try:
        return HAPPENED[FaultClass(fault)]
    except ValueError:
        return f"failed ({fault})"


def why_out(why: str) -> str:
    """A recorded reason with its fault class in words: ``5 failures in a row (it was overloaded)``."""
    return _CLASS.sub(lambda found: SHORT[FaultClass(found[1])], why)


def reason(text: str) -> str:
    """The reason for a place in a plan, with the fault class of an outage in words."""
    return why_out(text) if text.startswith(LAST_RESORT) or ON_TRIAL in text else text


def preferences(said: Mapping[str, Any]) -> str:
    """Provider preferences, given as plain data, as one line; empty when they say nothing."""
    known = [(name, said[name]) for name in Preferences.__struct_fields__ if said.get(name) is not None]
    return "; ".join(part for name, value in known if (part := _preference(name, value)))


def _preference(name: str, value: Any) -> str:
    if name in _SAID:
        return _SAID[name].get(value, "")
    if name == "order":
        return f"first {' then '.join(value)}" if value else ""
    if name == "only":
        return f"only {', '.join(value) or 'nobody'}"
    if name == "ignore":
        return f"never {', '.join(value)}" if value else ""
    if name == "sort":
        by = value["by"] if isinstance(value, dict) else value
        return f"sorted by {by}"
    if name == "max_price":
        caps = [f"{most} USD per {_PER[what]}" for what, most in value.items() if most is not None]
        return f"at most {' and '.join(caps)}" if caps else ""
    shown = (
        ", ".join(f"{key} {cutoff:g}" for key, cutoff in value.items() if cutoff) if isinstance(value, dict) else value
    )
    return f"{name.replace('_', ' ')} {', '.join(shown) if isinstance(shown, list | tuple) else shown}"


_PER: Final = {
    "prompt": "million prompt tokens",
    "completion": "million completion tokens",
    "request": "request",
    "image": "image",
}


def listed(names: Iterable[str], *, most: int = 4) -> str:
    """Names with commas; of many, the first ones and how many more there are."""
    names = list(names)
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"
