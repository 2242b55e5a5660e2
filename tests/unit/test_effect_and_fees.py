"""What a final transaction did, and what one attempt may offer for gas."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay.core.effect import Effect, Movement, native_effect, token_effect
from outlay.core.fees import BUMP_DENOMINATOR, BUMP_NUMERATOR, ceiling_per_gas, first_offer

TOKEN, OTHER_TOKEN = "0x" + "11" * 20, "0x" + "22" * 20
WALLET, PAYEE, THIRD = "0x" + "aa" * 20, "0x" + "bb" * 20, "0x" + "cc" * 20


def moved(amount: int = 100, *, contract: str = TOKEN, sender: str = WALLET, recipient: str = PAYEE) -> Movement:
    return Movement(contract=contract, sender=sender, recipient=recipient, amount=amount)


def judge(*movements: Movement, status: int = 1) -> Effect:
    return token_effect(movements, status=status, contract=TOKEN, wallet=WALLET, recipient=PAYEE, amount=100)


# --- effect ------------------------------------------------------------------------------------------------------


def test_a_coin_payment_did_what_its_status_says() -> None:
    assert native_effect(status=1, amount=7) == Effect(kind="exact", outflow=7)
    assert native_effect(status=0, amount=7) == Effect(kind="nothing", outflow=0)


def test_exactly_the_movement_that_was_asked_for_is_exact() -> None:
    assert judge(moved()) == Effect(kind="exact", outflow=100)


def test_a_reverted_token_payment_did_nothing_whatever_its_logs_say() -> None:
    assert judge(status=0) == judge(moved(), status=0) == Effect(kind="nothing", outflow=0)


def test_what_others_moved_in_the_same_transaction_does_not_matter() -> None:
    beside = [
        moved(5, contract=OTHER_TOKEN),
        moved(5, sender=THIRD),
        moved(5, sender=PAYEE, recipient=WALLET),
    ]
    assert judge(*beside[:2], moved(), beside[2]) == Effect(kind="exact", outflow=100)


def test_amounts_that_a_float_takes_for_equal_are_not() -> None:
    told = [moved(2**60)]
    effect = token_effect(told, status=1, contract=TOKEN, wallet=WALLET, recipient=PAYEE, amount=2**60 + 1)
    assert (effect.kind, effect.outflow) == ("mismatch", 2**60)


@pytest.mark.parametrize(
    ("movements", "outflow"),
    [
        ([], 0),  # success without a log: a token that lies, or an address without code
        ([moved(99)], 99),
        ([moved(101)], 101),
        ([moved(recipient=THIRD)], 100),
        ([moved(95), moved(5, recipient=THIRD)], 100),  # a fee taken on the way
        ([moved(), moved(3, recipient=THIRD)], 103),  # a fee on top
        ([moved(), moved()], 200),  # paid twice
        ([moved(50), moved(50)], 100),
        ([moved(), moved(0, recipient=THIRD)], 100),
        ([moved(contract=OTHER_TOKEN)], 0),
        ([moved(sender=THIRD)], 0),
    ],
)
def test_anything_else_is_a_mismatch_and_the_true_outflow_is_told(movements: list[Movement], outflow: int) -> None:
    effect = judge(*movements)
    assert (effect.kind, effect.outflow) == ("mismatch", outflow)
    assert "asked: 100 to " + PAYEE in effect.why


@given(st.lists(st.builds(moved, st.integers(0, 200), recipient=st.sampled_from([PAYEE, THIRD])), max_size=4))
def test_exact_means_that_the_payee_got_the_amount_and_nobody_anything_else(movements: list[Movement]) -> None:
    effect = judge(*movements)
    assert effect.outflow == sum(each.amount for each in movements)
    if effect.kind == "exact":
        assert movements == [moved()]


# --- fees --------------------------------------------------------------------------------------------------------

gas = st.integers(21_000, 30_000_000)
wei = st.integers(0, 10**11)


@given(fee_cap=st.integers(1, 10**20), gas_limit=gas)
def test_two_bumps_above_the_ceiling_stay_within_the_cap(fee_cap: int, gas_limit: int) -> None:
    """So a void can outbid the last attempt and still cost no more than what was set aside."""
    price = ceiling_per_gas(fee_cap=fee_cap, gas_limit=gas_limit)
    for _ in range(2):
        price = price * BUMP_NUMERATOR // BUMP_DENOMINATOR
    assert price * gas_limit <= fee_cap


@given(base_fee=wei, tip=wei, gas_limit=gas, fee_cap=st.integers(1, 10**20))
def test_an_offer_never_costs_more_than_the_cap(base_fee: int, tip: int, gas_limit: int, fee_cap: int) -> None:
    offer = first_offer(base_fee=base_fee, tip=tip, gas_limit=gas_limit, fee_cap=fee_cap)
    ceiling = ceiling_per_gas(fee_cap=fee_cap, gas_limit=gas_limit)
    assert (offer is None) == (base_fee + tip > ceiling or ceiling == 0)
    if offer is None:
        return
    assert offer.max_fee_per_gas * offer.gas_limit <= fee_cap
    assert base_fee + tip <= offer.max_fee_per_gas <= max(1, 2 * base_fee + tip), "it can be mined now"
    # Nodes refuse an offer of nothing at all: a chain that asks nothing is offered one wei.
    assert offer.max_priority_fee_per_gas == (tip if base_fee else max(1, tip)) <= offer.max_fee_per_gas
    assert offer.gas_limit == gas_limit


def test_there_is_no_offer_while_the_network_asks_more_than_the_cap_allows() -> None:
    cap = 81 * 21_000  # a ceiling of 64 wei
    assert ceiling_per_gas(fee_cap=cap, gas_limit=21_000) == 64
    at_the_limit = first_offer(base_fee=60, tip=4, gas_limit=21_000, fee_cap=cap)
    assert at_the_limit is not None and at_the_limit.max_fee_per_gas == 64
    assert first_offer(base_fee=60, tip=5, gas_limit=21_000, fee_cap=cap) is None
    assert first_offer(base_fee=65, tip=0, gas_limit=21_000, fee_cap=cap) is None


def test_with_room_an_offer_covers_twice_the_base_fee() -> None:
    offer = first_offer(base_fee=10, tip=3, gas_limit=21_000, fee_cap=10**9)
    assert offer is not None and offer.max_fee_per_gas == 23


def test_a_chain_that_asks_nothing_is_offered_one_wei() -> None:
    """Nodes refuse a transaction that offers nothing at all."""
    offer = first_offer(base_fee=0, tip=0, gas_limit=21_000, fee_cap=10**9)
    assert offer is not None and offer.max_fee_per_gas == 1
    assert first_offer(base_fee=0, tip=0, gas_limit=21_000, fee_cap=1) is None
