"""Tell endpoints what happened, until each has said 200 or the schedule is exhausted.

Every endpoint has a queue and a few attempts in flight of its own, so one that is dead or slow delays no other.
An attempt is recorded after it was made: a crash in between makes it again, with the same ``webhook-id``.
"""

import asyncio
import functools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from outlay.core.errors import Unavailable
from outlay.core.event import PING_KIND, RETRY_SCHEDULE_S, encode, envelope
from outlay.core.faultpoint import fault
from outlay.core.ids import DELIVERY, EVENT, new_id
from outlay.core.seams import SECOND, Clock, Entropy, Instant
from outlay.engine.egress import Answer, Egress
from outlay.engine.leases import Leases
from outlay.engine.webhook_signature import headers
from outlay.store import leases, webhooks
from outlay.store.database import Database, Unit
from outlay.store.webhooks import Delivery, Webhook

IN_FLIGHT = 8
"""Attempts to one endpoint at the same time."""
READ_AHEAD = 64
"""Attempts read at once."""
STALE_S = 1.0
"""How long what was read ahead is trusted: an endpoint that is disabled gets nothing later than this."""
PAUSE: Instant = 5 * SECOND
"""How long an endpoint rests after an outcome could not be recorded, so that it is not sent the same in a loop."""

ELSEWHERE: Instant = SECOND
"""How long an endpoint is left to the process that serves it, before this one asks again."""

_log = structlog.get_logger(__name__)


class _TakenOver(Unavailable):
    """Another process serves the endpoint."""

    def __init__(self) -> None:
        super().__init__("the endpoint is served by another process")


