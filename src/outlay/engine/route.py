"""The router: payouts that name a pool are given to the wallets that can pay them now."""

from collections.abc import Collection

import structlog

from outlay.actions.routing import NOBODY, Cursor, Round, peek, run_round
from outlay.actions.work import open_work
from outlay.config import Config
from outlay.core.pool import Route
from outlay.core.seams import SECOND, Clock, Entropy, Instant
from outlay.core.turns import Turns
from outlay.store import pools
from outlay.store.database import Database, Row, Unit

log = structlog.get_logger()

PAUSE: Instant = SECOND // 10
"""How long a pool is left alone after a round that moved nothing."""


class Routing:
    """Looks at every pool that has ready payouts. Any number of workers may do so at once."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        entropy: Entropy,
        config: Config,
        *,
        networks: Collection[str] | None = None,
    ) -> None:
        """Keep the parts; ``networks`` are those it serves (None: all)."""
        self._db, self._clock, self._entropy, self._config = db, clock, entropy, config
        self._networks = None if networks is None else frozenset(networks)
        self._cursors: dict[str, Cursor] = {}
        self._turns: dict[str, Turns] = {}
        self._rest_until: dict[str, Instant] = {}

    async def step(self) -> bool:
        """Run a round for every pool that has something to move; tell whether anything moved."""
        moved = False
        for pool in await self._db.read(self._due):
            moved = await self._round(pool) or moved
        return moved

    def _due(self, unit: Unit) -> list[Row]:
        now = self._clock.now()
        due = []
        for row in pools.with_work(unit):
            is_mine = self._networks is None or row.network in self._networks
            if not is_mine or self._rest_until.get(row.id, 0) > now:
                continue
            cursor = self._cursors.get(row.id, Cursor())
            has_moves, after = peek(unit, self._config, row, cursor, self._turns_of(row), now=now)
            if has_moves:
                due.append(row)
            else:
                self._cursors[row.id] = after
                self._rest_until[row.id] = now + PAUSE
        return due

    def _turns_of(self, pool: Row) -> Turns:
        return self._turns.setdefault(pool.id, Turns())

    async def _round(self, pool: Row) -> bool:
        cursor = self._cursors.get(pool.id, Cursor())

        turns = self._turns_of(pool)

        def run(unit: Unit) -> Round:
            work = open_work(unit, now=self._clock.now(), entropy=self._entropy, config=self._config)
            return run_round(work, pool, cursor, turns)

        done = await self._db.write(run)
        self._cursors[pool.id] = done.after
        for row in done.took:
            turns.took(row)
        if not done.moves:
            self._rest_until[pool.id] = self._clock.now() + PAUSE
        parked = [each.id for each in done.moves if each.route is Route.PARKED]
        if parked:
            log.warning("pool_cannot_pay", pool=pool.id, payouts=len(parked), first=parked[0], reason=NOBODY)
        return bool(done.moves)
