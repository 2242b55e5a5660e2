"""Mandates: a standing authority to keep wallets filled, or to pay again and again, and what came of it."""

from typing import Any

import msgspec
from litestar import Controller, get, post

from outlay.actions import mandates, recurring
from outlay.actions.refill import proposal
from outlay.core.errors import InvalidInput
from outlay.core.mandate import REFILL
from outlay.core.recurring import RECURRING
from outlay.store import mandates as rows
from outlay.web.body import StrictRequest
from outlay.web.dfns.identity import Body
from outlay.web.gate import Gate, page_arguments, query_text

_KINDS = {"": None, RECURRING: True, REFILL: False}
"""What a list is limited to: all that fill wallets are listed as refills."""


class CreateMandate(Body):
    """What a mandate allows."""

    name: str
    kind: str
    network: str
    asset: str | None = None
    # of refills
    treasury: dict[str, Any] | None = None
    wallets: dict[str, Any] | None = None
    unit: str | None = None
    min: str | None = None
    target: str | None = None
    max: str | None = None
    perRefillMax: str | None = None
    window: dict[str, Any] | None = None
    # of recurring payouts
    amount: str | None = None
    recipient: str | None = None
    memo: str | None = None
    walletId: str | None = None
    poolId: str | None = None
    calendar: dict[str, Any] | None = None
    timeZone: str | None = None
    first: str | None = msgspec.field(name="from", default=None)
    until: str | None = None
    runsMax: int | None = None
    missed: dict[str, Any] | None = None


class MandateController(Controller):
    """``/v1/mandates``."""

    path = "/v1/mandates"
    tags = ("Mandates",)

    @post("", status_code=200, summary="Create a mandate")
    async def create(self, request: StrictRequest, data: CreateMandate, gate: Gate) -> dict[str, Any]:
        """Allow wallets to be kept filled, or somebody to be paid again and again, within bounds the signer checks."""
        return await gate.write(request, "Mandates:Create", lambda act: mandates.create(act, act.payload))

    @get("", summary="List mandates")
    async def list_(self, request: StrictRequest, gate: Gate) -> dict[str, Any]:
        """Return mandates, newest first, archived ones included."""
        page, status = page_arguments(request), query_text(request, "status")
        kind = query_text(request, "kind") or ""
        if kind not in _KINDS:
            raise InvalidInput(f"use {RECURRING} or {REFILL}", field="kind")

        def page_of(unit: Any, _caller: Any) -> dict[str, Any]:
            found, token = rows.list_page(unit, status=status, recurring=_KINDS[kind], **page)
            items = [mandates.mandate_document(row) for row in found]
            return {"items": items, **({} if token is None else {"nextPageToken": token})}

        return await gate.read(request, "Mandates:Read", page_of)

    @get("/{mandate_id:str}", summary="Read a mandate")
    async def read(self, request: StrictRequest, mandate_id: str, gate: Gate) -> dict[str, Any]:
        """Return a mandate, and of each wallet it fills its balance and why nothing goes to it, or its next runs."""
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

    @get("/{mandate_id:str}/runs", summary="List the runs of a recurring payout")
    async def runs(self, request: StrictRequest, mandate_id: str, gate: Gate) -> dict[str, Any]:
        """Return what became of each date, newest first, why one was missed, and the next five to come."""
        page, status, now = page_arguments(request), query_text(request, "status"), gate.clock.now()
        return await gate.read(
            request,
            "Mandates:Read",
            lambda unit, _: recurring.runs(unit, mandate_id, status=status, now=now, **page),
        )

    @post("/{mandate_id:str}/archive", status_code=200, summary="Archive a mandate")
    async def archive(self, request: StrictRequest, mandate_id: str, gate: Gate) -> dict[str, Any]:
        """Take a mandate out of force: what waits under it is withdrawn, what was signed goes on."""
        await request.expect_empty()
        return await gate.write(request, "Mandates:Archive", lambda act: mandates.archive(act, mandate_id))
