"""The Anthropic wire: Anthropic itself, anything compatible, the sandbox, and what other kinds build upon (providers 3.1, 3.8)."""

from __future__ import annotations

from typing import Final

from modelgates_server.catalogue.models import Endpoint
from modelgates_server.outbound.http import Outbound
from modelgates_server.providers.base import Outgoing, Provider, Setup
from modelgates_server.providers.versions import OLD
from modelgates_server.providers.wire import Call, Headers, HttpProvider, KeyCredential, Translator, counted_tokens

_KEY_HEADERS: Final = {
    "x-api-key": (("x-api-key", "{}"),),
    "bearer": (("authorization", "Bearer {}"),),
    "both": (("x-api-key", "{}"), ("authorization", "Bearer {}")),
}


class AnthropicWire:
    """`POST {base}/v1/messages`: the client's own bytes, version and betas in headers.

    `extra` are headers that the provider wants with every call. An upstream that speaks this wire but is not run by
    Anthropic is not `trusted` with its error texts.
    """

    foreign_events = False

    def __init__(self, base_url: str, *, extra: Headers | None = None, trusted: bool = True) -> None:
        self._messages = f"{base_url}/v1/messages"
        self._extra = extra or []
        self.trusted = trusted

    def messages(self, endpoint: Endpoint, request: Outgoing) -> Call:  # noqa: ARG002 - the model stands in the body
        return self._call(self._messages, request)

    def count(self, endpoint: Endpoint, request: Outgoing) -> Call | None:  # noqa: ARG002
        return self._call(f"{self._messages}/count_tokens", request)

    def counted(self, body: bytes) -> int:
        return counted_tokens(body)

    def translator(self, content_type: str) -> Translator | None:  # noqa: ARG002 - it is in the dialect already
        return None

    def _call(self, url: str, request: Outgoing) -> Call:
        return Call("POST", f"{url}?beta=true" if request.beta_query else url, self.headers(request), request.body())

    def headers(self, request: Outgoing) -> Headers:
        """The client's headers that travel, its betas in one line, a version in every case."""
        headers = [
            *request.headers,
            ("content-type", "application/json"),
            ("accept-encoding", "identity"),
            *self._extra,
        ]
        if request.betas:
            headers.append(("anthropic-beta", ",".join(request.betas)))
        if request.header("anthropic-version") is None:
            headers.append(("anthropic-version", OLD))
        return headers


def key_headers(key: str, form: str) -> Headers:
    """An API key in the header, or headers, that `form` names: x-api-key, bearer or both."""
    return [(name, text.format(key)) for name, text in _KEY_HEADERS[form]]


def build(setup: Setup, outbound: Outbound) -> Provider:
    """Anthropic itself, a compatible endpoint or the sandbox."""
    workspace = setup.settings.get("workspace_id")
    extra = [("anthropic-workspace-id", workspace)] if workspace else None
    wire = AnthropicWire(setup.base_url, extra=extra, trusted=setup.kind.operator in {"anthropic", "other"})
    key = KeyCredential(key_headers(setup.api_key, setup.key_header) if setup.api_key else [])
    return HttpProvider(setup.slug, wire, key, outbound)
