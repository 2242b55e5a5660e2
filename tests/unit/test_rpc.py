"""Several endpoints, badly behaved nodes: what is believed, what is not, and what never shows."""

import asyncio
import json
import traceback
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from outlay.chains import CallReverted, Finality, SendAnswer, SendKind, fee_paid
from outlay.chains.answers import ROWS, TEXT_MAX, classify, merge
from outlay.chains.evm import EvmChain
from outlay.chains.rpc import Call, EndpointFailed, HttpTransport, JsonRpc, octets, quantity
from outlay.codec.evm import tx_hash
from outlay.core.asset import Asset
from outlay.core.errors import ChainUnavailable, InvalidInput

A, B = "http://user:canary-password@a/canary-key", "http://b/canary-key"
HASH = "0x" + "ab" * 32
OWNER = "0x" + "0c" * 20
COIN = Asset(network="N", kind="Native", contract=None, symbol="ETH", decimals=18)
TOKEN = Asset(network="N", kind="Erc20", contract="0x" + "aa" * 20, symbol="USDC", decimals=6)
Reply = Callable[[str, list[Any]], Any]


class Error(Exception):
    """Makes a fake node answer with a JSON-RPC error."""

    def __init__(self, message: str, code: int = -32000) -> None:
        super().__init__(message)
        self.document = {"code": code, "message": message}


class FakeNodes:
    """A transport whose endpoints are functions; keeps what was asked."""

    def __init__(self, **nodes: Any) -> None:
        self.nodes = {{"a": A, "b": B}[name]: node for name, node in nodes.items()}
        self.asked: list[tuple[str, str]] = []

    async def post(self, url: str, body: bytes) -> bytes:
        """Answer as the endpoint's function says."""
        await asyncio.sleep(0)
        node = self.nodes[url]
        if isinstance(node, bytes):
            return node
        if isinstance(node, EndpointFailed):
            raise node
        document = json.loads(body)
        batch = document if isinstance(document, list) else [document]
        answers = []
        for call in reversed(batch):  # nodes may answer in any order
            self.asked.append(("a" if url == A else "b", call["method"]))
            answers.append({"jsonrpc": "2.0", "id": call["id"], **await self._answer(node, call)})
        return json.dumps(answers if isinstance(document, list) else answers[0]).encode()

    async def _answer(self, node: Reply, call: dict[str, Any]) -> dict[str, Any]:
        try:
            result = node(call["method"], call["params"])
            return {"result": await result if asyncio.iscoroutine(result) else result}
        except Error as error:
            return {"error": error.document}


def node(**methods: Any) -> Reply:
    """Return a node of chain 1; a method is given as its answer, an error, or a function of its parameters."""
    answers = {"eth_chainId": "0x1", **methods}

    def reply(method: str, params: list[Any]) -> Any:
        answer = answers[method]
        if isinstance(answer, Error):
            raise answer
        return answer(*params) if callable(answer) else answer

    return reply


def rpc_of(nodes: FakeNodes, **options: Any) -> JsonRpc:
    """Return the endpoints as a client."""
    return JsonRpc(list(nodes.nodes), nodes, chain_id=1, **options)


def chain_of(finality: Finality | None = None, **nodes: Any) -> EvmChain:
    """Return a chain over fake nodes."""
    return EvmChain(rpc_of(FakeNodes(**nodes)), finality or Finality(blocks=1))


NONCE = Call("eth_getTransactionCount", [OWNER, "latest"], quantity)
DEAD = EndpointFailed("no connection", delivered=False)
LOST = EndpointFailed("no answer")


async def test_the_first_healthy_endpoint_answers() -> None:
    nodes = FakeNodes(a=node(eth_getTransactionCount="0x5"), b=node(eth_getTransactionCount="0x6"))
    rpc = rpc_of(nodes)
    assert await rpc.read([NONCE]) == [5]
    assert await rpc.read([NONCE]) == [5]
    assert nodes.asked == [("a", "eth_chainId"), *[("a", "eth_getTransactionCount")] * 2]


