"""What filters of reports name, by the ids that receipts and roll-ups have.

What is unknown today stays as it was written: old receipts may name a workspace that was deleted, or a model that left the catalogue.
"""

from __future__ import annotations

from modelgates_server.api.caller import Manager
from modelgates_server.api.house import House
from modelgates_server.errors import NotFound
from modelgates_server.management.workspaces import find_workspace


def workspace_named(house: House, manager: Manager, selector: str | None) -> str | None:
    """A workspace's id, by its id or slug."""
    if selector is None:
        return None
    try:
        return find_workspace(house.engine, manager.organization_id, selector).id
    except NotFound:
        return selector


def model_named(house: House, spelling: str | None) -> str | None:
    """A model's slug, by any spelling."""
    resolved = None if spelling is None else house.catalogue.names.find(spelling)
    return spelling if resolved is None else resolved.model.slug
