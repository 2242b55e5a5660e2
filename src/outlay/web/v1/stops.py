"""What is stopped, and letting it go: an activity of its own, ``Outlay:Unfreeze``, that policies judge."""

from typing import Any

from litestar import Controller, get, put

from outlay.actions import lift
from outlay.web.body import StrictRequest
from outlay.web.dfns.identity import Body
from outlay.web.gate import Gate


class LiftFreeze(Body):
    """What the freeze stops, and what a person found."""

    scope: str
    subject: str
    reason: str


class UnfreezeNetwork(Body):
    """Which network, and what a person found."""

    network: str
    reason: str


class StopController(Controller):
    """``/v1/freezes`` and ``/v1/networks``."""

    path = "/v1"
    tags = ("Stops",)

    @get("/freezes", summary="List what is stopped")
    async def list_(self, request: StrictRequest, gate: Gate) -> dict[str, Any]:
        """Return the signer's freezes, and the wallets, assets and networks that are frozen, each with its reason."""
        return await gate.read(request, "Wallets:Read", lambda unit, _caller: lift.everything_stopped(unit))

    @put("/freezes/{freeze_id:str}/lift", summary="Lift a freeze of the signer")
    async def lift(self, request: StrictRequest, freeze_id: str, data: LiftFreeze, gate: Gate) -> dict[str, Any]:
        """Let the signer sign again what it was told to stop, after a person has looked."""
        return await gate.write(
            request,
            "Outlay:Unfreeze",
            lambda act: lift.lift(act, freeze_id, scope=data.scope, subject=data.subject, reason=data.reason),
        )

    @put("/networks/unfreeze", summary="Let a stopped network be used again")
    async def unfreeze_network(self, request: StrictRequest, data: UnfreezeNetwork, gate: Gate) -> dict[str, Any]:
        """Let a network be used again after a person has looked at why it was stopped."""
        return await gate.write(
            request,
            "Outlay:Unfreeze",
            lambda act: lift.unfreeze_network(act, network=data.network, reason=data.reason),
        )
