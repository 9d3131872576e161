"""`explain`: the whole story of one request from its receipt, in words and exact numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from modelgates_server.activity.finding import find_story
from modelgates_server.cli.frame import Options, Report
from modelgates_server.cli.local import lookups
from modelgates_server.cli.output import (
    COLUMNS,
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
from modelgates_server.errors import NotFound

if TYPE_CHECKING:
    from modelgates_server.activity.story import AttemptLine, PlanLine, Story
    from modelgates_server.storage.reader import Lookups

_WIDTH: Final = COLUMNS - 2
"""Sections are moved to the right by two."""

_OPEN: Final = "SELECT amount_nusd, created_at_s FROM holds WHERE id = :id"

_NO_PICO: Final = " " * 3
"""Stands for the three decimals that a charge does not have, so that the points of a bill are in line."""

_UNREAD: Final = frozenset({"parts", "plan", "attempts", "inputs", "created_at_ms", "streamed", "estimated"})
"""Columns that the JSON form gives in another shape."""


def explain(options: Options, generation_id: str) -> Report:
    """Tell the story of a request. Raises NotFound when there is no receipt."""
    with lookups(options) as reader:
        story = find_story(reader.all, generation_id, None)
        if story is None:
            raise _not_there(reader, generation_id)
    return Report(_as_data(story), _as_text(story))


def _not_there(reader: Lookups, generation_id: str) -> NotFound:
    hold = reader.one(_OPEN, {"id": generation_id})
    if hold is not None:
        return NotFound(
            f"{generation_id} is still open since {moment(hold['created_at_s'], seconds=True)};"
            f" it holds {dollars(hold['amount_nusd'])}",
            remedy="ask again when it has ended",
        )
    return NotFound(
        f"there is no generation {generation_id!r}",
        remedy="the id is in the response header x-generation-id and in the message's id; a request that was refused by a"
        " budget or rate has no receipt; check --data-dir too",
    )


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
    at = moment(row["created_at_ms"] / 1000, seconds=True)
    decided_on = story.decided_on()
    sections = (
        ("", f"{row['id']}: {row['outcome']}, {dollars(row['cost_nusd'], places=9)}\n{story.outcome()}"),
        ("Request", facts(story.request(at), width=_WIDTH)),
        ("Plan", _plan(story)),
        ("What happened", _attempts(story)),
        ("Decided on", facts(decided_on, width=_WIDTH) if decided_on else "not recorded"),
        ("Tokens", _tokens(story)),
        (f"Bill (prices of {row['price_version'] or 'no price list'})", _bill(story)),
    )
    return "\n\n".join(f"{title}\n{indented(text)}" if title else text for title, text in sections)


def _plan(story: Story) -> str:
    lines = story.plan_lines()
    if not lines:
        return "none was made"
    models = story.several_models

    def row(line: PlanLine) -> tuple[object, ...]:
        why = f"{line.why} → {line.became}" if line.place else f"{line.became}: {line.why}"
        return (line.place or "-", line.provider, *((line.model,) if models else ()), why)

    head = ("#", "provider", *(("model",) if models else ()), "why → what became of it")
    return table(head, map(row, lines), right=(0,), width=_WIDTH)


def _attempts(story: Story) -> str:
    lines = story.attempt_lines()
    if not lines:
        return "nothing was sent to a provider"
    told = facts(((f"{line.number}.", _attempt(line)) for line in lines), width=_WIDTH)
    return "\n".join((told, *story.uncertainties()))


def _attempt(line: AttemptLine) -> str:
    """An attempt in words, with what the provider said and its request id."""
    detail = f"{line.detail_kind}: {line.detail.rstrip('.')}." if line.detail else ""
    id_ = f"Its id: {line.request_id}." if line.request_id else ""
    return " ".join(filter(None, (line.said, detail, id_)))


def _tokens(story: Story) -> str:
    counted = story.tokens()
    note = "\nestimated: the provider did not report all of it" if story.row["estimated"] else ""
    return (facts(counted) if counted else "none") + note


def _bill(story: Story) -> str:
    parts = story.bill()
    lines = [(part.name, f"{part.quantity:,}", picodollars(part.pusd)) for part in parts]
    if lines:
        lines.append(("sum", "", picodollars(sum(part.pusd for part in parts))))
    charged = dollars(story.row["cost_nusd"], places=9) + _NO_PICO
    lines.append(("charged, rounded up to nano-USD", "", charged))
    return "\n".join((table(("what", "quantity", "USD"), lines, right=(1, 2)), *story.bill_notes()))
