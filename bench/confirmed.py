"""Confirmed payouts end to end, beside a blast of pre-signed transfers and beside two ways others would do it.

From the first call of an accepted batch to the last ``confirmed`` row, one transaction a payout, blocks of one second,
every payout judged by the preset's policies, signed by the signer process, told to an endpoint by a signed webhook.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

from bench import rival_runs, stages
from bench.lock import LockSampler
from bench.node import BLOCK_S, SELDOM_S, Blast, check_payments, until
from bench.paying import Asked, Payer, Payout, batches, pay, payouts
from bench.product import Product, sending, totals
from bench.rival_runs import Series
from bench.rows import Row
from bench.scenarios import Scenario
from bench.stages import Told
from bench.stand import Stand
from outlay.core.errors import OutlayError, Unavailable
from outlay.signer.keys import SigningKey

POLL_S = BLOCK_S / 4
WAIT_S = 600.0
ENDS = {"confirmed", "failed", "rejected", "canceled", "expired"}
_runs = (f"run{number}" for number in itertools.count())


@dataclass(slots=True)
class Round:
    """What one round of the product came to."""

    rate: float
    admitted: float  #: payouts a second, as the client saw it
    answers_s: list[float]  #: how long each call took
    stages: dict[str, dict[str, float]]
    cpu_ms: dict[str, float]  #: processor time for one payout, by part
    lock_ms: float  #: how long the one writer's lock was held for one payout


@dataclass(slots=True)
class Side:
    """The product on one database."""

    product: Product
    payer: Payer
    unbounded: list[Round] = field(default_factory=list)
    public: list[Round] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def measure(scenario: Scenario, stand: Stand) -> list[Row]:
    """Measure the product on every database, the blasts and the rivals in turns."""
    in_flight, public = scenario.number("in_flight"), scenario.number("public_in_flight")
    sides = [_side(stand, database) for database in stand.databases]
    blasts = [
        Blast(stand.node, connections, SigningKey(bytes([connections]) * 32))
        for connections in scenario.numbers("connections_of_blast")
    ]
    stand.node.fund_all([blast.key.address for blast in blasts])
    web3 = {threads: Series(f"{threads} threads") for threads in scenario.numbers("web3_threads")}
    celery = {setting: Series(setting) for setting in _settings(scenario)}
    for number in range(scenario.number("rounds")):
        for side, blast in itertools.zip_longest(sides, blasts):
            if side is not None:
                _round(stand, side, side.unbounded, scenario.number("payouts"), in_flight)
                _round(stand, side, side.public, scenario.number("public_payouts"), public)
            if blast is not None:
                blast.run(scenario.number("blast"))
        if number < scenario.number("rival_rounds"):
            _rivals(scenario, stand, web3, celery)
    rows = []
    for side in sides:
        side.faults += _check_ledger(side, stand)
        rows += _rows(scenario, side, blasts, list(web3.values()), list(celery.values()))
    return rows


def _settings(scenario: Scenario) -> Iterator[str]:
    """Yield the settings of Celery's worker: pool, concurrency and blocks, e.g. ``threads 64, 1 s blocks``."""
    for pool, concurrency, blocks in zip(
        scenario.texts("celery_pools"), scenario.numbers("celery_workers"), scenario.texts("celery_blocks"), strict=True
    ):
        yield f"{pool} {concurrency}, {blocks}"


def _rivals(scenario: Scenario, stand: Stand, web3: dict[int, Series], celery: dict[str, Series]) -> None:
    count = scenario.number("rival_payouts")
    for threads, series in web3.items():
        rival_runs.web3_round(stand.node, series, count=count, threads=threads)
    for setting, series in celery.items():
        pool, workers, blocks = setting.replace(",", "").split(" ", 2)
        node = stand.instant_node if blocks.startswith("instant") else stand.node
        one = rival_runs.Celery(stand.folder, node, stand.server, stand.hook, pool, int(workers))
        try:
            rival_runs.celery_round(one, series, count)
        except OutlayError as error:
            series.faults.append(f"{setting}: {error.message}")


