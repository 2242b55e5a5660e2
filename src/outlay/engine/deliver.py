"""Tell endpoints what happened, until each has said 200 or the schedule is exhausted.

Every endpoint has a queue and a few attempts in flight of its own, so one that is dead or slow delays no other; one
that takes nothing gets one attempt at a time, with pauses, so that it costs little either. Outcomes are recorded after
they came, many in one unit: a crash in between makes the attempts again, with the same ``webhook-id``.
"""

import asyncio
import contextlib
import functools
import zlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from outlay.core.errors import Unavailable
from outlay.core.event import PING_KIND, RETRY_SCHEDULE_S, encode, encode_stored, envelope
from outlay.core.faultpoint import fault
from outlay.core.ids import DELIVERY, EVENT, new_id
from outlay.core.seams import SECOND, Clock, Entropy, Instant
from outlay.engine.egress import Answer, Egress
from outlay.engine.leases import Leases
from outlay.engine.webhook_signature import headers
from outlay.store import deliveries, leases, tally, webhooks
from outlay.store.database import Database, Unit
from outlay.store.deliveries import Due, Failure
from outlay.store.webhooks import Webhook

IN_FLIGHT = 8
"""Attempts to one endpoint at the same time, once it takes them."""
READ_LEAST, READ_FIRST, READ_MOST = 4, 32, 512
"""Attempts read at once: for an endpoint that takes none, at first, and while one takes them quickly."""
UNRECORDED_MOST = 512
"""Outcomes of one endpoint that may wait to be recorded: so many attempts a crash makes again."""
RECORD_S = 0.02
"""How long an outcome waits for others to be recorded with it."""
STALE_S = 1.0
"""How long what was read ahead is trusted: an endpoint that is disabled gets nothing later than this."""
FAILURES, REST_S, REST_MAX_S = 8, 0.05, 1.0
"""After so many failures in a row an endpoint rests after each: at first so many seconds, doubled by each, at most.

Some rest a little longer, half as long again at most.
"""
PAUSE: Instant = 5 * SECOND
"""How long an endpoint rests after an outcome could not be recorded, so that it is not sent the same in a loop."""

ELSEWHERE: Instant = SECOND
"""How long an endpoint is left to the process that serves it, before this one asks again."""

LINGER_S = 60.0
"""How long a process keeps serving an endpoint that nothing is due for."""

DISABLE_AFTER_S = 432_000
"""After how many seconds of nothing but failures an endpoint is switched off."""

_log = structlog.get_logger(__name__)


class _TakenOver(Unavailable):
    """Another process serves the endpoint."""

    def __init__(self) -> None:
        super().__init__("the endpoint is served by another process")


@dataclass(frozen=True, slots=True)
class _Made:
    """One attempt that was made."""

    attempt: Due
    sent_at: Instant
    answer: Answer


@dataclass(frozen=True, slots=True)
class _Lot:
    """Attempts to one endpoint whose outcomes are recorded together."""

    webhook_id: str
    fence: int  #: of the lease they were made under
    made: Sequence[_Made]


