"""The sums that must agree, as queries that find nothing when they do; each row found is a sentence. Valid on both kinds of database.

Amounts are nano-USD. Meters count what receipts say, receipts say what the entries moved, entries move value from one account to
another, roll-ups add receipts up, and what meters hold is what open holds reserved.
"""

# ruff: noqa: S608 - every part of these queries is a constant of this file or a name of the schema

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import sqlalchemy as sa

from modelgates_server.storage import schema
from modelgates_server.storage.portable import lines_of_holds

ENDED_S: Final = 60
"""A life that ended is swept within seconds; a hold that it still has after a minute is forgotten."""

SINCE_S: Final = 60
"""Clocks of two machines may differ by so much: a budget counts as there from a window's beginning only if it is older."""

_FUNDING: Final = "('grant', 'topup', 'transfer', 'refund', 'correction')"
_USE: Final = "('charge', 'adjustment')"
_LOSSES: Final = "('overrun', 'uncertain', 'cleared')"
_MONEY: Final = "('nusd', 'spend')"
_CREDIT: Final = "m.scope = 'organization' AND m.unit = 'nusd' AND m.\"window\" = 'life'"

_SUMS: Final = {
    "held": """
        SELECT 'meter ' || m.id || ' holds ' || m.held || ', its open holds make ' || COALESCE(o.held, 0)
        FROM meters m LEFT JOIN (SELECT id, SUM(held) AS held FROM ({lines}) AS l GROUP BY id) AS o ON o.id = m.id
        WHERE m.held <> COALESCE(o.held, 0)
    """,
    "holds": """
        SELECT 'the open hold ' || l.hold || ' reserves on the meter ' || l.id || ', which does not exist'
        FROM ({lines}) AS l LEFT JOIN meters m ON m.id = l.id WHERE m.id IS NULL AND l.held <> 0
    """,
    "parallel": """
        SELECT 'the open hold ' || hold || ' counts ' || held || ' times as open on ' || id FROM ({lines}) AS l
        WHERE unit = 'parallel' AND held <> 1
        UNION ALL SELECT 'meter ' || id || ' counts open requests, but was charged ' || posted FROM meters
        WHERE unit = 'parallel' AND posted <> 0
    """,
    "owners": f"""
        SELECT 'the hold ' || h.id || ' belongs to a process that ended (epoch ' || h.epoch || ')'
        FROM holds h JOIN processes p ON p.epoch = h.epoch
        WHERE p.ended_at_s < (SELECT MAX(seen_at_s) FROM processes) - {ENDED_S}
    """,
    "key use": """
        SELECT 'key ' || substr(owner, 1, 12) || ' is charged ' || SUM(posted) || ' nano-USD, its generations make '
            || (SUM(posted) - SUM(amount))
        FROM (
            SELECT scope_id AS owner, posted AS amount, posted FROM meters
            WHERE scope = 'key' AND unit = 'nusd' AND "window" = 'life'
            UNION ALL SELECT key_hash, -cost_nusd, 0 FROM generations
        ) AS both_sides GROUP BY owner HAVING SUM(amount) <> 0
    """,
    "credit use": f"""
        SELECT 'organization ' || owner || ' is charged ' || SUM(posted) || ' nano-USD, its generations make '
            || (SUM(posted) - SUM(amount))
        FROM (
            SELECT m.scope_id AS owner, m.posted AS amount, m.posted FROM meters m WHERE {_CREDIT}
            UNION ALL SELECT organization_id, -cost_nusd, 0 FROM generations
        ) AS both_sides GROUP BY owner HAVING SUM(amount) <> 0
    """,
    "credit": f"""
        SELECT account || ' has a credit of ' || SUM(credit) || ' nano-USD, its entries make ' || (SUM(credit) - SUM(amount))
        FROM (
            SELECT 'customer:' || m.scope_id AS account, m."limit" AS amount, m."limit" AS credit FROM meters m WHERE {_CREDIT}
            UNION ALL SELECT credit, -amount_nusd, 0 FROM entries WHERE kind IN {_FUNDING} AND credit LIKE 'customer:%'
            UNION ALL SELECT debit, amount_nusd, 0 FROM entries WHERE kind IN {_FUNDING} AND debit LIKE 'customer:%'
        ) AS both_sides GROUP BY account HAVING SUM(amount) <> 0
    """,
    "entries": f"""
        SELECT account || ' is charged ' || SUM(posted) || ' nano-USD, its entries make ' || (SUM(posted) - SUM(amount))
        FROM (
            SELECT 'customer:' || m.scope_id AS account, m.posted AS amount, m.posted FROM meters m WHERE {_CREDIT}
            UNION ALL SELECT debit, -amount_nusd, 0 FROM entries WHERE kind IN {_USE} AND debit LIKE 'customer:%'
            UNION ALL SELECT credit, amount_nusd, 0 FROM entries WHERE kind IN {_USE} AND credit LIKE 'customer:%'
        ) AS both_sides GROUP BY account HAVING SUM(amount) <> 0
    """,
    "accounts": f"""
        SELECT 'entry ' || id || ' of the kind ' || kind || ' moves ' || amount_nusd || ' from ' || debit || ' to ' || credit
            || ' in the books of ' || organization_id
        FROM entries
        WHERE amount_nusd <= 0 OR debit = credit OR kind NOT IN {_FUNDING} AND kind NOT IN {_USE} AND kind NOT IN {_LOSSES}
            OR kind <> 'transfer' AND (debit LIKE 'customer:%' AND debit <> 'customer:' || organization_id
                OR credit LIKE 'customer:%' AND credit <> 'customer:' || organization_id)
    """,
    "charges": f"""
        SELECT 'generation ' || COALESCE(id, 'none') || ' differs by ' || SUM(amount) || ' nano-USD from its entries'
        FROM (
            SELECT id, -cost_nusd AS amount FROM generations
            UNION ALL SELECT generation_id, CASE WHEN debit LIKE 'customer:%' THEN amount_nusd ELSE -amount_nusd END
            FROM entries WHERE kind IN {_USE}
        ) AS both_sides GROUP BY id HAVING SUM(amount) <> 0
    """,
    "owed": f"""
        SELECT 'generation ' || COALESCE(id, 'none') || ' differs by ' || SUM(amount) || ' nano-USD from what its provider is owed'
        FROM (
            SELECT id, -upstream_cost_nusd AS amount FROM generations
            UNION ALL SELECT generation_id, CASE WHEN credit LIKE 'provider:%' THEN amount_nusd ELSE -amount_nusd END
            FROM entries WHERE kind IN {_USE} OR kind = 'overrun'
        ) AS both_sides GROUP BY id HAVING SUM(amount) <> 0
    """,
    "limits": f"""
        SELECT 'meter ' || id || ' carries ' || posted || ' and holds ' || held || ', above its limit ' || "limit"
        FROM meters m WHERE unit = 'nusd' AND "limit" IS NOT NULL AND posted + held > "limit"
            AND NOT ({_CREDIT} AND posted + held <= "limit" + COALESCE((
                SELECT SUM(amount_nusd) FROM entries WHERE kind = 'correction' AND debit = 'customer:' || m.scope_id), 0))
    """,
    "meters": """
        SELECT 'meter ' || id || ' does not say what it counts: ' || scope || ' ' || scope_id || ' ' || unit || ' ' || "window"
        FROM meters WHERE id <> scope || ':' || scope_id || ':' || unit || ':' || "window"
            || CASE "window" WHEN 'life' THEN '' ELSE ':' || starts_at_s END
            OR ("window" = 'life') <> (ends_at_s IS NULL)
    """,
    "roll-ups": """
        SELECT 'key ' || substr(key_hash, 1, 12) || ' differs by ' || SUM(cost) || ' nano-USD, ' || SUM(byok)
            || ' on own accounts, ' || SUM(requests) || ' requests and ' || SUM(tokens) || ' tokens between generations and the hour '
            || hour_s
        FROM (
            SELECT created_at_ms / 3600000 * 3600 AS hour_s, organization_id, key_hash, model, COALESCE(provider, '') AS provider,
                cost_nusd AS cost, byok_cost_nusd AS byok, 1 AS requests, input_tokens + output_tokens AS tokens FROM generations
            UNION ALL SELECT hour_s, organization_id, key_hash, model, provider,
                -cost_nusd, -byok_cost_nusd, -requests, -(input_tokens + output_tokens) FROM activity_hours
        ) AS both_sides GROUP BY hour_s, organization_id, key_hash, model, provider
        HAVING SUM(cost) <> 0 OR SUM(byok) <> 0 OR SUM(requests) <> 0 OR SUM(tokens) <> 0
    """,
    "days": """
        SELECT 'key ' || substr(key_hash, 1, 12) || ' differs by ' || SUM(cost) || ' nano-USD, ' || SUM(byok)
            || ' on own accounts, ' || SUM(requests) || ' requests and ' || SUM(tokens) || ' tokens between generations and the day '
            || day_s
        FROM (
            SELECT created_at_ms / 86400000 * 86400 AS day_s, organization_id, key_hash, model, COALESCE(provider, '') AS provider,
                COALESCE(app, '') AS app, cost_nusd AS cost, byok_cost_nusd AS byok, cache_discount_nusd AS saved, 1 AS requests,
                input_tokens + output_tokens + cache_read_tokens AS tokens FROM generations
            UNION ALL SELECT day_s, organization_id, key_hash, model, provider, app, -cost_nusd, -byok_cost_nusd,
                -cache_discount_nusd, -requests, -(input_tokens + output_tokens + cache_read_tokens) FROM activity_days
        ) AS both_sides GROUP BY day_s, organization_id, key_hash, model, provider, app
        HAVING SUM(cost) <> 0 OR SUM(byok) <> 0 OR SUM(saved) <> 0 OR SUM(requests) <> 0 OR SUM(tokens) <> 0
    """,
}

