"""Canceling and speeding up what is under way, on a chain that mines only when a test says so.

Whatever is asked for, one transaction of the nonce is mined, and what became of the payout is what the chain says.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dfns_sdk import DfnsError
from dfns_sdk.generated.wallets.types import CancelTransferResponse, GetTransferResponse, SpeedUpTransferResponse

from tests import tools
from tests.dfns_types import assert_conforms, assert_id
from tests.scene import Net, Scene, chain_nonce, fresh, in_pool, network_text
from tests.world import ETH, USDC, Receiver, World, until

AMOUNT = 10**15


class Replacing(Scene):
    """A server whose network ``slow`` has blocks when a test wants them; two make a block final."""

    def __init__(self, world: World, slow: Net) -> None:
        """Take over what the fixture opened."""
        super().__init__(world, [slow])
        self.slow = slow
        self.operator: Any = world.admin.sdk.wallets

    def sent(self, wallet: Any, *, to: str | None = None, contract: str | None = None, amount: int = AMOUNT) -> Any:
        """Return a payout that waits in the node's pool."""
        paid = self.wait_until(self.pay(wallet, amount, to=to, contract=contract), "status", "Broadcasted")
        until(lambda: in_pool(self.slow, paid["txHash"]), "the payout in the pool")
        return paid

    def cancel(self, paid: Any) -> Any:
        """Cancel a payout."""
        return self.operator.cancel_transfer(paid["walletId"], paid["id"])

    def speed_up(self, paid: Any) -> Any:
        """Speed a payout up."""
        return self.operator.speed_up_transfer(paid["walletId"], paid["id"])

    def drop(self, tx_hash: str) -> None:
        """Have the node forget a transaction it has not mined."""
        tools.rpc(self.slow.url, "anvil_dropTransaction", [tx_hash])


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, anvil: tools.StartAnvil) -> Iterator[Replacing]:
    """Open the server on its own chain and a slow one."""
    node = anvil(chain_id=31338, options=("--no-mining",))
    dollar = {"TestDollar": tools.deploy(node.url, "TestDollar")}
    slow = Net(name="BaseSepolia", url=node.url, tokens=dollar, blocks=2)
    folder = tmp_path_factory.mktemp("replacing")
    with World.open(folder, preset="none", extra=network_text(slow, 31338, [node.url])) as world:
        yield Replacing(world, slow)


@pytest.fixture
def receiver(scene: Replacing) -> Iterator[Receiver]:
    """Receive every event for one test."""
    with scene.world.receiver() as (receiver, _):
        yield receiver


@pytest.mark.parametrize("is_token", [False, True])
def test_a_cancellation_that_is_mined_ends_the_payout_unpaid(
    scene: Replacing, receiver: Receiver, is_token: bool
) -> None:
    contract = scene.slow.tokens["TestDollar"] if is_token else None
    wallet, recipient = scene.wallet(scene.slow, tokens={"TestDollar": USDC} if is_token else None), fresh()
    paid = scene.sent(wallet, to=recipient, contract=contract, amount=USDC if is_token else AMOUNT)
    void = assert_conforms(scene.cancel(paid), CancelTransferResponse)
    assert_id(void["id"], "tx")
    payout, voided = scene.wait_for_attempts(paid, 2)
    assert (payout["nonce"], payout["purpose"], voided["purpose"]) == (voided["nonce"], "payout", "void")
    until(lambda: in_pool(scene.slow, voided["hash"]), "the void in the pool")
    assert not in_pool(scene.slow, payout["hash"]), "it was outbid"
    now = assert_conforms(scene.read(paid), GetTransferResponse, also=("flag",))
    assert (now["status"], now["replacementId"], now["txHash"]) == ("Broadcasted", void["id"], payout["hash"])

    scene.slow.mine()
    until(lambda: scene.signed(paid)[0]["state"] == "mined", "the void in a block")
    assert scene.read(paid)["status"] == "Broadcasted", "one block more makes it final"
    scene.slow.mine()
    done = scene.world.wait_for(paid, "Failed")
    assert "Canceled by admin" in done["reason"]
    assert "nothing was paid" in done["reason"]
    assert done["replacementId"] == void["id"]
    assert scene.cancel(paid) == {
        **void,
        "status": "Confirmed",
        "txHash": voided["hash"],
        "fee": done["fee"],
        "dateBroadcasted": done["details"]["attempts"][1]["dateBroadcasted"],
    }
    assert scene.history(paid) == ["allowed", "assigned", "signed", "sent", "voided"]
    assert tools.coin_balance(scene.slow.url, recipient) == 0
    assert scene.held(wallet, "native") == {"spendable": ETH - int(done["fee"]), "reserved": 0}
    scene.assert_ledger_equals_chain(scene.slow, wallet)
    event = receiver.wait_for("wallet.transfer.failed", lambda data: data["transferRequest"]["id"] == paid["id"])
    assert event["data"]["transferRequest"] == done


