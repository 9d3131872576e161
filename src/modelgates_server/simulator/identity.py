"""Who hands out tokens and temporary keys: Google's, Azure's and AWS's token endpoints, on one port.

The paths are those that the vendors' own libraries ask: point their environment variables or URLs here.
`identity_google.py`, `identity_azure.py` and `identity_aws.py` hold the endpoints.
"""

from __future__ import annotations

import secrets
import time
from typing import Final

import msgspec

from modelgates_server.simulator import identity_aws, identity_azure, identity_google
from modelgates_server.simulator.asking import Asked, Told
from modelgates_server.simulator.call import Scope, read_query
from modelgates_server.simulator.client import Client, GoneError, Receive, Send, TooLargeError
from modelgates_server.simulator.serving import Served, listen
from modelgates_server.simulator.sigv4 import AwsKeys

BODY_BYTES_MAX: Final = 64 * 1024


class TokenIssuer:
    """Issues bearer tokens and temporary AWS keys, and knows which of them are good.

    `lifetime_s`: how long they live. `issued` counts them, of every kind. `asked` lists the requests, as (method, path).
    `delay_s` delays every answer; the next `fail_next` requests are answered with `fail_status`.
    `aws_keys` maps the temporary access key ids to their secrets: give it to ``Simulator(aws=...)``.
    `clients`: Azure client id -> secret; None accepts any that is not empty. `refresh_tokens`: those of Google that are
    accepted; None accepts any. `identity_header`: what App Service's header must say; "" accepts any that is not empty.
    `container_token`: what Authorization must say at AWS's container endpoint; "" asks for nothing.
    `project`: what Google's metadata server says. `role`: what AWS's does.
    """

    def __init__(self, lifetime_s: float = 3600) -> None:
        self.lifetime_s = lifetime_s
        self.issued = 0
        self.asked: list[tuple[str, str]] = []
        self.delay_s: float = 0
        self.fail_next = 0
        self.fail_status = 503
        self.aws_keys = AwsKeys()
        self.clients: dict[str, str] | None = None
        self.refresh_tokens: set[str] | None = None
        self.identity_header = ""
        self.container_token = ""
        self.project = "simulated-project"
        self.role = "simulated-role"
        self.email = "simulated@simulated-project.iam.gserviceaccount.com"
        self.trusted: dict[str, str] = {}
        """Google service accounts: e-mail -> public key in PEM."""
        self._sessions: dict[str, float] = {}
        self._tokens: dict[str, tuple[str, float]] = {}

    def issue(self, audience: str = "") -> str:
        """Give a new token. `audience` is the scope or the resource that it is for."""
        token = f"ya29.sim-{secrets.token_urlsafe(32)}"
        self._tokens[token] = (audience, time.time() + self.lifetime_s)
        self.issued += 1
        return token

    def session(self) -> str:
        """Give a token that only opens the metadata server; it is not counted."""
        token = secrets.token_urlsafe(40)
        self._sessions[token] = time.time() + self.lifetime_s
        return token

    def valid_session(self, token: str) -> bool:
        """Whether a token opens the metadata server."""
        return time.time() < self._sessions.get(token, 0.0)

    def valid(self, token: str) -> bool:
        """Whether this issued the token and it has not expired."""
        _, until_s = self._tokens.get(token, ("", 0.0))
        return time.time() < until_s

    def audience(self, token: str) -> str:
        """Give what an issued token is for."""
        return self._tokens[token][0]

    def issue_aws(self) -> dict[str, str]:
        """Give temporary keys as AWS's credential endpoints write them, and register them in `aws_keys`."""
        key_id = "ASIA" + secrets.token_hex(8).upper()
        secret, session = secrets.token_urlsafe(30), secrets.token_urlsafe(60)
        until_s = time.time() + self.lifetime_s
        self.aws_keys.session[key_id] = (session, until_s)
        self.aws_keys[key_id] = secret
        self.issued += 1
        ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(until_s))
        return {"AccessKeyId": key_id, "SecretAccessKey": secret, "Token": session, "Expiration": ends}

    def trust(self, client_email: str, public_key_pem: str) -> None:
        """Accept assertions of that service account, if they are signed with the key's private half (RS256)."""
        self.trusted[client_email] = public_key_pem

    def expire(self) -> None:
        """Let everything that was issued until now have expired: tokens, and temporary keys."""
        self._tokens = {token: (audience, 0.0) for token, (audience, _) in self._tokens.items()}
        self.aws_keys.session.update({key: (session, 0.0) for key, (session, _) in self.aws_keys.session.items()})

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI 3 scope of kind http."""
        client = Client(scope, receive, send)
        try:
            await self._answer(client, scope)
        except (GoneError, TooLargeError):
            return  # nobody waits, or nobody sane asks
        finally:
            client.close()

    async def _answer(self, client: Client, scope: Scope) -> None:
        body = await client.body(BODY_BYTES_MAX)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        asked = Asked(scope["method"], scope["path"], read_query(scope["query_string"]), headers, read_query(body))
        self.asked.append((asked.method, asked.path))
        if self.delay_s:
            await client.pause(self.delay_s)
        if self.fail_next > 0:
            self.fail_next -= 1
            told = Told(self.fail_status, {"error": "temporarily_unavailable", "error_description": "on demand"})
        else:
            told = self._find(asked)
        text = isinstance(told.body, str)
        sent = told.body.encode() if text else msgspec.json.encode(told.body)
        kind = b"text/plain" if text else b"application/json"
        length = (b"content-length", b"%d" % len(sent))
        await client.start(told.status, [(b"content-type", kind), length, *told.headers])
        await client.write(sent, more=False)

    def _find(self, asked: Asked) -> Told:
        for serve in _ENDPOINTS:
            told = serve(self, asked)
            if told is not None:
                return told
        return Told(404, {"error": "not_found"})


_ENDPOINTS: Final = (identity_google.answer, identity_azure.answer, identity_aws.answer)


async def serve_identity(issuer: TokenIssuer, host: str = "127.0.0.1", port: int = 0) -> Served:
    """Start the identity endpoints of `issuer`, as `serve` starts a simulator."""
    return await listen(issuer.app, host, port)
