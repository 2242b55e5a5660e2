"""Mandates: a standing authority to keep wallets filled, what was proposed under it, and how its wallets stand."""

from typing import Any

from litestar import Controller, get, post

from outlay.actions import mandates
from outlay.actions.refill import proposal
from outlay.store import mandates as rows
from outlay.web.body import StrictRequest
from outlay.web.dfns.identity import Body
from outlay.web.gate import Gate, page_arguments, query_text


class CreateMandate(Body):
    """What a mandate allows."""

    name: str
    kind: str
    network: str
    treasury: dict[str, Any]
    wallets: dict[str, Any]
    min: str
    target: str
    max: str
    perRefillMax: str
    window: dict[str, Any]
    asset: str | None = None
    unit: str | None = None


class MandateController(Controller):
    """``/v1/mandates``."""

    path = "/v1/mandates"
    tags = ("Mandates",)

    @post("", status_code=200, summary="Create a mandate")
    async def create(self, request: StrictRequest, data: CreateMandate, gate: Gate) -> dict[str, Any]:
        """Allow wallets to be kept filled from a treasury, within bounds that the signer holds the server to."""
        return await gate.write(request, "Mandates:Create", lambda act: mandates.create(act, act.payload))

    @get("", summary="List mandates")
    async def list_(self, request: StrictRequest, gate: Gate) -> dict[str, Any]:
        """Return mandates, newest first, archived ones included."""
        page, status = page_arguments(request), query_text(request, "status")

        def page_of(unit: Any, _caller: Any) -> dict[str, Any]:
            found, token = rows.list_page(unit, status=status, **page)
            items = [mandates.mandate_document(row) for row in found]
            return {"items": items, **({} if token is None else {"nextPageToken": token})}

        return await gate.read(request, "Mandates:Read", page_of)

    @get("/{mandate_id:str}", summary="Read a mandate")
    async def read(self, request: StrictRequest, mandate_id: str, gate: Gate) -> dict[str, Any]:
        """Return a mandate, and of each wallet it fills its balance, when it is empty, and why nothing goes to it."""
        now = gate.clock.now()
        return await gate.read(
            request,
            "Mandates:Read",
            lambda unit, _: mandates.standing(unit, gate.config, mandate_id, now=now),
        )

    @get("/{mandate_id:str}/proposals", summary="List what somebody has to send")
    async def proposals(self, request: StrictRequest, mandate_id: str, gate: Gate) -> dict[str, Any]:
        """Return what was proposed under a mandate whose treasury is not ours, newest first."""
        page, status = page_arguments(request), query_text(request, "status")

        def page_of(unit: Any, _caller: Any) -> dict[str, Any]:
            mandates.get(unit, mandate_id)
            found, token = rows.proposals_page(unit, mandate_id, status=status, **page)
            items = [proposal(unit, row) for row in found]
            return {"items": items, **({} if token is None else {"nextPageToken": token})}

        return await gate.read(request, "Mandates:Read", page_of)

    @post("/{mandate_id:str}/archive", status_code=200, summary="Archive a mandate")
    async def archive(self, request: StrictRequest, mandate_id: str, gate: Gate) -> dict[str, Any]:
        """Take a mandate out of force: what waits under it is withdrawn, what was signed goes on."""
        await request.expect_empty()
        return await gate.write(request, "Mandates:Archive", lambda act: mandates.archive(act, mandate_id))
