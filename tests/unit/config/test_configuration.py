"""The operator's file, the environment and flags become one Config, or a refusal that names the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelgates_server.config import SETTINGS, Config, Secret, load_config, settings_reference
from modelgates_server.errors import ConfigError

ANTHROPIC = '[[providers]]\nkind = "anthropic"\n'


def load(folder: Path, text: str | None = None, environ: dict[str, str] | None = None, **flags: object) -> Config:
    if text is not None:
        (folder / "modelgates.toml").write_text(text)
    named = {name.replace("__", "."): value for name, value in flags.items()}
    return load_config(None, None, None, environ or {}, folder, named)


def test_nothing_at_all_is_a_configuration(tmp_path: Path) -> None:
    """Without file and variables: loopback, SQLite in the data directory, 100 USD, and the sandbox."""
    config = load(tmp_path)
    assert (config.server.host, config.server.port) == ("127.0.0.1", 8787)
    assert config.database.url == f"sqlite:///{tmp_path}/modelgates-data/modelgates.db"
    assert config.credits.initial_grant_nusd == 100 * 10**9
    assert [provider.kind for provider in config.providers] == ["sandbox"]
    assert config.sandbox
    assert config.warnings == ()


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    """Each source overrides the weaker one, setting by setting; a flag that was not given overrides nothing."""
    text = '[server]\nport = 1\nhost = "::1"\ndrain_s = 7\n'
    environ = {"MODELGATES_SERVER_PORT": "2", "MODELGATES_SERVER_HOST": "0.0.0.0"}
    server = load(tmp_path, text, environ, server__port=3, server__host=None).server
    assert (server.port, server.host, server.drain_s) == (3, "0.0.0.0", 7.0)


def test_an_empty_variable_counts_as_unset(tmp_path: Path) -> None:
    """For every setting: compose files pass on what nobody set like that. What the file says holds."""
    empty = {setting.environment: "" for setting in SETTINGS} | {"MODELGATES_SERVER_HOST": " "}
    text = '[server]\nport = 5\n[alerts]\nwebhook_url = "https://x.de/"\nwebhook_secret = "0123456789abcdef0123456789abcdef"\n'
    assert load(tmp_path, text, empty) == load(tmp_path, text)
    assert load(tmp_path, text, empty).server.port == 5


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("[server]\nprot = 1", 2, "unknown setting 'prot' in [server]"),
        ("# first\n[serverr]\nport = 1", 2, "unknown section [serverr]"),
        ('[server]\n\nport = "x"', 3, "port must be a port number"),
        ("[server]\nport = 65536", 2, "port must be a port number"),
        ("[server]\nport = true", 2, "port must be a port number"),
        ("[server]\nhost = 3", 2, "host must be text"),
        ("server = 3", 1, "must be a section"),
        ('[server]\nadmin_listen = "8788"', 2, "must be host:port, such as 127.0.0.1:8788 or [::1]:8788"),
        ("[server]\nadmin_listen = 8788", 2, "must be host:port"),
        ('[server]\nadmin_listen = ""', 2, "must be host:port"),
        ('[server]\ntrusted_proxies = ["10.0.0.1/8"]', 2, "a list of networks"),
        ("[privacy]\nprompts = true\n", 1, "not built yet"),
        ("[routing]\nattempts_max = 11", 2, "a whole number from 1 to 10"),
        ('[catalogue]\nmodels = "nope.json"', 2, "there is no file"),
        ("[routing]\nfirst_ping_s = 0", 2, "number of seconds"),
        ("[routing]\nidle_s = nan", 2, "number of seconds"),
        ("[routing]\nidle_s = 1e9", 2, "number of seconds"),
        ('[routing]\nclamp = "yes"', 2, "true or false"),
        ("[routing]\norder = [\n 1,\n]", 2, "list of provider slugs"),
        ("[credits]\ninitial_grant_usd = 100", 2, "amount in USD written as text"),
        ('[credits]\ninitial_grant_usd = "-1"', 2, "amount in USD written as text"),
        ('[server]\npublic_url = "https://u:p@host"', 2, "without user name"),
        ('[server]\nport = 1\nport = "2"', 3, "not TOML"),
        ("[server]\nhost = '''\n[alerts]\n'''\nprot = 1", 5, "unknown setting 'prot'"),
        ("server.prot = 1", 1, "unknown setting 'prot'"),
    ],
)  # fmt: skip
def test_a_bad_setting_is_refused_with_its_line(tmp_path: Path, text: str, line: int, told: str) -> None:
    """The operator is told where, what and what was expected."""
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, text)
    assert refused.value.message.startswith(f"modelgates.toml, line {line}: ")
    assert told in refused.value.message


@pytest.mark.parametrize(
    ("rest", "line", "told"),
    [
        ('kind = "bedrock"', 1, "needs a region"),
        ('kind = "bedrock"\nregion = "us east"', 3, "region must be"),
        ('kind = "bedrock"\nregion = "us-east-1/../x"', 3, "region must be"),
        ('kind = "claude-on-aws"\nregion = "us-east-1"', 1, "needs a workspace_id"),
        ('kind = "vertex"\nproject = "p-1"\napi_key = "k"', 4, "of the kind 'vertex' takes no api_key"),
        ('kind = "vertex"\nproject = "p-1"\ncredentials = "nope.json"', 4, "there is no file"),
        ('kind = "foundry"', 1, "needs a resource"),
        ('kind = "foundry"\nresource = "r-1"\nhosting = "aws"', 4, "hosting must be one of anthropic, azure"),
        ('kind = "anthropic"\napi_key = "k"\nregion = "us-east-1"', 4, "takes no region"),
        ('kind = "anthropic"\napi_key = "k"\nzdr = "yes"', 4, "zdr must be true or false"),
        ('kind = "anthropic"\napi_key = "k"\ndata_collection = true', 4, "data_collection must be one of allow, deny"),
        ('kind = "anthropic"\napi_key = "k"\nmax_output_tokens = 0', 4, "max_output_tokens must be"),
        ('kind = "antropic"', 2, "kind must be one of"),
        ('slug = "x"', 1, "needs a kind"),
        ('kind = "anthropic"', 1, "'ANTHROPIC_API_KEY' is not set"),
        ('kind = "anthropic"\napi_key = "env:NOPE"', 3, "'NOPE' is not set"),
        ('kind = "anthropic"\napi_key = "env:EMPTY"', 3, "'EMPTY' is empty"),
        ('kind = "anthropic"\napi_key = "file:nope"', 3, "nope: No such file"),
        ('kind = "anthropic"\napi_key = "a b"', 3, "spaces"),
        ('kind = "anthropic"\napi_key = "k"\nbase_url = "ftp://x"', 4, "http:// or https://"),
        ('kind = "anthropic"\napi_key = "k"\nbase_url = "https://u:p@x"', 4, "user name"),
        ('kind = "anthropic"\napi_key = "k"\nprice_multiplier = 1.1', 4, "price_multiplier must be text"),
        ('kind = "anthropic"\napi_key = "k"\nprice_multiplier = "0"', 4, "price_multiplier must be text"),
        ('kind = "anthropic"\napi_key = "k"\nkey_heade = "both"', 4, "unknown setting 'key_heade'"),
        ('kind = "anthropic-compatible"', 1, "needs a base_url"),
        ('kind = "sandbox"\nbase_url = "http://x"', 3, "takes no base_url"),
        ('kind = "sandbox"\n[[providers]]\nkind = "sandbox"', 3, "two providers have the slug 'sandbox'"),
        ('kind = "sandbox"\nslug = "Not A Slug"', 3, "lower-case"),
    ],
)
def test_a_bad_provider_is_refused_with_its_line(tmp_path: Path, rest: str, line: int, told: str) -> None:
    """A provider that cannot work stops the start, before anything listens."""
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, "[[providers]]\n" + rest, {"EMPTY": " "})
    assert refused.value.message.startswith(f"modelgates.toml, line {line}: ")
    assert told in refused.value.message


def test_a_close_misspelling_gets_a_hint(tmp_path: Path) -> None:
    """`prot` is told about `port`; a variable is warned about, because others may own it."""
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, "[server]\nprot = 1")
    assert refused.value.remedy == "did you mean 'port'?"
    (tmp_path / "modelgates.toml").unlink()
    told = load(tmp_path, None, {"MODELGATES_SERVER_PROT": "1", "MODELGATES_ZZZ": "1"}).warnings
    assert "did you mean MODELGATES_SERVER_PORT?" in told[0]
    assert "did you mean" not in told[1]


def test_a_variable_of_the_wrong_type_is_refused_by_name(tmp_path: Path) -> None:
    """The environment is as strict as the file."""
    with pytest.raises(ConfigError, match=r"MODELGATES_ROUTING_IDLE_S must be a number of seconds"):
        load(tmp_path, None, {"MODELGATES_ROUTING_IDLE_S": "soon"})


def test_every_setting_can_be_set_by_its_variable(tmp_path: Path) -> None:
    """The default of each setting, written as text in its variable, is accepted and changes nothing."""
    environ = {
        setting.environment: ",".join(map(str, setting.default))
        if isinstance(setting.default, list)
        else str(setting.default)
        for setting in SETTINGS
        if setting.default is not None
    }
    assert len(environ) > 10
    assert load(tmp_path, None, environ) == load(tmp_path)


def test_a_pasted_v1_and_trailing_slashes_are_removed(tmp_path: Path) -> None:
    """What people copy from other documentation works."""
    for pasted in ("https://x.example/", "https://x.example/v1", "https://x.example/v1/", "https://x.example/v1/v1"):
        (provider,) = load(tmp_path, f'{ANTHROPIC}base_url = "{pasted}"\napi_key = "k"').providers
        assert provider.base_url == "https://x.example"


def test_plain_http_is_warned_about_only_off_this_machine(tmp_path: Path) -> None:
    """Loopback needs no protection; one warning for the rest."""
    text = ANTHROPIC + 'api_key = "file:key"\nbase_url = "http://{}"'
    (tmp_path / "key").write_text("the-key\n")
    for host in ("127.0.0.1:9", "localhost", "[::1]:9"):
        assert load(tmp_path, text.format(host)).warnings == ()
    (warning,) = load(tmp_path, text.format("10.0.0.1")).warnings
    assert "plain http" in warning


def test_keys_come_from_variables_and_files_and_never_print(tmp_path: Path) -> None:
    """References are resolved; a literal works, with a warning; no representation shows any of them."""
    (tmp_path / "key").write_text("from-file\n")
    for written, key in (("env:K", "from-env"), ("file:key", "from-file"), ("literal-key", "literal-key")):
        config = load(tmp_path, f'{ANTHROPIC}api_key = "{written}"', {"K": "from-env"})
        secret = config.providers[0].api_key
        assert secret is not None
        assert secret.reveal() == key
        assert key not in f"{config!r} {config} {secret}"
        assert len(config.warnings) == (written == "literal-key")


def test_whoever_calls_no_provider_needs_no_key(tmp_path: Path) -> None:
    """`keys list` works in a shell that has not the providers' variables; the rest is checked all the same."""
    (tmp_path / "modelgates.toml").write_text(ANTHROPIC + 'api_key = "env:NOPE"')
    (provider,) = load_config(None, None, None, {}, tmp_path, with_keys=False).providers
    assert (provider.slug, provider.api_key) == ("anthropic", None)
    (tmp_path / "modelgates.toml").write_text(ANTHROPIC + "api_kee = 1")
    with pytest.raises(ConfigError, match="unknown setting"):
        load_config(None, None, None, {}, tmp_path, with_keys=False)


