"""Whoever owns the server asks the signer for runs of recurring payouts that nobody allowed."""

from typing import Any

import pytest

from outlay.actions import admit
from outlay.core.recurring import GOOD_FOR
from outlay.core.seams import DAY, HOUR, MINUTE
from outlay.evidence.mandated import mandate_call
from outlay.signer import Demand, Scope, Why
from tests import mandated, recurrences
from tests.actions.documents import ALWAYS, BLOCK, ask, group
from tests.actions.world import ALICE, DOLLAR, NETWORK, Actor
from tests.mandated import REFILLS, between
from tests.mandated import document as refilling
from tests.recurrences import LANDLORD, document
from tests.signer.bank import Bank, bumped, paid
from tests.signer.test_lost_journal import NEW, reseed

NOBODY = "sc-aaaaa-aaaaa-aaaaaaaaaaaaaaaa"


def make(bank: Bank, wallet: str, **changes: Any) -> str:
    """Create a mandate on the 1st of March 2027, a Monday; its runs are each day at nine in Berlin."""
    recurrences.at(bank.world, "2027-03-01 08:00")
    return recurrences.create(bank.world, document(wallet, **{"from": "2027-03-01", **changes}))


def run(bank: Bank, mandate_id: str, date: str = "2027-03-01") -> str:
    """Let the server ask for the run of a date when it is due, and return its transfer."""
    recurrences.at(bank.world, f"{date} 09:00")
    recurrences.follow(bank.world)
    return str(recurrences.payouts(bank.world, mandate_id)[-1].id)


def edited(bank: Bank, transfer_id: str, **changes: Any) -> Demand:
    """Return the demand of a run with members of its intent changed."""
    row = bank.world.row(transfer_id)
    return Demand(payout=mandate_call(row.mandate_id, {**row.intent, **changes}), asked=[], decisions=[])


def dated(bank: Bank, transfer_id: str, date: str) -> Demand:
    """Return the demand of the same run for another date."""
    row = bank.world.row(transfer_id)
    return edited(bank, transfer_id, externalId=f"recurring/{row.mandate_id}/{date.replace('-', '')}")


def test_a_run_is_signed_once_and_bumped(bank: Bank, wallet: str) -> None:
    transfer = run(bank, make(bank, wallet))
    request = bank.request(transfer)
    answer = bank.sign(transfer)
    assert paid(answer) == (LANDLORD, 7 * DOLLAR)
    assert bank.core.sign([request]) == [answer]
    (raised,) = bank.core.sign([bumped(request)])
    assert paid(raised) == (LANDLORD, 7 * DOLLAR)


@pytest.mark.parametrize(
    "changes",
    [
        {"recipient": ALICE},
        {"amount": str(8 * DOLLAR)},
        {"amount": str(6 * DOLLAR)},
        {"amount": "07000000"},
        {"amount": 7 * DOLLAR},
        {"asset": "native"},
        {"network": "Ethereum"},
        {"chainId": 1},
        {"memo": "for something else"},
        {"initiator": "us-aaaaa-aaaaa-aaaaaaaaaaaaaaaa"},
        {"org": "or-aaaaa-aaaaa-aaaaaaaaaaaaaaaa"},
        {"priority": "Fast"},
        {"more": 1},
        {"externalId": None},
        {"externalId": "invoice-1"},
        {"externalId": f"recurring/{NOBODY}/20270301"},
        {"externalId": "refill/md-aaaaa-aaaaa-aaaaaaaaaaaaaaaa/1"},
    ],
)
def test_every_member_of_the_intent_follows_from_the_mandate(bank: Bank, wallet: str, changes: dict[str, Any]) -> None:
    transfer = run(bank, make(bank, wallet))
    bank.refuse(transfer, Why.EVIDENCE, demand=edited(bank, transfer, **changes))
    bank.sign(transfer)


def test_another_wallet_does_not_pay(bank: Bank, wallet: str) -> None:
    other, transfer = bank.wallet(), run(bank, make(bank, wallet))
    bank.refuse(transfer, Why.EVIDENCE, "another wallet", wallet_id=other)
    demand = edited(bank, transfer, wallet=other)
    bank.refuse(transfer, Why.EVIDENCE, "not what the mandate says", demand=demand, wallet_id=other)
    pooled = {**bank.world.row(transfer).intent, "pool": "pool-aaaaa-aaaaa-aaaaaaaaaaaaaaaa"}
    del pooled["wallet"]
    payout = mandate_call(bank.world.row(transfer).mandate_id, pooled)
    bank.refuse(transfer, Why.EVIDENCE, demand=Demand(payout=payout, asked=[], decisions=[]))
    bank.sign(transfer)


def test_a_date_is_paid_once_whatever_the_tables_say(bank: Bank, wallet: str) -> None:
    made = make(bank, wallet)
    first, second = run(bank, made), run(bank, made, "2027-03-02")
    bank.sign(first)
    bank.edit_row(first, state="failed", signed_at=None)
    bank.refuse(second, Why.CONFLICT, "was signed for transfer", demand=dated(bank, second, "2027-03-01"))
    bank.restart()
    bank.refuse(second, Why.CONFLICT, "was signed for transfer", demand=dated(bank, second, "2027-03-01"))
    bank.sign(second)


