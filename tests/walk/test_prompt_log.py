"""Opted-in prompts through a real port: what is kept, of whom, for how long, who reads it, and that opting out is obeyed at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.gateway import Gateway, Told, ask, open_gateway, until
from tests.walk.conftest import QUICK
from tests.walk.managing import done, found_another, manage

from modelgates_server import upkeep
from modelgates_server.clock import ManualClock
from modelgates_server.management import contents, rotation
from modelgates_server.management.prompt_log import PromptLog, set_prompt_log
from modelgates_server.vault.secret import load_secret

TOOLS = [{"name": "look", "description": "CANARY-tool", "input_schema": {"type": "object"}}]
TURN = '[[tool:look {"where": "CANARY-input"}]] CANARY-prompt'
SLOW = {"tokens": 60, "event_delay_s": 0.03}


@pytest.fixture(params=["sqlite", "postgresql"])
async def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Gateway]:
    url = "" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    async with open_gateway(tmp_path / "gateway", routing=QUICK, database_url=url) as opened:
        yield opened


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Gateway]:
    """On SQLite, for what is no matter of the store."""
    async with open_gateway(tmp_path / "gateway", routing=QUICK) as opened:
        yield opened


async def opt(gateway: Gateway, **wanted: Any) -> None:
    """Change the rule from another process, as the CLI does, and let the gateway hear of it."""
    with gateway.engine() as (engine, now_s):
        log = PromptLog(**{"enabled": True} | wanted)
        set_prompt_log(engine, gateway.initialised.organization_id, "default", log, "test", now_s)
    await gateway.application.context.directory.refresh()


def kept(gateway: Gateway) -> list[dict[str, Any]]:
    return gateway.rows("SELECT * FROM contents ORDER BY generation_id")


async def content(gateway: Gateway, told: Told) -> dict[str, Any]:
    return dict((await done(gateway, "GET", f"/generation/content?id={told.id}"))["data"])


async def leave(gateway: Gateway, body: dict[str, Any], simulate: dict[str, Any], wanted: str) -> str:
    """A client that goes away as soon as it has seen something; gives the generation's id."""
    async with gateway.http.post(
        gateway.messages_url, json=body, headers=gateway.headers(simulate=simulate)
    ) as response:
        seen = b""
        while wanted.encode() not in seen:
            seen += await response.content.readany()
            assert not response.content.at_eof(), seen
    await gateway.receipt(response.headers["x-generation-id"])
    return str(response.headers["x-generation-id"])


@pytest.mark.parametrize("stream", [True, False])
async def test_a_request_and_its_answer_are_kept(gateway: Gateway, stream: bool) -> None:
    """Sealed in the row, whole behind the door; nothing of the time before the workspace opted in."""
    before = await gateway.send(ask("CANARY-before", stream=stream))
    await opt(gateway, retention_days=7)
    thinking = {"type": "enabled", "budget_tokens": 1024}
    body = ask(TURN, stream=stream, system="CANARY-system", tools=TOOLS, thinking=thinking, max_tokens=4000)
    told = await gateway.send(body | {"metadata": {"user_id": "CANARY-user"}})
    (row,) = kept(gateway)
    found = await content(gateway, told)
    output = found["output"]
    shown = b"".join(data for _, data in told.events) if stream else told.body

    assert (row["generation_id"], "CANARY" in json.dumps(row)) == (told.id, False)
    assert row["expires_at_s"] - row["created_at_s"] == 7 * 86400
    assert found["input"] == body
    assert [block["type"] for block in output["content"]] == ["thinking", "text", "tool_use"]
    assert output["content"][2]["input"] == {"where": "CANARY-input"}
    assert (output["completion"], output["stop_reason"]) == (output["content"][1]["text"], "tool_use")
    assert output["reasoning"] == output["content"][0]["thinking"]
    assert "signature" not in output["content"][0]
    assert output["content"][2]["id"].encode() in shown
    assert (found["error"], found["input_cut"], found["output_cut"]) == (None, False, False)
    assert (await manage(gateway, "GET", f"/generation/content?id={before.id}")).status == 404
    assert gateway.problems() == []


async def test_a_streamed_answer_is_kept_as_it_comes_whole(one: Gateway) -> None:
    """The same blocks, whichever way they came."""
    await opt(one)
    body = ask("[[say:naïve \U0001f600 text]]")
    whole, streamed = [await content(one, await one.send(body | {"stream": stream})) for stream in (False, True)]

    assert whole["output"] == streamed["output"]
    assert whole["output"]["completion"] == "naïve \U0001f600 text"


