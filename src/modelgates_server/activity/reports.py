"""Questions about what happened, answered for the serving process by point reads and short ranges."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from modelgates_server.limits import Window
from modelgates_server.storage.hot import Row
from modelgates_server.storage.reader import Reader

_GENERATION = "SELECT * FROM generations WHERE id = :id AND organization_id = :organization_id"
_HOLDER = """
    SELECT provider FROM generations WHERE conversation = :conversation AND created_at_ms >= :since_ms
        AND outcome IN ('completed', 'cancelled', 'broken') AND provider IS NOT NULL
    ORDER BY created_at_ms DESC LIMIT 1
"""
_PERIODS = {"day": Window.DAY, "week": Window.WEEK, "month": Window.MONTH}
_KEY_USE = """
    SELECT COALESCE(SUM(cost_nusd) FILTER (WHERE hour_s >= :day), 0) AS day,
           COALESCE(SUM(cost_nusd) FILTER (WHERE hour_s >= :week), 0) AS week,
           COALESCE(SUM(cost_nusd) FILTER (WHERE hour_s >= :month), 0) AS month,
           COALESCE(SUM(byok_cost_nusd), 0) AS byok_life,
           COALESCE(SUM(byok_cost_nusd) FILTER (WHERE hour_s >= :day), 0) AS byok_day,
           COALESCE(SUM(byok_cost_nusd) FILTER (WHERE hour_s >= :week), 0) AS byok_week,
           COALESCE(SUM(byok_cost_nusd) FILTER (WHERE hour_s >= :month), 0) AS byok_month
    FROM activity_hours WHERE key_hash = :key_hash
"""


async def generation(reader: Reader, organization_id: str, generation_id: str) -> Row | None:
    """One receipt, if it belongs to the organisation."""
    return await reader.one(_GENERATION, {"id": generation_id, "organization_id": organization_id})


async def recall(reader: Reader, conversation: str, since_ms: int) -> str | None:
    """The provider that served a conversation last, for a process that does not remember it."""
    row = await reader.one(_HOLDER, {"conversation": conversation, "since_ms": since_ms})
    return row["provider"] if row is not None else None


async def key_use_nusd(reader: Reader, key_hash: str, now_s: float) -> dict[str, int]:
    """What a key used today, this week and this month (UTC, weeks from Monday), in nano-USD.

    Names that begin with ``byok_`` are what its organisation's own provider accounts were asked, also for life.
    """
    starts = {name: window.bounds_s(now_s)[0] for name, window in _PERIODS.items()}
    return {
        name: int(sum_) for name, sum_ in (await reader.one(_KEY_USE, {"key_hash": key_hash, **starts}) or {}).items()
    }


def generation_data(row: Row) -> dict[str, Any]:
    """A receipt in the field names of `GET /api/v1/generation` (product-surface 2.7).

    Costs stay integers in nano-USD under keys that end in `_nusd`; the edge writes them as exact decimals.
    """
    attempts = msgspec.json.decode(row["attempts"])
    prompt = (
        row["input_tokens"] + row["cache_read_tokens"] + row["cache_write_5m_tokens"] + row["cache_write_1h_tokens"]
    )
    return {
        "id": row["id"],
        "request_id": row["id"],
        "upstream_id": row["upstream_id"],
        "session_id": row["session_id"],
        "created_at": datetime.fromtimestamp(row["created_at_ms"] / 1000, UTC).isoformat().replace("+00:00", "Z"),
        "model": row["model"],
        "provider_name": row["provider"],
        "router": None,
        "api_type": row["api_type"],
        "app_id": None,
        "origin": row["app"] or "",
        "http_referer": row["app"] if (row["app"] or "").startswith(("http://", "https://")) else None,
        "user_agent": row["user_agent"],
        "external_user": row["external_user"],
        "preset_id": None,
        "workspace_id": row["workspace_id"],
        "data_region": "global",
        "streamed": bool(row["streamed"]),
        "cancelled": row["outcome"] == "cancelled",
        "outcome": row["outcome"],
        "estimated": bool(row["estimated"]),
        "latency": row["latency_ms"],
        "moderation_latency": None,
        "generation_time": row["generation_ms"],
        "finish_reason": row["finish_reason"],
        "native_finish_reason": row["finish_reason"],
        "tokens_prompt": prompt,
        "tokens_completion": row["output_tokens"],
        "native_tokens_prompt": prompt,
        "native_tokens_completion": row["output_tokens"],
        "native_tokens_reasoning": row["thinking_tokens"],
        "native_tokens_cached": row["cache_read_tokens"],
        "native_tokens_completion_images": None,
        "num_media_prompt": None,
        "num_media_completion": None,
        "num_input_audio_prompt": None,
        "num_search_results": row["web_searches"],
        "num_fetches": None,
        "web_search_engine": "native" if row["web_searches"] else None,
        "usage_nusd": row["cost_nusd"],
        "total_cost_nusd": row["cost_nusd"],
        "cache_discount_nusd": row["cache_discount_nusd"],
        "upstream_inference_cost_nusd": row["byok_cost_nusd"] or None,
        "is_byok": row["byok_cost_nusd"] > 0,
        "byok_usage_inference_nusd": row["byok_cost_nusd"],
        "response_cache_source_id": None,
        "service_tier": row["service_tier"],
        "price_version": row["price_version"],
        "provider_responses": [
            {
                "id": attempt["request_id"],
                "endpoint_id": f"{attempt['provider']}|{attempt.get('slug') or attempt['model']}",
                "provider_name": attempt["provider"],
                "model_permaslug": attempt.get("slug") or attempt["model"],
                "status": attempt["status"],
                "fault": attempt["fault"],
                "latency": attempt["ms"],
                "is_byok": bool(attempt.get("own")),
            }
            for attempt in attempts
        ],
    }
