"""Pools after a loss: a payout comes back with its pool, and with the wallet that signed it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from outlay.store import transfers, velocity, wallets
from outlay.store.database import Row
from tests.actions.documents import BLOCK, cap
from tests.recovery.drill import Drill, run
from tests.recovery.test_restore import LOSSES, check_paid_once, recipient

TAG = "hot"
LIMIT = 100


@pytest.mark.parametrize("loss", LOSSES)
def test_a_payout_stays_with_the_wallet_that_signed_it(tmp_path: Path, loss: str) -> None:
    """In the copy it waits in the lane of another one."""
    drill = Drill(tmp_path)
    lose: Callable[[Drill], None] = LOSSES[loss]
    try:
        bot = drill.service_account("payouts bot")
        first, second = sorted(drill.wallet(TAG) for _ in range(2))
        pool = drill.pool(TAG)
        drill.policy(cap(LIMIT, scope="wallet"), BLOCK, tags=[TAG])
        drill.run_rounds(6)
        paid = [str(drill.pay_pool(bot, pool, 40, external_id=f"pooled-{number}")["id"]) for number in range(2)]
        run(drill.router.step())
        assert {row(drill, each).wallet_id for each in paid} == {first, second}
        drill.copy()
        with drill.unit() as unit:
            wallets.freeze(unit, first, "looked odd")
        drill.run_until(lambda: all(row(drill, each).state == "confirmed" for each in paid))
        assert {row(drill, each).wallet_id for each in paid} == {second}
        lose(drill)
        drill.recover()
        drill.admin = drill.log_in(drill.admin)
        bot = replace(bot, claims=drill.tokens.get(bot.user_id, bot.claims))
        for number, each in enumerate(paid):
            found = row(drill, each)
            assert (found.pool_id, found.wallet_id, found.route) == (pool, second, "lane")
            again = drill.pay_pool(bot, pool, 40, external_id=f"pooled-{number}")
            assert again["id"] == each
        with drill.unit() as unit:
            assert {velocity.find_entry(unit, each).wallet_id for each in paid} == {second}  # type: ignore[union-attr]
        with drill.unit() as unit:
            wallets.update(unit, first, frozen_reason=None)
        drill.run_until(lambda: all(row(drill, each).state == "confirmed" for each in paid))
        full = drill.pay(bot, second, 40, to="0x" + "7" * 40, external_id="full")
        assert row(drill, full["id"]).state == "rejected", "its limit is taken up"
        del drill.paid["full"]
        drill.pay(bot, first, 40, to=recipient("free"), external_id="free")
        drill.run_until(drill.all_confirmed)
        check_paid_once(drill)
    finally:
        drill.close()


def row(drill: Drill, transfer_id: str) -> Row:
    with drill.unit() as unit:
        return transfers.get(unit, transfer_id)
