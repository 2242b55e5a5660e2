"""What a node may answer to each question, and what is refused."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from outlay.chains import CallReverted, Finality, fee_paid
from outlay.chains.evm import EvmChain
from outlay.chains.rpc import octets
from outlay.core.errors import ChainUnavailable, InvalidInput
from tests.chains.nodes import COIN, HASH, OWNER, TOKEN, Error, FakeNodes, block, blocks_to, chain_of, node, rpc_of


@pytest.mark.parametrize(
    ("head", "rule", "final"),
    [
        (10, {"blocks": 1}, 10),
        (10, {"blocks": 2}, 9),
        (10, {"blocks": 11}, 0),
        (10, {"blocks": 12}, 0),
        (0, {"blocks": 1}, 0),
        (10, {"tag": "safe"}, 5),
        (10, {"tag": "finalized"}, 2),
    ],
)
async def test_the_final_block_follows_the_rule(head: int, rule: dict[str, Any], final: int) -> None:
    chain = chain_of(Finality(**rule), a=blocks_to(head))
    found = await chain.final()
    assert (found.number, found.hash, found.timestamp) == (final, "0x" + f"{final:064x}", 12 * final)
    assert (await chain.head()).number == head
    assert await chain.block_hash_at(head + 1) is None
    assert await chain.block_hash_at(0) == "0x" + "0" * 64


@pytest.mark.parametrize("rule", [{}, {"blocks": 1, "tag": "safe"}, {"blocks": 0}, {"tag": "latest"}])
def test_a_finality_rule_is_one_thing(rule: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        Finality(**rule)


RECEIPT: dict[str, Any] = {
    "transactionHash": HASH,
    "blockNumber": "0x5",
    "blockHash": "0x" + "CD" * 32,
    "status": "0x1",
    "gasUsed": "0x5208",
    "effectiveGasPrice": "0x7",
    "logs": [],
}
LOG = {"address": "0x" + "AA" * 20, "topics": [HASH], "data": "0x01"}


async def test_a_receipt_is_read_whole() -> None:
    chain = chain_of(a=node(eth_getTransactionReceipt={**RECEIPT, "l1Fee": "0xa", "logs": [LOG]}))
    (receipt,) = await chain.receipts([HASH])
    assert receipt is not None
    assert (receipt.tx_hash, receipt.block_number, receipt.block_hash) == (HASH, 5, "0x" + "cd" * 32)
    assert (receipt.status, receipt.gas_used, receipt.effective_gas_price) == (1, 21000, 7)
    (log,) = receipt.logs
    assert (log.address, log.topics, log.data) == ("0x" + "aa" * 20, (b"\xab" * 32,), b"\x01")
    assert fee_paid(receipt) == 21000 * 7 + 10


async def test_no_receipt_and_a_pending_receipt_are_none() -> None:
    found = {HASH: None, HASH.upper().replace("X", "x"): {**RECEIPT, "blockHash": None}}
    chain = chain_of(a=node(eth_getTransactionReceipt=lambda tx: found[tx]))
    assert await chain.receipts(list(found)) == [None, None]
    assert await chain.receipts([]) == []


RECEIPT_DEFECTS: tuple[dict[str, Any], ...] = (
    {"transactionHash": "0x" + "ac" * 32},
    {"transactionHash": None},
    {"blockHash": "0xcd"},
    {"blockNumber": "five"},
    {"blockNumber": hex(2**63)},
    {"gasUsed": hex(2**63)},
    {"effectiveGasPrice": hex(2**128)},
    {"status": "0x2"},
    {"status": None},
    {"status": 1},
    {"gasUsed": None},
    {"effectiveGasPrice": None},
    {"l1Fee": "ten"},
    {"logs": None},
    {"logs": {}},
    {"logs": ["x"]},
    {"logs": [{**LOG, "address": "0xaa"}]},
    {"logs": [{**LOG, "topics": None}]},
    {"logs": [{**LOG, "topics": ["0xab"]}]},
    {"logs": [{**LOG, "topics": [HASH] * 5}]},
    {"logs": [{**LOG, "data": "0x1"}]},
    {"logs": [{**LOG, "data": None}]},
    {"logs": [{**LOG, "removed": True}]},
    {"logs": [{**LOG, "transactionHash": "0x" + "ac" * 32}]},
)
OLDEST = {"oldestBlock": "0x5"}
BAD_ANSWERS: list[tuple[str, Any, Callable[[EvmChain], Any]]] = [
    *(
        ("eth_getTransactionReceipt", {**RECEIPT, **changes}, lambda chain: chain.receipts([HASH]))
        for changes in RECEIPT_DEFECTS
    ),
    ("eth_getTransactionReceipt", [], lambda chain: chain.receipts([HASH])),
    ("eth_getTransactionReceipt", "0x", lambda chain: chain.receipts([HASH])),
    ("eth_getBlockByNumber", None, lambda chain: chain.head()),
    ("eth_getBlockByNumber", block(5, hash=None), lambda chain: chain.head()),
    ("eth_getBlockByNumber", {**block(5), "number": None}, lambda chain: chain.head()),
    ("eth_getBlockByNumber", block(5, timestamp="soon"), lambda chain: chain.head()),
    ("eth_getBlockByNumber", block(5), lambda chain: chain.block_hash_at(4)),
    ("eth_getBlockByNumber", block(2**63), lambda chain: chain.head()),
    ("eth_getBlockByNumber", block(5, timestamp=hex(2**63)), lambda chain: chain.head()),
    ("eth_getTransactionCount", hex(2**63), lambda chain: chain.nonce_at(OWNER)),
    ("eth_getBlockByNumber", block(5), lambda chain: chain.final()),  # block 5 came back for block 4
    ("eth_getBalance", "100", lambda chain: chain.balance_at(OWNER, COIN, 1)),
    ("eth_getBalance", None, lambda chain: chain.balance_at(OWNER, COIN, 1)),
    ("eth_call", "0x", lambda chain: chain.balance_at(OWNER, TOKEN, 1)),
    ("eth_call", "0x05", lambda chain: chain.balance_at(OWNER, TOKEN, 1)),
    ("eth_call", "0x" + "00" * 33, lambda chain: chain.balance_at(OWNER, TOKEN, 1)),
    ("eth_call", "zz", lambda chain: chain.call(OWNER, b"")),
    ("eth_getCode", None, lambda chain: chain.code_at(OWNER)),
    ("eth_estimateGas", "many", lambda chain: chain.estimate_gas(OWNER, OWNER, 0, b"")),
    *(
        ("eth_feeHistory", history, lambda chain: chain.fees())
        for history in (
            None,
            {},
            {**OLDEST, "baseFeePerGas": ["0x1"], "gasUsedRatio": [], "reward": []},
            {**OLDEST, "baseFeePerGas": ["0x1", "0x2"], "gasUsedRatio": [0.5], "reward": None},
            {**OLDEST, "baseFeePerGas": ["0x1", "0x2"], "gasUsedRatio": [0.5], "reward": [["0x1"]]},
            {**OLDEST, "baseFeePerGas": ["0x1", "0x2"], "gasUsedRatio": ["x"], "reward": [["0x1", "0x1", "0x1"]]},
            {**OLDEST, "baseFeePerGas": ["0x1", 2], "gasUsedRatio": [0.5], "reward": [["0x1", "0x1", "0x1"]]},
            {"baseFeePerGas": ["0x1", "0x2"], "gasUsedRatio": [0.5], "reward": [["0x1", "0x1", "0x1"]]},
            {**OLDEST, "baseFeePerGas": {"a": 1}, "gasUsedRatio": [0.5], "reward": [["0x1", "0x1", "0x1"]]},
        )
    ),
]


@pytest.mark.parametrize(("method", "answer", "ask"), BAD_ANSWERS)
async def test_an_answer_of_another_shape_is_chain_unavailable(method: str, answer: Any, ask: Any) -> None:
    chain = chain_of(Finality(blocks=2), a=node(**{method: answer}))
    with pytest.raises(ChainUnavailable):
        await ask(chain)


async def test_balances_are_read_at_the_block_asked_for() -> None:
    def call(request: dict[str, str], tag: str) -> str:
        assert request["to"] == TOKEN.contract
        assert request["data"] == "0x70a08231" + OWNER[2:].rjust(64, "0")
        return "0x" + f"{int(tag, 16) + 1:064x}"

    chain = chain_of(a=node(eth_getBalance=lambda owner, tag: tag, eth_call=call))
    assert await chain.balance_at(OWNER, COIN, 9) == 9
    assert await chain.balance_at(OWNER, TOKEN, 9) == 10


async def test_balances_of_a_wallet_are_read_with_one_request() -> None:
    class Counting(FakeNodes):
        async def post(self, url: str, body: bytes) -> bytes:
            sent.append(json.loads(body))
            return await super().post(url, body)

    sent: list[Any] = []
    chain = EvmChain(rpc_of(Counting(a=node(eth_getBalance="0x7", eth_call=f"0x{8:064x}"))), Finality(blocks=1))
    assert await chain.balances(OWNER, [COIN, TOKEN, COIN]) == [7, 8, 7]
    check, batch = sent
    assert check["method"] == "eth_chainId"
    assert [call["params"][1] for call in batch] == ["latest"] * 3


async def test_a_token_that_does_not_answer_hides_no_other_balance() -> None:
    for broken in ("0x", Error("execution reverted", 3)):
        chain = chain_of(a=node(eth_getBalance="0x7", eth_call=broken))
        assert await chain.balances(OWNER, [COIN, TOKEN, COIN]) == [7, None, 7]
        with pytest.raises(CallReverted):
            await chain.balance_at(OWNER, TOKEN, 1)


async def test_one_balance_that_a_node_does_not_give_makes_all_of_them_unknown() -> None:
    for broken in (None, "0x05", Error("header not found")):
        chain = chain_of(a=node(eth_getBalance="0x7", eth_call=broken))
        with pytest.raises(ChainUnavailable):
            await chain.balances(OWNER, [COIN, TOKEN])


async def test_fees_are_medians_of_busy_blocks() -> None:
    def history(count: str, newest: str, percentiles: list[int]) -> dict[str, Any]:
        assert (int(count, 16), newest, percentiles) == (20, "latest", [10, 50, 90])
        rewards = [["0x1", "0x5", "0x9"], ["0x0"] * 3, ["0x3", "0x7", "0xb"], ["0x2", "0x6", "0xa"]]
        return {**OLDEST, "baseFeePerGas": ["0x64"] * 4 + ["0x65"], "gasUsedRatio": [1, 0, 0.5, 0.1], "reward": rewards}

    fees = await chain_of(a=node(eth_feeHistory=history)).fees()
    assert (fees.base_fee, fees.tip_slow, fees.tip_standard, fees.tip_fast) == (101, 2, 6, 10)
    assert fees.block_number == 8


async def test_an_idle_chain_is_asked_for_a_tip() -> None:
    idle = {**OLDEST, "baseFeePerGas": ["0x64", "0x65"], "gasUsedRatio": [0], "reward": [["0x0", "0x0", "0x0"]]}
    fees = await chain_of(a=node(eth_feeHistory=idle, eth_maxPriorityFeePerGas="0x8")).fees()
    assert (fees.base_fee, fees.tip_slow, fees.tip_standard, fees.tip_fast) == (101, 8, 8, 8)


async def test_a_legacy_chain_has_one_price() -> None:
    nodes = FakeNodes(a=node(eth_blockNumber="0x9", eth_gasPrice="0x77"))
    fees = await EvmChain(rpc_of(nodes), Finality(blocks=1), fee_model="legacy").fees()
    assert (fees.block_number, fees.base_fee) == (9, 0)
    assert (fees.tip_slow, fees.tip_standard, fees.tip_fast) == (0x77, 0x77, 0x77)
    assert "eth_feeHistory" not in {method for _, method in nodes.asked}


def oracle(answers: dict[bytes, Any]) -> Any:
    """Return a node whose price oracle answers by the signature of what is called."""

    def call(request: dict[str, str], tag: str) -> Any:
        assert (request["to"], tag) == ("0x420000000000000000000000000000000000000f", "latest")
        data = bytes.fromhex(request["data"][2:])
        asked.append(data)
        answer = answers[data[:4]]
        if isinstance(answer, Error):
            raise answer
        return answer

    asked: list[bytes] = []
    return node(eth_call=call), asked


UPPER, EXACT = keccak(text="getL1FeeUpperBound(uint256)")[:4], keccak(text="getL1Fee(bytes)")[:4]


async def test_the_data_fee_is_asked_of_the_price_oracle() -> None:
    reply, asked = oracle({UPPER: f"0x{1234:064x}"})
    chain = EvmChain(rpc_of(FakeNodes(a=reply)), Finality(blocks=1), data_fee="op-stack")
    assert await chain.data_fee(177) == 1234
    assert asked == [UPPER + encode(["uint256"], [177])]
    assert await chain_of(a=node()).data_fee(177) == 0


@pytest.mark.parametrize("missing", ["0x", Error("execution reverted: only supports Fjord", 3)])
async def test_an_older_price_oracle_is_asked_about_as_many_bytes(missing: Any) -> None:
    reply, asked = oracle({UPPER: missing, EXACT: f"0x{99:064x}"})
    chain = EvmChain(rpc_of(FakeNodes(a=reply)), Finality(blocks=1), data_fee="op-stack")
    for size in (0, 31, 32, 177):
        assert await chain.data_fee(size) == 99
        assert asked[-1] == EXACT + encode(["bytes"], [b"\xff" * size])


async def test_without_a_price_oracle_no_data_fee_is_made_up() -> None:
    reply, _ = oracle({UPPER: "0x", EXACT: "0x"})
    chain = EvmChain(rpc_of(FakeNodes(a=reply)), Finality(blocks=1), data_fee="op-stack")
    with pytest.raises(ChainUnavailable):
        await chain.data_fee(177)
    for size in (-1, 2**20):
        with pytest.raises(InvalidInput):
            await chain.data_fee(size)


@pytest.mark.parametrize("settings", [{"fee_model": "free"}, {"data_fee": "arbitrum"}])
def test_only_known_ways_to_pay_are_taken(settings: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        EvmChain(rpc_of(FakeNodes(a=node())), Finality(blocks=1), **settings)


@pytest.mark.parametrize("value", ["0x", "0xA", "0xab ", "0Xab", "ab", None, 5, b"0xab"])
def test_data_is_whole_bytes_in_hex(value: Any) -> None:
    if value == "0x":
        assert octets(value) == b""
    else:
        with pytest.raises(Exception, match="expected"):
            octets(value)
