"""Who took a nonce: found with few questions, decided by two endpoints, never guessed."""

import random
from typing import Any

import pytest

from outlay.chains import Consumed, Finality
from outlay.chains.evm import EvmChain
from outlay.core.errors import ChainUnavailable
from tests import tools
from tests.chains.nodes import OWNER, A, B, Error, FakeNodes, Reply, block, node, rpc_of

OTHER = "0x" + "0d" * 20


def name(number: int, nonce: int) -> str:
    """Return the hash of the transaction that took a nonce in a block."""
    return f"0x{number:032x}{nonce:032x}"


def history(taken: dict[int, int], *, pruned_below: int = 0, extra: Any = ()) -> Reply:
    """Return a node with the block in which ``OWNER`` used each nonce; states below some block are forgotten."""

    def count(address: str, tag: str) -> str:
        number = int(tag, 16)
        if number < pruned_below:
            raise Error("missing trie node")
        return hex(sum(at <= number for at in taken.values()))

    def body(tag: str, full: bool) -> Any:
        number = int(tag, 16)
        if not full:
            return block(number)
        mine = [
            {"from": OWNER.upper().replace("X", "x"), "nonce": hex(nonce), "hash": name(number, nonce)}
            for nonce, at in taken.items()
            if at == number
        ]
        strange = [{"from": OTHER, "nonce": hex(nonce), "hash": name(7, 7)} for nonce in taken]
        return block(number, transactions=[*strange, *mine, *extra])

    return node(eth_getTransactionCount=count, eth_getBlockByNumber=body)


def chain_over(**nodes: Any) -> tuple[EvmChain, FakeNodes]:
    """Return a chain whose endpoints have to agree if there are two, and the endpoints."""
    fakes = FakeNodes(**nodes)
    return EvmChain(rpc_of(fakes, agreement=len(nodes) > 1), Finality(blocks=1)), fakes


async def test_every_taker_is_found_at_any_height() -> None:
    seed = random.SystemRandom().randrange(2**32)
    dice = random.Random(seed)
    for _ in range(tools.examples(20)):
        head = dice.choice([0, 1, 2, 100, 10**6, 2**40])
        heights = sorted(dice.randint(0, head) for _ in range(dice.randint(0, 5)))
        reply = history(dict(enumerate(heights)))
        chain, nodes = chain_over(a=reply, b=reply)
        for nonce in range(7):
            nodes.asked.clear()
            found = await chain.transaction_at(OWNER, nonce, head)
            expected = (
                Consumed(hash=name(heights[nonce], nonce), block_number=heights[nonce])
                if nonce < len(heights)
                else None
            )
            assert found == expected, seed
            assert len(nodes.asked) <= 2 * 40 + 10, seed


async def test_what_was_taken_after_that_block_is_not_taken_yet() -> None:
    chain, _ = chain_over(a=history({0: 50}))
    assert await chain.transaction_at(OWNER, 0, 49) is None
    assert await chain.transaction_at(OWNER, 0, 50) == Consumed(hash=name(50, 0), block_number=50)


async def test_a_node_that_forgets_old_states_still_tells_of_young_ones() -> None:
    for at in range(900, 1001):
        chain, _ = chain_over(a=history({0: at}, pruned_below=899))
        assert await chain.transaction_at(OWNER, 0, 1000) == Consumed(hash=name(at, 0), block_number=at)


async def test_pruned_history_is_no_answer() -> None:
    for nodes in ({"a": 500}, {"a": 0, "b": 500}, {"a": 500, "b": 500}, {"a": 500, "b": 0}):
        chain, _ = chain_over(**{key: history({0: 100}, pruned_below=below) for key, below in nodes.items()})
        with pytest.raises(ChainUnavailable, match="archive node"):
            await chain.transaction_at(OWNER, 0, 1000)


