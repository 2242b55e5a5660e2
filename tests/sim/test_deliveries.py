"""Days of deliveries in virtual time: nothing is lost in a long outage, and dead endpoints delay no other."""

import asyncio
import collections
import json
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from outlay.core.seams import DAY, HOUR, SECOND, Instant
from outlay.engine import leases as leases_module
from outlay.engine.deliver import Deliver
from outlay.engine.egress import Answer
from outlay.engine.leases import Leases
from outlay.store import deliveries, webhooks
from outlay.store.schema import delivery, metadata
from tests.sim.database import Disk, SimDatabase
from tests.sim.loop import Process, VirtualLoop

START: Instant = 1_800_000_000_000_000
KEY = Ed25519PrivateKey.from_private_bytes(b"\x09" * 32)
TAKEN = Answer(status="200", error=None)
REFUSED = Answer(status="0", error="the endpoint could not be reached")
LATE = Answer(status="0", error="the endpoint did not answer in time")


class Clock:
    """The loop's time."""

    def now(self) -> Instant:
        return START + int(asyncio.get_running_loop().time() * SECOND)


class Entropy:
    """The same bytes in every run."""

    def __init__(self) -> None:
        self._random = random.Random(11)

    def token(self, size: int) -> bytes:
        return self._random.randbytes(size)


class Network:
    """Endpoints by URL: each says how long an attempt takes and what becomes of it."""

    def __init__(self) -> None:
        self.endpoints: dict[str, Callable[[], tuple[float, Answer]]] = {}
        self.arrived: dict[str, list[tuple[float, str]]] = collections.defaultdict(list)  # time and webhook-id
        self.flying: collections.Counter[str] = collections.Counter()
        self.most: collections.Counter[str] = collections.Counter()  # in flight at once
        self.tried: collections.Counter[str] = collections.Counter()

    async def post(self, url: str, body: bytes, headers: dict[str, str]) -> Answer:
        takes_s, answer = self.endpoints[url]()
        self.tried[url] += 1
        self.flying[url] += 1
        self.most[url] = max(self.most[url], self.flying[url])
        await asyncio.sleep(takes_s)
        self.flying[url] -= 1
        if answer.ok:
            assert json.loads(body)["sequence"] == 1
            self.arrived[url].append((asyncio.get_running_loop().time(), headers["webhook-id"]))
        return answer

    async def close(self) -> None:
        return


