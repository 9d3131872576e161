"""Lines of docs/security.md that no other test holds."""

from __future__ import annotations

import aiohttp
import pytest
from tests.support.console import signed_in
from tests.support.gateway import Gateway

from modelgates_server.console.gate import session_cookie

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("name", ["key", "api_key", "x-api-key", "authorization", "token"])
async def test_a_key_in_an_address_opens_nothing(gateway: Gateway, name: str) -> None:
    """Addresses stand in histories and logs: only headers are read, and the refusal does not repeat the key."""
    secret = gateway.key
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{gateway.url}/api/v1/key", params={name: secret}) as response,
    ):
        assert response.status == 401
        assert secret not in await response.text()


async def test_a_cookie_over_https_stays_there() -> None:
    """A browser takes it only over https and from this very host; scripts do not see it."""
    name, *rest = session_cookie("token", secure=True).split("; ")

    assert name == "__Host-mg_session=token"
    assert {"Path=/", "Secure", "HttpOnly", "SameSite=Lax"} <= set(rest)
    assert not any(part.startswith("Domain") for part in rest)


@pytest.mark.parametrize("path", ["/", "/sign-in", "/keys", "/docs", "/nothing/here"])
async def test_pages_load_nothing_from_elsewhere(gateway: Gateway, path: str) -> None:
    """Nothing but our own files, no inline script or style, no eval, no frame; the address is told to nobody."""
    async with signed_in(gateway) as admin:
        shown = await admin.get(path, accept="text/html")
    policy = shown.headers["content-security-policy"]

    assert policy.startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in policy
    assert not any(word in policy for word in ("unsafe-inline", "unsafe-eval", "*", "http:", "https:"))
    assert shown.headers["x-content-type-options"] == "nosniff"
    assert shown.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    "path", ["/assets/../gate.py", "/assets/%2e%2e/gate.py", "/assets/..%2fgate.py", "/assets//etc/passwd", "/assets/"]
)
async def test_no_path_leads_to_the_disk(gateway: Gateway, path: str) -> None:
    """Files are a table made at the start; what is not in it does not exist."""
    async with signed_in(gateway) as admin:
        shown = await admin.get(path)

    assert shown.status == 404
    assert "root:" not in shown.text
    assert "def admit" not in shown.text
