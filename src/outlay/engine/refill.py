"""Keeping wallets filled: what is low is told of, refilled under its mandate, or proposed to somebody else."""

from collections.abc import Callable

import structlog

from outlay.actions import refill
from outlay.actions.organization import is_applied
from outlay.actions.work import open_work
from outlay.config import Config
from outlay.core.asset import Asset
from outlay.core.price import Quote
from outlay.core.seams import SECOND, Clock, Entropy, Instant
from outlay.store.database import Database, Unit

log = structlog.get_logger()

LOOK_EVERY: Instant = SECOND
"""Pause between looks at every wallet under a mandate."""

PriceOf = Callable[[Asset, Instant], Quote | None]


class Refill:
    """Looks at every wallet under a mandate."""

    def __init__(self, db: Database, clock: Clock, entropy: Entropy, config: Config, price_of: PriceOf) -> None:
        """Keep the parts; ``price_of`` tells what an asset is worth."""
        self._db, self._clock, self._entropy, self._config = db, clock, entropy, config
        self._price_of = price_of
        self._looked_at: Instant | None = None

    async def step(self) -> bool:
        """Do what is due; tell whether anything was. What is decided and what is done are one unit."""
        now = self._clock.now()
        if self._looked_at is not None and 0 <= now - self._looked_at < LOOK_EVERY:
            return False
        self._looked_at = now
        predicted = await self._db.read(lambda unit: self._look(unit, now))
        if predicted is None:
            return False

        def run(unit: Unit) -> int:
            work = open_work(unit, now=self._clock.now(), entropy=self._entropy, config=self._config)
            return refill.fill(work, lambda asset: self._price_of(asset, work.now), predicted)

        done = await self._db.write(run)
        if done:
            log.info("refilled", count=done)
        return True

    def _look(self, unit: Unit, now: Instant) -> refill.Flow | None:
        """Return what left lately if there is anything to do, else None."""
        if not is_applied(unit, self._config):
            return None
        seen = refill.survey(unit, self._config, now=now)
        return refill.flow(unit, now=now) if refill.is_due(unit, seen) else None