def test_a_secret_stays_inside() -> None:
    """It compares, but neither changes nor travels."""
    secret = Secret("x")
    assert secret == Secret("x")
    assert secret != Secret("y")
    with pytest.raises(TypeError):
        secret.__reduce__()
    with pytest.raises(AttributeError):
        secret._text = "y"


def test_our_own_key_and_address_are_no_provider(tmp_path: Path) -> None:
    """The client's base URL is left alone; a key of ours in the provider's variable is refused with a warning."""
    environ = {"ANTHROPIC_API_KEY": "sk-ant-1", "ANTHROPIC_BASE_URL": "http://127.0.0.1:8787/api"}
    (provider,) = load(tmp_path, None, environ).providers
    assert (provider.slug, provider.base_url) == ("anthropic", "https://api.anthropic.com")
    ours = load(tmp_path, None, {"ANTHROPIC_API_KEY": "sk-mg-v1-abc"})
    assert ours.sandbox
    assert "holds a ModelGates key" in ours.warnings[0]


def test_a_named_file_must_exist_and_the_usual_one_may_not(tmp_path: Path) -> None:
    """--config and MODELGATES_CONFIG are promises."""
    with pytest.raises(ConfigError, match=r"no configuration file .*other\.toml"):
        load_config(Path("other.toml"), None, None, {}, tmp_path)
    with pytest.raises(ConfigError, match=r"no configuration file"):
        load_config(None, None, None, {"MODELGATES_CONFIG": "other.toml"}, tmp_path)
    (tmp_path / "other.toml").write_text("[server]\nport = 5")
    assert load_config(None, None, None, {"MODELGATES_CONFIG": "other.toml"}, tmp_path).server.port == 5


