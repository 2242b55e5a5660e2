"""HTTP admission: how many payouts a second are judged, stored and answered; one process, nothing is sent.

One by one and in batches of a thousand, each request signed in advance: what is measured is the server. The contract's
three calls are reported beside it.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from bench import signing, units
from bench.machine import cpu_s
from bench.paying import Asked, Payer, Payout, Request, ask, ask_by_handshake, payouts
from bench.processes import Running, listening
from bench.product import Product, create_database
from bench.rows import Row, percentiles
from bench.scenarios import Scenario
from bench.servers import DATABASE, PUBLIC_KEY, payout
from bench.stand import Stand
from outlay.cli.playground import free_port
from outlay.core.transfer import State
from outlay.store.database import GROUP_MAX, Database, Unit
from outlay.store.schema import transfer

REFERENCE = "same framework, reader and one verification; one group-committed insert"
DIFFERENCES = (
    "the reference checks no permission, policy, velocity, intent, nonce or price, keeps no evidence and no event, and"
    " stores one row; the product's engine does not run"
)
HANDSHAKE_DIFFERENCES = "the reference verifies twice as the product does and keeps challenges and tokens in memory"
FIRST_GUESS = 1_000.0
"""Requests a second that are signed in advance for the first stretch; later ones go by the last."""
MOST = 3
"""How many times the last rate is signed in advance, so that a stretch does not run dry."""
GROUP = 100
"""Payouts in the groups of the raw unit that batches stand beside."""
WAITING = GROUP_MAX
"""Units that wait for the product's writer at once, for one wallet's row."""
HOT_DIFFERENCES = (
    "what is written is the same; the committer is given units that wait for it together and does five statements for"
    " all of them, row by row does five for each payout and locks the wallet's total in a transaction of its own, as a"
    " cap that holds demands"
)
WHOLE_DIFFERENCES = (
    "row by row nothing is authenticated, judged by policies or priced, and three rows are written for a payout instead"
    " of all that an audit asks for"
)


@dataclass(slots=True)
class _Hot:
    """What PostgreSQL does with units that all want the row of one wallet, payouts a second."""

    row_by_row: dict[int, list[float]]  #: by connections
    committed: list[float] = field(default_factory=list)  #: through the product's writer


@dataclass(slots=True)
class Side:
    """One of the two servers, and what it came to."""

    payer: Payer
    running: Running
    wanted: Iterator[Payout]
    singles: list[Asked] = field(default_factory=list)
    handshakes: list[Asked] = field(default_factory=list)
    batches: list[Asked] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)  #: processor time of the server for one single request
    batch_cpu_ms: list[float] = field(default_factory=list)  #: the same for one row of a batch

    def signed(self, count: int) -> Iterator[Request]:
        """Return requests, signed in advance."""
        return iter([self.payer.single(each) for each in itertools.islice(self.wanted, count)])

    def all(self) -> list[Asked]:
        """Return everything that was asked."""
        return [*self.singles, *self.handshakes, *self.batches]


def measure(scenario: Scenario, stand: Stand) -> list[Row]:
    """Measure product and reference in turns, on every database."""
    rows = []
    for database in stand.databases:
        rows += _on(scenario, stand, database)
    return rows


def _on(scenario: Scenario, stand: Stand, database: str) -> list[Row]:
    product = stand.product(database)
    product.start()
    payer, _ = product.prepare()
    product.stop()
    folder = stand.folder / f"reference-{database}"
    folder.mkdir()
    (folder / PUBLIC_KEY).write_text(payer.public_key)
    url = create_database(stand.server) if database == "postgresql" else ""
    rounds = scenario.number("rounds")
    raw: dict[int, list[float]] = {group: [] for group in scenario.numbers("groups")}
    hot = _Hot({number: [] for number in scenario.numbers("hot_connections")})
    with (
        listening(
            stand.folder, "bench.servers", "product", str(product.deployment.directory), port=product.port
        ) as ours_running,
        listening(
            stand.folder, "bench.servers", "reference", str(folder), *([url] if url else []), port=free_port()
        ) as theirs_running,
    ):
        ours = Side(payer, ours_running, payouts("p"))
        theirs = Side(payer.at(theirs_running.url), theirs_running, payouts("r"))
        for _ in range(rounds):
            for side in (ours, theirs):
                _stretch(scenario, side)
            _batches(scenario, ours)
            _raw(scenario, stand, database, raw, hot)
        verified = signing.verifications(rounds, scenario.real("unit_seconds"))
    faults = _check(ours, lambda: _stored(product))
    faults += _check(theirs, lambda: _kept(url or folder / DATABASE))
    row = _maker(scenario, database, faults)
    return [
        *_single_rows(row, scenario.number("connections"), ours, theirs, verified),
        *_batch_rows(row, scenario.number("batch"), ours, raw, hot),
    ]


def _stretch(scenario: Scenario, side: Side) -> None:
    """Measure single requests, then the contract's three calls."""
    seconds, connections = scenario.real("seconds"), scenario.number("connections")
    guess = MOST * side.singles[-1].tally.rate if side.singles else FIRST_GUESS
    if not side.singles:
        # Plans, caches and connections are warm before anything counts.
        warm = asyncio.run(ask(side.payer.url, side.signed(200), connections=connections))
        side.singles.append(warm)
        guess = MOST * warm.tally.rate
    requests = side.signed(int(guess * seconds))
    before = cpu_s([side.running.pid])
    asked = asyncio.run(ask(side.payer.url, requests, connections=connections, seconds=seconds))
    side.cpu_ms.append((cpu_s([side.running.pid]) - before) * 1e3 / max(1, asked.tally.done))
    side.singles.append(asked)
    asked = asyncio.run(ask_by_handshake(side.payer, side.wanted, connections=connections, seconds=seconds))
    side.handshakes.append(asked)


