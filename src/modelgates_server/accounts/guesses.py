"""Whom wrong passwords slow down: the account that is guessed at, and the network that guesses. Kept in the database, for all replicas.

An attempt is booked as a failure before the password is looked at, and forgiven when it was right, so that a thousand at the same
moment are not let through by looking first. The first few are free; then each has to wait twice as long as the one before. Nobody is
locked out for long: a wait ends after a quarter of an hour at most, and for somebody at a network from which they have signed in before,
only their own failures there count. A sign-in link works at any time.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from modelgates_server.storage import schema
from modelgates_server.storage.portable import upsert


@dataclass(frozen=True, slots=True)
class Pace:
    """How failures slow down: `free` of them cost nothing, the next waits `first_s`, each further twice that, up to `most_s`."""

    free: int
    first_s: int
    most_s: int

    def wait_s(self, failures: int) -> int:
        """How long nobody may try again after so many failures."""
        if failures < self.free:
            return 0
        return min(self.most_s, self.first_s << min(failures - self.free, 20))


ACCOUNT: Final = Pace(free=3, first_s=5, most_s=900)
"""Nine attempts in ten minutes, 96 a day (reliability-security 1.3 allows 20 hashes in ten minutes)."""

NETWORK: Final = Pace(free=30, first_s=2, most_s=300)
"""An office behind one address mistypes more often than a person."""

FORGET_S: Final = 12 * 3600
"""Failures older than that are forgotten: whoever gave up in the evening begins anew."""

KNOWN_S: Final = 90 * 24 * 3600
"""How long it is remembered that somebody signed in from a network."""

_FAILURES = schema.sign_in_failures


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt that is booked. `own` is what counts for the account: the account itself, or the person at a `known` network.

    `network` is None there: what others do at that address does not keep the person out. `shared`: several members have the account.
    """

    own: str
    known: str
    network: str | None
    shared: bool = False

    @property
    def paces(self) -> dict[str, Pace]:
        """What slows the attempt down."""
        return {self.own: ACCOUNT} if self.network is None else {self.own: ACCOUNT, self.network: NETWORK}


class Guesses:
    """Counts attempts. Addresses are kept as keyed digests: the table tells nobody who tried, or from where."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def wait_s(
        self, connection: sa.Connection, account: str, network: str, now_s: float, *, shared: bool = False
    ) -> int:
        """How many seconds nobody may try on this account from this network; 0: now. Only reads."""
        attempt = self._attempt(connection, account, network, now_s, shared=shared)
        query = sa.select(sa.func.max(_FAILURES.c.retry_at_s)).where(_FAILURES.c.subject.in_(attempt.paces))
        return max(0, (connection.execute(query).scalar_one() or 0) - int(now_s))

    def book(
        self, connection: sa.Connection, account: str, network: str, now_s: float, *, shared: bool = False
    ) -> Attempt | None:
        """Book an attempt as failed, in a transaction of its own; None, and the transaction must be undone, when it must wait.

        `shared`: the account is an address that several members have, in several organisations. Then nobody at a known network is
        taken for the person, and no password that is right forgives the others' failures: each of them may be after the rest.
        """
        attempt = self._attempt(connection, account, network, now_s, shared=shared)
        for subject, pace in sorted(attempt.paces.items()):  # in one order, so that nobody waits in a circle
            if not _fail(connection, subject, pace, int(now_s)):
                return None
        return attempt

    def forgive(self, connection: sa.Connection, attempt: Attempt, now_s: float) -> None:
        """The password was right: the account begins anew, the network gets this attempt back, and is known from now on.

        An account that is shared gets back this attempt, too, and no more.
        """
        now = int(now_s)
        rows, subject = sa.update(_FAILURES), _FAILURES.c.subject
        returned = [attempt.own, attempt.network] if attempt.shared else [attempt.network]
        back = {"failures": _FAILURES.c.failures - 1, "retry_at_s": now}
        connection.execute(rows.where(subject.in_(filter(None, returned)), _FAILURES.c.failures > 0).values(back))
        if attempt.shared:
            return
        connection.execute(rows.where(subject == attempt.own).values(failures=0, last_at_s=now, retry_at_s=now))
        known = upsert(connection, _FAILURES).values(subject=attempt.known, failures=0, last_at_s=now, retry_at_s=now)
        connection.execute(known.on_conflict_do_update(index_elements=["subject"], set_={"last_at_s": now}))

    def _attempt(self, connection: sa.Connection, account: str, network: str, now_s: float, *, shared: bool) -> Attempt:
        known = self._digest("known", f"{account}\n{network}")
        since = int(now_s) - KNOWN_S
        here = sa.select(_FAILURES.c.subject).where(_FAILURES.c.subject == known, _FAILURES.c.last_at_s > since)
        if not shared and connection.execute(here).first() is not None:
            return Attempt(known, known, None)
        return Attempt(self._digest("account", account), known, self._digest("network", network), shared)

    def _digest(self, kind: str, text: str) -> str:
        words = f"sign-in\n{kind}\n{text}".encode(errors="surrogatepass")
        return hmac.new(self._secret, words, hashlib.sha256).hexdigest()


def _fail(connection: sa.Connection, subject: str, pace: Pace, now: int) -> bool:
    """Add a failure and set when the next may follow; false when it is too early. The row stays locked until the transaction ends."""
    rows = _FAILURES.c
    fresh = upsert(connection, _FAILURES).values(subject=subject, failures=1, last_at_s=now, retry_at_s=now)
    counted = sa.case((rows.last_at_s <= now - FORGET_S, 1), else_=rows.failures + 1)
    added = fresh.on_conflict_do_update(
        index_elements=["subject"], set_={"failures": counted, "last_at_s": now}, where=rows.retry_at_s <= now
    )
    failures = connection.execute(added.returning(rows.failures)).scalar_one_or_none()
    if failures is None:
        return False
    wait_s = pace.wait_s(failures)
    connection.execute(sa.update(_FAILURES).where(rows.subject == subject).values(retry_at_s=now + wait_s))
    return True
