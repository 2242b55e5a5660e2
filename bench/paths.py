"""Two things that go wrong on a network: one wallet of a pool is stuck; a provider answers ten requests a second."""

import contextlib
import itertools
import json
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from bench import stages
from bench.confirmed import ENDS, POLL_S, fund, require_accepted
from bench.node import BLOCK_S, SELDOM_S, check_payments, until
from bench.paying import Payer, batches, pay, payouts
from bench.processes import listening
from bench.product import TAG, Product, Wallet, pass_second, percent, running, sending
from bench.rows import Row
from bench.scenarios import Scenario
from bench.stand import Stand
from outlay.cli.playground import NETWORK
from outlay.core.errors import OutlayError

WAIT_S = 600.0
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_runs = (f"path{number}" for number in itertools.count())


class Endpoint:
    """A ``bench.provider``, talked to."""

    def __init__(self, url: str) -> None:
        """Talk to the one at ``url``."""
        self.url = url

    def set(self, *, per_second: float | None = None, swallow: str | None = None) -> None:
        """Tell it how to misbehave."""
        body = json.dumps({"per_second": per_second, "swallow": swallow}).encode()
        headers = {"content-type": "application/json"}
        with _OPENER.open(urllib.request.Request(self.url, body, headers, method="PUT"), timeout=10):
            pass

    def counts(self) -> dict[str, int]:
        """Return what it counted since it was last told."""
        with _OPENER.open(self.url, timeout=10) as answer:
            told: dict[str, int] = json.load(answer)
            return told


@contextlib.contextmanager
def _endpoint(stand: Stand) -> Iterator[Endpoint]:
    with listening(stand.folder, "bench.provider", stand.node.url) as found:
        yield Endpoint(found.url)


def _pool(product: Product, payer: Payer) -> Payer:
    """Return the payer of a pool of all tagged wallets."""
    made = product.admin().write("POST", "/v1/pools", {"name": "hot", "network": NETWORK, "tag": TAG})
    pass_second()
    return replace(payer, pool_id=made["id"])


def measure_pool(scenario: Scenario, stand: Stand) -> list[Row]:
    """Measure a pool with all wallets healthy, and with one stuck, in turns."""
    return [_pool_on(scenario, stand, database) for database in stand.databases]


def _pool_on(scenario: Scenario, stand: Stand, database: str) -> Row:
    settings = sending(in_flight=scenario.number("in_flight"), poll_s=POLL_S)
    healthy: list[float] = []
    stuck: list[float] = []
    faults: list[str] = []
    count, wallets = scenario.number("payouts"), scenario.number("wallets")
    with _endpoint(stand) as endpoint:
        product = stand.product(database, settings=settings, rpc_url=endpoint.url)
        with running(product):
            payer, made = product.prepare(wallets=wallets)
            fund(stand, product, [wallet.address for wallet in made])
            pool = _pool(product, payer)
            try:
                for _ in range(scenario.number("rounds")):
                    endpoint.set()
                    healthy.append(_pool_round(stand, product, pool, made, None, count, faults))
                    endpoint.set(swallow=made[0].address)
                    stuck.append(_pool_round(stand, product, pool, made, made[0], count, faults, endpoint))
            except OutlayError as error:
                faults.append(error.message)
    return Row(
        key="pool.stuck",
        name=f"one of {wallets} wallets stuck",
        unit="payouts/s",
        database=database,
        rounds=stuck,
        reference=f"{wallets} healthy wallets",
        reference_rounds=healthy,
        target=scenario.target("stuck"),
        faults=faults,
        details={
            "payouts a round": count,
            "in flight a wallet": scenario.number("in_flight"),
            "block time, s": BLOCK_S,
            "counted": "payouts confirmed by the other wallets until they have confirmed all that was not bound to the"
            " stuck one; then it is let go, and every payout has to be paid once",
        },
    )


