"""Fake nodes: a transport whose endpoints are functions."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from outlay.chains import Finality
from outlay.chains.evm import EvmChain
from outlay.chains.rpc import Call, EndpointFailed, JsonRpc, quantity
from outlay.core.asset import Asset

A, B, C = "http://user:canary-password@a/canary-key", "http://b/canary-key", "http://c/canary-key"
URLS = {"a": A, "b": B, "c": C}
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
        self.nodes = {URLS[name]: node for name, node in nodes.items()}
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
            self.asked.append((next(name for name in URLS if URLS[name] == url), call["method"]))
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


def block(number: int, **changes: Any) -> dict[str, Any]:
    """Return a block as a node gives it; one each 12 s."""
    return {"number": hex(number), "hash": f"0x{number:064X}", "timestamp": hex(12 * number), **changes}


def blocks_to(head: int, **methods: Any) -> Reply:
    """Return a node with ``head`` blocks above genesis."""

    def find(tag: str, full: bool) -> Any:
        assert full is False
        number = {"latest": head, "safe": head // 2, "finalized": head // 4}.get(tag)
        number = int(tag, 16) if number is None else number
        return block(number) if number <= head else None

    return node(**{"eth_getBlockByNumber": find, **methods})
