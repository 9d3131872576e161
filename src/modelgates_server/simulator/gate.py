"""Who is let in: listed keys, tokens that were issued, signatures that are right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from modelgates_server.simulator.truth import key_digest

if TYPE_CHECKING:
    from modelgates_server.simulator.call import Call, Settings

SIGNED: Final = "AWS4-HMAC-SHA256"
_EMPTY: Final = frozenset({"", key_digest(b"")})


class Gate:
    """The credentials that one simulator accepts."""

    def __init__(self, settings: Settings, aws_services: frozenset[str]) -> None:
        self.tokens = settings.tokens
        self._digests = None if settings.keys is None else {key_digest(key.encode()) for key in settings.keys}
        self._judge = None
        if settings.aws is not None and aws_services:
            from modelgates_server.simulator.sigv4 import Judge  # noqa: PLC0415 - needs botocore, which few want

            self._judge = Judge(settings.aws, settings.region, aws_services)

    def is_empty(self, digest: str) -> bool:
        """Whether there is no key at all."""
        return digest in _EMPTY

    def knows(self, digest: str) -> bool:
        """Whether a key of that digest is accepted; it is not empty."""
        return self._digests is None or digest in self._digests

    def key(self, call: Call, name: str) -> bool:
        """Whether the header of that name carries an accepted key."""
        digest = call.entry.headers.get(name, "")
        return not self.is_empty(digest) and self.knows(digest)

    def bearer(self, call: Call) -> bool:
        """Whether the Authorization header carries an accepted token, or a key where no tokens are issued."""
        if self.tokens is None:
            return self.key(call, "authorization")
        scheme, _, token = call.header(b"authorization").partition(" ")
        return scheme.lower() == "bearer" and self.tokens.valid(token.strip())

    def is_signed(self, call: Call) -> bool:
        """Whether the request claims an AWS signature."""
        return call.header(b"authorization").startswith(SIGNED)

    def signature(self, call: Call) -> None:
        """Verify the AWS signature and note who signed. Raises Refused with AWS's code."""
        from modelgates_server.simulator.sigv4 import refuse  # noqa: PLC0415 - see above

        if self._judge is None:
            raise refuse("UnrecognizedClientException", "The security token included in the request is invalid.")
        call.entry.access_key_id = self._judge.verify(call, call.body)
