"""What a payout costs end to end beside how many are stored already."""

import itertools
import time
from dataclasses import dataclass, field
from typing import Any

from bench import history
from bench.confirmed import POLL_S, Round, fund, paid
from bench.paying import Payer, payouts
from bench.product import Product, sending
from bench.rows import Row
from bench.scenarios import Scenario
from bench.stand import Stand
from outlay.core.errors import OutlayError
from outlay.store import ledger
from outlay.store.database import Database

ORIGINALS = 200
"""Payouts that are made, and copied until there are enough."""
DIFFERENCES = "stored payouts are copies of 200 real ones within the database; the signer's journal holds the real ones"
_runs = (f"grown{number}" for number in itertools.count())


@dataclass(slots=True)
class Grown:
    """One deployment with a history."""

    stored: int
    product: Product
    payer: Payer
    disk_mb: float
    grown_in_s: float
    rounds: list[Round] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def measure(scenario: Scenario, stand: Stand) -> list[Row]:
    """Measure every size in turns, on every database."""
    rows = []
    for database in stand.databases:
        grown = [_grow(stand, database, size, scenario) for size in scenario.numbers("sizes")]
        for _ in range(scenario.number("rounds")):
            for each in grown:
                _round(stand, each, scenario)
        rows.append(_row(scenario, database, grown))
    return rows


def _grow(stand: Stand, database: str, size: int, scenario: Scenario) -> Grown:
    product = stand.product(database, settings=sending(in_flight=scenario.number("in_flight"), poll_s=POLL_S))
    product.start()
    payer, wallets = product.prepare(hook=stand.hook.url)
    fund(stand, product, [wallet.address for wallet in wallets])
    stand.hook.begin(product.hook_secret)
    run = next(_runs)
    faults: list[str] = []
    paid(stand, product, payer, run, list(itertools.islice(payouts(run), ORIGINALS)), faults)
    product.stop()
    began = time.monotonic()
    db = Database(product.where)
    try:
        stored = history.lengthen(db, size)
        disk = history.size_mb(db)
    finally:
        db.close()
    return Grown(stored, product, payer, disk, time.monotonic() - began, faults=faults)


def _round(stand: Stand, grown: Grown, scenario: Scenario) -> None:
    grown.product.start()
    try:
        stand.hook.begin(grown.product.hook_secret)
        run = next(_runs)
        wanted = list(itertools.islice(payouts(run), scenario.number("payouts")))
        grown.rounds.append(paid(stand, grown.product, grown.payer, run, wanted, grown.faults))
    except OutlayError as error:
        grown.faults.append(error.message)
    finally:
        grown.product.stop()


def _row(scenario: Scenario, database: str, grown: list[Grown]) -> Row:
    smallest, largest = grown[0], grown[-1]
    faults = [fault for each in grown for fault in each.faults]
    for each in grown:
        faults += _check_ledger(each)
    details: dict[str, Any] = {}
    for each in grown:
        details[f"at {each.stored:,} stored"] = {
            "processor time of one, ms": [round(total(one), 3) for one in each.rounds],
            "confirmed a second": [round(one.rate, 1) for one in each.rounds],
            "disk, MB": each.disk_mb,
        }
    more = largest.stored - smallest.stored
    if more:
        details["disk a million payouts, MB"] = round((largest.disk_mb - smallest.disk_mb) * 1e6 / more, 1)
    return Row(
        key="growth.cost",
        name=f"cost of a payout at {largest.stored:,} stored",
        unit="ms of processor",
        database=database,
        rounds=[total(one) for one in largest.rounds],
        reference=f"the same at {smallest.stored:,}",
        reference_rounds=[total(one) for one in smallest.rounds],
        target=scenario.target("cost"),
        faults=faults,
        details={**details, "unequal": DIFFERENCES},
    )


def total(one: Round) -> float:
    """Return the processor time of one payout over all parts, milliseconds."""
    return sum(one.cpu_ms.values())


def _check_ledger(grown: Grown) -> list[str]:
    """Look whether the accounts, copies included, equal their postings."""
    try:
        grown.product.read(ledger.check)
    except OutlayError as error:
        return [f"the ledger is wrong: {error.message}"]
    return []
