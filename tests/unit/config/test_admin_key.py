"""The admin key of a provider: who takes one, where it may stand, and that it is not shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelgates_server.config import Config, load_config
from modelgates_server.errors import ConfigError

ADMIN = "sk-ant-admin01-x"


def load(folder: Path, text: str = "", *, with_keys: bool = True, **environ: str) -> Config:
    if text:
        (folder / "modelgates.toml").write_text(f'[[providers]]\nkind = "anthropic"\napi_key = "env:K"\n{text}\n')
    return load_config(None, None, None, {"K": "k", **environ}, folder, with_keys=with_keys)


@pytest.mark.parametrize(
    ("text", "environ"),
    [('admin_key = "env:ADMIN"', {"ADMIN": ADMIN}), ('admin_key = "file:admin"', {}), (f'admin_key = "{ADMIN}"', {})],
)
def test_it_is_given_like_the_api_key(tmp_path: Path, text: str, environ: Any) -> None:
    """From a variable, from a file, or as it is, which is warned about; it is not shown."""
    (tmp_path / "admin").write_text(f"{ADMIN}\n")
    config = load(tmp_path, text, **environ)
    (provider,) = config.providers
    assert provider.admin_key is not None
    assert provider.admin_key.reveal() == ADMIN
    assert ADMIN not in repr(config)
    assert any('write admin_key = "env:NAME"' in warning for warning in config.warnings) == (ADMIN in text)


def test_it_is_found_beside_the_usual_variable(tmp_path: Path) -> None:
    """Without a table, ANTHROPIC_ADMIN_KEY belongs to the provider that ANTHROPIC_API_KEY makes, and makes none by itself."""
    (provider,) = load(tmp_path, ANTHROPIC_API_KEY="a", ANTHROPIC_ADMIN_KEY=ADMIN).providers
    assert (provider.kind, provider.admin_key and provider.admin_key.reveal()) == ("anthropic", ADMIN)
    assert load(tmp_path, ANTHROPIC_API_KEY="a").providers[0].admin_key is None
    assert load(tmp_path, ANTHROPIC_ADMIN_KEY=ADMIN).sandbox


def test_commands_that_call_nobody_do_not_read_it(tmp_path: Path) -> None:
    """`keys list` works where the variable is not set."""
    assert load(tmp_path, 'admin_key = "env:ADMIN"', with_keys=False).providers[0].admin_key is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('admin_key = "env:ADMIN"', "line 4: the environment variable 'ADMIN' is not set"),
        ("admin_key = 7", "line 4: admin_key must be text"),
        ('[[providers]]\nkind = "vertex"\nproject = "p-1"\nadmin_key = "k"', "takes no admin_key"),
    ],
)
def test_mistakes_name_the_line(tmp_path: Path, text: str, told: str) -> None:
    """A key that is not there, that is none, or that this kind of provider has no use for."""
    with pytest.raises(ConfigError, match=told):
        load(tmp_path, text)
