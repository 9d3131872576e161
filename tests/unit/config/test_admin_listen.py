"""`[server] admin_listen` and `admin_url`: how they are written, and what they need of each other."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.config.test_configuration import load

from modelgates_server.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8788", "127.0.0.1", 8788),
        (" 0.0.0.0:1 ", "0.0.0.0", 1),
        ("[::1]:8788", "::1", 8788),
        ("[::]:65535", "::", 65535),
        ("localhost:0", "localhost", 0),
        ("admin.internal:443", "admin.internal", 443),
    ],
)
def test_an_address_is_host_and_port(tmp_path: Path, text: str, host: str, port: int) -> None:
    """In the file and in the environment; an IPv6 address in brackets, and port 0 for any."""
    assert load(tmp_path, f'[server]\nadmin_listen = "{text}"\n').server.admin_listen == (host, port)
    assert load(tmp_path, "", {"MODELGATES_SERVER_ADMIN_LISTEN": text}).server.admin_listen == (host, port)


@pytest.mark.parametrize(
    "text",
    [
        "8788", ":8788", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:x", "127.0.0.1:-1", "::1:8788", "[::1]",
        "[127.0.0.1]:1", "[::g]:1", "127.0.0.1.9:1", "256.0.0.1:1", "a b:1", "http://127.0.0.1:8788", "127.0.0.1:8788/", "-a:1", "a-:1",
        "user@host:1", "127.0.0.1:\u0661",
    ],
)  # fmt: skip
def test_anything_else_is_refused_with_an_example(tmp_path: Path, text: str) -> None:
    """Whoever gave it is told which setting, and how it is written."""
    with pytest.raises(
        ConfigError, match=r"MODELGATES_SERVER_ADMIN_LISTEN must be host:port, such as 127\.0\.0\.1:8788"
    ):
        load(tmp_path, "", {"MODELGATES_SERVER_ADMIN_LISTEN": text})


def test_it_is_none_unless_said(tmp_path: Path) -> None:
    """One address for everything is the default."""
    server = load(tmp_path, "").server
    assert (server.admin_listen, server.admin_url) == (None, None)


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.1", "[::1]"])
def test_the_port_of_the_main_address_is_refused(tmp_path: Path, host: str) -> None:
    """Whatever the host, and also when a flag chose the port; two ports 0 are two."""
    with pytest.raises(ConfigError, match="has the port of the main address, 8787") as refused:
        load(tmp_path, f'[server]\nadmin_listen = "{host}:8787"\n')
    assert "8788" in (refused.value.remedy or "")
    with pytest.raises(ConfigError, match="has the port of the main address, 99"):
        load(tmp_path, f'[server]\nadmin_listen = "{host}:99"\n', server__port=99)
    assert load(tmp_path, f'[server]\nport = 0\nadmin_listen = "{host}:0"\n').server.admin_listen is not None


def test_a_name_of_the_console_needs_its_address(tmp_path: Path) -> None:
    """`admin_url` alone would name nothing: it is refused with the remedy; with `admin_listen` it loses its final slash."""
    with pytest.raises(ConfigError, match="admin_url needs admin_listen") as refused:
        load(tmp_path, '[server]\nadmin_url = "https://admin.example.com"\n')
    assert "admin_listen" in (refused.value.remedy or "")
    text = '[server]\nadmin_listen = "127.0.0.1:1"\nadmin_url = "https://admin.example.com/"\n'
    assert load(tmp_path, text).server.admin_url == "https://admin.example.com"
