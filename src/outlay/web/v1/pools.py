"""Pools of hot wallets, and draining a wallet."""

from typing import Any

from litestar import Controller, get, post

from outlay.actions import pools
from outlay.store import pools as rows
from outlay.web.body import StrictRequest
from outlay.web.dfns.identity import Body
from outlay.web.gate import Gate, page_arguments


class CreatePool(Body):
    """Which wallets a pool is: those of a network that carry a tag."""

    name: str
    network: str
    tag: str


class DrainWallet(Body):
    """Why a wallet gets no new work."""

    reason: str


class PoolController(Controller):
    """``/v1/pools``."""

    path = "/v1"
    tags = ("Pools",)

    @post("/pools", status_code=200, summary="Create a pool")
    async def create(self, request: StrictRequest, data: CreatePool, gate: Gate) -> dict[str, Any]:
        """Make one payer of all wallets of a network that carry a tag: payouts may name it instead of a wallet."""
        return await gate.write(
            request,
            "Pools:Create",
            lambda act: pools.create(act, name=data.name, network=data.network, tag=data.tag),
        )

    @get("/pools", summary="List pools")
    async def list_(self, request: StrictRequest, gate: Gate) -> dict[str, Any]:
        """Return pools, newest first, archived ones included."""
        page = page_arguments(request)

        def page_of(unit: Any, _caller: Any) -> dict[str, Any]:
            found, token = rows.list_page(unit, **page)
            return {
                "items": [pools.document(row) for row in found],
                **({} if token is None else {"nextPageToken": token}),
            }

        return await gate.read(request, "Pools:Read", page_of)

    @get("/pools/{pool_id:str}", summary="Read a pool and how it stands")
    async def read(self, request: StrictRequest, pool_id: str, gate: Gate) -> dict[str, Any]:
        """Return a pool, what waits in its queue, and of each wallet what it can take and why it gets nothing."""
        now = gate.clock.now()
        return await gate.read(request, "Pools:Read", lambda unit, _: pools.health(unit, gate.config, pool_id, now=now))

    @post("/pools/{pool_id:str}/archive", status_code=200, summary="Archive a pool")
    async def archive(self, request: StrictRequest, pool_id: str, gate: Gate) -> dict[str, Any]:
        """Let a pool take nothing new; what it was asked to pay is paid."""
        await request.expect_empty()
        return await gate.write(request, "Pools:Archive", lambda act: pools.archive(act, pool_id))

    @post("/wallets/{wallet_id:str}/drain", status_code=200, summary="Give a wallet no new work")
    async def drain(self, request: StrictRequest, wallet_id: str, data: DrainWallet, gate: Gate) -> dict[str, Any]:
        """Give a wallet no new work; what is bound to a nonce goes on, and what names a pool goes to other wallets."""
        return await gate.write(request, "Wallets:Drain", lambda act: pools.drain(act, wallet_id, reason=data.reason))

    @post("/wallets/{wallet_id:str}/resume", status_code=200, summary="Give a drained wallet work again")
    async def resume(self, request: StrictRequest, wallet_id: str, gate: Gate) -> dict[str, Any]:
        """Give a drained wallet work again."""
        await request.expect_empty()
        return await gate.write(request, "Wallets:Drain", lambda act: pools.resume(act, wallet_id))
