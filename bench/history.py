"""A database with a long history: ten million receipts of one organisation over a year, and the roll-ups that belong to them.

The receipts are written by SQL from a table of who asks what, hour by hour, as busy as offices are: much on weekdays, little at night.
Roll-ups are added up from them, so that both say the same. It takes minutes, and is kept in `.cache/` for the next runs: the
history goes on until a month after it was made, so that there is always something that happened just now.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from process import ROOT
from subjects import House

GENERATIONS = 10_000_000
WISHED = "MODELGATES_BENCH_GENERATIONS"
"""An environment variable that says another number, for those who have little disk or little time."""

DAY_S, HOUR_S = 86_400, 3_600
DAYS, AHEAD_DAYS, FRESH_DAYS = 365, 31, 25
"""The history ends so many days after it is made, and is used for a little less."""

VERSION = 1
"""Raise it when the rows that this file writes change."""

WORKSPACES, MEMBERS, KEYS = 5, 25, 60
APPS = (
    "Claude Desktop", "Claude Code", "https://wiki.example", "https://support.example", "nightly", "review-bot", "search",
    "https://crm.example", "notebooks", None,
)  # fmt: skip
MODELS = (
    ("anthropic/claude-opus-4.8", "claude-opus-4-8", 5_000, 25_000),
    ("anthropic/claude-sonnet-4.6", "claude-sonnet-4-6", 3_000, 15_000),
    ("anthropic/claude-haiku-4.5", "claude-haiku-4-5", 1_000, 5_000),
    ("anthropic/claude-opus-4.7", "claude-opus-4-7", 5_000, 25_000),
    ("anthropic/claude-sonnet-4.5", "claude-sonnet-4-5", 3_000, 15_000),
    ("anthropic/claude-fable-5", "claude-fable-5", 10_000, 50_000),
)
"""Slug, the provider's name, and nano-USD for a token in and out."""

PROVIDERS = (("anthropic", 90), ("bedrock", 6), ("vertex", 3), ("foundry", 1))
"""With how many of a hundred requests each serves."""

SLOTS = 8_192
"""Kinds of requests: each receipt is one of these."""

_DAYTIME = (1, 1, 1, 1, 1, 2, 4, 9, 16, 20, 20, 18, 14, 18, 20, 19, 17, 12, 8, 6, 5, 4, 3, 2)
"""How busy each hour of a weekday is."""


@dataclass(frozen=True, slots=True)
class Busy:
    """An hour with its number of receipts, and how many there were before it."""

    at_ms: int
    first: int
    count: int


