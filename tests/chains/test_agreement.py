"""What decides is told alike by two endpoints: laggards, liars, splits, nulls and hangs."""

import asyncio
from typing import Any

import pytest

from outlay.chains import CallReverted, Finality
from outlay.chains.evm import EvmChain
from outlay.chains.rpc import JsonRpc
from outlay.core.errors import ChainUnavailable, InvalidInput
from tests.chains.nodes import (
    COIN,
    DEAD,
    HASH,
    LOST,
    OWNER,
    TOKEN,
    A,
    B,
    C,
    Error,
    FakeNodes,
    block,
    blocks_to,
    node,
    rpc_of,
)
from tests.sim.loop import VirtualLoop

RECEIPT: dict[str, Any] = {
    "transactionHash": HASH,
    "blockNumber": "0x5",
    "blockHash": "0x" + "CD" * 32,
    "status": "0x1",
    "gasUsed": "0x5208",
    "effectiveGasPrice": "0x7",
    "logs": [],
}


def agreeing(finality: Finality | None = None, **nodes: Any) -> tuple[EvmChain, FakeNodes]:
    """Return a chain whose endpoints have to agree, and the endpoints."""
    fakes = FakeNodes(**nodes)
    return EvmChain(rpc_of(fakes, agreement=True), finality or Finality(blocks=1)), fakes


def asked(nodes: FakeNodes, method: str) -> str:
    """Return which endpoints were asked this, in order."""
    return "".join(name for name, each in nodes.asked if each == method)


def test_one_endpoint_cannot_agree() -> None:
    with pytest.raises(InvalidInput):
        JsonRpc([A], FakeNodes(), chain_id=1, agreement=True)


DECIDING: list[tuple[str, Any, Any, Any]] = [
    ("eth_getTransactionCount", "0x5", "0x6", lambda chain: chain.nonce_at(OWNER, 9)),
    ("eth_getBalance", "0x5", "0x6", lambda chain: chain.balance_at(OWNER, COIN, 9)),
    ("eth_call", f"0x{5:064x}", f"0x{6:064x}", lambda chain: chain.balance_at(OWNER, TOKEN, 9)),
    ("eth_getCode", "0x", "0xef", lambda chain: chain.code_at(OWNER)),
    ("eth_getBlockByNumber", block(9), block(9, hash=HASH), lambda chain: chain.block_hash_at(9)),
    (
        "eth_getTransactionReceipt",
        RECEIPT,
        {**RECEIPT, "status": "0x0"},
        lambda chain: chain.receipts([HASH]),
    ),
]


@pytest.mark.parametrize(("method", "one", "other", "ask"), DECIDING)
async def test_two_endpoints_that_differ_decide_nothing(method: str, one: Any, other: Any, ask: Any) -> None:
    chain, nodes = agreeing(a=node(**{method: one}), b=node(**{method: other}))
    with pytest.raises(ChainUnavailable, match=f"endpoints 1 and 2 disagree about {method}"):
        await ask(chain)
    chain, nodes = agreeing(a=node(**{method: one}), b=node(**{method: other}), c=node(**{method: one}))
    await ask(chain)
    assert asked(nodes, method) == "abc", "a third decides where two differ"
    chain, nodes = agreeing(a=node(**{method: one}), b=node(**{method: one}), c=node(**{method: other}))
    await ask(chain)
    assert asked(nodes, method) == "ab"


@pytest.mark.parametrize(("method", "one", "other", "ask"), DECIDING)
async def test_one_endpoint_alone_decides_nothing(method: str, one: Any, other: Any, ask: Any) -> None:
    for silent in (DEAD, LOST, b"{", node(**{method: Error("header not found")}), node(eth_chainId="0x2")):
        chain, _ = agreeing(a=node(**{method: one}), b=silent)
        with pytest.raises(ChainUnavailable, match="two RPC endpoints have to agree: endpoint 2"):
            await ask(chain)
        chain, _ = agreeing(a=silent, b=node(**{method: one}), c=node(**{method: one}))
        await ask(chain)


@pytest.mark.parametrize(("method", "one", "other", "ask"), DECIDING)
async def test_where_one_endpoint_is_trusted_it_decides(method: str, one: Any, other: Any, ask: Any) -> None:
    nodes = FakeNodes(a=node(**{method: one}), b=node(**{method: other}))
    await ask(EvmChain(rpc_of(nodes), Finality(blocks=1)))
    assert asked(nodes, method) == "a"


async def test_what_does_not_decide_asks_one_endpoint() -> None:
    chain, nodes = agreeing(
        a=node(eth_getTransactionCount="0x5", eth_getBalance="0x1"), b=node(eth_getTransactionCount="0x6")
    )
    assert await chain.nonce_at(OWNER) == 5
    assert await chain.balances(OWNER, [COIN]) == [1]
    assert {name for name, _ in nodes.asked} == {"a"}