@pytest.mark.parametrize(
    ("changes", "date", "has"),
    [
        ({"calendar": {"every": "week", "days": ["Monday"], "at": "09:00"}}, "2027-03-02", "2027-03-01"),
        ({"calendar": {"every": "day", "at": "09:00", "leaveOut": ["2027-03-02"]}}, "2027-03-02", "2027-03-01"),
        ({"calendar": {"every": "month", "day": 2, "at": "09:00"}}, "2027-03-01", "2027-03-02"),
        ({"from": "2027-03-02"}, "2027-03-01", "2027-03-02"),
        ({"until": "2027-03-01"}, "2027-03-02", "2027-03-01"),
        ({"runsMax": 1}, "2027-03-02", "2027-03-01"),
    ],
    ids=["weekday", "left out", "month", "from", "until", "runsMax"],
)
def test_a_date_that_the_mandate_has_not_is_not_paid(
    bank: Bank, wallet: str, changes: dict[str, Any], date: str, has: str
) -> None:
    made = make(bank, wallet, **changes)
    other = make(bank, wallet)
    transfer = run(bank, other, "2027-03-02")
    document = bank.world.row(transfer).intent

    def of(date: str) -> Demand:
        named = {**document, "initiator": made, "externalId": f"recurring/{made}/{date.replace('-', '')}"}
        return Demand(payout=mandate_call(made, named), asked=[], decisions=[])

    bank.refuse(transfer, Why.EVIDENCE, f"has no run of {date}", demand=of(date))
    bank.sign(transfer, demand=of(has))


@pytest.mark.parametrize("date", ["2027-02-30", "2027-13-01", "0000-01-01"])
def test_what_is_no_date_is_not_paid(bank: Bank, wallet: str, date: str) -> None:
    transfer = run(bank, make(bank, wallet))
    bank.refuse(transfer, Why.EVIDENCE, "not named as a run", demand=dated(bank, transfer, date))


def test_nothing_is_paid_long_before_it_is_due_nor_long_after(bank: Bank, wallet: str) -> None:
    """The signer knows no time zones: it is exact to a day, and the server's clock is its own."""
    made = make(bank, wallet)
    transfer = run(bank, made)
    bank.refuse(transfer, Why.EVIDENCE, "not due yet", demand=dated(bank, transfer, "2027-03-03"))
    noon = recurrences.instant("2027-03-01 09:00", "UTC")
    recurrences.go_to(bank.world, noon + 26 * HOUR + 120 * MINUTE + GOOD_FOR + 1)
    bank.refuse(transfer, Why.EVIDENCE, "too old")
    recurrences.go_to(bank.world, noon + 26 * HOUR + 120 * MINUTE + GOOD_FOR)
    bank.restart()
    bank.sign(transfer)


def test_a_date_from_before_people_allowed_it_is_not_paid(bank: Bank, wallet: str) -> None:
    """Of a day before, as far as the signer can tell: the time of day has passed in every time zone."""
    recurrences.at(bank.world, "2027-03-08 08:00")
    made = recurrences.create(bank.world, document(wallet, **{"from": "2027-03-01"}))
    transfer = run(bank, made, "2027-03-08")
    for day in range(1, 8):
        demand = dated(bank, transfer, f"2027-03-0{day}")
        bank.refuse(transfer, Why.EVIDENCE, "before the mandate was on record", demand=demand)
    bank.sign(transfer)


@pytest.mark.parametrize(("minute", "is_paid"), [("59", True), ("00", False)])
def test_how_exactly_the_signer_tells_what_was_before(bank: Bank, wallet: str, minute: str, is_paid: bool) -> None:
    """Twelve hours west of Greenwich it is nine o'clock twelve hours later, and nowhere is it later."""
    recurrences.at(bank.world, f"2027-03-08 {'20' if is_paid else '21'}:{minute}", "UTC")
    made = recurrences.create(bank.world, document(wallet, **{"from": "2027-03-01"}))
    transfer = run(bank, made, "2027-03-09")
    demand = dated(bank, transfer, "2027-03-08")
    if is_paid:
        bank.sign(transfer, demand=demand)
    else:
        bank.refuse(transfer, Why.EVIDENCE, "before the mandate was on record", demand=demand)


def test_an_archived_mandate_pays_nothing(bank: Bank, wallet: str) -> None:
    made = make(bank, wallet)
    transfer = run(bank, made)
    recurrences.archive(bank.world, made)
    bank.refuse(transfer, Why.NOT_AGREED, "archived")


def test_a_mandate_that_nobody_signed_pays_nothing(bank: Bank, wallet: str) -> None:
    made = make(bank, wallet)
    transfer = run(bank, made)
    row = bank.world.row(transfer)
    forged = {**row.intent, "initiator": NOBODY, "externalId": f"recurring/{NOBODY}/20270301"}
    demand = Demand(payout=mandate_call(NOBODY, forged), asked=[], decisions=[])
    bank.refuse(transfer, Why.BEHIND, "no such mandate", demand=demand)
    bank.sql("UPDATE mandate SET document = replace(document, :old, :new)", old=LANDLORD, new=ALICE)
    later = run(bank, made, "2027-03-02")
    assert bank.world.row(later).recipient == ALICE
    bank.refuse(later, Why.EVIDENCE, "not what the mandate says")


