"""What the clouds' wires have in common: limits on bodies and betas, and errors with a code of their own."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from modelgates_server.simulator.betas import check_betas
from modelgates_server.simulator.faults import STATUS_OF, TYPE_OF, Fault
from modelgates_server.simulator.fields import Limits, check_fields
from modelgates_server.simulator.request import Refused, Request, check, invalid
from modelgates_server.simulator.wire_base import Wire

if TYPE_CHECKING:
    from modelgates_server.simulator.call import Call
    from modelgates_server.simulator.models import Model


class CloudWire(Wire):
    """A wire that is not Anthropic's own."""

    limits: ClassVar[Limits]
    codes: ClassVar[Mapping[int, str]] = {}
    """HTTP status -> the cloud's word for it, where the cloud's front answers and not the model behind."""
    statuses: ClassVar[Mapping[str, int]] = {}
    """The other way round, with the words that have no status of their own."""
    texts: ClassVar[Mapping[str, str]] = {}
    """What the cloud says with a code."""

    def version(self, call: Call, _request: Request) -> str:
        """Give the API version, or raise Refused. "2026-10-21" is the only one with rules of its own."""
        version = call.entry.headers.get("anthropic-version")
        if not version:
            raise invalid("anthropic-version: header is required")
        return version

    def check(self, call: Call, request: Request, *, counting: bool = False) -> Model:
        model = check(request, self.version(call, request), counting=counting)
        body: dict[str, Any] = msgspec.json.decode(call.body)
        self.check_model(call, model, request, body)
        by_anthropic = self.settings.hosting == "anthropic"
        betas = call.entry.betas
        check_betas(self.name, betas, strict=self.settings.strict, hosted_by_anthropic=by_anthropic)
        check_fields(body, betas, self.limits_of(model))
        return model

    def limits_of(self, _model: Model) -> Limits:
        """Give what is refused with one model."""
        return self.limits

    def check_model(self, call: Call, model: Model, request: Request, body: dict[str, Any]) -> None:
        """Raise Refused for what the wire does not do with this model."""

    def check_size(self, tokens: int, model: Model) -> None:
        if tokens > model.max_input_tokens:
            raise invalid(self.overflow(tokens, model.max_input_tokens))

    def overflow(self, tokens: int, tokens_max: int) -> str:
        """Say that the prompt is too long."""
        return f"prompt is too long: {tokens} tokens > {tokens_max} maximum"

    def of_fault(self, fault: Fault) -> Refused:
        """Give the cloud's own error, unless one of Anthropic's types was asked for by name."""
        told = super().of_fault(fault)
        if fault.error_type in STATUS_OF:
            return told
        status = fault.status or self.statuses.get(fault.error_type or "", told.status)
        code = fault.error_type or self.codes.get(status, "")
        kind = TYPE_OF.get(status, "api_error" if status >= 500 else "invalid_request_error")
        message = fault.message or self.texts.get(code) or told.message
        return Refused(status, kind, message, code)


def uuid_of(text: str) -> str:
    """Give an id as AWS and Azure write them, always the same for the same text."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, text))


def statuses_of(codes: Mapping[int, str]) -> dict[str, int]:
    """Turn codes by status round; a code with several statuses keeps its first."""
    statuses: dict[str, int] = {}
    for status, code in codes.items():
        statuses.setdefault(code, status)
    return statuses
