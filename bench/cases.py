"""The measurements: each runs one load against one subject, and says what it cost."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bodies import body, write_request
from process import BENCH_CORE, ROOT, pinned
from subjects import Subject

HERE = Path(__file__).parent

IN_FLIGHT = 32
WARM_S = 0.7
RAMP_S = 1.0

LOAD_LIMIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Bench:
    """What every measurement needs: a folder, the upstream, the gateway's key (nginx takes no notice of it)."""

    folder: Path
    upstream: Subject
    key: str

    def request(self, name: str, payload: bytes) -> str:
        """The file that holds a request, made on first use."""
        path = self.folder / f"{name}.http"
        return str(path) if path.exists() else write_request(path, self.key, payload)

    def load(self, kind: str, **order: Any) -> dict[str, Any]:
        """Run the load generator on the bench's core; what it found. SystemExit when it breaks."""
        done = subprocess.run(
            [sys.executable, str(HERE / "load.py"), json.dumps({"load": kind, **order})],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            timeout=LOAD_LIMIT_S,
            preexec_fn=pinned(BENCH_CORE),
        )
        if done.returncode:
            raise SystemExit(f"the load generator failed:\n{done.stderr}")
        return dict(json.loads(done.stdout))


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU time of one request or event, how many there were, and how many a second."""

    cpu_us: float
    count: int
    per_s: float


def whole(bench: Bench, subject: Subject, size_bytes: int, seconds: float) -> Cost:
    """CPU of one request that is not streamed, with IN_FLIGHT of them always in flight. SystemExit when one fails."""
    found = bench.load(
        "whole",
        port=subject.port,
        request=bench.request(f"whole-{size_bytes}", body(size_bytes, stream=False)),
        connections=IN_FLIGHT,
        warm_s=WARM_S,
        seconds=seconds,
        pids=subject.pids,
        bench_pids=bench.upstream.pids,
    )
    count = found["requests"]
    if found["failures"] or not count:
        raise SystemExit(f"{subject.name} failed: {found['failures'] or 'no answers'}")
    return Cost(found["cpu_s"] / count * 1e6, count, count / found["seconds"])


def paced(bench: Bench, subject: Subject, *, streams: int, rate: int, seconds: float) -> Cost:
    """CPU of one streamed event: all the CPU from the first connection to the last close, over the events. SystemExit on a drop."""
    found = open_streams(bench, subject, streams=streams, rate=rate, seconds=seconds)
    if found["dropped"]:
        raise SystemExit(f"{subject.name} dropped {found['dropped']} of {streams} streams")
    return Cost(found["cpu_s"] / found["events"] * 1e6, found["events"], found["events"] / found["seconds"])


def open_streams(bench: Bench, subject: Subject, *, streams: int, rate: int, seconds: float) -> dict[str, Any]:
    """Open streams of `rate` events a second for `seconds`: events, dropped, cpu_s, rss_bytes while all were open."""
    events = round(rate * seconds)
    return bench.load(
        "streams",
        port=subject.port,
        request=bench.request(f"paced-{rate}x{events}", body(2_000, stream=True, pace=(rate, events))),
        streams=streams,
        events=events,
        ramp_s=RAMP_S,
        limit_s=seconds,
        pids=subject.pids,
    )


def first_text(
    bench: Bench, subjects: list[Subject], count: int, guesses: dict[str, Any] | None = None, after_s: float = 0
) -> dict[str, list[float]]:
    """Milliseconds to the first text of streamed requests, one at a time, every subject in turn; sorted, by subject.

    `guesses` says at which `port`, how often (`per_s`) and at whose `account` passwords are guessed meanwhile, and for `after_s` before.
    """
    path = bench.request("first", body(2_000, stream=True))
    targets = [{"name": subject.name, "port": subject.port, "request": path} for subject in subjects]
    found = bench.load("first", targets=targets, warm=20, count=count, guesses=guesses, after_s=after_s)
    return {name: sorted(times) for name, times in found.items()}
