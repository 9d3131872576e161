"""The section [sign_in]: passwords, an identity provider, and what its settings need of each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelgates_server.config import Config, load_config
from modelgates_server.errors import ConfigError

CLIENT = 'oidc_issuer = "https://login.example.com/"\noidc_client_id = "gate"'


def load(folder: Path, text: str, *, with_keys: bool = True, **environ: str) -> Config:
    file = folder / "modelgates.toml"
    file.write_text(f"[sign_in]\n{text}\n")
    return load_config(file, None, None, environ, folder, with_keys=with_keys)


def test_passwords_are_on_and_no_provider_is_asked_at_first(tmp_path: Path) -> None:
    """Nothing has to be set."""
    section = load(tmp_path, "").sign_in
    assert (section.password, section.oidc_issuer, section.oidc_join_domains) == (True, None, ())
    assert load(tmp_path, "password = false").sign_in.password is False


def test_a_provider_is_read_and_its_secret_is_a_reference(tmp_path: Path) -> None:
    """The issuer is kept as it is written, slash included; domains are compared in lower case."""
    text = f'{CLIENT}\noidc_client_secret = "env:OIDC"\noidc_join_domains = ["@Example.com"]\noidc_name = "Okta"'
    loaded = load(tmp_path, text, OIDC="s3cret")
    section = loaded.sign_in
    assert (section.oidc_issuer, section.oidc_client_id, section.oidc_name) == (
        "https://login.example.com/", "gate", "Okta",
    )  # fmt: skip
    assert section.oidc_client_secret is not None
    assert section.oidc_client_secret.reveal() == "s3cret"
    assert section.oidc_scopes == ("openid", "email", "profile")
    assert section.oidc_join_domains == ("example.com",)
    assert not [warning for warning in loaded.warnings if "oidc" in warning]
    assert load(tmp_path, text, with_keys=False).sign_in.oidc_client_secret is None


def test_a_secret_in_the_file_is_warned_about(tmp_path: Path) -> None:
    """It works, not silently."""
    warnings = load(tmp_path, f'{CLIENT}\noidc_client_secret = "s3cret"').warnings
    assert any("oidc_client_secret itself stands in the file" in warning for warning in warnings)


@pytest.mark.parametrize(
    "issuer", ["http://127.0.0.1:9000", "http://localhost/realms/a", "https://[2001:db8::1]:8443/a"]
)
def test_an_issuer_is_https_or_on_this_machine(tmp_path: Path, issuer: str) -> None:
    """Tokens of anybody on the way could not be told from the provider's."""
    assert load(tmp_path, f'oidc_issuer = "{issuer}"\noidc_client_id = "gate"').sign_in.oidc_issuer == issuer


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ('oidc_issuer = "http://login.example.com"\noidc_client_id = "g"', 2, "plain http only on this machine"),
        ('oidc_issuer = "https://u:p@login.example.com"', 2, "the address of an issuer"),
        ('oidc_issuer = "https://x.example.com/?a=1"', 2, "the address of an issuer"),
        ('oidc_issuer = "https://x.example.com/.well-known/openid-configuration"', 2, "the issuer alone"),
        ('oidc_issuer = "https://login.example.com"', 2, "oidc_issuer needs oidc_client_id"),
        ('oidc_client_id = "gate"', 2, "oidc_client_id needs oidc_issuer"),
        ('password = true\noidc_client_secret = "env:X"', 3, "oidc_client_secret needs oidc_issuer"),
        ('oidc_join_domains = ["example.com"]', 2, "oidc_join_domains needs oidc_issuer"),
        (f'{CLIENT}\noidc_join_domains = ["*.example.com"]', 4, "a list of mail domains"),
        (f'{CLIENT}\noidc_join_domains = ["com"]', 4, "a list of mail domains"),
        (f'{CLIENT}\noidc_scopes = ["email"]', 4, "with openid in it"),
        (f'{CLIENT}\noidc_client_secret = "env:NOT_SET"', 4, "'NOT_SET' is not set"),
        ("passwords = true", 2, "unknown setting 'passwords'"),
        ('password = "yes"', 2, "true or false"),
    ],
)
def test_what_cannot_work_is_refused_with_its_line(tmp_path: Path, text: str, line: int, told: str) -> None:
    """At the start, and not when somebody signs in."""
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, text)
    assert refused.value.message.startswith(f"modelgates.toml, line {line}: ")
    assert told in refused.value.message
    assert "did you mean 'password'" in str(refused.value.remedy) or "passwords" not in text


def test_proxies_are_networks(tmp_path: Path) -> None:
    """Single addresses are the smallest ones."""
    file = tmp_path / "modelgates.toml"
    file.write_text('[server]\ntrusted_proxies = ["10.0.0.0/8", "::1"]\n')
    found = load_config(file, None, None, {}, tmp_path).server.trusted_proxies
    assert [str(network) for network in found] == ["10.0.0.0/8", "::1/128"]