async def test_a_receipt_beside_none_is_not_agreed_yet() -> None:
    has, lacks = node(eth_getTransactionReceipt=RECEIPT), node(eth_getTransactionReceipt=None)
    for a, b in ((has, lacks), (lacks, has), (lacks, lacks)):
        chain, _ = agreeing(a=a, b=b)
        assert await chain.receipts([HASH]) == [None]
    chain, nodes = agreeing(a=lacks, b=has, c=has)
    (found,) = await chain.receipts([HASH])
    assert found is not None
    assert asked(nodes, "eth_getTransactionReceipt") == "abc"
    chain, nodes = agreeing(a=lacks, b=lacks, c=has)
    assert await chain.receipts([HASH]) == [None]
    assert asked(nodes, "eth_getTransactionReceipt") == "ab"
    chain, _ = agreeing(a=has, b=lacks, c=node(eth_getTransactionReceipt={**RECEIPT, "gasUsed": "0x1"}))
    with pytest.raises(ChainUnavailable, match="endpoints 1 and 3 disagree"):
        await chain.receipts([HASH])


async def test_a_third_endpoint_is_asked_only_about_what_is_open() -> None:
    other = "0x" + "ef" * 32
    receipts = {HASH: RECEIPT, other: {**RECEIPT, "transactionHash": other}}

    def third(tx: str) -> Any:
        assert tx == other
        return receipts[tx]

    chain, _ = agreeing(
        a=node(eth_getTransactionReceipt=receipts.get),
        b=node(eth_getTransactionReceipt=lambda tx: RECEIPT if tx == HASH else None),
        c=node(eth_getTransactionReceipt=third),
    )
    found = await chain.receipts([HASH, other])
    assert [each is not None and each.tx_hash for each in found] == [HASH, other]
    assert await chain.receipts([]) == []


async def test_a_token_that_one_endpoint_finds_reverting_has_no_balance() -> None:
    chain, _ = agreeing(a=node(eth_call=f"0x{5:064x}"), b=node(eth_call="0x"))
    with pytest.raises(CallReverted):
        await chain.balance_at(OWNER, TOKEN, 9)


# The final head


@pytest.mark.parametrize(
    ("heads", "rule", "final"),
    [
        ((10, 10), {"blocks": 1}, 10),
        ((10, 12), {"blocks": 1}, 10),
        ((12, 10), {"blocks": 3}, 8),
        ((10, 2), {"blocks": 4}, 0),
        ((40, 44), {"tag": "finalized"}, 10),
        ((40, 44), {"tag": "safe"}, 20),
        ((10, 12, 14), {"blocks": 1}, 12),
        ((10**12, 12, 14), {"blocks": 1}, 14),
    ],
)
async def test_the_final_head_is_the_highest_that_two_have(
    heads: tuple[int, ...], rule: dict[str, Any], final: int
) -> None:
    nodes = {name: blocks_to(head) for name, head in zip("abc", heads, strict=False)}
    chain, _ = agreeing(Finality(**rule), **nodes)
    found = await chain.final()
    assert (found.number, found.hash) == (final, f"0x{final:064x}")


