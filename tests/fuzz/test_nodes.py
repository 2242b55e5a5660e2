"""What nodes say: any answer is a fact of the right shape or no answer at all, and unknown words decide nothing."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st

from outlay.chains import Fees, Finality, Head, Receipt, SendAnswer, SendKind
from outlay.chains.answers import ROWS, TEXT_MAX, classify, merge
from outlay.chains.evm import EvmChain
from outlay.chains.rpc import JsonRpc
from outlay.codec.evm import TRANSFER_TOPIC, Eip1559, Log, erc20_transfer, parse_transfer_log, rlp_encode, tx_hash
from outlay.core.asset import Asset
from outlay.core.errors import ChainUnavailable, InvalidInput
from tests.fuzz.junk import almost_json, bent, bent_bytes, bent_text, sized, values
from tests.sim.loop import VirtualLoop

HASH, OWNER = "0x" + "ab" * 32, "0x" + "0c" * 20
COIN = Asset(network="N", kind="Native", contract=None, symbol="ETH", decimals=18)
TOKEN = Asset(network="N", kind="Erc20", contract="0x" + "aa" * 20, symbol="USDC", decimals=6)
RAW = b"\x02" * 120
LOG = {"address": "0x" + "AA" * 20, "topics": [HASH, HASH], "data": "0x01", "transactionHash": HASH, "removed": False}
ANSWERS: dict[str, Any] = {
    "eth_getBlockByNumber": {"number": "0x5", "hash": HASH, "timestamp": "0x1"},
    "eth_getTransactionCount": "0x5",
    "eth_getBalance": "0x5",
    "eth_call": "0x" + "00" * 31 + "05",
    "eth_getCode": "0x6001",
    "eth_estimateGas": "0x5208",
    "eth_maxPriorityFeePerGas": "0x1",
    "eth_feeHistory": {
        "baseFeePerGas": ["0x64", "0x65", "0x66"],
        "gasUsedRatio": [0.5, 0],
        "reward": [["0x1", "0x2", "0x3"], ["0x0", "0x0", "0x0"]],
    },
    "eth_getTransactionReceipt": {
        "transactionHash": HASH,
        "blockNumber": "0x5",
        "blockHash": HASH,
        "status": "0x1",
        "gasUsed": "0x5208",
        "effectiveGasPrice": "0x7",
        "l1Fee": "0x1",
        "logs": [LOG],
    },
}
READS: dict[str, Callable[[EvmChain], Any]] = {
    "eth_getBlockByNumber": lambda chain: chain.final(),
    "eth_getTransactionCount": lambda chain: chain.nonce_at(OWNER),
    "eth_getBalance": lambda chain: chain.balance_at(OWNER, COIN, 5),
    "eth_call": lambda chain: chain.balance_at(OWNER, TOKEN, 5),
    "eth_getCode": lambda chain: chain.code_at(OWNER),
    "eth_estimateGas": lambda chain: chain.estimate_gas(OWNER, OWNER, 1, b""),
    "eth_feeHistory": lambda chain: chain.fees(),
    "eth_getTransactionReceipt": lambda chain: chain.receipts([HASH]),
}
NEARLY = st.sampled_from(["0x", "0x0", "0xg", "0x1" + "0" * 64, "0x" + "f" * 64, "0x" + "cd" * 32, "0x" + "cd" * 33])
"""What looks like a quantity, a word or a hash: too long, too short, of something else."""

SHAPES: dict[str, type] = {"eth_getBlockByNumber": Head, "eth_feeHistory": Fees, "eth_getCode": bytes}


class Node:
    """A transport whose one endpoint answers as it is told, but for its chain id."""

    def __init__(self, answer: Callable[[dict[str, Any]], bytes]) -> None:
        self.answer = answer

    async def post(self, _url: str, body: bytes) -> bytes:
        """Answer one request."""
        call = json.loads(body)
        if isinstance(call, dict) and call["method"] == "eth_chainId":
            return b'{"jsonrpc":"2.0","id":1,"result":"0x1"}'
        return self.answer(call)


def chain_of(answer: Callable[[dict[str, Any]], bytes], finality: Finality | None = None) -> EvmChain:
    return EvmChain(JsonRpc(["http://node"], Node(answer), chain_id=1), finality or Finality(tag="finalized"))


def told(main: Coroutine[Any, Any, Any]) -> Any:
    """Return what a call came to, in virtual time: a node that has too much to do is waited for two minutes."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def said(call: dict[str, Any], **members: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": call["id"], **members}).encode()


errors = values | st.fixed_dictionaries(
    {"code": values, "message": st.sampled_from(ROWS).flatmap(lambda row: bent_text(row.text)) | values}
)


