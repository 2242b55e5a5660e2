"""Mandates of recurring payouts for tests: their documents, and what an organization in the test does with them."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from outlay.actions import mandates, recurring
from outlay.core.calendar import local_time
from outlay.core.seams import DAY, Instant
from outlay.engine.recurring import tell_unknown_zone
from outlay.prices.checked import CheckedPrices
from outlay.store import transfers
from outlay.store import wallets as wallet_rows
from outlay.store.database import Row
from tests.actions.world import DOLLAR, NETWORK, USDC, World

LANDLORD = "0x" + "1a" * 20
ZONE = "Europe/Berlin"


def document(wallet_id: str | None = None, **changes: Any) -> dict[str, Any]:
    """Return a mandate's document: 7 dollars each day at nine in Berlin; a member that is None is left out."""
    given = {
        "name": "rent",
        "kind": "Recurring",
        "network": NETWORK,
        "asset": USDC,
        "amount": str(7 * DOLLAR),
        "recipient": LANDLORD,
        "walletId": wallet_id,
        "calendar": {"every": "day", "at": "09:00"},
        "timeZone": ZONE,
        "from": "2027-01-01",
        "missed": {"catchUpMinutes": 120},
        **changes,
    }
    return {name: each for name, each in given.items() if each is not None}


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


def follow(world: World) -> int:
    """Do what the engine's step does until nothing is due, and return how many dates were settled or tried."""
    prices, done = CheckedPrices(world.prices, {}, began=0), 0
    while True:
        with world.unit() as unit:
            if not recurring.is_due(unit, world.config, now=world.clock.now(), is_thorough=True):
                return done
        with world.work() as work:
            done += recurring.run_due(work, lambda asset: prices.find(asset, work.now), tell_unknown_zone)


def go_to(world: World, at: Instant) -> None:
    """Move the clock to an instant; everybody logs in again."""
    world.clock.step(micros=at - world.clock.now())
    with world.unit() as unit:
        unit.execute(sa.text("UPDATE token SET expires_at = :at"), {"at": at + DAY})


def at(world: World, text: str, zone: str = ZONE) -> None:
    """Move the clock to ``YYYY-MM-DD HH:MM`` of a zone's clocks."""
    go_to(world, instant(text, zone))


def instant(text: str, zone: str = ZONE) -> Instant:
    """Return the instant of ``YYYY-MM-DD HH:MM`` of a zone's clocks."""
    moment = datetime.fromisoformat(text).replace(tzinfo=recurring.zone_named(zone))
    return int(moment.timestamp()) * 10**6


def shown(world: World, mandate_id: str, **choice: Any) -> dict[str, Any]:
    """Return what the API answers about a mandate's runs."""
    page = {"status": None, "limit": 500, "token": None, **choice}
    with world.unit() as unit:
        return recurring.runs(unit, mandate_id, now=world.clock.now(), **page)


def runs(world: World, mandate_id: str) -> list[tuple[str, str, str | None]]:
    """Return date, status and state of the payout of each run, oldest first."""
    items = reversed(shown(world, mandate_id)["items"])
    return [(each["date"], each["status"], each.get("payoutState")) for each in items]


def payouts(world: World, mandate_id: str) -> list[Row]:
    """Return the payouts of a mandate in the order of their dates."""
    text = sa.text("SELECT id FROM transfer WHERE mandate_id = :id ORDER BY external_id")
    with world.unit() as unit:
        found = unit.execute(text, {"id": mandate_id}).scalars().all()
        return [transfers.get(unit, each) for each in found]


def local_date(world: World, zone: str = ZONE) -> str:
    """Return today's date of a zone."""
    return local_time(world.clock.now(), recurring.zone_named(zone)).date().isoformat()


def address(world: World, wallet_id: str) -> str:
    """Return a wallet's address."""
    with world.unit() as unit:
        found = wallet_rows.find(unit, wallet_id)
    assert found is not None
    return str(found.address)
