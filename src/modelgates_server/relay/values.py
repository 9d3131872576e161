"""What the relay is told besides the ask, and what it needs to know about the house."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec


class Incoming(msgspec.Struct, frozen=True):
    """What came with the body.

    `headers` are those that may travel upstream, lower case, and `betas` the names of `anthropic-beta`; `app` and `user_agent` are
    for the receipt; `report` asks for the routing report; with `fallbacks_beta` that field is the upstream's.
    """

    id: str
    received_s: float
    headers: tuple[tuple[str, str], ...] = ()
    betas: tuple[str, ...] = ()
    beta_query: bool = False
    app: str | None = None
    user_agent: str | None = None
    report: bool = False
    fallbacks_beta: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """The relay's clocks and choices, all in seconds (design decision 1 and 4, providers 6.3 and 7).

    `first_byte_s` is until the first content, twice that for a very long prompt; a last candidate is asked once more after
    about `retry_pause_s`, or after the pause that it asks for if that is at most `patience_s`.
    """

    first_byte_s: float = 120.0
    answer_s: float = 600.0
    count_s: float = 10.0
    idle_s: float = 300.0
    total_s: float = 3600.0
    hold_wait_s: float = 2.0
    retry_pause_s: float = 0.5
    patience_s: float = 2.0
    attempts_max: int = 5
    clamp: bool = True


@dataclass(slots=True)
class Stopping:
    """Whether this process gives up what is still running: what is cut off then is nobody's bill."""

    now: bool = False
