"""Credit that runs out is told once, and again only after it was well up."""

from __future__ import annotations

from tests.unit.alerts.office import USD, Office, at_once

from modelgates_server.alerts.topup import OperatorPays, PaymentRefused, top_up
from modelgates_server.ledger.credit import standing
from modelgates_server.management.credits import grant_credits
from modelgates_server.management.settings import TopUpRule
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading

MONTH_S = 31 * 86_400


def balance(office: Office) -> int:
    with reading(office.engine) as connection:
        return standing(connection, office.organization_id).balance_nusd


def grant(office: Office, usd: int) -> None:
    grant_credits(office.engine, office.organization_id, usd * USD, "more", "ann", office.now_s)


def run(office: Office, rule: TopUpRule, **more: object) -> int:
    engine = more.get("engine", office.engine)
    return top_up(engine, more.get("payments", OperatorPays()), office.outbox, office.rules(top_up=rule), office.now_s)  # type: ignore[arg-type]


def topups(office: Office) -> list[int]:
    return [row["amount_nusd"] for row in office.rows(schema.entries) if row["kind"] == "topup"]


def test_a_wavering_balance_is_told_once(office: Office) -> None:
    """Below the threshold, a little above, below again: one alert. Well above and below again: a second one."""
    office.use_credit(91 * USD)
    assert (office.watch_credit(10), office.watch_credit(10)) == (1, 0)
    grant(office, 2)  # 11 of 10: above, but not by a fifth
    assert office.watch_credit(10) == 0
    office.use_credit(2 * USD)
    assert office.watch_credit(10) == 0
    grant(office, 4)  # 13 of 10
    assert office.watch_credit(10) == 0
    (first,) = office.told()
    assert first["cleared_at_s"] == int(office.now_s)
    office.use_credit(4 * USD)
    assert (office.watch_credit(10), office.watch_credit(10)) == (1, 0)
    assert len([alert for alert in office.told() if alert["cleared_at_s"] is None]) == 1


def test_the_sentence_says_what_is_left(office: Office) -> None:
    """With the threshold that somebody set, and what to do."""
    office.use_credit(92 * USD)
    office.watch_credit(10)
    assert office.told()[0]["message"] == (
        'The credit of the organization "Organization" is down to $8.00, below the $10.00 that were set for this alert.'
        " When it is used up, requests are refused: add credit."
    )


def test_eight_threads_raise_and_clear_once(office: Office) -> None:
    """Two processes, four threads each: one alert at each turn."""
    engines = [office.engine, office.another()]
    for _ in range(3):
        office.use_credit(95 * USD)
        assert sum(at_once(lambda number: office.watch_credit(10, engines[number % 2]))) == 1
        grant(office, 95)
        assert sum(at_once(lambda number: office.watch_credit(10, engines[number % 2]))) == 0
    assert [alert["cleared_at_s"] is None for alert in office.told()] == [False] * 3


def test_who_wants_no_alert_gets_none(office: Office) -> None:
    """Switched off, it says nothing, and an alert that stands is cleared."""
    office.use_credit(99 * USD)
    assert office.watch_credit(None) == 0
    office.watch_credit(10)
    office.watch_credit(None)
    assert [alert["cleared_at_s"] is None for alert in office.told()] == [False]


def test_a_top_up_fills_the_credit_and_is_booked_audited_and_told(office: Office) -> None:
    """One entry, the meter's limit, one audit row, one alert."""
    office.use_credit(96 * USD)
    rule = TopUpRule(True, 5 * USD, 20 * USD, 100 * USD)
    assert (run(office, rule), run(office, rule)) == (1, 0)
    assert balance(office) == 24 * USD
    assert topups(office) == [20 * USD]
    (audited,) = [row for row in office.rows(schema.audit) if row["action"] == "credits.topup"]
    assert audited["actor"] == "top-up rule"
    assert office.told()[0]["message"] == (
        'The credit of the organization "Organization" was topped up by $20.00 to $24.00, as its rule says. This'
        " month's top-ups are $20.00 of at most $100.00."
    )


def test_a_rule_waits_for_its_threshold(office: Office) -> None:
    """At the threshold there is still enough; a rule that is switched off does nothing."""
    office.use_credit(95 * USD)
    assert run(office, TopUpRule(True, 5 * USD, 20 * USD)) == 0
    assert run(office, TopUpRule(False, 50 * USD, 20 * USD)) == 0


def test_a_month_has_its_bound_and_says_so_once(office: Office) -> None:
    """The third top-up would pass it; next month there is room again."""
    rule = TopUpRule(True, 5 * USD, 20 * USD, 50 * USD)
    for expected in (1, 1, 0, 0):
        office.use_credit(balance(office))
        assert run(office, rule) == expected
    told = [alert for alert in office.told() if alert["severity"] == "warning"]
    assert [alert["message"].split(": ", 1)[1] for alert in told] == [
        "the rule allows $50.00 a month, and $40.00 are used. Add credit, or raise the rule's monthly limit."
    ]
    office.clock.advance(MONTH_S)
    assert run(office, rule) == 1


def test_top_ups_are_made_once_in_a_storm(office: Office) -> None:
    """Eight threads of two processes run the rule while others spend: never more than the rule allows, none twice."""
    rule = TopUpRule(True, 50 * USD, 20 * USD, 200 * USD)
    engines = [office.engine, office.another()]

    def one(number: int) -> int:
        done = 0
        for _ in range(12):
            if number % 2:
                office.use_credit(2 * USD)
            done += run(office, rule, engine=engines[number // 4])
        return done

    made = sum(at_once(one))
    while run(office, rule):
        made += 1
    assert made == 3  # 96 of 100 were spent: three fill it up to above 50
    assert topups(office) == [20 * USD] * made
    assert balance(office) == 64 * USD
    assert len([row for row in office.rows(schema.audit) if row["action"] == "credits.topup"]) == made
    assert len(office.told()) == made


def test_a_payment_is_collected_under_one_key_until_it_is_booked(office: Office) -> None:
    """A process that dies between payment and booking leaves it to the next, which pays nothing twice."""
    keys: list[str] = []

    class Dying(OperatorPays):
        def collect(self, organization_id: str, amount_nusd: int, idempotency_key: str) -> str:
            keys.append(idempotency_key)
            if len(keys) == 1:
                raise KeyboardInterrupt
            return super().collect(organization_id, amount_nusd, idempotency_key)

    office.use_credit(100 * USD)
    payments, rule = Dying(), TopUpRule(True, 5 * USD, 3 * USD)
    try:
        run(office, rule, payments=payments)
    except KeyboardInterrupt:
        assert topups(office) == []
    assert (run(office, rule, payments=payments), run(office, rule, payments=payments)) == (1, 1)
    assert keys[0] == keys[1] != keys[2]


def test_a_refused_payment_is_told_and_tried_again_within_the_hour(office: Office) -> None:
    """It says why, books nothing, and does not ask every few seconds."""
    asked = []

    class Broke(OperatorPays):
        def collect(self, organization_id: str, amount_nusd: int, idempotency_key: str) -> str:
            asked.append(idempotency_key)
            raise PaymentRefused("the card was declined")

    office.use_credit(100 * USD)
    for _ in range(3):
        assert run(office, TopUpRule(True, 5 * USD, 3 * USD), payments=Broke()) == 0
    (alert,) = office.told()
    assert (len(asked), alert["severity"], topups(office)) == (1, "critical", [])
    assert "could not be topped up by $3.00: the card was declined." in alert["message"]
    office.clock.advance(3600)
    run(office, TopUpRule(True, 5 * USD, 3 * USD), payments=Broke())
    assert len(asked) == 2
