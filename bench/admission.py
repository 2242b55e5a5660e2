"""HTTP admission: how many payouts a second are judged, stored and answered, through the contract's three calls."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from bench.machine import cpu_s
from bench.organization import look, payouts, prepare, served
from bench.rows import Row
from bench.servers import DATABASE, PUBLIC_KEY, payout
from bench.wire import Connection, Payer, Tally, drive
from outlay.cli.playground import Deployment, configuration, free_port
from outlay.core.transfer import State
from outlay.layout import Layout
from outlay.store.database import Row as Found
from outlay.store.database import Unit
from outlay.store.schema import transfer

CONNECTIONS = 32
REFERENCE = "same framework, reader, calls and verifications; one group-committed insert"
DIFFERENCES = (
    "the reference checks no bearer, permission, policy, velocity, intent or price, binds nothing to the challenge,"
    " keeps its tokens in memory and stores one row; the product's engine does not run"
)


@dataclass(slots=True)
class Side:
    """One of the two servers, and what it came to."""

    payer: Payer
    pid: int
    bodies: Iterator[tuple[str, int, bytes]]
    handshakes: list[Tally] = field(default_factory=list)
    thirds: list[Tally] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)  #: processor time of the server for one whole handshake
    accepted: set[str] = field(default_factory=set)
    answers: int = 0

    def keep(self, transfer_id: str) -> None:
        """Count an accepted payout."""
        self.answers += 1
        self.accepted.add(transfer_id)


def measure(folder: Path, *, rounds: int, seconds: float) -> list[Row]:
    """Measure both servers in turns.

    Args:
        folder: where their directories are made.
        rounds: how often each is measured.
        seconds: how long one stretch takes.
    """
    port, other = free_port(), free_port()
    text = configuration(port=port, rpc_url="http://127.0.0.1:9", token="0x" + "11" * 20)
    deployment, made = Deployment.initialize(folder / "product", text, port, preset="standard")
    with served("product", deployment.directory, port) as (url, pid):
        payer, public = prepare(url, made)
        directory = folder / "reference"
        directory.mkdir()
        (directory / PUBLIC_KEY).write_text(public)
        with served("reference", directory, other) as (reference_url, reference_pid):
            ours = Side(payer, pid, payouts("p"))
            theirs = Side(replace(payer, url=reference_url), reference_pid, payouts("r"))
            for _ in range(rounds):
                for side in (ours, theirs):
                    asyncio.run(_stretch(side, seconds))
    faults = [fault for side in (ours, theirs) for tally in (*side.handshakes, *side.thirds) for fault in tally.faults]
    faults += _check_product(ours, Layout(deployment.directory).database)
    faults += _check_reference(theirs, directory / DATABASE)
    return [
        _row("admission, three calls", "handshakes", ours, theirs, faults),
        _row("admission, third call alone", "thirds", ours, theirs, faults),
    ]


async def _stretch(side: Side, seconds: float) -> None:
    """Measure whole handshakes; then sign payouts in advance and measure their third calls alone."""
    payer = side.payer
    signed: list[tuple[bytes, str]] = []

    def whole() -> Iterator[Callable[[Connection], Awaitable[None]]]:
        for _, _, body in side.bodies:

            async def job(line: Connection, body: bytes = body) -> None:
                side.keep(await payer.pay(line, body, await payer.sign(line, body)))

            yield job

    def first_two() -> Iterator[Callable[[Connection], Awaitable[None]]]:
        for _, _, body in side.bodies:

            async def job(line: Connection, body: bytes = body) -> None:
                signed.append((body, await payer.sign(line, body)))

            yield job

    def third() -> Iterator[Callable[[Connection], Awaitable[None]]]:
        for body, action in signed:

            async def job(line: Connection, body: bytes = body, action: str = action) -> None:
                side.keep(await payer.pay(line, body, action))

            yield job

    before = cpu_s(side.pid)
    side.handshakes.append(await drive(payer.url, whole(), connections=CONNECTIONS, seconds=seconds))
    side.cpu_ms.append((cpu_s(side.pid) - before) * 1e3 / max(1, side.handshakes[-1].done))
    prepared = await drive(payer.url, first_two(), connections=CONNECTIONS, seconds=seconds)
    side.thirds.append(await drive(payer.url, third(), connections=CONNECTIONS))
    side.thirds[-1].faults += prepared.faults


def _check_product(side: Side, database: Path) -> list[str]:
    """Every answered payout is stored once and allowed, and nothing else is."""

    def count(unit: Unit) -> list[Found]:
        return list(unit.execute(sa.select(transfer.c.id, transfer.c.external_id, transfer.c.state)))

    rows = look(database, count)
    return _compare(
        side,
        stored={row.id for row in rows},
        external={row.external_id for row in rows},
        other=sum(row.state != State.READY for row in rows),
    )


def _check_reference(side: Side, database: Path) -> list[str]:
    rows = look(database, lambda unit: list(unit.execute(sa.select(payout.c.id, payout.c.external_id))))
    return _compare(side, stored={row.id for row in rows}, external={row.external_id for row in rows}, other=0)


def _compare(side: Side, *, stored: set[str], external: set[str], other: int) -> list[str]:
    faults = []
    if len(side.accepted) != side.answers:
        faults.append(f"{side.answers} answers named {len(side.accepted)} payouts")
    if stored != side.accepted or len(external) != len(stored):
        faults.append(f"{len(side.accepted)} payouts were accepted and {len(stored)} are stored")
    if other:
        faults.append(f"{other} payouts were not allowed: this would not measure admission")
    return faults


def _row(name: str, which: str, ours: Side, theirs: Side, faults: list[str]) -> Row:
    mine: list[Tally] = getattr(ours, which)
    others: list[Tally] = getattr(theirs, which)
    details: dict[str, Any] = {
        "connections": CONNECTIONS,
        "payouts": sum(tally.done for tally in mine),
        "time of one": mine[len(mine) // 2].percentiles_ms(),
        "reference's time of one": others[len(others) // 2].percentiles_ms(),
        "processor time of a whole handshake, ms": [round(each, 2) for each in ours.cpu_ms],
        "reference's": [round(each, 2) for each in theirs.cpu_ms],
        "unequal": DIFFERENCES,
    }
    return Row(
        name=name,
        unit="payouts/s",
        rounds=[tally.rate for tally in mine],
        reference=REFERENCE,
        reference_rounds=[tally.rate for tally in others],
        faults=faults,
        details=details,
    )
