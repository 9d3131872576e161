"""`explain`: the whole story of one request from its receipt, in words and exact numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from modelgates_server.catalogue.kinds import bundled_kinds, load_kinds
from modelgates_server.cli.frame import Options, Report
from modelgates_server.cli.local import lookups
from modelgates_server.cli.output import (
    dollars,
    facts,
    in_usd,
    indented,
    moment,
    picodollars,
    rfc3339,
    table,
    usd_number,
)
from modelgates_server.cli.story import WIDTH, Story
from modelgates_server.errors import NotFound
from modelgates_server.routing.verdict import VERDICTS

if TYPE_CHECKING:
    from modelgates_server.storage.hot import Row
    from modelgates_server.storage.reader import Lookups

_RECEIPT: Final = """
    SELECT g.*, k.name AS key_name, k.label AS key_label, w.name AS workspace_name, m.name AS member_name
    FROM generations g
    LEFT JOIN api_keys k ON k.hash = g.key_hash
    LEFT JOIN workspaces w ON w.id = g.workspace_id
    LEFT JOIN members m ON m.id = g.member_id
    WHERE g.id = :id
"""
_EARLIER: Final = """
    SELECT id, provider, created_at_ms FROM generations WHERE conversation = :conversation AND created_at_ms < :created_at_ms
    ORDER BY created_at_ms DESC LIMIT 1
"""
_UNCERTAIN: Final = """
    SELECT e.credit, e.amount_nusd FROM entries e WHERE e.generation_id = :id AND e.kind <> 'charge'
        AND e.kind = 'uncertain' AND NOT EXISTS (
        SELECT 1 FROM entries c WHERE c.generation_id = e.generation_id AND c.kind <> 'charge' AND c.kind = 'cleared' AND c.debit = e.credit
    )
