"""Approvals: what waits for whom, one of them whole with its decision, and the words on a page of their own."""

from typing import Any

from litestar import Controller, Response, get

from outlay.actions import present_approvals
from outlay.core.errors import InvalidInput
from outlay.store.approvals import DECIDED, MINE, OTHERS
from outlay.web.body import StrictRequest
from outlay.web.dashboard.desk import APPROVALS, Desk
from outlay.web.gate import page_arguments, query_text

READS = "Policies:Evaluations:Read"
PARTS = {MINE: "For you", OTHERS: "For others", DECIDED: "Decided"}


class ApprovalPages(Controller):
    """``/dashboard/approvals``."""

    path = APPROVALS

    @get()
    async def list_(self, request: StrictRequest, desk: Desk) -> Response[str]:
        """List what waits for the reader, for others, or was decided."""
        part = query_text(request, "show") or MINE
        if part not in PARTS:
            return await desk.refuse(request, InvalidInput(f"is one of {', '.join(PARTS)}", field="show"))
        gate = desk.gate
        try:
            page = page_arguments(request)
        except InvalidInput as error:
            return await desk.refuse(request, error)

        def load(unit: Any, caller: Any) -> dict[str, Any]:
            found = present_approvals.board(unit, gate.config, caller, part=part, now=gate.clock.now(), **page)
            return {"part": part, "parts": PARTS, **found}

        return await desk.page(request, "approvals.html", READS, load, title="Approvals")

    @get("/{approval_id:str}")
    async def one(self, request: StrictRequest, approval_id: str, desk: Desk) -> Response[str]:
        """Show one of them whole, and take the decision."""
        return await self._show(request, "approval.html", approval_id, desk, title="Approval")

    @get("/{approval_id:str}/words")
    async def words(self, request: StrictRequest, approval_id: str, desk: Desk) -> Response[str]:
        """Show what is signed and its words, and nothing else: to be read on another device."""
        return await self._show(request, "words.html", approval_id, desk, title="Words of an approval")

    async def _show(
        self, request: StrictRequest, template: str, approval_id: str, desk: Desk, *, title: str
    ) -> Response[str]:
        gate = desk.gate
        decides_here = not gate.config.server.approval_url or desk.is_apart(request)

        def load(unit: Any, caller: Any) -> dict[str, Any]:
            found = present_approvals.asked(unit, approval_id, gate.config, caller, gate.clock.now())
            return {"asked": found, "decides_here": decides_here, "decided_at": gate.config.server.decided_at}

        return await desk.page(request, template, READS, load, title=title)
