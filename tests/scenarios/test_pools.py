"""Pools: many lanes behind one queue. What one wallet cannot pay another does, and never two of them."""

import collections
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from outlay.actions import sending
from outlay.actions.admit import Ask, request_transfer
from outlay.actions.export import export_payout
from outlay.actions.routing import NOBODY, Cursor, look, run_round
from outlay.actions.sending import Candidate
from outlay.actions.work import open_work
from outlay.core.errors import HeadMoved, PreconditionFailed
from outlay.core.pool import Route
from outlay.core.turns import Turns
from outlay.evidence.payout import verify_payout
from outlay.signer import Scope
from outlay.store import pools
from outlay.store import wallets as wallet_rows
from outlay.store.database import Unit
from outlay.store.schema import transfer
from tests.actions.documents import BLOCK, cap
from tests.actions.world import ALICE, OFFER, USDC
from tests.scenarios.stage import DOLLAR, Stage

OpenStage = Callable[..., Stage]
TAG = "hot"


def pooled(stage: Stage, count: int, **funds: int) -> tuple[str, list[str]]:
    """Return a pool and its wallets, in the order in which the router takes equal ones."""
    wallets = sorted(stage.new_wallet(TAG, **funds) for _ in range(count))
    return stage.world.pool(TAG), wallets


def payers(stage: Stage, paid: list[str]) -> list[str]:
    """Return who pays each."""
    return [stage.row(each).wallet_id for each in paid]


def freeze(stage: Stage, wallet_id: str) -> None:
    stage.unit(lambda unit: wallet_rows.freeze(unit, wallet_id, "looked odd"))


def unfreeze(stage: Stage, wallet_id: str) -> None:
    stage.unit(lambda unit: wallet_rows.update(unit, wallet_id, frozen_reason=None))


def test_a_pool_spreads_its_payouts_over_its_wallets(stage: Stage) -> None:
    pool, wallets = pooled(stage, 3)
    paid = [stage.pay_pool(pool) for _ in range(9)]
    assert {stage.row(each).route for each in paid} == {"queue"}
    stage.run()
    assert {stage.state(each) for each in paid} == {"broadcast"}
    assert collections.Counter(payers(stage, paid)) == dict.fromkeys(wallets, 3)
    stage.mine(4)
    assert {stage.state(each) for each in paid} == {"confirmed"}
    proof = stage.unit(lambda unit: export_payout(unit, paid[0]))
    report = verify_payout(proof, stage.world.root)
    assert (report.wallet_id, report.intent.pool) == (stage.row(paid[0]).wallet_id, pool)
    assert f"of pool {pool})" in report.text()


# Wallets that cannot pay


def test_a_frozen_wallet_gets_nothing_and_keeps_nothing_that_is_not_bound(open_stage: OpenStage) -> None:
    stage = open_stage(in_flight=1)
    pool, (first, second) = pooled(stage, 2)
    bound, waiting = [stage.pay_pool(pool) for _ in range(2)], [stage.pay_pool(pool) for _ in range(2)]
    stage.run()
    assert sorted(payers(stage, bound)) == sorted([first, second])
    assert {stage.row(each).route for each in waiting} == {"lane"}, "sent ahead"
    freeze(stage, first)
    stage.run()
    assert payers(stage, waiting) == [second, second]
    stage.mine(12)
    assert [stage.state(each) for each in waiting] == ["confirmed"] * 2
    unfreeze(stage, first)
    stage.mine(4)
    assert [stage.state(each) for each in bound] == ["confirmed"] * 2, "what was bound is followed to its end"


def test_a_drained_wallet_gets_nothing_new_and_ends_what_it_has(stage: Stage) -> None:
    pool, (first, second) = pooled(stage, 2)
    bound = [stage.pay_pool(pool) for _ in range(2)]
    stage.run()
    stage.world.drain(first)
    later = [stage.pay_pool(pool) for _ in range(3)]
    named = stage.pay(wallet_id=second)
    with pytest.raises(PreconditionFailed, match="is drained: is looked after"):
        stage.pay(wallet_id=first)
    stage.run()
    assert payers(stage, later) == [second] * 3
    stage.mine(4)
    assert {stage.state(each) for each in (*bound, *later, named)} == {"confirmed"}
    stage.world.resume(first)
    back = stage.pay_pool(pool)
    stage.run()
    assert stage.row(back).wallet_id == first


def test_what_names_a_drained_wallet_waits_for_it(stage: Stage) -> None:
    wallet = stage.new_wallet()
    with stage.mood():
        paid = stage.pay(wallet_id=wallet)
        stage.world.drain(wallet)
        stage.run()
    assert (stage.state(paid), stage.row(paid).waiting_reason) == ("ready", "the wallet is drained: is looked after")
    stage.world.resume(wallet)
    stage.run()
    assert stage.state(paid) == "broadcast"
    stage.mine(4)


