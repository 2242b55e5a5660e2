"""Confirmed payouts end to end on a local chain with blocks of one second, beside a blast of pre-signed transfers."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.admission import CONNECTIONS
from bench.machine import cpu_s
from bench.organization import LEAST, RECIPIENTS, look, payouts, prepare
from bench.rows import Row
from bench.wire import Connection, Payer, Tally, drive
from outlay.chains.rpc import HttpTransport
from outlay.cli.playground import CHAIN_ID, ETH, Deployment, LocalChain, configuration, free_port, post_json
from outlay.codec.evm import Eip1559, tx_hash
from outlay.core.asset import NATIVE
from outlay.core.errors import OutlayError
from outlay.layout import Layout
from outlay.signer.keys import SigningKey
from outlay.store import ledger
from outlay.store.database import Unit

BLOCK_S = 1.0
BLOCK_GAS = 2_000_000_000
"""Of the test node: room for every payout of a run in one block, so that the node's limit is not what is measured."""
BATCH = 100
RAISED, PUBLIC = 200, 16
"""Unconfirmed transactions a wallet may have: raised for the measurement, and as configured by default."""
GAS = 21_000
PAYER_FUNDS, BLAST_FUNDS = 1_000 * ETH, 1_000 * ETH
POLL_S = 0.05
WAIT_S = 60.0
REFERENCE = f"{{count}} pre-signed native transfers, one connection, batches of {BATCH}"


@dataclass(slots=True)
class Series:
    """Rounds of one case."""

    count: int  #: payouts a round
    rates: list[float] = field(default_factory=list)
    accepted_rates: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)  #: processor time of the server for one payout


@dataclass(slots=True)
class Stage:
    """The chain, the deployment, and what was found wrong."""

    chain: LocalChain
    deployment: Deployment
    payer: Payer
    blaster: SigningKey
    runs: Iterator[str]
    faults: list[str] = field(default_factory=list)


def measure(folder: Path, *, rounds: int, count: int, public_count: int) -> list[Row]:
    """Measure the product and the blast in turns.

    Args:
        folder: where directories are made.
        rounds: how often each is measured.
        count: payouts a round with the raised limit, and transfers of each blast.
        public_count: payouts a round with the default limit.
    """
    chain = LocalChain(folder, block_time_s=BLOCK_S)
    try:
        chain.rpc("evm_setBlockGasLimit", hex(BLOCK_GAS))
        port = free_port()
        text = _settings(port, chain.url, RAISED)
        deployment, made = Deployment.initialize(folder / "confirmed", text, port, preset="standard")
        deployment.start()
        try:
            payer, _ = prepare(deployment.url, made)
            stage = Stage(chain, deployment, payer, SigningKey(b"\x07" * 32), (f"run{n}" for n in itertools.count()))
            return _rounds(stage, rounds=rounds, count=count, public_count=public_count)
        finally:
            deployment.stop()
    finally:
        chain.close()


def _settings(port: int, rpc_url: str, in_flight_max: int) -> str:
    text = configuration(port=port, rpc_url=rpc_url, token="0x" + "11" * 20)
    # No token is there to be watched, and the engine looks at the chain four times a block.
    head, _, tail = text.partition("[[assets]]")
    _, _, tail = tail.partition("[prices.static]")
    return (
        head
        + "[prices.static]"
        + tail.replace("poll_s = 0.2", f"poll_s = {BLOCK_S / 4}\nin_flight_max = {in_flight_max}")
    )


def _rounds(stage: Stage, *, rounds: int, count: int, public_count: int) -> list[Row]:
    _fund(stage)
    raised, public, blast = Series(count), Series(public_count), Series(count)
    for number in range(rounds):
        if number:
            _restart(stage, RAISED)
        _product(stage, raised)
        _blast(stage, blast)
        _restart(stage, PUBLIC)
        _product(stage, public)
    stage.deployment.stop()
    stage.faults += _check_ledger(stage)
    return [
        _row("confirmed payouts", RAISED, raised, blast, stage),
        _row("confirmed payouts", PUBLIC, public, blast, stage),
    ]


def _fund(stage: Stage) -> None:
    """Give both wallets money and wait until the ledger shows it."""
    stage.chain.fund(stage.payer.address, PAYER_FUNDS)
    stage.chain.fund(stage.blaster.address, BLAST_FUNDS)
    _until(lambda: _spendable(stage) == PAYER_FUNDS, "the funds did not reach the ledger")


def _spendable(stage: Stage) -> int:
    def read(unit: Unit) -> int:
        return ledger.holdings(unit, wallet_id=stage.payer.wallet_id, asset=NATIVE).spendable

    return look(Layout(stage.deployment.directory).database, read)