def fork(head: int, since: int) -> Any:
    """Return a node on a chain of its own from block ``since`` on."""

    def find(tag: str, full: bool) -> Any:
        number = {"latest": head, "finalized": head // 4}.get(tag)
        number = int(tag, 16) if number is None else number
        return block(number, hash=f"0x{number + (number >= since) * 2**200:064x}") if number <= head else None

    return node(eth_getBlockByNumber=find)


async def test_two_forks_have_no_final_head() -> None:
    for heads in ((10, 10), (10, 12), (12, 10)):
        chain, _ = agreeing(a=fork(heads[0], 10**6), b=fork(heads[1], 9))
        with pytest.raises(ChainUnavailable, match="disagree about eth_getBlockByNumber"):
            await chain.final()
    chain, _ = agreeing(Finality(blocks=4), a=fork(10, 10**6), b=fork(12, 9))
    assert (await chain.final()).number == 7
    chain, _ = agreeing(Finality(tag="finalized"), a=fork(40, 10**6), b=fork(40, 10))
    with pytest.raises(ChainUnavailable):
        await chain.final()


async def test_one_endpoint_alone_has_no_final_head() -> None:
    for silent in (DEAD, LOST, node(eth_chainId="0x2"), node(eth_getBlockByNumber=None)):
        chain, _ = agreeing(a=blocks_to(10), b=silent)
        with pytest.raises(ChainUnavailable, match="two RPC endpoints have to agree: endpoint 2"):
            await chain.final()


async def test_an_endpoint_far_behind_is_not_asked_while_two_others_are_there() -> None:
    def told(head: int, balance: str = "0x5") -> Any:
        return blocks_to(head, eth_getBalance=balance)

    for behind, named in ((97, "bc"), (98, "ab")):
        chain, nodes = agreeing(a=told(behind), b=told(100), c=told(100))
        await chain.final()
        assert await chain.balance_at(OWNER, COIN, 90) == 5
        assert asked(nodes, "eth_getBalance") == named
    # With only one other its word is needed, and it catches up.
    chain, nodes = agreeing(a=told(90), b=told(100), c=DEAD)
    assert (await chain.final()).number == 90
    assert await chain.balance_at(OWNER, COIN, 90) == 5
    nodes.nodes[A] = told(100)
    assert (await chain.final()).number == 100


@pytest.mark.parametrize(
    ("blocks", "seconds", "named"), [(3, 30, "ab"), (4, 1, "bc"), (1, 31, "bc"), (3, 0, "ab"), (0, 0, "ab")]
)
async def test_far_behind_is_more_than_three_blocks_or_thirty_seconds(blocks: int, seconds: int, named: str) -> None:
    old = node(eth_getBlockByNumber=block(100, timestamp="0x64"), eth_getBalance="0x5")
    new = node(eth_getBlockByNumber=block(100 + blocks, timestamp=hex(100 + seconds)), eth_getBalance="0x5")
    chain, nodes = agreeing(a=old, b=new, c=new)
    await chain.final()
    await chain.balance_at(OWNER, COIN, 90)
    assert asked(nodes, "eth_getBalance") == named


async def test_an_endpoint_whose_head_went_back_is_not_believed_until_it_is_back() -> None:
    def told(head: int) -> Any:
        return blocks_to(head, eth_getBalance="0x5")

    chain, nodes = agreeing(a=told(100), b=told(100))
    assert (await chain.final()).number == 100
    nodes.nodes[A] = told(99)
    with pytest.raises(ChainUnavailable, match="have to agree"):
        await chain.final()
    with pytest.raises(ChainUnavailable, match="have to agree"):
        await chain.balance_at(OWNER, COIN, 90)
    nodes.nodes[A] = told(100)
    assert (await chain.final()).number == 100
    assert await chain.balance_at(OWNER, COIN, 90) == 5


async def test_one_wild_claim_does_not_shut_an_endpoint_out_for_ever() -> None:
    chain, nodes = agreeing(a=blocks_to(10**12), b=blocks_to(100))
    assert (await chain.final()).number == 100
    nodes.nodes[A] = blocks_to(101)
    assert (await chain.final()).number == 100


# Hangs


def in_virtual_time(main: Any) -> float:
    """Run ``main`` under virtual time and return the seconds it took."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main)
        return float(runner.get_loop().time())


@pytest.mark.parametrize("hangs_on", [b"", b"eth_getBalance"])
def test_a_hung_endpoint_delays_nobody_beyond_its_own_timeout(hangs_on: bytes) -> None:
    """Though it gets only so many questions at once, the others do not wait for one timeout after the other."""

    class Hangs(FakeNodes):
        """The first endpoint takes its ten seconds and gives nothing."""

        async def post(self, url: str, body: bytes) -> bytes:
            if url == A and hangs_on in body:
                await asyncio.sleep(10)
                raise type(LOST)("no answer (TimeoutError)", hung=True)
            return await super().post(url, body)

    healthy = blocks_to(100, eth_getBalance="0x5")
    nodes = Hangs(a=healthy, b=healthy, c=healthy)

    async def ask() -> None:
        chain = EvmChain(rpc_of(nodes, agreement=True), Finality(blocks=1))
        balances = [chain.balance_at(OWNER, COIN, 90) for _ in range(100)]
        assert await asyncio.gather(*balances) == [5] * 100
        taken.append(asyncio.get_running_loop().time())
        assert (await chain.final()).number == 100
        assert await chain.balance_at(OWNER, COIN, 90) == 5
        taken.append(asyncio.get_running_loop().time())

    taken: list[float] = []
    in_virtual_time(ask())
    assert taken[0] <= 10.0
    assert taken[1] == taken[0]


def test_a_final_head_does_not_wait_for_the_slowest() -> None:
    async def slow(tag: str, full: bool) -> Any:
        await asyncio.sleep(9)
        return block(100)

    nodes = FakeNodes(a=blocks_to(100), b=node(eth_getBlockByNumber=slow), c=blocks_to(100))

    async def ask() -> None:
        chain = EvmChain(rpc_of(nodes, agreement=True), Finality(blocks=1))
        for _ in range(3):
            assert (await chain.final()).number == 100

    assert in_virtual_time(ask()) == 1.0


@pytest.mark.parametrize("url", [A, B, C])
async def test_a_disagreement_names_no_url(url: str) -> None:
    names = {A: "a", B: "b", C: "c"}
    told: dict[str, Any] = {name: node(eth_getBalance="0x5") for name in "abc"}
    chain, _ = agreeing(**{**told, names[url]: node(eth_getBalance="0x6")})
    assert await chain.balance_at(OWNER, COIN, 9) == 5, "one that differs is outvoted"
    apart: dict[str, Any] = {name: node(eth_getBalance=f"0x{number}") for number, name in enumerate("abc")}
    chain, _ = agreeing(**apart)
    with pytest.raises(ChainUnavailable) as refused:
        await chain.balance_at(OWNER, COIN, 9)
    assert "canary" not in refused.value.message