def _side(stand: Stand, database: str) -> Side:
    product = stand.product(database, settings=sending(in_flight=16, poll_s=POLL_S))
    product.start()
    payer, wallets = product.prepare(hook=stand.hook.url)
    fund(stand, product, [wallet.address for wallet in wallets])
    product.stop()
    return Side(product, payer)


def fund(stand: Stand, product: Product, addresses: Sequence[str]) -> None:
    """Give wallets money and wait until the ledger shows it."""
    stand.node.fund_all(addresses)

    def funded() -> bool:
        held = product.read(lambda unit: stages.spendable(unit))
        return sum(held.values()) >= sum(stand.node.balance(address) for address in addresses)

    until(funded, "the funds did not reach the ledger")


def _round(stand: Stand, side: Side, found: list[Round], count: int, in_flight: int) -> None:
    product = side.product
    product.start(sending(in_flight=in_flight, poll_s=POLL_S))
    try:
        stand.hook.begin(product.hook_secret)
        run = next(_runs)
        wanted = list(itertools.islice(payouts(run), count))
        found.append(paid(stand, product, side.payer, run, wanted, side.faults))
    except OutlayError as error:
        side.faults.append(error.message)
    finally:
        product.stop()


def paid(
    stand: Stand,
    product: Product,
    payer: Payer,
    run: str,
    wanted: Sequence[Payout],
    faults: list[str],
    size: int = 1_000,
) -> Round:
    """Ask for payouts, wait until all are confirmed and told of, check everything, return the figures.

    Raises:
        Unavailable: they did not end in time.
    """
    node = stand.node
    senders = {row.address for row in product.read(stages.wallets)}
    held = {address: node.balance(address) for address in senders}
    first_block = node.next_block()
    requests = batches(payer, wanted, size)
    before, began = product.cpu(), time.time()
    with LockSampler(product.where) as lock:
        asked = pay(payer, requests)
        require_accepted(asked, len(wanted))
        rows = wait_until_ended(product, run, len(wanted))
        elapsed = time.time() - began
    after = product.cpu()
    faults += stages.check_rows(rows, {each.external_id: each.asked for each in wanted})
    faults += stand.hook.check(len(wanted))
    sent = {row.tx_hash for row in rows if row.tx_hash}
    faults += check_payments(node.payments(senders, first_block), [each.asked for each in wanted], sent)
    spent = sum(row.amount + row.fee for row in rows)
    if sum(held.values()) - sum(node.balance(address) for address in senders) != spent:
        faults.append("the wallets' balances are not what amounts and fees leave")
    notified = product.read(lambda unit: stages.delivered(unit, [row.id for row in rows]))
    ended = max((row.confirmed_at or 0 for row in rows), default=0) / stages.SECOND
    return Round(
        rate=len(rows) / max(ended - began, 1e-3),
        admitted=len(asked.ids) / max(asked.tally.elapsed_s, 1e-9),
        answers_s=asked.tally.times_s,
        stages=stages.measure(rows, notified),
        cpu_ms=totals(before, after, len(wanted)),
        lock_ms=round(lock.share * elapsed * 1e3 / len(wanted), 3),
    )


def require_accepted(asked: Asked, count: int) -> None:
    """Go on only if every payout was accepted once, by an id of its own: what was not would be waited for in vain.

    Raises:
        Unavailable: it was not.
    """
    if asked.tally.faults or len(asked.ids) != count or len(set(asked.ids)) != count:
        accepted = f"of {count} payouts {len(asked.ids)} were accepted, {len(set(asked.ids))} of them different"
        raise Unavailable("; ".join([accepted, *asked.tally.faults[:1]]))


