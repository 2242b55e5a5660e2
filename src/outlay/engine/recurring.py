"""Recurring payouts: what is due by the calendar of a mandate is asked for, or told of as missed."""

from collections.abc import Callable

import structlog

from outlay.actions import recurring
from outlay.actions.work import open_work
from outlay.config import Config
from outlay.core.asset import Asset
from outlay.core.price import Quote
from outlay.core.recurring import Recurring as Mandate
from outlay.core.seams import MINUTE, SECOND, Clock, Entropy, Instant
from outlay.store.database import Database, Unit

log = structlog.get_logger()

LOOK_EVERY: Instant = SECOND
"""Pause between looks at what is due."""

THOROUGH_EVERY: Instant = MINUTE
"""Pause between looks at payouts that wait for too long."""

PriceOf = Callable[[Asset, Instant], Quote | None]


def tell_unknown_zone(mandate: Mandate) -> None:
    """Log that a mandate waits because this machine does not know its time zone."""
    log.error("time_zone_unknown", mandate_id=mandate.id, zone=mandate.zone)


class Recurring:
    """Follows the calendars of all mandates of recurring payouts."""

    def __init__(self, db: Database, clock: Clock, entropy: Entropy, config: Config, price_of: PriceOf) -> None:
        """Keep the parts; ``price_of`` tells what an asset is worth."""
        self._db, self._clock, self._entropy, self._config = db, clock, entropy, config
        self._price_of = price_of
        self._looked_at: Instant | None = None
        self._thorough_at: Instant | None = None

    async def step(self) -> bool:
        """Do what is due; tell whether anything was. What is decided and what is done are one unit."""
        now = self._clock.now()
        if self._looked_at is not None and 0 <= now - self._looked_at < LOOK_EVERY:
            return False
        is_thorough = self._thorough_at is None or not 0 <= now - self._thorough_at < THOROUGH_EVERY

        def look(unit: Unit) -> bool:
            return recurring.is_due(unit, self._config, now=now, is_thorough=is_thorough)

        if not await self._db.read(look):
            # Only what was looked at to its end rests: with many runs due, the next look follows at once.
            self._looked_at, self._thorough_at = now, now if is_thorough else self._thorough_at
            return False

        def run(unit: Unit) -> int:
            work = open_work(unit, now=self._clock.now(), entropy=self._entropy, config=self._config)
            return recurring.run_due(work, lambda asset: self._price_of(asset, work.now), tell_unknown_zone)

        done = await self._db.write(run)
        if done:
            log.info("recurring_followed", count=done)
        return True
