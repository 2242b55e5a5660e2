"""Refills end to end: mandate, decision, signer, chain, ledger."""

import dataclasses
import json
from typing import Any

import pytest
import sqlalchemy as sa

from outlay.actions import refill
from outlay.core.asset import NATIVE, Asset
from outlay.core.errors import ChainUnavailable
from outlay.core.seams import MINUTE, SECOND
from outlay.store import ledger
from tests import mandated
from tests.actions.documents import ALWAYS, BLOCK, ask, at_most, cap, group
from tests.actions.world import USDC
from tests.mandated import REFILLS, between, document, window
from tests.scenarios.stage import COIN, DOLLAR, FEE_CAP, Stage

SAFE = "0x" + "5a" * 20


def make(stage: Stage, **given: Any) -> str:
    """Create a mandate for dollars and return its id."""
    return mandated.create(stage.world, document(**given))


def refills(stage: Stage, mandate_id: str) -> list[tuple[str, int]]:
    """Return state and whole dollars of each refill."""
    return [(row.state, row.amount // DOLLAR) for row in mandated.refills(stage.world, mandate_id)]


def events(stage: Stage, kind: str) -> list[dict[str, Any]]:
    """Return what was told of a kind, in order."""
    text = sa.text("SELECT data FROM event WHERE kind = :kind ORDER BY seq")
    return [json.loads(row.data) for row in stage.unit(lambda unit: unit.execute(text, {"kind": kind}).all())]


def why(stage: Stage, mandate_id: str) -> list[str | None]:
    """Return why nothing goes to each wallet of a mandate."""
    return [each.get("waitingReason") for each in mandated.balances(stage.world, mandate_id)]


def settle(stage: Stage, rounds: int = 2) -> None:
    """Let what is under way become final and be seen in the ledger, and what follows from it too."""
    for _ in range(rounds):
        stage.run(2)
        stage.mine(5)
        stage.run(2)


def agrees(stage: Stage, *wallet_ids: str) -> None:
    """Check ledger against chain for wallets that pay nothing now."""
    stage.unit(ledger.check)
    for wallet_id in wallet_ids:
        address = stage.address(wallet_id)
        for asset, native in ((NATIVE, True), (USDC, False)):
            expected = {"spendable": stage.balance(address, native=native), "reserved": 0}
            assert stage.held(asset, wallet_id=wallet_id) == expected, (wallet_id, asset)
            assert stage.frozen(wallet_id) is None


def dollars(stage: Stage, wallet_id: str) -> int:
    """Return the whole dollars a wallet may spend."""
    return stage.held(USDC, wallet_id=wallet_id)["spendable"] // DOLLAR


def test_a_token_wallet_without_gas_gets_gas_and_pays(stage: Stage) -> None:
    treasury, hot = stage.wallet, stage.new_wallet(coins=0, dollars=50)
    paid = stage.pay(wallet_id=hot)
    stage.run()
    assert stage.state(paid) == "ready"
    topped = mandated.create(stage.world, mandated.gas(FEE_CAP, **between(treasury, hot)))
    settle(stage)
    assert stage.state(paid) == "confirmed"
    (refill,) = mandated.refills(stage.world, topped)
    assert (refill.state, refill.amount, refill.recipient) == ("confirmed", 5 * FEE_CAP, stage.address(hot))
    agrees(stage, treasury, hot)


def test_gas_comes_where_a_payout_waits_for_it_although_the_minimum_is_there(stage: Stage) -> None:
    hot = stage.new_wallet(coins=FEE_CAP - 1, dollars=50)
    levels = {"unit": "base", "min": "1", "target": "2", "max": str(COIN), "perRefillMax": str(COIN)}
    topped = mandated.create(stage.world, mandated.gas(FEE_CAP, **between(stage.wallet, hot), **levels))
    settle(stage)
    assert mandated.refills(stage.world, topped) == []
    paid = stage.pay(wallet_id=hot)
    settle(stage)
    assert stage.state(paid) == "confirmed"
    assert [row.amount for row in mandated.refills(stage.world, topped)] == [1, 2]  # what it needed; then its target


def test_a_pool_of_wallets_is_filled_once_each_to_the_target(stage: Stage) -> None:
    treasury = stage.wallet
    low = [stage.new_wallet(dollars=each) for each in (0, 99, 100)]
    made = make(stage, treasury={"walletId": treasury}, wallets={"tag": "payouts"})
    for each in low:
        stage.world.tag(each, "payouts")
    settle(stage, 3)
    assert sorted(refills(stage, made)) == [("confirmed", 401), ("confirmed", 500)]
    assert [dollars(stage, each) for each in low] == [500, 500, 100]
    assert len(events(stage, "wallet.balance.low")) == 2
    agrees(stage, treasury, *low)


def test_an_empty_treasury_waits_and_says_why(stage: Stage) -> None:
    treasury, hot = stage.new_wallet(dollars=99), stage.new_wallet(dollars=0)
    made = make(stage, **between(treasury, hot))
    settle(stage)
    assert refills(stage, made) == []
    (balance,) = mandated.balances(stage.world, made)
    assert (balance["low"], balance["coming"]) == (True, "0")
    assert balance["waitingReason"] == "the treasury can give 99000000 base units, and 100000000 are needed"
    (told,) = events(stage, "wallet.balance.low")
    assert told["balance"]["waitingReason"] == balance["waitingReason"]
    assert (told["balance"]["spendable"], told["balance"]["threshold"]) == ("0", str(100 * DOLLAR))
    stage.network.give(stage.address(treasury), DOLLAR, stage.token)
    settle(stage)
    assert refills(stage, made) == [("confirmed", 100)]
    assert len(events(stage, "wallet.balance.low")) == 1
    agrees(stage, treasury, hot)


def test_a_treasury_keeps_what_its_own_payouts_and_fees_need(stage: Stage) -> None:
    poor, hot = stage.new_wallet(coins=2 * FEE_CAP - 1, dollars=1000), stage.new_wallet(dollars=0)
    paid = stage.pay(950 * DOLLAR, wallet_id=poor)  # ready; nothing is set aside for it yet
    made = make(stage, **between(poor, hot))
    assert mandated.fill(stage.world) == 0
    assert why(stage, made) == ["the treasury cannot pay the fees of a refill"]
    stage.network.give(stage.address(poor), COIN)
    settle(stage)
    assert stage.state(paid) == "confirmed"
    assert refills(stage, made) == []
    assert why(stage, made) == ["the treasury can give 50000000 base units, and 100000000 are needed"]


def test_the_window_holds_across_wallets_and_opens_again(stage: Stage) -> None:
    first, second = (stage.new_wallet(dollars=0) for _ in range(2))
    made = make(stage, **between(stage.wallet, first, second), window=window(1000, 1))
    settle(stage)
    assert refills(stage, made) == [("confirmed", 500)]
    assert sorted(why(stage, made), key=str) == [None, "the mandate's limit for 60 minutes is reached"]
    stage.wait(3600)
    settle(stage)
    assert refills(stage, made) == [("confirmed", 500)] * 2


def test_nothing_goes_to_a_frozen_wallet_or_from_a_frozen_treasury(stage: Stage) -> None:
    treasury, hot = stage.new_wallet(dollars=5000), stage.new_wallet(dollars=0)
    made = make(stage, **between(treasury, hot))
    for frozen in (hot, treasury):
        mandated.freeze(stage.world, frozen)
        settle(stage, 1)
        assert refills(stage, made) == []
        what = "wallet" if frozen == hot else "treasury"
        assert why(stage, made) == [f"the {what} is frozen: looked odd"]
        mandated.freeze(stage.world)


def test_policies_about_refills_judge_them_and_no_others_do(stage: Stage) -> None:
    """A cap on payouts is not eaten by refills, nor the other way round."""
    hot = stage.new_wallet(dollars=50)
    stage.world.policy(ALWAYS, BLOCK, only=[stage.wallet])
    stage.world.policy(cap(7, scope="organization"), BLOCK, only=[hot])
    first = stage.pay(6 * DOLLAR, wallet_id=hot)
    settle(stage)
    refilling = stage.world.policy(cap(1000, scope="organization"), BLOCK, kind=REFILLS)
    made = make(stage, **between(stage.wallet, hot))
    settle(stage)
    assert refills(stage, made) == [("confirmed", 456)]
    (row,) = mandated.refills(stage.world, made)
    (judged,) = stage.world.evaluations(row.id)
    assert (judged.policy_id, judged.context["sum"], judged.context["count"]) == (refilling, "0", 0)
    second = stage.pay(2 * DOLLAR, wallet_id=hot)
    assert (stage.state(first), stage.state(second)) == ("confirmed", "rejected")
    (judged,) = stage.world.evaluations(second)
    assert (judged.context["sum"], judged.context["count"]) == ("6", 1)
    # Counters that are written anew say the same.
    stage.world.replace_policy(refilling, cap(456, scope="organization"), BLOCK, kind=REFILLS)
    totals = "SELECT policy_id, signed_count FROM velocity_counter"
    counted = {
        each.policy_id: each.signed_count for each in stage.unit(lambda unit: unit.execute(sa.text(totals)).all())
    }
    assert counted[refilling] == 1


def test_what_a_policy_blocks_is_left_alone_for_a_while(stage: Stage) -> None:
    hot = stage.new_wallet(dollars=0)
    policy = stage.world.policy(at_most(0), BLOCK, kind=REFILLS)
    made = make(stage, **between(stage.wallet, hot))
    settle(stage)
    assert refills(stage, made) == [("rejected", 500)]
    stage.world.archive_policy(policy)
    settle(stage)
    assert refills(stage, made) == [("rejected", 500)]
    stage.wait(15 * MINUTE // SECOND)
    settle(stage)
    assert refills(stage, made) == [("rejected", 500), ("confirmed", 500)]


def test_a_policy_asks_people_and_the_signer_checks_what_they_said(stage: Stage) -> None:
    hot, person = stage.new_wallet(dollars=0), stage.world.person("approver@example.com")
    stage.world.policy(ALWAYS, ask(group(person)), kind=REFILLS)
    made = make(stage, **between(stage.wallet, hot))
    settle(stage)
    (row,) = mandated.refills(stage.world, made)
    assert row.state == "held"
    stage.world.decide(person, row.id)
    settle(stage)
    assert refills(stage, made) == [("confirmed", 500)]


def test_archiving_withdraws_what_waits_and_the_signer_follows(stage: Stage) -> None:
    hot, person = stage.new_wallet(dollars=0), stage.world.person("approver@example.com")
    stage.world.policy(ALWAYS, ask(group(person)), kind=REFILLS)
    made = make(stage, **between(stage.wallet, hot))
    settle(stage, 1)
    mandated.archive(stage.world, made)
    settle(stage)
    assert refills(stage, made) == [("canceled", 500)]
    assert mandated.balances(stage.world, made) == []


def test_a_treasury_that_is_not_ours_is_asked_by_a_proposal(stage: Stage) -> None:
    hot = stage.new_wallet(dollars=0)
    made = make(stage, treasury={"external": SAFE}, wallets={"walletIds": [hot]})
    settle(stage)
    (told,) = events(stage, "refill.proposed")
    proposal, address = told["proposal"], stage.address(hot)
    assert (proposal["to"], proposal["amount"], proposal["treasury"]) == (address, str(500 * DOLLAR), SAFE)
    data = "0xa9059cbb" + address.removeprefix("0x").rjust(64, "0") + f"{500 * DOLLAR:064x}"
    assert proposal["transaction"] == {"to": USDC, "value": "0", "data": data}
    stage.network.give(address, 60 * DOLLAR, stage.token)
    settle(stage)
    assert [each["coming"] for each in mandated.balances(stage.world, made)] == [str(440 * DOLLAR)]
    stage.network.give(address, 440 * DOLLAR, stage.token)
    settle(stage)
    rows = stage.unit(lambda unit: unit.execute(sa.text("SELECT status, seen FROM refill_proposal")).all())
    assert [(row.status, int(row.seen)) for row in rows] == [("Fulfilled", 500 * DOLLAR)]
    assert len(events(stage, "refill.proposed")) == 1


def test_a_refill_that_arrived_unseen_is_not_sent_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token does not tell the balance: that nothing was posted does not mean that nothing came."""
    hot = stage.new_wallet(dollars=0)
    made = make(stage, **between(stage.wallet, hot))
    stage.run(2)
    read = stage.chain.balance_at

    async def silent(address: str, asset: Asset, block: int) -> int:
        if address.lower() == stage.address(hot).lower() and asset.contract is not None:
            raise ChainUnavailable("this token does not answer")
        return await read(address, asset, block)

    monkeypatch.setattr(stage.chain, "balance_at", silent)
    for _ in range(4):
        stage.mine(5)
        stage.run(4)
    assert len(refills(stage, made)) == 1
    monkeypatch.undo()
    settle(stage, 3)
    assert dollars(stage, hot) * DOLLAR == stage.balance(stage.address(hot))
    assert len(refills(stage, made)) == 1


def test_a_network_that_is_not_configured_any_more_stops_only_its_own_mandates(stage: Stage) -> None:
    hot = stage.new_wallet(dollars=0)
    make(stage, **between(stage.wallet, hot))
    gone = dataclasses.replace(stage.config, networks={}, assets=())
    (look,) = stage.unit(lambda unit: refill.survey(unit, gone, now=stage.clock.now()))
    assert look.plan.reason == "the network or the asset is not configured any more"
