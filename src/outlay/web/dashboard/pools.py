"""Pools: what waits in each, and how its wallets stand."""

from typing import Any

from litestar import Controller, Response, get

from outlay.actions import pools as actions
from outlay.actions.act import Caller
from outlay.store import pools, wallets
from outlay.store.database import Unit
from outlay.web.body import StrictRequest
from outlay.web.dashboard.desk import ROOT, Desk
from outlay.web.gate import page_arguments

READ = "Pools:Read"


class PoolPages(Controller):
    """``/dashboard/pools``."""

    path = f"{ROOT}/pools"

    @get()
    async def list_(self, request: StrictRequest, desk: Desk) -> Response[str]:
        """List pools with what waits in them."""
        now, config = desk.gate.clock.now(), desk.gate.config

        def load(unit: Unit, _caller: Caller) -> dict[str, Any]:
            page = page_arguments(request)
            rows, token = pools.list_page(unit, limit=page["limit"] or 20, token=page["token"])
            return {
                "pools": [actions.health(unit, config, row.id, now=now) for row in rows],
                "token": token,
                "networks": sorted(config.networks),
            }

        return await desk.page(request, "pools.html", READ, load, title="Pools")

    @get("/{pool_id:str}")
    async def read(self, request: StrictRequest, desk: Desk, pool_id: str) -> Response[str]:
        """Show one pool: its queue, and each wallet's health."""
        now, config = desk.gate.clock.now(), desk.gate.config

        def load(unit: Unit, caller: Caller) -> dict[str, Any]:
            pool = actions.health(unit, config, pool_id, now=now)
            names = [each["walletId"] for each in pool["wallets"]]
            rows = wallets.find_many(unit, names) if "Wallets:Read" in caller.operations else []
            return {
                "pool": pool,
                "rows": {row.id: row for row in rows},
                "assets": {asset.key: asset for asset in config.assets_of(pool["network"])},
            }

        return await desk.page(request, "pool.html", READ, load, title="Pool")