def _batches(scenario: Scenario, side: Side) -> None:
    size, count = scenario.number("batch"), scenario.number("batches")
    requests = [side.payer.batch(list(itertools.islice(side.wanted, size))) for _ in range(count)]
    before = cpu_s([side.running.pid])
    side.batches.append(asyncio.run(ask(side.payer.url, requests, connections=2)))
    side.batch_cpu_ms.append((cpu_s([side.running.pid]) - before) * 1e3 / (size * count))


def _raw(scenario: Scenario, stand: Stand, database: str, raw: dict[int, list[float]], hot: _Hot) -> None:
    """Measure the least a database has to do, in groups; on PostgreSQL also on one wallet's row."""
    seconds, groups = scenario.real("unit_seconds"), scenario.numbers("groups")
    if database == "sqlite":
        found = units.sqlite_units(stand.folder, groups, rounds=1, seconds=seconds)
    else:
        found = units.postgresql_units(stand.server.url, groups, rounds=1, seconds=seconds)
        for connections, rates in hot.row_by_row.items():
            rates += units.row_by_row(stand.server.url, connections, rounds=1, seconds=seconds)
        hot.committed += units.committed(stand.server.url, WAITING, rounds=1, seconds=seconds)
    for group, rates in found.items():
        raw[group] += rates


def _stored(product: Product) -> tuple[set[str], set[str], int]:
    """Return ids and external ids of what is stored, and how many are not ready."""
    columns = sa.select(transfer.c.id, transfer.c.external_id, transfer.c.state)
    rows = product.read(lambda unit: list(unit.execute(columns)))
    return {row.id for row in rows}, {row.external_id for row in rows}, sum(row.state != State.READY for row in rows)


def _kept(where: Path | str) -> tuple[set[str], set[str], int]:
    def look(unit: Unit) -> list[Any]:
        return list(unit.execute(sa.select(payout.c.id, payout.c.external_id)))

    database = Database(where)
    try:
        rows = asyncio.run(database.read(look))
    finally:
        database.close()
    return {row.id for row in rows}, {row.external_id for row in rows}, 0


