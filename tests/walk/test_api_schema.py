"""The OpenAPI file and the gateway say the same: requests made from the one are answered by the other as it promises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.support.gateway import Gateway, ask, open_gateway

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    allow_header_conformance,
]
EXAMPLES = settings(
    max_examples=10,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
LAST = ("post", "put", "patch", "delete")
"""What only reads comes first, and what takes things away last: what was made for the paths should be there."""


@dataclass(frozen=True)
class Described:
    """A gateway, what it says about itself, and ids that exist, by the names of path parameters."""

    gateway: Gateway
    schema: Any
    ids: dict[str, str]

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.gateway.initialised.management_key}"}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def described(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Described]:
    leave = "[credits]\napi_grants = true\n"
    async with open_gateway(tmp_path_factory.mktemp("schema") / "g", toml=leave) as gateway:
        url = f"{gateway.url}/api/openapi.json"
        schema = await asyncio.to_thread(schemathesis.openapi.from_url, url)
        schema.config.generation.update(with_security_parameters=False)
        yield Described(gateway, schema, await _things(gateway))


async def _things(gateway: Gateway) -> dict[str, str]:
    """Something of every kind that a path can name."""
    assert (await gateway.send(ask())).status == 200
    headers = {"authorization": f"Bearer {gateway.initialised.management_key}", "content-type": "application/json"}

    async def first(path: str) -> Any:
        return (await gateway.request("GET", f"/api/v1{path}", headers)).json["data"][0]

    made = await gateway.request("POST", "/api/v1/guardrails", headers, b'{"name": "g"}')
    return {
        "key_hash": (await first("/keys"))["hash"],
        "workspace": (await first("/workspaces"))["id"],
        "guardrail_id": made.json["data"]["id"],
        "user_id": (await first("/organization/members"))["id"],
        "interval": "daily",
    }


async def test_every_operation_answers_as_it_is_described(described: Described) -> None:
    """No 5xx, no undocumented status, type or shape; with sensible requests and with broken ones; the books stay in order."""
    operations = [found.ok() for found in described.schema.get_all_operations()]
    operations.sort(key=lambda one: (LAST.index(one.method) + 1 if one.method in LAST else 0, one.path))
    assert len(operations) > 40
    wrong = await asyncio.to_thread(lambda: [text for one in operations for text in _wrong(described, one)])
    assert not wrong, "\n\n".join(wrong)
    await described.gateway.settled()
    assert described.gateway.problems() == []


def _wrong(described: Described, operation: Any) -> Iterator[str]:
    """What is wrong about an operation."""
    known = {one.name: described.ids[one.name] for one in operation.path_parameters if one.name in described.ids}
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
        try:
            _exercise(operation.as_strategy(generation_mode=mode, path_parameters=known or None), described.headers)
        except FailureGroup as failures:
            yield f"{operation.method.upper()} {operation.path} ({mode}): {failures}"
        except Unsatisfiable:
            if mode is GenerationMode.POSITIVE:
                raise


def _exercise(cases: Any, headers: dict[str, str]) -> None:
    """Send some requests and compare each answer with the description."""

    @given(case=cases)
    @EXAMPLES
    def exercise(case: Any) -> None:
        case.validate_response(case.call(headers=headers, timeout=30), checks=CHECKS)

    exercise()
