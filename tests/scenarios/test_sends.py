"""What nodes say to a send, and what becomes of the transaction: hints for speed, never truth."""

import itertools
from collections.abc import Callable

import pytest

from outlay.chains.fake import Mood, Way
from outlay.core.asset import NATIVE
from outlay.core.fees import ceiling_per_gas
from tests.fakes import GWEI
from tests.scenarios.stage import FEE_CAP, SEND, Stage

OpenStage = Callable[..., Stage]
FIRST_LIFE = ["allowed", "assigned", "signed", "sent", "mined", "paid"]


def test_an_answer_that_is_lost_after_the_node_took_it_pays_once(stage: Stage) -> None:
    with stage.mood(Mood(way=Way.ANSWER_LOST)):
        stage.node.plan = lambda methods: Mood(way=Way.ANSWER_LOST) if SEND in methods else Mood()
        paid = stage.sent()
    assert len(stage.node.pool.executable(stage.address(), 0)) == 1
    stage.node.plan = None
    stage.mine(3)
    assert (stage.history(paid), len(stage.attempts(paid)), stage.got(paid)) == (FIRST_LIFE, 1, 7)


def test_a_request_that_never_arrives_is_repeated_with_the_same_bytes(stage: Stage) -> None:
    stage.node.plan = lambda methods: Mood(way=Way.REQUEST_LOST) if SEND in methods else Mood()
    paid = stage.sent()
    raw = stage.raw(paid)
    assert list(stage.node.pool) == []
    stage.run(3)
    assert stage.state(paid) == "broadcast"
    stage.node.plan = None
    stage.run()
    assert [each.raw for each in stage.node.pool] == [raw]
    stage.mine(3)
    assert (stage.history(paid), stage.got(paid)) == (FIRST_LIFE, 7)


WORDINGS = (
    (-32000, "already known"),
    (-32010, "AlreadyKnown"),
    (-32000, "nonce too low: next nonce 1, tx nonce 0"),
    (-32010, "OldNonce, Current nonce: 1, nonce of rejected tx: 0"),
    (-32000, "insufficient funds for gas * price + value: balance 0, tx cost 1"),
    (-32000, "exceeds block gas limit"),
    (-32000, "intrinsic gas too low"),
    (-32000, "tx fee (2.00 ether) exceeds the configured cap (1.00 ether)"),
    (-32000, "replacement transaction underpriced"),
    (-32000, "txpool is full"),
    (-32603, "Internal error"),
    (-32000, "quota of the moon exceeded, ask the tide"),
)


@pytest.mark.parametrize("taken", [True, False])
def test_no_wording_decides_what_became_of_a_transaction(stage: Stage, taken: bool) -> None:
    for nonce, words in enumerate(WORDINGS):
        with stage.mood(Mood(said={SEND: words}) if taken else Mood(errors={SEND: words})):
            paid = stage.sent()
            raw = stage.raw(paid)
            stage.run(3)
            assert (stage.state(paid), len(stage.attempts(paid))) == ("broadcast", 1), words
            if taken:
                stage.mine(3)
                assert stage.state(paid) == "confirmed", words
        stage.run(3)
        stage.mine(3)
        assert (stage.state(paid), stage.raw(paid, 0), stage.got(paid)) == ("confirmed", raw, 7), words
        assert {each.nonce for each in stage.attempts(paid)} == {nonce}
    assert stage.frozen() is None


def test_a_send_that_is_called_too_low_because_it_is_mined_gets_no_second_nonce(stage: Stage) -> None:
    """The rule "on nonce too low: read the nonce anew and send again" pays twice."""
    stage.network.automine = True
    with stage.mood(Mood(said={SEND: (-32000, "nonce too low: next nonce 1, tx nonce 0")})):
        paid = stage.pay()
        stage.run(5)
    stage.mine(3)
    assert (stage.state(paid), [each.nonce for each in stage.attempts(paid)], stage.got(paid)) == ("confirmed", [0], 7)
    assert stage.network.head.state.nonces[stage.address()] == 1


