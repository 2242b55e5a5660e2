"""Many payouts, one after the other, with the memory of every process sampled meanwhile."""

import itertools
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from bench import stages
from bench.confirmed import ENDS, POLL_S, fund
from bench.history import size_mb
from bench.machine import memory_mb
from bench.node import check_payments, until
from bench.paying import Payout, pay, payouts
from bench.product import Product, running, sending, totals
from bench.rows import Row
from bench.scenarios import Scenario
from bench.stand import Stand
from outlay.core.errors import OutlayError
from outlay.store.database import Database

BACKLOG = 3_000
"""Payouts that are under way at most."""
WAIT_S = 900.0
SHOWN = 12
"""Samples that are written to the result; all are in the folder's soak.jsonl."""


@dataclass(slots=True)
class Samples:
    """Memory by part, sampled in a thread of its own, and written to a file as it goes."""

    product: Product
    node_pid: int
    path: Path
    every_s: float
    taken: list[dict[str, float]] = field(default_factory=list)
    done: int = 0  #: payouts asked for so far
    _ending: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> "Samples":
        self._thread = threading.Thread(target=self._run, name="samples")
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ending.set()
        assert self._thread is not None
        self._thread.join()

    def _run(self) -> None:
        began = time.monotonic()
        with self.path.open("a") as file:
            while not self._ending.wait(self.every_s):
                parts = {name: sum(map(memory_mb, pids)) for name, pids in self.product.processes().items()}
                now = {"seconds": round(time.monotonic() - began, 1), "payouts": float(self.done)}
                self.taken.append({**now, **parts, "node": memory_mb(self.node_pid)})
                file.write(json.dumps(self.taken[-1]) + "\n")
                file.flush()


def measure(scenario: Scenario, stand: Stand) -> list[Row]:
    """Pay on every database."""
    chosen = scenario.texts("databases")
    return [_on(scenario, stand, database) for database in stand.databases if database in chosen]


def _on(scenario: Scenario, stand: Stand, database: str) -> Row:
    count, size = scenario.number("payouts"), scenario.number("batch")
    faults: list[str] = []
    details: dict[str, Any] = {}
    product = stand.product(database, settings=sending(in_flight=scenario.number("in_flight"), poll_s=POLL_S))
    with running(product):
        payer, wallets = product.prepare(hook=stand.hook.url)
        fund(stand, product, [wallet.address for wallet in wallets])
        stand.hook.begin(product.hook_secret)
        path = stand.folder / f"soak-{database}.jsonl"
        first_block, before, began = stand.node.next_block(), product.cpu(), time.monotonic()
        with Samples(product, stand.node.process.pid, path, scenario.real("sample_seconds")) as samples:
            try:
                accepted = 0
                for part in _parts(payouts("soak"), count, size):
                    asked = pay(payer, [payer.batch(part)])
                    accepted += len(set(asked.ids))
                    faults += asked.tally.faults
                    samples.done += len(part)
                    until(lambda: samples.done - _told(stand) <= BACKLOG, "the soak stands still", wait_s=WAIT_S)
                until(lambda: _told(stand) >= accepted, "the soak did not end", wait_s=WAIT_S)
            except OutlayError as error:
                faults.append(error.message)
        elapsed = time.monotonic() - began
        details["processor time of one, ms"] = totals(before, product.cpu(), count)
        faults += stand.hook.check(count)
        faults += _check(stand, product, [wallet.address for wallet in wallets], first_block, count)
        details["disk, MB"] = _disk(product)
        journal = product.layout.journal.stat().st_size / 2**20
        details["signer's journal a million payouts, MB"] = round(journal / count * 1e6, 1)
    details["payouts a second"] = round(count / elapsed, 1)
    return _row(database, count, samples.taken, faults, details)


def _parts(wanted: Iterator[Payout], count: int, size: int) -> Iterator[list[Payout]]:
    while count > 0:
        yield list(itertools.islice(wanted, min(size, count)))
        count -= size


def _told(stand: Stand) -> int:
    return stand.hook.counts()["different"]


def _check(stand: Stand, product: Product, addresses: list[str], first_block: int, count: int) -> list[str]:
    """Every payout is confirmed, on the chain once, and in the ledger."""
    states = product.read(lambda unit: stages.counted(unit, "soak"))
    faults = []
    if states != {"confirmed": count}:
        open_ = sum(number for state, number in states.items() if state not in ENDS)
        faults.append(f"of {count} payouts {states.get('confirmed', 0)} are confirmed and {open_} are open")
    wanted = (each.asked for each in itertools.islice(payouts("soak"), count))
    faults += check_payments(stand.node.payments(set(addresses), first_block), wanted)
    wallets = [(row.id, stand.node.balance(row.address)) for row in product.read(stages.wallets)]
    try:
        faults += product.read(lambda unit: stages.check_ledger(unit, wallets))
    except OutlayError as error:
        faults.append(f"the ledger is wrong: {error.message}")
    return faults


def _disk(product: Product) -> float:
    db = Database(product.where)
    try:
        return size_mb(db)
    finally:
        db.close()


def _row(database: str, count: int, samples: list[dict[str, float]], faults: list[str], details: dict[str, Any]) -> Row:
    """Return memory of server and signer in the last quarter beside the second: the first warms up."""

    def whole(sample: dict[str, float]) -> float:
        return sample["server"] + sample["signer"]

    quarter = max(1, len(samples) // 4)
    late, early = samples[-quarter:], samples[quarter : 2 * quarter]
    step = max(1, len(samples) // SHOWN)
    return Row(
        key="soak.memory",
        name=f"memory over {count:,} payouts, last quarter",
        unit="MB",
        database=database,
        rounds=[median(map(whole, late))] if late else [],
        reference="the second quarter",
        reference_rounds=[median(map(whole, early))] if early else [],
        faults=faults,
        details={**details, "samples, MB": samples[::step]},
    )
