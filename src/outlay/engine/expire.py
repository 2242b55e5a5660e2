"""Deadlines: approvals nobody answered, changes whose wait is over, payouts that waited too long, old nonces."""

from outlay.actions import changes
from outlay.actions.carry import carry_out
from outlay.actions.change import change, resolve_approval
from outlay.actions.work import open_work
from outlay.config import Config
from outlay.core.seams import HOUR, SECOND, Clock, Entropy, Instant
from outlay.core.transfer import Event, State
from outlay.store import approvals, evidence, transfers
from outlay.store import changes as change_rows
from outlay.store.database import Database, Unit

BATCH = 100


class Expire:
    """Ends what its time has run out for."""

    def __init__(self, db: Database, clock: Clock, entropy: Entropy, config: Config) -> None:
        """Keep the parts."""
        self._db, self._clock, self._entropy, self._config = db, clock, entropy, config
        self._swept_at: Instant = 0

    async def step(self) -> bool:
        """End what is due; tell whether anything was."""
        now = self._clock.now()
        if not await self._db.read(lambda unit: self._is_due(unit, now)):
            return False
        return await self._db.write(self._run)

    def _is_due(self, unit: Unit, now: Instant) -> bool:
        return bool(
            approvals.expired(unit, now=now, limit=1)
            or change_rows.due(unit, now=now, limit=1)
            or transfers.ready_before(unit, self._ready_limit(now), limit=1)
            or now - self._swept_at >= HOUR
        )

    def _ready_limit(self, now: Instant) -> Instant:
        return now - self._config.sending.ready_timeout_s * SECOND

    def _run(self, unit: Unit) -> bool:
        now = self._clock.now()
        work = open_work(unit, now=now, entropy=self._entropy, config=self._config)
        done = False
        for approval in approvals.expired(unit, now=now, limit=BATCH):
            done = True
            if approval.change_id is not None:
                changes.expire(work, approval)
                continue
            resolve_approval(work, approval, "Expired")
            row = transfers.get(unit, approval.transfer_id)
            if State(row.state) is State.HELD:
                reason = "Nobody decided in time."
                change(work, row, Event.TIMED_OUT, reason=reason, resolved_at=now)
        for waiting in change_rows.due(unit, now=now, limit=BATCH):
            done = carry_out(work, waiting) or done
        for row in transfers.ready_before(unit, self._ready_limit(now), limit=BATCH):
            waited = f" It waited because {row.waiting_reason}." if row.waiting_reason else ""
            change(work, row, Event.TIMED_OUT, reason=f"It could not be sent in time; nothing was signed.{waited}")
            done = True
        if now - self._swept_at >= HOUR:
            evidence.forget_spent(unit, now=now)
            self._swept_at = now
        return done