async def test_a_failed_request_is_kept_with_what_went_wrong(one: Gateway) -> None:
    """No answer, the request, and the fault by class and status; not what the provider wrote."""
    await opt(one)
    told = await one.send(ask("CANARY-prompt"), simulate={"status": 500, "message": "CANARY-echo"})
    await one.receipt(told.id)
    found = await content(one, told)

    assert told.status == 502
    assert found["input"]["messages"] == [{"role": "user", "content": "CANARY-prompt"}]
    assert found["output"] == {"completion": None, "reasoning": None, "content": None, "stop_reason": None}
    assert found["error"]["status"] == 500
    assert "CANARY-echo" not in json.dumps(found)


async def test_of_a_stream_that_its_client_leaves_only_what_was_delivered_is_kept(one: Gateway) -> None:
    """A beginning of the answer, and no more than had been sent."""
    await opt(one)
    id_ = await leave(one, ask("hello", stream=True), SLOW, '"text_delta"')
    found = (await done(one, "GET", f"/generation/content?id={id_}"))["data"]
    whole = await content(one, await one.send(ask("hello", stream=True), simulate={"tokens": 100}))

    assert whole["output"]["completion"].startswith(found["output"]["completion"])
    assert 0 < len(found["output"]["completion"]) < len(whole["output"]["completion"]) // 2


async def test_what_is_read_out_for_the_bill_is_given_to_nobody_and_not_kept(tmp_path: Path) -> None:
    """Bedrock bills the whole answer, so it is read to its end; what came after the client left is not in the store."""
    async with open_gateway(tmp_path / "g", simulators={"aws": "bedrock"}, routing=QUICK) as gateway:
        await opt(gateway)
        id_ = await leave(gateway, ask("hello", stream=True), SLOW, '"text_delta"')
        row, found = gateway.generation(id_), (await done(gateway, "GET", f"/generation/content?id={id_}"))["data"]

    assert row["output_tokens"] == 60
    assert 0 < len(found["output"]["completion"].split()) < 30


async def test_a_broken_stream_is_kept_as_far_as_it_came(one: Gateway) -> None:
    """The text before the break, and the error beside it."""
    await opt(one)
    told = await one.send(ask("hello", stream=True), simulate={"tokens": 50, "cut_after_event": 20})
    await one.receipt(told.id)
    found = await content(one, told)

    assert told.meaning[-1] == "error"
    assert found["output"]["completion"]
    assert found["error"]["message"].startswith("The answer broke off")


async def test_a_request_that_is_too_long_is_kept_in_part(one: Gateway) -> None:
    """Its newest messages, and the word that something is missing; an answer that is too long is cut as well."""
    await opt(one)
    old = [{"role": role, "content": "x" * 400_000} for role in ("user", "assistant") * 2]
    body = ask(stream=True) | {"messages": [*old, {"role": "user", "content": "CANARY-newest"}], "system": "short"}
    found = await content(one, await one.send(body, simulate={"tokens": 5, "big_event_bytes": 3_000_000}))
    kept_messages = found["input"]["messages"]

    assert (found["input_cut"], found["output_cut"]) == (True, True)
    assert [message["content"][:13] for message in kept_messages] == ["x" * 13, "x" * 13, "CANARY-newest"]
    assert found["input"]["system"] == "short"
    assert len(json.dumps(found["output"])) < 3_000_000


async def test_only_the_named_keys_and_the_sample_are_kept(one: Gateway) -> None:
    """A rule for one key keeps nothing of another; a conversation is in the sample or not, as a whole."""
    secret, hash_ = one.new_key_row("watched")
    await opt(one, key_hashes=(hash_,))
    other = await one.send(ask())
    watched = await one.send(ask(), key=secret)
    assert [row["generation_id"] for row in kept(one)] == [watched.id]
    await opt(one, sampling_ppm=500_000)
    sessions = {f"s{number}": [await one.send(ask(session_id=f"s{number}")) for _ in range(2)] for number in range(12)}
    ids = {row["generation_id"] for row in kept(one)}
    whole = {name: [told.id in ids for told in sent] for name, sent in sessions.items()}

    assert other.status == 200
    assert {tuple(found) for found in whole.values()} == {(True, True), (False, False)}


async def test_opting_out_is_obeyed_by_what_is_under_way(gateway: Gateway) -> None:
    """A stream that began under the rule and ends after it is booked, and leaves no content; nor does it when the rule is renewed."""
    await opt(gateway)
    for after in ({"enabled": False}, {"retention_days": 5}):
        asked = len(gateway.simulator.log)
        task = asyncio.get_running_loop().create_task(
            gateway.send(ask(stream=True), simulate={"tokens": 20, "event_delay_s": 0.05})
        )
        await until(lambda asked=asked: len(gateway.simulator.log) > asked, "nothing was sent")  # type: ignore[misc]
        await asyncio.sleep(0.2)
        with gateway.engine() as (engine, now_s):
            log = PromptLog(**{"enabled": True} | after)
            set_prompt_log(engine, gateway.initialised.organization_id, "default", log, "test", now_s)
        told = await task
        assert (told.status, gateway.generation(told.id)["outcome"]) == (200, "completed")

    assert kept(gateway) == []


