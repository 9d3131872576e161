"""A create with an `Idempotency-Key` is done once: whoever sends it again gets the first answer (reliability-security 1.1)."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from modelgates_server.api import faults
from modelgates_server.api.caller import Manager
from modelgates_server.api.house import House
from modelgates_server.errors import BadRequest, ModelGatesError, StoreUnavailable
from modelgates_server.management import idempotency
from modelgates_server.management.idempotency import Claim
from modelgates_server.vault.envelope import Ring, Vault

log = logging.getLogger(__name__)

HEADER: Final = "idempotency-key"
KEY_CHARACTERS_MAX: Final = 255
PARAMETER: Final[dict[str, Any]] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "pattern": "^[ -~]+$", "minLength": 1, "maxLength": KEY_CHARACTERS_MAX},
    "description": "Sent again within a day, the same request under the same key is not done again: its first answer is given.",
}
"""The header, as the OpenAPI file describes it."""

REPLAYED: Final = {"idempotency-replayed": "true"}

_RING: Final = Ring("answers", {"answers": b"modelgates: answers that are kept for a day"})
"""Answers live for a day, so their key is not rotated: it follows from the installation's secret alone."""

_DESTINATION: Final = "idempotency"

Handle = Callable[[Request], Coroutine[None, None, Response]]


def asked_for(request: Request) -> str | None:
    """Give the idempotency key of a create, None when there is none. Raises BadRequest for one that cannot be."""
    sent = request.headers.getlist(HEADER)
    if request.method != "POST" or not sent:
        return None
    key = sent[0]
    if len(sent) > 1 or not 1 <= len(key) <= KEY_CHARACTERS_MAX or not key.isascii() or not key.isprintable():
        raise BadRequest(f"Idempotency-Key must be sent once, with 1 to {KEY_CHARACTERS_MAX} visible characters")
    return key


async def once(key: str, request: Request, body: bytes, handle: Handle) -> Response:
    """Do it, or give the answer of whoever did it first.

    A refusal changed nothing, so it is not kept: the same key may be used for the corrected request. An answer that cannot be
    kept is given all the same: it may be the only sight of a new key.
    """
    house: House = request.app.state.house
    manager: Manager = request.state.manager
    claim = Claim(manager.organization_id, key, _digest(request, body), int(house.clock.now_s()))
    kept = await run_in_threadpool(idempotency.claim, house.engine, claim)
    if kept is not None:
        first = await run_in_threadpool(_opened, house, claim, kept.sealed)
        return Response(first, kept.status, REPLAYED, media_type="application/json")
    try:
        response = await handle(request)
    except (ModelGatesError, RequestValidationError, HTTPException):
        await run_in_threadpool(_release, house, claim)
        raise
    except Exception:
        log.exception("request_failed", extra={"path": request.url.path})
        response = faults.fault(500, faults.INTERNAL_MESSAGE)  # it may be done: to do it again is not safe
    await run_in_threadpool(_keep, house, claim, response)
    return response


def _digest(request: Request, body: bytes) -> str:
    digest = hashlib.sha256()
    for part in (request.method.encode(), request.scope["path"].encode(), request.scope["query_string"], body):
        digest.update(b"%d:" % len(part) + part)
    return digest.hexdigest()


def _release(house: House, claim: Claim) -> None:
    try:
        idempotency.release(house.engine, claim)
    except StoreUnavailable:
        log.warning("idempotency_claim_stays", extra={"seconds": idempotency.CLAIM_S})


def _keep(house: House, claim: Claim, response: Response) -> None:
    try:
        sealed = _vault(house).seal(
            bytes(response.body), organization_id=claim.organization_id, record_id=claim.key, destination=_DESTINATION
        )
        idempotency.keep(house.engine, claim, response.status_code, sealed.text)
    except StoreUnavailable:
        log.warning("idempotent_answer_not_kept", extra={"status": response.status_code})


def _opened(house: House, claim: Claim, sealed: str) -> bytes:
    return _vault(house).open(
        sealed, organization_id=claim.organization_id, record_id=claim.key, destination=_DESTINATION
    )


def _vault(house: House) -> Vault:
    return Vault(house.pepper, _RING)
