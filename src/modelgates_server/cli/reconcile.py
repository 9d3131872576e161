"""`reconcile`: the books beside the providers' own usage and cost reports, by day and model."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from modelgates_server.alerts.outbox import Outbox
from modelgates_server.assembly import operator_of
from modelgates_server.catalogue.load import bundled, load_catalogue
from modelgates_server.cli.frame import EXIT_FAILED, Options, Report
from modelgates_server.cli.local import Workplace, opened
from modelgates_server.cli.output import dollars, table, usd_number
from modelgates_server.errors import ConfigError, NotFound
from modelgates_server.outbound.http import Outbound
from modelgates_server.reconcile.accounts import accounts_of
from modelgates_server.reconcile.run import days_between, reconcile, usual_days
from modelgates_server.reconcile.values import Line, Tokens, start_s

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelgates_server.reconcile.run import Account

_HEAD: Final = ("Day", "Model", "Ours", "Theirs", "Difference", "%", "Estimated", "Uncertain", "Unexplained", "")
_MONEY: Final = range(2, 9)
_STATES: Final = {"ok": "ok", "drift": "DRIFT", "open": "open"}


def compare(options: Options, first: str | None, last: str | None, provider: str | None) -> Report:
    """Compare, and keep what is settled. Raises ConfigError without an admin key, NotFound for a provider without one, ReportFailed."""
    with opened(options, with_keys=True) as place:
        days = _days(first, last, place.now_s)
        found = asyncio.run(_compare(place, days, provider))
    drift = any(line.state == "drift" for _, lines in found for line in lines)
    data = {
        "ok": not drift,
        "from": days[0],
        "to": days[-1],
        "accounts": [
            {"providers": list(account.slugs), "lines": [_as_data(line) for line in lines]} for account, lines in found
        ],
    }
    text = "\n\n".join(_as_text(account, lines) for account, lines in found)
    return Report(data, text, EXIT_FAILED if drift else 0)


def _days(first: str | None, last: str | None, now_s: float) -> list[str]:
    usual = usual_days(now_s)
    for day in filter(None, (first, last)):
        start_s(day)
    end = last or max(usual[-1], first or "")
    return days_between(first or min(usual[0], end), end, now_s)


async def _compare(place: Workplace, days: Sequence[str], provider: str | None) -> list[tuple[Account, list[Line]]]:
    config = place.config
    models = config.catalogue.models
    catalogue = load_catalogue(bundled(), None if models is None else models.read_bytes())
    outbound = Outbound(connect_s=config.routing.connect_s)
    try:
        accounts = accounts_of(catalogue, config.providers, outbound)
        if not accounts:
            raise ConfigError(
                "no provider has an admin_key, so there is no report to compare with",
                remedy='add admin_key = "env:ANTHROPIC_ADMIN_KEY" to the [[providers]] table of kind anthropic',
            )
        chosen = [account for account in accounts if provider is None or provider in account.slugs]
        if not chosen:
            raise NotFound(f"no provider {provider!r} with an admin_key")
        outbox = Outbox(operator_of(config.alerts).channels)
        return [(account, await reconcile(place.engine, account, days, outbox, place.now_s)) for account in chosen]
    finally:
        await outbound.close()


def _as_data(line: Line) -> dict[str, Any]:
    return {
        "day": line.day,
        "model": line.model,
        "state": line.state,
        "because": line.because,
        "requests": line.requests,
        "ours": usd_number(line.ours_nusd),
        "theirs": usd_number(line.theirs_nusd),
        "difference": usd_number(line.difference_nusd),
        "counted": usd_number(line.counted_nusd),
        "estimated": usd_number(line.estimated_nusd),
        "uncertain": usd_number(line.uncertain_nusd),
        "unexplained": usd_number(line.unexplained_nusd),
        "tokens": {"ours": _tokens(line.ours_tokens), "theirs": _tokens(line.theirs_tokens)},
        "cleared": [
            {
                "generation": proof.doubt.generation_id,
                "provider": proof.doubt.provider,
                "at_most": usd_number(proof.doubt.most_nusd),
                "billed": usd_number(proof.billed_nusd),
            }
            for proof in line.cleared
        ],
    }


def _tokens(tokens: Tokens) -> dict[str, int]:
    return {
        "input": tokens.input,
        "output": tokens.output,
        "cache_read": tokens.cache_read,
        "cache_write": tokens.cache_write,
    }


def _as_text(account: Account, lines: Sequence[Line]) -> str:
    title = f"{account.name}: {_summary(lines)}"
    if not lines:
        return title
    rows = [
        (
            line.day,
            line.model,
            dollars(line.ours_nusd),
            dollars(line.theirs_nusd),
            dollars(line.difference_nusd),
            _per_cent(line),
            dollars(line.estimated_nusd),
            dollars(line.uncertain_nusd),
            dollars(line.unexplained_nusd),
            ": ".join(filter(None, (_STATES[line.state], line.because))),
        )
        for line in lines
    ]
    cleared = sum(len(line.cleared) for line in lines)
    counted = "1 attempt of unknown fate is" if cleared == 1 else f"{cleared} attempts of unknown fate are"
    told = f"\n{counted} cleared." if cleared else ""
    return f"{title}\n{table(_HEAD, rows, right=_MONEY)}{told}"


def _summary(lines: Sequence[Line]) -> str:
    if not lines:
        return "nothing was booked and nothing is reported"
    drift = sum(line.state == "drift" for line in lines)
    counted, verb = (f"{len(lines)} lines", "drift") if len(lines) != 1 else ("1 line", "drifts")
    return f"{drift} of {counted} {verb}" if drift else f"{counted}, nothing is unexplained"


def _per_cent(line: Line) -> str:
    """The difference in per cent of what the provider asks, to three decimals."""
    if not line.theirs_nusd:
        return "-" if line.ours_nusd else "0"
    asked = abs(line.theirs_nusd)
    thousandths = (abs(line.difference_nusd) * 200_000 + asked) // (2 * asked)
    sign = "-" if line.difference_nusd < 0 and thousandths else ""
    return f"{sign}{thousandths // 1000}.{thousandths % 1000:03d}"
