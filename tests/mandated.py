"""Mandates for tests: their documents, and what an organization in the test does with them."""

from typing import Any

import sqlalchemy as sa

from outlay.actions import mandates, refill
from outlay.prices.checked import CheckedPrices
from outlay.store import transfers, wallets
from outlay.store.database import Row
from tests.actions.world import DOLLAR, NETWORK, USDC, World

REFILLS = "Wallets:Refill"


def document(**changes: Any) -> dict[str, Any]:
    """Return a mandate's document: dollars, 100 to 500 to 1000; who is to be said."""
    given = {
        "name": "dollars",
        "kind": "Refill",
        "network": NETWORK,
        "asset": USDC,
        "min": str(100 * DOLLAR),
        "target": str(500 * DOLLAR),
        "max": str(1000 * DOLLAR),
        "perRefillMax": str(1000 * DOLLAR),
        "window": window(5000, 10),
        **changes,
    }
    return {name: each for name, each in given.items() if each is not None}


def window(dollars: int, count: int, *, minutes: int = 60) -> dict[str, Any]:
    """Return a mandate's window."""
    return {"amount": str(dollars * DOLLAR), "count": count, "minutes": minutes}


def gas(fee_cap: int, **changes: Any) -> dict[str, Any]:
    """Return a mandate's document: coins for five payouts where fewer than two can be paid for."""
    levels = {"unit": "payouts", "min": "2", "target": "5", "max": "10", "perRefillMax": str(20 * fee_cap)}
    spent = {"amount": str(10**6 * fee_cap), "count": 100, "minutes": 60}
    return document(**{"name": "gas", "kind": "GasTopUp", "asset": None, "window": spent, **levels, **changes})


def between(treasury: str, *hot: str) -> dict[str, Any]:
    """Return who fills whom."""
    return {"treasury": {"walletId": treasury}, "wallets": {"walletIds": list(hot)}}


def create(world: World, given: dict[str, Any]) -> str:
    """Create a mandate and return its id."""
    made = world.call(
        world.admin, "POST", "/v1/mandates", given, "Mandates:Create", lambda act: mandates.create(act, given)
    )
    return str(made["id"])


def archive(world: World, mandate_id: str) -> None:
    """Archive a mandate."""
    path = f"/v1/mandates/{mandate_id}/archive"
    world.call(world.admin, "POST", path, {}, "Mandates:Archive", lambda act: mandates.archive(act, mandate_id))


def balances(world: World, mandate_id: str) -> list[dict[str, Any]]:
    """Return how the API shows the wallets of a mandate."""
    with world.unit() as unit:
        shown = mandates.standing(unit, world.config, mandate_id, now=world.clock.now())
    return list(shown["balances"])


def fill(world: World) -> int:
    """Do what the engine's step does, and return how many refills and proposals that was."""
    prices = CheckedPrices(world.prices, {}, began=0)
    with world.work() as work:
        flow = refill.flow(work.unit, now=work.now)
        return refill.fill(work, lambda asset: prices.find(asset, work.now), flow)


def freeze(world: World, *wallet_ids: str) -> None:
    """Stop wallets as the engine does; without any, let all go again."""
    text = "UPDATE wallet SET frozen_reason = NULL"
    with world.unit() as unit:
        unit.execute(sa.text(text))
        for each in wallet_ids:
            unit.execute(sa.text(text.replace("NULL", "'looked odd'") + " WHERE id = :id"), {"id": each})


def address(world: World, wallet_id: str) -> str:
    """Return a wallet's address."""
    with world.unit() as unit:
        found = wallets.find(unit, wallet_id)
    assert found is not None
    return str(found.address)


def refills(world: World, mandate_id: str) -> list[Row]:
    """Return the refills of a mandate in the order of their numbers."""
    text = sa.text("SELECT id FROM transfer WHERE mandate_id = :id ORDER BY length(external_id), external_id")
    with world.unit() as unit:
        found = unit.execute(text, {"id": mandate_id}).scalars().all()
        return [transfers.get(unit, each) for each in found]
