"""One fake node: JSON-RPC over what it sees of the network, in the mood it is in."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from outlay.chains.fake.clients import CLIENTS, Refusal, Refused, Wording
from outlay.chains.fake.ledger import Done
from outlay.chains.fake.pool import Pool, Sent
from outlay.core.errors import InvalidInput

if TYPE_CHECKING:
    from outlay.chains.fake.network import Block, Branch, FakeNetwork, Mined

_ZERO_ADDRESS = "0x" + "00" * 20


class Way(StrEnum):
    """What becomes of a request and its answer on the way."""

    THROUGH = "through"
    NO_CONNECTION = "no_connection"  #: never arrives, and the caller knows
    REQUEST_LOST = "request_lost"  #: never arrives; to the caller the same as the next
    ANSWER_LOST = "answer_lost"  #: is carried out; the answer never comes
    GARBLED = "garbled"  #: is carried out; what comes back is not JSON


class Batch(StrEnum):
    """How the answers of a batch come back."""

    IN_ORDER = "in_order"
    REVERSED = "reversed"
    TWICE = "twice"  #: every answer two times
    PARTIAL = "partial"  #: every second one is missing


Lie = Callable[[Sequence[Any], Any], Any]
"""Takes a method's parameters and the honest result; returns what the node says instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mood:
    """How a node treats a request."""

    lag: int = 0  #: blocks it is behind
    delay_s: float = 0.0  #: loop time before it answers
    way: Way = Way.THROUGH
    status: int = 200  #: another HTTP status: nothing is carried out
    retry_after_s: int | None = None  #: beside such a status
    errors: Mapping[str, Wording] = field(default_factory=dict)  #: by method or ``*``: said instead of doing it
    said: Mapping[str, Wording] = field(default_factory=dict)  #: by method: said although it was done
    lies: Mapping[str, Lie] = field(default_factory=dict)  #: by method
    chain_id: int | None = None  #: what it calls its chain
    batch: Batch = Batch.IN_ORDER
    batch_max: int | None = None  #: calls it takes in one request
    swallows: bool = False  #: says that it took a transaction, and forgets it
    keeps_to_itself: bool = False  #: tells nobody what it took
    history: int | None = None  #: blocks behind its head whose accounts it still knows


CALM = Mood()


class Failure(Exception):
    """A method ends with an error object. Stays inside ``chains.fake``."""

    def __init__(self, code: int, message: str, data: str | None = None) -> None:
        super().__init__(message)
        self.document: dict[str, Any] = {"code": code, "message": message}
        if data is not None:
            self.document["data"] = data


@dataclass(frozen=True, slots=True)
class _View:
    """What a node sees for the time of one request."""

    branch: "Branch"
    number: int  #: of its newest block
    mood: Mood

    @property
    def head(self) -> "Block":
        return self.branch.blocks[self.number]


