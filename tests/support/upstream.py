"""Providers of every kind, as the lines of a gateway's configuration, at whatever address stands in for them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

KEY: Final = {"api_key": "env:UPSTREAM_KEY"}
ACCOUNT: Final = "me@p-1.iam.gserviceaccount.com"

_FIELDS: Final[Mapping[str, Mapping[str, str]]] = {
    "anthropic": KEY,
    "anthropic-compatible": KEY,
    "claude-on-aws": {"region": "us-east-1", "workspace_id": "wrkspc_1", **KEY},
    "bedrock": {"region": "us-east-1", **KEY},
    "bedrock-invoke": {"region": "us-east-1", **KEY},
    "foundry": {"resource": "r-1", **KEY},
    "vertex": {"project": "p-1", "region": "global"},
}
"""What each kind needs besides its address; Vertex also wants `credentials`."""

_UNDER: Final = {"bedrock": "/anthropic", "foundry": "/anthropic"}
"""Below which path the wire of a kind begins."""


@dataclass(frozen=True)
class Upstream:
    """One `[[providers]]` table; `more` is what it says beyond what its kind needs."""

    slug: str
    url: str
    kind: str = "anthropic"
    more: Mapping[str, str] = field(default_factory=dict)

    @property
    def table(self) -> str:
        base_url = self.url + _UNDER.get(self.kind, "")
        said = {"slug": self.slug, "kind": self.kind, "base_url": base_url, **_FIELDS[self.kind], **self.more}
        return "\n".join(["[[providers]]", *(f"{name} = {json.dumps(value)}" for name, value in said.items()), ""])


@dataclass(frozen=True)
class ServiceAccount:
    """A Google account: what its token server trusts, and the file that names that server."""

    private_pem: str
    public_pem: str

    @classmethod
    def make(cls) -> ServiceAccount:
        """One with a fresh key."""
        from cryptography.hazmat.primitives import serialization as form  # noqa: PLC0415 - slow, and only here
        from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415

        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
        public = key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
        return cls(private.decode(), public.decode())

    def write(self, path: Path, token_server: str) -> str:
        """Write the file as Google gives it; its path."""
        path.write_text(json.dumps({
            "type": "service_account", "project_id": "p-1", "private_key_id": "1", "private_key": self.private_pem,
            "client_email": ACCOUNT, "client_id": "1", "token_uri": f"{token_server}/token",
        }))  # fmt: skip
        return str(path)