def test_a_pool_without_funds_waits_and_says_so_and_goes_on_by_itself(stage: Stage) -> None:
    pool, (first, _) = pooled(stage, 2, dollars=10)
    small, large = stage.pay_pool(pool, 9 * DOLLAR), stage.pay_pool(pool, 50 * DOLLAR)
    with capture_logs() as said:
        stage.run()
    assert stage.state(small) == "broadcast"
    row = stage.row(large)
    assert (row.state, row.route, row.waiting_reason) == ("ready", "parked", NOBODY)
    warnings = [each for each in said if each["event"] == "pool_cannot_pay"]
    assert [(each["payouts"], each["first"]) for each in warnings] == [(1, large)], "once, not every round"
    stage.network.give(stage.address(first), 100 * DOLLAR, stage.token)
    stage.mine(4)
    stage.run()
    row = stage.row(large)
    assert (row.wallet_id, row.waiting_reason) == (first, None)
    stage.mine(4)
    assert stage.state(large) == "confirmed"


def test_a_wallet_without_coins_for_fees_is_passed(stage: Stage) -> None:
    poor = stage.new_wallet(TAG, coins=0)
    rich = stage.new_wallet(TAG)
    pool = stage.world.pool(TAG)
    paid = [stage.pay_pool(pool) for _ in range(3)]
    stage.run()
    assert payers(stage, paid) == [rich] * 3, poor
    stage.mine(4)


def test_one_of_eight_that_stands_still_costs_an_eighth(open_stage: OpenStage) -> None:
    """As many are confirmed in the same time as seven wallets confirm."""
    confirmed = {}
    for stuck in (False, True):
        stage = open_stage(in_flight=1, finality="blocks = 1")
        pool, wallets = pooled(stage, 8)
        paid = [stage.pay_pool(pool) for _ in range(40)]
        address = stage.address(wallets[0])

        def look(stage: Stage = stage, address: str = address, stuck: bool = stuck) -> None:
            stage.run(1)
            stage.network.mine(leave={each.hash for each in stage.node.pool if stuck and each.sender == address})
            stage.run(1)

        for _ in range(4):
            look()
        confirmed[stuck] = sum(stage.state(each) == "confirmed" for each in paid)
        if stuck:
            stage.wait(stage.config.sending.bump_after_s)
            look()
            waiting = [each for each in paid if stage.state(each) == "ready"]
            assert waiting == [] or wallets[0] not in payers(stage, waiting), "nothing waits behind it"
            for _ in range(2):
                look()
            assert sum(stage.state(each) != "confirmed" for each in paid) == 1, "the one it holds"
            stage.mine(2)
    assert 40 > confirmed[False] >= 24, "or there was nothing to compare"
    assert confirmed[True] >= confirmed[False] * 7 / 8, confirmed


# Never two


def test_a_crash_between_choosing_a_wallet_and_binding_loses_nothing(stage: Stage) -> None:
    pool, _ = pooled(stage, 2)
    paid = [stage.pay_pool(pool) for _ in range(4)]
    assert stage.do(stage.router.step())
    assert {stage.row(each).route for each in paid} == {"lane"}
    stage.start()
    stage.run()
    stage.mine(4)
    assert {stage.state(each) for each in paid} == {"confirmed"}
    assert {len(stage.attempts(each)) for each in paid} == {1}


def test_two_workers_that_look_at_once_do_not_move_a_payout_twice(stage: Stage) -> None:
    pool_id, (first, second) = pooled(stage, 2)
    paid = stage.pay_pool(pool_id)
    row = stage.row(paid)

    def moved(unit: Unit, was: tuple[str, Route], to: str) -> bool:
        place = {"of_id": paid, "of_wallet": was[0], "of_route": was[1], "waiting_reason": None}
        return pools.move(unit, [{**place, "wallet_id": to, "route": Route.LANE}])

    queued = (row.wallet_id, Route.QUEUE)
    assert stage.unit(lambda unit: moved(unit, queued, second))
    assert not stage.unit(lambda unit: moved(unit, queued, first)), "it is in a lane now"
    assert not stage.unit(lambda unit: moved(unit, (first, Route.LANE), first)), "and in another one"
    assert stage.row(paid).wallet_id == second
    # A whole round that read before another one wrote is not kept.
    pool = stage.unit(lambda unit: pools.find(unit, pool_id))
    assert pool is not None
    late = stage.pay_pool(pool_id)

    def two(unit: Unit) -> None:
        work = open_work(unit, now=stage.clock.now(), entropy=stage.world.entropy, config=stage.config)
        seen = look(unit, stage.config, pool, Cursor(), Turns(), now=work.now)
        assert [each.id for each in run_round(work, pool, Cursor(), Turns()).took] == [late]
        assert run_round(work, pool, Cursor(), Turns()).moves == []
        stale_moves = [each.id for each in seen.moves(stage.config, lambda _payout, _wallet: True)]
        assert stale_moves == [late]

    stage.unit(two)
    stage.run()
    stage.mine(4)
    assert (stage.state(paid), stage.state(late)) == ("confirmed", "confirmed")


