"""Reads over several endpoints: what is believed, what is not, and what never shows."""

import json
import traceback
from typing import Any

import pytest

from outlay.chains import CallReverted, Finality
from outlay.chains.evm import EvmChain
from outlay.chains.rpc import Call, JsonRpc, quantity
from outlay.core.errors import ChainUnavailable, InvalidInput
from tests.chains.nodes import DEAD, LOST, NONCE, OWNER, A, B, Error, FakeNodes, chain_of, node, rpc_of


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
    b'{"id": null, "error": {"code": -32600, "message": "invalid request"}}',
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
