"""From an allowed payout to its end, on real chains that reorganise, stop, lie and stall.

One server serves every test. Each test pays from wallets of its own; a wallet that is frozen stays behind.

=================  ==================================================================================================
``quick``          mines a block for each transaction; a block is final at once
``slow``           mines only when a test says so; three blocks make a block final; its endpoint can be cut off
``odd``            like ``quick``, with tokens that misbehave
``mixed``          two endpoints, the first of which serves another chain
=================  ==================================================================================================
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from dfns_sdk import DfnsError

from outlay.app import Application
from outlay.core.errors import Unavailable
from outlay.layout import Layout
from tests import tools
from tests.fault.proxy import Proxy
from tests.scene import REVERTING_CODE, Net, Scene, chain_nonce, fresh, in_pool, network_text, spend_as
from tests.world import ETH, NETWORK, USDC, Receiver, World, until


class Sending(Scene):
    """A server with four networks."""

    def __init__(self, world: World, nets: Mapping[str, Net], slow_proxy: Proxy, wrong: Proxy, wrong_url: str) -> None:
        """Take over what the fixture opened."""
        super().__init__(world, list(nets.values()))
        self.slow_proxy, self.wrong, self.wrong_url = slow_proxy, wrong, wrong_url
        self.quick, self.slow, self.odd, self.mixed = (nets[name] for name in ("quick", "slow", "odd", "mixed"))

    def looks_at_slow(self) -> None:
        """Wait until the server has surely asked for all receipts on ``slow`` since the newest block."""
        self.slow_proxy.wait_for("eth_getTransactionReceipt", 6)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, anvil: tools.StartAnvil) -> Iterator[Sending]:
    """Open the server on its four networks."""
    with ExitStack() as closing:
        slow_node = anvil(chain_id=31338, options=("--no-mining",))
        odd_node, mixed_node, wrong_node = anvil(chain_id=31339), anvil(chain_id=31340), anvil(chain_id=999)
        slow_proxy, wrong_proxy = Proxy(slow_node.url), Proxy(wrong_node.url)
        closing.callback(slow_proxy.close)
        closing.callback(wrong_proxy.close)
        odd_tokens = {name: tools.deploy(odd_node.url, name) for name in ("FeeToken", "FalseToken", "NoReturnToken")}
        odd_decimals = {"Issued": 6, "Cents": 2, "Atoms": 24}
        odd_tokens |= {name: tools.deploy(odd_node.url, "IssuedToken", [n]) for name, n in odd_decimals.items()}
        moved = tools.deploy(odd_node.url, "IssuedToken", [6])
        odd_tokens["Moved"] = tools.deploy(odd_node.url, "SecondEntry", [moved])
        tools.send_contract(odd_node.url, moved, "IssuedToken", "addSecond", [odd_tokens["Moved"]])
        dollar = {"TestDollar": tools.deploy(slow_node.url, "TestDollar")}
        nets = {
            "slow": Net(name="BaseSepolia", url=slow_node.url, tokens=dollar, blocks=3),
            "odd": Net(name="ArbitrumSepolia", url=odd_node.url, tokens=odd_tokens, blocks=1, decimals=odd_decimals),
            "mixed": Net(name="OptimismSepolia", url=mixed_node.url, tokens={}, blocks=1),
        }
        extra = (
            network_text(nets["slow"], 31338, [slow_proxy.url])
            + network_text(nets["odd"], 31339, [odd_node.url])
            + network_text(nets["mixed"], 31340, [wrong_proxy.url, mixed_node.url])
        )
        folder = tmp_path_factory.mktemp("sending")
        world = closing.enter_context(World.open(folder, preset="none", extra=extra))
        nets["quick"] = Net(name=NETWORK, url=world.chain.url, tokens={"TestDollar": world.token}, blocks=1)
        yield Sending(world, nets, slow_proxy, wrong_proxy, wrong_node.url)


@pytest.fixture
def receiver(scene: Sending) -> Iterator[Receiver]:
    """Receive every event for one test."""
    with scene.world.receiver() as (receiver, _):
        yield receiver


# Finality and reorganisations


def test_a_payout_is_confirmed_only_when_three_blocks_stand(scene: Sending) -> None:
    wallet = scene.wallet(scene.slow)
    paid = scene.wait_until(scene.pay(wallet, 10**15), "status", "Broadcasted")
    for _ in range(2):
        scene.slow.mine()
        scene.wait_for_event(paid, "mined")
        scene.looks_at_slow()
        assert scene.read(paid)["status"] == "Broadcasted"
    scene.slow.mine()
    done = scene.confirmed(paid)
    receipt = tools.rpc(scene.slow.url, "eth_getTransactionReceipt", [done["txHash"]])
    assert int(tools.rpc(scene.slow.url, "eth_blockNumber"), 16) == int(receipt["blockNumber"], 16) + 2
    scene.assert_ledger_equals_chain(scene.slow, wallet)


def test_after_a_reorganisation_the_same_bytes_are_sent_again_and_pay_once(scene: Sending, receiver: Receiver) -> None:
    wallet, recipient = scene.wallet(scene.slow), fresh()
    paid = scene.wait_until(scene.pay(wallet, 10**15, to=recipient), "status", "Broadcasted")
    scene.slow.mine()
    scene.wait_for_event(paid, "mined")
    before = scene.signed(paid)

    tools.rpc(scene.slow.url, "anvil_reorg", [1, []])
    scene.wait_for_event(paid, "reorged")
    assert scene.read(paid)["status"] == "Broadcasted"
    assert tools.coin_balance(scene.slow.url, recipient) == 0, "the payment was in the block that is gone"
    until(lambda: in_pool(scene.slow, paid["txHash"]), "the transaction to be sent again")
    scene.slow.mine(3)

    done = scene.confirmed(paid)
    assert [(row["raw"], row["nonce"], row["hash"]) for row in scene.signed(paid)] == [
        (row["raw"], row["nonce"], row["hash"]) for row in before
    ]
    assert done["txHash"] == paid["txHash"]
    assert tools.coin_balance(scene.slow.url, recipient) == 10**15
    assert scene.history(paid) == ["allowed", "assigned", "signed", "sent", "mined", "reorged", "mined", "paid"]
    receiver.wait_for("wallet.transfer.confirmed", lambda data: data["transferRequest"]["id"] == paid["id"])
    told = [event for event in receiver.events() if event["data"].get("transferRequest", {}).get("id") == paid["id"]]
    assert [event["kind"].rpartition(".")[2] for event in told] == ["requested", "broadcasted", "confirmed"]
    scene.assert_ledger_equals_chain(scene.slow, wallet)


def test_a_revert_is_failed_only_when_final_and_its_fee_is_posted_and_velocity_corrected(
    scene: Sending, receiver: Receiver
) -> None:
    wallet, recipient = scene.wallet(scene.slow, coins=3 * ETH), fresh()
    cap = {"limit": 4000, "currency": "USD", "timeframe": 60}  # one coin is 3,000
    scene.world.admin.sdk.policies.create_policy(
        {
            "name": "one coin an hour",
            "activityKind": "Wallets:Sign",
            "rule": {"kind": "TransactionAmountVelocity", "configuration": cap},
            "action": {"kind": "Block"},
            "filters": {"walletId": {"in": [wallet["id"]]}},
        }
    )
    paid = scene.wait_until(scene.pay(wallet, ETH, to=recipient), "status", "Broadcasted")
    # A plain address when the payout was estimated becomes a contract that takes nothing.
    tools.rpc(scene.slow.url, "anvil_setCode", [recipient, REVERTING_CODE])
    for _ in range(2):
        scene.slow.mine()
        scene.wait_for_event(paid, "mined")
        scene.looks_at_slow()
        assert scene.read(paid)["status"] == "Broadcasted"
        assert scene.pay(wallet, ETH)["status"] == "Rejected", "the first payout still counts"
    scene.slow.mine()

    done = scene.world.wait_for(paid, "Failed")
    receipt = tools.rpc(scene.slow.url, "eth_getTransactionReceipt", [done["txHash"]])
    fee = int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16)
    assert receipt["status"] == "0x0"
    assert int(done["fee"]) == fee
    assert "reverted" in done["reason"]
    assert scene.held(wallet, "native") == {"spendable": 3 * ETH - fee, "reserved": 0}
    scene.assert_ledger_equals_chain(scene.slow, wallet)
    event = receiver.wait_for("wallet.transfer.failed", lambda data: data["transferRequest"]["id"] == paid["id"])
    assert event["data"]["transferRequest"]["txHash"] == done["txHash"]

    again = scene.wait_until(scene.pay(wallet, ETH), "status", "Broadcasted")
    scene.slow.mine(3)
    scene.confirmed(again)
    assert scene.pay(wallet, ETH)["status"] == "Rejected"


# The effect on the token's own word


@pytest.mark.parametrize(("token", "left"), [("FeeToken", 5 * USDC), ("FalseToken", 0)])
def test_another_effect_than_asked_stops_asset_and_wallet_and_gives_nothing_back(
    scene: Sending, receiver: Receiver, token: str, left: int
) -> None:
    contract, amount, funds = scene.odd.tokens[token], 5 * USDC, 50 * USDC
    wallet, other = (scene.wallet(scene.odd, tokens={token: funds, "NoReturnToken": funds}) for _ in range(2))
    paid = scene.wait_until(scene.pay(wallet, amount, contract=contract), "flag", "effect_mismatch")

    assert scene.frozen(wallet).startswith(f"transfer {paid['id']} had another effect than asked")
    for stopped in ((wallet, contract), (other, contract), (wallet, None)):
        with pytest.raises(DfnsError, match="frozen"):
            scene.pay(stopped[0], 1, contract=stopped[1])
    # The other wallet's other payouts go on; by then the first was looked at again and again.
    for _ in range(3):
        scene.confirmed(scene.pay(other, USDC, contract=scene.odd.tokens["NoReturnToken"]))
    now = scene.read(paid)
    assert (now["status"], now["flag"]) == ("Broadcasted", "effect_mismatch")
    assert "asked: 5000000" in now["reason"]

    # The true outflow is posted; what did not leave stays reserved until a person has looked.
    assert scene.held(wallet, contract) == {"spendable": funds - amount, "reserved": amount - left}
    assert scene.held(wallet, "native") == {"spendable": ETH - int(now["fee"]), "reserved": 0}
    scene.assert_ledger_equals_chain(scene.odd, wallet)
    (entry,) = scene.world.rows("SELECT state FROM velocity_entry WHERE transfer_id = ?", paid["id"])
    assert entry["state"] == "signed", "what may have left keeps counting"
    kinds = {e["kind"] for e in receiver.events() if e["data"].get("transferRequest", {}).get("id") == paid["id"]}
    assert kinds == {"wallet.transfer.requested", "wallet.transfer.broadcasted"}
    told = [each for each in receiver.events() if each["data"].get("payout", {}).get("id") == paid["id"]]
    assert [each["kind"] for each in told] == ["payout.effect_mismatch"]
    assert told[0]["data"]["outflow"] == str(left)

    # A person ends it: what did not leave is spendable again.
    resolve(scene, paid, "failed" if left == 0 else "paid")
    assert scene.read(paid)["status"] == ("Failed" if left == 0 else "Confirmed")
    assert scene.held(wallet, contract) == {"spendable": funds - left, "reserved": 0}
    scene.assert_ledger_equals_chain(scene.odd, wallet)


def resolve(scene: Sending, paid: Any, outcome: str) -> None:
    """Say on the command line what a payout is that had another effect than was asked for."""
    admin = scene.world.admin
    with tempfile.TemporaryDirectory() as folder:
        (token := Path(folder) / "token").write_text(admin.token)
        (key := Path(folder) / "key.pem").write_text(admin.private_key)
        words = [paid["id"], "--outcome", outcome, "--reason", "asked the recipient", "--url", scene.world.url]
        signing = ["--token-file", str(token), "--key-file", str(key), "--credential", admin.credential_id]
        command = [sys.executable, "-m", "outlay", "payouts", "resolve", *words, *signing]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(f"{paid['id']}: {'confirmed' if outcome == 'paid' else 'failed'}.")


def test_a_token_that_answers_nothing_is_paid_by_its_log(scene: Sending) -> None:
    contract, recipient = scene.odd.tokens["NoReturnToken"], fresh()
    wallet = scene.wallet(scene.odd, tokens={"NoReturnToken": 10 * USDC})
    scene.confirmed(scene.pay(wallet, 7 * USDC, to=recipient, contract=contract))
    assert tools.token_balance(scene.odd.url, contract, recipient) == 7 * USDC
    scene.assert_ledger_equals_chain(scene.odd, wallet)


@pytest.mark.parametrize("token", ["Cents", "Atoms"])
def test_a_token_with_few_or_many_decimals_is_paid_to_the_last_unit(scene: Sending, token: str) -> None:
    contract, recipient, decimals = scene.odd.tokens[token], fresh(), scene.odd.decimals[token]
    funds = 12_345 * 10**decimals + 9
    wallet = scene.wallet(scene.odd, tokens={token: funds})
    done = scene.confirmed(scene.pay(wallet, funds - 1, to=recipient, contract=contract))
    assert done["metadata"]["asset"]["decimals"] == decimals
    assert tools.token_balance(scene.odd.url, contract, recipient) == funds - 1
    assert scene.held(wallet, contract) == {"spendable": 1, "reserved": 0}
    scene.assert_ledger_equals_chain(scene.odd, wallet)


def test_a_paused_token_waits_and_holds_up_no_other(scene: Sending) -> None:
    contract, recipient = scene.odd.tokens["Issued"], fresh()
    wallet = scene.wallet(scene.odd, tokens={"Issued": 10 * USDC, "Cents": 100})
    tools.send_contract(scene.odd.url, contract, "IssuedToken", "pause", [True])
    waiting = scene.wait_until(scene.pay(wallet, 7 * USDC, to=recipient, contract=contract), "waitingReason")
    assert "revert" in waiting["waitingReason"]
    scene.confirmed(scene.pay(wallet, 100, contract=scene.odd.tokens["Cents"]))
    assert scene.history(waiting) == ["allowed"], "nothing was signed, no nonce was given"
    tools.send_contract(scene.odd.url, contract, "IssuedToken", "pause", [False])
    scene.confirmed(waiting)
    assert tools.token_balance(scene.odd.url, contract, recipient) == 7 * USDC
    scene.assert_ledger_equals_chain(scene.odd, wallet)


@pytest.mark.parametrize("who", ["recipient", "wallet"])
def test_an_account_that_the_issuer_refuses_waits_alone(scene: Sending, who: str) -> None:
    contract, recipient = scene.odd.tokens["Issued"], fresh()
    wallet, other = (scene.wallet(scene.odd, tokens={"Issued": 10 * USDC}) for _ in range(2))
    refused = recipient if who == "recipient" else wallet["address"]
    tools.send_contract(scene.odd.url, contract, "IssuedToken", "refuse", [refused, True])
    waiting = scene.wait_until(scene.pay(wallet, USDC, to=recipient, contract=contract), "waitingReason")
    scene.confirmed(scene.pay(wallet if who == "recipient" else other, USDC, contract=contract))
    assert scene.history(waiting) == ["allowed"]
    tools.send_contract(scene.odd.url, contract, "IssuedToken", "refuse", [refused, False])
    scene.confirmed(waiting)
    assert tools.token_balance(scene.odd.url, contract, recipient) == USDC
    scene.assert_ledger_equals_chain(scene.odd, wallet)


def test_a_token_at_its_second_address_is_stopped_and_never_called_paid(scene: Sending) -> None:
    """What moves is logged by the first address: whether it was this payout, its own log does not tell."""
    contract = scene.odd.tokens["Moved"]
    wallet = scene.wallet(scene.odd)
    first = tools.call_contract(scene.odd.url, contract, "SecondEntry", "token")
    tools.mint(scene.odd.url, first, wallet["address"], 10 * USDC)
    until(lambda: scene.held(wallet, contract)["spendable"] == 10 * USDC, "the balance at the second address")
    paid = scene.wait_until(scene.pay(wallet, USDC, contract=contract), "flag", "effect_mismatch")
    assert scene.frozen(wallet).startswith(f"transfer {paid['id']} had another effect than asked")
    assert scene.read(paid)["status"] == "Broadcasted"


# Funds


@pytest.mark.parametrize("token", [None, "TestDollar"])
def test_a_payout_without_funds_waits_and_flows_when_they_come(
    scene: Sending, receiver: Receiver, token: str | None
) -> None:
    contract = scene.quick.tokens[token] if token else None
    wallet = scene.wallet(scene.quick, coins=ETH if token else 10**15)
    scene.world.admin.sdk.policies.create_policy(
        {
            "name": "watch",
            "activityKind": "Wallets:Sign",
            "rule": {"kind": "AlwaysTrigger", "configuration": {}},
            "action": {"kind": "NoAction"},
            "filters": {"walletId": {"in": [wallet["id"]]}},
        }
    )
    amount = 5 * USDC if token else ETH
    waiting = scene.wait_until(scene.pay(wallet, amount, contract=contract), "waitingReason")
    assert waiting["status"] == "Executing"
    assert "spendable" in waiting["waitingReason"]
    assert scene.history(waiting) == ["allowed"]
    small = scene.confirmed(scene.pay(scene.wallet(scene.quick), 1))  # other wallets do not wait for this one
    assert scene.history(waiting) == ["allowed"]

    scene.pay_in(scene.quick, wallet, **({"tokens": {token: amount}} if token else {"coins": 2 * ETH}))
    done = scene.confirmed(waiting)
    assert "waitingReason" not in done
    event = receiver.wait_for(
        "wallet.blockchainevent.detected",
        lambda data: (
            data["blockchainEvent"]["walletId"] == wallet["id"]
            and data["blockchainEvent"]["value"] == str(amount if token else 2 * ETH)
        ),
    )["data"]["blockchainEvent"]
    assert (event["direction"], event["kind"]) == ("In", "Erc20Transfer" if token else "NativeTransfer")
    assert event.get("contract") == contract
    judged = scene.world.rows(
        "SELECT moment FROM evaluation WHERE transfer_id = ? AND moment = 'binding'", waiting["id"]
    )
    assert len(judged) == 1, "it is judged again once, not at every look at the funds"
    assert small["status"] == "Confirmed"
    scene.assert_ledger_equals_chain(scene.quick, wallet)


def test_many_payouts_that_wait_hold_up_none_that_can_go(scene: Sending) -> None:
    wallet = scene.wallet(scene.quick)
    for _ in range(20):
        scene.pay(wallet, 100 * ETH)
    scene.confirmed(scene.pay(wallet, 10**15))


def test_a_payout_that_would_revert_waits_and_flows_when_it_no_longer_does(scene: Sending) -> None:
    wallet, recipient = scene.wallet(scene.quick), fresh()
    tools.rpc(scene.quick.url, "anvil_setCode", [recipient, REVERTING_CODE])
    waiting = scene.wait_until(scene.pay(wallet, 10**15, to=recipient), "waitingReason")
    assert "revert" in waiting["waitingReason"]
    scene.confirmed(scene.pay(wallet, 10**15))
    tools.rpc(scene.quick.url, "anvil_setCode", [recipient, "0x"])
    scene.confirmed(waiting)
    assert tools.coin_balance(scene.quick.url, recipient) == 10**15


def test_dust_is_posted_as_inflow(scene: Sending, receiver: Receiver) -> None:
    wallet = scene.wallet(scene.quick)
    scene.fund(scene.quick, wallet, coins=1)
    event = receiver.wait_for("wallet.blockchainevent.detected", lambda data: data["blockchainEvent"]["value"] == "1")[
        "data"
    ]["blockchainEvent"]
    assert (event["walletId"], event["to"], event["direction"]) == (wallet["id"], wallet["address"], "In")
    scene.assert_ledger_equals_chain(scene.quick, wallet)


# Somebody else has the key


@pytest.mark.parametrize("paid_before", [False, True])
def test_foreign_use_of_a_wallets_key_freezes_it_and_no_other(scene: Sending, paid_before: bool) -> None:
    wallet, other = scene.wallet(scene.quick), scene.wallet(scene.quick)
    if paid_before:
        scene.confirmed(scene.pay(wallet, 10**15))
    spend_as(scene.quick, wallet)
    assert "somebody else used this wallet's key" in scene.frozen(wallet)
    with pytest.raises(DfnsError, match="frozen"):
        scene.pay(wallet, 1)
    scene.confirmed(scene.pay(other, 10**15))


def test_a_nonce_taken_by_somebody_else_freezes_the_wallet_and_decides_nothing(scene: Sending) -> None:
    wallet = scene.wallet(scene.slow)
    scene.slow_proxy.refused = ["eth_sendRawTransaction"]
    try:
        paid = scene.wait_until(scene.pay(wallet, 10**15), "status", "Broadcasted")
        spend_as(scene.slow, wallet)
    finally:
        scene.slow_proxy.refused = ()
    scene.slow.mine(3)
    assert "took nonce 0 and may have paid what" in scene.frozen(wallet)
    now = scene.read(paid)
    assert now["status"] == "Broadcasted", "bytes were signed: that they are on no chain we see proves nothing"
    assert scene.held(wallet, "native")["reserved"] > 10**15


# Endpoints that fail


def test_payouts_wait_while_the_chain_is_down_and_flow_when_it_is_back(scene: Sending) -> None:
    wallet, other = scene.wallet(scene.slow), scene.wallet(scene.quick)
    scene.slow_proxy.down = True
    try:
        waiting = [scene.wait_until(scene.pay(wallet, 10**15), "waitingReason") for _ in range(2)]
        assert {each["status"] for each in waiting} == {"Executing"}
        assert "does not answer" in waiting[0]["waitingReason"]
        scene.confirmed(scene.pay(other, 10**15))  # another network is not disturbed
    finally:
        scene.slow_proxy.down = False
    for each in waiting:
        scene.wait_until(each, "status", "Broadcasted")
    scene.slow.mine(3)
    for each in waiting:
        scene.confirmed(each)
    scene.assert_ledger_equals_chain(scene.slow, wallet)


def test_a_send_without_answer_is_repeated_with_the_same_bytes(scene: Sending) -> None:
    wallet, recipient = scene.wallet(scene.slow), fresh()
    scene.slow_proxy.refused = ["eth_sendRawTransaction"]
    try:
        paid = scene.wait_until(scene.pay(wallet, 10**15, to=recipient), "status", "Broadcasted")
        scene.slow_proxy.wait_for("eth_sendRawTransaction", 1)
    finally:
        scene.slow_proxy.refused = ()
    until(lambda: in_pool(scene.slow, paid["txHash"]), "the transaction to arrive")
    scene.slow.mine(3)
    assert scene.confirmed(paid)["txHash"] == paid["txHash"]
    assert tools.coin_balance(scene.slow.url, recipient) == 10**15


def test_an_endpoint_of_another_chain_is_asked_for_its_id_and_nothing_else(scene: Sending) -> None:
    wallet, recipient = scene.wallet(scene.mixed), fresh()
    scene.confirmed(scene.pay(wallet, 10**15, to=recipient))
    assert tools.coin_balance(scene.mixed.url, recipient) == 10**15
    assert set(scene.wrong.methods) == {"eth_chainId"}
    assert tools.rpc(scene.wrong_url, "eth_blockNumber") == "0x0"
    assert tools.rpc(scene.wrong_url, "txpool_status") == {"pending": "0x0", "queued": "0x0"}


# Many at once


def test_twenty_payouts_at_once_take_every_nonce_in_order(scene: Sending) -> None:
    wallet = scene.wallet(scene.quick, tokens={"TestDollar": 100 * USDC})
    before = chain_nonce(scene.quick, wallet)

    def pay(number: int) -> Any:
        contract = scene.world.token if number % 2 else None
        return scene.pay(wallet, number + 1, contract=contract)

    with ThreadPoolExecutor(8) as pool:
        asked = list(pool.map(pay, range(20)))
    done = [scene.confirmed(each) for each in asked]
    found = [tools.rpc(scene.quick.url, "eth_getTransactionByHash", [each["txHash"]]) for each in done]
    by_nonce = sorted((int(each["nonce"], 16), int(each["blockNumber"], 16)) for each in found)
    assert [nonce for nonce, _ in by_nonce] == list(range(before, before + 20))
    assert [block for _, block in by_nonce] == sorted(block for _, block in by_nonce)
    assert chain_nonce(scene.quick, wallet) == before + 20
    when = {int(each["nonce"], 16): paid["dateConfirmed"] for each, paid in zip(found, done, strict=True)}
    assert [when[nonce] for nonce in sorted(when)] == sorted(when.values())
    scene.assert_ledger_equals_chain(scene.quick, wallet)


def test_two_wallets_send_in_parallel(scene: Sending) -> None:
    wallets = [scene.wallet(scene.slow) for _ in range(2)]
    paid = [scene.wait_until(scene.pay(wallet, 10**15), "status", "Broadcasted") for wallet in wallets]
    assert all(in_pool(scene.slow, each["txHash"]) for each in paid), "neither waits for the other's block"
    scene.slow.mine(3)
    for each in paid:
        scene.confirmed(each)


# Restarts


def test_after_a_kill_the_next_server_waits_for_nobodys_lease(scene: Sending) -> None:
    wallet = scene.wallet(scene.quick)
    scene.confirmed(scene.pay(wallet, 10**15))
    (lane,) = scene.world.rows("SELECT leased_until FROM lane WHERE wallet_id = ?", wallet["id"])
    assert lane["leased_until"] is not None
    with pytest.raises(Unavailable, match="another server is running"):
        Application(Layout(scene.world.deployment.directory))
    scene.world.kill()
    scene.world.start()
    (lane,) = scene.world.rows("SELECT leased_until FROM lane WHERE wallet_id = ?", wallet["id"])
    assert lane["leased_until"] is None, "its holder is dead, and only one server may run on a directory"
    scene.confirmed(scene.pay(wallet, 10**15))