def _check(side: Side, look: Callable[[], tuple[set[str], set[str], int]]) -> list[str]:
    """Every answered payout is stored once and allowed, and nothing else is."""
    faults = [fault for asked in side.all() for fault in asked.tally.faults]
    answered = [payout_id for asked in side.all() for payout_id in asked.ids]
    stored, external, other = look()
    if len(set(answered)) != len(answered):
        faults.append(f"{len(answered)} answers named {len(set(answered))} payouts")
    if stored != set(answered) or len(external) != len(stored):
        faults.append(f"{len(set(answered))} payouts were accepted and {len(stored)} are stored")
    if other:
        faults.append(f"{other} payouts were not allowed: this would not measure admission")
    return faults


def _maker(scenario: Scenario, database: str, faults: list[str]) -> Callable[..., Row]:
    def row(key: str, name: str, rounds: list[float], reference: str, beside: list[float], **details: Any) -> Row:
        return Row(
            key=f"admission.{key}",
            name=name,
            unit="payouts/s",
            database=database,
            rounds=rounds,
            reference=reference,
            reference_rounds=beside,
            target=scenario.target(key),
            faults=faults,
            details=details,
        )

    return row


def _times(asked: list[Asked]) -> dict[str, float]:
    return percentiles([second for each in asked for second in each.tally.times_s])


def _single_rows(
    row: Callable[..., Row], connections: int, ours: Side, theirs: Side, verified: list[float]
) -> list[Row]:
    measured, beside = ours.singles[1:], theirs.singles[1:]
    rates = [each.tally.rate for each in measured]
    name = "admission, one signed request each"
    details = {
        "connections": connections,
        "payouts": sum(each.tally.done for each in measured),
        "time of one": _times(measured),
        "reference's time of one": _times(beside),
        "processor time of one, ms": [round(each, 3) for each in ours.cpu_ms],
        "reference's": [round(each, 3) for each in theirs.cpu_ms],
        "unequal": DIFFERENCES,
    }
    return [
        row("single", name, rates, REFERENCE, [each.tally.rate for each in beside], **details),
        row("verify", name, rates, "one Ed25519 verification a payout", verified),
        row(
            "handshake",
            "admission, the contract's three calls",
            [each.tally.rate for each in ours.handshakes],
            "the same three calls of the reference",
            [each.tally.rate for each in theirs.handshakes],
            unequal=HANDSHAKE_DIFFERENCES,
        ),
    ]


def _batch_rows(row: Callable[..., Row], size: int, ours: Side, raw: dict[int, list[float]], hot: _Hot) -> list[Row]:
    rates = [len(each.ids) / each.tally.elapsed_s for each in ours.batches]
    group = GROUP if GROUP in raw else max(raw)
    details = {
        "payouts a request": size,
        "time of a request": _times(ours.batches),
        "processor time of one payout, ms": [round(each, 3) for each in ours.batch_cpu_ms],
        **{f"raw unit in groups of {size}": figures for size, figures in raw.items()},
    }
    reference = f"raw SQL payout unit, groups of {group}"
    found = [row("batch", "admission, batches", rates, reference, raw[group], **details)]
    if hot.committed:
        rowwise = hot.row_by_row
        best = max(rowwise, key=lambda connections: sum(rowwise[connections]))
        details = {f"row by row over {connections} connections": figures for connections, figures in rowwise.items()}
        reference = f"row-by-row units on one wallet's row, {best} connections"
        name = f"one hot wallet, {WAITING} units waiting for the committer"
        found.append(row("hot", name, hot.committed, reference, rowwise[best], unequal=HOT_DIFFERENCES, **details))
        name = "one hot wallet, whole payouts in batches over HTTP"
        found.append(row("whole", name, rates, reference, rowwise[best], unequal=WHOLE_DIFFERENCES))
    return found
