"""Sends to several endpoints: what their answers mean together."""

import asyncio
import json
from typing import Any

import pytest

from outlay.chains import SendAnswer, SendKind
from outlay.chains.rpc import EndpointFailed
from outlay.codec.evm import tx_hash
from tests.chains.nodes import DEAD, HASH, LOST, Error, FakeNodes, Reply, node, rpc_of

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
