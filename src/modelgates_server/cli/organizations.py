"""`organizations`: made and listed by whoever runs the gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelgates_server.cli.frame import Options, Report
from modelgates_server.cli.local import ACTOR, opened
from modelgates_server.cli.output import facts, moment, rfc3339, table
from modelgates_server.cli.welcome import SHOWN_ONCE
from modelgates_server.management import organizations
from modelgates_server.management.address import sign_in_url
from modelgates_server.management.members import ADMIN, NewMember
from modelgates_server.management.organizations import NewOrganization
from modelgates_server.money import nusd_from_usd

if TYPE_CHECKING:
    from modelgates_server.management.organizations import OrganizationRow


def create(options: Options, name: str, admin: str, email: str | None, credit: str | None) -> Report:
    """Make an organisation; its first management key and its admin's sign-in link are shown this once."""
    grant_nusd = 0 if credit is None else nusd_from_usd(credit)
    wanted = NewOrganization(name, NewMember(admin, email, ADMIN), grant_nusd)
    with opened(options) as place:
        made = organizations.create_organization(place.engine, place.pepper, wanted, ACTOR, place.now_s)
        link = sign_in_url(place.origin, made.sign_in_token)
    data = {
        "data": _data(made.organization),
        "management_key": made.management_key,
        "sign_in_url": link,
        "workspace_id": made.workspace.id,
        "admin_id": made.admin.id,
    }
    text = facts(
        (
            ("Organization", made.organization.name),
            ("Id", made.organization.id),
            ("Management key", made.management_key),
            ("Sign in", f"{link}  (once, within 24 hours)"),
        )
    )
    return Report(data, f"{text}\n\n{SHOWN_ONCE}")


def show(options: Options) -> Report:
    """List every organisation of this installation."""
    with opened(options) as place:
        rows = organizations.list_organizations(place.engine)
    lines = [(row.name, moment(row.created_at_s), row.id) for row in rows]
    return Report({"data": [_data(row) for row in rows]}, table(("Name", "Since", "Id"), lines))


def _data(row: OrganizationRow) -> dict[str, object]:
    return {"id": row.id, "name": row.name, "created_at": rfc3339(row.created_at_s)}
