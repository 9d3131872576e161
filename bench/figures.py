"""What is promised (design section 7), and the verdict on what was measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median


@dataclass(frozen=True, slots=True)
class Figure:
    """One promise. `now` and `aim` are in `unit`; the ratios are to nginx in the same run."""

    name: str
    title: str
    unit: str
    now: float
    aim: float
    ratio_now: float | None = None
    ratio_aim: float | None = None
    least: bool = False
    """More is better: `now` and `aim` are floors."""


FIGURES = (
    Figure("request", "CPU per request, 2 KB body, 32 in flight", "µs", 450, 250, 15, 9),
    Figure("event", "CPU per streamed event, paced", "µs", 60, 35, 3, 1.75),
    Figure("request_100k", "CPU per request, 100 KB body", "µs", 1000, 500),
    Figure("request_1m", "CPU per request, 1 MB body", "µs", 5000, 2500),
    Figure("first_p50", "added time to first token, p50", "ms", 4, 2),
    Figure("first_p99", "added time to first token, p99", "ms", 12, 6),
    Figure("guessed", "first token's p99 while passwords are guessed, over without", "x", 1.1, 1.1),
    Figure("dropped", "dropped of 1,000 open streams", "", 0, 0),
    Figure("stream_rss", "RSS per open stream, of 1,000", "KB", 60, 30),
    Figure("ready", "start to ready", "s", 2, 1),
    Figure("pair", "CPU of hold and settle, 32 in flight, SQLite", "µs", 60, 60),
    Figure("pairs_pg", "hold and settle, 4 processes, 1 PostgreSQL", "/s", 5000, 5000, least=True),
    Figure("activity", "Activity over a year's history, p95 of its pages", "ms", 300, 300),
    Figure("overview", "Overview over the same, p95", "ms", 300, 300),
    Figure("logs", "Logs over the same, p95 of their pages", "ms", 300, 300),
    Figure("idle_rss", "RSS when idle", "MB", 130, 90),
)


@dataclass(slots=True)
class Samples:
    """What was measured for one figure: the gateway's and nginx's values, in the order of the repetitions."""

    figure: Figure
    gateway: list[float] = field(default_factory=list)
    nginx: list[float] = field(default_factory=list)

    def ratio(self) -> float | None:
        """The median of the ratios of neighbours in time, for figures that promise one."""
        if self.figure.ratio_now is None or not self.nginx:
            return None
        return median(ours / theirs for ours, theirs in zip(self.gateway, self.nginx, strict=True))

    def verdict(self) -> str:
        """Met, or missed and by how much; and how far the aim is."""
        value, ratio, figure = median(self.gateway), self.ratio(), self.figure
        if figure.least:
            return "met" if value >= figure.now else f"missed by factor {figure.now / value:.2f}"
        missed = _missed(value, figure.now, ratio, figure.ratio_now)
        if missed:
            return f"missed by {missed}"
        far = _missed(value, figure.aim, ratio, figure.ratio_aim)
        return f"met; aim {far} away" if far else "met, aim too"

    def breaks_a_ratio(self) -> bool:
        """Whether a ceiling is missed that does not depend on how fast the machine is."""
        ratio, ceiling = self.ratio(), self.figure.ratio_now
        if self.figure.name == "dropped":
            return median(self.gateway) > 0
        return ratio is not None and ceiling is not None and ratio > ceiling

    def as_data(self) -> dict[str, object]:
        """The row of the JSON file."""
        figure = self.figure
        return {
            "name": figure.name,
            "title": figure.title,
            "unit": figure.unit,
            "gateway": self.gateway,
            "nginx": self.nginx,
            "gateway_median": median(self.gateway),
            "nginx_median": median(self.nginx) if self.nginx else None,
            "ratio": self.ratio(),
            "ceiling": figure.now,
            "ceiling_ratio": figure.ratio_now,
            "aim": figure.aim,
            "aim_ratio": figure.ratio_aim,
            "verdict": self.verdict(),
        }


def _missed(value: float, limit: float, ratio: float | None, ratio_limit: float | None) -> str:
    """By which factors the limits are missed; empty when they are met."""
    parts = []
    if value > limit:
        parts.append(f"factor {value / limit:.2f}" if limit else f"{value:g}")
    if ratio is not None and ratio_limit is not None and ratio > ratio_limit:
        parts.append(f"factor {ratio / ratio_limit:.2f} in the ratio")
    return " and ".join(parts)
