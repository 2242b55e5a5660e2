"""Deliveries: how many events a second reach an endpoint, and how late they are beside fifty dead ones.

The outbox is filled beforehand; from then on the step reads, builds, signs, sends and records. The reference is a loop
around aiohttp that sends as many bodies of the same kind, signed in advance, and keeps nothing.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.hook import Hook
from bench.product import create_database
from bench.rows import Row, percentiles
from bench.scenarios import Scenario
from bench.stand import Stand
from outlay.cli.playground import free_port
from outlay.core.event import encode_stored
from outlay.engine.deliver import IN_FLIGHT, Deliver
from outlay.engine.egress import Egress
from outlay.engine.leases import RENEW_S, Leases
from outlay.engine.loop import Loops
from outlay.engine.webhook_signature import headers
from outlay.store import deliveries, webhooks
from outlay.store.database import Database, Unit
from outlay.store.migrate import upgrade
from outlay.system import SystemClock, SystemEntropy, keep_what_is_loaded

KIND = "wallet.transfer.confirmed"
REFERENCE = "aiohttp alone: as many bodies, built and signed in advance"
DIFFERENCES = (
    "the reference reads no outbox, builds and signs nothing, records nothing and checks no address; both have"
    f" {IN_FLIGHT} requests in flight"
)
LOT = 500
WARM = 20
"""Events before any is timed: until then it is not known yet which endpoints are dead."""
LOOK_S = 0.05
"""Pause between looks for what is due, as ``outlay serve`` makes it on SQLite."""
_HUNG_S = 15.0


def measure(scenario: Scenario, stand: Stand) -> list[Row]:
    """Measure product and reference in turns, on every database."""
    quiet = structlog.get_config()["wrapper_class"]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    keep_what_is_loaded()  # as a server does; it helps both sides
    try:
        return [row for database in stand.databases for row in asyncio.run(_on(scenario, stand, database))]
    finally:
        structlog.configure(wrapper_class=quiet)


async def _on(scenario: Scenario, stand: Stand, database: str) -> list[Row]:
    folder = stand.folder / f"deliveries-{database}"
    folder.mkdir()
    count, faults = scenario.number("events"), []
    rates: list[float] = []
    plain: list[float] = []
    for turn in range(scenario.number("rounds")):
        async with _outbox(stand, database, folder, str(turn)) as outbox:
            rate, wrong = await _deliver_all(outbox, stand.hook, count)
            rates.append(rate)
            faults += wrong
        rate, wrong = await _send_plainly(stand.hook, count)
        plain.append(rate)
        faults += wrong
    late: list[list[float]] = []
    alone: list[list[float]] = []
    for turn in range(scenario.number("late_rounds")):
        for dead, times in ((0, alone), (scenario.number("dead"), late)):
            async with _outbox(stand, database, folder, f"late-{turn}-{dead}") as outbox:
                found, wrong = await _pace(outbox, dead, WARM + scenario.number("paced"), scenario.real("every_s"))
                times.append(found)
                faults += wrong
    return [
        Row(
            key="deliveries.rate",
            name="deliveries of signed events",
            unit="events/s",
            database=database,
            rounds=rates,
            reference=REFERENCE,
            reference_rounds=plain,
            target=scenario.target("rate"),
            faults=faults,
            details={"differences": DIFFERENCES},
        ),
        Row(
            key="deliveries.late",
            name=f"p99 of a healthy endpoint beside {scenario.number('dead')} dead ones",
            unit="ms",
            database=database,
            rounds=[percentiles(times).get("p99_ms", 0.0) for times in late],
            reference="the same alone",
            reference_rounds=[percentiles(times).get("p99_ms", 0.0) for times in alone],
            target=scenario.target("late"),
            faults=faults,
            details={
                "beside": percentiles([each for times in late for each in times]),
                "alone": percentiles([each for times in alone for each in times]),
            },
        ),
    ]


class _Outbox:
    """A database with endpoints, and the step that empties it."""

    def __init__(self, where: Path | str) -> None:
        self.db, self.clock, self.entropy = Database(where), SystemClock(), SystemEntropy()
        self.key = Ed25519PrivateKey.generate()
        self.leases = Leases(self.db, self.clock, holder="bench")
        egress = Egress(allow_private_addresses=True)
        self.deliver = Deliver(self.db, self.clock, self.entropy, egress, signing_key=self.key, leases=self.leases)

    async def hook(self, url: str) -> webhooks.Webhook:
        """Register an endpoint."""
        now = self.clock.now()
        return await self.db.write(
            lambda unit: webhooks.create(unit, url=url, events=[KIND], now=now, entropy=self.entropy)
        )

    async def emit(self, first: int, count: int) -> list[str]:
        """Let something happen to each of ``count`` payouts; return the events' ids."""
        raised = [
            webhooks.Raised(kind=KIND, subject=f"xfr-{number}", data=_data(number))
            for number in range(first, first + count)
        ]
        now = self.clock.now()
        return await self.db.write(lambda unit: webhooks.emit_many(unit, raised, now=now, entropy=self.entropy))


