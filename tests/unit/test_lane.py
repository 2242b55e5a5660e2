"""What is done with a transaction that is not mined: its nonce stays, its fees rise within the cap, or it is voided."""

from hypothesis import given
from hypothesis import strategies as st

from outlay.core.fees import VOID_GAS, Fees, Offer, ceiling_per_gas, next_offer, void_offer
from outlay.core.lane import Pace, Slot, find_gap, is_due, replacement
from outlay.core.seams import SECOND

PACE = Pace(bump_after_s=36, bump_every_s=24, void_after_s=600)
GAS = 60_000
CAP = 81 * GAS * 1000
"""A ceiling of 64,000 wei per gas."""


def fees(base_fee: int = 100, tip: int = 10) -> Fees:
    return Fees(block_number=9, base_fee=base_fee, tip_slow=tip, tip_standard=tip, tip_fast=tip)


def offer(fee: int = 210, tip: int = 10, gas: int = GAS) -> Offer:
    return Offer(gas_limit=gas, max_fee_per_gas=fee, max_priority_fee_per_gas=tip)


def slot(*offers: Offer, voided: bool = False, to_void: bool = False, is_head: bool = True, cap: int = CAP) -> Slot:
    return Slot(offers=offers or (offer(),), voided=voided, to_void=to_void, sent_at=0, is_head=is_head, fee_cap=cap)


def test_the_first_raise_waits_longer_than_the_next_ones() -> None:
    assert not is_due(slot(), now=36 * SECOND - 1, pace=PACE)
    assert is_due(slot(), now=36 * SECOND, pace=PACE)
    twice = slot(offer(), offer(300, 20))
    assert not is_due(twice, now=24 * SECOND - 1, pace=PACE)
    assert is_due(twice, now=24 * SECOND, pace=PACE)


def test_a_void_that_was_asked_for_is_due_at_once_and_only_until_it_is_made() -> None:
    assert is_due(slot(to_void=True), now=0, pace=PACE)
    assert not is_due(slot(offer(), offer(300, 20, VOID_GAS), to_void=True, voided=True), now=0, pace=PACE)


def at(standing: Slot, **market: int) -> tuple[str, int, int, int] | None:
    found = replacement(
        standing, fees=fees(**market), tip=market.get("tip", 10), data_fee=0, now=60 * SECOND, pace=PACE
    )
    if found is None:
        return None
    chosen = found.offer
    return (found.purpose, chosen.gas_limit, chosen.max_fee_per_gas, chosen.max_priority_fee_per_gas)


def test_both_fees_rise_by_an_eighth_and_to_the_market_of_now() -> None:
    assert at(slot(offer(800, 16))) == ("payout", GAS, 900, 18)
    assert at(slot(offer(800, 16)), base_fee=1000, tip=50) == ("payout", GAS, 2050, 50)


def test_what_stands_behind_others_and_can_be_mined_waits_for_them() -> None:
    assert at(slot(offer(110, 10), is_head=False)) is None
    assert at(slot(offer(109, 10), is_head=False)) is not None


def test_at_its_cap_the_head_waits_and_is_then_voided_above_every_attempt() -> None:
    ceiling = ceiling_per_gas(fee_cap=CAP, gas_limit=GAS)
    full = slot(offer(ceiling, 10))
    assert at(full) is None
    late = 600 * SECOND
    found = replacement(full, fees=fees(), tip=10, data_fee=0, now=late, pace=PACE)
    assert found is not None and found.purpose == "void" and "fee cap" in found.reason
    assert found.offer.gas_limit == VOID_GAS and found.offer.max_fee_per_gas >= ceiling * 9 // 8
    behind = slot(offer(ceiling, 10), is_head=False)
    assert replacement(behind, fees=fees(base_fee=10**6), tip=10, data_fee=0, now=late, pace=PACE) is None


def test_a_slot_that_was_voided_is_never_paid_by_again() -> None:
    voided = slot(offer(), offer(300, 20, VOID_GAS), voided=True, to_void=True)
    found = at(voided)
    assert found is not None and found[0] == "void"
    assert at(slot(offer(), to_void=True))[0] == "void"  # type: ignore[index]


def test_a_data_fee_leaves_less_for_the_gas() -> None:
    standing = slot(offer(800, 16), cap=81 * GAS * 15)  # a ceiling of 960
    assert at(standing) is not None
    assert replacement(standing, fees=fees(), tip=10, data_fee=81 * GAS, now=60 * SECOND, pace=PACE) is None


wei = st.integers(0, 10**12)


@given(
    before=st.lists(st.builds(offer, fee=st.integers(1, 10**12), tip=wei), max_size=5),
    base_fee=wei,
    tip=wei,
    ceiling=st.integers(0, 10**13),
)
def test_an_offer_replaces_every_earlier_one_or_there_is_none(
    before: list[Offer], base_fee: int, tip: int, ceiling: int
) -> None:
    found = next_offer(before, base_fee=base_fee, tip=tip, gas_limit=GAS, ceiling=ceiling)
    least = max((-(-each.max_fee_per_gas * 9 // 8) for each in before), default=1)
    if found is None:
        assert ceiling < max(least, *(-(-each.max_priority_fee_per_gas * 9 // 8) for each in before), 1) + 1
        return
    assert found.max_priority_fee_per_gas <= found.max_fee_per_gas <= ceiling
    for each in before:
        assert found.max_fee_per_gas * 8 >= each.max_fee_per_gas * 9
        assert found.max_priority_fee_per_gas * 8 >= each.max_priority_fee_per_gas * 9
        assert found.max_fee_per_gas > each.max_fee_per_gas
        assert found.max_priority_fee_per_gas > each.max_priority_fee_per_gas


@given(cap=st.integers(10**6, 10**18), gas=st.integers(21_000, 5_000_000), tip=st.integers(0, 10**6))
def test_a_void_always_fits_above_a_payout_at_its_ceiling(cap: int, gas: int, tip: int) -> None:
    ceiling = ceiling_per_gas(fee_cap=cap, gas_limit=gas)
    if ceiling < max(tip, 16):
        return
    last = Offer(gas_limit=gas, max_fee_per_gas=ceiling, max_priority_fee_per_gas=tip)
    found = void_offer([last], base_fee=0, tip=0, fee_cap=cap)
    assert found is not None and found.gas_limit * found.max_fee_per_gas <= cap


def test_a_legacy_price_is_raised_as_one() -> None:
    first = Offer(gas_limit=GAS, max_fee_per_gas=80, max_priority_fee_per_gas=80)
    found = next_offer([first], base_fee=0, tip=85, gas_limit=GAS, ceiling=1000)
    assert found is not None and found.max_fee_per_gas == found.max_priority_fee_per_gas == 90


def test_the_lowest_nonce_without_a_slot_is_the_gap() -> None:
    assert find_gap([5, 6, 8], first=5, end=9) == 7
    assert find_gap([6, 8], first=5, end=9) == 5
    assert find_gap([5, 6], first=5, end=7) is None
    assert find_gap([], first=5, end=5) is None
