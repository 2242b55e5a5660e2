"""Why a payout stands where it stands; and a person's word about one that had another effect than was asked for."""

from typing import Any

from litestar import Controller, get, post

from outlay.actions.explain import explain
from outlay.actions.resolve import resolve
from outlay.web.body import StrictRequest
from outlay.web.dfns.identity import Body
from outlay.web.gate import Gate


class ResolvePayout(Body):
    """What a person calls a payout, and what was found."""

    outcome: str
    reason: str


class ExplanationController(Controller):
    """``/v1/payouts/{payoutId}``, beside what is asked for and read there."""

    path = "/v1/payouts/{payout_id:str}"
    tags = ("Payouts",)

    @get("/explanation", summary="Explain a payout")
    async def explain(self, request: StrictRequest, payout_id: str, gate: Gate) -> dict[str, Any]:
        """Return every policy that was considered and what it saw, the verdict, who decided, and what was sent.

        Who may not read policies and their evaluations is told verdicts and kinds only, and the payout with its
        ``reason``, as ``GET /v1/payouts/{payoutId}`` tells it: with that, the limit that stopped this payout. Limits of
        other policies, sums, tags, groups and decisions stay hidden.
        """
        return await gate.read(
            request,
            "Wallets:Transfers:Read",
            lambda unit, caller: explain(unit, payout_id, gate.config, caller.operations),
        )

    @post("/resolve", status_code=200, summary="Resolve a payout")
    async def resolve(self, request: StrictRequest, payout_id: str, data: ResolvePayout, gate: Gate) -> dict[str, Any]:
        """End a payout that is final with another effect than was asked for, as paid or failed; nothing leaves."""
        return await gate.write(
            request,
            "Wallets:Unfreeze",
            lambda act: resolve(act, payout_id, outcome=data.outcome, reason=data.reason),
        )