async def test_reading_leaves_an_audit_row_and_foreigners_read_nothing(gateway: Gateway) -> None:
    """Who, which generation, when; another organisation's key finds nothing, and neither does one without the right class."""
    await opt(gateway)
    told = await gateway.send(ask("CANARY-prompt"))
    foreign = found_another(gateway).management_key
    path = f"/generation/content?id={told.id}"
    refused = [(await manage(gateway, "GET", path, key=key)).status for key in (foreign, gateway.key)]
    await content(gateway, told)
    rows = (await done(gateway, "GET", "/audit?action=content.read"))["data"]

    assert refused == [404, 403]
    assert [(row["action"], row["target"]) for row in rows] == [("content.read", told.id)]
    assert "CANARY" not in json.dumps(rows)


async def test_what_is_stored_goes_at_its_time_or_when_it_is_deleted(gateway: Gateway) -> None:
    """Retention of each row's own; deleting empties the workspace at once and is noted; reading gives 404 from then on."""
    await opt(gateway, retention_days=1)
    short = await gateway.send(ask("CANARY-one"))
    await opt(gateway, retention_days=3)
    long = await gateway.send(ask("CANARY-two"))
    await opt(gateway, enabled=False)
    organization_id = gateway.initialised.organization_id
    with gateway.engine() as (engine, now_s):
        removed = upkeep.prune_contents(engine, ManualClock(now_s + 2 * 86400))
        assert (removed, [row["generation_id"] for row in kept(gateway)]) == (1, [long.id])
        assert not contents.has_content(engine, organization_id, short.id, now_s)
        assert contents.stored_contents(engine, organization_id, now_s)[kept(gateway)[0]["workspace_id"]].count == 1
        assert contents.delete_contents(engine, organization_id, "default", "test", now_s + 1) == 1
    assert (await manage(gateway, "GET", f"/generation/content?id={long.id}")).status == 404
    assert (await done(gateway, "GET", "/audit?action=content.delete"))["total_count"] == 1


async def test_a_rotation_takes_stored_prompts_along(gateway: Gateway) -> None:
    """Everything opens afterwards, what was kept before and after it; nothing is left under the old key-encryption key."""
    await opt(gateway)
    before = await gateway.send(ask("CANARY-before"))
    with gateway.engine() as (engine, now_s):
        secret = load_secret(gateway.config)
        rotated = await asyncio.to_thread(rotation.rotate_secrets, engine, secret, "test", now_s)
    after = await gateway.send(ask("CANARY-after"))
    texts = [(await content(gateway, told))["input"]["messages"][0]["content"] for told in (before, after)]

    assert (rotated.wrapped, rotated.broken, rotated.retired) == (1, 0, ("1",))
    assert texts == ["CANARY-before", "CANARY-after"]
    assert {row["kek_id"] for row in kept(gateway)} == {rotated.kek_id}


async def test_the_api_sets_and_shows_the_rule(one: Gateway) -> None:
    """With a new workspace or later, with everything else or nothing; null is the default; it is noted."""
    _, hash_ = one.new_key_row("watched")
    body = {
        "is_observability_io_logging_enabled": True,
        "io_logging_retention_days": 30,
        "io_logging_sampling_rate": 0.25,
    }
    shown = (await done(one, "PATCH", "/workspaces/default", body | {"io_logging_api_key_hashes": [hash_]}))["data"]
    assert {name: shown[name] for name in body} == body
    assert (shown["io_logging_api_key_hashes"], shown["io_logging_api_key_ids"]) == ([hash_], None)
    for wrong in ({"io_logging_api_key_hashes": ["0" * 64]}, {"slug": "UPPER"}, {"io_logging_retention_days": 0}):
        refused = await manage(one, "PATCH", "/workspaces/default", {"description": "d", **wrong})
        assert refused.status == 400, refused.body
    plain = {"io_logging_api_key_hashes": None, "io_logging_retention_days": None, "io_logging_sampling_rate": None}
    shown = (await done(one, "PATCH", "/workspaces/default", plain | {"description": "d2"}))["data"]
    assert [shown[name] for name in (*plain, "description")] == [None, 90, 1, "d2"]
    made = await done(one, "POST", "/workspaces", {"name": "Lab", "is_observability_io_logging_enabled": True}, 201)
    assert made["data"]["is_observability_io_logging_enabled"]
    assert (await done(one, "GET", "/audit?action=workspace.prompt_log"))["total_count"] == 3