def test_a_payout_that_is_mined_all_the_same_is_confirmed(scene: Replacing) -> None:
    wallet, recipient = scene.wallet(scene.slow), fresh()
    paid = scene.sent(wallet, to=recipient)
    void = scene.cancel(paid)
    payout, voided = scene.wait_for_attempts(paid, 2)
    until(lambda: in_pool(scene.slow, voided["hash"]), "the void in the pool")
    # A block builder that never heard of the void.
    scene.drop(voided["hash"])
    tools.rpc(scene.slow.url, "eth_sendRawTransaction", ["0x" + payout["raw"]])
    scene.slow.mine(2)
    done = scene.confirmed(paid)
    assert (done["txHash"], done["replacementId"]) == (payout["hash"], void["id"])
    assert tools.coin_balance(scene.slow.url, recipient) == AMOUNT
    again = scene.cancel(paid)
    assert (again["id"], again["status"]) == (void["id"], "Failed")
    assert "took its nonce" in again["reason"]
    scene.assert_ledger_equals_chain(scene.slow, wallet)


def test_a_speed_up_replaces_and_pays_once(scene: Replacing) -> None:
    wallet, recipient = scene.wallet(scene.slow, tokens={"TestDollar": 5 * USDC}), fresh()
    paid = scene.sent(wallet, to=recipient, contract=scene.slow.tokens["TestDollar"], amount=3 * USDC)
    faster = assert_conforms(scene.speed_up(paid), SpeedUpTransferResponse)
    first, second = scene.wait_for_attempts(paid, 2)
    until(lambda: in_pool(scene.slow, second["hash"]), "the faster one in the pool")
    assert not in_pool(scene.slow, first["hash"])
    for name in ("max_fee_per_gas", "max_priority_fee_per_gas"):
        assert int(second[name]) * 8 >= int(first[name]) * 9
    assert (second["nonce"], second["asked_by"]) == (first["nonce"], scene.world.admin.user_id)
    now = scene.read(paid)
    assert (now["txHash"], now["replacementId"]) == (second["hash"], faster["id"])
    scene.slow.mine(2)
    done = scene.confirmed(paid)
    assert done["txHash"] == second["hash"]
    assert tools.token_balance(scene.slow.url, scene.slow.tokens["TestDollar"], recipient) == 3 * USDC
    with pytest.raises(DfnsError, match="it is confirmed") as caught:
        scene.speed_up(paid)
    assert caught.value.status_code == 412
    scene.assert_ledger_equals_chain(scene.slow, wallet)


def test_the_slower_one_may_be_mined_in_the_end(scene: Replacing) -> None:
    wallet, recipient = scene.wallet(scene.slow), fresh()
    paid = scene.sent(wallet, to=recipient)
    scene.speed_up(paid)
    first, second = scene.wait_for_attempts(paid, 2)
    until(lambda: in_pool(scene.slow, second["hash"]), "the faster one in the pool")
    scene.drop(second["hash"])
    tools.rpc(scene.slow.url, "eth_sendRawTransaction", ["0x" + first["raw"]])
    scene.slow.mine(2)
    assert scene.confirmed(paid)["txHash"] == first["hash"]
    assert tools.coin_balance(scene.slow.url, recipient) == AMOUNT
    scene.assert_ledger_equals_chain(scene.slow, wallet)


def test_what_was_sped_up_can_still_be_canceled_but_not_the_other_way_round(scene: Replacing) -> None:
    wallet, recipient = scene.wallet(scene.slow), fresh()
    paid = scene.sent(wallet, to=recipient)
    scene.speed_up(paid)
    scene.wait_for_attempts(paid, 2)
    void = scene.cancel(paid)
    assert scene.cancel(paid)["id"] == void["id"]
    with pytest.raises(DfnsError, match="being canceled"):
        scene.speed_up(paid)
    *_, voided = scene.wait_for_attempts(paid, 3)
    until(lambda: in_pool(scene.slow, voided["hash"]), "the void in the pool")
    scene.slow.mine(2)
    scene.world.wait_for(paid, "Failed")
    assert len(scene.signed(paid)) == 3
    assert tools.coin_balance(scene.slow.url, recipient) == 0
    scene.assert_ledger_equals_chain(scene.slow, wallet)


