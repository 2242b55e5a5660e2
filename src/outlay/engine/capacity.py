"""Payouts that wait for room under their caps go on as room comes free, or end when their time is over."""

from outlay.actions.capacity import admit_waiting, end_overdue
from outlay.actions.work import open_work
from outlay.config import Config
from outlay.core.seams import Clock, Entropy
from outlay.store import waiting
from outlay.store.database import Database, Unit

BATCH = 100


class Capacity:
    """Looks after the queues of full counters."""

    def __init__(self, db: Database, clock: Clock, entropy: Entropy, config: Config) -> None:
        """Keep the parts."""
        self._db, self._clock, self._entropy, self._config = db, clock, entropy, config
        self._after = 0

    async def step(self) -> bool:
        """Judge again what waits; tell whether anything went on or ended."""
        if not await self._db.read(waiting.any_waits):
            return False
        return await self._db.write(self._run)

    def _run(self, unit: Unit) -> bool:
        work = open_work(unit, now=self._clock.now(), entropy=self._entropy, config=self._config)
        ended = end_overdue(work, limit=BATCH)
        went_on, self._after = admit_waiting(work, after=self._after)
        return bool(ended or went_on)