BROKEN_NODES: list[Any] = [
    DEAD,
    LOST,
    b"",
    b"{",
    b"\xff\xff",
    b"[" * 100_000,
    b"5",
    b"[5]",
    b'{"id": 1}',
    b'{"id": true, "result": "0x1"}',
    b'{"id": "1", "result": "0x1"}',
    b'{"id": 2, "result": "0x1"}',
    b'{"result": "0x1"}',
    b'[{"id": 1, "result": "0x1"}, {"id": 1, "result": "0x1"}]',
    b'{"id": 1, "error": "gone"}',
    b'{"id": null, "error": {"code": 429, "message": "too many requests"}}',
    b'{"id": 1, "result": ' + b"9" * 5000 + b"}",
    node(eth_chainId="0x2"),
    node(eth_chainId="1"),
    node(eth_chainId=None),
    node(eth_chainId=Error("method not found")),
    node(eth_getTransactionCount=Error("header not found")),
    node(eth_getTransactionCount="5"),
    node(eth_getTransactionCount=5),
    node(eth_getTransactionCount=None),
    node(eth_getTransactionCount="0x"),
    node(eth_getTransactionCount="0x-5"),
    node(eth_getTransactionCount="0x 5"),
    node(eth_getTransactionCount="0x1_0"),
    node(eth_getTransactionCount="0x" + "1" * 65),
    node(eth_getTransactionCount=["0x5"]),
]


@pytest.mark.parametrize("broken", BROKEN_NODES)
async def test_a_broken_endpoint_is_passed_over(broken: Any) -> None:
    assert await rpc_of(FakeNodes(a=broken, b=node(eth_getTransactionCount="0x6"))).read([NONCE]) == [6]


@pytest.mark.parametrize("broken", BROKEN_NODES)
async def test_broken_endpoints_alone_are_chain_unavailable_and_show_no_url(broken: Any) -> None:
    with pytest.raises(ChainUnavailable, match="endpoint 1") as failed:
        await rpc_of(FakeNodes(a=broken, b=broken)).read([NONCE])
    assert "canary" not in "".join(traceback.format_exception(failed.value))


async def test_a_failed_endpoint_is_asked_last_for_a_while_and_checked_again() -> None:
    nodes = FakeNodes(a=DEAD, b=node(eth_getTransactionCount="0x6"))
    rpc = rpc_of(nodes)
    assert await rpc.read([NONCE]) == [6]
    nodes.nodes[A] = node(eth_chainId="0x2", eth_getTransactionCount="0x5")
    assert await rpc.read([NONCE]) == [6]
    nodes.nodes[B] = LOST
    with pytest.raises(ChainUnavailable, match="endpoint 2: no answer; endpoint 1: it serves chain 2, not 1"):
        await rpc.read([NONCE])


async def test_an_endpoint_that_comes_back_as_another_chain_is_refused() -> None:
    nodes = FakeNodes(a=node(eth_getTransactionCount="0x5"))
    rpc = rpc_of(nodes)
    assert await rpc.read([NONCE]) == [5]
    nodes.nodes[A] = LOST
    with pytest.raises(ChainUnavailable):
        await rpc.read([NONCE])
    nodes.nodes[A] = node(eth_chainId="0x2", eth_getTransactionCount="0x5")
    with pytest.raises(ChainUnavailable, match="it serves chain 2, not 1"):
        await rpc.read([NONCE])


async def test_a_call_a_node_cannot_run_goes_to_the_next_endpoint() -> None:
    lags = node(eth_call=Error("header not found"))
    chain = chain_of(a=lags, b=node(eth_call="0x05"))
    assert await chain.call(OWNER, b"", 9) == b"\x05"


async def test_large_reads_are_split_and_stay_in_order() -> None:
    nodes = FakeNodes(a=node(eth_getTransactionCount=lambda address, block: block))
    calls = [Call("eth_getTransactionCount", [OWNER, hex(n)], quantity) for n in range(25)]
    assert await rpc_of(nodes, batch_size=10).read(calls) == list(range(25))


