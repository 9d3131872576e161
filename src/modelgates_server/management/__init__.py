"""Every change that people make: one function, one transaction, one audit row. API, console and cli all call these."""

from modelgates_server.management.budgets import Budget, set_budget
from modelgates_server.management.credits import (
    Moved,
    Transaction,
    adjust_credits,
    credit_standing,
    give_credits,
    grant_credits,
    list_transactions,
    refund_credits,
    transfer_credits,
)
from modelgates_server.management.describe import KeyUse, key_data, keys_use, parse_expiry
from modelgates_server.management.key_values import KeyFilter, KeyRow, NewKey
from modelgates_server.management.keys import (
    create_key,
    delete_key,
    find_key,
    get_key,
    list_keys,
    page_keys,
    set_key_disabled,
    set_key_routing,
    update_key,
    update_key_limit,
)
from modelgates_server.management.settings import OrganizationSettings, TopUpRule, read_settings, update_settings
from modelgates_server.management.setup import Initialised, initialise, new_sign_in_link
from modelgates_server.management.workspaces import WorkspaceRow, find_workspace, set_workspace_routing

__all__ = [
    "Budget",
    "Initialised",
    "KeyFilter",
    "KeyRow",
    "KeyUse",
    "Moved",
    "NewKey",
    "OrganizationSettings",
    "TopUpRule",
    "Transaction",
    "WorkspaceRow",
    "adjust_credits",
    "create_key",
    "credit_standing",
    "delete_key",
    "find_key",
    "find_workspace",
    "get_key",
    "give_credits",
    "grant_credits",
    "initialise",
    "key_data",
    "keys_use",
    "list_keys",
    "list_transactions",
    "new_sign_in_link",
    "page_keys",
    "parse_expiry",
    "read_settings",
    "refund_credits",
    "set_budget",
    "set_key_disabled",
    "set_key_routing",
    "set_workspace_routing",
    "transfer_credits",
    "update_key",
    "update_key_limit",
    "update_settings",
]
