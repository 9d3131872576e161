"""A service account of Google's, with a real key."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import rsa

from modelgates_server.simulator import TokenIssuer


def service_account(issuer: TokenIssuer, url: str, folder: Path) -> str:
    """A file as Google gives it, for an account that the issuer at `url` trusts."""
    private, public = _rsa_key()
    email = "me@p.iam.gserviceaccount.com"
    issuer.trust(email, public)
    path = folder / "account.json"
    path.write_text(json.dumps({
        "type": "service_account", "project_id": "p", "private_key_id": "1", "private_key": private,
        "client_email": email, "client_id": "1", "token_uri": f"{url}/token",
    }))  # fmt: skip
    return str(path)


@lru_cache(maxsize=1)
def _rsa_key() -> tuple[str, str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    public = key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()