@pytest.mark.parametrize("method", sorted(READS))
@sized(60)
@given(data=st.data())
def test_any_answer_to_a_read_is_a_fact_of_its_shape_or_none(method: str, data: st.DataObject) -> None:
    right = ANSWERS[method]
    kind = data.draw(st.sampled_from(["result", "result", "result", "error", "bytes"]))
    answer: Any = data.draw({"result": bent(right, NEARLY) | values, "error": errors, "bytes": almost_json}[kind])

    def node(call: dict[str, Any]) -> bytes:
        if call["method"] != method:
            return said(call, result=ANSWERS[call["method"]])
        return answer if kind == "bytes" else said(call, **{kind: answer})

    try:
        found = told(READS[method](chain_of(node)))
    except ChainUnavailable as error:
        assert error.message
        return
    if method == "eth_getTransactionReceipt":
        (found,) = found
        assert found is None or (isinstance(found, Receipt) and found.tx_hash == HASH and found.status in (0, 1))
    else:
        assert isinstance(found, SHAPES.get(method, int))
        assert not isinstance(found, int) or 0 <= found < 2**256


@sized(150)
@given(st.sampled_from(["result", "error", "bytes"]), st.data())
def test_only_the_hash_of_what_was_sent_says_that_it_was_taken(kind: str, data: st.DataObject) -> None:
    right = json.dumps({"jsonrpc": "2.0", "id": 1, "result": tx_hash(RAW)}).encode()
    answer: Any = data.draw(
        {"result": bent_text(tx_hash(RAW)) | values, "error": errors, "bytes": bent_bytes(right)}[kind]
    )
    raw = answer if kind == "bytes" else json.dumps({"id": 1, kind: answer}).encode()
    (found,) = told(chain_of(lambda _: raw).send_raw([RAW]))
    try:
        document = json.loads(raw)
        taken = isinstance(document, dict) and document.get("error") is None and document["result"].lower()
    except (ValueError, KeyError, AttributeError, RecursionError):
        taken = None
    if found.kind is SendKind.ACCEPTED:
        assert taken == tx_hash(RAW)
    assert len(found.text) <= TEXT_MAX + 20


@sized(200)
@given(st.text(max_size=300) | st.sampled_from(ROWS).flatmap(lambda row: bent_text(row.text)))
def test_words_that_no_row_holds_decide_nothing(message: str) -> None:
    found = classify(message)
    known = any(row.text in message.lower() for row in ROWS)
    assert (found.kind is SendKind.UNKNOWN) == (not known)
    assert found.kind is not SendKind.ACCEPTED
    assert len(found.text) <= TEXT_MAX
    assert found.text.isprintable()


@sized(100)
@given(st.lists(st.sampled_from(SendKind).map(SendAnswer), max_size=6), st.randoms(use_true_random=False))
def test_a_lost_answer_outranks_every_refusal_in_any_order(answers: list[SendAnswer], dice: Any) -> None:
    merged = merge(answers).kind
    dice.shuffle(answers)
    assert merge(answers).kind is merged
    kinds = {each.kind for each in answers}
    if kinds & {SendKind.ACCEPTED, SendKind.KNOWN}:
        assert merged in (SendKind.ACCEPTED, SendKind.KNOWN)
    elif SendKind.UNKNOWN in kinds or not kinds:
        assert merged is SendKind.UNKNOWN


words = st.binary(min_size=32, max_size=32) | st.binary(min_size=20, max_size=20).map(lambda raw: raw.rjust(32, b"\0"))


@sized(200)
@given(
    st.lists(words, min_size=2, max_size=2) | st.lists(words | st.binary(max_size=40), max_size=5),
    st.sampled_from([True, True, False]),
    words | st.binary(max_size=70),
)
def test_a_log_is_a_transfer_only_in_the_exact_shape(topics: list[bytes], named: bool, data: bytes) -> None:
    log = Log(address=OWNER, topics=(*[TRANSFER_TOPIC] * named, *topics), data=data)
    found = parse_transfer_log(log)
    if found is None:
        return
    sender, recipient, amount = found.sender, found.recipient, found.amount
    assert log.topics == (TRANSFER_TOPIC, encode(["address"], [sender]), encode(["address"], [recipient]))
    assert log.data == encode(["uint256"], [amount])
    assert found.contract == OWNER


members = st.fixed_dictionaries(
    {
        name: values | st.integers(-1, 2**257)
        for name in ("chain_id", "nonce", "max_priority_fee_per_gas", "max_fee_per_gas", "gas_limit", "value")
    }
)


@sized(200)
@given(members, values | st.just(OWNER), st.binary(max_size=80))
def test_a_transaction_of_any_members_is_encoded_or_refused_by_name(numbers: Any, to: Any, data: bytes) -> None:
    builds: list[Callable[[], bytes]] = [
        lambda: Eip1559(**numbers, to=to, data=data).encode(b"\x01" * 64 + b"\x00"),
        lambda: erc20_transfer(to, numbers["value"]),
        lambda: rlp_encode([to, numbers["value"], data]),
    ]
    for build in builds:
        try:
            assert isinstance(build(), bytes)
        except InvalidInput as error:
            assert error.field
