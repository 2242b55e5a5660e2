"""Files of payouts that are here whole: their rows become payouts, in groups, so that nobody else waits for long."""

from collections.abc import Awaitable, Callable

import structlog

from outlay.actions import submissions as actions
from outlay.actions.admit_rows import admit_rows
from outlay.actions.decide_whole import carry_out
from outlay.actions.work import open_work
from outlay.config import Config
from outlay.core.asset import Asset
from outlay.core.errors import Unavailable
from outlay.core.faultpoint import fault
from outlay.core.price import Quote
from outlay.core.seams import MINUTE, Clock, Entropy, Instant
from outlay.evidence.merkle import Tree
from outlay.store import submissions
from outlay.store.database import Database, Row, Unit

GROUP = 200
"""Rows that are admitted in one unit."""

SETTLED = 50
"""Payouts that a decision about a whole file is carried out for in one unit."""

DROPPED = 5_000
"""Rows of a refused or canceled file that are deleted in one unit."""

LOOK_EVERY: Instant = MINUTE
"""Pause between looks for files that were left in the middle."""

PriceOf = Callable[[Asset, Instant], Quote | None]


log = structlog.get_logger()


class AdmitBatches:
    """Admits rows of every file in turn, a group each; carries out decisions; drops what was left in the middle."""

    def __init__(self, db: Database, clock: Clock, entropy: Entropy, config: Config, price_of: PriceOf) -> None:
        """Keep the parts; ``price_of`` tells what an asset is worth."""
        self._db, self._clock, self._entropy, self._config = db, clock, entropy, config
        self._price_of = price_of
        self._trees: dict[str, Tree] = {}
        self._looked_at: Instant | None = None

    async def step(self) -> bool:
        """Do the next part of everything; tell whether anything was done."""
        waiting, decided = await self._db.read(lambda unit: (submissions.admitting(unit), submissions.unsettled(unit)))
        self._trees = {name: tree for name, tree in self._trees.items() if name in waiting}
        done = False
        for batch_id in waiting:
            done = await _guarded(batch_id, self._admit(batch_id)) or done
        for made in decided:
            done = await _guarded(made.submission_id, self._settle(made)) or done
        return await self._clear() or done

    async def _admit(self, batch_id: str) -> bool:
        tree = self._trees.get(batch_id)
        if tree is None:
            twice = await self._db.read(lambda unit: submissions.find_twice(unit, batch_id))
            if twice is not None:
                now = self._clock.now()
                await self._db.write(lambda unit: actions.refuse_twice(unit, batch_id, twice, now=now))
                return True
            tree = self._trees[batch_id] = Tree(await self._db.read(lambda unit: submissions.leaves(unit, batch_id)))

        def run(unit: Unit) -> int:
            work = open_work(unit, now=self._clock.now(), entropy=self._entropy, config=self._config)
            known: dict[tuple[str, str], Quote | None] = {}

            def quote_of(asset: Asset) -> Quote | None:
                place = (asset.network, asset.key)
                if place not in known:
                    known[place] = self._price_of(asset, work.now)
                return known[place]

            return admit_rows(work, batch_id, tree, limit=GROUP, quote_of=quote_of)

        admitted = await self._db.write(run)
        fault("batch.after_commit")
        return admitted > 0

    async def _settle(self, made: Row) -> bool:
        def run(unit: Unit) -> int:
            work = open_work(unit, now=self._clock.now(), entropy=self._entropy, config=self._config)
            # What was read before may have been carried out by another process since.
            now = next((each for each in submissions.unsettled(unit, made.submission_id) if each.id == made.id), None)
            return 0 if now is None else carry_out(work, now, limit=SETTLED)

        return await self._db.write(run) > 0

    async def _clear(self) -> bool:
        """Refuse files whose rows do not come any more, and drop rows that nobody will look at any more."""
        now = self._clock.now()
        if self._looked_at is not None and 0 <= now - self._looked_at < LOOK_EVERY:
            return False
        late, dropped = await self._db.read(
            lambda unit: (submissions.abandoned(unit, before=now - actions.ABANDONED), submissions.dropped(unit))
        )
        if not late and not dropped:
            self._looked_at = now
            return False

        def run(unit: Unit) -> None:
            for row in submissions.abandoned(unit, before=now - actions.ABANDONED):
                actions.give_up(unit, row.id, now=now)
            for row in submissions.dropped(unit):
                if not submissions.drop_rows(unit, row.id, first=row.admitted, limit=DROPPED):
                    submissions.update(unit, row.id, is_kept=False)

        await self._db.write(run)
        return True


async def _guarded(batch_id: str, doing: Awaitable[bool]) -> bool:
    """Await the next part of one file: what is wrong with it must not stop the others, and is tried again."""
    try:
        return await doing
    except Unavailable:
        raise
    except Exception as error:
        log.error("batch_step_failed", batch=batch_id, exc_info=error)
        return False
