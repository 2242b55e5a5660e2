"""How payouts end that were canceled, stopped or paid with a token that changed: never by what somebody hoped."""

from collections.abc import Callable

import pytest

from outlay.chains.fake import Manner
from outlay.core.asset import NATIVE
from outlay.core.errors import Conflict, PreconditionFailed
from outlay.signer import Scope
from tests.actions.documents import BLOCK, cap
from tests.scenarios.stage import DOLLAR, Stage

OpenStage = Callable[..., Stage]

# Canceled


def test_a_cancellation_gives_back_what_a_limit_counted_once_and_when_it_is_final(stage: Stage) -> None:
    stage.world.policy(cap(10), BLOCK)
    paid = stage.sent(7 * DOLLAR)
    stage.cancel(paid)
    stage.run()
    stage.mine(2)
    assert stage.state(stage.pay(7 * DOLLAR)) == "rejected", "the void is not final: the payout may still be paid"
    stage.mine(2)
    assert stage.state(paid) == "canceled"
    assert stage.state(stage.pay(7 * DOLLAR)) == "ready"
    assert stage.state(stage.pay(7 * DOLLAR)) == "rejected"


def test_a_cancellation_costs_its_fee_and_no_more(stage: Stage) -> None:
    before = stage.held(NATIVE)["spendable"]
    paid = stage.sent(3, native=True)
    stage.cancel(paid)
    stage.run()
    stage.mine(3)
    row = stage.row(paid)
    assert (row.state, stage.held(NATIVE)) == ("canceled", {"spendable": before - row.fee, "reserved": 0})


@pytest.mark.parametrize("wins", ["payout", "void"])
def test_of_a_payout_and_its_void_the_chain_keeps_one(stage: Stage, wins: str) -> None:
    paid = stage.sent()
    stage.cancel(paid)
    stage.run()
    payout, void = stage.attempts(paid)
    assert payout.nonce == void.nonce
    chosen = payout if wins == "payout" else void
    stage.network.drop()
    stage.network.reorganise(0, instead=[bytes.fromhex(chosen.raw)], blocks=1)
    for _ in range(3):
        stage.mine()
    assert stage.state(paid) == ("confirmed" if wins == "payout" else "canceled")
    assert stage.got(paid) == (7 if wins == "payout" else 0)


def test_a_void_that_a_reorganisation_replaces_by_the_payout_ends_as_a_payment(stage: Stage) -> None:
    paid = stage.sent()
    stage.cancel(paid)
    stage.run()
    stage.mine(2)
    assert stage.state(paid) == "broadcast"
    stage.network.reorganise(2, lost=None, instead=[stage.raw(paid, 0)])
    stage.run()
    stage.mine(3)
    assert (stage.state(paid), stage.got(paid)) == ("confirmed", 7)


def test_a_void_that_is_stuck_is_raised_and_the_payout_is_not(stage: Stage) -> None:
    paid = stage.sent()
    void = stage.cancel(paid)
    stage.run()
    for _ in range(4):
        stage.mine(leave={each.hash for each in stage.attempts(paid)})
        stage.wait(30)
    purposes = [each.purpose for each in stage.attempts(paid)]
    assert purposes == ["payout"] + ["void"] * (len(purposes) - 1)
    assert len(purposes) > 2
    assert stage.cancel(paid)["id"] == void["id"]
    stage.mine(3)
    assert (stage.state(paid), stage.got(paid)) == ("canceled", 0)


def test_two_who_ask_at_once_get_one_attempt(stage: Stage) -> None:
    paid = stage.sent()
    stage.speed_up(paid)
    for ask in (stage.speed_up, stage.cancel):
        with pytest.raises(Conflict, match="just being signed"):
            ask(paid)
    stage.run()
    assert len(stage.attempts(paid)) == 2
    void = stage.cancel(paid)
    assert stage.cancel(paid)["id"] == void["id"]
    stage.run()
    stage.mine(3)
    assert (len(stage.attempts(paid)), stage.state(paid)) == (3, "canceled")


def test_a_worker_that_dies_between_asking_and_signing_a_void_leaves_it_to_the_next(stage: Stage) -> None:
    paid = stage.sent()
    stage.cancel(paid)
    stage.wait(40)
    stage.start()
    stage.run()
    assert [each.purpose for each in stage.attempts(paid)] == ["payout", "void"]
    stage.mine(3)
    assert stage.state(paid) == "canceled"


# Stopped


def test_a_stop_lets_what_is_under_way_end_and_nothing_new_begin(stage: Stage) -> None:
    under_way = [stage.sent() for _ in range(5)]
    waiting = stage.pay()
    stage.signer.freeze(Scope.ALL, "", "a drill")
    stage.mine(4)
    assert [stage.got(each) for each in under_way] == [7] * 5
    assert (stage.state(waiting), stage.attempts(waiting)) == ("ready", [])
    assert "a drill" in stage.row(waiting).waiting_reason
    with pytest.raises(PreconditionFailed, match="a drill"):
        stage.pay()


def test_what_is_stopped_is_neither_sped_up_nor_canceled_and_may_still_be_paid(stage: Stage) -> None:
    paid = stage.sent()
    stage.signer.freeze(Scope.WALLET, stage.wallet, "a drill")
    stage.run()
    for ask in (stage.cancel, stage.speed_up):
        with pytest.raises(PreconditionFailed, match="a drill"):
            ask(paid)
    for _ in range(3):  # long enough for its fees to be due
        stage.mine(leave={each.hash for each in stage.attempts(paid)})
        stage.wait(60)
    assert len(stage.attempts(paid)) == 1
    stage.mine(3)
    assert stage.got(paid) == 7


def test_a_stop_between_asking_and_signing_a_void_lets_the_payout_go_its_way(stage: Stage) -> None:
    paid = stage.sent()
    stage.cancel(paid)
    stage.signer.freeze(Scope.ALL, "", "a drill")
    stage.run(4)
    assert [each.purpose for each in stage.attempts(paid)] == ["payout"]
    stage.mine(4)
    assert (stage.state(paid), stage.got(paid)) == ("confirmed", 7)


# Tokens that change


@pytest.mark.parametrize("manner", [Manner.FEE, Manner.FALSE, Manner.SILENT])
def test_a_token_that_was_changed_is_stopped_at_its_first_other_effect(stage: Stage, manner: Manner) -> None:
    """An upgradable token behaves until it does not."""
    good = stage.sent()
    stage.mine(3)
    assert stage.state(good) == "confirmed"
    stage.token.manner = manner
    odd = stage.sent(700)
    stage.mine(4)
    row = stage.row(odd)
    assert (row.state, row.flag) == ("mined", "effect_mismatch")
    assert "had another effect than asked" in str(stage.frozen())
    with pytest.raises(PreconditionFailed, match="frozen"):
        stage.pay()
    stage.recipients.pop(odd)  # what it got is what a person has to find out


def test_a_token_that_refuses_at_first_and_pays_later_pays_once(stage: Stage) -> None:
    stage.token.blocked.add(stage.address())
    paid = stage.pay()
    stage.run(3)
    assert "would not go through" in stage.row(paid).waiting_reason
    stage.token.blocked.clear()
    stage.run(3)
    stage.mine(3)
    assert (stage.state(paid), stage.got(paid)) == ("confirmed", 7)