def _restart(stage: Stage, in_flight_max: int) -> None:
    stage.deployment.stop()
    path = Layout(stage.deployment.directory).config
    path.write_text(_settings(stage.deployment.port, stage.chain.url, in_flight_max))
    stage.deployment.start()


def _product(stage: Stage, series: Series) -> None:
    """Ask for payouts and wait until all are confirmed; check chain and wallet; note the rate."""
    chain, payer = stage.chain, stage.payer
    wanted = [(to, amount, body) for to, amount, body in itertools.islice(payouts(next(stage.runs)), series.count)]
    balances = Counter({to: chain.balance(to) for to in RECIPIENTS})
    held = chain.balance(payer.address)
    first_block = _next_block(chain)
    server = stage.deployment.process
    assert server is not None
    began, before = time.perf_counter(), cpu_s(server.pid)
    try:
        tally, accepted, found = asyncio.run(_pay_and_wait(payer, [body for _, _, body in wanted]))
    except TimeoutError as error:
        stage.faults.append(str(error))
        return
    series.rates.append(len(found) / (time.perf_counter() - began))
    series.accepted_rates.append(tally.rate)
    series.cpu_ms.append((cpu_s(server.pid) - before) * 1e3 / series.count)
    stage.faults += tally.faults
    stage.faults += _check_payouts(accepted, found, series.count)
    stage.faults += _check_chain(chain, payer.address, first_block, wanted, {each["txHash"] for each in found})
    for to, amount, _ in wanted:
        balances[to] += amount
    if any(chain.balance(to) != balances[to] for to in RECIPIENTS):
        stage.faults.append("a recipient's balance is not what was asked for")
    spent = sum(amount for _, amount, _ in wanted) + sum(int(each["fee"]) for each in found)
    if chain.balance(payer.address) != held - spent:
        stage.faults.append("the wallet's balance is not what amounts and fees leave")


async def _pay_and_wait(payer: Payer, bodies: list[bytes]) -> tuple[Tally, list[str], list[dict[str, Any]]]:
    accepted: list[str] = []

    def jobs() -> Iterator[Callable[[Connection], Awaitable[None]]]:
        for body in bodies:

            async def job(line: Connection, body: bytes = body) -> None:
                accepted.append(await payer.pay(line, body, await payer.sign(line, body)))

            yield job

    tally = await drive(payer.url, jobs(), connections=CONNECTIONS)
    line = await Connection.connect(payer.url)
    deadline = time.monotonic() + WAIT_S
    # Asking for one costs the server little; the last one asked for is among the last to be confirmed.
    while time.monotonic() < deadline:
        last = await line.request("GET", f"{payer.path}/{accepted[-1]}", payer.headers)
        if last["status"] in ("Confirmed", "Failed"):
            found = await _read_all(line, payer, set(accepted))
            if all(each["status"] in ("Confirmed", "Failed", "Rejected") for each in found):
                line.close()
                return tally, accepted, found
        await asyncio.sleep(POLL_S)
    raise TimeoutError(f"payouts were not confirmed within {WAIT_S:g} s")


