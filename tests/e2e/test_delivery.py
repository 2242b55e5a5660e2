"""Deliveries from the outbox to real HTTP endpoints: each event arrives at least once, or is parked in sight."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import standardwebhooks
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from outlay.core import faultpoint
from outlay.core.errors import InvalidInput, NotFound, PreconditionFailed
from outlay.core.ids import is_id
from outlay.core.seams import DAY, HOUR, MINUTE, SECOND, Instant
from outlay.engine.deliver import PAUSE, Deliver
from outlay.engine.egress import Egress
from outlay.engine.leases import Leases
from outlay.engine.webhook_signature import public_key_text
from outlay.store import deliveries, webhooks
from outlay.store.database import Database
from outlay.store.deliveries import Delivery
from outlay.store.schema import delivery, event, metadata
from outlay.store.webhooks import Webhook
from tests import postgres

START: Instant = 1_767_323_045_678_901
KEY = Ed25519PrivateKey.from_private_bytes(b"\x09" * 32)


class FakeClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.instant = START

    def now(self) -> Instant:
        """Return the instant it was moved to."""
        return self.instant


class SeededEntropy:
    """The same bytes in every run."""

    def __init__(self) -> None:
        self._random = random.Random(7)

    def token(self, size: int) -> bytes:
        """Return the next bytes."""
        return self._random.randbytes(size)


class Receiver:
    """An endpoint on a free local port; it answers what ``reply`` says, 200 unless told otherwise."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.reply: Callable[[], Awaitable[int]] | None = None
        self.statuses: list[int] = []
        self.url = ""

    async def _take(self, request: web.Request) -> web.Response:
        self.got.append(({name.lower(): value for name, value in request.headers.items()}, await request.read()))
        status = self.statuses.pop(0) if self.statuses else 200
        if self.reply is not None:
            status = await self.reply()
        return web.Response(status=status, text="ok")

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """Return what arrived, parsed."""
        return [json.loads(body) for _, body in self.got]

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator["Receiver"]:
        """Serve until the block ends."""
        app = web.Application()
        app.router.add_post("/hook", self._take)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
        try:
            yield self
        finally:
            await runner.cleanup()


class World:
    """A database, a clock and the step under test."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.clock = FakeClock()
        self.entropy = SeededEntropy()
        self.deliver = self.start()

    def start(self, *, allow: bool = True, holder: str = "one", total_s: float = 2) -> Deliver:
        """Return a new step on the same database, as after a restart."""
        egress = Egress(allow_private_addresses=allow, connect_s=1, total_s=total_s)
        leases = Leases(self.db, self.clock, holder=holder)
        return Deliver(self.db, self.clock, self.entropy, egress, signing_key=KEY, leases=leases)

    async def webhook(self, url: str, *events: str) -> Webhook:
        """Register an endpoint for ``events``, or for all."""
        return await self.db.write(
            lambda unit: webhooks.create(
                unit, url=url, events=events or ("*",), now=self.clock.now(), entropy=self.entropy
            )
        )

    async def emit(self, subject: str = "xfr-1", kind: str = "wallet.transfer.confirmed") -> str:
        """Let something happen; return the event's id."""
        data = {"transferRequest": {"id": subject, "status": "Confirmed", "note": "é"}}
        return await self.db.write(
            lambda unit: webhooks.emit(
                unit, kind=kind, subject=subject, data=data, now=self.clock.now(), entropy=self.entropy
            )
        )

    async def replay(self, target: Webhook, *event_ids: str) -> int:
        """Tell an endpoint of events again; return how many it will be told of."""
        now, events = self.clock.now(), [(each, "wallet.transfer.confirmed") for each in event_ids]

        def run(unit: sa.Connection) -> int:
            return deliveries.replay(unit, webhooks.get(unit, target.id), events, now=now, entropy=self.entropy)

        return await self.db.write(run)

    async def run(self, after: Instant = 0) -> bool:
        """Move the clock, step, and wait until every queue is empty."""
        self.clock.instant += after
        started = await self.deliver.step()
        await self.deliver.idle()
        return started

    async def attempts(self, target: Webhook) -> list[Delivery]:
        """Return every attempt that was made, oldest first."""
        rows, _ = await self.db.read(lambda unit: deliveries.list_events(unit, target.id))
        return sorted(rows, key=lambda row: (row.sent_at, row.attempt))

    async def pending(self) -> list[Any]:
        """Return the attempts that are planned."""
        query = sa.select(delivery).where(delivery.c.state == "pending").order_by(delivery.c.due_at)
        return await self.db.read(lambda unit: list(unit.execute(query)))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    with postgres.database(tmp_path / "outlay.db") as where:
        db = Database(where)
        if isinstance(where, Path):
            metadata.create_all(db.engine)
        made = World(db)
        yield made
        await made.deliver.stop()
        db.close()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver().listening() as listening:
        yield listening


