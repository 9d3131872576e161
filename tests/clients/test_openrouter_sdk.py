"""The public `openrouter` Python SDK against the real `serve`: a script of its world works with only the base URL changed.

The SDK's own strict types read every answer, so a missing or mistyped member raises in the script (product-surface 2.3 to 2.9).
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.clients.house import CACHE, installed
from tests.support.process import Server, Stand, serving, simulator

pytestmark = [pytest.mark.clients, pytest.mark.slow]

CALLS = Path(__file__).with_name("openrouter_calls.py")
MODEL = "anthropic/claude-opus-4.8"
DAY_S = 86_400

ERRORS = {
    "generation_content": ("NotFoundResponseError", 404),  # prompts are not stored
    "error_unknown_key": ("NotFoundResponseError", 404),
    "error_wrong_class": ("ForbiddenResponseError", 403),
    "error_dead_key": ("UnauthorizedResponseError", 401),
    "error_bad_body": ("BadRequestResponseError", 400),
    "error_foreign_guardrail": ("NotFoundResponseError", 404),
    "error_disabled_key": ("UnauthorizedResponseError", 401),
}


def spend_yesterday(stand: Stand, server: Server) -> None:
    """One request whose rows say that it was yesterday: activity shows completed days only."""
    body = {"model": "claude-opus-4-8", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}
    headers = {"x-api-key": stand.key, "anthropic-version": "2023-06-01", "content-type": "application/json"}
    request = urllib.request.Request(f"{server.base_url}/v1/messages", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.status == 200
    with closing(sqlite3.connect(stand.database, timeout=5)) as connection, connection:
        connection.execute("UPDATE activity_hours SET hour_s = hour_s - ?", (DAY_S,))
        connection.execute("UPDATE generations SET created_at_ms = created_at_ms - ?", (DAY_S * 1000,))


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What came of each call of the script, run once on a gateway of its own."""
    folder = tmp_path_factory.mktemp("openrouter")
    with simulator(folder / "simulator") as upstream:
        stand = Stand(folder / "gateway", upstream=upstream.url)
        with serving(stand) as server:
            spend_yesterday(stand, server)
            given = {"server_url": f"{server.url}/api/v1", "management_key": server.facts["management_key"]}
            done = subprocess.run(
                [installed(CACHE / "openrouter/bin/python"), CALLS],
                input=json.dumps(given),
                env={},
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            yield dict(json.loads(done.stdout))


def gave(told: dict[str, Any], call: str) -> Any:
    assert "gave" in told[call], told[call]
    return told[call]["gave"]


def test_every_call_is_answered_as_the_sdk_expects(told: dict[str, Any]) -> None:
    """No call fails, and no answer is refused by the SDK's types, but those that must be refused."""
    failed = {name: outcome for name, outcome in told.items() if "raised" in outcome and name not in ERRORS}
    assert failed == {}
    assert len(told) > 60


@pytest.mark.parametrize("call", ERRORS)
def test_refusals_are_the_classes_that_scripts_catch(told: dict[str, Any], call: str) -> None:
    """Each is the SDK's own class for its status, with a sentence and the status in `error.code`."""
    error = told[call]
    body = json.loads(error["body"])["error"]
    assert (error["raised"], error["status"], body["code"]) == (*ERRORS[call], ERRORS[call][1])
    assert len(body["message"]) > 10


def test_keys_are_what_was_asked_for(told: dict[str, Any]) -> None:
    """Created with a limit, found, changed; the listed one says the same; when it ends is kept to the second."""
    made, changed = gave(told, "key_create")["data"], gave(told, "key_update")["data"]
    assert (made["name"], made["limit"], made["limit_remaining"], made["limit_reset"]) == (
        "by script",
        5.5,
        5.5,
        "monthly",
    )
    assert (changed["hash"], changed["name"], changed["limit"]) == (made["hash"], "renamed", 7)
    assert gave(told, "key_create")["key"].startswith("sk-mg-v1-")
    assert made["hash"] in {key["hash"] for key in gave(told, "key_list")["data"]}
    other = gave(told, "key_create_expiring")["data"]
    ends = datetime.fromisoformat(other["expires_at"])
    assert timedelta(days=29) < ends - datetime.now(UTC) < timedelta(days=30)
    assert other["include_byok_in_limit"] is True


def test_a_key_knows_its_budgets(told: dict[str, Any]) -> None:
    """Its own limit first; under a guardrail also the guardrail's, which binds now, with what is spent."""
    before, under = (gave(told, call)["data"] for call in ("key_current", "key_current_under_guardrail"))
    assert [budget["scope"] for budget in before["budgets"]] == ["key_limit"]
    spent = gave(told, "message")["usage"]["cost"]
    assert under["effective_budget"]["guardrail_id"] == gave(told, "guardrail_create")["data"]["id"]
    assert (under["effective_budget"]["limit_usd"], under["effective_budget"]["spend_usd"]) == (3, spent)
    assert under["usage"] == spent


def test_the_receipt_is_that_of_the_message(told: dict[str, Any]) -> None:
    """Cost and tokens are what the answer said; feedback on it is taken."""
    message, receipt = gave(told, "message"), gave(told, "generation_get")["data"]
    usage = message["usage"]
    assert (receipt["id"], receipt["model"], receipt["total_cost"]) == (message["id"], MODEL, usage["cost"])
    assert (receipt["tokens_prompt"], receipt["tokens_completion"]) == (usage["input_tokens"], usage["output_tokens"])
    assert gave(told, "generation_feedback")["data"]["SUCCESS"] is True


def test_credit_and_activity_add_up(told: dict[str, Any]) -> None:
    """Yesterday's only request is in the activity, by its day and model, and its cost in the credit that is used."""
    (row,) = gave(told, "activity")["data"]
    credit = gave(told, "credits_get")["data"]
    yesterday = datetime.fromtimestamp(time.time() - DAY_S, UTC).date().isoformat()
    assert (row["date"][:10], row["model"], row["requests"]) == (yesterday, MODEL, 1)
    assert (credit["total_credits"], credit["total_usage"]) == (100, row["usage"])
    assert gave(told, "activity_of_a_day")["data"] == [row]


def test_analytics_answers_what_it_offers(told: dict[str, Any]) -> None:
    """Each metric has a form, and a query made of the first ones gives rows."""
    meta, answer = gave(told, "analytics_meta")["data"], gave(told, "analytics_query")["data"]
    assert {"number", "currency"} <= {metric["display_format"] for metric in meta["metrics"]}
    assert answer["metadata"]["row_count"] == len(answer["data"]) > 0


def test_models_are_listed_in_pages_and_found(told: dict[str, Any]) -> None:
    """Following the pages gives each model once, as many as are counted; one is found by author and slug, with its endpoints."""
    ids = gave(told, "models_all_pages")["ids"]
    assert len(set(ids)) == len(ids) == gave(told, "models_count")["data"]["count"]
    assert [model["id"] for model in gave(told, "models_list")["data"]] == ids[:3]
    assert {model["id"] for model in gave(told, "models_user")["data"]} == set(ids)
    assert gave(told, "models_get")["data"]["id"] == MODEL
    (endpoint,) = gave(told, "endpoints")["data"]["endpoints"]
    assert (endpoint["model_id"], endpoint["tag"]) == (MODEL, "anthropic")
    assert [row["slug"] for row in gave(told, "providers")["data"]] == ["anthropic"]


def test_workspaces_have_members_and_budgets(told: dict[str, Any]) -> None:
    """Made, renamed, filled and emptied; budgets by interval, found by id and by slug."""
    made, renamed = gave(told, "workspace_create")["data"], gave(told, "workspace_update")["data"]
    assert (renamed["id"], renamed["name"], renamed["slug"]) == (made["id"], "Renamed", "by-script")
    assert renamed["default_text_model"] == MODEL
    (member,) = gave(told, "members")["data"]
    assert [row["user_id"] for row in gave(told, "workspace_members")["data"]] == [member["id"]]
    assert (member["role"], gave(told, "workspace_remove_members")["removed_count"]) == ("org:admin", 1)
    limits = {row["reset_interval"]: row["limit_usd"] for row in gave(told, "workspace_budgets")["data"]}
    assert limits == {"weekly": 12.5, None: 100}
    assert gave(told, "workspace_key_create")["data"]["workspace_id"] == made["id"]


def test_guardrails_are_assigned_to_keys_and_members(told: dict[str, Any]) -> None:
    """Made, changed, assigned and taken off again; each assignment names what it is on and who made it."""
    made, changed = gave(told, "guardrail_create")["data"], gave(told, "guardrail_update")["data"]
    assert (made["limit_usd"], made["reset_interval"], made["allowed_models"]) == (2.5, "daily", [MODEL])
    assert (changed["name"], changed["limit_usd"]) == ("Frugal still", 3)
    (on_key,) = gave(told, "guardrail_keys")["data"]
    (on_member,) = gave(told, "guardrail_members")["data"]
    assert (on_key["key_hash"], on_key["key_name"]) == (gave(told, "key_create")["data"]["hash"], "renamed")
    assert on_member["user_id"] == gave(told, "members")["data"][0]["id"]
    assert (
        gave(told, "guardrail_keys_of_all")["total_count"] == gave(told, "guardrail_members_of_all")["total_count"] == 1
    )
    counts = ("guardrail_unassign_keys", "guardrail_unassign_members")
    assert [gave(told, call)["unassigned_count"] for call in counts] == [1, 1]


def test_own_provider_keys_can_be_written_and_never_read(told: dict[str, Any]) -> None:
    """Only the masked form is shown, in every answer."""
    made, changed = gave(told, "byok_create")["data"], gave(told, "byok_update")["data"]
    assert (made["provider"], made["name"], made["disabled"]) == ("anthropic", "Ours", False)
    assert (changed["name"], changed["disabled"], changed["allowed_models"]) == ("Ours, renamed", True, [MODEL])
    assert [row["id"] for row in gave(told, "byok_list")["data"]] == [made["id"]]
    assert "0123456789abcdef" not in json.dumps({name: told[name] for name in told if name.startswith("byok")})


def test_nothing_is_left_behind(told: dict[str, Any]) -> None:
    """What the script made it deleted: the first key is the only one again."""
    before = {key["hash"] for key in gave(told, "key_list")["data"]}
    mine = {gave(told, call)["data"]["hash"] for call in ("key_create", "key_create_expiring")}
    assert {key["hash"] for key in gave(told, "key_list_at_the_end")["data"]} == before - mine
    assert len(before) == 3