def test_a_lane_does_not_bind_what_was_moved_away(stage: Stage) -> None:
    """The lane read its candidates before the router moved them."""
    pool, (first, second) = pooled(stage, 2)
    paid = stage.pay_pool(pool)
    stage.do(stage.router.step())
    assert stage.row(paid).wallet_id == first
    fence = stage.world.lease(first)
    move = {
        "of_id": paid,
        "of_wallet": first,
        "of_route": "lane",
        "wallet_id": second,
        "route": "lane",
        "waiting_reason": None,
    }
    stage.unit(lambda unit: pools.move(unit, [move]))
    with stage.world.work() as work:
        assert sending.bind(work, first, fence, [Candidate(transfer_id=paid, offer=OFFER)], room=9) == 0
    assert stage.state(paid) == "ready"
    stage.run()
    stage.mine(4)
    assert (stage.row(paid).wallet_id, stage.state(paid)) == (second, "confirmed")


def test_what_the_signer_refuses_for_one_wallet_another_pays(stage: Stage) -> None:
    """Nothing was signed, as the journal proves: so it may go to another wallet, by another nonce."""
    pool, (first, second) = pooled(stage, 2)
    stage.do(stage.worker.step())
    freeze_id = stage.signer.freeze(Scope.WALLET, first, "looked odd").id
    paid = stage.pay_pool(pool)
    stage.do(stage.router.step())
    assert stage.row(paid).wallet_id == first, "nobody here has heard of the freeze yet"
    stage.do(stage.worker.step())
    stage.do(stage.worker.step())
    assert stage.history(paid)[-1] == "released", stage.history(paid)
    stage.run()
    assert (stage.row(paid).wallet_id, stage.state(paid)) == (second, "broadcast"), freeze_id
    stage.mine(4)
    assert stage.state(paid) == "confirmed"


def test_what_one_wallet_signed_the_signer_gives_to_no_other(stage: Stage) -> None:
    """The database says otherwise: the payout is ready again, and of another wallet."""
    pool, (first, second) = pooled(stage, 2)
    paid = stage.pay_pool(pool)
    stage.run()
    row = stage.row(paid)
    assert (row.wallet_id, row.state) == (first, "broadcast")

    def forge(**changes: object) -> None:
        stage.unit(lambda unit: unit.execute(sa.update(transfer).where(transfer.c.id == paid).values(**changes)))

    forge(state="ready", wallet_id=second, transaction_id=None)
    stage.do(stage.worker.step())
    stage.do(stage.worker.step())
    assert "the signer's journal holds" in str(stage.frozen(second))
    assert {each.sender for each in stage.node.pool} == {stage.address(first)}
    forge(state="broadcast", wallet_id=first, transaction_id=row.transaction_id)


# Who may pay what


def test_a_wallet_that_joins_later_pays_only_what_is_asked_for_later(stage: Stage) -> None:
    """Its limits and policies were not looked at when the earlier payout was let in, and no proof would hold it."""
    pool, (first,) = pooled(stage, 1)
    freeze_on = stage.pay_pool(pool)
    freeze(stage, first)
    second = stage.new_wallet(TAG)
    stage.run()
    assert (stage.state(freeze_on), stage.row(freeze_on).route) == ("ready", "parked")
    later = stage.pay_pool(pool)
    stage.run()
    assert (stage.row(later).wallet_id, stage.state(later)) == (second, "broadcast")
    unfreeze(stage, first)
    stage.mine(6)
    assert (stage.row(freeze_on).wallet_id, stage.state(freeze_on)) == (first, "confirmed")


def test_a_wallet_that_lost_its_tag_pays_for_the_pool_no_more(stage: Stage) -> None:
    pool, (first, second) = pooled(stage, 2)
    paid = [stage.pay_pool(pool) for _ in range(4)]
    stage.do(stage.router.step())
    assert set(payers(stage, paid)) == {first, second}
    stage.world.untag(first, TAG)
    stage.run()
    assert payers(stage, paid) == [second] * 4
    stage.world.tag(first, TAG)  # it is another membership: the payouts above were not judged for it
    stage.mine(4)
    assert {stage.state(each) for each in paid} == {"confirmed"}