@pytest.fixture
def crash() -> Iterator[None]:
    """Stop the world before an outcome is recorded."""

    def hook(label: str) -> None:
        if label == "deliver.before_mark":
            raise RuntimeError("crashed")

    faultpoint.install(hook)
    yield
    faultpoint.install(None)


async def test_an_event_arrives_with_every_signature(world: World, receiver: Receiver) -> None:
    target = await world.webhook(receiver.url)
    event_id = await world.emit()
    assert await world.run(after=2 * SECOND)

    ((head, body),) = receiver.got
    (row,) = await world.attempts(target)
    assert json.loads(body) == {
        "id": row.id,
        "kind": "wallet.transfer.confirmed",
        "date": "2026-01-02T03:04:05.678Z",
        "data": {"transferRequest": {"id": "xfr-1", "status": "Confirmed", "note": "é"}},
        "timestampSent": START // SECOND + 2,
        "deliveryAttempt": 1,
        "subject": "xfr-1",
        "sequence": 1,
    }
    assert is_id(row.id, "whe")
    assert body == json.dumps(json.loads(body), separators=(",", ":")).encode()
    assert head["content-type"] == "application/json"
    mac = hmac.new(target.secret.encode(), body, hashlib.sha256).hexdigest()
    assert head["x-dfns-webhook-signature"] == f"sha256={mac}"
    assert head["webhook-id"] == event_id
    assert head["webhook-timestamp"] == str(START // SECOND + 2)
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key_text(KEY).removeprefix("whpk_")))
    v1a = head["webhook-signature"].split("v1a,")[1]
    public.verify(base64.b64decode(v1a), f"{event_id}.{START // SECOND + 2}.".encode() + body)
    assert (row.state, row.status, row.error, row.parked) == ("delivered", "200", None, False)
    assert not await world.run(after=DAY)


async def test_the_standard_library_accepts_what_is_sent_now(world: World, receiver: Receiver) -> None:
    world.clock.instant = time.time_ns() // 1000
    target = await world.webhook(receiver.url)
    await world.emit()
    await world.run()
    ((head, body),) = receiver.got
    assert standardwebhooks.Webhook(target.secret).verify(body, head)["deliveryAttempt"] == 1


async def test_only_subscribers_are_told(world: World, receiver: Receiver) -> None:
    async with Receiver().listening() as other, Receiver().listening() as off, Receiver().listening() as gone:
        await world.webhook(receiver.url, "wallet.transfer.failed", "wallet.transfer.confirmed")
        await world.webhook(other.url, "wallet.created")
        disabled, deleted = await world.webhook(off.url), await world.webhook(gone.url)
        now = world.clock.now()
        await world.db.write(lambda unit: webhooks.update(unit, disabled.id, status="Disabled", now=now))
        await world.db.write(lambda unit: webhooks.delete(unit, deleted.id, now=now))
        await world.emit()
        await world.run()
        await world.db.write(lambda unit: webhooks.update(unit, disabled.id, status="Enabled", now=now))
        await world.run()
        assert [len(endpoint.got) for endpoint in (receiver, other, off, gone)] == [1, 0, 0, 0]


async def test_events_of_one_subject_are_numbered(world: World) -> None:
    for subject in ("xfr-1", "xfr-2", "xfr-1", "xfr-1"):
        await world.emit(subject)
    query = sa.select(event.c.subject, event.c.subject_seq).order_by(event.c.seq)
    rows = await world.db.read(lambda unit: [tuple(row) for row in unit.execute(query)])
    assert rows == [("xfr-1", 1), ("xfr-2", 1), ("xfr-1", 2), ("xfr-1", 3)]


