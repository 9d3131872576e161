"""What all pages have in common: amounts and times in words, HTML or JSON, fields, addresses, and names that cannot break out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelgates_server.accounts.sessions import Member
from modelgates_server.catalogue.load import bundled, load_catalogue
from modelgates_server.clock import SystemClock
from modelgates_server.console import gate, navigation
from modelgates_server.console.app import owned
from modelgates_server.console.house import House
from modelgates_server.console.pages import PAGES
from modelgates_server.console.rendering import compact, dollars, percent, span, usd, wants_json
from modelgates_server.console.visits import Fields, Visit, whole
from modelgates_server.errors import BadRequest, Forbidden, Unauthenticated
from modelgates_server.money import AMOUNT_NUSD_MAX, NUSD_PER_USD, nusd_from_usd
from modelgates_server.storage.engine import database_of, open_engine


@pytest.fixture
def visit(tmp_path: Path) -> Visit:
    """Somebody who looks at a page; nothing is asked of the database."""
    engine = open_engine(database_of(f"sqlite:///{tmp_path / 'none.db'}"))
    house = House(
        engine, b"s" * 32, SystemClock(), load_catalogue(bundled(), None), "http://a.example", "http://b.example"
    )
    return Visit(house, "/logs?model=x&model=y", query=Fields([("model", "x"), ("model", "y")]))


@pytest.mark.parametrize(
    ("nusd", "glance", "exact"),
    [
        (0, "$0.00", "$0.00"),
        (12_500_000_000, "$12.50", "$12.50"),
        (1_234_567_000_000_000, "$1,234,567.00", "$1,234,567.00"),
        (10_000_000, "$0.01", "$0.01"),
        (9_999_999, "$0.01", "$0.009999999"),
        (123_000, "$0.00012", "$0.000123"),
        (1, "$0.000000001", "$0.000000001"),
        (-2_500_000_000, "-$2.50", "-$2.50"),
    ],
)
def test_amounts_for_a_glance_and_exactly(nusd: int, glance: str, exact: str) -> None:
    """Cents above a cent, two digits below; the exact amount loses nothing."""
    assert usd(nusd) == glance
    assert dollars(nusd) == exact


@given(st.integers(-AMOUNT_NUSD_MAX, AMOUNT_NUSD_MAX))
def test_exact_amounts_can_be_read_back(nusd: int) -> None:
    """Whatever the amount: what is shown exactly is exactly it, and a glance is never off by more than a hundredth or half a cent."""
    assert nusd_from_usd(dollars(abs(nusd)).replace("$", "").replace(",", "")) == abs(nusd)
    seen = nusd_from_usd(usd(abs(nusd)).replace("$", "").replace(",", ""))
    assert abs(seen - abs(nusd)) <= max(abs(nusd) // 20, 5_000_000 if abs(nusd) >= 10_000_000 else 0)
    assert usd(nusd).startswith("-") == (nusd < 0)


@pytest.mark.parametrize(
    ("accept", "json"),
    [
        ("application/json", True),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False),
        ("*/*", False),
        ("", False),
        ("application/json;q=0.5, text/html", False),
        ("text/html;q=0.1, application/json;q=0.2", True),
        ("application/json;q=x", False),
        ("APPLICATION/JSON", True),
    ],
)
def test_programs_ask_for_json(accept: str, json: bool) -> None:
    """JSON is for those who prefer it; a browser never does."""
    assert wants_json(accept) is json


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (950, "950"),
        (9_042, "9,042"),
        (12_345, "12.3K"),
        (4_500_000, "4.5M"),
        (2 * 10**9, "2B"),
        (10**15, "1000T"),
    ],
)
def test_large_counts(count: int, text: str) -> None:
    """In full up to four digits, then three and a unit."""
    assert compact(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (-5, "0 s"), (45, "45 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (356_400, "4 d 3 h")],
)
def test_spans(seconds: float, text: str) -> None:
    """The two largest units."""
    assert span(seconds) == text


@given(st.integers(0, 10**15), st.integers(-5, 10**15))
def test_percent_stays_between(part: int, whole_: int) -> None:
    """A bar is never longer than its frame, whatever the limit was lowered to."""
    assert 0 <= percent(part, whole_) <= 100


def test_fields_tell_an_empty_box_from_a_missing_one(visit: Visit) -> None:
    """What was typed comes back in the form; an emptied field stays empty."""
    posted = replace(visit, form=Fields([("name", " Ana "), ("note", "")]))
    assert (posted.form.get("name"), posted.form.raw("name"), posted.form.has("note")) == ("Ana", " Ana ", True)
    assert (posted.typed("note", "before"), posted.typed("other", "before"), posted.typed("none", None)) == (
        "",
        "before",
        "",
    )


def test_addresses_of_the_same_page(visit: Visit) -> None:
    """A field of the query is changed, added or taken away, and the others stay, each escaped."""
    assert visit.with_query(page=2) == "/logs?model=x&model=y&page=2"
    assert visit.with_query(model="a&b") == "/logs?model=a%26b"
    assert visit.with_query(model=None) == "/logs"


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "²", "9" * 30, "0", "366"])
def test_whole_numbers_are_read_strictly(visit: Visit, text: str) -> None:
    """What is no whole number within its bounds is refused in words."""
    with pytest.raises(BadRequest, match="days must be a whole number from 1 to 365"):
        whole(replace(visit, form=Fields([("days", text)])), "days", 1, 365)


def test_roles(visit: Visit) -> None:
    """Strangers sign in first; members stay out of what is for administrators."""
    member = Member("mem-1", "org-1", "Ines", None, "member")
    with pytest.raises(Unauthenticated):
        gate.admit(None, "member")
    with pytest.raises(Forbidden):
        gate.admit(member, "admin")
    gate.admit(None, "open")
    seen = replace(visit, visitor=member)
    assert (seen.only_member_id, seen.actor, seen.is_admin) == ("mem-1", "member:mem-1", False)
    assert replace(visit, visitor=replace(member, role="admin")).only_member_id is None


def test_the_token_of_a_form_is_the_sessions(visit: Visit) -> None:
    """Another session or another installation has another token."""
    one, other = replace(visit, session="a"), replace(visit, session="b")
    assert one.csrf == replace(visit, session="a").csrf != other.csrf
    assert replace(one, house=replace(visit.house, secret=b"t" * 32)).csrf != one.csrf


def test_every_entry_of_the_navigation_is_a_page() -> None:
    """No link leads nowhere, and whoever sees a link may follow it."""
    roles = {route.path: route.role for route in PAGES if route.method == "GET"}
    for entry in navigation.NAVIGATION:
        assert entry.path in roles, entry
        assert roles[entry.path] == entry.role, entry


def test_no_path_stands_twice() -> None:
    """Two pages at one address would hide each other."""
    known = [(route.method, route.path) for route in PAGES]
    assert len(known) == len(set(known))
    assert {"", "assets", "logs", "keys"} <= owned()


def test_a_dollar_is_a_dollar() -> None:
    """The unit that pages are given is nano-USD."""
    assert usd(NUSD_PER_USD) == "$1.00"
