"""What a script does with the public openrouter SDK. Runs in the SDK's own environment, which knows nothing of this repository.

Usage: openrouter_calls.py, with a JSON object on standard input: server_url and management_key, and nothing else. Prints one
JSON object: each call's name → what it gave, as the SDK's own types dump it, or the error that it raised. Calls run in this
order and share `known`.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta

import httpx
from openrouter import OpenRouter
from openrouter.errors import OpenRouterError, ResponseValidationError

MODEL = ("anthropic", "claude-opus-4.8")
CALLS = []


def call(function):
    CALLS.append(function)
    return function


class Script:
    """One run: two clients, and what earlier calls made."""

    def __init__(self, server_url, management_key):
        self.server_url = server_url
        self.admin = self.client(management_key)
        self.known = {}

    def client(self, key):
        return OpenRouter(api_key=key, server_url=self.server_url, retry_config=None)

    @property
    def user(self):
        return self.client(self.known["key"])


# Keys and credits


@call
def key_create(script):
    made = script.admin.api_keys.create(name="by script", limit=5.5, limit_reset="monthly")
    script.known |= {"key": made.key, "hash": made.data.hash}
    return made


@call
def key_create_expiring(script):
    expires_at = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
    made = script.admin.api_keys.create(name="for a month", expires_at=expires_at, include_byok_in_limit=True)
    script.known["other_hash"] = made.data.hash
    return made


@call
def key_list(script):
    return script.admin.api_keys.list(include_disabled=True, offset=0)


@call
def key_get(script):
    return script.admin.api_keys.get(hash=script.known["hash"])


@call
def key_update(script):
    return script.admin.api_keys.update(hash=script.known["hash"], name="renamed", limit=7, include_byok_in_limit=False)


@call
def key_current(script):
    return script.user.api_keys.get_current_key_metadata()


@call
def credits_get(script):
    return script.admin.credits.get_credits()


# A request, and what is told about it


@call
def message(script):
    """The SDK has no Messages call: its own HTTP library asks."""
    body = {
        "model": "/".join(MODEL),
        "max_tokens": 50,
        "messages": [{"role": "user", "content": "hello [[say:seven foxes]]"}],
    }
    headers = {"authorization": f"Bearer {script.known['key']}", "anthropic-version": "2023-06-01"}
    answer = httpx.post(f"{script.server_url}/messages", json=body, headers=headers, timeout=30).raise_for_status()
    script.known["generation"] = answer.headers["x-generation-id"]
    return answer.json()


@call
def generation_get(script):
    return script.user.generations.get_generation(id=script.known["generation"])


@call
def generation_content(script):
    return script.admin.generations.list_generation_content(id=script.known["generation"])


@call
def generation_feedback(script):
    return script.admin.generations.submit_feedback(
        generation_id=script.known["generation"], category="latency", comment="as quick as foxes"
    )


@call
def activity(script):
    return script.admin.analytics.get_user_activity()


@call
def activity_of_a_day(script):
    yesterday = datetime.now(UTC) - timedelta(days=1)
    return script.admin.analytics.get_user_activity(request={"date_": f"{yesterday:%Y-%m-%d}"})


@call
def analytics_meta(script):
    return script.admin.analytics.get_analytics_meta()


@call
def analytics_query(script):
    """Ask with what the meta call offers, as a dashboard does."""
    meta = script.admin.analytics.get_analytics_meta().data
    now = datetime.now(UTC)
    return script.admin.analytics.query_analytics(
        metrics=[metric.name for metric in meta.metrics][:2],
        dimensions=[meta.dimensions[0].name],
        granularity="day",
        time_range={"start": now - timedelta(days=2), "end": now + timedelta(hours=1)},
        limit=10,
    )


# Models


@call
def models_list(script):
    return script.user.models.list(limit=3)


@call
def models_all_pages(script):
    page, ids = script.user.models.list(limit=7), []
    while page is not None and len(ids) < 200:
        ids += [model.id for model in page.result.data]
        page = page.next()
    return {"ids": ids}


@call
def models_get(script):
    return script.user.models.get(author=MODEL[0], slug=MODEL[1])


@call
def models_count(script):
    return script.user.models.count()


@call
def models_user(script):
    return script.user.models.list_for_user(security={"bearer": script.known["key"]})


@call
def endpoints(script):
    return script.user.endpoints.list(author=MODEL[0], slug=MODEL[1])


@call
def endpoints_zdr(script):
    return script.user.endpoints.list_zdr_endpoints()


@call
def providers(script):
    return script.user.providers.list()


# People and places


@call
def members(script):
    listed = script.admin.organization.list_members()
    script.known["member"] = listed.result.data[0].id
    return listed


@call
def workspace_create(script):
    made = script.admin.workspaces.create(name="By script", slug="by-script", description="Made by a test")
    script.known["workspace"] = made.data.id
    return made


@call
def workspace_list(script):
    return script.admin.workspaces.list(limit=10)


@call
def workspace_get(script):
    return script.admin.workspaces.get(id=script.known["workspace"])


@call
def workspace_update(script):
    return script.admin.workspaces.update(
        id=script.known["workspace"], name="Renamed", default_text_model="/".join(MODEL)
    )


@call
def workspace_add_members(script):
    return script.admin.workspaces.bulk_add_members(id=script.known["workspace"], user_ids=[script.known["member"]])


@call
def workspace_members(script):
    return script.admin.workspaces.list_members(id=script.known["workspace"])


@call
def workspace_budget_set(script):
    return script.admin.workspaces.set_budget(
        workspace_ref=script.known["workspace"], interval="weekly", limit_usd=12.5
    )


@call
def workspace_budget_set_for_life(script):
    return script.admin.workspaces.set_budget(workspace_ref="by-script", interval="lifetime", limit_usd=100)


@call
def workspace_budget_get(script):
    return script.admin.workspaces.get_budget(workspace_ref=script.known["workspace"], interval="weekly")


@call
def workspace_budgets(script):
    return script.admin.workspaces.list_budgets(workspace_ref=script.known["workspace"])


@call
def workspace_budget_delete(script):
    return script.admin.workspaces.delete_budget(workspace_ref=script.known["workspace"], interval="weekly")


@call
def workspace_key_create(script):
    made = script.admin.api_keys.create(
        name="there", workspace_id=script.known["workspace"], creator_user_id=script.known["member"]
    )
    script.known["there_hash"] = made.data.hash
    return made


# Guardrails


@call
def guardrail_create(script):
    made = script.admin.guardrails.create(
        name="Frugal",
        limit_usd=2.5,
        reset_interval="daily",
        allowed_models=["/".join(MODEL)],
        description="A little each day",
    )
    script.known["guardrail"] = made.data.id
    return made


@call
def guardrail_list(script):
    return script.admin.guardrails.list(limit=10)


@call
def guardrail_get(script):
    return script.admin.guardrails.get(id=script.known["guardrail"])


@call
def guardrail_update(script):
    return script.admin.guardrails.update(
        id=script.known["guardrail"], name="Frugal still", limit_usd=3, enforce_zdr=False
    )


@call
def guardrail_assign_keys(script):
    return script.admin.guardrails.bulk_assign_keys(id=script.known["guardrail"], key_hashes=[script.known["hash"]])


@call
def guardrail_keys(script):
    return script.admin.guardrails.list_guardrail_key_assignments(id=script.known["guardrail"])


@call
def guardrail_keys_of_all(script):
    return script.admin.guardrails.list_key_assignments()


@call
def key_current_under_guardrail(script):
    return script.user.api_keys.get_current_key_metadata()


@call
def guardrail_unassign_keys(script):
    return script.admin.guardrails.bulk_unassign_keys(id=script.known["guardrail"], key_hashes=[script.known["hash"]])


@call
def guardrail_assign_members(script):
    return script.admin.guardrails.bulk_assign_members(
        id=script.known["guardrail"], member_user_ids=[script.known["member"]]
    )


@call
def guardrail_members(script):
    return script.admin.guardrails.list_guardrail_member_assignments(id=script.known["guardrail"])


@call
def guardrail_members_of_all(script):
    return script.admin.guardrails.list_member_assignments()


@call
def guardrail_unassign_members(script):
    return script.admin.guardrails.bulk_unassign_members(
        id=script.known["guardrail"], member_user_ids=[script.known["member"]]
    )


@call
def guardrail_delete(script):
    return script.admin.guardrails.delete(id=script.known["guardrail"])


# Own provider keys


@call
def byok_create(script):
    made = script.admin.byok.create(
        provider="anthropic", key="sk-ant-api03-0123456789abcdef", name="Ours", is_fallback=False
    )
    script.known["byok"] = made.data.id
    return made


@call
def byok_list(script):
    return script.admin.byok.list()


@call
def byok_get(script):
    return script.admin.byok.get(id=script.known["byok"])


@call
def byok_update(script):
    return script.admin.byok.update(
        id=script.known["byok"], name="Ours, renamed", disabled=True, allowed_models=["/".join(MODEL)]
    )


@call
def byok_delete(script):
    return script.admin.byok.delete(id=script.known["byok"])


# Errors, as the SDK's own classes


@call
def error_unknown_key(script):
    return script.admin.api_keys.get(hash="0" * 64)


@call
def error_wrong_class(script):
    return script.user.credits.get_credits()


@call
def error_dead_key(script):
    return script.client("sk-mg-mgmt-v1-nobody").credits.get_credits()


@call
def error_bad_body(script):
    return script.admin.api_keys.create(name="", limit=1)


@call
def error_foreign_guardrail(script):
    return script.admin.guardrails.get(id="gr-nobody")


# Tidying up


@call
def workspace_key_delete(script):
    return script.admin.api_keys.delete(hash=script.known["there_hash"])


@call
def workspace_remove_members(script):
    return script.admin.workspaces.bulk_remove_members(id=script.known["workspace"], user_ids=[script.known["member"]])


@call
def workspace_delete(script):
    return script.admin.workspaces.delete(id=script.known["workspace"])


@call
def key_disable(script):
    return script.admin.api_keys.update(hash=script.known["hash"], disabled=True)


@call
def error_disabled_key(script):
    return script.user.api_keys.get_current_key_metadata()


@call
def key_delete(script):
    return script.admin.api_keys.delete(hash=script.known["hash"])


@call
def key_delete_other(script):
    return script.admin.api_keys.delete(hash=script.known["other_hash"])


@call
def key_list_at_the_end(script):
    return script.admin.api_keys.list(include_disabled=True)


def plain(found):
    """What a call gave: SDK types as JSON; a page of a list is its `result`."""
    found = getattr(found, "result", found)
    return found.model_dump(mode="json") if hasattr(found, "model_dump") else found


def outcome(function, script):
    try:
        return {"gave": plain(function(script))}
    except ResponseValidationError as error:
        return {
            "raised": type(error).__name__,
            "status": error.status_code,
            "cause": str(error.cause),
            "body": error.body,
        }
    except OpenRouterError as error:
        return {"raised": type(error).__name__, "status": error.status_code, "body": error.body}
    except Exception as error:  # noqa: BLE001 - every failure is an outcome that the test judges
        return {"raised": type(error).__name__, "cause": str(error)}


def main():
    given = json.load(sys.stdin)
    script = Script(given["server_url"], given["management_key"])
    json.dump({function.__name__: outcome(function, script) for function in CALLS}, sys.stdout)


if __name__ == "__main__":
    main()