def test_a_node_that_takes_no_gaps_gets_the_lowest_nonce_again(open_stage: OpenStage) -> None:
    stage = open_stage(nodes=["nethermind"])
    with stage.mood(Mood(swallows=True)):
        first = stage.sent()
    second = stage.pay()
    stage.run(1)
    assert (stage.state(second), list(stage.node.pool)) == ("broadcast", []), "the second leaves a gap"
    stage.run(4)
    assert [each.hash for each in stage.node.pool] == [stage.attempts(each)[0].hash for each in (first, second)]
    stage.mine(3)
    assert [stage.state(each) for each in (first, second)] == ["confirmed", "confirmed"]
    assert [len(stage.attempts(each)) for each in (first, second)] == [1, 1], "nothing was voided to close the gap"


def test_a_replacement_passes_the_floor_of_ten_percent_on_both_fees(stage: Stage) -> None:
    paid = stage.sent()
    stage.speed_up(paid)
    stage.run()
    first, second = stage.attempts(paid)
    assert [each.hash for each in stage.node.pool] == [second.hash]
    for name in ("max_fee_per_gas", "max_priority_fee_per_gas"):
        assert getattr(second, name) * 8 >= getattr(first, name) * 9
    stage.mine(3)
    assert (stage.row(paid).tx_hash, stage.got(paid)) == (second.hash, 7)


def test_a_node_with_a_higher_floor_keeps_the_first_and_it_pays(stage: Stage) -> None:
    paid = stage.sent()
    with stage.mood(Mood(errors={SEND: (-32000, "replacement transaction underpriced")})):
        stage.speed_up(paid)
        stage.run()
        first, second = stage.attempts(paid)
        assert [each.hash for each in stage.node.pool] == [first.hash]
        stage.mine(3)
    assert (stage.state(paid), stage.row(paid).tx_hash, stage.got(paid)) == ("confirmed", first.hash, 7)
    assert second.hash != first.hash


def test_what_pools_forget_is_sent_again(stage: Stage) -> None:
    paid = stage.sent()
    raw = stage.raw(paid)
    stage.network.drop()
    assert list(stage.node.pool) == []
    stage.run(4)
    assert [each.raw for each in stage.node.pool] == [raw]
    stage.mine(3)
    assert (stage.history(paid), stage.got(paid)) == (FIRST_LIFE, 7)


def test_what_was_dropped_long_ago_is_alive_until_something_else_takes_its_nonce(stage: Stage) -> None:
    """A node that keeps old transactions brings them back after an upgrade, and pays what nobody expects any more."""
    paid = stage.sent()
    old = stage.raw(paid)
    stage.network.drop()
    stage.cancel(paid)
    stage.run()
    stage.network.drop()
    stage.mine()  # neither is in a pool any more; the void comes back first
    stage.run(4)
    stage.mine(3)
    assert stage.state(paid) == "canceled"
    stage.node.offer(stage.network.read(old))
    stage.mine(3)
    assert (stage.got(paid), stage.state(paid)) == (0, "canceled")


# Fees


def test_a_stuck_payout_is_raised_on_schedule_until_its_cap_and_then_voided(open_stage: OpenStage) -> None:
    """Both fees rise, by an eighth at least, not for ever and not at once; a void always fits above them."""
    stage = open_stage(base_fee=20 * GWEI)
    paid = stage.sent()
    # Blocks come, and this transaction is not in them.
    for _ in range(60):
        stage.mine(leave={each.hash for each in stage.attempts(paid) if each.purpose == "payout"})
        if any(each.purpose == "void" for each in stage.attempts(paid)):
            break
        stage.wait(20)
    *payouts, _ = attempts = stage.attempts(paid)
    assert [each.purpose for each in attempts] == ["payout"] * len(payouts) + ["void"]
    assert len(payouts) > 5
    for before, after in itertools.pairwise(attempts):
        assert after.max_fee_per_gas * 8 >= before.max_fee_per_gas * 9
        assert after.max_priority_fee_per_gas * 8 >= before.max_priority_fee_per_gas * 9
        assert after.nonce == before.nonce
        patience = 30_000_000 if before.number == 1 else 20_000_000
        assert after.created_at - before.first_sent_at >= patience
    ceiling = ceiling_per_gas(fee_cap=FEE_CAP, gas_limit=payouts[0].gas_limit)
    assert payouts[-1].max_fee_per_gas <= ceiling
    assert attempts[-1].max_fee_per_gas * attempts[-1].gas_limit <= FEE_CAP
    stage.mine(4)
    assert (stage.state(paid), stage.got(paid)) == ("canceled", 0)
    assert "could not be mined within its fee cap" in stage.row(paid).reason