async def test_a_batch_with_a_missing_answer_is_not_used() -> None:
    def short(method: str, params: list[Any]) -> Any:
        return "0x1"

    class Short(FakeNodes):
        async def post(self, url: str, body: bytes) -> bytes:
            answers = json.loads(await super().post(url, body))
            return json.dumps(answers[:-1] if isinstance(answers, list) else answers).encode()

    with pytest.raises(ChainUnavailable, match="answers are missing"):
        await rpc_of(Short(a=short)).read([NONCE, NONCE])


def test_a_network_needs_an_endpoint() -> None:
    with pytest.raises(InvalidInput):
        JsonRpc([], FakeNodes(), chain_id=1)


@pytest.mark.parametrize(
    "error",
    [
        Error("execution reverted: paused", 3),
        Error("VM execution error.", -32015),
        Error("Execution reverted"),
        Error("insufficient funds for transfer"),
    ],
)
async def test_a_revert_is_told_apart_and_asks_no_second_endpoint(error: Error) -> None:
    nodes = FakeNodes(a=node(eth_call=error, eth_estimateGas=error), b=node())
    chain = EvmChain(rpc_of(nodes), Finality(blocks=1))
    with pytest.raises(CallReverted):
        await chain.call(OWNER, b"")
    with pytest.raises(CallReverted):
        await chain.estimate_gas(OWNER, OWNER, 1, b"")
    assert {name for name, _ in nodes.asked} == {"a"}


# --- sends ------------------------------------------------------------------------------------------------------

RAW = b"\x02\x01"


def accepts(raw: str) -> str:
    """Answer a send as a node does that took it."""
    return tx_hash(bytes.fromhex(raw[2:]))


def sender(message: str) -> Reply:
    """Return a node that refuses every send with ``message``."""
    return node(eth_sendRawTransaction=Error(message))


TAKES = node(eth_sendRawTransaction=accepts)
LIAR = node(eth_sendRawTransaction=HASH)


@pytest.mark.parametrize(
    ("a", "b", "kind"),
    [
        (TAKES, TAKES, SendKind.ACCEPTED),
        (TAKES, DEAD, SendKind.ACCEPTED),
        (LOST, TAKES, SendKind.ACCEPTED),
        (sender("nonce too low"), TAKES, SendKind.ACCEPTED),
        (sender("already known"), sender("nonce too low"), SendKind.KNOWN),
        (DEAD, sender("nonce too low: next nonce 5, tx nonce 4"), SendKind.NONCE_TOO_LOW),
        (sender("replacement transaction underpriced"), sender("nonce too low"), SendKind.NONCE_TOO_LOW),
        (sender("insufficient funds for gas * price + value"), DEAD, SendKind.INSUFFICIENT_FUNDS),
        (sender("intrinsic gas too low"), sender("insufficient funds"), SendKind.INSUFFICIENT_FUNDS),
        (sender("the node is on fire"), sender("nonce too low"), SendKind.UNKNOWN),
        (node(eth_chainId="0x2", eth_sendRawTransaction=accepts), sender("nonce too low"), SendKind.NONCE_TOO_LOW),
        (DEAD, DEAD, SendKind.UNKNOWN),
        (LIAR, DEAD, SendKind.UNKNOWN),
        (LIAR, sender("nonce too low"), SendKind.UNKNOWN),
        (node(eth_sendRawTransaction=None), DEAD, SendKind.UNKNOWN),
        (b"{", DEAD, SendKind.UNKNOWN),
    ],
)
async def test_what_several_endpoints_say_about_a_send(a: Any, b: Any, kind: SendKind) -> None:
    (answer,) = await rpc_of(FakeNodes(a=a, b=b)).send([RAW])
    assert answer.kind is kind
    assert "canary" not in answer.text


async def test_a_lost_answer_outranks_the_refusal_of_another_endpoint() -> None:
    def loses(method: str, params: list[Any]) -> Any:
        if method == "eth_chainId":
            return "0x1"
        raise EndpointFailed("no answer (TimeoutError)")

    rpc = rpc_of(FakeNodes(a=loses, b=sender("insufficient funds")))
    assert await rpc.send([RAW]) == [SendAnswer(SendKind.UNKNOWN, "endpoint 1: no answer (TimeoutError)")]


