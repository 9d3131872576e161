"""Money is integer: prices in pico-USD per token, amounts in nano-USD. No float touches it.

A price list writes USD per million tokens; one USD per million tokens is 1,000,000 pico-USD per token, so every listed
price and every modifier (1.1, 2, 0.5) stays exact. Costs are summed in pico-USD and rounded up **once** to nano-USD.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation, localcontext

from modelgates_server.errors import BadRequest

NUSD_PER_USD = 1_000_000_000
PUSD_PER_NUSD = 1_000
AMOUNT_NUSD_MAX = 10**15
"""One million USD: the largest single amount accepted anywhere, far below 2**63 so that sums cannot overflow."""


TEXT_CHARACTERS_MAX = 60
"""An amount needs sixteen digits; longer texts are none."""


def nusd_from_usd(text: str) -> int:
    """Read a decimal USD amount such as ``"12.50"`` as nano-USD.

    Raises BadRequest for anything but a plain non-negative decimal of at most nine places and one million USD.
    """
    shown = repr(text.strip()[:TEXT_CHARACTERS_MAX])
    try:
        amount = Decimal(text.strip() if len(text) <= TEXT_CHARACTERS_MAX else "")
    except InvalidOperation as error:
        raise BadRequest(f"{shown} is not an amount in USD; write it like 12.50") from error
    if not amount.is_finite() or amount < 0:
        raise BadRequest(f"{shown} is not an amount in USD; it must be zero or more")
    if amount > AMOUNT_NUSD_MAX // NUSD_PER_USD:
        raise BadRequest(f"{shown} is more than one million USD")
    if amount.is_zero():
        return 0  # whatever its exponent
    with localcontext(prec=TEXT_CHARACTERS_MAX):  # no digit is lost
        scaled = amount * NUSD_PER_USD if amount.adjusted() >= -9 else Decimal("0.1")
        if scaled != scaled.to_integral_value():
            raise BadRequest(f"{shown} has more than nine decimal places")
        return int(scaled)


def usd_text(nusd: int) -> str:
    """Write nano-USD as an exact decimal USD string without trailing zeros: ``1500000000`` → ``"1.5"``."""
    sign = "-" if nusd < 0 else ""
    whole, rest = divmod(abs(nusd), NUSD_PER_USD)
    if not rest:
        return f"{sign}{whole}"
    return f"{sign}{whole}.{rest:09d}".rstrip("0")


def dollars(nusd: int | None, *, places: int = 2) -> str:
    """Write nano-USD for people: exact, with at least `places` decimals: ``$12.50``, ``$0.000123``; a dash for None."""
    if nusd is None:
        return "-"
    whole, _, rest = usd_text(nusd).partition(".")
    sign = "-" if whole.startswith("-") else ""
    return f"{sign}${whole.removeprefix('-')}.{rest:<0{places}}"


def picodollars(pusd: int) -> str:
    """Write pico-USD with all twelve decimals, so that lines of a bill stand under each other."""
    whole, rest = divmod(pusd, 10**12)
    return f"${whole}.{rest:012d}"