class Kept(House):
    """A gateway's folder that was made before."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder


def history(generations: int = GENERATIONS) -> tuple[House, dict[str, object]]:
    """The folder of a gateway with that much history, made if need be; and what is to be told about it."""
    generations = int(os.environ.get(WISHED, generations))
    place = ROOT / ".cache" / f"history-{generations}"
    database, noted = place / "data" / "modelgates.db", place / "made.json"
    made = json.loads(noted.read_text(encoding="utf-8")) if noted.exists() else {"version": 0}
    if made["version"] != VERSION or made["made_at_s"] < time.time() - FRESH_DAYS * DAY_S:
        print(f"making a history of {generations:,} receipts", file=sys.stderr, flush=True)
        shutil.rmtree(place, ignore_errors=True)
        place.parent.mkdir(exist_ok=True)
        began_s = time.perf_counter()
        House(place, 9)  # no request will go to a provider
        write(database, generations, time.time())
        made = {"version": VERSION, "made_at_s": time.time(), "took_s": round(time.perf_counter() - began_s)}
        noted.write_text(json.dumps(made), encoding="utf-8")
    size_bytes = database.stat().st_size
    told = {
        "receipts in the history": f"{generations:,} over a year, of {KEYS} keys and {MEMBERS} members",
        "database of the history": f"{size_bytes / 1e9:.1f} GB, made in {made['took_s']} s",
    }
    return Kept(place), told


def write(path: Path, generations: int, now_s: float) -> None:
    """Fill an initialised database."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-400000", "temp_store=MEMORY"):
            database.execute(f"PRAGMA {pragma}")
        (organization_id,) = database.execute("SELECT id FROM organizations").fetchone()
        random = Random(8)
        indexes = database.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'generations' AND sql IS NOT NULL"
        ).fetchall()
        for name, _ in indexes:
            database.execute(f'DROP INDEX "{name}"')
        _people(database, organization_id, random)
        _slots(database, random)
        end_s = (int(now_s) // DAY_S + AHEAD_DAYS) * DAY_S
        _receipts(database, organization_id, list(busy_hours(end_s, generations)))
        for _, statement in indexes:
            database.execute(statement)
        _meters(database, organization_id, end_s - AHEAD_DAYS * DAY_S)
        database.execute("PRAGMA journal_mode=WAL")


def busy_hours(end_s: int, generations: int) -> Iterator[Busy]:
    """How many receipts each hour has: more by day, few at weekends, and more from month to month."""
    starts = range(end_s - DAYS * DAY_S, end_s, HOUR_S)
    weights = []
    for place, at_s in enumerate(starts):
        weekend = (at_s // DAY_S + 3) % 7 >= 5  # the day of 1970-01-01 was a Thursday
        weights.append((1 if weekend else 6) * _DAYTIME[at_s // HOUR_S % 24] * (len(starts) + place))
    total, before, done = sum(weights), 0, 0
    for at_s, weight in zip(starts, weights, strict=True):
        before += weight
        until = generations * before // total
        yield Busy(at_s * 1000, done, until - done)
        done = until


def _people(database: sqlite3.Connection, organization_id: str, random: Random) -> None:
    """Workspaces, members and keys, with who has what; the temporary table `asking` says what each key uses."""
    (first,) = database.execute("SELECT id FROM workspaces").fetchone()
    places = [first, *(f"ws-history-{number}" for number in range(1, WORKSPACES))]
    people = [f"mem-history-{number:02}" for number in range(MEMBERS)]
    database.executemany(
        "INSERT INTO workspaces (id, organization_id, slug, name, created_at_s) VALUES (?, ?, ?, ?, 0)",
        [(place, organization_id, place, f"Team {place[-1]}") for place in places[1:]],
    )
    database.executemany(
        "INSERT INTO members (id, organization_id, email, name, role, created_at_s) VALUES (?, ?, ?, ?, 'member', 0)",
        [(who, organization_id, f"{who}@example.com", f"Member {who[-2:]}") for who in people],
    )
    database.execute("CREATE TEMP TABLE asking (key_hash, workspace_id, member_id, weight)")
    for number in range(KEYS):
        key_hash, place = f"{random.getrandbits(256):064x}", random.choice(places)
        who = people[number] if number < MEMBERS else random.choice([*people, None])
        database.execute(
            "INSERT INTO api_keys (hash, organization_id, workspace_id, member_id, class, name, label, created_at_s,"
            " updated_at_s) VALUES (?, ?, ?, ?, 'inference', ?, ?, 0, 0)",
            (key_hash, organization_id, place, who, f"Key {number:02}", f"sk-mg-v1-{key_hash[:3]}...{key_hash[-3:]}"),
        )
        database.execute("INSERT INTO asking VALUES (?, ?, ?, ?)", (key_hash, place, who, 100 // (number // 4 + 2)))


def _slots(database: sqlite3.Connection, random: Random) -> None:
    """Each slot is a key with one of its apps, a model and a provider: busy keys have many slots."""
    database.execute(
        "CREATE TEMP TABLE slot (n INTEGER PRIMARY KEY, key_hash, workspace_id, member_id, app, model, upstream, nusd_in,"
        " nusd_out, provider, agent)"
    )
    keys = database.execute("SELECT * FROM asking").fetchall()
    likes = {key[0]: (random.sample(APPS, 2), random.sample(MODELS, 3)) for key in keys}
    found = random.choices(keys, [key[3] for key in keys], k=SLOTS)
    slots: list[tuple[Any, ...]] = []
    for number, (key_hash, place, who, _) in enumerate(found):
        apps, models = likes[key_hash]
        (app,), (model,) = random.choices(apps, (85, 15)), random.choices(models, (70, 22, 8))
        (provider,) = random.choices([slug for slug, _ in PROVIDERS], [share for _, share in PROVIDERS])
        slots.append((number, key_hash, place, who, app, *model, provider, "claude-cli/2.1.0 (external, cli)"))
    database.executemany("INSERT INTO slot VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", slots)


_RECEIPT = """
    INSERT INTO generations (id, organization_id, workspace_id, member_id, key_hash, created_at_ms, requested_model, model,
        provider, upstream_model, upstream_id, upstream_request_id, session_id, app, user_agent, api_type, streamed, outcome,
        finish_reason, estimated, latency_ms, generation_ms, input_tokens, output_tokens, thinking_tokens, cache_read_tokens,
        cache_write_5m_tokens, cache_write_1h_tokens, web_searches, cost_nusd, upstream_cost_nusd, cache_discount_nusd,
        held_nusd, price_version, parts, plan, attempts)
    SELECT printf('gen-%012x%08x', at_ms, g), :organization_id, workspace_id, member_id, key_hash, at_ms, upstream, model,
        provider, upstream, printf('msg_%08x', g), printf('req_%08x', g), printf('%s-%d', substr(key_hash, 1, 8), g / 3000),
        app, agent, 'messages', 1, outcome, CASE outcome WHEN 'completed' THEN 'end_turn' END, outcome = 'cancelled',
        300 + b % 1500, 1500 + b % 20000, put, out, out / 4, hit, kept, 0, 0, cost, cost,
        hit * nusd_in * 9 / 10, cost * 3, '2026-11-01', '[]', '[]', printf(
            '[{"provider":"%s","model":"%s","status":200,"fault":null,"ms":%d,"request_id":"req_%08x","detail":"","slug":"%s"}]',
            provider, upstream, 300 + b % 1500, g, model)
    FROM (
        SELECT *, put * nusd_in + hit * nusd_in / 10 + kept * nusd_in * 5 / 4 + out * nusd_out AS cost,
            CASE WHEN b % 100 = 0 THEN 'failed' WHEN b % 100 < 3 THEN 'cancelled' WHEN b % 200 = 99 THEN 'broken'
                ELSE 'completed' END AS outcome
        FROM (
            SELECT *, 50 + b % 2000 AS put, 40 + b / 7 % 1200 AS out, b / 11 % 60000 AS hit, b / 13 % 3000 AS kept
            FROM (
                SELECT :at_ms + number.n * 3600000 / :count AS at_ms, :first + number.n AS g,
                    (:first + number.n) * 2654435761 / 65536 % 1048576 AS b
                FROM number WHERE number.n < :count
            ) JOIN slot ON slot.n = b % 8192
        )
    )
"""
_SHARES = """
    SUM(input_tokens), SUM(output_tokens), SUM(thinking_tokens), SUM(cache_read_tokens),
    SUM(cache_write_5m_tokens + cache_write_1h_tokens), SUM(cost_nusd), SUM(byok_cost_nusd)
"""
_FAILED = "COUNT(*), SUM(outcome IN ('failed', 'broken'))"
_HOURS = f"""
    INSERT INTO activity_hours SELECT created_at_ms / 3600000 * 3600, organization_id, key_hash, model, provider,
        MAX(workspace_id), MAX(member_id), {_FAILED}, {_SHARES}
    FROM generations WHERE rowid > ? GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
"""
_DAYS = f"""
    INSERT INTO activity_days SELECT organization_id, created_at_ms / 86400000 * 86400, key_hash, model, provider,
        COALESCE(app, ''), MAX(workspace_id), MAX(member_id), {_FAILED}, {_SHARES}, SUM(cache_discount_nusd)
    FROM generations WHERE rowid > ? GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6
"""
_PROVIDERS = """
    INSERT INTO provider_hours SELECT organization_id, provider, created_at_ms / 3600000 * 3600, COUNT(*),
        SUM(outcome NOT IN ('failed', 'broken')), 0, SUM(latency_ms)
    FROM generations WHERE rowid > ? GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""


def _receipts(database: sqlite3.Connection, organization_id: str, hours: list[Busy]) -> None:
    """Day after day: the receipts of its hours, then what they add up to."""
    database.execute("CREATE TEMP TABLE number (n INTEGER PRIMARY KEY)")
    most = max(hour.count for hour in hours)
    database.executemany("INSERT INTO number VALUES (?)", ((n,) for n in range(most)))
    for start in range(0, len(hours), 24):
        (last,) = database.execute("SELECT COALESCE(MAX(rowid), 0) FROM generations").fetchone()
        database.execute("BEGIN")
        for hour in hours[start : start + 24]:
            values = {"at_ms": hour.at_ms, "first": hour.first, "count": hour.count}
            database.execute(_RECEIPT, {"organization_id": organization_id} | values)
        for statement in (_HOURS, _DAYS, _PROVIDERS):
            database.execute(statement, (last,))
        database.execute("COMMIT")
        if start % 720 == 0:
            print(f"  history: {start * 100 // len(hours)} %", file=sys.stderr, flush=True)


def _meters(database: sqlite3.Connection, organization_id: str, today_s: int) -> None:
    """What the keys and the organisation used, as the meters would say, and a budget for every third key."""
    for scope, owner in (("key", "key_hash"), ("organization", "organization_id")):
        database.execute(
            'INSERT INTO meters (id, organization_id, scope, scope_id, unit, "window", starts_at_s, posted, held, closed)'
            f" SELECT '{scope}:' || {owner} || ':nusd:life', organization_id, '{scope}', {owner}, 'nusd', 'life', 0,"
            f" SUM(cost_nusd), 0, 0 FROM activity_days WHERE TRUE GROUP BY {owner}"
            " ON CONFLICT DO UPDATE SET posted = excluded.posted"
        )
    database.execute(
        "UPDATE meters SET \"limit\" = posted + 2000000000000 WHERE scope = 'organization' AND scope_id = ?",
        (organization_id,),
    )
    database.execute("UPDATE api_keys SET limit_nusd = 50000000000, limit_reset = 'daily' WHERE rowid % 3 = 0")
    database.execute(
        'INSERT INTO meters (id, organization_id, scope, scope_id, unit, "window", starts_at_s, ends_at_s, "limit",'
        " posted, held, closed) SELECT 'key:' || key_hash || ':nusd:day:' || day_s, d.organization_id, 'key', key_hash,"
        " 'nusd', 'day', day_s, day_s + 86400, limit_nusd, SUM(cost_nusd), 0, 0 FROM activity_days d"
        " JOIN api_keys k ON k.hash = d.key_hash WHERE k.limit_nusd IS NOT NULL AND day_s >= ? GROUP BY key_hash, day_s",
        (today_s,),
    )
