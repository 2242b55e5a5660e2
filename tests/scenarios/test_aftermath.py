"""After what should never happen: the network goes on once a person has looked, and nothing is left behind."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import sqlalchemy as sa

from outlay.actions import lift
from outlay.chains import Log, Receipt
from outlay.chains.fake import Mood
from outlay.codec.evm import TRANSFER_TOPIC, WORD
from outlay.core.errors import SignerUnavailable
from outlay.engine.confirm import _may_have_paid
from outlay.signer import Scope
from outlay.store import wallets
from outlay.store.schema import attempt
from tests.actions.world import NETWORK, USDC
from tests.scenarios.stage import Stage

OpenStage = Callable[..., Stage]


def let_go(stage: Stage) -> None:
    """Sign that the network may go on."""
    stage.world.call(
        stage.world.admin,
        "PUT",
        "/v1/networks/unfreeze",
        {"network": NETWORK, "reason": "looked at"},
        "Outlay:Unfreeze",
        lambda act: lift.unfreeze_network(act, network=NETWORK, reason="looked at"),
    )


def far_ahead(params: Sequence[Any], honest: Any) -> Any:
    """Tell of a newest block, and of those before it, that there are not."""
    number = "0x1312d00" if params[0] == "latest" else str(params[0])
    if int(number, 16) < 1000:
        return honest
    return {"number": number, "hash": "0x" + "ab" * 32, "timestamp": "0x1", "transactions": [], "baseFeePerGas": "0x1"}


def test_one_head_that_never_was_stops_the_network_in_time_and_a_person_lets_it_go_on(stage: Stage) -> None:
    paid = stage.sent()
    stage.node.mood = Mood(lies={"eth_getBlockByNumber": far_ahead})
    stage.run(1)
    stage.node.mood = Mood()
    stage.mine(30)
    assert (stage.state(paid), stage.network_frozen()) == ("broadcast", None)
    stage.run(200)
    assert "blocks that there are not" in str(stage.network_frozen())
    let_go(stage)
    stage.mine(5)
    assert (stage.state(paid), stage.got(paid)) == ("confirmed", 7)


def test_what_was_final_and_went_with_its_block_is_sent_again_once_the_network_goes_on(stage: Stage) -> None:
    stage.was_taken_back = True
    paid = stage.sent()
    stage.mine(4)
    assert stage.state(paid) == "confirmed"
    stage.network.reorganise(5, lost=None, blocks=6)
    stage.run(3)
    assert (stage.got(paid), stage.state(paid)) == (0, "confirmed")
    assert "went back further" in str(stage.network_frozen())
    let_go(stage)
    later = stage.pay(3)
    for _ in range(8):
        stage.mine(1)
        stage.run(2)
    assert (stage.got(paid), stage.got(later), stage.state(later)) == (7, 3, "confirmed")
    assert stage.frozen() is None


def test_a_gap_that_may_not_be_closed_now_waits_and_stops_nothing_for_good(stage: Stage) -> None:
    first = stage.sent()
    with stage.world.unit() as unit:
        unit.exec_driver_sql("UPDATE lane SET next_nonce = next_nonce + 1")
    second = stage.pay()
    stage.run(1)
    stage.signer.freeze(Scope.WALLET, stage.wallet, "an operator looks at something")
    stage.run(4)
    assert stage.frozen() is None
    assert stage.state(first) in ("broadcast", "mined", "confirmed")
    assert stage.state(second) in ("signed", "broadcast")


@pytest.mark.parametrize(("amounts", "may_have"), [((7,), True), ((7, 1), True), ((1,), True), ((), False)])
def test_a_strangers_transaction_that_moved_money_to_the_recipient_may_have_paid(
    amounts: tuple[int, ...], may_have: bool, stage: Stage
) -> None:
    paid = stage.row(stage.pay())
    words = [bytes.fromhex(address[2:]).rjust(WORD, b"\0") for address in (stage.address(), paid.recipient)]
    logs = tuple(
        Log(address=USDC, topics=(TRANSFER_TOPIC, *words), data=amount.to_bytes(WORD, "big")) for amount in amounts
    )
    receipt = Receipt(
        tx_hash="0x" + "01" * 32,
        block_number=1,
        block_hash="0x" + "02" * 32,
        status=1,
        gas_used=1,
        effective_gas_price=1,
        l1_fee=0,
        logs=logs,
    )
    assert _may_have_paid(paid, stage.address(), receipt) is may_have


def test_an_asset_frozen_while_an_answer_of_the_signer_was_lost_stops_nothing_else(stage: Stage) -> None:
    """The journal holds a payout of it: its bytes are taken up, and the wallet goes on."""
    under_way = stage.sent(native=True)
    honest = stage.worker._signer

    class Lost:
        def __getattr__(self, name: str) -> Any:
            return self.sign if name == "sign" else getattr(honest, name)

        async def sign(self, requests: Any) -> Any:
            await honest.sign(requests)
            raise SignerUnavailable("the answer was lost")

    stage.worker._signer = Lost()
    held = stage.pay()
    stage.wait(4)
    stage.do(stage.worker.step())
    assert stage.state(held) == "assigned"
    now = stage.clock.now()
    stage.unit(lambda unit: wallets.freeze_asset(unit, network=NETWORK, asset=USDC, reason="looked odd", now=now))
    stage.worker._signer = honest
    later = stage.pay(native=True)
    for _ in range(12):
        stage.wait(5)
        stage.do(stage.worker.step())
    assert [stage.state(each) for each in (under_way, held, later)] == ["broadcast"] * 3


def test_what_went_back_and_came_again_leaves_nothing_to_be_sent(stage: Stage) -> None:
    paid = stage.sent(native=True)
    stage.mine()
    stage.run(2)
    stage.unit(lambda unit: unit.execute(sa.update(attempt).values(sent_at=None)))
    stage.mine(6)
    stage.run(3)
    assert stage.state(paid) == "confirmed"
    left = stage.unit(lambda unit: unit.execute(sa.select(attempt.c.id).where(attempt.c.sent_at.is_(None))).all())
    assert left == []