@contextlib.asynccontextmanager
async def _outbox(stand: Stand, database: str, folder: Path, name: str) -> AsyncIterator[_Outbox]:
    where = create_database(stand.server) if database == "postgresql" else folder / f"{name}.db"
    upgrade(where)
    outbox = _Outbox(where)
    try:
        yield outbox
    finally:
        await outbox.deliver.stop()
        outbox.db.close()


async def _deliver_all(outbox: _Outbox, hook: Hook, count: int) -> tuple[float, list[str]]:
    target = await outbox.hook(hook.url)
    hook.begin(target.secret)
    for first in range(0, count, LOT):
        await outbox.emit(first, min(LOT, count - first))
    await outbox.leases.take(f"deliver/{target.id}")
    began = time.perf_counter()

    def left(unit: Unit) -> int:
        return len(deliveries.waiting(unit, now=outbox.clock.now()))

    while await outbox.db.read(left):
        await outbox.deliver.step()
        await outbox.deliver.idle()
        await outbox.leases.step()
    took_s = time.perf_counter() - began
    return count / took_s, hook.check(count)


async def _send_plainly(hook: Hook, count: int) -> tuple[float, list[str]]:
    secret, key = "whsec_" + "A" * 43 + "=", Ed25519PrivateKey.generate()
    hook.begin(secret)
    bodies = [_body(number) for number in range(count)]
    left = [
        (body, headers(secrets=[secret], key=key, webhook_id=f"evt-{number}", timestamp=1, body=body))
        for number, body in enumerate(bodies)
    ]

    async def work(session: aiohttp.ClientSession) -> None:
        while left:
            body, signed = left.pop()
            async with session.post(hook.url, data=body, headers=signed) as answer:
                await answer.read()

    async with aiohttp.ClientSession() as session:
        began = time.perf_counter()
        await asyncio.gather(*(work(session) for _ in range(IN_FLIGHT)))
        took_s = time.perf_counter() - began
    return count / took_s, hook.check(count)


async def _pace(outbox: _Outbox, dead: int, count: int, every_s: float) -> tuple[list[float], list[str]]:
    """Return how long each event was on its way to the endpoint that works, seconds, and what went wrong."""
    arrived: dict[str, float] = {}
    raised: dict[str, float] = {}

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(_header(head, b"content-length")))
                arrived.setdefault(_header(head, b"webhook-id").decode(), time.perf_counter())
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(_header(head, b"content-length")))
                writer.write(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n")

    async def hang(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.CancelledError):  # at the end: a traceback for each would bury the figures
            await asyncio.sleep(_HUNG_S)
        writer.close()

    async with contextlib.AsyncExitStack() as stack:
        urls = []
        for handler in (take, hang, refuse):
            server = await stack.enter_async_context(await asyncio.start_server(handler, "127.0.0.1", 0))
            urls.append(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook")
        well, *poor = [*urls, f"http://127.0.0.1:{free_port()}/hook"]
        for number in range(dead):
            await outbox.hook(poor[number % len(poor)])
        await outbox.hook(well)
        loops = Loops()
        loops.start([("deliver", outbox.deliver.step, LOOK_S), ("leases", outbox.leases.step, RENEW_S)])
        for number in range(count):
            (event_id,) = await outbox.emit(number, 1)
            raised[event_id] = time.perf_counter()
            await asyncio.sleep(every_s)
        deadline = time.perf_counter() + 10
        while len(arrived) < count and time.perf_counter() < deadline:
            await asyncio.sleep(LOOK_S)
        await loops.stop()
        await outbox.deliver.stop()
    lost = [f"{count - len(arrived)} of {count} events did not arrive beside {dead} dead endpoints"]
    times = [arrived[name] - at for name, at in list(raised.items())[WARM:] if name in arrived]
    return times, [] if set(arrived) == set(raised) else lost


def _header(head: bytes, name: bytes) -> bytes:
    return head.split(b"\r\n" + name + b":", 1)[1].split(b"\r\n", 1)[0].strip()


def _data(number: int) -> dict[str, Any]:
    """Return the payload of a payout's event, as large as a real one."""
    return {
        "transferRequest": {
            "id": f"xfr-{number}",
            "walletId": "wa-1vs8g-c1ub1-9m2q6m8vloghg1p5",
            "network": "EthereumSepolia",
            "requester": {"userId": "us-1vs8g-c1ub1-9m2q6m8vloghg1p5"},
            "requestBody": {
                "kind": "Erc20",
                "contract": "0x" + "ab" * 20,
                "to": "0x" + "cd" * 20,
                "amount": "1000000",
                "externalId": f"payroll-{number}",
            },
            "metadata": {"asset": {"symbol": "USDC", "decimals": 6, "verified": False, "quotes": {"USD": "1"}}},
            "status": "Confirmed",
            "txHash": "0x" + "ef" * 32,
            "fee": "21000000000",
            "dateRequested": "2026-01-02T03:04:05.678Z",
            "dateBroadcasted": "2026-01-02T03:04:06.678Z",
            "dateConfirmed": "2026-01-02T03:04:18.678Z",
        }
    }


def _body(number: int) -> bytes:
    return encode_stored(
        delivery_id=f"whe-{number}",
        kind=KIND,
        raised_at=0,
        data=json.dumps(_data(number), separators=(",", ":")),
        sent_at=0,
        attempt=1,
        retry_of=None,
        subject=f"xfr-{number}",
        sequence=1,
    )
