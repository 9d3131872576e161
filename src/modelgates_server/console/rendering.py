"""How answers are written: a context as HTML or as the same JSON, with the headers that every page has."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final

import jinja2
import msgspec
from markupsafe import Markup
from starlette.responses import RedirectResponse, Response, StreamingResponse

from modelgates_server import __version__
from modelgates_server.console.assets import assets
from modelgates_server.console.charts import chart_json
from modelgates_server.console.navigation import current, entries
from modelgates_server.console.said import SAID
from modelgates_server.console.visits import Answer, Download, Moved, Page, Visit
from modelgates_server.money import picodollars, usd_text

SAFE: Final[dict[str, str]] = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; object-src 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "vary": "Cookie, Accept, Sec-Fetch-Site, Origin",
}
"""On every answer. What is shown is somebody's own: no cache keeps it, no frame shows it, no script is inline."""

JSON: Final = "application/json"
PIECE_BYTES: Final = 32_768
"""A file is sent in pieces of about this size."""


def wants_json(accept: str) -> bool:
    """Whether an Accept header prefers JSON to HTML; a browser's never does."""
    weights = {"text/html": 0.0, JSON: 0.0}
    for entry in accept.split(","):
        name, _, rest = entry.strip().lower().partition(";")
        if name.strip() in weights:
            weights[name.strip()] = _weight(rest)
    return weights[JSON] > weights["text/html"]


def respond(answer: Answer, visit: Visit, *, as_json: bool) -> Response:
    """Write an answer. For a thread: templates take a moment."""
    if isinstance(answer, Moved):
        return _moved(answer)
    if isinstance(answer, Download):
        disposition = f'attachment; filename="{answer.filename}"'
        return StreamingResponse(
            gathered(answer.chunks), media_type=answer.media_type, headers=SAFE | {"content-disposition": disposition}
        )
    if as_json:
        body = msgspec.json.encode({"error": visit.error, "data": answer.context})
        return Response(body, answer.status, SAFE, media_type=JSON)
    return Response(render(answer, visit), answer.status, SAFE, media_type="text/html")


def gathered(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same in pieces of some size: each is fetched in a thread and sent apart, which costs more than a line of a table."""
    pieces, size_bytes = [], 0
    for chunk in chunks:
        pieces.append(chunk)
        size_bytes += len(chunk)
        if size_bytes >= PIECE_BYTES:
            yield b"".join(pieces)
            pieces, size_bytes = [], 0
    if pieces:
        yield b"".join(pieces)


def render(page: Page, visit: Visit) -> str:
    """Write a page as HTML."""
    said = SAID.get(visit.query.get("said"))
    return templates().get_template(page.template).render(page=page.context, visit=visit, said=said)


def _moved(answer: Moved) -> Response:
    path, hash_, part = answer.path.partition("#")
    if answer.said is not None:
        path += f"{'&' if '?' in path else '?'}said={answer.said}"
    path += hash_ + part
    response = RedirectResponse(path, 303, SAFE)
    for cookie in answer.cookies:
        response.headers.append("set-cookie", cookie)
    return response


def _weight(rest: str) -> float:
    name, _, number = rest.strip().partition("=")
    try:
        return float(number) if name.strip() == "q" else 1.0
    except ValueError:
        return 0.0


@functools.cache
def templates() -> jinja2.Environment:
    """The templates, with the filters and names that all of them may use."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("modelgates_server.console"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "usd": usd,
        "dollars": dollars,
        "number": number,
        "compact": compact,
        "percent": percent,
        "when": when,
        "day": day,
        "span": span,
        "picodollars": picodollars,
        "plain_usd": plain_usd,
        "chart_json": chart_json,
    }
    environment.globals |= {"version": __version__, "asset": assets().url, "navigation": entries, "is_current": current}
    return environment


def dollars(nusd: int) -> str:
    """An exact amount, with at least two decimals: ``$12.50``, ``$0.000123``."""
    whole, _, rest = usd_text(nusd).partition(".")
    return f"{'-' if nusd < 0 else ''}${int(whole.removeprefix('-') or 0):,}.{rest:<02}"


def plain_usd(nusd: int | None) -> str:
    """An amount as a field of a form takes it: ``12.5``; empty for none."""
    return "" if nusd is None else usd_text(nusd)


def usd(nusd: int) -> str:
    """An amount for a glance: cents above a cent, otherwise as many decimals as show two digits."""
    size = abs(nusd)
    if size == 0 or size >= 10_000_000:
        cents = (size + 5_000_000) // 10_000_000
        return f"{'-' if nusd < 0 else ''}${cents // 100:,}.{cents % 100:02}"
    digits = 9 - len(str(size)) + 2
    unit = 10 ** max(0, 9 - digits)
    text = f"{(size + unit // 2) // unit * unit:010}"
    return f"{'-' if nusd < 0 else ''}${text[:-9]}.{text[-9:].rstrip('0')}"


def number(count: int) -> str:
    """A whole number with its thousands apart."""
    return f"{count:,}"


def compact(count: int) -> str:
    """A large count for a glance: ``950``, ``1,042``, ``12.3K``, ``4.5M``."""
    if abs(count) < 10_000:
        return number(count)
    size, unit = float(count), ""
    for unit in ("", "K", "M", "B", "T"):
        if abs(size) < 1000 or unit == "T":
            break
        size /= 1000
    return f"{size:.1f}".removesuffix(".0") + unit


def percent(part: float, whole: float) -> int:
    """How much of a whole a part is, in percent, from 0 to 100."""
    return 0 if whole <= 0 else max(0, min(100, round(100 * part / whole)))


def when(unix: float, unit: str = "s") -> Markup:
    """A moment as a ``<time>`` element in UTC; the script shows the visitor's own time zone in its title."""
    moment = datetime.fromtimestamp(unix / 1000 if unit == "ms" else unix, UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        moment.strftime("%Y-%m-%dT%H:%M:%SZ"), moment.strftime("%Y-%m-%d %H:%M:%S")
    )


def day(unix_s: float) -> Markup:
    """A day as a ``<time>`` element."""
    text = datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d")
    return Markup('<time datetime="{}">{}</time>').format(text, text)


def span(seconds: float) -> str:
    """How long something is, in the two largest units: ``45 s``, ``3 min``, ``2 h 5 min``, ``4 d 3 h``."""
    left, parts = int(max(0, seconds)), []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"
