"""Every page of the console. A module that is missing here does not exist."""

from __future__ import annotations

from typing import Final

from modelgates_server.console.pages import (
    activity,
    audit,
    channels,
    generation,
    guard_previews,
    guardrail,
    guardrails,
    join,
    key,
    keys,
    logs,
    management_keys,
    members,
    models,
    overview,
    privacy,
    profile,
    providers,
    settings,
    setup,
    sign_in,
)
from modelgates_server.console.pages import credits as credit_pages
from modelgates_server.console.routes import PageRoute

PAGES: Final[tuple[PageRoute, ...]] = (
    *activity.ROUTES,
    *audit.ROUTES,
    *channels.ROUTES,
    *credit_pages.ROUTES,
    *generation.ROUTES,
    *guard_previews.ROUTES,
    *guardrail.ROUTES,
    *guardrails.ROUTES,
    *join.ROUTES,
    *key.ROUTES,
    *keys.ROUTES,
    *logs.ROUTES,
    *management_keys.ROUTES,
    *members.ROUTES,
    *models.ROUTES,
    *overview.ROUTES,
    *privacy.ROUTES,
    *profile.ROUTES,
    *providers.ROUTES,
    *settings.ROUTES,
    *setup.ROUTES,
    *sign_in.ROUTES,
)
