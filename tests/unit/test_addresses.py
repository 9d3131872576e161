"""What clients are told at the console's own address."""

from __future__ import annotations

import pytest

from modelgates_server.addresses import AdminAddress

OWN = "http://127.0.0.1:8788"
CLIENTS = "http://127.0.0.1:8787"


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("10.1.2.3:8788", "http://10.1.2.3:8787"),
        ("gates.lan:8788", "http://gates.lan:8787"),
        ("[fd00::1]:8788", "http://[fd00::1]:8787"),
        ("localhost:9000", CLIENTS),
        ("", CLIENTS),
        ('x"><script>', CLIENTS),
    ],
)
def test_where_any_name_will_do_it_is_the_visitors(host: str, told: str) -> None:
    """Clients at every interface: the name by which the visitor came, with the port of clients; never what is no host."""
    assert AdminAddress(OWN, OWN, CLIENTS, any_host=True).clients_at(host) == told


def test_otherwise_it_is_the_one_that_is_known() -> None:
    """An address of one interface, or the operator's own name: however the visitor came."""
    assert AdminAddress(OWN, OWN, CLIENTS).clients_at("10.1.2.3:8788") == CLIENTS
    assert AdminAddress(OWN, OWN, "https://g.example", named=True).clients_at("10.1.2.3:8788") == "https://g.example"
