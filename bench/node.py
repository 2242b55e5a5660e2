"""The chain of the bench: one local node with blocks of one second, how fast it can be filled, and what it holds."""

import asyncio
import itertools
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from outlay.chains.rpc import HttpTransport
from outlay.cli.playground import CHAIN_ID, ETH, FUNDER, LocalChain, find_anvil, free_port
from outlay.codec.evm import Eip1559, tx_hash
from outlay.core.errors import Unavailable
from outlay.signer.keys import SigningKey

BLOCK_S = 1.0
BLOCK_GAS = 2_000_000_000
"""Room for every payout of a round in one block, so that the node's limit is not what is measured."""
BATCH = 100
GAS = 21_000
LEAST = 10**12
"""Wei of the first payout. Every payout of a run has an amount of its own, so one that was paid twice shows."""
RECIPIENTS = tuple(f"0x{number:040x}" for number in range(0xBE0000, 0xBE0000 + 100))
"""Who is paid: all of them are whitelisted."""
FUNDS = 1_000_000 * ETH
POLL_S = 0.05
SELDOM_S = 0.5
"""How often all payouts of a run are counted: it costs the database that is measured, and rows say when each ended."""
WAIT_S = 120.0
_START_S = 30.0


class Node(LocalChain):
    """anvil with the node's own limits out of the way."""

    def __init__(self, folder: Path, *, block_time_s: float | None = BLOCK_S) -> None:
        """Start it; without ``block_time_s`` each transaction is mined at once.

        Raises:
            Unavailable: it does not start.
        """
        self._is_instant = block_time_s is None
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        timing = [] if block_time_s is None else ["--block-time", str(block_time_s)]
        limits = ["--gas-limit", str(BLOCK_GAS), "--no-request-size-limit", "--base-fee", "1000000"]
        chain = ["--port", str(self.port), "--chain-id", str(CHAIN_ID)]
        with (folder / f"anvil-{self.port}.log").open("wb") as log:
            self.process = subprocess.Popen(
                [find_anvil(), *chain, *limits, "--silent", *timing], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        until(self._answers, "the node did not start", wait_s=_START_S)

    def fund_all(self, addresses: Iterable[str], amount: int = FUNDS) -> None:
        """Send ``amount`` wei to each address and wait until all have it."""
        wanted = list(addresses)
        before = {address: self.balance(address) for address in wanted}
        self.rpc("anvil_setBalance", FUNDER, hex(2 * amount * len(wanted)))
        for address in wanted:
            self.rpc("eth_sendTransaction", {"from": FUNDER, "to": address, "value": hex(amount)})
        until(
            lambda: all(self.balance(address) >= before[address] + amount for address in wanted),
            "the funds did not arrive",
        )

    def height(self) -> int:
        """Return the newest block's number."""
        return int(self.rpc("eth_blockNumber"), 16)

    def next_block(self) -> int:
        """Wait for a block, so that every round begins at the same point, and return the next one's number."""
        before = self.height()
        if not self._is_instant:
            until(lambda: self.height() > before, "the chain stands still")
        return self.height() + 1

    def nonce(self, address: str) -> int:
        """Return how many transactions of an address are mined."""
        return int(self.rpc("eth_getTransactionCount", address, "latest"), 16)

    def payments(self, payers: Collection[str], first_block: int) -> Iterator[tuple[str, str, int, str]]:
        """Yield payer, recipient, wei and hash of every transaction of these addresses since a block."""
        for number in range(first_block, self.height() + 1):
            for each in self.rpc("eth_getBlockByNumber", hex(number), True)["transactions"]:
                if each["from"].lower() in payers:
                    yield each["from"].lower(), (each["to"] or "").lower(), int(each["value"], 16), each["hash"]


def until(ready: Callable[[], bool], problem: str, *, wait_s: float = WAIT_S, every_s: float = POLL_S) -> None:
    """Poll every ``every_s`` seconds until ``ready``. Raises Unavailable: it was not, within ``wait_s``."""
    deadline = time.monotonic() + wait_s
    while not ready():
        if time.monotonic() > deadline:
            raise Unavailable(problem)
        time.sleep(every_s)


def check_payments(
    found: Iterable[tuple[str, str, int, str]], wanted: Iterable[tuple[str, int]], hashes: Collection[str] | None = None
) -> list[str]:
    """Return what is wrong with what a chain holds: each payout once, and nothing else of these payers.

    Args:
        found: payer, recipient, wei and hash, from ``Node.payments``.
        wanted: recipient and wei of each payout; no two are alike.
        hashes: the transactions that were reported; None: none were.
    """
    paid: Counter[tuple[str, int]] = Counter()
    seen: set[str] = set()
    for _, recipient, amount, tx in found:
        paid[recipient, amount] += 1
        seen.add(tx)
    asked = set(wanted)
    faults = []
    if any(times > 1 for times in paid.values()):
        faults.append(f"{sum(times - 1 for times in paid.values())} payouts are on the chain twice")
    if missing := len(asked - set(paid)):
        faults.append(f"{missing} of {len(asked)} payouts are not on the chain")
    if strange := len(set(paid) - asked):
        faults.append(f"{strange} payments on the chain were not asked for")
    if hashes is not None and seen != set(hashes):
        faults.append("the transactions reported are not those on the chain")
    return faults


@dataclass(slots=True)
class Blast:
    """Pre-signed transfers of one key, sent as fast as the node takes them."""

    node: Node
    connections: int
    key: SigningKey
    rates: list[float] = field(default_factory=list)  #: until all are mined
    accepted_rates: list[float] = field(default_factory=list)  #: until the node has taken all
    faults: list[str] = field(default_factory=list)

    def run(self, count: int) -> None:
        """Sign in advance, send, wait until all are mined, note the rates."""
        node, key = self.node, self.key
        first = node.nonce(key.address)
        fee = 4 * int(node.rpc("eth_gasPrice"), 16)
        raws = [self._transfer(first + number, fee, LEAST + number) for number in range(count)]
        batches = [_batch(raws[start : start + BATCH]) for start in range(0, len(raws), BATCH)]
        first_block = node.next_block()
        began = time.perf_counter()
        answers = asyncio.run(_send(node.url, batches, self.connections))
        self.accepted_rates.append(count / (time.perf_counter() - began))
        if any(b'"error"' in answer for answer in answers):
            self.faults.append("the node refused a transfer of the blast")
        until(lambda: node.nonce(key.address) >= first + count, "the blast was not mined")
        self.rates.append(count / (time.perf_counter() - began))
        mined: set[str] = set()
        for number in range(first_block, node.height() + 1):
            mined.update(node.rpc("eth_getBlockByNumber", hex(number), False)["transactions"])
        if not {tx_hash(raw) for raw in raws} <= mined:
            self.faults.append("a transfer of the blast is missing on the chain")

    def _transfer(self, nonce: int, fee: int, amount: int) -> bytes:
        transaction = Eip1559(
            chain_id=CHAIN_ID,
            nonce=nonce,
            max_priority_fee_per_gas=1,
            max_fee_per_gas=fee,
            gas_limit=GAS,
            to=RECIPIENTS[nonce % len(RECIPIENTS)],
            value=amount,
        )
        return transaction.encode(self.key.sign(transaction.signing_hash()))


def _batch(raws: list[bytes]) -> bytes:
    calls = (
        f'{{"jsonrpc":"2.0","id":{number},"method":"eth_sendRawTransaction","params":["0x{raw.hex()}"]}}'
        for number, raw in enumerate(raws)
    )
    return f"[{','.join(calls)}]".encode()


async def _send(url: str, batches: list[bytes], connections: int) -> list[bytes]:
    waiting = iter(batches)

    async def work() -> list[bytes]:
        transport = HttpTransport()
        try:
            return [await transport.post(url, batch) for batch in waiting]
        finally:
            await transport.close()

    answers = await asyncio.gather(*(work() for _ in range(connections)))
    return list(itertools.chain.from_iterable(answers))
