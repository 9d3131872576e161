"""What an alert says: sentences that a team lead understands. Who, what, how much of what, when it resets, what to do. Pure."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from typing import Final

from modelgates_server.limits import Window
from modelgates_server.money import NUSD_PER_USD, usd_text
from modelgates_server.privacy import visible

NAME_CHARACTERS_MAX: Final = 80
_CENT_NUSD: Final = NUSD_PER_USD // 100

_PYTHONS_NAME: Final = re.compile(r"\A(?:[A-Z]\w+|gaierror): (?=.)")
_NUMBERED: Final = re.compile(r"\A(?:Multiple exceptions: )?\[Errno (-?\d+)\] (.+)")
_OPENSSL: Final = re.compile(r"\[SSL: \w+\] | \(_ssl\.c:\d+\)")

PERIODS: Final = {Window.DAY: "daily", Window.WEEK: "weekly", Window.MONTH: "monthly", Window.LIFE: "lifetime"}


def budget_sentence(
    who: str, what: str, used_nusd: int, limit_nusd: int, resets_at_s: int | None, *, hard: bool
) -> str:
    """Say how much of a limit is used, and what follows from it."""
    percent = used_nusd * 100 // limit_nusd
    used = f"{who} has used {percent} % of {what}: {dollars(used_nusd)} of {dollars(limit_nusd)}."
    resets = "It never resets." if resets_at_s is None else f"It starts anew at {moment(resets_at_s)}."
    if not hard:
        return f"{used} {resets} It is a soft budget, so nothing is refused; look whether this is intended."
    until = "" if resets_at_s is None else " until then"
    if used_nusd < limit_nusd:
        return f"{used} {resets} When it is used up, requests are refused{until}: slow down, or raise the limit."
    return f"{used} {resets} Requests are refused{until}, unless the limit is raised."


def low_credit_sentence(organization: str, balance_nusd: int, threshold_nusd: int) -> str:
    """Say that the credit runs out."""
    return (
        f"The credit of {named('the organization', organization)} is down to {dollars(balance_nusd)}, below the"
        f" {dollars(threshold_nusd)} that were set for this alert. When it is used up, requests are refused: add credit."
    )


def topup_sentence(
    organization: str, amount_nusd: int, balance_nusd: int, month_nusd: int, monthly_max_nusd: int | None
) -> str:
    """Say that credit was added by rule."""
    bound = "" if monthly_max_nusd is None else f" of at most {dollars(monthly_max_nusd)}"
    return (
        f"The credit of {named('the organization', organization)} was topped up by {dollars(amount_nusd)} to"
        f" {dollars(balance_nusd)}, as its rule says. This month's top-ups are {dollars(month_nusd)}{bound}."
    )


def topup_refused_sentence(organization: str, amount_nusd: int, reason: str) -> str:
    """Say that the payment for a top-up failed."""
    return (
        f"The credit of {named('the organization', organization)} could not be topped up by {dollars(amount_nusd)}:"
        f" {visible(reason, 200)}. It is tried again within the hour; add credit if requests must not be refused."
    )


def topup_stopped_sentence(organization: str, balance_nusd: int, month_nusd: int, monthly_max_nusd: int) -> str:
    """Say that the rule for top-ups has reached its own limit."""
    return (
        f"The credit of {named('the organization', organization)} is down to {dollars(balance_nusd)} and was not topped up:"
        f" the rule allows {dollars(monthly_max_nusd)} a month, and {dollars(month_nusd)} are used. Add credit, or raise"
        f" the rule's monthly limit."
    )


def named(kind: str, name: str) -> str:
    """Name a thing as people know it: ``the key "ci"``. Names are foreign text: nothing in them steers a reader's screen."""
    shown = visible(name, NAME_CHARACTERS_MAX).replace('"', "'")
    return f'{kind} "{shown}"' if shown else kind


def dollars(nusd: int) -> str:
    """Write an amount for people: whole cents from a dollar on, every digit below."""
    if abs(nusd) < NUSD_PER_USD and nusd % _CENT_NUSD:
        return f"${usd_text(nusd)}" if nusd >= 0 else f"-${usd_text(-nusd)}"
    cents = (abs(nusd) + _CENT_NUSD // 2) // _CENT_NUSD
    return f"{'-' if nusd < 0 else ''}${cents // 100:,}.{cents % 100:02d}"


def moment(unix_s: int) -> str:
    """Write a time in UTC."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M UTC")


def plain_reason(text: str) -> str:
    """Say why a connection failed as people do: ``connection refused``, without Python's names and numbers for it."""
    text = _OPENSSL.sub("", _PYTHONS_NAME.sub("", text))
    found = _NUMBERED.match(text)
    if found is None:
        return text
    why = os.strerror(int(found[1])) if found[2].startswith("Connect call failed") else found[2]  # asyncio's words
    return why[:1].lower() + why[1:]
