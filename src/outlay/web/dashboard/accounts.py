"""Service accounts: programs that ask for payouts, their keys and tokens, and what they may do."""

from typing import Any

from litestar import Controller, Response, get

from outlay.actions import present, present_changes
from outlay.actions.act import Caller
from outlay.core.errors import NotFound
from outlay.store import audit, organizations, users
from outlay.store.database import Unit
from outlay.web.body import StrictRequest
from outlay.web.dashboard.desk import ROOT, Desk
from outlay.web.dashboard.people import keys_of, may_be_given

READ = "Auth:ServiceAccounts:Read"


class AccountPages(Controller):
    """``/dashboard/service-accounts``."""

    path = f"{ROOT}/service-accounts"

    @get()
    async def accounts(self, request: StrictRequest, desk: Desk) -> Response[str]:
        """List service accounts."""

        def load(unit: Unit, caller: Caller) -> dict[str, Any]:
            org, rows = organizations.get(unit), users.all_service_accounts(unit)
            seen = audit.last_acts(unit, [row.id for row in rows])
            return {
                "accounts": [{**present.service_account(unit, row, org.id), "seen": seen.get(row.id)} for row in rows],
                "given": may_be_given(unit, caller, ""),
            }

        return await desk.page(request, "accounts.html", READ, load, title="Service accounts")

    @get("/{user_id:str}")
    async def account(self, request: StrictRequest, user_id: str, desk: Desk) -> Response[str]:
        """Show one service account."""

        def load(unit: Unit, caller: Caller) -> dict[str, Any]:
            row = users.find(unit, user_id)
            if row is None or not row.is_service_account:
                raise NotFound("there is no such service account")
            return {
                **present.service_account(unit, row, organizations.get(unit).id),
                "seen": audit.last_acts(unit, [user_id]).get(user_id),
                "keys": keys_of(unit, user_id),
                "given": may_be_given(unit, caller, user_id),
                "pending": present_changes.pending(unit, user_id).get("pendingChangeRequest"),
            }

        return await desk.page(request, "account.html", READ, load, title="Service account")
