"""Whether a process does what it is there for: live while it turns, ready while it could carry out what it is asked.

Strangers are told yes or no; which part fails is in the log (``not_ready``) and in ``outlay_ready``.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import structlog

from outlay.actions.organization import money_digest
from outlay.config import Config
from outlay.core.errors import OutlayError, Unavailable
from outlay.core.seams import SECOND, Clock
from outlay.engine.loop import Loops
from outlay.signer import Scope, SignerStatus
from outlay.signer.client import SignerClient
from outlay.store import audit, organizations, stops
from outlay.store.database import Database, Unit
from outlay.store.migrate import require_fitting

log = structlog.get_logger()

CHECKS: Final = ("open", "loops", "database", "schema", "signer", "records", "settings", "audit", "stops")
"""What has to be so, in the order in which it is told."""

FRESH_S: Final = 2.0
"""How long what was found is answered again: whoever asks often costs nothing."""

DATABASE_MAX_S: Final = 3.0
SIGNER_MAX_S: Final = 5.0
SCHEMA_EVERY_S: Final = 5.0
RECORDS_MAX_S: Final = 30
"""How long the signer may lack the newest record: it is handed over within a second where all is well."""


class Health:
    """Looks at one process. Its methods are to be called on the event loop."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        config: Config,
        signer: SignerClient,
        loops: Loops,
        is_open: Callable[[], bool],
    ) -> None:
        """Keep the parts; ``signer`` is a connection of its own, which no batch holds up."""
        self._db, self._clock, self._signer, self._loops, self._is_open = db, clock, signer, loops, is_open
        self._settings = money_digest(config)
        self._found: Mapping[str, bool] = dict.fromkeys(CHECKS, False)
        self._found_at = float("-inf")
        self._looking: asyncio.Task[Mapping[str, bool]] | None = None
        self._writing: asyncio.Task[Any] | None = None
        self._fits, self._fits_at = False, float("-inf")
        self._told: frozenset[str] | None = None

    def is_live(self) -> bool:
        """Tell whether this process turns: its loops come to their ends, and writes are looked at."""
        return self._db.is_alive and not self._loops.stuck()

    async def is_ready(self) -> bool:
        """Tell whether all is as it has to be."""
        return all((await self.look()).values())

    async def look(self) -> Mapping[str, bool]:
        """Return each of ``CHECKS`` and whether it is so; what was found a moment ago counts."""
        loop = asyncio.get_running_loop()
        if loop.time() - self._found_at < FRESH_S:
            return self._found
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(), name="health")
        return await asyncio.shield(self._looking)

    async def close(self) -> None:
        """Stop looking."""
        tasks = [task for task in (self._looking, self._writing) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._signer.close()

    async def _look(self) -> Mapping[str, bool]:
        database, schema, (signer, status), (settings, is_whole, frozen, records) = await asyncio.gather(
            self._can_write(), self._does_fit(), self._ask_signer(), self._read()
        )
        found = {
            "open": self._is_open(),
            "loops": self.is_live(),
            "database": database,
            "schema": schema,
            "signer": signer,
            "records": status is not None and records is not None and self._is_up_to_date(status, records),
            "settings": settings == self._settings,
            "audit": is_whole,
            "stops": not frozen and not any(each.scope is Scope.ALL for each in (status.freezes if status else ())),
        }
        self._found, self._found_at = found, asyncio.get_running_loop().time()
        self._tell(frozenset(name for name, is_so in found.items() if not is_so))
        return found

    def _tell(self, failing: frozenset[str]) -> None:
        if failing != self._told:
            if failing:
                log.warning("not_ready", failing=sorted(failing))
            elif self._told is not None:
                log.info("ready")
            self._told = failing

    async def _can_write(self) -> bool:
        """Tell whether a unit is kept in time. One that hangs is waited for: no further ones queue behind it."""
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._db.write(lambda _unit: True), name="health write")
        return await _in_time(asyncio.shield(self._writing), DATABASE_MAX_S) is not None

    async def _does_fit(self) -> bool:
        now = asyncio.get_running_loop().time()
        if now - self._fits_at >= SCHEMA_EVERY_S or not self._fits:
            fits = await _in_time(asyncio.to_thread(_fits, self._db.where), DATABASE_MAX_S)
            self._fits, self._fits_at = bool(fits), now
        return self._fits

    async def _ask_signer(self) -> tuple[bool, SignerStatus | None]:
        status = await _in_time(self._signer.status(), SIGNER_MAX_S)
        return (False, None) if status is None else (status.seeded, status)

    async def _read(self) -> tuple[str | None, bool, bool, tuple[int, str, int] | None]:
        """Return the digest of the signed settings, whether the audit log is whole and whether all is stopped.

        And number, hash and instant of the newest record.
        """

        def run(unit: Unit) -> tuple[str, bool, bool, tuple[int, str, int]]:
            org = organizations.get(unit)
            is_whole = audit.why_broken(unit) is None
            frozen = any(row.scope == Scope.ALL for row in stops.everything(unit))
            newest = (org.head_seq, org.head, organizations.latest_record_at(unit))
            return org.money_settings, is_whole, frozen, newest

        return await _in_time(self._db.read(run), DATABASE_MAX_S) or (None, False, True, None)

    def _is_up_to_date(self, status: SignerStatus, newest: tuple[int, str, int]) -> bool:
        number, head, at = newest
        if status.record_seq >= number:
            return (status.record_seq, status.record_head) == (number, head)
        return self._clock.now() - at < RECORDS_MAX_S * SECOND


async def _in_time(asking: Awaitable[Any], within_s: float) -> Any:
    """Return what is answered; None: nothing in time, or that it fails."""
    try:
        async with asyncio.timeout(within_s):
            return await asking
    except (TimeoutError, OutlayError):
        return None


def _fits(where: Any) -> bool:
    try:
        require_fitting(where)
    except Unavailable:
        return False
    return True
