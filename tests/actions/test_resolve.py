"""Ending a payout that is final with another effect than was asked for, at a person's signed word."""

from typing import Any

import pytest

from outlay.actions.export import export_payout
from outlay.actions.resolve import resolve
from outlay.core.errors import InvalidInput, NotFound, NotPermitted, PreconditionFailed
from outlay.core.transfer import MISMATCH
from outlay.evidence.bundle import verify_evidence
from outlay.store import evidence, ledger, transfers, velocity
from tests.actions.documents import BLOCK, cap
from tests.actions.world import DOLLAR, USDC, Actor, World


def mismatched(world: World, bot: Actor, dollars: int = 20) -> str:
    paid = str(world.pay(bot, world.wallet(), dollars)["id"])
    world.leave(paid)
    world.mine(paid)
    assert world.settle(paid, "mismatch") == "mined"
    return paid


def called(world: World, by: Actor, paid: str, outcome: str, reason: str = "the token takes a fee") -> Any:
    return world.call(
        by,
        "POST",
        f"/v1/payouts/{paid}/resolve",
        {"outcome": outcome, "reason": reason},
        "Wallets:Unfreeze",
        lambda act: resolve(act, paid, outcome=outcome, reason=reason),
    )


@pytest.mark.parametrize(
    ("outcome", "state", "event", "told"),
    [
        ("paid", "confirmed", "accepted", "wallet.transfer.confirmed"),
        ("failed", "failed", "dismissed", "wallet.transfer.failed"),
    ],
)
def test_a_person_ends_it_and_nothing_else_moves(
    world: World, bot: Actor, outcome: str, state: str, event: str, told: str
) -> None:
    world.policy(cap(1000), BLOCK)
    paid = mismatched(world, bot)
    row = world.row(paid)
    with world.unit() as unit:
        before = velocity.find_entry(unit, paid)
        held = ledger.holdings(unit, wallet_id=row.wallet_id, asset=USDC)
    answer = called(world, world.admin, paid, outcome)

    assert (answer["state"], answer["flag"]) == (state, MISMATCH)
    assert answer["reason"] == f"half is missing Called {outcome} by admin: the token takes a fee"
    with world.unit() as unit:
        after = ledger.holdings(unit, wallet_id=row.wallet_id, asset=USDC)
        assert (held.reserved, after.reserved) == (10 * DOLLAR, 0)
        assert after.total == held.total, "nothing leaves; what did not leave is spendable again"
        ledger.check(unit)
        assert velocity.find_entry(unit, paid) == before, "what left stays in its windows"
        step = transfers.transitions(unit, paid)[-1]
        (kept,) = evidence.of(unit, f"{paid}/resolved")
        assert len(evidence.of(unit, paid)) == 1, "the request is still the only thing kept for the payout itself"
    assert step.event == event
    assert (step.detail["by"], step.detail["outcome"]) == (world.admin.user_id, outcome)
    assert verify_evidence(kept).path == f"/v1/payouts/{paid}/resolve"
    assert kept["payload"] == {"outcome": outcome, "reason": "the token takes a fee"}
    assert world.events(paid)[-2:] == ["payout.effect_mismatch", told]
    assert (answer.get("dateConfirmed") is not None) == (outcome == "paid")


def test_the_proof_of_the_payout_stays_as_it_was(world: World, bot: Actor) -> None:
    paid = mismatched(world, bot)
    with world.unit() as unit:
        before = export_payout(unit, paid)
    called(world, world.admin, paid, "paid")
    with world.unit() as unit:
        assert export_payout(unit, paid) == before


def test_it_is_resolved_once_and_only_if_it_is_one_of_those(world: World, bot: Actor) -> None:
    paid = mismatched(world, bot)
    open_one = str(world.pay(bot, world.wallet(), 0, units=5, native=True)["id"])
    world.leave(open_one)
    world.mine(open_one)
    with pytest.raises(PreconditionFailed):
        called(world, world.admin, open_one, "paid")
    with pytest.raises(NotFound):
        called(world, world.admin, "xfr-00000-00000-0000000000000000", "paid")
    with pytest.raises(InvalidInput):
        called(world, world.admin, paid, "maybe")
    with pytest.raises(InvalidInput):
        called(world, world.admin, paid, "paid", reason=" ")
    with pytest.raises(NotPermitted):
        called(world, world.person("nobody@example.com", permitted=False), paid, "paid")
    assert (world.row(paid).state, world.row(open_one).state) == ("mined", "mined")
    called(world, world.admin, paid, "failed")
    with pytest.raises(PreconditionFailed):
        called(world, world.admin, paid, "paid")
    assert world.row(paid).state == "failed"


def test_what_another_effect_paid_is_no_item_of_the_wallets_history(world: World, bot: Actor) -> None:
    paid = mismatched(world, bot)
    called(world, world.admin, paid, "paid")
    wallet_id = world.row(paid).wallet_id
    other = world.wallet()
    exact = str(world.pay(bot, other, 0, units=5, native=True)["id"])
    world.leave(exact)
    world.mine(exact)
    assert world.settle(exact) == "confirmed"
    with world.unit() as unit:
        page: dict[str, Any] = {"kind": None, "asset": None, "limit": None, "token": None}
        assert transfers.confirmed_page(unit, wallet_id, **page) == ([], None)
        assert [row.id for row in transfers.confirmed_page(unit, other, **page)[0]] == [exact]
