"""Asking the identity provider: its description and keys, kept for a while, and the tokens of somebody who comes back from it.

The operator named the provider, so it may be anywhere; what it sends is bounded in size and time, and redirects are not followed.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from modelgates_server.accounts import oidc
from modelgates_server.accounts.oidc import Begun, Client, Identity, Provider
from modelgates_server.clock import Clock
from modelgates_server.errors import IdentityFailed, RateRefused, Unauthenticated
from modelgates_server.outbound.connection import OutboundError
from modelgates_server.outbound.http import Outbound, OutboundReply

ANSWER_S: Final = 10.0
ANSWER_BYTES_MAX: Final = 1024 * 1024
"""Lists of keys with certificates in them have some tens of kilobytes."""

KEPT_S: Final = 3600.0
"""How long the description and the keys are believed; a key that is withdrawn is gone after this."""

AGAIN_S: Final = 30.0
"""Tokens with unknown keys, and a provider that does not answer, make us ask no more often than this."""

AT_ONCE_MAX: Final = 8
"""Each holds a thread of the pages while the provider thinks, and there are forty."""

_CODE_CHARACTERS_MAX: Final = 4096


class OpenId:
    """The identity provider, for a client of it. Its coroutines belong to the loop of `outbound`."""

    def __init__(self, client: Client, outbound: Outbound, clock: Clock) -> None:
        oidc.load()
        self.client = client
        self._outbound = outbound
        self._clock = clock
        self._turns = threading.BoundedSemaphore(AT_ONCE_MAX)
        self._asking = asyncio.Lock()
        self._provider: Provider | None = None
        self._provider_at_s = 0.0
        self._keys: Sequence[Mapping[str, Any]] = ()
        self._keys_at_s = 0.0
        self._failed: IdentityFailed | None = None
        self._failed_at_s = 0.0

    async def authorization_url(self, begun: Begun, redirect_uri: str) -> str:
        """Where to send the browser. Raises IdentityFailed, RateRefused."""
        with self._turn():
            return oidc.authorization_url(self.client, await self._described(), begun, redirect_uri)

    async def identity(self, code: str, begun: Begun, redirect_uri: str, issuer: str = "") -> Identity:
        """Exchange a code and say whose it is; `issuer` is who says that it comes from them (RFC 9207), if anybody does.

        Raises Unauthenticated when it is not to be believed, IdentityFailed, RateRefused.
        """
        if not 0 < len(code) <= _CODE_CHARACTERS_MAX:
            raise Unauthenticated("The identity provider sent no code.", remedy="begin again")
        with self._turn():
            provider = await self._described()
            if issuer and issuer != provider.issuer:
                raise Unauthenticated("Another identity provider answered.", remedy="begin again")
            headers, body = oidc.token_request(self.client, provider, code, begun, redirect_uri)
            token, access = oidc.read_tokens(await self._answer("POST", provider.token_endpoint, headers, body))
            keys = await self._keys_for(provider, oidc.key_id(token))
            claims = oidc.read_id_token(token, keys, self.client, provider, begun.nonce, self._clock.now_s())
            more = None
            if provider.userinfo_endpoint is not None and access is not None and not oidc.is_complete(claims):
                headers = [("authorization", f"Bearer {access}"), ("accept", "application/json")]
                more = await self._answer("GET", provider.userinfo_endpoint, headers)
            return oidc.read_identity(provider, claims, more)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._turns.acquire(blocking=False):
            message = "Many people are signing in at this moment. Try again in a few seconds."
            raise RateRefused(message, scope="sign_in", retry_after_s=2)
        try:
            yield
        finally:
            self._turns.release()

    async def _described(self) -> Provider:
        """The provider's description. Raises IdentityFailed, for a while without asking again."""
        async with self._asking:
            now_s = self._clock.monotonic_s()
            if self._provider is not None and now_s - self._provider_at_s < KEPT_S:
                return self._provider
            if self._failed is not None and now_s - self._failed_at_s < AGAIN_S:
                raise IdentityFailed(self._failed.message, remedy=self._failed.remedy)
            try:
                document = await self._answer("GET", oidc.discovery_url(self.client.issuer), [])
                self._provider, self._provider_at_s = oidc.read_provider(self.client, document), now_s
            except IdentityFailed as error:
                self._failed, self._failed_at_s = error, now_s
                raise
            self._failed = None
            return self._provider

    async def _keys_for(self, provider: Provider, key_id: str | None) -> Sequence[Mapping[str, Any]]:
        """The provider's keys, asked for again when the one that is looked for is new."""
        async with self._asking:
            age_s = self._clock.monotonic_s() - self._keys_at_s
            known = any(key.get("kid") == key_id for key in self._keys)
            if not self._keys or age_s >= KEPT_S or (not known and age_s >= AGAIN_S):
                self._keys = oidc.read_keys(await self._answer("GET", provider.jwks_uri, []))
                self._keys_at_s = self._clock.monotonic_s()
            return self._keys

    async def _answer(self, method: str, url: str, headers: list[tuple[str, str]], body: bytes | None = None) -> bytes:
        """The body of a good answer. Raises Unauthenticated when a code is refused, else IdentityFailed."""
        try:
            async with asyncio.timeout(ANSWER_S):
                reply = await self._asked(method, url, [("accept-encoding", "identity"), *headers], body)
                try:
                    answer = await reply.read_all(ANSWER_BYTES_MAX + 1)
                finally:
                    reply.close()
        except (OutboundError, TimeoutError) as error:
            raise IdentityFailed(
                "The identity provider cannot be reached.", remedy="try again, or sign in another way"
            ) from error
        if reply.status == 400 and body is not None:
            raise Unauthenticated("The identity provider does not know this sign-in any more.", remedy="begin again")
        if reply.status != 200 or len(answer) > ANSWER_BYTES_MAX:
            raise IdentityFailed(
                f"The identity provider answered {reply.status} to a question of this gateway.",
                remedy="the operator can check oidc_issuer, oidc_client_id and oidc_client_secret in [sign_in]",
            )
        return answer

    async def _asked(self, method: str, url: str, headers: list[tuple[str, str]], body: bytes | None) -> OutboundReply:
        """Ask; once more when the connection from last time turns out to be closed. Raises OutboundError."""
        try:
            return await self._outbound.request(method, url, headers, body)
        except OutboundError as error:
            if error.kind != "stale":
                raise
            return await self._outbound.request(method, url, headers, body)
