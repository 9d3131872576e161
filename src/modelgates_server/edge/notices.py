"""Headers that tell a paying caller what is left: our own, and those from which Claude Code prints "You've used NN % …".

Ours name the limit that leaves least. Anthropic's (``anthropic-ratelimit-unified-*``) follow what Anthropic's own gateway sends for
a spend cap (client-protocol X-7; read from Claude Code 2.1.330): the budget is the window called ``overage``, whose utilization is a
share with two decimals. They tell of the budget that is fullest, and only when more than half of it is used.
"""

from __future__ import annotations

from typing import Final

from modelgates_server.edge.exchange import Header
from modelgates_server.edge.numbers import rfc3339
from modelgates_server.errors import MoneyRefused
from modelgates_server.ledger.room import Room
from modelgates_server.ledger.values import Hold
from modelgates_server.limits import Unit
from modelgates_server.money import usd_text

NOTICE_PERCENT: Final = 50
"""Below this nobody needs to hear about a budget."""

WARNING_PERCENTS: Final = (95, 80)
"""The client warns when one of these is passed, and again at the next."""

_CREDIT_REASON: Final = "insufficient_credits"
_BUDGET: Final = b"x-modelgates-budget-"
_UNIFIED: Final = b"anthropic-ratelimit-unified-"


def standing_headers(hold: Hold, charged_nusd: int, own_nusd: int = 0) -> list[Header]:
    """Headers of an answer.

    `charged_nusd` is what this request cost, and `own_nusd` what it cost at the caller's own provider account, when they are known
    before the headers are sent.
    """
    headers: list[Header] = []
    if (tightest := hold.tightest) is not None:
        left_nusd = tightest.limit_nusd - _used(tightest, charged_nusd, own_nusd)
        headers += _budget(tightest.scope, tightest.limit_nusd, left_nusd, tightest.resets_at_s)
    if (fullest := hold.fullest) is not None:
        headers += _notice(fullest, _used(fullest, charged_nusd, own_nusd))
    return headers


def refusal_headers(error: MoneyRefused) -> list[Header]:
    """Headers of a refusal: the limit that refused."""
    resets = _resets(error.resets_at_s)
    why = b"out_of_credits" if error.reason == _CREDIT_REASON else b"org_spend_cap_reached"
    return [
        *_budget(error.scope, error.limit_nusd, error.remaining_nusd, error.resets_at_s),
        (_UNIFIED + b"status", b"rejected"),
        *resets,
        (_UNIFIED + b"overage-disabled-reason", why),
    ]


def _budget(scope: str, limit_nusd: int, left_nusd: int, resets_at_s: int | None) -> list[Header]:
    headers = [
        (_BUDGET + b"remaining", usd_text(max(0, left_nusd)).encode()),
        (_BUDGET + b"limit", usd_text(limit_nusd).encode()),
        (_BUDGET + b"scope", scope.encode()),
    ]
    if resets_at_s is not None:
        headers.append((_BUDGET + b"reset", rfc3339(resets_at_s).encode()))
    return headers


def _used(room: Room, charged_nusd: int, own_nusd: int) -> int:
    return room.used_nusd + charged_nusd + (own_nusd if room.unit == Unit.SPEND else 0)


def _notice(room: Room, used_nusd: int) -> list[Header]:
    if used_nusd * 100 <= room.limit_nusd * NOTICE_PERCENT:
        return []
    passed = next((at for at in WARNING_PERCENTS if used_nusd * 100 >= room.limit_nusd * at), None)
    status = b"allowed" if passed is None else b"allowed_warning"
    percent = min(99, used_nusd * 100 // room.limit_nusd)  # at 100 the client says that it is over
    headers = [
        (_UNIFIED + b"status", status),
        (_UNIFIED + b"representative-claim", b"overage"),
        (_UNIFIED + b"overage-status", status),
        (_UNIFIED + b"overage-utilization", b"0.%02d" % percent),
        *_resets(room.resets_at_s),
    ]
    if passed is not None:
        headers.append((_UNIFIED + b"overage-surpassed-threshold", b"0.%02d" % passed))
    return headers


def _resets(resets_at_s: int | None) -> list[Header]:
    if resets_at_s is None:
        return []
    stamp = b"%d" % resets_at_s
    return [(_UNIFIED + b"reset", stamp), (_UNIFIED + b"overage-reset", stamp)]
