"""The fake node's pool: geth's rules, and the manners of other clients."""

from typing import Any

import pytest

from outlay.chains import SendKind
from outlay.chains.answers import classify
from outlay.chains.fake import CLIENTS, FakeNetwork, Mood
from outlay.core.errors import InvalidInput
from outlay.signer.keys import SigningKey
from tests.fakes import COIN, GWEI, Payer, network
from tests.unit.fake_calls import ask, fails, send

PAYER = Payer()


@pytest.fixture
def net() -> FakeNetwork:
    """Return one geth node and a funded payer."""
    return network(coins={PAYER.address: COIN})


def nonces(net: FakeNetwork) -> tuple[int, int]:
    """Return the payer's mined count, and the one with what waits."""
    return tuple(int(ask(net, "eth_getTransactionCount", PAYER.address, tag), 16) for tag in ("latest", "pending"))  # type: ignore[return-value]


def test_a_transaction_waits_until_a_block_is_made(net: FakeNetwork) -> None:
    tx_hash = send(net, PAYER.sign())
    assert nonces(net) == (0, 1)
    assert ask(net, "eth_getTransactionReceipt", tx_hash) is None
    assert ask(net, "eth_getTransactionByHash", tx_hash)["blockNumber"] is None
    net.mine()
    assert nonces(net) == (1, 1)
    assert ask(net, "eth_getTransactionReceipt", tx_hash)["status"] == "0x1"