def test_a_request_is_signed_again_where_wallets_came_since(stage: Stage) -> None:
    pool, _ = pooled(stage, 1)
    world, payload = (
        stage.world,
        {"externalId": "one", "poolId": pool, "asset": USDC, "recipient": ALICE, "amount": "7"},
    )
    ask = Ask(kind="Erc20", contract=USDC, to=ALICE, amount="7", external_id="one", pool_id=pool)
    signed = world.sign(stage.bot, "POST", "/v1/payouts", payload)
    stage.new_wallet(TAG)
    with pytest.raises(HeadMoved):
        world.send(
            stage.bot,
            signed,
            "POST",
            "/v1/payouts",
            payload,
            "Wallets:Transfers:Create",
            lambda act: request_transfer(act, ask, quote_of=world.quote),
        )


def test_an_archived_pool_takes_nothing_new_and_pays_what_it_took(stage: Stage) -> None:
    pool, (first, _) = pooled(stage, 2)
    made = stage.world.pay_pool(stage.bot, pool, 1, external_id="one")
    stage.world.archive_pool(pool)
    with pytest.raises(PreconditionFailed, match="was archived"):
        stage.pay_pool(pool)
    again = stage.world.pay_pool(stage.bot, pool, 1, external_id="one")
    assert again["id"] == made["id"]
    stage.run()
    stage.mine(4)
    assert (stage.state(made["id"]), stage.row(made["id"]).wallet_id) == ("confirmed", first)
    assert stage.world.pay_pool(stage.bot, pool, 1, external_id="one")["status"] == "Confirmed"


def test_a_pool_that_nobody_can_pay_for_takes_nothing(stage: Stage) -> None:
    empty = stage.world.pool("nobody carries this")
    with pytest.raises(PreconditionFailed, match="has no wallet"):
        stage.pay_pool(empty)
    pool, wallets = pooled(stage, 2)
    for each in wallets:
        freeze(stage, each)
    with pytest.raises(PreconditionFailed, match=r"no wallet of the pool pays now; .* is frozen: looked odd"):
        stage.pay_pool(pool)
    unfreeze(stage, wallets[1])
    assert stage.pay_pool(pool)
    stage.run()
    stage.mine(4)


# Limits


def test_a_cap_of_the_pool_does_not_multiply_with_its_wallets(stage: Stage) -> None:
    pool, wallets = pooled(stage, 3)
    stage.world.policy(cap(100, scope="policy"), BLOCK, tags=[TAG])
    paid = [stage.pay_pool(pool, 30 * DOLLAR) for _ in range(5)]
    assert [stage.state(each) for each in paid] == ["ready"] * 3 + ["rejected"] * 2
    stage.run()
    assert sorted(payers(stage, paid[:3])) == wallets
    stage.mine(4)


def test_limits_of_each_wallet_follow_the_payouts(stage: Stage) -> None:
    """What was let in fits under the limit of every wallet, so it is paid by any."""
    pool, wallets = pooled(stage, 3)
    stage.world.policy(cap(50, scope="wallet"), BLOCK, tags=[TAG])
    paid = [stage.pay_pool(pool, 20 * DOLLAR) for _ in range(5)]
    assert [stage.state(each) for each in paid] == ["ready"] * 4 + ["rejected"], "or one wallet could not pay it"
    freeze(stage, wallets[0])
    stage.run()
    assert collections.Counter(payers(stage, paid[:4])) == {wallets[1]: 2, wallets[2]: 2}
    with pytest.raises(PreconditionFailed):
        stage.pay(wallet_id=wallets[0])
    unfreeze(stage, wallets[0])
    assert stage.state(stage.pay(40 * DOLLAR, wallet_id=wallets[0])) == "ready", "it has its limit back"
    assert stage.state(stage.pay(20 * DOLLAR, wallet_id=wallets[1])) == "rejected", "and this has not"
    stage.mine(4)
    assert {stage.state(each) for each in paid[:4]} == {"confirmed"}


def test_a_payout_is_not_moved_where_it_would_pass_a_limit(stage: Stage) -> None:
    pool, wallets = pooled(stage, 2)
    stage.world.policy(cap(50, scope="wallet"), BLOCK, tags=[TAG])
    paid = stage.pay_pool(pool, 20 * DOLLAR)
    home = stage.row(paid).wallet_id
    (other,) = set(wallets) - {home}
    assert stage.state(stage.pay(40 * DOLLAR, wallet_id=other)) == "ready"
    freeze(stage, home)
    stage.run()
    assert (stage.state(paid), stage.row(paid).route, stage.row(paid).wallet_id) == ("ready", "parked", home)
    unfreeze(stage, home)
    stage.mine(6)
    assert (stage.state(paid), stage.row(paid).wallet_id) == ("confirmed", home)
