"""The reader's own passkeys and sessions."""

from typing import Any

from litestar import Controller, Response, get

from outlay.actions.act import Caller
from outlay.store import codes
from outlay.store.database import Unit
from outlay.web.body import StrictRequest
from outlay.web.dashboard.desk import ROOT, Desk
from outlay.web.dashboard.people import keys_of


class PasskeyPages(Controller):
    """``/dashboard/passkeys``."""

    path = f"{ROOT}/passkeys"

    @get()
    async def passkeys(self, request: StrictRequest, desk: Desk) -> Response[str]:
        """Show the reader's own keys, and how to add and withdraw some."""
        now = desk.gate.clock.now()

        def load(unit: Unit, caller: Caller) -> dict[str, Any]:
            return {
                "keys": keys_of(unit, caller.user_id),
                "open_until": codes.open_until(unit, caller.user_id, now=now),
            }

        return await desk.page(request, "passkeys.html", None, load, title="Your passkeys")
