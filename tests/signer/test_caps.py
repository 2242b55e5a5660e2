"""The signer's own caps: they hold at every instant, whatever is asked and however it is batched."""

import random
import secrets
from typing import Any

import pytest

from outlay.core.seams import SECOND
from outlay.settings import SignerCap
from outlay.signer import Signed, SignerRefused, Why
from outlay.signer.windows import Spend, Windows
from tests.actions.world import ALICE, BOB, DOLLAR, FEE_CAP, NETWORK, USDC
from tests.signer.bank import DAY_S, usdc_cap
from tests.signer.conftest import Found

LIMITS = ("per_payout", "per_recipient", "total", "count")


def spend(at: int, amount: int = 1, *, to: str = ALICE, **changes: Any) -> Spend:
    """Return a payment of USDC at a second."""
    members = {"network": NETWORK, "asset": USDC, "fee_cap": 7, **changes}
    return Spend(recipient=to, amount=amount, at=at * SECOND, **members)


def cap(window: int = 60, **limits: Any) -> SignerCap:
    """Return a cap on USDC."""
    return SignerCap(network=NETWORK, asset=USDC, window_s=window, **limits)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"per_payout": 4}, "one payout"),
        ({"per_recipient": 9}, "one recipient"),
        ({"total": 9}, "is 9 in 60 seconds"),
        ({"count": 1}, "1 transactions"),
    ],
)
def test_each_limit_may_be_reached_and_not_passed(limits: dict[str, int], said: str) -> None:
    windows = Windows([cap(**limits)])
    most = {"per_payout": 4, "per_recipient": 4, "total": 4, "count": 100}[next(iter(limits))]
    assert windows.refusal(spend(0, most)) is None
    windows.add(spend(0, most))
    why = windows.refusal(spend(1, most + 2))
    assert why is not None
    assert said in why
    assert (windows.refusal(spend(1, 4)) is None) == ("count" not in limits)


def test_sums_are_exact_where_a_float_is_not() -> None:
    large = 2**60
    for limits in ({"total": large}, {"per_recipient": large}):
        windows = Windows([cap(**limits)])
        windows.add(spend(0, large))
        assert windows.refusal(spend(1, 1)) is not None


def test_a_window_is_half_open() -> None:
    windows = Windows([cap(total=10)])
    windows.add(spend(0, 10))
    assert windows.refusal(spend(59)) is not None
    assert windows.refusal(Spend(**{**_members(spend(60)), "at": 60 * SECOND - 1})) is not None
    assert windows.refusal(spend(60, 10)) is None


def _members(each: Spend) -> dict[str, Any]:
    return {name: getattr(each, name) for name in ("network", "asset", "recipient", "amount", "fee_cap")}


def test_other_networks_and_assets_do_not_count() -> None:
    windows = Windows([cap(total=10)])
    for other in ({"network": "Base"}, {"asset": "native"}, {"asset": None}):
        assert windows.refusal(spend(0, 99, **other)) is None
        windows.add(spend(0, 99, **other))
    assert windows.refusal(spend(0, 10)) is None


def test_fees_count_by_their_caps_whatever_is_paid() -> None:
    windows = Windows([SignerCap(network=NETWORK, asset="fees", window_s=60, total=20, per_payout=7)])
    for asset in (USDC, None):
        assert windows.refusal(spend(0, 10**9, asset=asset)) is None
        windows.add(spend(0, 10**9, asset=asset))
    assert windows.refusal(spend(0, asset="native")) is not None
    assert Windows([SignerCap(network=NETWORK, asset="fees", per_payout=6)]).refusal(spend(0)) is not None


class Naive:
    """The same by hand: everything that was ever signed is looked at each time."""

    def __init__(self, caps: list[SignerCap]) -> None:
        self.caps, self.signed = caps, list[Spend]()

    def allows(self, new: Spend) -> bool:
        for each in self.caps:
            since = new.at - each.window_s * SECOND
            same = [s for s in (*self.signed, new) if s.network == each.network and since < s.at <= new.at]
            if new.network != each.network:
                continue
            if each.asset == "fees":
                amounts = [(s.recipient, s.fee_cap) for s in same]
                mine = new.fee_cap
            elif new.asset == each.asset:
                amounts = [(s.recipient, s.amount) for s in same if s.asset == each.asset]
                mine = new.amount
            else:
                continue
            to_one = sum(amount for to, amount in amounts if to == new.recipient)
            sums = (mine, to_one, sum(amount for _, amount in amounts), len(amounts))
            limits = (each.per_payout, each.per_recipient, each.total, each.count)
            if any(limit is not None and total > limit for total, limit in zip(sums, limits, strict=True)):
                return False
        return True