async def test_an_event_exists_exactly_if_its_change_does(world: World, receiver: Receiver) -> None:
    await world.webhook(receiver.url)

    def fails(unit: sa.Connection) -> None:
        webhooks.emit(unit, kind="wallet.created", subject="wa-1", data={}, now=START, entropy=world.entropy)
        raise PreconditionFailed("no")

    with pytest.raises(PreconditionFailed):
        await world.db.write(fails)
    assert not await world.run()
    assert receiver.got == []


@pytest.mark.parametrize("status", [201, 204, 302, 404, 500])
async def test_anything_but_200_is_tried_again(world: World, receiver: Receiver, status: int) -> None:
    receiver.statuses = [status]
    target = await world.webhook(receiver.url)
    await world.emit()
    await world.run()
    await world.run(after=MINUTE)
    first, second = await world.attempts(target)
    assert (first.state, first.status, first.next_attempt_at) == ("failed", str(status), START + MINUTE)
    assert (second.state, second.attempt, second.retry_of) == ("delivered", 2, first.id)


async def test_retries_follow_the_schedule_then_the_event_is_parked_and_can_be_replayed(
    world: World, receiver: Receiver
) -> None:
    receiver.statuses = [500] * 5
    target = await world.webhook(receiver.url)
    event_id = await world.emit()
    await world.run(after=3 * SECOND)
    first_sent = world.clock.now()
    for offset in (MINUTE, 12 * MINUTE, 2 * HOUR, 24 * HOUR):
        world.clock.instant = first_sent + offset - 1
        assert not await world.run(), "not a microsecond early"
        assert await world.run(after=1)
    assert not await world.run(after=30 * DAY)

    rows = await world.attempts(target)
    assert [row.attempt for row in rows] == [1, 2, 3, 4, 5]
    assert [row.retry_of for row in rows] == [None, *(row.id for row in rows[:-1])]
    assert [row.parked for row in rows] == [False] * 4 + [True]
    assert len({row.id for row in rows}) == 5
    assert [body["id"] for body in receiver.bodies] == [row.id for row in rows]
    assert [body["deliveryAttempt"] for body in receiver.bodies] == [1, 2, 3, 4, 5]
    assert [body.get("retryOf") for body in receiver.bodies] == [row.retry_of for row in rows]
    assert {json.dumps(body["data"]) for body in receiver.bodies} == {json.dumps(rows[0].data)}
    assert {head["webhook-id"] for head, _ in receiver.got} == {event_id}
    for (head, body), row in zip(receiver.got, rows, strict=True):
        assert head["webhook-timestamp"] == str((row.sent_at or 0) // SECOND)
        assert json.loads(body)["timestampSent"] == (row.sent_at or 0) // SECOND

    document = rows[-1].document()
    assert (document["status"], document["deliveryFailed"]) == ("500", True)
    assert "nextAttemptDate" not in document
    assert "nextAttemptDate" in rows[0].document()
    assert [row.id for row in await world.db.read(deliveries.parked)] == [rows[-1].id]
    assert await world.replay(target, event_id) == 1
    assert await world.db.read(deliveries.parked) == []
    assert await world.run()
    last = (await world.attempts(target))[-1]
    assert (last.attempt, last.state, last.retry_of) == (6, "delivered", rows[-1].id)
    assert receiver.got[-1][0]["webhook-id"] == event_id


async def test_an_attempt_is_made_when_it_is_due_even_if_another_is(world: World, receiver: Receiver) -> None:
    await world.webhook(receiver.url)
    await world.emit("xfr-1")
    world.clock.instant += 5
    await world.emit("xfr-2")
    world.clock.instant -= 1
    await world.run()
    assert [body["data"]["transferRequest"]["id"] for body in receiver.bodies] == ["xfr-1"]
    assert await world.run(after=1)
    assert len(receiver.got) == 2


async def test_an_outcome_is_recorded_once(world: World) -> None:
    target = await world.webhook("https://example.com/")
    await world.emit()
    _, (row,) = await world.db.read(partial(deliveries.due, webhook_id=target.id, now=START, limit=9))
    failures = [deliveries.Failure(row, START, "500", "no")]
    fail = partial(deliveries.mark_failed, failures=failures, schedule_s=[60], entropy=world.entropy)
    assert [await world.db.write(mark) for mark in (fail, fail)] == [failures, []]
    await world.db.write(lambda unit: deliveries.mark_delivered(unit, [(row.id, START, "200")]))
    assert [attempt.state for attempt in await world.attempts(target)] == ["failed"]
    assert [(planned.attempt, planned.due_at) for planned in await world.pending()] == [(2, START + MINUTE)]


async def test_an_answer_that_comes_too_late_is_sent_again_with_the_same_id(world: World, receiver: Receiver) -> None:
    await world.deliver.stop()
    world.deliver = world.start(total_s=0.3)
    is_slow = True

    async def late() -> int:
        if is_slow:
            await asyncio.sleep(1)
        return 200

    receiver.reply = late
    target = await world.webhook(receiver.url)
    event_id = await world.emit()
    await world.run()
    is_slow = False
    await world.run(after=MINUTE)
    first, second = await world.attempts(target)
    assert (first.state, first.error) == ("failed", "the endpoint did not answer in time")
    assert (second.state, second.retry_of) == ("delivered", first.id)
    assert [head["webhook-id"] for head, _ in receiver.got] == [event_id] * 2


async def test_a_replay_that_fails_is_parked_again(world: World, receiver: Receiver) -> None:
    receiver.statuses = [500] * 6
    target = await world.webhook(receiver.url)
    event_id = await world.emit()
    for _ in range(5):
        await world.run(after=DAY)
    for _ in range(3):  # replaying twice does not send twice
        assert await world.replay(target, event_id) == 1
    await world.run()
    assert len(receiver.got) == 6
    assert [row.attempt for row in await world.db.read(deliveries.parked)] == [6]


async def test_a_crash_before_the_outcome_is_recorded_sends_it_again_with_the_same_id(
    world: World, receiver: Receiver, crash: None
) -> None:
    target = await world.webhook(receiver.url)
    event_id = await world.emit()
    await world.run()
    assert len(receiver.got) == 1
    assert await world.attempts(target) == []
    assert not await world.run(after=PAUSE // 2), "it rests instead of sending the same in a loop"

    faultpoint.install(None)
    await world.deliver.stop()
    world.deliver = world.start()
    await world.run()
    (first, _), (second, _) = receiver.got
    assert first["webhook-id"] == second["webhook-id"] == event_id
    assert receiver.bodies[0]["id"] == receiver.bodies[1]["id"]
    (row,) = await world.attempts(target)
    assert (row.state, row.attempt) == ("delivered", 1)
    assert not await world.run(after=DAY)


async def test_a_dead_or_slow_endpoint_delays_no_other(world: World, receiver: Receiver) -> None:
    await world.deliver.stop()
    world.deliver = world.start(total_s=30)
    release = asyncio.Event()

    async def stuck() -> int:
        await release.wait()
        return 200

    async with Receiver().listening() as slow:
        slow.reply = stuck
        await world.webhook(slow.url)
        await world.webhook("http://127.0.0.1:9/dead")
        await world.webhook(receiver.url)
        for number in range(40):
            await world.emit(f"xfr-{number}")
        assert await world.deliver.step()
        async with asyncio.timeout(10):  # less than the limit of one slow call
            while len(receiver.got) < 40 or not slow.got:
                await asyncio.sleep(0.01)
        assert len(slow.got) == 1, "an endpoint that has taken nothing yet has one attempt in flight"
        assert not release.is_set()
        # What comes later for the endpoint that works is not held up by the queue that hangs either.
        await world.emit("xfr-late")
        await world.deliver.step()
        async with asyncio.timeout(10):
            while len(receiver.got) < 41:
                await asyncio.sleep(0.01)
        release.set()
        async with asyncio.timeout(10):
            while len(slow.got) < 41:
                await asyncio.sleep(0.01)
        await world.deliver.stop()
        assert len({body["data"]["transferRequest"]["id"] for body in slow.bodies}) == 41
        assert len(receiver.got) == 41


async def test_nothing_is_sent_twice_while_attempts_overlap(world: World, receiver: Receiver) -> None:
    pauses = random.Random(3)

    async def uneven() -> int:
        await asyncio.sleep(pauses.random() * 0.02)
        return 200

    receiver.reply = uneven
    target = await world.webhook(receiver.url)
    for number in range(150):
        await world.emit(f"xfr-{number}")
    stepping = True

    async def step_on() -> None:
        while stepping:
            await world.deliver.step()
            await asyncio.sleep(0)

    stepper = asyncio.create_task(step_on())
    async with asyncio.timeout(20):
        while await world.pending():
            await asyncio.sleep(0.02)
    stepping = False
    await stepper
    await world.deliver.idle()
    assert len(receiver.got) == 150
    assert len({body["id"] for body in receiver.bodies}) == 150
    rows, _ = await world.db.read(lambda unit: deliveries.list_events(unit, target.id, limit=500))
    assert {row.state for row in rows} == {"delivered"}


async def test_disabled_stops_retries_and_enabling_continues_them_without_a_burst(
    world: World, receiver: Receiver
) -> None:
    receiver.statuses = [500] * 10
    target = await world.webhook(receiver.url)
    await world.emit()
    await world.run()

    async def set_status(status: str) -> None:
        now = world.clock.now()
        await world.db.write(lambda unit: webhooks.update(unit, target.id, status=status, now=now))

    await set_status("Disabled")
    assert not await world.run(after=3 * HOUR)
    assert len(receiver.got) == 1
    await set_status("Enabled")
    assert await world.run()
    assert len(receiver.got) == 2, "the attempt that was due while it was disabled, once"
    assert not await world.run(after=MINUTE - 1)
    assert await world.run(after=1)
    assert [row.attempt for row in await world.attempts(target)] == [1, 2, 3]


async def test_disabling_stops_a_queue_that_is_running(world: World, receiver: Receiver) -> None:
    async def slowly() -> int:
        await asyncio.sleep(0.4)
        return 200

    receiver.reply = slowly
    target = await world.webhook(receiver.url)
    for number in range(60):
        await world.emit(f"xfr-{number}")
    await world.deliver.step()
    await asyncio.sleep(0.2)
    now = world.clock.now()
    await world.db.write(lambda unit: webhooks.update(unit, target.id, status="Disabled", now=now))
    await world.deliver.idle()
    assert 1 <= len(receiver.got) <= 16
    assert len(await world.pending()) == 60 - len(receiver.got)


async def test_deleting_closes_what_is_planned(world: World, receiver: Receiver) -> None:
    receiver.statuses = [500]
    target = await world.webhook(receiver.url)
    await world.emit()
    await world.run()
    assert len(await world.pending()) == 1
    now = world.clock.now()
    await world.db.write(lambda unit: webhooks.delete(unit, target.id, now=now))
    assert await world.pending() == []
    assert not await world.run(after=DAY)
    assert len(receiver.got) == 1
    reads: list[Callable[..., object]] = [webhooks.get, deliveries.list_events]
    for missing in reads:
        with pytest.raises(NotFound):
            await world.db.read(partial(missing, webhook_id=target.id))
    assert await world.db.read(lambda unit: webhooks.find(unit, target.id)) is None


async def test_stop_waits_for_what_is_in_flight_and_starts_nothing_more(world: World, receiver: Receiver) -> None:
    async def slowly() -> int:
        await asyncio.sleep(0.2)
        return 200

    target = await world.webhook(receiver.url)
    for number in range(8):  # it takes them, so that more and more are in flight at once
        await world.emit(f"xfr-first-{number}")
    await world.run()
    receiver.reply = slowly
    for number in range(30):
        await world.emit(f"xfr-{number}")
    await world.deliver.step()
    async with asyncio.timeout(5):
        while len(receiver.got) < 16:
            await asyncio.sleep(0.01)
    await world.deliver.stop()
    assert 16 <= len(receiver.got) < 38
    assert [row.state for row in await world.attempts(target)] == ["delivered"] * len(receiver.got)
    assert not await world.deliver.step()


async def test_private_addresses_are_refused_at_the_attempt_too(world: World, receiver: Receiver) -> None:
    await world.deliver.stop()
    world.deliver = world.start(allow=False)
    target = await world.webhook(receiver.url)
    await world.emit()
    await world.run()
    (row,) = await world.attempts(target)
    assert (row.state, row.status) == ("failed", "0")
    assert row.error == "the endpoint's address is not one that endpoints may have"
    assert receiver.got == []


async def test_a_ping_is_sent_signed_and_not_stored(world: World, receiver: Receiver) -> None:
    target = await world.webhook(receiver.url, "wallet.created")
    receiver.statuses = [200, 503]
    assert await world.deliver.ping(target) == {"status": "200"}
    assert await world.deliver.ping(target) == {"status": "503", "error": "the endpoint answered 503, not 200"}
    head, body = receiver.got[0]
    mac = hmac.new(target.secret.encode(), body, hashlib.sha256).hexdigest()
    assert head["x-dfns-webhook-signature"] == f"sha256={mac}"
    assert json.loads(body)["kind"] == "webhook.ping"
    assert await world.attempts(target) == []
    assert await world.db.read(lambda unit: unit.execute(sa.select(sa.func.count()).select_from(event)).scalar()) == 0


async def test_pages_and_filters_show_each_attempt_once(world: World, receiver: Receiver) -> None:
    receiver.statuses = [500, 500]
    target = await world.webhook(receiver.url)
    other = await world.webhook(receiver.url, "wallet.created")
    for number in range(7):
        await world.emit(f"xfr-{number}", "wallet.transfer.failed" if number % 2 else "wallet.transfer.confirmed")
        await world.run(after=number % 3)  # some share an instant

    seen: list[str] = []
    token: str | None = None
    while True:
        rows, token = await world.db.read(partial(deliveries.list_events, webhook_id=target.id, limit=3, token=token))
        seen += [row.id for row in rows]
        if token is None:
            break
    everything = await world.attempts(target)
    assert sorted(seen) == sorted(row.id for row in everything)
    assert len(seen) == 7

    async def count(**wanted: Any) -> int:
        rows, _ = await world.db.read(lambda unit: deliveries.list_events(unit, target.id, **wanted))
        return len(rows)

    assert await count(kind="wallet.transfer.failed") == 3
    assert await count(delivery_failed=True) == 2
    assert await count(delivery_failed=False) == 5
    assert await count(kind="wallet.created") == 0

    row = everything[0]
    assert await world.db.read(lambda unit: deliveries.get_event(unit, target.id, row.id)) == row
    planned = (await world.pending())[0].id
    for webhook_id, delivery_id in ((other.id, row.id), (target.id, "whe-none"), (target.id, planned)):
        with pytest.raises(NotFound):
            await world.db.read(partial(deliveries.get_event, webhook_id=webhook_id, delivery_id=delivery_id))

    page, token = await world.db.read(lambda unit: webhooks.page(unit, limit=1))
    rest, end = await world.db.read(lambda unit: webhooks.page(unit, limit=1, token=token))
    assert {page[0].id, rest[0].id} == {target.id, other.id}
    assert end is None
    for bad in ("x", "!!", "MS4", base64.urlsafe_b64encode(b"1.2.3").decode(), "9" * 500, "é"):
        with pytest.raises(InvalidInput):
            await world.db.read(partial(webhooks.page, token=bad))


async def test_the_secret_is_shown_by_create_alone(world: World, receiver: Receiver) -> None:
    target = await world.webhook(receiver.url)
    assert len(base64.b64decode(target.secret.removeprefix("whsec_"), validate=True)) == 32
    assert target.secret not in repr(target)
    assert "secret" not in target.document()
    now = world.clock.now() + SECOND
    changed = await world.db.write(
        lambda unit: webhooks.update(
            unit, target.id, url="https://example.com/", events=["wallet.created"], description="d", now=now
        )
    )
    assert changed.document() == {
        "id": target.id,
        "url": "https://example.com/",
        "events": ["wallet.created"],
        "status": "Enabled",
        "description": "d",
        "dateCreated": "2026-01-02T03:04:05.678Z",
        "dateUpdated": "2026-01-02T03:04:06.678Z",
    }
    with pytest.raises(NotFound):
        await world.db.write(lambda unit: webhooks.update(unit, "wh-none", status="Disabled", now=now))
