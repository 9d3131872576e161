"""Every change that people make: one function, one transaction, one audit row. API, console and cli all call these."""

from modelgates_server.management.describe import KeyUse, key_data, keys_use, parse_expiry
from modelgates_server.management.keys import (
    KeyRow,
    NewKey,
    create_key,
    delete_key,
    find_key,
    list_keys,
    set_key_disabled,
    set_key_routing,
    set_rates,
    update_key_limit,
)
from modelgates_server.management.money import Budget, grant_credits, set_budget
from modelgates_server.management.setup import Initialised, initialise, new_sign_in_link
from modelgates_server.management.workspaces import WorkspaceRow, find_workspace, set_workspace_routing

__all__ = [
    "Budget",
    "Initialised",
    "KeyRow",
    "KeyUse",
    "NewKey",
    "WorkspaceRow",
    "create_key",
    "delete_key",
    "find_key",
    "find_workspace",
    "grant_credits",
    "initialise",
    "key_data",
    "keys_use",
    "list_keys",
    "new_sign_in_link",
    "parse_expiry",
    "set_budget",
    "set_key_disabled",
    "set_key_routing",
    "set_rates",
    "set_workspace_routing",
    "update_key_limit",
]
