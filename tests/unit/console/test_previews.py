"""What lists of a guardrail permit, as its preview reads them: like routing, for endpoints that there are and that are gone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modelgates_server.activity.what_if import Refusals, Used
from modelgates_server.catalogue.kinds import Kind
from modelgates_server.catalogue.load import bundled, load_catalogue
from modelgates_server.catalogue.models import Endpoint
from modelgates_server.console.pages.guardrails import rules_in_words
from modelgates_server.console.previews import Whose, _not_permitted, _told, of_guardrail
from modelgates_server.limits import Scope, Window
from modelgates_server.management.guardrails import GuardrailRow, Rules

MODEL = "anthropic/claude-opus-4.8"
CATALOGUE = load_catalogue(bundled())
PLAIN = Endpoint("anthropic", "anthropic", CATALOGUE.models[MODEL], "m", CATALOGUE.modifiers)
GOOGLE = Kind(id="vertex", name="Google")
ENDPOINTS = {
    MODEL: (PLAIN, replace(PLAIN, provider="vertex", kind="vertex", region="us-east5", zdr=True, traits=GOOGLE))
}
ROWS = [Used((None, "k"), MODEL, provider, 1, 1, 1) for provider in ("anthropic", "vertex", "gone", "")]


@pytest.mark.parametrize(
    ("rules", "barred"),
    [
        (Rules("r"), set()),
        (Rules("r", allowed_providers=("anthropic",)), {"vertex", "gone"}),
        (Rules("r", allowed_providers=("vertex/us-east5", "gone")), {"anthropic"}),
        (Rules("r", allowed_providers=("vertex/europe-west1",)), {"anthropic", "vertex", "gone"}),
        (Rules("r", ignored_providers=("vertex",)), {"vertex"}),
        (Rules("r", ignored_providers=("gone",)), {"gone"}),
        (Rules("r", settings={"enforce_zdr_anthropic": True}), {"anthropic", "gone"}),
        (Rules("r", settings={"enforce_zdr_openai": True, "enforce_zdr_anthropic": False}), set()),
    ],
)
def test_providers_are_permitted_as_routing_would(rules: Rules, barred: set[str]) -> None:
    """By slug with or without region, and by what is kept; of a provider that is gone only its slug is known."""
    assert _not_permitted(rules, ROWS, ENDPOINTS) == {(MODEL, provider) for provider in barred}


def test_whom_a_guardrail_is_about() -> None:
    """Members, and keys of others; nobody means every member; a default one everybody in its workspace."""
    row = GuardrailRow("g", "o", "w", is_default=False, rules=Rules("g"), created_at_s=0, updated_at_s=None)

    assert of_guardrail(row, ["m"], [("k", "m"), ("l", None), ("n", "other")]) == Whose(("m",), ("l", "n"))
    assert of_guardrail(row, [], []).everybody
    assert of_guardrail(row, [], [("k", "m")]) == Whose((), ("k",))
    everybody = of_guardrail(replace(row, is_default=True), [], []).allowances(Window.DAY, 5)
    assert [(one.scope, one.workspace_id, one.memberless) for one in everybody] == [
        (Scope.SEAT, "w", False), (Scope.KEY, "w", True),
    ]  # fmt: skip


def test_rules_are_told_in_words() -> None:
    """Each demand in a few words; no rules, no words."""
    rules = Rules(
        "r", limit_nusd=20_000_000_000, reset_interval="weekly", mode="soft", allowed_models=("a/b",),
        ignored_providers=("vertex", "bedrock"), settings={"enforce_zdr_other": True, "enable_paid_model_training": True},
    )  # fmt: skip

    assert rules_in_words(rules) == (
        "$20.00 a week for each, only warns", "only the models a/b", "never the providers vertex, bedrock",
        "zero data retention for models of other",
    )  # fmt: skip
    assert rules_in_words(Rules("r")) == ()


def test_an_answer_that_is_about_right_says_so() -> None:
    """The count and the amount are marked; what would have gone elsewhere is not called refused."""
    found = Refusals(0, exact=False)
    found.add(("m", "k"), 2, 3_000_000_000, 86_400_000)

    assert _told(found, (), "refused", daily=True).startswith("refused about 2 requests of ")
    assert ", worth about $3.00; the first one on 1970-01-02." in _told(found, (), "refused", daily=True)
    assert "to another provider" in _told(found, (), "moved", daily=False)
    assert _told(Refusals(0), (), "moved", daily=False) == "sent nothing elsewhere."
