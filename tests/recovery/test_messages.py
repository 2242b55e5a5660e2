"""Payouts asked for with signed HTTP messages after a loss: they come back from the signer's journal, row by row."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from outlay.store import transfers
from tests.actions.messages import item, pay, pay_batch
from tests.recovery.drill import Drill
from tests.recovery.test_restore import LOSSES, check_paid_once


@pytest.mark.parametrize("loss", LOSSES)
def test_messages_and_rows_come_back_and_are_found_again(tmp_path: Path, loss: str) -> None:
    drill = Drill(tmp_path)
    lose: Callable[[Drill], None] = LOSSES[loss]
    try:
        bot = drill.service_account("payouts bot")
        wallet = drill.wallet("hot")
        drill.run_rounds(6)
        drill.copy()
        single = item(wallet, 1, external_id="single", asset="USDC", memo="one")
        rows = [item(wallet, number, external_id=f"row-{number}", priority="Fast") for number in (2, 3)]
        paid = [pay(drill, bot, single)["id"]]
        paid += [each["payout"]["id"] for each in pay_batch(drill, bot, rows)["items"]]
        before = {each: bodies(drill, each) for each in paid}
        drill.run_until(lambda: all(state(drill, each) == "confirmed" for each in paid))
        lose(drill)
        drill.recover()
        drill.admin = drill.log_in(drill.admin)
        bot = replace(bot, claims=drill.tokens.get(bot.user_id, bot.claims))
        assert {each: bodies(drill, each) for each in paid} == before
        assert pay(drill, bot, single)["id"] == paid[0]
        assert [each["payout"]["id"] for each in pay_batch(drill, bot, rows)["items"]] == paid[1:]
        drill.run_until(lambda: all(state(drill, each) == "confirmed" for each in paid))
        check_paid_once(drill)
    finally:
        drill.close()


def state(drill: Drill, transfer_id: str) -> str:
    with drill.unit() as unit:
        return str(transfers.get(unit, transfer_id).state)


def bodies(drill: Drill, transfer_id: str) -> tuple[object, object]:
    with drill.unit() as unit:
        row = transfers.get(unit, transfer_id)
        return row.request_body, row.intent