"""
_OPEN: Final = "SELECT amount_nusd, created_at_s FROM holds WHERE id = :id"

_OUTCOMES: Final = {
    "completed": "The whole answer was delivered.",
    "failed": "No provider gave an answer.",
    "cancelled": "The client left before the end.",
    "broken": "The provider's stream broke after the answer had begun, so it could not be tried elsewhere.",
    "lost": "The serving process died while the request was open; it was settled afterwards.",
}

_TOKENS: Final = (
    ("input", "input_tokens"),
    ("output", "output_tokens"),
    ("of it thinking", "thinking_tokens"),
    ("cache read", "cache_read_tokens"),
    ("cache write, 5 minutes", "cache_write_5m_tokens"),
    ("cache write, 1 hour", "cache_write_1h_tokens"),
    ("web searches", "web_searches"),
)

_NO_PICO: Final = " " * 3
"""Stands for the three decimals that a charge does not have, so that the points of a bill are in line."""

_UNREAD: Final = frozenset({"parts", "plan", "attempts", "inputs", "created_at_ms", "streamed", "estimated"})
"""Columns that the JSON form gives in another shape."""


def explain(options: Options, generation_id: str) -> Report:
    """Tell the story of a request. Raises NotFound when there is no receipt."""
    with lookups(options) as reader:
        row = _receipt(reader, generation_id)
        for name in ("parts", "plan", "attempts", "inputs"):
            row[name] = None if row[name] is None else msgspec.json.decode(row[name])
        story = Story(row, _earlier(reader, row), _uncertain(reader, row), _features())
    return Report(_as_data(story), _as_text(story))


def _receipt(reader: Lookups, generation_id: str) -> Row:
    row = reader.one(_RECEIPT, {"id": generation_id})
    if row is not None:
        return row
    hold = reader.one(_OPEN, {"id": generation_id})
    if hold is not None:
        raise NotFound(
            f"{generation_id} is still open since {moment(hold['created_at_s'], seconds=True)};"
            f" it holds {dollars(hold['amount_nusd'])}",
            remedy="ask again when it has ended",
        )
    raise NotFound(
        f"there is no generation {generation_id!r}",
        remedy="the id is in the response header x-generation-id and in the message's id; a request that was refused by a"
        " budget or rate has no receipt; check --data-dir too",
    )


def _earlier(reader: Lookups, row: Row) -> Row | None:
    """The receipt before this one in its conversation."""
    return reader.one(_EARLIER, row) if row["conversation"] is not None else None


def _uncertain(reader: Lookups, row: Row) -> dict[str, int]:
    """What attempts of unknown fate may cost, by provider. The books have no index for it, so they are asked only then."""
    unknown = {kind for kind, verdict in VERDICTS.items() if verdict.unknown}
    if not any(attempt["fault"] in unknown for attempt in row["attempts"]):
        return {}
    found: dict[str, int] = {}
    for entry in reader.all(_UNCERTAIN, {"id": row["id"]}):
        provider = entry["credit"].partition(":")[2]
        found[provider] = found.get(provider, 0) + entry["amount_nusd"]
    return found


def _features() -> dict[str, str]:
    """Words for features; empty for those that say nothing about a request, because every request is looked through for them."""
    features = load_kinds(bundled_kinds()).features.values()
    return {feature.id: "" if feature.inside else feature.what for feature in features}


def _as_data(story: Story) -> dict[str, Any]:
    row, earlier = story.row, story.earlier
    plain = {name: value for name, value in row.items() if name not in _UNREAD}
    return {
        **in_usd(plain),
        "cost_nusd": row["cost_nusd"],
        "created_at": rfc3339(row["created_at_ms"] / 1000),
        "streamed": bool(row["streamed"]),
        "estimated": bool(row["estimated"]),
        "why": story.why(),
        "plan": [entry | {"became": story.became(entry)} for entry in row["plan"]],
        "attempts": [attempt | {"said": story.said(attempt)} for attempt in row["attempts"]],
        "uncertain": [{"provider": slug, "at_most": usd_number(most)} for slug, most in story.uncertain.items()],
        "inputs": row["inputs"],
        "sticking": story.sticking(),
        "earlier_in_conversation": None if earlier is None else {"id": earlier["id"], "provider": earlier["provider"]},
        "parts": row["parts"],
    }


def _as_text(story: Story) -> str:
    row = story.row
    sections = (
        ("", _headline(row)),
        ("Request", _request(story)),
        ("Plan", story.plan_text()),
        ("What happened", story.attempts_text()),
        ("Decided on", story.inputs_text()),
        ("Tokens", _tokens(row)),
        (f"Bill (prices of {row['price_version'] or 'no price list'})", _bill(row)),
    )
    return "\n\n".join(f"{title}\n{indented(text)}" if title else text for title, text in sections)


def _headline(row: Row) -> str:
    sentence = _OUTCOMES.get(row["outcome"], f"Outcome: {row['outcome']}.")
    return f"{row['id']}: {row['outcome']}, {dollars(row['cost_nusd'], places=9)}\n{sentence}"


def _request(story: Story) -> str:
    row = story.row
    who = f"{row['key_name'] or 'a removed key'} ({row['key_label'] or row['key_hash'][:8]})"
    member = f", member {row['member_name']}" if row["member_name"] else ""
    timings = ", ".join(
        f"{row[column]:,} ms {meaning}"
        for column, meaning in (("latency_ms", "to the first content"), ("generation_ms", "in all"))
        if row[column] is not None
    )
    pairs = (
        ("key", who),
        ("workspace", f"{row['workspace_name'] or row['workspace_id']}{member}"),
        ("at", moment(row["created_at_ms"] / 1000, seconds=True)),
        ("asked for", f"{row['requested_model']}{', streamed' if row['streamed'] else ''}"),
        ("served", story.served()),
        ("why there", story.why()),
        ("took", timings or "no content came"),
        ("ended with", row["finish_reason"] or "-"),
        ("session", row["session_id"] or "-"),
        ("client", row["app"] or row["user_agent"] or "-"),
        ("provider's id", row["upstream_request_id"] or row["upstream_id"] or "-"),
    )
    return facts(pairs, width=WIDTH)


def _tokens(row: Row) -> str:
    counted = [(name, f"{row[column]:,}") for name, column in _TOKENS if row[column]]
    note = "\nestimated: the provider did not report all of it" if row["estimated"] else ""
    return (facts(counted) if counted else "none") + note


def _bill(row: Row) -> str:
    parts: list[dict[str, Any]] = row["parts"]
    lines = [(part["name"], f"{part['quantity']:,}", picodollars(part["pusd"])) for part in parts]
    pusd = sum(part["pusd"] for part in parts)
    if lines:
        lines.append(("sum", "", picodollars(pusd)))
    lines.append(("charged, rounded up to nano-USD", "", dollars(row["cost_nusd"], places=9) + _NO_PICO))
    text = table(("what", "quantity", "USD"), lines, right=(1, 2))
    loss_nusd = row["upstream_cost_nusd"] - row["cost_nusd"]
    notes = [f"{dollars(row['held_nusd'], places=9)} was held while it ran; what was not used went back."]
    if row["byok_cost_nusd"] > 0:
        asked = dollars(row["byok_cost_nusd"], places=9)
        notes.append(f"The organization's own account at {row['provider']} is asked {asked}; that uses no credit.")
    if row["cache_discount_nusd"] > 0:
        notes.append(f"Caching saved {dollars(row['cache_discount_nusd'], places=9)}.")
    if loss_nusd > 0:
        notes.append(f"The provider asks {dollars(loss_nusd, places=9)} more; the operator bears that, no budget does.")
    if row["estimated"]:
        notes.append("The charge is an estimate.")
    return text + "\n" + "\n".join(notes)
