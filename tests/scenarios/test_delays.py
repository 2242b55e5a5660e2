"""What does not get on is told of: late payouts once a stage, stuck lanes, blocks that are gone, wallets that stop."""

from collections.abc import Callable

from outlay.actions.alarms import freeze_wallet
from outlay.chains.fake import Manner, Mood, Way
from outlay.engine.delays import SIGNING_S, TIMES
from outlay.store import batches, delays
from outlay.store.database import Unit
from tests.actions.world import USDC
from tests.scenarios.stage import POLL_S, SEND, Stage

OpenStage = Callable[..., Stage]
READY_S, SENT_S = 30, 50  # bump_after_s, and with bump_every_s, of a stage
LATE = "payout.delayed"


def stages(stage: Stage, paid: str) -> list[str]:
    return [each["stage"] for each in stage.told(paid, LATE)]


def late(stage: Stage) -> list[str]:
    page = {"since": None, "until": None, "limit": None, "token": None}
    return [row.id for row in stage.unit(lambda unit: batches.payout_page(unit, {}, delayed=True, **page)[0])]


def test_a_payout_without_funds_is_late_once_and_no_more_when_it_goes_on(stage: Stage) -> None:
    wallet = stage.new_wallet(dollars=0)
    paid = stage.pay(wallet_id=wallet)
    stage.run(TIMES * READY_S // POLL_S)
    assert stages(stage, paid) == []
    stage.run(3)
    (told,) = stage.told(paid, LATE)
    assert (told["stage"], told["expectedSeconds"]) == ("ready", READY_S)
    assert told["payout"]["id"] == paid and "has 0 spendable" in told["payout"]["waitingReason"]
    assert late(stage) == [paid] and stage.row(paid).delayed_at is not None
    stage.run(100)
    assert stages(stage, paid) == ["ready"], "it is told of once"

    stage.network.give(stage.address(wallet), 100, stage.token)
    stage.mine(4)
    assert late(stage) == []
    stage.mine(4)
    assert stage.state(paid) == "confirmed"


def test_a_payout_that_waits_for_people_is_not_late(stage: Stage) -> None:
    world = stage.world
    approver = world.person("approver@example.com")
    group = {"quorum": 1, "approvers": {"userId": {"in": [approver.user_id]}}}
    world.policy({"kind": "AlwaysTrigger"}, {"kind": "RequestApproval", "approvalGroups": [group]})
    paid = stage.pay()
    stage.run(60)
    assert stage.state(paid) == "held" and stages(stage, paid) == []
    world.decide(approver, paid)
    stage.run(1)
    stage.mine(4)
    assert stage.state(paid) == "confirmed" and stages(stage, paid) == []


def test_what_is_in_no_block_is_late_and_its_wallet_is_stuck_until_it_moves(stage: Stage) -> None:
    stage.node.plan = lambda methods: Mood(way=Way.REQUEST_LOST) if SEND in methods else Mood()
    first, second = stage.pay(), stage.pay()
    stage.run(TIMES * SENT_S // POLL_S + 4)
    assert stages(stage, first) == stages(stage, second) == ["broadcast"]
    (told,) = stage.told(stage.wallet, "wallet.stuck")
    assert (told["nonce"], told["transferId"], told["wallet"]["id"]) == (0, first, stage.wallet)
    assert stage.unit(delays.stuck) == {stage.wallet: 0}
    stage.run(50)
    assert len(stage.told(stage.wallet, "wallet.stuck")) == 1, "it is told of once"

    stage.start()  # another worker knows of it too
    stage.run(10)
    assert len(stage.told(stage.wallet, "wallet.stuck")) == 1
    stage.node.plan = None
    stage.run(3)
    stage.mine(8)
    assert (stage.state(first), stage.state(second)) == ("confirmed", "confirmed")
    assert stage.unit(delays.stuck) == {} and late(stage) == []
    assert len(stage.told(stage.wallet, "wallet.stuck")) == 1


def test_a_slow_lane_that_moves_is_not_stuck(stage: Stage) -> None:
    """Behind each that is mined late the next one has stood as long: it moves all the same."""
    paid = [stage.pay() for _ in range(4)]
    stage.run(1)
    for each in sorted(paid, key=lambda name: int(stage.attempts(name)[0].nonce)):
        stage.run(TIMES * SENT_S // POLL_S - 4)
        stage.network.mine(only=[found.hash for found in stage.attempts(each)])
        stage.run(1)
    assert stage.told(stage.wallet, "wallet.stuck") == []
    stage.mine(4)


def test_what_is_mined_and_does_not_become_final_is_late(open_stage: OpenStage) -> None:
    stage = open_stage(finality='tag = "finalized"')
    paid = stage.sent()
    stage.mine(1)
    assert stage.state(paid) == "mined"
    stage.run(TIMES * 1200 // 60 + 2, every_s=60)
    assert stages(stage, paid) == ["mined"]


def test_a_nonce_that_is_missing_is_told_of_if_nobody_fills_it(stage: Stage) -> None:
    stage.sent()
    with stage.world.unit() as unit:
        unit.exec_driver_sql("UPDATE lane SET next_nonce = next_nonce + 1")
        unit.exec_driver_sql("UPDATE wallet SET frozen_reason = 'somebody looks at it'")
    stage.run(TIMES * SIGNING_S // POLL_S)
    assert stage.told(stage.wallet, "wallet.stuck") == []
    stage.run(2)
    (told,) = stage.told(stage.wallet, "wallet.stuck")
    assert (told["nonce"], told["reason"]) == (1, "Nonce 1 is missing: nothing behind it can be mined.")
    with stage.world.unit() as unit:
        unit.exec_driver_sql("UPDATE lane SET next_nonce = next_nonce - 1")
        unit.exec_driver_sql("UPDATE wallet SET frozen_reason = NULL")
    stage.run(2)
    assert stage.unit(delays.stuck) == {}
    stage.mine(4)


def test_a_block_that_is_gone_is_told_of(stage: Stage) -> None:
    paid = stage.sent()
    stage.mine(1)
    block = stage.network.head.number
    stage.network.reorganise(1, lost=None)
    stage.run(1)
    (told,) = stage.told(paid, "payout.reorged")
    assert (told["payout"]["state"], told["blockNumber"]) == ("broadcast", block)
    stage.mine(4)
    assert stage.state(paid) == "confirmed"


def test_another_effect_stops_and_is_told_of(stage: Stage) -> None:
    stage.token.manner = Manner.FEE
    paid = stage.sent(700)
    stage.mine(4)
    (told,) = stage.told(paid, "payout.effect_mismatch")
    assert (told["payout"]["state"], told["payout"]["flag"]) == ("mined", "effect_mismatch")
    assert (told["outflow"], told["why"]) == ("700", stage.row(paid).reason)
    (frozen,) = stage.told(stage.wallet, "wallet.frozen")
    assert frozen["reason"] == stage.frozen() == frozen["wallet"]["frozenReason"]
    stage.run(60)
    assert stages(stage, paid) == [], "it waits for a person"
    stage.recipients.pop(paid)


def test_money_that_is_missing_is_told_of(stage: Stage) -> None:
    stage.network.head.state.tokens[USDC, stage.address()] -= 5
    stage.mine(4)
    (told,) = stage.told(stage.wallet, "reconciliation.difference")
    found = told["difference"]
    assert (found["walletId"], found["symbol"]) == (stage.wallet, "USDC")
    assert int(found["ledger"]) - int(found["chain"]) == 5
    assert len(stage.told(stage.wallet, "wallet.frozen")) == 1
    stage.was_taken_back = True


def test_money_that_is_missing_from_a_wallet_that_was_stopped_before_is_told_of_once(stage: Stage) -> None:
    def stop(unit: Unit) -> None:
        freeze_wallet(unit, stage.wallet, "looked at", now=stage.clock.now(), entropy=stage.world.entropy)

    stage.unit(stop)
    tokens = stage.network.head.state.tokens
    for missing in (5, 7):
        tokens[USDC, stage.address()] -= 5 if missing == 5 else 2
        stage.mine(4)
        stage.mine(4)
        told = [each["difference"] for each in stage.told(stage.wallet, "reconciliation.difference")]
        assert int(told[-1]["ledger"]) - int(told[-1]["chain"]) == missing
    assert len(told) == 2
    assert stage.frozen() == "looked at"
    stage.was_taken_back = True


def test_what_left_is_told_beside_the_end_of_its_payout(stage: Stage) -> None:
    paid = stage.sent(700)
    stage.mine(4)
    row = stage.row(paid)
    (told,) = stage.told(row.transaction_id, "wallet.blockchainevent.detected")
    found = told["blockchainEvent"]
    assert (found["direction"], found["value"], found["to"]) == ("Out", "700", stage.recipients[paid])
    assert (found["txHash"], found["from"], found["status"]) == (row.tx_hash, stage.address(), "Confirmed")


def test_what_people_ask_for_in_the_place_of_a_payout_is_told_to_its_end(stage: Stage) -> None:
    late, canceled = stage.sent(1), stage.sent(2)
    faster, void = stage.speed_up(late)["id"], stage.cancel(canceled)["id"]

    def kinds(asked: str) -> list[str]:
        return [kind.removeprefix("wallet.transaction.") for kind in stage.world.events(asked)]

    assert kinds(faster) == kinds(void) == ["requested"]
    stage.network.mine(only=[each.hash for each in stage.attempts(late)])  # before the faster one gets there
    stage.run(3)
    stage.mine(8)
    assert (stage.state(late), stage.state(canceled)) == ("confirmed", "canceled")
    assert kinds(faster) == ["requested", "broadcasted", "failed"]
    assert kinds(void) == ["requested", "broadcasted", "confirmed"]
    (told,) = stage.told(void, "wallet.transaction.confirmed")
    assert told["transactionRequest"]["details"] == {"transferId": canceled, "purpose": "void"}
    assert stage.world.events(late)[-1] == "wallet.transfer.confirmed"