class Deliver:
    """The step that empties the outbox. It owns ``egress`` from now on: ``stop`` closes it."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        entropy: Entropy,
        egress: Egress,
        *,
        signing_key: Ed25519PrivateKey,
        leases: Leases,
        schedule_s: Sequence[int] = RETRY_SCHEDULE_S,
        in_flight: int = IN_FLIGHT,
        disable_after_s: int = DISABLE_AFTER_S,
    ) -> None:
        """Prepare the step.

        Args:
            db: where the outbox is.
            clock: the time.
            entropy: for ids.
            egress: sends.
            signing_key: makes ``v1a``.
            leases: this process's, renewed by its loop: one process at a time serves an endpoint.
            schedule_s: the retries' offsets from the first attempt, seconds.
            in_flight: attempts to one endpoint at the same time.
            disable_after_s: after so many seconds of nothing but failures an endpoint is switched off; 0: never.
        """
        self._db = db
        self._clock = clock
        self._entropy = entropy
        self._egress = egress
        self._key = signing_key
        self._leases = leases
        self._schedule_s = tuple(schedule_s)
        self._in_flight = in_flight
        self._disable_after: Instant = disable_after_s * SECOND
        self._queues: dict[str, tuple[_Queue, asyncio.Task[None]]] = {}
        self._failures: dict[str, int] = {}  # of endpoints, since the last attempt that was taken
        self._widths: dict[str, int] = {}  # how many attempts may be in flight, for endpoints that took some lately
        self._rests: dict[str, float] = {}  # until when those rest that only fail, by the loop's clock
        self._idle_since: dict[str, float] = {}
        self._paused: dict[str, Instant] = {}
        self.is_stopping = False

    async def step(self) -> bool:
        """Start a queue for each endpoint with something due and none running; tell whether one was started.

        It returns while they run: a queue goes on by itself until nothing is due for its endpoint.
        """
        if self.is_stopping:
            return False
        now = self._clock.now()
        self._paused = {webhook_id: until for webhook_id, until in self._paused.items() if until > now}
        idle: list[str] = []
        names = await self._db.read(lambda unit: deliveries.waiting(unit, now=now))
        for webhook_id in sorted(names, key=lambda each: self._failures.get(each, 0)):  # who takes them comes first
            if webhook_id in self._queues:
                self._queues[webhook_id][0].look()
            elif webhook_id not in self._paused and not self.rest_s(webhook_id):
                idle.append(webhook_id)
        # All at once: one after the other they would wait for as many commits.
        fences = await asyncio.gather(*(self._leases.take(_lease_of(webhook_id)) for webhook_id in idle))
        started = False
        for webhook_id, fence in zip(idle, fences, strict=True):
            if fence is None:
                self._leases.drop(_lease_of(webhook_id))
                self._paused[webhook_id] = now + ELSEWHERE
            elif not self.is_stopping:
                self._start(webhook_id)
                started = True
        self._let_go()
        return started

    def _start(self, webhook_id: str) -> None:
        self._idle_since.pop(webhook_id, None)
        queue = _Queue(self, webhook_id)
        running = asyncio.create_task(queue.run(), name=f"deliver {webhook_id}")
        self._queues[webhook_id] = queue, running
        running.add_done_callback(functools.partial(self._ended, webhook_id))

    async def idle(self) -> None:
        """Wait until no queue runs."""
        while self._queues:
            await asyncio.wait([running for _, running in self._queues.values()])

    async def stop(self) -> None:
        """Start nothing more, wait for what is in flight (bounded by the egress's limits), close the egress."""
        self.is_stopping = True
        await self.idle()
        await self._egress.close()

    async def ping(self, target: Webhook) -> dict[str, str]:
        """Send a made-up event that is stored nowhere; return ``status`` and, unless it was taken, ``error``."""
        now = self._clock.now()
        body = envelope(
            delivery_id=new_id(DELIVERY, self._entropy),
            kind=PING_KIND,
            raised_at=now,
            data={"webhook": {"id": target.id}},
            sent_at=now,
            attempt=1,
        )
        answer = await self._post(target, new_id(EVENT, self._entropy), now, encode(body))
        return {"status": answer.status, **({} if answer.error is None else {"error": answer.error})}

    def _ended(self, webhook_id: str, done: asyncio.Task[None]) -> None:
        del self._queues[webhook_id]
        self._idle_since[webhook_id] = done.get_loop().time()
        error = None if done.cancelled() else done.exception()
        if isinstance(error, _TakenOver):
            self._leases.drop(_lease_of(webhook_id))
            self._paused[webhook_id] = self._clock.now() + ELSEWHERE
        elif error is not None:
            self._paused[webhook_id] = self._clock.now() + PAUSE
            _log.error("webhook queue stopped", webhook_id=webhook_id, exc_info=error)

    def _let_go(self) -> None:
        """Stop renewing the leases of endpoints that nothing was due for lately."""
        over = asyncio.get_running_loop().time() - LINGER_S
        for webhook_id in [name for name, since in self._idle_since.items() if since <= over]:
            del self._idle_since[webhook_id]
            self._failures.pop(webhook_id, None)
            self._rests.pop(webhook_id, None)
            self._widths.pop(webhook_id, None)
            self._leases.drop(_lease_of(webhook_id))

    def fence(self, webhook_id: str) -> int | None:
        """Return the fence under which this process serves an endpoint, or None if it does not."""
        return self._leases.fence(_lease_of(webhook_id))

    def width(self, webhook_id: str) -> int:
        """Return how many attempts may be in flight: one until one was taken, more the more are."""
        return self._widths.get(webhook_id, 1)

    def rest_s(self, webhook_id: str) -> float:
        """Return how many seconds an endpoint that only fails still rests."""
        return max(0.0, self._rests.get(webhook_id, 0.0) - asyncio.get_running_loop().time())

    def note(self, webhook_id: str, *, taken: bool) -> None:
        """Remember what became of an attempt."""
        width = self.width(webhook_id)
        self._widths[webhook_id] = min(width * 2, self._in_flight) if taken else max(width // 2, 1)
        if taken:
            self._failures.pop(webhook_id, None)
            self._rests.pop(webhook_id, None)
            return
        self._failures[webhook_id] = failures = self._failures.get(webhook_id, 0) + 1
        over = failures - FAILURES
        if over >= 0:
            # Each has a pace of its own: or those that fail together would come together, again and again.
            pace = 1 + zlib.crc32(webhook_id.encode()) % 512 / 1024
            rest_s = min(REST_S * 2 ** min(over, 16), REST_MAX_S) * pace
            self._rests[webhook_id] = asyncio.get_running_loop().time() + rest_s

    async def read(self, webhook_id: str, limit: int) -> tuple[Webhook | None, list[Due]]:
        now = self._clock.now()
        return await self._db.read(lambda unit: deliveries.due(unit, webhook_id, now=now, limit=limit))

    async def make(self, target: Webhook, attempt: Due) -> _Made:
        """Make one attempt."""
        sent_at = self._clock.now()
        body = encode_stored(
            delivery_id=attempt.id,
            kind=attempt.kind,
            raised_at=attempt.raised_at,
            data=attempt.data,
            sent_at=sent_at,
            attempt=attempt.attempt,
            retry_of=attempt.retry_of,
            subject=attempt.subject,
            sequence=attempt.sequence,
        )
        return _Made(attempt, sent_at, await self._post(target, attempt.event_id, sent_at, body))

    async def _post(self, target: Webhook, event_id: str, sent_at: Instant, body: bytes) -> Answer:
        signed = headers(
            secrets=target.secrets(sent_at),
            key=self._key,
            webhook_id=event_id,
            timestamp=sent_at // SECOND,
            body=body,
        )
        return await self._egress.post(target.url, body, signed)

    async def record(self, lot: _Lot) -> None:
        """Record outcomes, together with those that other endpoints' queues have now.

        Raises:
            _TakenOver: another process serves this endpoint by now and will make the attempts again.
        """
        fault("deliver.before_mark")
        await self._db.write_item(self._mark, lot)

    def _mark(self, unit: Unit, lots: Sequence[_Lot]) -> list[Exception | None]:
        """Record the outcomes of many attempts."""
        known = leases.holds(unit, {(_lease_of(each.webhook_id), each.fence) for each in lots})
        answers: list[Exception | None] = [
            None if (_lease_of(each.webhook_id), each.fence) in known else _TakenOver() for each in lots
        ]
        made = [one for lot, answer in zip(lots, answers, strict=True) if answer is None for one in lot.made]
        failed = [each for each in made if each.answer.error is not None]
        taken = [(each.attempt.id, each.sent_at, each.answer.status) for each in made if each.answer.error is None]
        deliveries.mark_delivered(unit, taken)
        failures = [Failure(each.attempt, each.sent_at, each.answer.status, str(each.answer.error)) for each in failed]
        deliveries.mark_failed(unit, failures, schedule_s=self._schedule_s, entropy=self._entropy)
        self._note(unit, made, failed)
        tally.note_attempts(unit, (self._attempted(each) for each in made))
        return answers

    def _attempted(self, made: _Made) -> tally.Attempted:
        outcome, attempt = tally.DELIVERED, made.attempt
        if made.answer.error is not None:
            outcome = tally.PARKED if attempt.attempt > len(self._schedule_s) else tally.FAILED
        return tally.Attempted(attempt.subject, outcome, attempt.raised_at, made.sent_at)

    def _note(self, unit: Unit, made: Sequence[_Made], failed: Sequence[_Made]) -> None:
        """Keep which endpoints only fail, and switch off those that have for too long."""
        failing = {each.attempt.webhook_id for each in failed}
        working = {each.attempt.webhook_id for each in made if each.answer.error is None}
        since = min((each.sent_at for each in failed), default=0)
        webhooks.note_outcomes(unit, working=working, failing=failing - working, since=since)
        if not self._disable_after or not failing - working:
            return
        now = self._clock.now()
        for webhook_id in webhooks.disable_failing(
            unit, failing - working, since=now - self._disable_after, now=now, entropy=self._entropy
        ):
            _log.warning("webhook_disabled", webhook_id=webhook_id)


class _Queue:
    """What is due for one endpoint, being sent: a few workers take from what was read ahead."""

    def __init__(self, deliver: Deliver, webhook_id: str) -> None:
        """Prepare; ``run`` does it all."""
        self._deliver, self._webhook_id = deliver, webhook_id
        self._loop = asyncio.get_running_loop()
        self._fence = deliver.fence(webhook_id)
        self._target: Webhook | None = None
        self._ahead: deque[Due] = deque()
        self._known: set[str] = set()  # ids of what was read and is not recorded
        self._workers: set[asyncio.Task[None]] = set()
        self._made: list[_Made] = []
        self._unrecorded = 0
        self._wake, self._news = asyncio.Event(), asyncio.Event()
        self._is_closing = self._is_exhausted = False
        self._lot, self._read_at = READ_FIRST, 0.0

    def look(self) -> None:
        """Read again what is due, if there is room for it: something may have come."""
        if len(self._workers) < self._width:
            self._is_exhausted = False
            self._wake.set()

    async def run(self) -> None:
        """Make every due attempt.

        Raises:
            whatever kept an outcome from being recorded, after the attempts in flight have ended.
        """
        recorder = asyncio.create_task(self._record_all())
        recorder.add_done_callback(lambda _: self._wake.set())
        try:
            while not self._deliver.is_stopping and not recorder.done():
                self._wake.clear()
                if not self._is_ours():
                    raise _TakenOver
                await self._fill()
                self._start_workers()
                if self._is_exhausted and not self._known:
                    return
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._pause_s()):
                        await self._wake.wait()
        finally:
            self._ahead.clear()
            if self._workers:
                await asyncio.wait(self._workers)
            self._is_closing = True
            self._news.set()
            await recorder

    @property
    def _width(self) -> int:
        return self._deliver.width(self._webhook_id)

    def _is_ours(self) -> bool:
        return self._fence is not None and self._deliver.fence(self._webhook_id) == self._fence

    def _is_stale(self) -> bool:
        return self._loop.time() - self._read_at > STALE_S

    def _pause_s(self) -> float:
        return min(self._deliver.rest_s(self._webhook_id) or STALE_S, STALE_S)

    async def _fill(self) -> None:
        """Read ahead, unless there is enough, or nothing more was due lately."""
        if self._is_stale():
            self._known.difference_update(each.id for each in self._ahead)
            self._ahead.clear()
            self._is_exhausted, self._lot = False, READ_FIRST
        if self._is_exhausted or len(self._ahead) > self._lot // 4:
            return
        now = self._loop.time()
        is_quick = now - self._read_at < STALE_S / 4
        self._lot = min(self._lot * 2 if is_quick else self._lot, READ_MOST) if self._width > 1 else READ_LEAST
        # What is known now is pending in what is read now, even if it is recorded meanwhile.
        known, limit = frozenset(self._known), self._lot + len(self._known)
        self._read_at, self._is_exhausted = now, True
        self._target, rows = await self._deliver.read(self._webhook_id, limit)
        fresh = [row for row in rows if row.id not in known]
        self._is_exhausted = self._is_exhausted and len(rows) < limit
        self._known.update(row.id for row in fresh)
        self._ahead.extend(fresh)

    def _start_workers(self) -> None:
        if self._target is None or self._deliver.rest_s(self._webhook_id):
            return
        for _ in range(min(self._width - len(self._workers), len(self._ahead))):
            worker = asyncio.create_task(self._work(self._target))
            self._workers.add(worker)
            worker.add_done_callback(self._worker_ended)

    def _worker_ended(self, worker: asyncio.Task[None]) -> None:
        self._workers.discard(worker)
        self._wake.set()

    async def _work(self, target: Webhook) -> None:
        """Make attempts one after another, as long as they are taken and what was read is fresh."""
        while self._ahead and self._unrecorded < UNRECORDED_MOST and self._is_ours() and not self._is_stale():
            attempt = self._ahead.popleft()
            if len(self._ahead) == self._lot // 4:
                self._wake.set()
            made = await self._deliver.make(target, attempt)
            self._made.append(made)
            self._unrecorded += 1
            self._news.set()
            self._deliver.note(self._webhook_id, taken=made.answer.ok)
            if len(self._workers) < self._width:
                self._wake.set()
            if self._deliver.is_stopping or len(self._workers) > self._width or not made.answer.ok:
                return

    async def _record_all(self) -> None:
        """Record outcomes as they come; those that come meanwhile are recorded together.

        Raises:
            whatever kept one from being recorded.
        """
        while not self._is_closing or self._made:
            await self._news.wait()
            self._news.clear()
            while self._made:
                if self._ahead:
                    await asyncio.sleep(RECORD_S)
                lot, self._made = self._made, []
                await self._deliver.record(_Lot(self._webhook_id, self._fence or 0, lot))
                self._known.difference_update(each.attempt.id for each in lot)
                self._unrecorded -= len(lot)
                self._wake.set()


def _lease_of(webhook_id: str) -> str:
    return f"deliver/{webhook_id}"
