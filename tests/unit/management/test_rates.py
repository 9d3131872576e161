"""Rates and requests at the same time, above the keys' own."""

from __future__ import annotations

import pytest
from tests.unit.management.estate import Estate

from modelgates_server.errors import BadRequest, NotFound
from modelgates_server.limits import Scope, Unit
from modelgates_server.management.rates import NO_RATES, Paced, Rates, list_rates, pace, rates_of


def set_rates(estate: Estate, scope: Scope, owner: str, rates: Rates) -> Paced:
    return pace(estate.engine, estate.org, Paced(scope, owner, rates), "test", estate.now_s)


async def test_rates_are_set_changed_and_lifted(either: Estate) -> None:
    """All three at once; a caller has those of its organisation, workspace and member, broad ones first."""
    ann = either.member()
    secret, _ = either.key(member_id=ann.id, requests_per_minute=4)
    set_rates(either, Scope.MEMBER, ann.id, Rates(tokens_per_minute=3))
    set_rates(either, Scope.WORKSPACE, either.workspace, Rates(1, 2, 3))
    set_rates(either, Scope.ORGANIZATION, either.org, Rates(parallel_max=5))
    set_rates(either, Scope.WORKSPACE, either.workspace, Rates(parallel_max=2))
    assert [(ref.scope, ref.unit, ref.limit) for ref in (await either.caller(secret)).meters[:4]] == [
        (Scope.ORGANIZATION, Unit.PARALLEL, 5), (Scope.WORKSPACE, Unit.PARALLEL, 2), (Scope.MEMBER, Unit.TOKENS, 3),
        (Scope.KEY, Unit.REQUESTS, 4),
    ]  # fmt: skip
    set_rates(either, Scope.WORKSPACE, either.workspace, NO_RATES)
    assert {paced.scope for paced in list_rates(either.engine, either.org)} == {Scope.ORGANIZATION, Scope.MEMBER}
    assert rates_of(either.engine, either.org, Scope.MEMBER, ann.id).rates == Rates(tokens_per_minute=3)
    assert rates_of(either.engine, either.org, Scope.WORKSPACE, either.workspace).rates == NO_RATES


@pytest.mark.parametrize("rates", [Rates(0), Rates(tokens_per_minute=-1), Rates(parallel_max=0), Rates(10**9 + 1)])
def test_a_rate_that_cannot_be_is_refused(estate: Estate, rates: Rates) -> None:
    """To stop somebody altogether there are other means; a key's rates are set with the key."""
    with pytest.raises(BadRequest, match="from 1 to"):
        set_rates(estate, Scope.WORKSPACE, estate.workspace, rates)
    with pytest.raises(BadRequest, match="a key has its own"):
        set_rates(estate, Scope.KEY, "k", Rates(1))


def test_a_foreign_owner_is_unknown(estate: Estate) -> None:
    """For reading and for setting."""
    foreign = estate.foreign
    for scope, owner in (
        (Scope.MEMBER, foreign.admin.id), (Scope.WORKSPACE, foreign.workspace.id),
        (Scope.ORGANIZATION, foreign.organization.id),
    ):  # fmt: skip
        with pytest.raises(NotFound, match="there is no such"):
            set_rates(estate, scope, owner, Rates(1))
        with pytest.raises(NotFound, match="there is no such"):
            rates_of(estate.engine, estate.org, scope, owner)
    set_rates(estate, Scope.WORKSPACE, estate.workspace, Rates(1))
    assert list_rates(estate.engine, foreign.organization.id) == []
