"""Payouts of a file after a loss: they come back from the signer's journal with their rows and the one decision."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from outlay.actions import submissions as actions
from outlay.actions.payouts import cancel
from outlay.store import approvals
from tests.actions.documents import ask, group, over
from tests.actions.world import DOLLAR, Actor
from tests.batches import filed
from tests.batches.filed import file_in, payouts, rows_of
from tests.recovery.drill import FINAL_AFTER, Drill
from tests.recovery.test_messages import bodies, state
from tests.recovery.test_restore import LOSSES, check_paid_once, recipient


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("as_message", [False, True])
def test_rows_of_a_file_come_back_and_are_found_again(tmp_path: Path, loss: str, as_message: bool) -> None:
    drill = Drill(tmp_path)
    lose: Callable[[Drill], None] = LOSSES[loss]
    try:
        bot, one = drill.service_account("payouts bot"), drill.person("one@example.com")
        drill.policy(over(2), {**ask(group(one)), "per": "batch"})
        wallet = drill.wallet("hot")
        drill.run_rounds(6)
        drill.copy()
        rows = rows_of(1, 2, 3)
        batch_id = file_in(drill, bot, wallet, rows, as_message=as_message)
        filed.decide(drill, one, batch_id, reason="salaries")
        filed.settle(drill)
        paid = payouts(drill, batch_id)
        before = {each: bodies(drill, each) for each in paid}
        drill.run_until(lambda: all(state(drill, each) == "confirmed" for each in paid))
        lose(drill)
        drill.recover()
        drill.admin = drill.log_in(drill.admin)
        bot = replace(bot, claims=drill.tokens.get(bot.user_id, bot.claims))
        assert {each: bodies(drill, each) for each in paid} == before
        approval_id = drill.approval(paid[2]).id
        with drill.unit() as unit:
            decisions = approvals.decisions(unit, approval_id)
        assert [(each.user_id, each.reason) for each in decisions] == [(one.user_id, "salaries")]
        # The file is not known any more; its rows are the same payouts for ever.
        again = file_in(drill, bot, wallet, rows, as_message=as_message)
        assert payouts(drill, again) == paid
        drill.run_until(lambda: all(state(drill, each) == "confirmed" for each in paid))
        check_paid_once(drill)
    finally:
        drill.close()


def test_an_older_copy_asks_for_no_more_of_a_file_until_it_is_submitted_again(tmp_path: Path) -> None:
    drill = Drill(tmp_path)
    try:
        bot, wallet = drill.service_account("payouts bot"), drill.wallet("hot")
        drill.run_rounds(6)
        rows = rows_of(1, 2, 3)
        made = filed.submit(drill, bot, filed.paper(rows, wallet))
        filed.upload(drill, bot, made["id"], rows)
        drill.copy()
        filed.settle(drill)
        paid = payouts(drill, made["id"])
        drill.run_until(lambda: all(state(drill, each) == "confirmed" for each in paid))
        drill.put_back()
        drill.recover()
        filed.settle(drill)
        row = filed.batch(drill, made["id"])
        assert (row.state, payouts(drill, made["id"])) == ("refused", [])
        assert "restored" in row.reason
        again = file_in(drill, bot, wallet, rows)
        assert (again != made["id"], payouts(drill, again)) == (True, paid)
        drill.run_until(lambda: all(state(drill, each) == "confirmed" for each in paid))
        check_paid_once(drill)
    finally:
        drill.close()


STAFF = "0x" + "2b" * 20


@pytest.fixture
def drill(tmp_path: Path) -> Iterator[Drill]:
    opened = Drill(tmp_path)
    yield opened
    opened.close()


def salaries() -> list[filed.Document]:
    return [filed.cells(5, name=f"row-{at}", recipient=STAFF) for at in range(4)]


def submit_half(drill: Drill, bot: Actor, wallet: str) -> str:
    """Submit a file of four rows of which two are admitted."""
    made = filed.submit(drill, bot, filed.paper(salaries(), wallet))
    filed.upload(drill, bot, made["id"], salaries())
    asyncio.run(filed.step_of(drill).step())
    assert filed.batch(drill, made["id"]).admitted == 2
    return str(made["id"])


def take_back(drill: Drill, bot: Actor, payout_id: str) -> None:
    path = f"/v1/payouts/{payout_id}/cancel"
    drill.call(bot, "POST", path, {}, "Wallets:Transfers:Abort", lambda act: cancel(act, payout_id))


def go_back(drill: Drill, bot: Actor) -> None:
    """Pay somebody else, so that the copy is known to be older, and put it back."""
    drill.pay(bot, drill.paying, 5, to=recipient("later"), external_id="later")
    drill.run_rounds(4 * FINAL_AFTER)
    drill.put_back()
    drill.recover()
    filed.settle(drill)
    drill.run_rounds(8 * FINAL_AFTER)


def test_a_file_that_was_canceled_after_the_copy_does_not_go_on_by_itself(
    drill: Drill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outlay.engine.admit_batches.GROUP", 2)
    bot, wallet = drill.service_account("payouts bot"), drill.wallet(dollars=1000)
    drill.run_rounds(2 * FINAL_AFTER)
    batch_id = submit_half(drill, bot, wallet)
    drill.copy()
    path = f"/v1/batches/{batch_id}/cancel"
    drill.call(bot, "POST", path, {}, "Wallets:Transfers:Abort", lambda act: actions.cancel(act, batch_id))
    drill.run_rounds(4 * FINAL_AFTER)
    paid = drill.received(STAFF)
    go_back(drill, bot)
    row = filed.batch(drill, batch_id)
    assert (drill.received(STAFF), row.state, row.admitted) == (paid, "refused", 2)
    # What became of the rows that were looked at stays known.
    assert filed.states(drill, batch_id) == ["confirmed", "confirmed"]
    # Whoever wants it still asks for it again; nobody is paid twice.
    file_in(drill, bot, wallet, salaries())
    drill.run_rounds(8 * FINAL_AFTER)
    assert drill.received(STAFF) == 20 * DOLLAR
    check_paid_once(drill)


def test_rows_that_were_taken_back_after_the_copy_are_not_asked_for(drill: Drill) -> None:
    bot, wallet = drill.service_account("payouts bot"), drill.wallet(dollars=1000)
    drill.run_rounds(2 * FINAL_AFTER)
    made = filed.submit(drill, bot, filed.paper(salaries(), wallet))
    half = filed.submit(drill, bot, filed.paper(rows_of(7, 8), wallet, name="half"))
    filed.upload(drill, bot, made["id"], salaries())
    drill.copy()
    filed.settle(drill)
    for each in payouts(drill, made["id"]):
        take_back(drill, bot, each)
    go_back(drill, bot)
    assert drill.received(STAFF) == 0
    assert [filed.batch(drill, each["id"]).state for each in (made, half)] == ["refused", "refused"]


def test_a_file_whose_payouts_wait_in_an_older_copy_can_be_asked_for_again(drill: Drill) -> None:
    bot, wallet = drill.service_account("payouts bot"), drill.wallet(dollars=1000)
    drill.run_rounds(2 * FINAL_AFTER)
    made = file_in(drill, bot, wallet, salaries())
    with drill.unit() as unit:
        unit.execute(sa.text("UPDATE wallet SET frozen_reason = 'looked at' WHERE id = :id"), {"id": wallet})
    drill.copy()
    go_back(drill, bot)
    assert filed.states(drill, made) == ["ready"] * 4
    with drill.unit() as unit:
        unit.execute(sa.text("UPDATE wallet SET frozen_reason = NULL WHERE id = :id"), {"id": wallet})
    drill.run_rounds(8 * FINAL_AFTER)
    assert drill.received(STAFF) == 0  # it may have been withdrawn
    again = file_in(drill, bot, wallet, salaries())
    assert (again != made, payouts(drill, again)) == (True, payouts(drill, made))
    drill.run_rounds(8 * FINAL_AFTER)
    assert drill.received(STAFF) == 20 * DOLLAR
    assert filed.submit(drill, bot, filed.paper(salaries(), wallet))["id"] == again
    check_paid_once(drill)