def _pool_round(
    stand: Stand,
    product: Product,
    payer: Payer,
    made: list[Wallet],
    stuck: Wallet | None,
    count: int,
    faults: list[str],
    endpoint: Endpoint | None = None,
) -> float:
    """Pay, measure until all but what the stuck wallet holds is confirmed, let it go, check everything."""
    run = next(_runs)
    wanted = list(itertools.islice(payouts(run), count))
    senders = {wallet.address for wallet in made}
    first_block = stand.node.next_block()
    requests = batches(payer, wanted, 1_000)
    began = time.time()
    require_accepted(pay(payer, requests), count)

    def done() -> bool:
        rows = product.read(lambda unit: stages.told(unit, run))
        open_ = [row for row in rows if row.state not in ENDS]
        bound = {"assigned", "signed", "broadcast", "mined"}
        return all(stuck is not None and row.wallet_id == stuck.id and row.state in bound for row in open_)

    until(done, f"{run}: the healthy wallets did not finish", wait_s=WAIT_S, every_s=SELDOM_S)
    rows = product.read(lambda unit: stages.told(unit, run))
    ends = [row.confirmed_at for row in rows if row.confirmed_at is not None]
    rate = len(ends) / (max(ends) / stages.SECOND - began) if ends else 0.0
    if endpoint is not None:
        endpoint.set()
    until(lambda: _ended(product, run) >= count, f"{run}: the stuck wallet did not recover", wait_s=WAIT_S)
    rows = product.read(lambda unit: stages.told(unit, run))
    faults += stages.check_rows(rows, {each.external_id: each.asked for each in wanted})
    faults += check_payments(stand.node.payments(senders, first_block), [each.asked for each in wanted])
    return rate


def _ended(product: Product, run: str) -> int:
    states = product.read(lambda unit: stages.counted(unit, run))
    return sum(number for state, number in states.items() if state in ENDS)


def measure_provider(scenario: Scenario, stand: Stand) -> list[Row]:
    """Let many ask at once while the provider answers few requests; everything accepted has to end well."""
    return [_provider_on(scenario, stand, database) for database in stand.databases]


def _provider_on(scenario: Scenario, stand: Stand, database: str) -> Row:
    count, limit = scenario.number("payouts"), scenario.number("requests_a_second")
    faults: list[str] = []
    shares: list[float] = []
    details: dict[str, Any] = {}
    with _endpoint(stand) as endpoint:
        product = stand.product(database, settings=sending(in_flight=1_000, poll_s=BLOCK_S), rpc_url=endpoint.url)
        with running(product):
            payer, made = product.prepare()
            fund(stand, product, [wallet.address for wallet in made])
            try:
                endpoint.set(per_second=limit)
                run = next(_runs)
                wanted = list(itertools.islice(payouts(run), count))
                senders = {wallet.address for wallet in made}
                first_block = stand.node.next_block()
                requests = [payer.single(each) for each in wanted]
                began = time.time()
                asked = pay(payer, requests, connections=scenario.number("workers"))
                require_accepted(asked, count)
                until(lambda: _ended(product, run) >= len(asked.ids), "not everything ended", wait_s=WAIT_S)
                rows = product.read(lambda unit: stages.told(unit, run))
                details = {**endpoint.counts(), "seconds": round(time.time() - began, 1)}
                faults += check_payments(stand.node.payments(senders, first_block), [each.asked for each in wanted])
                shares.append(percent(sum(row.state == "confirmed" for row in rows), len(asked.ids)))
            except OutlayError as error:
                faults.append(error.message)
    return Row(
        key="provider.ended",
        name=f"ended well behind {limit} requests/s",
        unit="% of accepted",
        database=database,
        rounds=shares,
        target=scenario.target("ended"),
        faults=faults,
        details={
            "payouts": count,
            "asking at once": scenario.number("workers"),
            **details,
            "counted": "a request is one HTTP call; a batch of calls is one",
        },
    )