async def test_sends_go_to_every_endpoint_by_batches() -> None:
    taken: dict[str, list[str]] = {"a": [], "b": []}

    def keeper(name: str) -> Reply:
        def keep(raw: str) -> str:
            taken[name].append(raw)
            return accepts(raw)

        return node(eth_sendRawTransaction=keep)

    raws = [bytes([2, n]) for n in range(25)]
    answers = await rpc_of(FakeNodes(a=keeper("a"), b=keeper("b")), batch_size=10).send(raws)
    assert [answer.kind for answer in answers] == [SendKind.ACCEPTED] * 25
    assert set(taken["a"]) == set(taken["b"]) == {"0x" + raw.hex() for raw in raws}
    assert await rpc_of(FakeNodes(a=TAKES)).send([]) == []


async def test_after_a_lost_answer_an_endpoint_gets_no_further_batch() -> None:
    seen: list[str] = []

    def fails_once(raw: str) -> str:
        seen.append(raw)
        raise EndpointFailed("no answer")

    answers = await rpc_of(FakeNodes(a=node(eth_sendRawTransaction=fails_once)), batch_size=1).send([b"\2\1", b"\2\2"])
    assert [answer.text for answer in answers] == ["endpoint 1: no answer", "no endpoint could be asked"]
    assert [answer.kind.value for answer in answers] == ["unknown", "unknown"]
    assert seen == ["0x0201"]


async def test_one_refusal_in_a_batch_is_its_own() -> None:
    def picky(raw: str) -> str:
        if raw == "0x0202":
            raise Error("nonce too low")
        return accepts(raw)

    answers = await rpc_of(FakeNodes(a=node(eth_sendRawTransaction=picky))).send([b"\2\1", b"\2\2", b"\2\3"])
    assert [answer.kind.value for answer in answers] == ["accepted", "nonce_too_low", "accepted"]


async def test_a_missing_answer_in_a_batch_is_unknown_for_that_one_alone() -> None:
    class Short(FakeNodes):
        async def post(self, url: str, body: bytes) -> bytes:
            answers = json.loads(await super().post(url, body))
            return json.dumps(answers[1:] if isinstance(answers, list) else answers).encode()

    answers = await rpc_of(Short(a=TAKES)).send([b"\2\1", b"\2\2"])
    assert [answer.kind.value for answer in answers] == ["accepted", "unknown"]


async def test_a_hanging_endpoint_delays_an_accepted_send_by_its_grace_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outlay.chains.rpc._GRACE_S", 0.05)
    cancelled = []

    async def hang(raw: str) -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(raw)
            raise
        return ""

    rpc = rpc_of(FakeNodes(a=node(eth_sendRawTransaction=hang), b=TAKES))
    async with asyncio.timeout(5):
        assert (await rpc.send([RAW]))[0].kind is SendKind.ACCEPTED
    assert cancelled == ["0x0201"]


# --- wording ----------------------------------------------------------------------------------------------------

