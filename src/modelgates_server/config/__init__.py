"""One frozen Config: the operator's file, then the environment, then flags. Unknown keys are refused, with a hint."""

from modelgates_server.config.extras import extra_missing, install_command
from modelgates_server.config.load import load_config
from modelgates_server.config.settings import SETTINGS, settings_reference
from modelgates_server.config.values import BODY_BYTES_MAX, Config, ProviderConfig, Secret

__all__ = [
    "BODY_BYTES_MAX",
    "SETTINGS",
    "Config",
    "ProviderConfig",
    "Secret",
    "extra_missing",
    "install_command",
    "load_config",
    "settings_reference",
]