@pytest.mark.parametrize(
    ("tip", "cap", "taken"), [(110, 110, True), (109, 110, False), (110, 109, False), (100, 200, False)]
)
def test_a_replacement_pays_ten_percent_more_of_both_fees(net: FakeNetwork, tip: int, cap: int, taken: bool) -> None:
    first = send(net, PAYER.sign(max_priority_fee_per_gas=GWEI, max_fee_per_gas=10 * GWEI))
    second = PAYER.sign(max_priority_fee_per_gas=tip * GWEI // 100, max_fee_per_gas=cap * GWEI // 10)
    if not taken:
        assert fails(net, "eth_sendRawTransaction", "0x" + second.hex()) == "replacement transaction underpriced"
    else:
        send(net, second)
    net.mine()
    assert (net.transaction(first) is None) == taken


def test_known_used_and_unpayable_transactions_are_refused(net: FakeNetwork) -> None:
    raw = PAYER.sign()
    send(net, raw)
    assert fails(net, "eth_sendRawTransaction", "0x" + raw.hex()) == "already known"
    net.mine()
    assert fails(net, "eth_sendRawTransaction", "0x" + raw.hex()) == "nonce too low: next nonce 1, tx nonce 0"
    assert "insufficient funds" in fails(net, "eth_sendRawTransaction", "0x" + PAYER.sign(1, value=COIN).hex())
    # What waits in front of it counts too.
    send(net, PAYER.sign(1, value=COIN * 6 // 10))
    assert "insufficient funds" in fails(net, "eth_sendRawTransaction", "0x" + PAYER.sign(2, value=COIN // 2).hex())


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"chain_id": 1}, "invalid chain id"),
    ({"gas_limit": 20_999}, "intrinsic gas too low"),
    ({"gas_limit": 30_000_001, "max_fee_per_gas": GWEI}, "exceeds block gas limit"),
    ({"max_priority_fee_per_gas": 0}, "transaction underpriced"),
    ({"gas_limit": 2_000_000, "max_fee_per_gas": 1000 * GWEI}, "exceeds the configured cap"),
    ({"gas_limit": 21_015, "data": b"\1"}, "intrinsic gas too low"),
]


@pytest.mark.parametrize(("changes", "text"), REFUSED)
def test_what_no_block_could_take_is_refused(net: FakeNetwork, changes: dict[str, Any], text: str) -> None:
    assert text in fails(net, "eth_sendRawTransaction", "0x" + PAYER.sign(**changes).hex())
    assert list(net.nodes[0].pool) == []


def test_a_cheap_transaction_is_kept_until_the_base_fee_falls(net: FakeNetwork) -> None:
    net.base_fee = 11 * GWEI
    tx_hash = send(net, PAYER.sign(max_fee_per_gas=10 * GWEI))
    net.mine(3)
    assert net.transaction(tx_hash) is None
    assert nonces(net) == (0, 1)
    net.base_fee = 10 * GWEI
    net.mine()
    assert net.transaction(tx_hash) is not None


def test_a_gap_is_queued_and_runs_once_it_is_filled(net: FakeNetwork) -> None:
    second = send(net, PAYER.sign(1))
    assert nonces(net) == (0, 0)
    net.mine()
    assert net.transaction(second) is None
    send(net, PAYER.sign(0))
    assert nonces(net) == (0, 2)
    net.mine()
    assert net.transaction(second) is not None


def test_a_full_pool_keeps_sixteen_of_an_account_without_a_word(net: FakeNetwork) -> None:
    net.nodes[0].pool.capacity = 0
    hashes = [send(net, PAYER.sign(nonce)) for nonce in range(20)]
    assert nonces(net) == (0, 16)
    assert ask(net, "eth_getTransactionByHash", hashes[16]) is None
    net.mine()
    assert nonces(net) == (16, 16)


def test_the_queue_behind_a_gap_is_cut(net: FakeNetwork) -> None:
    for nonce in range(1, 70):
        send(net, PAYER.sign(nonce))
    assert len(list(net.nodes[0].pool)) == 64


def test_dropped_transactions_can_be_sent_again(net: FakeNetwork) -> None:
    raw = PAYER.sign()
    net.drop(send(net, raw))
    assert nonces(net) == (0, 0)
    send(net, raw)
    net.drop()
    assert list(net.nodes[0].pool) == []


def test_an_account_with_code_cannot_send_but_a_delegated_one_can(net: FakeNetwork) -> None:
    net.deploy(PAYER.address, b"\x60\x00")
    assert fails(net, "eth_sendRawTransaction", "0x" + PAYER.sign().hex()) == "sender not an eoa"
    net.deploy(PAYER.address, bytes.fromhex("ef0100") + b"\x11" * 20)
    send(net, PAYER.sign())


def test_bytes_that_are_no_transaction_are_refused(net: FakeNetwork) -> None:
    for bad in ("0x", "0x02c0", "zz"):
        assert "rlp" in fails(net, "eth_sendRawTransaction", bad)
    stranger = SigningKey(b"\x07" * 32).address
    assert ask(net, "eth_getTransactionCount", stranger, "latest") == "0x0"


KINDS = {
    "known": SendKind.KNOWN,
    "nonce_too_low": SendKind.NONCE_TOO_LOW,
    "replacement": SendKind.UNDERPRICED,
    "funds": SendKind.INSUFFICIENT_FUNDS,
}


@pytest.mark.parametrize("client", sorted(CLIENTS))
def test_every_client_says_it_in_its_own_words_and_is_understood(client: str) -> None:
    net = network(nodes=[client], coins={PAYER.address: COIN})
    raw = PAYER.sign()
    send(net, raw)
    said = {"known": fails(net, "eth_sendRawTransaction", "0x" + raw.hex())}
    said["replacement"] = fails(net, "eth_sendRawTransaction", "0x" + PAYER.sign(value=6).hex())
    net.mine()
    said["nonce_too_low"] = fails(net, "eth_sendRawTransaction", "0x" + raw.hex())
    said["funds"] = fails(net, "eth_sendRawTransaction", "0x" + PAYER.sign(1, value=COIN).hex())
    assert {name: classify(text).kind for name, text in said.items()} == KINDS


def test_clients_differ_about_gaps_and_cheap_transactions() -> None:
    net = network(nodes=["nethermind", "anvil", "geth"], coins={PAYER.address: COIN})
    net.gossip = False
    net.base_fee = 20 * GWEI
    gap, cheap = PAYER.sign(1, max_fee_per_gas=30 * GWEI), PAYER.sign(max_fee_per_gas=10 * GWEI)
    assert "NonceGap" in fails(net, "eth_sendRawTransaction", "0x" + gap.hex(), node=0)
    assert "less than block base fee" in fails(net, "eth_sendRawTransaction", "0x" + cheap.hex(), node=1)
    for raw in (gap, cheap):
        send(net, raw, node=2)
    with pytest.raises(InvalidInput):
        network(nodes=["nobody"])


def test_a_node_passes_on_what_it_took_unless_it_keeps_or_forgets_it() -> None:
    net = network(nodes=3, coins={PAYER.address: COIN})
    net.nodes[1].mood = Mood(keeps_to_itself=True)
    net.nodes[2].mood = Mood(swallows=True)
    common, own, lost = (send(net, PAYER.sign(nonce), node=nonce) for nonce in range(3))
    held = [[each in node.pool for each in (common, own, lost)] for node in net.nodes]
    assert held == [[True, False, False], [True, True, False], [True, False, False]]
    net.mine()
    assert [net.transaction(each) is not None for each in (common, own, lost)] == [True, True, False]
