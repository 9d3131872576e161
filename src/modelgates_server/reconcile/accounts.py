"""Which accounts a configuration has admin keys for. Two providers with one address, key and workspace are billed together."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from modelgates_server.catalogue.load import Catalogue
from modelgates_server.config import ProviderConfig
from modelgates_server.config.endpoints import endpoints_of
from modelgates_server.outbound.http import Outbound
from modelgates_server.reconcile.anthropic import AnthropicReport
from modelgates_server.reconcile.compare import Pricing
from modelgates_server.reconcile.run import Account
from modelgates_server.reconcile.values import UsageReport


def accounts_of(catalogue: Catalogue, providers: Iterable[ProviderConfig], outbound: Outbound) -> list[Account]:
    """One account for each admin key, in the order of the file. Another kind's report becomes another branch here."""
    together: dict[tuple[str, str, str | None], list[ProviderConfig]] = {}
    for entry in providers:
        if entry.admin_key is not None:
            key = (entry.base_url, entry.admin_key.reveal(), entry.settings.get("workspace_id"))
            together.setdefault(key, []).append(entry)
    accounts = []
    for (base_url, admin_key, workspace_id), entries in together.items():
        endpoints = {tier[0].model.id: tier[0] for tier in endpoints_of(catalogue, entries[:1]).values()}
        report = partial(_anthropic, base_url, admin_key, workspace_id, outbound)
        accounts.append(Account(tuple(entry.slug for entry in entries), Pricing(catalogue, endpoints), report))
    return accounts


def _anthropic(base_url: str, admin_key: str, workspace_id: str | None, outbound: Outbound, fast: bool) -> UsageReport:  # noqa: FBT001 - `Account.report` says what it is
    return AnthropicReport(base_url, admin_key, outbound, workspace_id, fast)