async def test_endpoints_that_differ_tell_nothing() -> None:
    chain, _ = chain_over(a=history({0: 100}), b=history({0: 101}))
    with pytest.raises(ChainUnavailable):
        await chain.transaction_at(OWNER, 0, 1000)
    one, other = history({0: 100}), history({0: 100})

    def lies(method: str, params: list[Any]) -> Any:
        found = other(method, params)
        if method == "eth_getBlockByNumber" and params[1]:
            found["transactions"][-1]["hash"] = name(9, 9)
        return found

    chain, _ = chain_over(a=one, b=lies)
    with pytest.raises(ChainUnavailable, match="disagree"):
        await chain.transaction_at(OWNER, 0, 1000)


@pytest.mark.parametrize("answers_again", [5, 30])
async def test_a_search_that_an_outage_misled_is_noticed(answers_again: int) -> None:
    """One endpoint stops answering in the middle: what was found then is not the lowest block.

    Every block here carries somebody's authorization with this nonce, which must not be taken for the taker.
    """
    strange = {"from": OTHER, "nonce": "0x63", "hash": name(1, 1), "authorizationList": [{"nonce": "0x0"}]}
    right, asked = history({0: 100}, extra=[strange]), 0

    def fails(method: str, params: list[Any]) -> Any:
        nonlocal asked
        asked += method == "eth_getTransactionCount"
        if method == "eth_getTransactionCount" and 3 <= asked < answers_again:
            raise Error("internal error", -32603)
        return right(method, params)

    chain, _ = chain_over(a=fails)
    with pytest.raises(ChainUnavailable):
        await chain.transaction_at(OWNER, 0, 1000)


async def test_a_nonce_that_an_authorization_took_names_its_transaction() -> None:
    carries = {
        "from": OTHER,
        "nonce": "0x63",
        "hash": name(1, 1),
        "authorizationList": [{"nonce": "0x5"}, {"nonce": "0x0"}],
    }
    plain = history({0: 50}, extra=[carries])

    def without_own(method: str, params: list[Any]) -> Any:
        found = plain(method, params)
        if method == "eth_getBlockByNumber" and params[1]:
            found["transactions"] = [each for each in found["transactions"] if each["from"] == OTHER]
        return found

    chain, _ = chain_over(a=without_own)
    assert await chain.transaction_at(OWNER, 0, 60) == Consumed(hash=name(1, 1), block_number=50)
    chain, _ = chain_over(a=plain)  # a transaction of one's own comes first
    assert await chain.transaction_at(OWNER, 0, 60) == Consumed(hash=name(50, 0), block_number=50)


@pytest.mark.parametrize(
    "transactions",
    [
        None,
        "0x",
        [],
        ["0x" + "ab" * 32],
        [{"from": OWNER, "nonce": "0x1", "hash": name(1, 1)}],
        [{"from": OWNER, "nonce": "0x0"}],
        [{"from": OWNER, "nonce": "0x0", "hash": name(1, 1)}, {"from": OWNER, "nonce": "0x0", "hash": name(2, 2)}],
        [{"from": "nobody", "nonce": "0x0", "hash": name(1, 1)}],
    ],
)
async def test_a_block_that_does_not_show_one_taker_tells_nothing(transactions: Any) -> None:
    right = history({0: 50})

    def body(method: str, params: list[Any]) -> Any:
        return block(50, transactions=transactions) if method == "eth_getBlockByNumber" else right(method, params)

    for nodes in ({"a": body}, {"a": body, "b": body}):
        chain, _ = chain_over(**nodes)
        with pytest.raises(ChainUnavailable):
            await chain.transaction_at(OWNER, 0, 60)


async def test_the_count_at_the_end_is_told_by_two() -> None:
    chain, nodes = chain_over(a=history({}), b=history({}))
    assert await chain.transaction_at(OWNER, 0, 60) is None
    nodes.nodes[B] = history({0: 50})
    with pytest.raises(ChainUnavailable, match="disagree"):
        await chain.transaction_at(OWNER, 0, 60)
    assert A in nodes.nodes