_USED: Final = {
    "key": ("key_hash", "activity_hours"),
    "member": ("member_id", "activity_hours"),
    "seat": ("workspace_id || '/' || member_id", "generations"),
    "workspace": ("workspace_id", "generations"),
    "organization": ("organization_id", "activity_hours"),
    "app": ("organization_id || '/' || app", "generations"),
}
"""Whose use a row is, for each scope, and where it is added up. Windows begin at full hours, so roll-ups are exact; but the hour in
which a key moves to another workspace stands under one of them."""

_SINCE: Final = """
    SELECT scope, scope_id, CASE include_byok WHEN 0 THEN 'nusd' ELSE 'spend' END AS unit, "window",
        COALESCE(updated_at_s, created_at_s) AS since_s FROM budgets
    UNION ALL SELECT 'key', hash, CASE include_byok_in_limit WHEN 0 THEN 'nusd' ELSE 'spend' END,
        CASE limit_reset WHEN 'daily' THEN 'day' WHEN 'weekly' THEN 'week' ELSE 'month' END, updated_at_s FROM api_keys
    WHERE limit_nusd IS NOT NULL AND limit_reset IS NOT NULL
"""
"""Limits of people, with the time since when every request passes their meters."""


def sums(connection: sa.Connection) -> Iterator[tuple[str, str]]:
    """Every query of sums under the name of what it checks."""
    lines = lines_of_holds(connection)
    for kind, query in _SUMS.items():
        yield kind, query.replace("{lines}", lines)
    for scope in _USED:
        yield "windows", _window(scope)