def test_where_no_blocks_come_fees_do_not_rise(stage: Stage) -> None:
    paid = stage.sent()
    stage.run(40, every_s=30)
    assert len(stage.attempts(paid)) == 1
    stage.mine(3)
    assert stage.got(paid) == 7


def test_what_stands_behind_another_is_not_raised_for_it(stage: Stage) -> None:
    first, second = stage.sent(), stage.sent()
    for _ in range(6):
        stage.mine(leave={each.hash for each in stage.attempts(first)})
        stage.wait(20)
    assert len(stage.attempts(first)) > 1
    assert len(stage.attempts(second)) == 1, "it can be mined as soon as the first is"
    stage.run(3)
    stage.mine(4)
    assert [stage.got(each) for each in (first, second)] == [7, 7]


def test_a_price_above_the_cap_is_waited_out(stage: Stage) -> None:
    stage.network.base_fee = 10_000 * GWEI
    paid = stage.pay()
    stage.run(4)
    assert stage.state(paid) == "ready"
    assert "more for gas than the fee cap allows" in stage.row(paid).waiting_reason
    stage.network.base_fee = GWEI
    stage.run(3)
    stage.mine(3)
    assert stage.got(paid) == 7


def test_a_price_that_jumps_after_the_send_keeps_the_payout_and_its_bytes(stage: Stage) -> None:
    """Kept by the node although underpriced, as geth does; nobody calls it failed."""
    paid = stage.sent()
    first = stage.attempts(paid)[0]
    stage.network.base_fee = 100 * first.max_fee_per_gas
    stage.mine(5)
    assert stage.state(paid) == "broadcast"
    assert first.hash in [each.hash for each in stage.node.pool] or len(stage.attempts(paid)) > 1
    stage.network.base_fee = GWEI
    stage.run(4)
    stage.mine(4)
    assert (stage.state(paid), stage.got(paid)) == ("confirmed", 7)


def test_a_chain_without_eip_1559_is_paid_raised_and_canceled_on(open_stage: OpenStage) -> None:
    stage = open_stage(more='fee_model = "legacy"', base_fee=0)
    stage.network.legacy = True
    first, second = stage.sent(), stage.sent(native=True)
    stage.speed_up(first)
    stage.run()
    assert [each.legacy for each in stage.attempts(first)] == [True, True]
    stage.cancel(second)
    stage.run()
    stage.mine(4)
    assert [stage.state(each) for each in (first, second)] == ["confirmed", "canceled"]


def test_a_rollup_takes_its_own_fee_beside_gas_and_the_ledger_agrees(open_stage: OpenStage) -> None:
    stage = open_stage(more='data_fee = "op-stack"')
    stage.network.contracts.data_fee_per_byte = 10**9
    paid = stage.sent()
    stage.mine(3)
    assert stage.state(paid) == "confirmed"
    stage.mine(3)
    assert stage.frozen() is None
    assert stage.held(NATIVE)["reserved"] == 0


# Funds


def test_payouts_that_together_exceed_the_balance_never_leave_together(stage: Stage) -> None:
    """Each sees enough; the first to reserve has it."""
    asked = [stage.pay(6_000 * 10**6) for _ in range(3)]
    stage.run(3)
    assert sorted(stage.state(each) for each in asked) == ["broadcast", "ready", "ready"]
    stage.mine(3)
    done = [each for each in asked if stage.state(each) == "confirmed"]
    assert len(done) == 1
    waiting = [stage.row(each).waiting_reason for each in asked if each not in done]
    assert all("spendable" in reason for reason in waiting)
