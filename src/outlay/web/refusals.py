"""Logins that failed, written into the audit log; never so many that somebody could flood it."""

from outlay.core.audit import NOBODY, SESSION_REFUSED, Entry
from outlay.core.seams import MINUTE, Clock
from outlay.store import audit
from outlay.store.database import Database

PER_MINUTE = 10
"""Entries that one process writes in a minute; each says how many logins failed since the one before it."""


class FailedLogins:
    """Counts failed logins and writes them down."""

    def __init__(self, db: Database, clock: Clock) -> None:
        """Keep the parts."""
        self._db, self._clock = db, clock
        self._minute, self._left, self._unsaid = -1, PER_MINUTE, 0

    async def note(self, who: str) -> None:
        """Note that somebody could not log in as ``who``, the id of a user."""
        now = self._clock.now()
        if now // MINUTE != self._minute:
            self._minute, self._left = now // MINUTE, PER_MINUTE
        self._unsaid += 1
        if self._left == 0:
            return
        self._left -= 1
        count, self._unsaid = self._unsaid, 0
        entry = Entry(NOBODY, SESSION_REFUSED, who, after={"count": count})
        await self._db.write(lambda unit: audit.add(unit, entry, now=now))