def references() -> Iterator[tuple[str, str]]:
    """Rows that name another row, which must exist and belong to the same organisation."""
    for table in schema.metadata.sorted_tables:
        for key in sorted(table.foreign_keys, key=lambda key: key.parent.name):
            parent, column = key.column.table, key.parent.name
            row = " || '/' || ".join(f'c."{primary.name}"' for primary in table.primary_key)
            joined = f'FROM "{table.name}" c LEFT JOIN "{parent.name}" p ON p."{key.column.name}" = c."{column}"'
            named = f"SELECT '{table.name} ' || {row} || ' names as {column} ' || c.\"{column}\""
            yield (
                "references",
                f"""{named} || ', which does not exist' {joined}
                WHERE c."{column}" IS NOT NULL AND p."{key.column.name}" IS NULL""",
            )
            if "organization_id" in table.columns and "organization_id" in parent.columns:
                yield (
                    "tenants",
                    f"{named} || ', of another organization' {joined} WHERE c.organization_id <> p.organization_id",
                )


def _window(scope: str) -> str:
    """Budgets of a window: at most what was used in it, and no less where the budget is older than the window.

    The cast lets SQLite make an index for the join: it does for text, and not for an expression.
    """
    owner, source = _USED[scope]
    time = "hour_s" if source == "activity_hours" else "created_at_ms / 3600000 * 3600"
    return f"""
        SELECT 'meter ' || id || ' is charged ' || posted || ' nano-USD, the use of its window makes ' || used FROM (
            SELECT m.id, m.scope, m.scope_id, m.unit, m."window", m.starts_at_s, m.posted,
                COALESCE(SUM(CASE m.unit WHEN 'spend' THEN u.cost + u.byok ELSE u.cost END), 0) AS used
            FROM meters m LEFT JOIN (
                SELECT CAST({owner} AS TEXT) AS owner, {time} AS at_s, SUM(cost_nusd) AS cost, SUM(byok_cost_nusd) AS byok
                FROM {source} GROUP BY 1, 2
            ) AS u ON u.owner = m.scope_id AND u.at_s >= m.starts_at_s AND (m.ends_at_s IS NULL OR u.at_s < m.ends_at_s)
            WHERE m.scope = '{scope}' AND m.unit IN {_MONEY} GROUP BY m.id
        ) AS w
        WHERE posted > used OR posted < used AND EXISTS (
            SELECT 1 FROM ({_SINCE}) AS s WHERE s.scope = w.scope AND s.scope_id = w.scope_id AND s.unit = w.unit
                AND s."window" = w."window" AND s.since_s + {SINCE_S} < w.starts_at_s
        )
    """