def wait_until_ended(product: Product, run: str, count: int, *, wait_s: float = WAIT_S) -> list[Told]:
    """Wait until every payout of a run has ended, and return what is stored of them. Raises Unavailable."""

    def ended() -> bool:
        states = product.read(lambda unit: stages.counted(unit, run))
        return sum(number for state, number in states.items() if state in ENDS) >= count

    until(ended, f"payouts did not end within {wait_s:g} s", wait_s=wait_s, every_s=SELDOM_S)
    return product.read(lambda unit: stages.told(unit, run))


def _check_ledger(side: Side, stand: Stand) -> list[str]:
    """Nothing is reserved any more and the ledger holds what the chain shows."""
    wallets = [(row.id, stand.node.balance(row.address)) for row in side.product.read(stages.wallets)]
    try:
        return side.product.read(lambda unit: stages.check_ledger(unit, wallets))
    except OutlayError as error:
        return [f"the ledger is wrong: {error.message}"]


def _rows(
    scenario: Scenario, side: Side, blasts: Sequence[Blast], web3: Sequence[Series], celery: Sequence[Series]
) -> list[Row]:
    faults = [*side.faults, *(fault for blast in blasts for fault in blast.faults)]
    one = blasts[0]
    rounds = [each.rate for each in side.unbounded]
    common = _details(scenario.number("payouts"), side.unbounded)
    beside = {
        f"blast over {each.connections} connections": {"mined": each.rates, "taken by the node": each.accepted_rates}
        for each in blasts
    }
    shared = {"database": side.product.database, "unit": "payouts/s"}

    def row(key: str, name: str, of: list[float], reference: str, rates: list[float], **details: Any) -> Row:
        target = scenario.target(key)
        return Row(
            key=f"confirmed.{key}",
            name=name,
            rounds=of,
            reference=reference,
            reference_rounds=rates,
            faults=details.pop("faults", faults),
            target=target,
            details=details,
            **shared,
        )

    name = "confirmed, one transaction a payout"
    blast_name = f"{scenario.number('blast')} pre-signed transfers over one connection, batches of 100"
    public = f"confirmed, {scenario.number('public_in_flight')} in flight a lane"
    return [
        row("blast", name, rounds, blast_name, one.rates, **common, **beside),
        _beside(
            row,
            "celery",
            name,
            rounds,
            "FastAPI + Celery + Redis + web3.py",
            celery,
            faults,
            rival_runs.CELERY_DIFFERENCES,
        ),
        _beside(row, "web3", name, rounds, "web3.py, local nonce", web3, faults, rival_runs.WEB3_DIFFERENCES),
        row(
            "public",
            public,
            [each.rate for each in side.public],
            blast_name,
            one.rates,
            **_details(scenario.number("public_payouts"), side.public),
        ),
    ]


def _beside(
    row: Callable[..., Row],
    key: str,
    name: str,
    rounds: list[float],
    reference: str,
    series: Sequence[Series],
    faults: Sequence[str],
    differences: str,
) -> Row:
    """Return the row beside a rival at its best setting; the others are named too."""
    shown = [each for each in series if each.rates]
    best = max(shown, key=lambda each: mean(each.rates), default=None)
    return row(
        key,
        name,
        rounds,
        f"{reference} ({best.name if best else 'no setting worked'})",
        best.rates if best else [],
        faults=[*faults, *(fault for each in series for fault in each.faults)],
        settings={each.name: each.rates for each in series},
        unequal=differences,
    )


def _details(count: int, rounds: Sequence[Round]) -> dict[str, Any]:
    if not rounds:
        return {}
    middle = sorted(rounds, key=lambda each: each.rate)[len(rounds) // 2]
    return {
        "payouts a round": count,
        "admitted a second": [round(each.admitted, 1) for each in rounds],
        "stages": stages.with_accept(middle.stages, middle.answers_s, middle.admitted),
        "processor time of one, ms": middle.cpu_ms,
        "writer's lock held for one, ms": middle.lock_ms,
        "block time, s": BLOCK_S,
    }
