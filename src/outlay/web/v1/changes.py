"""Changes of settings that wait for people, and what became of them."""

from typing import Any

from litestar import Controller, get

from outlay.actions import present, present_changes
from outlay.core.errors import InvalidInput, NotFound
from outlay.store import changes
from outlay.web.body import StrictRequest
from outlay.web.gate import Gate, page_arguments, query_text

STATUSES = ("Pending", "Applied", "Failed", "Rejected")


class ChangeController(Controller):
    """``/v1/changes``."""

    path = "/v1/changes"
    tags = ("Changes",)

    @get(summary="List change requests")
    async def list_(self, request: StrictRequest, gate: Gate) -> dict[str, Any]:
        """Return one page of change requests, newest first."""
        page, status = page_arguments(request), query_text(request, "status")
        if status is not None and status not in STATUSES:
            raise InvalidInput("use one of " + ", ".join(STATUSES), field="status")

        def read(unit: Any, _caller: Any) -> dict[str, Any]:
            rows, token = changes.list_page(unit, status=status, **page)
            return present.page([present_changes.change(unit, row) for row in rows], token)

        return await gate.read(request, "Policies:Evaluations:Read", read)

    @get("/{change_id:str}", summary="Read a change request")
    async def read(self, request: StrictRequest, change_id: str, gate: Gate) -> dict[str, Any]:
        """Return one change request: what would change, who asked, and where it stands."""

        def read(unit: Any, _caller: Any) -> dict[str, Any]:
            row = changes.find(unit, change_id)
            if row is None:
                raise NotFound("no such change request")
            return present_changes.change(unit, row)

        return await gate.read(request, "Policies:Evaluations:Read", read)