class Days:
    """One process that delivers, in virtual time."""

    def __init__(self, **how: Any) -> None:
        disk = Disk()
        metadata.create_all(disk.engine)
        process = Process("worker")
        self.db = SimDatabase(disk, process, random.Random(12), lambda _: None, lambda: None)
        self.clock, self.entropy, self.network = Clock(), Entropy(), Network()
        self._leases = Leases(self.db, self.clock, holder="one")
        egress: Any = self.network
        self.deliver = Deliver(self.db, self.clock, self.entropy, egress, signing_key=KEY, leases=self._leases, **how)
        self.raised: dict[str, float] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, *, look_s: float, renew_s: float) -> None:
        """Look every so many seconds for what is due, and renew leases."""

        async def forever(step: Callable[[], Coroutine[Any, Any, bool]], pause_s: float) -> None:
            while True:
                await step()
                await asyncio.sleep(pause_s)

        self._tasks = [
            asyncio.create_task(forever(self.deliver.step, look_s)),
            asyncio.create_task(forever(self._leases.step, renew_s)),
        ]

    async def stop(self) -> None:
        """End the loops, then what is in flight."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.deliver.stop()

    async def hook(self, url: str, endpoint: Callable[[], tuple[float, Answer]], *kinds: str) -> str:
        """Register an endpoint; return its id."""
        self.network.endpoints[url] = endpoint
        made = await self.db.write(
            lambda unit: webhooks.create(
                unit, url=url, events=kinds or ("*",), now=self.clock.now(), entropy=self.entropy
            )
        )
        return made.id

    async def emit(self, number: int) -> None:
        """Let something happen."""
        event_id = await self.db.write(
            lambda unit: webhooks.emit(
                unit,
                kind="wallet.transfer.confirmed",
                subject=f"xfr-{number}",
                data={"transferRequest": {"id": f"xfr-{number}"}},
                now=self.clock.now(),
                entropy=self.entropy,
            )
        )
        self.raised[event_id] = asyncio.get_running_loop().time()

    async def states(self, webhook_id: str) -> dict[str, str]:
        """Return how the last attempt of each event stands."""

        def read(unit: sa.Connection) -> dict[str, str]:
            mine = sa.select(delivery).where(delivery.c.webhook_id == webhook_id).order_by(delivery.c.attempt)
            return {
                row.event_id: "parked" if row.state == "failed" and row.next_attempt_at is None else row.state
                for row in unit.execute(mine)
            }

        return await self.db.read(read)


def run(doing: Coroutine[Any, Any, None]) -> None:
    loop = VirtualLoop()
    try:
        loop.run_until_complete(doing)
    finally:
        loop.close()


def seconds(span: Instant) -> float:
    return span / SECOND


def ids(arrived: list[tuple[float, str]]) -> list[str]:
    return [name for _, name in arrived]


def test_nothing_is_lost_in_three_days_of_outage_and_what_was_given_up_is_in_sight(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leases_module, "TTL_S", 3600.0)
    outage_s = seconds(72 * HOUR)

    async def story() -> None:
        days = Days()
        time = asyncio.get_running_loop().time
        network = days.network
        well = await days.hook("well", lambda: (0.05, TAKEN))
        down = await days.hook("down", lambda: (0.01, REFUSED) if time() < outage_s else (0.05, TAKEN))
        hangs = await days.hook("hangs", lambda: (10.0, LATE) if time() < outage_s else (0.05, TAKEN))
        days.start(look_s=300, renew_s=900)
        for number in range(36):
            await days.emit(number)
            await asyncio.sleep(seconds(2 * HOUR))
        await asyncio.sleep(outage_s - 1 - time())

        for broken in (down, hangs):
            states = await days.states(broken)
            assert set(states) == set(days.raised)
            assert set(states.values()) == {"pending", "parked"}
            shown = {row.event_id for row in await days.db.read(lambda unit: deliveries.parked(unit, limit=999))}
            assert {name for name, state in states.items() if state == "parked"} <= shown
            # A schedule of a day: what happened on the third day was never given up.
            early = {name for name, at in days.raised.items() if at < outage_s - seconds(DAY + HOUR)}
            assert early <= {name for name, state in states.items() if state == "parked"}
        assert sorted(ids(network.arrived["well"])) == sorted(days.raised)

        await asyncio.sleep(seconds(30 * HOUR))
        for url, broken in (("down", down), ("hangs", hangs)):
            states = await days.states(broken)
            assert set(states.values()) == {"delivered", "parked"}
            given_up = [name for name, state in states.items() if state == "parked"]

            def again(unit: sa.Connection, broken: str = broken) -> int:
                events = deliveries.parked_events(unit, broken, limit=1000)
                return deliveries.replay(
                    unit, webhooks.get(unit, broken), events, now=days.clock.now(), entropy=days.entropy
                )

            assert await days.db.write(again) == len(given_up) > 20
            await asyncio.sleep(600)
            assert set((await days.states(broken)).values()) == {"delivered"}
            assert sorted(ids(network.arrived[url])) == sorted(days.raised), "each once"
        assert set((await days.states(well)).values()) == {"delivered"}
        assert max(at - days.raised[name] for at, name in network.arrived["well"]) < 301
        await days.stop()

    run(story())


def test_fifty_dead_endpoints_delay_a_healthy_one_by_nothing() -> None:
    """Each hangs to the limit, refuses, or answers an error: 99 of 100 events arrive as soon as without them."""

    def late(times_s: list[float]) -> float:
        return sorted(times_s)[len(times_s) * 99 // 100]

    def measure(dead: int) -> float:
        waited: list[float] = []

        async def story() -> None:
            days = Days()
            answers = [(10.0, LATE), (0.0, REFUSED), (0.2, Answer(status="500", error="no"))]
            for number in range(dead):
                answer = answers[number % 3]
                await days.hook(f"dead-{number}", lambda answer=answer: answer)  # type: ignore[misc]
            await days.hook("well", lambda: (0.01, TAKEN))
            days.start(look_s=0.05, renew_s=2)
            for number in range(60):
                await days.emit(number)
                await asyncio.sleep(0.1)
            await asyncio.sleep(5)
            waited.extend(at - days.raised[name] for at, name in days.network.arrived["well"])
            for number in range(dead):
                assert days.network.most[f"dead-{number}"] == 1
                # It is asked now and then whether it is back, and costs little.
                assert 1 <= days.network.tried[f"dead-{number}"] <= 30
            await days.stop()

        run(story())
        assert len(waited) == 60
        return late(waited)

    alone, beside = measure(0), measure(50)
    assert beside <= 1.5 * alone, (alone, beside)


def test_an_endpoint_that_took_nothing_for_days_is_switched_off_and_comes_back_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leases_module, "TTL_S", 3600.0)
    works = False

    async def story() -> None:
        nonlocal works
        days = Days(disable_after_s=5 * 86_400)
        down = await days.hook("down", lambda: (0.1, TAKEN if works else REFUSED))
        heard = await days.hook("heard", lambda: (0.1, TAKEN), "webhook.disabled")
        days.start(look_s=300, renew_s=900)
        for number in range(21):
            await days.emit(number)
            await asyncio.sleep(seconds(6 * HOUR))
            status = (await days.db.read(lambda unit: webhooks.get(unit, down))).status
            assert status == ("Enabled" if number < 20 else "Disabled"), number
        shown = (await days.db.read(lambda unit: webhooks.get(unit, down))).document()
        assert "every attempt has failed since" in shown["disabledReason"]
        assert set((await days.states(heard)).values()) == {"delivered"}
        assert len(days.network.arrived["heard"]) == 1
        tried = days.network.tried["down"]
        await asyncio.sleep(seconds(3 * DAY))
        assert days.network.tried["down"] == tried, "nothing is sent while it is off"
        before = await days.states(down)
        assert "pending" in before.values() and "parked" in before.values()

        works = True
        now = days.clock.now()
        await days.db.write(lambda unit: webhooks.update(unit, down, status="Enabled", now=now))
        await asyncio.sleep(seconds(2 * HOUR))
        after = await days.states(down)
        assert {name: "delivered" if state == "pending" else state for name, state in before.items()} == after
        assert (await days.db.read(lambda unit: webhooks.get(unit, down))).failing_since is None
        await days.stop()

    run(story())