def test_caps_agree_with_a_naive_count_over_random_histories() -> None:
    seed = secrets.randbelow(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    refused = 0
    for _ in range(60):
        caps = [
            SignerCap(
                network=dice.choice([NETWORK, "Base"]),
                asset=dice.choice([USDC, "native", "fees"]),
                window_s=dice.choice([5, 30, 300]),
                **{name: dice.choice([None, dice.randrange(40)]) for name in LIMITS},
            )
            for _ in range(dice.randrange(1, 5))
        ]
        windows, naive, at = Windows(caps), Naive(caps), 0
        for _ in range(60):
            at += dice.choice([0, 0, 1, 4, 30])
            new = spend(
                at,
                dice.randrange(12),
                to=dice.choice([ALICE, BOB]),
                network=dice.choice([NETWORK, "Base"]),
                asset=dice.choice([USDC, "native", None]),
                fee_cap=dice.randrange(9),
            )
            said = windows.refusal(new)
            assert (said is None) == naive.allows(new), (seed, said, new, caps)
            refused += said is not None
            if said is None:
                windows.add(new)
                naive.signed.append(new)
    assert refused > 100


# --- with the journal ----------------------------------------------------------------------------------------------


def test_a_batch_does_not_slip_under_a_cap(found: Found) -> None:
    bank = found(caps=[usdc_cap(total=30 * DOLLAR)])
    bot = bank.world.service_account("payouts bot")
    wallets = [bank.wallet() for _ in range(5)]
    transfers = [bank.world.pay(bot, wallet, 10)["id"] for wallet in wallets]
    bank.push()
    answers = bank.core.sign([bank.request(each) for each in transfers])
    assert [isinstance(each, Signed) for each in answers] == [True, True, True, False, False]
    assert {each.why for each in answers if isinstance(each, SignerRefused)} == {Why.CAP}


def test_caps_hold_over_restarts_and_open_again_with_time(found: Found) -> None:
    bank = found(caps=[usdc_cap(total=10 * DOLLAR, count=2)])
    bot, wallet = bank.world.service_account("payouts bot"), bank.wallet()
    bank.sign(bank.world.pay(bot, wallet, 6)["id"])
    late = bank.world.pay(bot, wallet, 5)["id"]
    bank.refuse(late, Why.CAP, "signer's own limit")
    bank.restart()
    bank.refuse(late, Why.CAP, "signer's own limit")
    bank.sign(bank.world.pay(bot, wallet, 4)["id"])
    bank.refuse(bank.world.pay(bot, wallet, 1, to=BOB)["id"], Why.CAP)
    bank.world.clock.step(minutes=DAY_S / 60)
    bank.sign(late)


def test_bumps_and_voids_of_a_slot_count_once(found: Found) -> None:
    fees = SignerCap(network=NETWORK, asset="fees", total=FEE_CAP * 3)
    bank = found(caps=[usdc_cap(total=10 * DOLLAR, count=2), fees])
    bot, wallet = bank.world.service_account("payouts bot"), bank.wallet()
    for nonce in (0, 3):
        bank.sign(bank.world.pay(bot, wallet, 5)["id"], nonce=nonce)
    assert isinstance(bank.void(wallet, 3), Signed)
    assert isinstance(bank.void(wallet, 1), Signed)
    answer = bank.void(wallet, 2)
    assert isinstance(answer, SignerRefused)
    assert answer.why == Why.CAP
    assert isinstance(bank.void(wallet, 3, max_fee_per_gas=1200, max_priority_fee_per_gas=120), Signed)


def test_what_is_voided_counts_all_the_same(found: Found) -> None:
    """Which of the two is mined, the signer cannot know."""
    bank = found(caps=[usdc_cap(total=10 * DOLLAR)])
    bot, wallet = bank.world.service_account("payouts bot"), bank.wallet()
    bank.sign(bank.world.pay(bot, wallet, 10)["id"])
    assert isinstance(bank.void(wallet, 0), Signed)
    bank.refuse(bank.world.pay(bot, wallet, 1)["id"], Why.CAP, nonce=1)
