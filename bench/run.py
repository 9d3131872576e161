"""Measure the gateway against design section 7, with nginx in the same run as the yardstick.

`make bench`, or `python bench/run.py [--quick] [--only NAME] [--strict]`.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from activity import page_times
from cases import Bench, Cost, first_text, open_streams, paced, whole
from figures import FIGURES, Samples
from ledger import postgres_rates, sqlite_cost_us
from process import BENCH_CORE, SUBJECT_CORE, foreign_s, rss_bytes
from report import machine, table, write
from subjects import House, Subject, nginx, nginx_program, upstream, workplace

RESULTS = Path(__file__).parent / "results"

STREAMS, STREAM_RATE = 1000, 4
"""Open at once, and each one's events a second: a slow model's pace, so that memory is measured and not the CPU."""

PACED_STREAMS, PACED_RATE = 200, 20
GUESSES_PER_S, GUESSES_BEFORE_S = 17, 5.0
"""Ten thousand guesses in ten minutes; the first few of them, whose password is really looked at, come before the measured ones."""

SETTLE_S = 1.0
"""After its start a process is left alone for this long before its idle memory is read."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long and how often."""

    repeats: int
    request_s: float
    large_s: float
    paced_s: float
    open_s: float
    first_count: int
    pairs: int
    generations: int


FULL = Effort(
    repeats=3, request_s=4, large_s=3, paced_s=10, open_s=6, first_count=200, pairs=10_000, generations=10_000_000
)
QUICK = Effort(
    repeats=1, request_s=2, large_s=1.5, paced_s=4, open_s=3, first_count=100, pairs=4_000, generations=300_000
)


class Run:
    """One run of the bench: its parts, what it measured so far, and what it noticed."""

    def __init__(self, effort: Effort, fixed: Subject, folder: Path) -> None:
        self.effort = effort
        self.fixed = fixed
        self.folder = folder
        self.house = House(folder / "gateway", fixed.port)
        self.bench = Bench(folder, fixed, self.house.key)
        self.samples = {figure.name: Samples(figure) for figure in FIGURES}
        self.notes: dict[str, object] = {}

    def note(self, name: str, gateway: float, yardstick: float | None = None) -> None:
        """Keep one measurement."""
        row = self.samples[name]
        row.gateway.append(gateway)
        if yardstick is not None:
            row.nginx.append(yardstick)
        unit, told = row.figure.unit, "" if yardstick is None else f"  nginx {yardstick:.2f}"
        print(f"  {row.figure.title}: {gateway:.2f} {unit}{told}", file=sys.stderr, flush=True)

    def costs(self, name: str, measure: Callable[[Subject], Cost], gateway: Subject, yardstick: Subject) -> None:
        """Measure a CPU cost on both, one after the other, as often as the effort says."""
        for _ in range(self.effort.repeats):
            theirs, ours = measure(yardstick), measure(gateway)
            self.note(name, ours.cpu_us, theirs.cpu_us)
            self.notes[f"{name}_per_s"] = f"gateway {ours.per_s:.0f}, nginx {theirs.per_s:.0f}"


def steady(run: Run, wanted: Callable[[str], bool], gateway: Subject, yardstick: Subject) -> None:
    """The figures of a warm gateway."""
    effort, bench = run.effort, run.bench
    sizes = (("request", 2_000, effort.request_s), ("request_100k", 100_000, effort.large_s))
    for name, size_bytes, seconds in (*sizes, ("request_1m", 1_000_000, effort.large_s)):
        if wanted(name):
            run.costs(name, partial(whole, bench, size_bytes=size_bytes, seconds=seconds), gateway, yardstick)
    if wanted("event"):
        run.costs(
            "event",
            partial(paced, bench, streams=PACED_STREAMS, rate=PACED_RATE, seconds=effort.paced_s),
            gateway,
            yardstick,
        )
    if wanted("first_p50") or wanted("first_p99"):
        for _ in range(effort.repeats):
            times = first_text(bench, [run.fixed, yardstick, gateway], effort.first_count)
            for name, part in (("first_p50", 0.5), ("first_p99", 0.99)):
                at = {who: found[int(part * len(found))] for who, found in times.items()}
                run.note(name, at["gateway"] - at["upstream"], at["nginx"] - at["upstream"])
    if wanted("guessed"):
        guessed(run, gateway)