class FakeNode:
    """One endpoint."""

    def __init__(self, network: "FakeNetwork", number: int, client: str) -> None:
        """Follow the main branch, calm.

        Args:
            network: what it tells about.
            number: its place, from 1; part of its URL.
            client: whose words and manners it has.

        Raises:
            InvalidInput: no such client.
        """
        if client not in CLIENTS:
            raise InvalidInput(f"no client is called {client}", field="nodes")
        self.url = f"http://node-{number}.invalid"
        self.client = CLIENTS[client]
        self.branch = "main"
        self.pool = Pool()
        self.mood = CALM
        self.plan: Callable[[Sequence[str]], Mood] | None = None
        """Gives the mood for one request by the methods it asks for; None: always ``mood``."""
        self.asked: dict[str, int] = {}  #: calls so far, by method
        self._network = network

    def offer(self, sent: Sent) -> None:
        """Take a transaction from another node or from a block that is gone, if it fits."""
        try:
            self._take(sent, self._view(self.mood))
        except Refused:
            return  # as between nodes: nobody hears about it

    def mood_for(self, body: bytes) -> Mood:
        """Return the mood in which it treats this request."""
        if self.plan is None:
            return self.mood
        try:
            document = json.loads(body)
        except ValueError:
            return self.mood
        calls = document if isinstance(document, list) else [document]
        return self.plan([str(call.get("method")) for call in calls if isinstance(call, dict)])

    def answer(self, body: bytes, mood: Mood) -> bytes:
        """Carry out a request, one call or a batch, and return the body of the answer."""
        try:
            document = json.loads(body)
        except ValueError:
            return _encoded({"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "parse error"}})
        if not isinstance(document, list):
            return _encoded(self._call(document, mood))
        if mood.batch_max is not None and len(document) > mood.batch_max:
            error = {"code": -32600, "message": "batch too large"}
            return _encoded({"jsonrpc": "2.0", "id": None, "error": error})
        answers = [self._call(call, mood) for call in document]
        if mood.batch is Batch.REVERSED:
            answers.reverse()
        elif mood.batch is Batch.TWICE:
            answers = [each for each in answers for _ in range(2)]
        elif mood.batch is Batch.PARTIAL:
            answers = answers[::2]
        return _encoded(answers)

    def _call(self, call: Any, mood: Mood) -> dict[str, Any]:
        method = call.get("method") if isinstance(call, dict) else None
        if not isinstance(method, str):
            return {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "invalid request"}}
        self.asked[method] = self.asked.get(method, 0) + 1
        answer: dict[str, Any] = {"jsonrpc": "2.0", "id": call.get("id")}
        try:
            answer["result"] = self._result(method, call.get("params") or [], mood)
        except Failure as failure:
            answer["error"] = failure.document
        return answer

    def _result(self, method: str, params: Sequence[Any], mood: Mood) -> Any:
        said = mood.errors.get(method) or mood.errors.get("*")
        if said is not None:
            raise Failure(*said)
        handler = _METHODS.get(method)
        if handler is None or (self._network.legacy and method in _NOT_LEGACY):
            raise Failure(-32601, f"the method {method} does not exist/is not available")
        try:
            result = handler(self, self._view(mood), *params)
        except Refused as refused:
            raise Failure(*self.client.word(refused)) from None
        except (TypeError, ValueError, AttributeError):
            raise Failure(-32602, "invalid params") from None
        if method in mood.said:
            raise Failure(*mood.said[method])
        lie = mood.lies.get(method)
        return result if lie is None else lie(params, result)

    def _view(self, mood: Mood) -> _View:
        branch = self._network.branches[self.branch]
        return _View(branch, max(0, branch.head.number - mood.lag), mood)

    def _take(self, sent: Sent, view: _View) -> None:
        network = self._network
        self.pool.add(
            sent,
            view.head.state,
            0 if network.legacy else network.base_fee,
            network.limits,
            self.client,
            coded=network.has_code(sent.sender),
        )

    # Methods

    def _chain_id(self, view: _View) -> str:
        return hex(self._network.chain_id if view.mood.chain_id is None else view.mood.chain_id)

    def _net_version(self, view: _View) -> str:
        return str(int(self._chain_id(view), 16))

    def _client_version(self, _view: _View) -> str:
        return f"{self.client.name}/fake"

    def _syncing(self, _view: _View) -> bool:
        return False

    def _block_number(self, view: _View) -> str:
        return hex(view.number)

    def _get_block_by_number(self, view: _View, tag: str, full: bool = False) -> dict[str, Any] | None:
        number = _height(tag, view)
        return None if number > view.number else self._block(view.branch.blocks[number], full=full)

    def _get_block_by_hash(self, view: _View, block_hash: str, full: bool = False) -> dict[str, Any] | None:
        blocks = view.branch.blocks[: view.number + 1]
        block = next((each for each in reversed(blocks) if each.hash == block_hash.lower()), None)
        return None if block is None else self._block(block, full=full)

    def _get_transaction_count(self, view: _View, address: str, tag: str = "latest") -> str:
        count = _state_at(tag, view).state.nonces.get(address.lower(), 0)
        if tag == "pending":
            count += len(self.pool.executable(address.lower(), count))
        return hex(count)

    def _get_balance(self, view: _View, address: str, tag: str = "latest") -> str:
        return hex(_state_at(tag, view).state.coins.get(address.lower(), 0))

    def _get_code(self, view: _View, address: str, tag: str = "latest") -> str:
        _state_at(tag, view)
        return "0x" + self._network.contracts.code(address.lower()).hex()

    def _run(self, view: _View, request: Mapping[str, Any], tag: str, gas: int) -> Done:
        """Run a call without keeping what it does."""
        state = _state_at(tag, view).state.copy()
        data = bytes.fromhex(str(request.get("data") or request.get("input") or "0x")[2:])
        sender = str(request.get("from") or _ZERO_ADDRESS).lower()
        value = int(str(request.get("value") or "0x0"), 16)
        if value > state.coins.get(sender, 0):
            raise Failure(-32000, "insufficient funds for transfer")
        done = self._network.contracts.run(state, sender, str(request["to"]).lower(), value, data, gas)
        if not done.ok:
            raise Failure(3, "execution reverted", "0x")
        return done

    def _eth_call(self, view: _View, request: Mapping[str, Any], tag: str = "latest") -> str:
        return "0x" + self._run(view, request, tag, self._network.block_gas).output.hex()

    def _estimate_gas(self, view: _View, request: Mapping[str, Any], tag: str = "latest") -> str:
        return hex(self._run(view, request, tag, self._network.block_gas).gas)

    def _gas_price(self, _view: _View) -> str:
        return hex((0 if self._network.legacy else self._network.base_fee) + self._network.suggested_tip)

    def _max_priority_fee(self, _view: _View) -> str:
        return hex(self._network.suggested_tip)

    def _fee_history(
        self, view: _View, count: str | int, newest: str, percentiles: Sequence[float] = ()
    ) -> dict[str, Any]:
        wanted = int(count, 16) if isinstance(count, str) else count
        last = min(_height(newest, view), view.number)
        blocks = view.branch.blocks[max(0, last - wanted + 1) : last + 1]
        at_head = last == view.branch.head.number
        following = self._network.base_fee if at_head else view.branch.blocks[last + 1].base_fee
        return {
            "oldestBlock": hex(blocks[0].number),
            "baseFeePerGas": [hex(block.base_fee) for block in blocks] + [hex(following)],
            "gasUsedRatio": [block.gas_used / self._network.block_gas for block in blocks],
            "reward": [_rewards(block, percentiles) for block in blocks],
        }

    def _send_raw(self, view: _View, raw: str) -> str:
        try:
            sent = self._network.read(bytes.fromhex(raw.removeprefix("0x")))
        except (InvalidInput, ValueError):
            raise Refused(Refusal.MALFORMED) from None
        if view.mood.swallows:
            return sent.hash
        self._take(sent, view)
        if not view.mood.keeps_to_itself:
            self._network.pass_on(sent, self)
        return sent.hash

    def _get_receipt(self, view: _View, tx_hash: str) -> dict[str, Any] | None:
        found = view.branch.find(tx_hash.lower(), view.number)
        return None if found is None else self._receipt(*found)

    def _get_transaction(self, view: _View, tx_hash: str) -> dict[str, Any] | None:
        found = view.branch.find(tx_hash.lower(), view.number)
        if found is not None:
            return self._transaction(found[1].sent, *found)
        waiting = self.pool.find(tx_hash.lower())
        return None if waiting is None else self._transaction(waiting)

    # Documents

    def _block(self, block: "Block", *, full: bool) -> dict[str, Any]:
        document = {
            "number": hex(block.number),
            "hash": block.hash,
            "parentHash": block.parent_hash,
            "timestamp": hex(block.timestamp),
            "gasLimit": hex(self._network.block_gas),
            "gasUsed": hex(block.gas_used),
            "miner": _ZERO_ADDRESS,
            "transactions": [
                self._transaction(each.sent, block, each) if full else each.sent.hash for each in block.mined
            ],
        }
        return document if self._network.legacy else {**document, "baseFeePerGas": hex(block.base_fee)}

    def _transaction(self, sent: Sent, block: "Block | None" = None, mined: "Mined | None" = None) -> dict[str, Any]:
        fees = {} if sent.legacy else {"maxFeePerGas": hex(sent.cap), "maxPriorityFeePerGas": hex(sent.tip)}
        return {
            "hash": sent.hash,
            "type": "0x0" if sent.legacy else "0x2",
            "chainId": hex(sent.chain_id),
            "from": sent.sender,
            "nonce": hex(sent.nonce),
            "gas": hex(sent.gas_limit),
            "gasPrice": hex(sent.cap if mined is None else mined.gas_price),
            **fees,
            "to": sent.to,
            "value": hex(sent.value),
            "input": "0x" + sent.data.hex(),
            "blockNumber": None if block is None else hex(block.number),
            "blockHash": None if block is None else block.hash,
            "transactionIndex": None if mined is None else hex(mined.index),
        }

    def _receipt(self, block: "Block", mined: "Mined") -> dict[str, Any]:
        place = {
            "transactionHash": mined.sent.hash,
            "transactionIndex": hex(mined.index),
            "blockHash": block.hash,
            "blockNumber": hex(block.number),
        }
        logs = [
            {
                "address": log.address,
                "topics": ["0x" + topic.hex() for topic in log.topics],
                "data": "0x" + log.data.hex(),
                "logIndex": hex(mined.first_log + at),
                "removed": False,
                **place,
            }
            for at, log in enumerate(mined.logs)
        ]
        data_fee = {"l1Fee": hex(mined.data_fee)} if self._network.contracts.data_fee_per_byte else {}
        return {
            **place,
            "from": mined.sent.sender,
            "to": mined.sent.to,
            "contractAddress": None,
            "status": "0x1" if mined.ok else "0x0",
            "type": "0x0" if mined.sent.legacy else "0x2",
            "gasUsed": hex(mined.gas_used),
            "cumulativeGasUsed": hex(sum(each.gas_used for each in block.mined[: mined.index + 1])),
            "effectiveGasPrice": hex(mined.gas_price),
            "logs": logs,
            **data_fee,
        }


_METHODS: Mapping[str, Callable[..., Any]] = {
    "eth_chainId": FakeNode._chain_id,
    "net_version": FakeNode._net_version,
    "web3_clientVersion": FakeNode._client_version,
    "eth_syncing": FakeNode._syncing,
    "eth_blockNumber": FakeNode._block_number,
    "eth_getBlockByNumber": FakeNode._get_block_by_number,
    "eth_getBlockByHash": FakeNode._get_block_by_hash,
    "eth_getTransactionCount": FakeNode._get_transaction_count,
    "eth_getBalance": FakeNode._get_balance,
    "eth_getCode": FakeNode._get_code,
    "eth_call": FakeNode._eth_call,
    "eth_estimateGas": FakeNode._estimate_gas,
    "eth_gasPrice": FakeNode._gas_price,
    "eth_maxPriorityFeePerGas": FakeNode._max_priority_fee,
    "eth_feeHistory": FakeNode._fee_history,
    "eth_sendRawTransaction": FakeNode._send_raw,
    "eth_getTransactionReceipt": FakeNode._get_receipt,
    "eth_getTransactionByHash": FakeNode._get_transaction,
}
_NOT_LEGACY = frozenset({"eth_maxPriorityFeePerGas", "eth_feeHistory"})


def _height(tag: str, view: _View) -> int:
    if tag in ("latest", "pending"):
        return view.number
    if tag == "earliest":
        return 0
    if tag in ("safe", "finalized"):
        return min(view.number, view.branch.safe if tag == "safe" else view.branch.finalized)
    return int(tag, 16)


def _state_at(tag: str, view: _View) -> "Block":
    number = _height(tag, view)
    if number > view.number:
        raise Failure(-32000, "header not found")
    if view.mood.history is not None and number < view.number - view.mood.history:
        raise Failure(-32000, "missing trie node (path ) state is not available")
    return view.branch.blocks[number]


def _rewards(block: "Block", percentiles: Sequence[float]) -> list[str]:
    """Return the tip at each percentile of the gas a block used; 0 for an empty one, as geth says."""
    paid = sorted((each.gas_price - block.base_fee, each.gas_used) for each in block.mined)
    found = []
    for percentile in percentiles:
        left = block.gas_used * percentile / 100
        tip = 0
        for tip, gas in paid:  # noqa: B007 - the last one looked at counts
            left -= gas
            if left <= 0:
                break
        found.append(hex(tip))
    return found


def _encoded(document: Any) -> bytes:
    return json.dumps(document).encode()