def test_what_this_version_cannot_do_is_refused(tmp_path: Path) -> None:
    """Other databases, many workers on SQLite and half of a TLS pair are not half done."""
    for url in ("postgresql:x", "mysql://h/d", "sqlite://", "sqlite:///:memory:"):
        with pytest.raises(ConfigError):
            load_config(None, None, url, {}, tmp_path)
    with pytest.raises(ConfigError, match="more than one worker"):
        load(tmp_path, server__workers=2)
    with pytest.raises(ConfigError, match="both a certificate and its key"):
        load(tmp_path, server__tls_cert=tmp_path)


def test_the_reference_names_every_setting() -> None:
    """The docs are generated from the same table."""
    text = settings_reference()
    assert all(f"`{setting.environment}`" in text and setting.help in text for setting in SETTINGS)


def test_an_order_that_names_nobody_is_warned_about(tmp_path: Path) -> None:
    """A misspelt slug in the order would otherwise do nothing, silently."""
    (warning,) = load(tmp_path, '[routing]\norder = ["anthropic", "sandbax"]').warnings
    assert "did you mean 'sandbox'?" in warning


def test_what_asks_for_nothing_is_accepted(tmp_path: Path) -> None:
    """An empty section of something that is not built yet is no reason to refuse."""
    config = load(tmp_path, "[privacy]\n")

    assert config.server.port == 8787
