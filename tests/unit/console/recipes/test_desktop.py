"""Claude Desktop's files: each is what its system reads, strings where the app wants strings, and the same as last time."""

from __future__ import annotations

import json
import plistlib
import re
from typing import Any

import pytest
from tests.unit.console.recipes.connection import DISCOVERING, GOLDEN, HOSTILE, KEY, MODELS, USUAL

from modelgates_server.catalogue.listing import desktop_visible
from modelgates_server.console.recipes import desktop
from modelgates_server.console.recipes.values import Connection, Listed

CONNECTIONS = [USUAL, DISCOVERING, HOSTILE]
ROW = re.compile(r'"(\w+)"="((?:[^"\\]|\\.)*)"')


def of_profile(text: bytes) -> dict[str, Any]:
    (payload,) = plistlib.loads(text)["PayloadContent"]
    return {name: value for name, value in payload.items() if not name.startswith("Payload")}


def of_registry(text: bytes) -> dict[str, Any]:
    """Read a registry file as regedit does: a mark, a header, a key, then a string on each line."""
    header, blank, key, *rows = text.decode("utf-16").split("\r\n")
    assert (header, blank) == ("Windows Registry Editor Version 5.00", "")
    assert key == r"[HKEY_LOCAL_MACHINE\SOFTWARE\Policies\Claude]"
    found = {}
    for row in filter(None, rows):
        matched = ROW.fullmatch(row)
        assert matched, row
        found[matched[1]] = re.sub(r"\\(.)", r"\1", matched[2])
    return found


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("desktop.mobileconfig", desktop.profile(USUAL, "Example Ltd")),
        ("desktop.reg", desktop.registry(USUAL)),
        ("desktop.json", desktop.linux(USUAL)),
        ("desktop_discovery.mobileconfig", desktop.profile(DISCOVERING, "Example Ltd")),
        ("desktop_discovery.json", desktop.linux(DISCOVERING)),
    ],
)
def test_files_are_the_golden_ones(name: str, text: bytes) -> None:
    """A change of a file is a change that somebody looked at."""
    assert text == (GOLDEN / name).read_bytes()


@pytest.mark.parametrize("connection", CONNECTIONS)
def test_every_value_of_a_preference_store_is_a_string(connection: Connection) -> None:
    """In profile and registry there are strings only; read as JSON, they say what the Linux file says."""
    plain = json.loads(desktop.linux(connection))
    for found in (of_profile(desktop.profile(connection, "Example Ltd")), of_registry(desktop.registry(connection))):
        assert all(isinstance(value, str) for value in found.values())
        read = {name: json.loads(text) if not isinstance(plain[name], str) else text for name, text in found.items()}
        assert read == plain


@pytest.mark.parametrize("connection", CONNECTIONS)
def test_the_settings_are_those_that_the_app_needs(connection: Connection) -> None:
    """Provider, base URL without /v1, key and scheme (client-protocol D-1)."""
    said = json.loads(desktop.linux(connection))
    assert said["inferenceProvider"] == "gateway"
    assert said["inferenceGatewayBaseUrl"] == connection.base_url
    assert said["inferenceGatewayApiKey"] == connection.key
    assert said["inferenceGatewayAuthScheme"] == "bearer"


def test_a_list_switches_discovery_off_and_none_switches_it_on() -> None:
    """With full ids in a list the app needs no discovery; without models there is nothing else."""
    assert desktop.settings(USUAL)["modelDiscoveryEnabled"] is False
    assert "inferenceModels" not in desktop.settings(DISCOVERING)
    assert desktop.settings(Connection("https://gw.example.com/api", KEY))["modelDiscoveryEnabled"] is True


def test_entries_are_those_of_the_app() -> None:
    """Only members that the app knows; a 1M flag and a family default only where they are true; one default a family."""
    entries = desktop.model_list(USUAL)
    known = {"name", "labelOverride", "supports1m", "anthropicFamilyTier", "isFamilyDefault"}
    assert all(set(entry) <= known for entry in entries)
    assert all(entry.get("supports1m", True) is True for entry in entries)
    defaults = [entry["anthropicFamilyTier"] for entry in entries if entry.get("isFamilyDefault")]
    assert sorted(defaults) == ["fable", "haiku", "opus", "sonnet"]
    assert all(desktop_visible(entry["name"])[0] for entry in entries)


def test_the_first_choice_is_the_newest_opus() -> None:
    """The app starts with the first entry: Claude's usual model, not the dearest."""
    assert desktop.model_list(USUAL)[0]["name"] == "claude-opus-5-5"
    assert [entry["name"] for entry in desktop.model_list(USUAL)][-1] == "claude-fable-5-2"


def test_a_list_has_at_most_200_entries() -> None:
    """The app takes no more."""
    many = Connection("https://gw.example.com/api", KEY, tuple(Listed(f"claude-{n}", f"{n}") for n in range(300)))
    assert len(desktop.model_list(many)) == 200


def test_a_newer_profile_replaces_the_older() -> None:
    """The identifiers hang on the address, not on the key or the list."""
    other = Connection(USUAL.base_url, "another key", MODELS[:1])
    names = ("PayloadIdentifier", "PayloadUUID")
    old, new = (plistlib.loads(desktop.profile(one, "Example Ltd")) for one in (USUAL, other))
    assert [old[name] for name in names] == [new[name] for name in names]
    assert KEY not in json.dumps([old[name] for name in names])


def test_the_form_is_what_people_type() -> None:
    """The fields of the app's own form, in their order."""
    assert desktop.form_values(USUAL) == (
        ("Inference provider", "Gateway (Anthropic-compatible)"),
        ("Gateway base URL", "https://gateway.example.com/api"),
        ("Gateway API key", KEY),
        ("Gateway auth scheme", "bearer"),
    )


def test_a_connection_does_not_show_its_key() -> None:
    """Wherever it is printed by mistake."""
    assert KEY not in repr(USUAL)
