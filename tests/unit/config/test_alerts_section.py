"""The section [alerts]: addresses, secrets by reference, and what needs what."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelgates_server.config import Config, load_config
from modelgates_server.errors import ConfigError

SECRET = "0123456789abcdef0123456789abcdef"
MAIL = 'email_from = "gate@example.com"\nsmtp_url = "smtps://gate%40x@mail.example.com"\nsmtp_password = "env:SMTP"'


def load(folder: Path, text: str, *, with_keys: bool = True, **environ: str) -> Config:
    file = folder / "modelgates.toml"
    file.write_text(f"[alerts]\n{text}\n")
    return load_config(file, None, None, environ, folder, with_keys=with_keys)


def test_mail_and_webhook_are_read(tmp_path: Path) -> None:
    """A complete section gives a server, its user and password, a sender, recipients, and a signed webhook."""
    hook = f'webhook_url = "https://hooks.example.com/in?team=1"\nwebhook_secret = "file:hook.txt"\n{MAIL}'
    (tmp_path / "hook.txt").write_text(SECRET + "\n")
    alerts = load(tmp_path, f'{hook}\nemail_to = ["a@example.com", "b@example.com", "a@example.com"]', SMTP="pw").alerts
    assert alerts.smtp_url is not None
    assert (alerts.smtp_url.host, alerts.smtp_url.port, alerts.smtp_url.security) == ("mail.example.com", 465, "tls")
    assert alerts.smtp_url.user == "gate@x"
    assert alerts.smtp_password is not None
    assert alerts.smtp_password.reveal() == "pw"
    assert alerts.webhook_secret is not None
    assert alerts.webhook_secret.reveal() == SECRET
    assert alerts.webhook_url == "https://hooks.example.com/in?team=1"
    assert alerts.email_to == ("a@example.com", "b@example.com")
    assert alerts.thresholds == (50, 80, 95, 100)


@pytest.mark.parametrize(
    ("url", "port", "security"),
    [
        ("smtp://mail.example.com", 587, "starttls"),
        ("smtp://mail.example.com:2525", 2525, "starttls"),
        ("smtp://localhost:25", 25, "local"),
        ("smtp://127.0.0.1:25", 25, "local"),
        ("smtps://127.0.0.1:465", 465, "tls"),
    ],
)
def test_only_this_machine_is_mailed_in_the_clear(tmp_path: Path, url: str, port: int, security: str) -> None:
    """Everywhere else TLS is a must, whatever the port."""
    server = load(tmp_path, f'smtp_url = "{url}"\nemail_from = "gate@example.com"').alerts.smtp_url
    assert server is not None
    assert (server.port, server.security) == (port, security)


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ('email_to = ["ops@example.com"]', 2, "email_to needs smtp_url"),
        ('smtp_url = "smtps://mail.example.com"', 2, "smtp_url needs email_from"),
        ('smtp_url = "smtps://u@mail.example.com"\nemail_from = "a@example.com"', 2, "no smtp_password"),
        ('smtp_url = "smtps://u:pw@mail.example.com"', 2, "without the password"),
        ('smtp_url = "http://mail.example.com"', 2, "smtps://user@mail"),
        ('smtp_url = "smtps://mail.example.com/inbox"', 2, "smtps://user@mail"),
        ('webhook_url = "https://hooks.example.com"', 2, "webhook_url needs webhook_secret"),
        ('webhook_url = "ftp://hooks.example.com"', 2, "begins with http"),
        ('webhook_url = "https://u@hooks.example.com"', 2, "without user name"),
        ('webhook_secret = "short"', 2, "at least 128 random bits"),
        (f'webhook_secret = "{"a" * 40}"', 2, "at least 128 random bits"),
        ('webhook_secret = "env:NOPE"', 2, "'NOPE' is not set"),
        ('webhook_secret = "file:nope.txt"', 2, "cannot read the secret"),
        ('email_from = "Gate <gate@example.com>"', 2, "an e-mail address such as"),
        ('email_from = "gate@example.com\\nBcc: x@example.com"', 2, "an e-mail address such as"),
        ('email_to = ["ops@example.com, x@example.com"]', 2, "a list of at most 20"),
        ('email_to = "ops@example.com"', 2, "a list of at most 20"),
        ("thresholds = [0]", 2, "whole numbers from 1 to 100"),
        ("thresholds = [50.5]", 2, "whole numbers from 1 to 100"),
        ("email = 1", 2, "unknown setting"),
    ],
)
def test_what_cannot_be_is_refused_with_its_line(tmp_path: Path, text: str, line: int, told: str) -> None:
    """The operator is told where, what and why."""
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, text)
    assert refused.value.message.startswith(f"modelgates.toml, line {line}: ")
    assert told in refused.value.message


def test_a_secret_in_the_file_is_warned_about_and_never_shown(tmp_path: Path) -> None:
    """It works, with a sentence that says where it should be; the warning does not repeat it."""
    config = load(tmp_path, f'webhook_secret = "{SECRET}"')
    assert [warning for warning in config.warnings if "webhook_secret itself stands in the file" in warning]
    assert SECRET not in repr(config) + "".join(config.warnings)


def test_a_secret_in_its_own_variable_is_no_secret_in_a_file(tmp_path: Path) -> None:
    """MODELGATES_ALERTS_WEBHOOK_SECRET holds the secret itself."""
    config = load(tmp_path, "", MODELGATES_ALERTS_WEBHOOK_SECRET=SECRET, MODELGATES_ALERTS_THRESHOLDS="90,60")
    assert config.alerts.webhook_secret is not None
    assert config.alerts.webhook_secret.reveal() == SECRET
    assert config.alerts.thresholds == (60, 90)
    assert not [warning for warning in config.warnings if "secret" in warning]


def test_whoever_sends_nothing_needs_no_secret(tmp_path: Path) -> None:
    """`modelgates keys list` works where the mail server's password is not to be had."""
    alerts = load(tmp_path, MAIL, with_keys=False).alerts
    assert alerts.smtp_password is None
    assert alerts.smtp_url is not None


def test_plain_http_off_this_machine_is_warned_about(tmp_path: Path) -> None:
    """The operator's file is trusted, not silent."""
    for host, warned in (("hooks.internal", 1), ("127.0.0.1", 0)):
        config = load(tmp_path, f'webhook_url = "http://{host}/"\nwebhook_secret = "env:S"', S=SECRET)
        assert len([warning for warning in config.warnings if "plain http" in warning]) == warned