def test_one_kind_of_mandate_does_not_pass_for_the_other(bank: Bank, wallet: str) -> None:
    """A refill is no run, and a mandate of refills pays no recurring payout."""
    hot = bank.wallet()
    transfer = run(bank, make(bank, wallet))
    filling = mandated.create(bank.world, refilling(**between(wallet, hot)))
    intent = bank.world.row(transfer).intent
    for changes in ({}, {"initiator": filling}, {"initiator": filling, "externalId": f"refill/{filling}/1"}):
        demand = Demand(payout=mandate_call(filling, {**intent, **changes}), asked=[], decisions=[])
        bank.refuse(transfer, Why.EVIDENCE, demand=demand)
    bank.sign(transfer)


def test_a_payout_that_a_policy_blocks_does_not_go_as_a_run(
    bank: Bank, bot: Actor, wallet: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(bank, wallet)
    with monkeypatch.context() as patch:
        patch.setattr(admit, "RUNS_PREFIX", "/")  # a server that lets callers use such ids
        taken = bank.world.pay(bot, wallet, 5, external_id=f"recurring/{made}/20270301")["id"]
    bank.push()
    intent = bank.world.row(taken).intent
    bank.refuse(taken, Why.EVIDENCE, demand=Demand(payout=mandate_call(made, intent), asked=[], decisions=[]))


def test_policies_of_payouts_judge_runs_and_those_of_refills_do_not(bank: Bank, wallet: str) -> None:
    person, made = bank.world.person("approver@example.com"), make(bank, wallet)
    bank.world.policy(ALWAYS, BLOCK, kind=REFILLS)
    transfer = run(bank, made)
    asked = bank.world.policy(ALWAYS, ask(group(person)))
    bank.refuse(transfer, Why.NOT_AGREED, "was not asked")
    bank.world.archive_policy(asked)
    blocked = bank.world.policy(ALWAYS, BLOCK, only=[wallet])
    bank.refuse(transfer, Why.NOT_AGREED, "blocks")
    bank.world.archive_policy(blocked)
    bank.sign(transfer)


def test_approvals_of_a_run_cover_its_date(bank: Bank, wallet: str) -> None:
    person, made = bank.world.person("approver@example.com"), make(bank, wallet)
    bank.world.policy(ALWAYS, ask(group(person)))
    first, second = run(bank, made), run(bank, made, "2027-03-02")
    bank.world.decide(person, first)
    demand = bank.demand(first)
    moved = Demand(payout=bank.demand(second).payout, asked=demand.asked, decisions=demand.decisions)
    bank.refuse(second, Why.EVIDENCE, "another payout", demand=moved)
    without = Demand(payout=demand.payout, asked=demand.asked, decisions=[])
    bank.refuse(first, Why.NOT_AGREED, "quorum", demand=without)
    bank.sign(first)


def test_a_wallet_outside_of_the_pool_does_not_pay(bank: Bank) -> None:
    hot, other = bank.wallet("payroll"), bank.wallet()
    pool = bank.world.pool("payroll")
    made = make(bank, "", walletId=None, poolId=pool)
    transfer = run(bank, made)
    bank.refuse(transfer, Why.NOT_AGREED, "not of the mandate's pool", wallet_id=other)
    bank.sql("UPDATE wallet_tag SET wallet_id = :other WHERE wallet_id = :hot", other=other, hot=hot)
    bank.refuse(transfer, Why.NOT_AGREED, "not of the mandate's pool", wallet_id=other)
    bank.sign(transfer, wallet_id=hot)


def test_an_archived_pool_pays_nothing(bank: Bank) -> None:
    bank.wallet("payroll")
    pool = bank.world.pool("payroll")
    transfer = run(bank, make(bank, "", walletId=None, poolId=pool))
    bank.world.archive_pool(pool)
    bank.refuse(transfer, Why.NOT_AGREED, "pool was archived")


def test_stops_hold_runs(bank: Bank, wallet: str) -> None:
    made = make(bank, wallet)
    transfer = run(bank, made)
    bank.push()
    bank.core.freeze(Scope.IDENTITY, made, "looked odd")
    bank.refuse(transfer, Why.FROZEN, made)


def test_what_a_lost_journal_may_have_held_is_not_signed_again(bank: Bank, wallet: str) -> None:
    made = make(bank, wallet)
    transfer = run(bank, made)
    bank.sign(transfer)
    bank.lose_journal(journal_id=NEW)
    reseed(bank, {wallet: 1})
    bank.edit_row(transfer, state="ready", signed_at=None)
    bank.refuse(transfer, Why.EVIDENCE, "the journal was lost", nonce=1)
    bank.world.clock.step(micros=DAY)
    following = run(bank, made, "2027-03-03")
    bank.sign(following, nonce=1)
    assert bank.world.row(following).network == NETWORK