RECORDED = [
    # geth
    ("already known", "known"),
    ("nonce too low: next nonce 5, tx nonce 4", "nonce_too_low"),
    ("nonce too low: address 0xAb5801a7D398351b8bE11C439e05C5B3259aeC9B, tx: 4 state: 5", "nonce_too_low"),
    ("replacement transaction underpriced", "underpriced"),
    ("transaction underpriced: tip needed 1, tip permitted 0", "underpriced"),
    ("max fee per gas less than block base fee: address 0xAb, maxFeePerGas: 1, baseFee: 7", "underpriced"),
    ("insufficient funds for gas * price + value: balance 0, tx cost 21000, overshot 21000", "insufficient_funds"),
    ("nonce too high: address 0xAb, tx: 9 state: 5", "refused"),
    ("intrinsic gas too low: gas 100, minimum needed 21000", "refused"),
    ("exceeds block gas limit", "refused"),
    ("tx fee (2.10 ether) exceeds the configured cap (1.00 ether)", "refused"),
    ("txpool is full", "refused"),
    ("authority nonce too low", "refused"),
    # anvil, as answered by version 1.7.1
    ("transaction already imported", "known"),
    ("nonce too low", "nonce_too_low"),
    ("Insufficient funds for gas * price + value", "insufficient_funds"),
    ("invalid chain id for signer", "refused"),
    # nethermind, older and newer
    ("AlreadyKnown", "known"),
    ("OldNonce, Current nonce: 5, nonce of rejected tx: 4", "nonce_too_low"),
    ("FeeTooLow, MaxFeePerGas too low. MaxFeePerGas: 1, BaseFee: 7", "underpriced"),
    ("FeeTooLowToCompete, FeePerGas needs to be higher than 7", "underpriced"),
    ("ReplacementNotAllowed, existing GasBottleneck: 7", "underpriced"),
    ("InsufficientFunds, Account balance: 0, cumulative cost: 21000", "insufficient_funds"),
    ("NonceGap, Future nonce. Expected nonce: 5", "refused"),
    ("GasLimitExceeded, Gas limit: 1, gas limit of rejected tx: 2", "refused"),
    # besu
    ("Known transaction", "known"),
    ("Nonce too low", "nonce_too_low"),
    ("Replacement transaction underpriced", "underpriced"),
    ("Gas price below configured minimum gas price", "underpriced"),
    ("Upfront cost exceeds account balance", "insufficient_funds"),
    ("Intrinsic gas exceeds gas limit", "refused"),
    ("Transaction gas limit exceeds block gas limit", "refused"),
    # erigon
    ("INTERNAL_ERROR: existing tx with same hash", "known"),
    ("INTERNAL_ERROR: could not replace existing tx", "underpriced"),
    ("fee cap less than block base fee", "underpriced"),
    # openethereum
    ("Transaction with the same hash was already imported.", "known"),
    ("Transaction nonce is too low. Try incrementing the nonce.", "nonce_too_low"),
    (
        "Transaction gas price is too low. There is another transaction with same nonce in the queue."
        " Try increasing the gas price or incrementing the nonce.",
        "underpriced",
    ),
    ("There are too many transactions in the queue. Your transaction was dropped due to limit.", "refused"),
    # nobody's: the outcome is unknown
    ("", "unknown"),
    ("rate limit exceeded", "unknown"),
    ("internal error", "unknown"),
    ("request timed out", "unknown"),
    ("Syncing", "unknown"),
]


@pytest.mark.parametrize(("message", "kind"), RECORDED)
def test_recorded_wordings_are_classified(message: str, kind: str) -> None:
    assert classify(message) == SendAnswer(SendKind(kind), message)


def test_every_row_can_be_reached_and_says_where_it_comes_from() -> None:
    for row in ROWS:
        assert row.fragment == row.fragment.lower()
        assert row.client
        assert row.source
        assert classify(f"x {row.fragment.upper()} y").kind is row.kind, row


def test_long_and_unprintable_texts_are_shortened_to_one_line() -> None:
    answer = classify("nonce too low\n\x1b[31m\u2028" + "x" * 10_000)
    assert answer.kind is SendKind.NONCE_TOO_LOW
    assert answer.text.isprintable()
    assert len(answer.text) == TEXT_MAX


def test_no_answers_are_an_unknown_outcome() -> None:
    assert merge([]).kind is SendKind.UNKNOWN


# --- EVM answers ------------------------------------------------------------------------------------------------


def block(number: int, **changes: Any) -> dict[str, Any]:
    """Return a block as a node gives it."""
    return {"number": hex(number), "hash": "0x" + f"{number:064X}", "timestamp": "0x64", **changes}


