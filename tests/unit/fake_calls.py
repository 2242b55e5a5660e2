"""Plain JSON-RPC calls to the nodes of a fake network."""

import json
from typing import Any

from outlay.chains.fake import FakeNetwork


def exchange(net: FakeNetwork, document: Any, *, node: int = 0) -> Any:
    """Return a node's answer to a JSON document, in the mood the node is in."""
    told = net.nodes[node]
    body = json.dumps(document).encode()
    return json.loads(told.answer(body, told.mood_for(body)))


def _call(net: FakeNetwork, method: str, params: tuple[Any, ...], node: int) -> Any:
    return exchange(net, {"jsonrpc": "2.0", "id": 7, "method": method, "params": list(params)}, node=node)


def ask(net: FakeNetwork, method: str, *params: Any, node: int = 0) -> Any:
    """Return the result of a call."""
    answer = _call(net, method, params, node)
    assert "error" not in answer, answer
    assert answer["id"] == 7
    return answer["result"]


def fails(net: FakeNetwork, method: str, *params: Any, node: int = 0) -> str:
    """Return the message with which a call fails."""
    answer = _call(net, method, params, node)
    assert "result" not in answer, answer
    message: str = answer["error"]["message"]
    return message


def send(net: FakeNetwork, raw: bytes, *, node: int = 0) -> str:
    """Send a transaction and return its hash."""
    tx_hash: str = ask(net, "eth_sendRawTransaction", "0x" + raw.hex(), node=node)
    return tx_hash
