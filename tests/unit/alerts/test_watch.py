"""What upkeep runs: everything in one look, nothing while the store is away, and old alerts forgotten."""

from __future__ import annotations

import logging

import pytest
import sqlalchemy as sa
from tests.unit.alerts.office import USD, Office

from modelgates_server.alerts.outbox import KEPT_S, Alert, Kind, Outbox, Severity, prune
from modelgates_server.alerts.watch import Watch
from modelgates_server.limits import Window
from modelgates_server.management.settings import TopUpRule, update_settings
from modelgates_server.storage import schema
from modelgates_server.storage.engine import transaction

GONE = "postgresql+psycopg://nobody@127.0.0.1:1/none"


def post(office: Office, dedupe: str, kind: Kind = Kind.BUDGET, *, cleared: bool = False) -> None:
    alert = Alert(office.organization_id, dedupe, kind, Severity.INFO, dedupe)
    with transaction(office.engine) as connection:
        Outbox(("operator:webhook",)).post(connection, alert, office.now_s)
        if cleared:
            mine = schema.alerts.c.dedupe == dedupe
            connection.execute(sa.update(schema.alerts).where(mine).values(cleared_at_s=1))


async def test_one_look_tops_up_and_tells_of_limits_and_credit(office: Office) -> None:
    """In that order, with the organisation's own wishes and the configuration's thresholds; a second look says nothing."""
    rule = TopUpRule(True, 5 * USD, 2 * USD)
    update_settings(office.engine, office.organization_id, "ann", office.now_s, low_balance_nusd=4 * USD, topup=rule)
    key = office.key(limit_nusd=10 * USD)
    office.use_key(key, 7 * USD, Window.LIFE)
    office.use_credit(99 * USD)
    watch = Watch(office.engine, office.outbox, office.clock, thresholds=(70,))
    await watch.look()
    assert sorted(alert["kind"] for alert in office.told()) == ["budget", "credit", "topup"]
    assert [alert["details"]["balance_nusd"] for alert in office.told() if alert["kind"] == "credit"] == [3 * USD]
    await watch.look()
    assert sorted(alert["kind"] for alert in office.told()) == ["budget", "credit", "topup", "topup"]
    await watch.look()
    assert len(office.told()) == 4


async def test_a_store_that_is_away_is_waited_for(office: Office) -> None:
    """No look fails because of it; the next one finds what there is."""
    away = sa.create_engine(GONE, connect_args={"connect_timeout": 2})
    await Watch(away, office.outbox, office.clock).look()
    await Watch(away, office.outbox, office.clock).forget()
    away.dispose()


async def test_an_outage_is_told_once_on_one_line(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    """However often is looked meanwhile; the next outage is told again."""
    caplog.set_level(logging.INFO, "modelgates_server")
    away = sa.create_engine(GONE, connect_args={"connect_timeout": 2})
    watch = Watch(away, office.outbox, office.clock)
    for engine, told in ((away, 1), (away, 1), (office.engine, 1), (away, 2)):
        object.__setattr__(watch, "engine", engine)
        await watch.look()
        await watch.forget()
        reasons = [vars(one)["reason"] for one in caplog.records if one.message == "alerts_wait_for_the_store"]
        assert len(reasons) == told
    away.dispose()
    assert all(reason.endswith("Connection refused") for reason in reasons)


def test_old_alerts_are_forgotten_but_not_what_still_stands(office: Office) -> None:
    """A day's budget of last year is; a lifetime limit that is used up, or low credit, would be told again."""
    post(office, "key:a:nusd:day:1700000000:5:80")
    post(office, "key:a:nusd:life:5:80")
    post(office, "key:b:nusd:life:5:80", cleared=True)
    post(office, "credit:low", Kind.CREDIT)
    post(office, "credit:low:alr-1", Kind.CREDIT, cleared=True)
    office.clock.advance(KEPT_S)
    prune(office.engine, office.now_s)
    assert len(office.told()) == 5
    post(office, "key:a:nusd:day:1800000000:5:80")
    office.clock.advance(1)
    prune(office.engine, office.now_s)
    kept = {alert["dedupe"] for alert in office.told()}
    assert kept == {"key:a:nusd:life:5:80", "credit:low", "key:a:nusd:day:1800000000:5:80"}
    assert len(office.deliveries()) == 3
