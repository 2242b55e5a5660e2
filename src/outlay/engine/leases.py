"""The leases of one process: which it has, how they stay its own, and writes that end when they no longer are."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import structlog

from outlay.core.errors import Unavailable
from outlay.core.seams import SECOND, Clock, Instant
from outlay.store import lanes, leases
from outlay.store.database import Batch, Database, Unit

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741

TTL_S = 6.0
"""How long a lease lasts: what a dead process did is done by another one soon after."""

RENEW_S = 2.0
"""Pause between renewals."""

HOUSEKEEPING = "housekeeping"
"""What one process at a time does: recover, expire, reconcile."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Held:
    fence: int
    until: float  #: of the event loop's clock: a process that was frozen sees that its lease is over


class Leases:
    """Takes what is wanted and free, renews what is held. ``step`` is to run every ``RENEW_S`` seconds."""

    def __init__(self, db: Database, clock: Clock, *, holder: str) -> None:
        """Keep the parts; ``holder`` names this process and no other."""
        self._db, self._clock, self.holder = db, clock, holder
        self._wanted: list[str] = []
        self._serving: list[set[str]] = []
        self._held: dict[str, _Held] = {}

    def want(self, name: str) -> None:
        """Take a lease as soon as it is free, and keep it."""
        if name not in self._wanted:
            self._wanted.append(name)

    def keep_lanes(self, serving: set[str]) -> None:
        """Renew the lanes of the wallets in this set, whoever changes it: a slow node must not cost a lease."""
        self._serving.append(serving)

    def drop(self, name: str) -> None:
        """Stop renewing a lease; it is this process's until it runs out."""
        if name in self._wanted:
            self._wanted.remove(name)

    def fence(self, name: str) -> int | None:
        """Return the fence of a lease, or None if this process does not have it, as far as it knows."""
        held = self._held.get(name)
        if held is None or held.until <= asyncio.get_running_loop().time():
            return None
        return held.fence

    def last_fence(self, name: str) -> int | None:
        """Return the fence of a lease as ``fence`` does, also when it may have run out: the database tells then."""
        held = self._held.get(name)
        return None if held is None else held.fence

    async def take(self, name: str) -> int | None:
        """Want a lease, and try to take it now; return its fence, or None while another process has it."""
        self.want(name)
        held = self._held.get(name)
        if held is None or held.until <= asyncio.get_running_loop().time() + TTL_S / 2:
            await self._renew([name])
        return self.fence(name)

    async def step(self) -> bool:
        """Take and renew what is wanted."""
        served = sorted(set().union(*self._serving))
        if self._wanted:
            await self._renew(list(self._wanted))
        if served:
            until: Instant = self._clock.now() + int(TTL_S * SECOND)
            await self._db.write(lambda unit: lanes.renew(unit, served, holder=self.holder, until=until))
        return False

    async def _renew(self, names: Sequence[str]) -> None:
        began = asyncio.get_running_loop().time()

        def run(unit: Unit) -> dict[str, int | None]:
            now = self._clock.now()
            until: Instant = now + int(TTL_S * SECOND)
            return leases.take(unit, names, holder=self.holder, now=now, until=until)

        for name, fence in (await self._db.write(run)).items():
            if fence is None:
                if self._held.pop(name, None) is not None:
                    log.warning("lease_lost", lease=name)
                continue
            if name not in self._held or self._held[name].fence != fence:
                log.info("lease_taken", lease=name, fence=fence)
            self._held[name] = _Held(fence, began + TTL_S)

    async def release(self) -> None:
        """Give everything back, so that others go on at once."""
        held, self._held, self._wanted = self._held, {}, []

        def run(unit: Unit) -> None:
            for name, each in sorted(held.items()):
                leases.release(unit, name, fence=each.fence)

        if held:
            await self._db.write(run)

    def alone(self, name: str, step: Callable[[], Awaitable[bool]]) -> Callable[[], Awaitable[bool]]:
        """Return a step that does nothing while this process does not have the lease."""

        async def run() -> bool:
            return self.fence(name) is not None and await step()

        return run


class Fenced(Database):
    """The database for what is done under a lease: no unit is kept once it is another process's."""

    def __init__(self, db: Database, held: Leases, name: str) -> None:
        """Write through ``db`` while ``held`` has the lease ``name``. The database stays its opener's to close."""
        self.where = db.where
        self._db, self._leases, self._name = db, held, name

    async def write(self, function: Callable[[Unit], T]) -> T:
        """Run a unit as ``Database.write`` does.

        Raises:
            Unavailable: the lease is another process's by now; nothing was kept.
        """
        fence = self._leases.last_fence(self._name)
        if fence is None:
            raise Unavailable(f"{self._name} was leased to another process")

        def run(unit: Unit) -> T:
            leases.hold(unit, self._name, fence=fence)
            return function(unit)

        return await self._db.write(run)

    async def write_item(self, batch: Batch[I, T], item: I) -> T:
        """Run a unit of its own for the item: what others wait for is under other leases, or none."""

        def run(unit: Unit) -> T:
            (answer,) = batch(unit, [item])
            if isinstance(answer, Exception):
                raise answer
            return answer

        return await self.write(run)

    async def read(self, function: Callable[[Unit], T]) -> T:
        """Read as ``Database.read`` does."""
        return await self._db.read(function)

    def close(self) -> None:
        """Nothing of its own is open."""