def blocks_to(head: int) -> Reply:
    """Return a node with ``head`` blocks above genesis."""

    def find(tag: str, full: bool) -> Any:
        assert full is False
        number = {"latest": head, "safe": head // 2, "finalized": head // 4}.get(tag)
        number = int(tag, 16) if number is None else number
        return block(number) if number <= head else None

    return node(eth_getBlockByNumber=find)


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
    assert (found.number, found.hash, found.timestamp) == (final, "0x" + f"{final:064x}", 100)
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


async def test_one_balance_that_cannot_be_read_makes_all_of_them_unknown() -> None:
    for broken in ("0x", None, Error("execution reverted", 3), Error("limit exceeded")):
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


@pytest.mark.parametrize("value", ["0x", "0xA", "0xab ", "0Xab", "ab", None, 5, b"0xab"])
def test_data_is_whole_bytes_in_hex(value: Any) -> None:
    if value == "0x":
        assert octets(value) == b""
    else:
        with pytest.raises(Exception, match="expected"):
            octets(value)


# --- HTTP -------------------------------------------------------------------------------------------------------


class Server:
    """A real HTTP server whose behaviour a test sets."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[str] = []
        self.reply: Callable[[web.Request], Any] = lambda request: web.Response(text="{}")

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        self.requests.append(request.path)
        reply = self.reply(request)
        response: web.StreamResponse = await reply if asyncio.iscoroutine(reply) else reply
        return response


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """Run a server on a free port."""
    server = Server()
    app = web.Application()
    app.router.add_post("/{path:.*}", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/canary-key"
    yield server
    await runner.cleanup()


@pytest.fixture
async def transport() -> AsyncIterator[HttpTransport]:
    """Return a transport with short limits."""
    transport = HttpTransport(timeout_s=0.5, answer_max=1000)
    yield transport
    await transport.close()


async def failure(transport: HttpTransport, url: str) -> EndpointFailed:
    """Return how a POST fails, after checking that it shows no URL."""
    with pytest.raises(EndpointFailed) as failed:
        await transport.post(url, b"{}")
    shown = "".join(traceback.format_exception(failed.value))
    assert "canary" not in shown
    assert failed.value.__context__ is None
    return failed.value


async def test_http_brings_the_answer(server: Server, transport: HttpTransport) -> None:
    async def echo(request: web.Request) -> web.Response:
        assert request.content_type == "application/json"
        return web.Response(body=await request.read() * 2)

    server.reply = echo
    assert await transport.post(server.url, b"{}") == b"{}{}"


async def test_http_ignores_proxies_of_the_environment(
    server: Server, transport: HttpTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert await transport.post(server.url, b"{}") == b"{}"


async def test_http_follows_no_redirect(server: Server, transport: HttpTransport) -> None:
    server.reply = lambda request: web.Response(status=307, headers={"Location": "/elsewhere"})
    assert "HTTP status 307" in str(await failure(transport, server.url))
    assert server.requests == ["/canary-key"]


async def test_http_reads_no_more_than_the_limit(server: Server, transport: HttpTransport) -> None:
    server.reply = lambda request: web.Response(text="x" * 1001)
    assert "larger than 1000" in str(await failure(transport, server.url))
    server.reply = lambda request: web.Response(text="x" * 1000)
    assert len(await transport.post(server.url, b"{}")) == 1000

    def bomb(request: web.Request) -> web.Response:
        response = web.Response(text="x" * 1_000_000)
        response.enable_compression(web.ContentCoding.gzip)
        return response

    server.reply = bomb
    assert "larger than 1000" in str(await failure(transport, server.url))


async def test_http_gives_up_in_time_and_then_anything_may_have_happened(
    server: Server, transport: HttpTransport
) -> None:
    async def stall(request: web.Request) -> web.Response:
        await asyncio.sleep(2)
        return web.Response()

    server.reply = stall
    failed = await failure(transport, server.url)
    assert failed.delivered
    assert "no answer" in str(failed)


async def test_http_tells_when_nothing_was_delivered(transport: HttpTransport, unused_tcp_port: int) -> None:
    for url in (f"http://127.0.0.1:{unused_tcp_port}/canary-key", "nonsense-canary", "http://[canary"):
        assert not (await failure(transport, url)).delivered


async def test_http_calls_a_cut_connection_unknown(server: Server, transport: HttpTransport) -> None:
    def cut(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    server.reply = cut
    assert (await failure(transport, server.url)).delivered


async def test_http_errors_are_failures(server: Server, transport: HttpTransport) -> None:
    server.reply = lambda request: web.Response(status=429, text="{}")
    assert str(await failure(transport, server.url)) == "HTTP status 429"