async def _read_all(line: Connection, payer: Payer, wanted: set[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    token = ""
    while len(found) < len(wanted):
        page = await line.request("GET", f"{payer.path}?limit=500&paginationToken={token}", payer.headers)
        found += [each for each in page["items"] if each["id"] in wanted]
        token = page.get("nextPageToken", "")
        if not token:
            break
    return found


def _check_payouts(accepted: list[str], found: list[dict[str, Any]], count: int) -> list[str]:
    faults = []
    if len(accepted) != count or len(set(accepted)) != count or len(found) != count:
        faults.append(f"of {count} payouts {len(accepted)} were accepted, {len(set(accepted))} of them different")
    unpaid = Counter(each["status"] for each in found if each["status"] != "Confirmed")
    if unpaid:
        faults.append(f"not every payout was confirmed: {dict(unpaid)}")
    return faults


def _check_chain(
    chain: LocalChain, payer: str, first_block: int, wanted: list[tuple[str, int, bytes]], hashes: set[str]
) -> list[str]:
    """The chain holds each payout once and nothing else of this wallet."""
    last = int(chain.rpc("eth_blockNumber"), 16)
    paid: Counter[tuple[str, int]] = Counter()
    seen: set[str] = set()
    for number in range(first_block, last + 1):
        for each in chain.rpc("eth_getBlockByNumber", hex(number), True)["transactions"]:
            if each["from"].lower() == payer:
                paid[each["to"].lower(), int(each["value"], 16)] += 1
                seen.add(each["hash"])
    faults = []
    if any(times > 1 for times in paid.values()):
        faults.append(f"{sum(times - 1 for times in paid.values())} payouts are on the chain twice")
    if set(paid) != {(to, amount) for to, amount, _ in wanted} or seen != hashes:
        faults.append(f"{len(wanted)} payouts were asked for and {sum(paid.values())} are on the chain")
    return faults


def _check_ledger(stage: Stage) -> list[str]:
    """Nothing is reserved any more and the ledger holds what the chain shows."""

    def read(unit: Unit) -> ledger.Holdings:
        ledger.check(unit)
        return ledger.holdings(unit, wallet_id=stage.payer.wallet_id, asset=NATIVE)

    try:
        held = look(Layout(stage.deployment.directory).database, read)
    except OutlayError as error:
        return [f"the ledger is wrong: {error.message}"]
    shown = stage.chain.balance(stage.payer.address)
    if (held.spendable, held.reserved) != (shown, 0):
        return [f"the ledger holds {held.spendable} and reserves {held.reserved}; the chain shows {shown}"]
    return []


def _blast(stage: Stage, series: Series) -> None:
    """Send pre-signed transfers over one connection and wait until all are mined."""
    chain, key = stage.chain, stage.blaster
    first = int(chain.rpc("eth_getTransactionCount", key.address, "latest"), 16)
    fee = 4 * int(chain.rpc("eth_gasPrice"), 16)
    raws = [_transfer(key, first + n, fee, LEAST + n) for n in range(series.count)]
    batches = [_batch(raws[start : start + BATCH]) for start in range(0, len(raws), BATCH)]
    first_block = _next_block(chain)
    began = time.perf_counter()
    answers = asyncio.run(_send(chain.url, batches))
    series.accepted_rates.append(series.count / (time.perf_counter() - began))
    if any(b'"error"' in answer for answer in answers):
        stage.faults.append("the node refused a transfer of the blast")
    wanted = hex(first + series.count)
    _until(lambda: chain.rpc("eth_getTransactionCount", key.address, "latest") == wanted, "the blast was not mined")
    series.rates.append(series.count / (time.perf_counter() - began))
    last = int(chain.rpc("eth_blockNumber"), 16)
    mined = set()
    for number in range(first_block, last + 1):
        mined.update(chain.rpc("eth_getBlockByNumber", hex(number), False)["transactions"])
    if not {tx_hash(raw) for raw in raws} <= mined:
        stage.faults.append("a transfer of the blast is missing on the chain")


def _transfer(key: SigningKey, nonce: int, fee: int, amount: int) -> bytes:
    transaction = Eip1559(
        chain_id=CHAIN_ID,
        nonce=nonce,
        max_priority_fee_per_gas=1,
        max_fee_per_gas=fee,
        gas_limit=GAS,
        to=RECIPIENTS[nonce % len(RECIPIENTS)],
        value=amount,
    )
    return transaction.encode(key.sign(transaction.signing_hash()))


def _batch(raws: list[bytes]) -> bytes:
    calls = (
        f'{{"jsonrpc":"2.0","id":{n},"method":"eth_sendRawTransaction","params":["0x{raw.hex()}"]}}'
        for n, raw in enumerate(raws)
    )
    return f"[{','.join(calls)}]".encode()


async def _send(url: str, batches: list[bytes]) -> list[bytes]:
    transport = HttpTransport()
    try:
        return [await transport.post(url, batch) for batch in batches]
    finally:
        await transport.close()


def _next_block(chain: LocalChain) -> int:
    """Wait for a block to be mined, so that every round begins at the same point, and return the next one's number."""
    before = _height(chain)
    _until(lambda: _height(chain) > before, "the chain stands still")
    return _height(chain) + 1


def _height(chain: LocalChain) -> int:
    return int(
        post_json(chain.url, {"jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber", "params": []})["result"], 16
    )


def _until(ready: Callable[[], bool], problem: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(problem)
        time.sleep(POLL_S)


def _row(name: str, in_flight_max: int, series: Series, blast: Series, stage: Stage) -> Row:
    details: dict[str, Any] = {
        "in flight at most": in_flight_max,
        "payouts a round": series.count,
        "admitted a second meanwhile": series.accepted_rates,
        "processor time of one, ms": [round(each, 2) for each in series.cpu_ms],
        "block time s": BLOCK_S,
        "blast taken by the node a second": blast.accepted_rates,
        "duplicates": 0 if not stage.faults else "not shown: the run is invalid",
    }
    return Row(
        name=f"{name}, {in_flight_max} in flight",
        unit="payouts/s",
        rounds=series.rates,
        reference=REFERENCE.format(count=blast.count),
        reference_rounds=blast.rates,
        faults=stage.faults,
        details=details,
    )
