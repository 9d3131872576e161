"""An invitation from its link to a signed-in browser."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from tests.support.gateway import Gateway, Told, open_gateway
from tests.walk.managing import done


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with open_gateway(tmp_path) as opened:
        yield opened


async def invite(gateway: Gateway, name: str = "Ann") -> str:
    """Give the token."""
    body = {"email": "ann@x.de", "name": name}
    return str((await done(gateway, "POST", "/organization/invitations", body, 201))["token"])


async def press(gateway: Gateway, token: str, **headers: str) -> Told:
    """Press the button of the page."""
    sent = {"content-type": "application/x-www-form-urlencoded", "sec-fetch-site": "same-origin"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    return await gateway.request("POST", "/join", sent, urlencode({"token": token}).encode())


async def test_the_link_shows_and_the_button_joins(gateway: Gateway) -> None:
    """Opening it, as mail scanners do, changes nothing; pressing signs in, once; then the link is dead."""
    token = await invite(gateway)
    for _ in range(2):
        page = await gateway.request("GET", f"/join?token={token}")
        assert (page.status, b"ann@x.de" in page.body, b"Join Organization" in page.body) == (200, True, True)
    joined = await press(gateway, token)
    assert (joined.status, joined.headers["location"].partition("?")[0]) == (303, "/")
    cookie = joined.headers["set-cookie"].partition(";")[0]
    assert (await gateway.request("GET", "/", {"cookie": cookie})).status == 200
    assert [row["name"] for row in (await done(gateway, "GET", "/organization/members"))["data"]] == ["Admin", "Ann"]
    for told in (await press(gateway, token), await gateway.request("GET", f"/join?token={token}")):
        assert (told.status, b"opens nothing" in told.body) == (404, True)


async def test_another_site_cannot_press_the_button(gateway: Gateway) -> None:
    """Nor is a body taken that is no form of ours; the invitation stays open."""
    token = await invite(gateway)
    assert (await press(gateway, token, sec_fetch_site="cross-site")).status == 403
    assert (await press(gateway, token, content_type="text/plain")).status == 400
    assert (await press(gateway, "x" * 20_000)).status == 413
    assert (await press(gateway, "made-up")).status == 404
    assert (await press(gateway, token)).status == 303


@pytest.mark.parametrize("size", ["content-length: 33554432", "transfer-encoding: chunked"])
async def test_a_stranger_cannot_make_us_keep_a_large_form(gateway: Gateway, size: str) -> None:
    """The refusal comes before the body does: nobody has shown a token, so nothing of it is waited for."""
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"POST /join HTTP/1.1\r\nhost: {host}\r\n{size}\r\n\r\n".encode())
    assert b" 403 " in await asyncio.wait_for(reader.readline(), 5)
    writer.close()


async def test_names_are_text_and_nothing_runs(gateway: Gateway) -> None:
    """What an admin wrote cannot become part of the page."""
    page = await gateway.request("GET", f"/join?token={await invite(gateway, '<b>Ann</b>')}")
    assert b"&lt;b&gt;Ann" in page.body
    assert "default-src 'none'" in page.headers["content-security-policy"]