def guessed(run: Run, gateway: Subject) -> None:
    """How much later the latest first token comes while somebody guesses at a password (reliability-security 1.3)."""
    wrong = {"port": gateway.port, "per_s": GUESSES_PER_S, "account": "admin@bench.example"}
    for _ in range(run.effort.repeats):
        count = 5 * run.effort.first_count
        calm = first_text(run.bench, [gateway], count)["gateway"]
        busy = first_text(run.bench, [gateway], count, wrong, GUESSES_BEFORE_S)["gateway"]
        at = int(0.99 * count)
        run.note("guessed", busy[at] / calm[at])


def fresh(run: Run, wanted: Callable[[str], bool]) -> None:
    """The figures of a gateway that has just been started: each repetition has its own."""
    for _ in range(run.effort.repeats):
        with run.house.serving() as (gateway, ready_s):
            time.sleep(SETTLE_S)
            if wanted("ready") or wanted("idle_rss"):
                run.note("ready", ready_s)
                run.note("idle_rss", rss_bytes(gateway.pids) / 1e6)
            if wanted("dropped") or wanted("stream_rss"):
                ours = _open_streams(run, gateway)
                with nginx(run.folder, run.fixed.port) as yardstick:
                    theirs = _open_streams(run, yardstick)
                for name, mine, other in zip(("dropped", "stream_rss"), ours, theirs, strict=True):
                    run.note(name, mine, other)


def _open_streams(run: Run, subject: Subject) -> tuple[float, float]:
    """Streams dropped, and KB of memory per stream above what the warm, idle process had."""
    whole(run.bench, subject, 2_000, 0.5)
    idle = rss_bytes(subject.pids)
    found = open_streams(run.bench, subject, streams=STREAMS, rate=STREAM_RATE, seconds=run.effort.open_s)
    return found["dropped"], (found["rss_bytes"] - idle) / STREAMS / 1000


def books(run: Run, wanted: Callable[[str], bool]) -> None:
    """The figures of the ledger alone."""
    for _ in range(run.effort.repeats):
        if wanted("pair"):
            run.note("pair", sqlite_cost_us(run.effort.pairs))
        if wanted("pairs_pg"):
            rate, single = postgres_rates(run.effort.pairs)
            run.note("pairs_pg", rate)
            run.notes["single commits of one connection to PostgreSQL per s"] = f"{single:.0f}"


def pages(run: Run, wanted: Callable[[str], bool]) -> None:
    """The figures of the pages that read a long history: hundreds of them, so once is enough."""
    if any(map(wanted, ("activity", "overview", "logs"))):
        found, told = page_times(run.effort.generations)
        for took in found:
            if wanted(took.name):
                run.note(took.name, took.part(0.95))
        run.notes |= told


def measure(effort: Effort, only: str | None) -> Run:
    """Run everything, or the one figure that is asked for."""

    def wanted(name: str) -> bool:
        return only is None or name.startswith(only)

    folder = workplace()
    with ExitStack() as stack:
        fixed = stack.enter_context(upstream(folder))
        run = Run(effort, fixed, folder)
        with ExitStack() as warm:
            gateway, _ = warm.enter_context(run.house.serving())
            steady(run, wanted, gateway, warm.enter_context(nginx(folder, fixed.port)))
        fresh(run, wanted)
        books(run, wanted)
        pages(run, wanted)
        run.notes["meters"] = run.house.meters()
        run.notes["receipts_written"] = run.house.receipts()
    return run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one short repetition of each, in less than a minute")
    parser.add_argument("--only", metavar="NAME", help="figures that begin with: " + ", ".join(f.name for f in FIGURES))
    parser.add_argument(
        "--strict", action="store_true", help="exit 1 when a ratio's ceiling is missed or a stream dropped"
    )
    options = parser.parse_args()
    if not {SUBJECT_CORE, BENCH_CORE} <= os.sched_getaffinity(0):
        print("This machine has one core: all figures include the bench itself.", file=sys.stderr)
    started_s, others_s = time.perf_counter(), foreign_s()
    run = measure(QUICK if options.quick else FULL, options.only)
    rows = [row for row in run.samples.values() if row.gateway]
    if not rows:
        parser.error(f"no figure begins with {options.only!r}")
    print(table(rows))
    took_s, others_s = time.perf_counter() - started_s, foreign_s() - others_s
    told = f"{others_s / took_s:.0%} of a core during {took_s:.0f} s"
    print(f"Used by others on this machine, or taken from it by its host: {told}.", file=sys.stderr)
    run.notes["used by others, or taken by the host"] = told
    if options.only is None and not options.quick:
        write(RESULTS, rows, machine(nginx_program()), run.notes)
        print("written to bench/results/", file=sys.stderr)
    return int(options.strict and any(row.breaks_a_ratio() for row in rows))


if __name__ == "__main__":
    sys.exit(main())