@dataclass(frozen=True, slots=True)
class _Made:
    """One attempt that was made."""

    attempt: Delivery
    sent_at: Instant
    answer: Answer
    fence: int  #: of the lease it was made under


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
    ) -> None:
        """Prepare the step; ``schedule_s`` are the retries' offsets from the first attempt, in seconds.

        ``leases`` are this process's, renewed by its loop: one process at a time serves an endpoint.
        """
        self._db = db
        self._clock = clock
        self._entropy = entropy
        self._egress = egress
        self._key = signing_key
        self._leases = leases
        self._schedule_s = tuple(schedule_s)
        self._in_flight = in_flight
        self._queues: dict[str, asyncio.Task[None]] = {}
        self._paused: dict[str, Instant] = {}
        self._stopping = False

    async def step(self) -> bool:
        """Start a queue for each endpoint with something due and none running; tell whether one was started.

        It returns while they run: a queue goes on by itself until nothing is due for its endpoint.
        """
        if self._stopping:
            return False
        now = self._clock.now()
        self._paused = {webhook_id: until for webhook_id, until in self._paused.items() if until > now}
        started = False
        for webhook_id in await self._db.read(lambda unit: webhooks.waiting(unit, now=now)):
            if webhook_id in self._queues or webhook_id in self._paused or self._stopping:
                continue
            if await self._leases.take(_lease_of(webhook_id)) is None:
                self._leases.drop(_lease_of(webhook_id))
                self._paused[webhook_id] = now + ELSEWHERE
                continue
            queue = asyncio.create_task(self._empty(webhook_id), name=f"deliver {webhook_id}")
            self._queues[webhook_id] = queue
            queue.add_done_callback(functools.partial(self._ended, webhook_id))
            started = True
        return started

    async def idle(self) -> None:
        """Wait until no queue runs."""
        while self._queues:
            await asyncio.wait(self._queues.values())

    async def stop(self) -> None:
        """Start nothing more, wait for what is in flight (bounded by the egress's limits), close the egress."""
        self._stopping = True
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
        self._leases.drop(_lease_of(webhook_id))
        error = None if done.cancelled() else done.exception()
        if isinstance(error, _TakenOver):
            self._paused[webhook_id] = self._clock.now() + ELSEWHERE
        elif error is not None:
            self._paused[webhook_id] = self._clock.now() + PAUSE
            _log.error("webhook queue stopped", webhook_id=webhook_id, exc_info=error)

    async def _empty(self, webhook_id: str) -> None:
        """Make every due attempt of one endpoint, a few at a time.

        Raises:
            whatever kept an outcome from being recorded, after the attempts in flight have ended.
        """
        loop, fence = asyncio.get_running_loop(), self._leases.fence(_lease_of(webhook_id))
        flying: dict[str, asyncio.Task[None]] = {}
        ahead: deque[Delivery] = deque()
        target: Webhook | None = None
        read_at, exhausted = 0.0, False
        try:
            while not self._stopping:
                if fence is None or self._leases.fence(_lease_of(webhook_id)) != fence:
                    raise _TakenOver
                if loop.time() - read_at > STALE_S:
                    ahead.clear()
                    exhausted = False
                if not ahead and not exhausted:
                    read_at = loop.time()
                    # Those in flight are still pending in what is read now, even if they end meanwhile.
                    known = frozenset(flying)
                    target, rows = await self._read(webhook_id, READ_AHEAD + len(known))
                    ahead.extend(row for row in rows if row.id not in known)
                    exhausted = not ahead
                while ahead and target is not None and len(flying) < self._in_flight:
                    attempt = ahead.popleft()
                    flying[attempt.id] = asyncio.create_task(self._attempt(target, attempt, fence))
                if not flying:
                    if exhausted:
                        return
                    continue
                ended, _ = await asyncio.wait(flying.values(), timeout=STALE_S, return_when=asyncio.FIRST_COMPLETED)
                flying = {key: task for key, task in flying.items() if task not in ended}
                for task in ended:
                    task.result()
        finally:
            if flying:
                await asyncio.gather(*flying.values(), return_exceptions=True)

    async def _read(self, webhook_id: str, limit: int) -> tuple[Webhook | None, list[Delivery]]:
        now = self._clock.now()
        return await self._db.read(lambda unit: webhooks.due(unit, webhook_id, now=now, limit=limit))

    async def _attempt(self, target: Webhook, attempt: Delivery, fence: int) -> None:
        """Make one attempt and record what became of it.

        Raises:
            _TakenOver: another process serves this endpoint by now and will make the attempt again.
        """
        sent_at = self._clock.now()
        body = envelope(
            delivery_id=attempt.id,
            kind=attempt.kind,
            raised_at=attempt.raised_at,
            data=attempt.data,
            sent_at=sent_at,
            attempt=attempt.attempt,
            retry_of=attempt.retry_of,
        )
        answer = await self._post(target, attempt.event_id, sent_at, encode(body))
        fault("deliver.before_mark")
        await self._db.write_item(self._mark, _Made(attempt, sent_at, answer, fence))

    async def _post(self, target: Webhook, event_id: str, sent_at: Instant, body: bytes) -> Answer:
        signed = headers(
            secret=target.secret, key=self._key, webhook_id=event_id, timestamp=sent_at // SECOND, body=body
        )
        return await self._egress.post(target.url, body, signed)

    def _mark(self, unit: Unit, made: Sequence[_Made]) -> list[Exception | None]:
        """Record the outcomes of many attempts."""
        known = leases.holds(unit, {(_lease_of(each.attempt.webhook_id), each.fence) for each in made})
        answers: list[Exception | None] = [
            None if (_lease_of(each.attempt.webhook_id), each.fence) in known else _TakenOver() for each in made
        ]
        mine = [each for each, answer in zip(made, answers, strict=True) if answer is None]
        taken = [(each.attempt.id, each.sent_at, each.answer.status) for each in mine if each.answer.error is None]
        webhooks.mark_delivered(unit, taken)
        for each in mine:
            if each.answer.error is not None:
                webhooks.mark_failed(
                    unit,
                    each.attempt,
                    sent_at=each.sent_at,
                    status=each.answer.status,
                    error=each.answer.error,
                    schedule_s=self._schedule_s,
                    entropy=self._entropy,
                )
        return answers


def _lease_of(webhook_id: str) -> str:
    return f"deliver/{webhook_id}"