def test_after_a_cancellation_the_lane_goes_on_and_what_stood_behind_is_paid(scene: Replacing) -> None:
    wallet, recipients = scene.wallet(scene.slow), [fresh() for _ in range(3)]
    paid = [scene.sent(wallet, to=recipient) for recipient in recipients]
    before = chain_nonce(scene.slow, wallet)
    scene.cancel(paid[0])
    scene.wait_for_attempts(paid[0], 2)
    until(lambda: in_pool(scene.slow, scene.signed(paid[0])[1]["hash"]), "the void in the pool")
    scene.slow.mine(2)
    assert [scene.world.wait_for(each, "Failed", "Confirmed")["status"] for each in paid] == [
        "Failed",
        "Confirmed",
        "Confirmed",
    ]
    assert [tools.coin_balance(scene.slow.url, each) for each in recipients] == [0, AMOUNT, AMOUNT]
    assert chain_nonce(scene.slow, wallet) == before + 3
    again = scene.sent(wallet, to=recipients[0])
    scene.slow.mine(2)
    scene.confirmed(again)
    scene.assert_ledger_equals_chain(scene.slow, wallet)


def test_a_reorganisation_may_turn_a_cancellation_into_a_payment(scene: Replacing) -> None:
    wallet, recipient = scene.wallet(scene.slow), fresh()
    paid = scene.sent(wallet, to=recipient)
    scene.cancel(paid)
    payout, voided = scene.wait_for_attempts(paid, 2)
    until(lambda: in_pool(scene.slow, voided["hash"]), "the void in the pool")
    scene.slow.mine()
    until(lambda: scene.signed(paid)[0]["mined_hash"] == voided["hash"], "the void in a block")
    tools.rpc(scene.slow.url, "anvil_reorg", [1, [["0x" + payout["raw"], 0]]])
    until(lambda: scene.signed(paid)[0]["mined_hash"] == payout["hash"], "the payout in a block")
    scene.slow.mine()
    assert scene.confirmed(paid)["txHash"] == payout["hash"]
    assert tools.coin_balance(scene.slow.url, recipient) == AMOUNT
    scene.assert_ledger_equals_chain(scene.slow, wallet)


def test_what_is_mined_is_not_replaced(scene: Replacing) -> None:
    paid = scene.sent(scene.wallet(scene.slow))
    scene.slow.mine()
    scene.wait_for_event(paid, "mined")
    for replace in (scene.cancel, scene.speed_up):
        with pytest.raises(DfnsError, match="already in a block") as caught:
            replace(paid)
        assert caught.value.status_code == 412
    scene.slow.mine()
    scene.confirmed(paid)


def test_the_terminal_shows_speeds_up_and_cancels(scene: Replacing, tmp_path: Path) -> None:
    wallet, admin = scene.wallet(scene.slow), scene.world.admin
    paid = scene.sent(wallet)
    token, key = tmp_path / "token", tmp_path / "key.pem"
    token.write_text(admin.token)
    key.write_text(admin.private_key)
    place = [paid["id"], "--url", scene.world.url, "--token-file", str(token)]
    signing = [*place, "--key-file", str(key), "--credential", admin.credential_id]

    def run(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "outlay", "payouts", *words], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    shown = run("show", *place)
    facts = dict(line.split("  ", 1) for line in shown.splitlines())
    told = {name: value.strip() for name, value in facts.items()}
    assert (told["payout"], told["state"], told["pays"]) == (paid["id"], "broadcast", "0.001 ETH")
    assert told["to"].lower() == paid["requestBody"]["to"].lower()
    assert told["attempt 1"].startswith("pays, at most ")
    assert "higher fees, Executing" in run("speed-up", *signing)
    scene.wait_for_attempts(paid, 2)
    void = run("cancel", *signing)
    assert void.startswith(scene.read(paid)["replacementId"] + ": an empty transaction in its place, Executing\n")
    *_, voided = scene.wait_for_attempts(paid, 3)
    until(lambda: in_pool(scene.slow, voided["hash"]), "the void in the pool")
    scene.slow.mine(2)
    scene.world.wait_for(paid, "Failed")
    shown = run("show", *place)
    assert re.search(r"^reason +Canceled by admin", shown, re.MULTILINE)
    assert re.search(r"^attempt 3 +pays nothing, at most ", shown, re.MULTILINE)
    assert voided["hash"] in shown
    refused = subprocess.run(
        [sys.executable, "-m", "outlay", "payouts", "speed-up", *signing],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "it is canceled" in refused.stderr
