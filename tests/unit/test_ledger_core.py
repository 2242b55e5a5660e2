"""Shapes of ledger entries: whatever happens, each sums to zero and says where the money went."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay.core.errors import InvariantBroken
from outlay.core.ledger import Posting, check_balanced, inflow, reserve, settle, settle_mismatch

NETWORK, TOKEN = "EthereumSepolia", "0x" + "11" * 20
amounts = st.integers(0, 2**256 - 1)
assets = st.sampled_from(["native", TOKEN])


def net(lines: tuple[Posting, ...]) -> dict[tuple[str, str, str], int]:
    """Return what each (owner, asset, kind) gains."""
    sums: Counter[tuple[str, str, str]] = Counter()
    for line in lines:
        sums[line.owner, line.asset, line.kind] += line.amount if line.side == "debit" else -line.amount
    return {key: value for key, value in sums.items() if value}


def test_an_inflow_comes_from_outside() -> None:
    lines = inflow(wallet="wa-1", network=NETWORK, asset=TOKEN, amount=7)
    assert net(lines) == {("wa-1", TOKEN, "spendable"): 7, (NETWORK, TOKEN, "outside"): -7}
    assert {line.account_id for line in lines} == {f"wa-1/{TOKEN}/spendable", f"{NETWORK}/{TOKEN}/outside"}


def test_a_reservation_sets_amount_and_fee_cap_aside() -> None:
    assert net(reserve(wallet="wa-1", network=NETWORK, asset=TOKEN, amount=7, fee_cap=3)) == {
        ("wa-1", TOKEN, "spendable"): -7,
        ("wa-1", TOKEN, "reserved"): 7,
        ("wa-1", "native", "spendable"): -3,
        ("wa-1", "native", "reserved"): 3,
    }


def test_coins_are_set_aside_for_amount_and_fee_together() -> None:
    lines = reserve(wallet="wa-1", network=NETWORK, asset="native", amount=7, fee_cap=3)
    assert net(lines) == {("wa-1", "native", "spendable"): -10, ("wa-1", "native", "reserved"): 10}


def test_a_payment_posts_what_left_and_gives_the_rest_of_the_fee_back() -> None:
    lines = settle(wallet="wa-1", network=NETWORK, asset=TOKEN, reserved=7, paid=7, fee_cap=3, fee=2)
    assert net(lines) == {
        ("wa-1", TOKEN, "reserved"): -7,
        (NETWORK, TOKEN, "paid"): 7,
        ("wa-1", "native", "reserved"): -3,
        ("wa-1", "native", "spendable"): 1,
        (NETWORK, "native", "fees"): 2,
    }


def test_a_revert_gives_the_amount_back_and_costs_the_fee() -> None:
    lines = settle(wallet="wa-1", network=NETWORK, asset=TOKEN, reserved=7, paid=0, fee_cap=3, fee=3)
    assert net(lines) == {
        ("wa-1", TOKEN, "reserved"): -7,
        ("wa-1", TOKEN, "spendable"): 7,
        ("wa-1", "native", "reserved"): -3,
        (NETWORK, "native", "fees"): 3,
    }


def test_a_mismatch_posts_the_true_outflow_and_gives_nothing_of_the_asset_back() -> None:
    lines = settle_mismatch(wallet="wa-1", network=NETWORK, asset=TOKEN, paid=5, fee_cap=3, fee=1)
    gained = net(lines)
    assert gained["wa-1", TOKEN, "reserved"] == -5
    assert ("wa-1", TOKEN, "spendable") not in gained
    assert gained[NETWORK, TOKEN, "paid"] == 5


@pytest.mark.parametrize(("paid", "fee"), [(8, 0), (-1, 0), (7, 4), (7, -1)])
def test_more_than_was_set_aside_cannot_leave(paid: int, fee: int) -> None:
    with pytest.raises(InvariantBroken):
        settle(wallet="wa-1", network=NETWORK, asset=TOKEN, reserved=7, paid=paid, fee_cap=3, fee=fee)


def test_a_posting_is_never_negative() -> None:
    with pytest.raises(InvariantBroken):
        inflow(wallet="wa-1", network=NETWORK, asset=TOKEN, amount=-1)


@given(asset=assets, reserved=amounts, fee_cap=amounts, data=st.data())
def test_every_shape_balances_and_empties_what_was_set_aside(
    asset: str, reserved: int, fee_cap: int, data: st.DataObject
) -> None:
    paid, fee = data.draw(st.integers(0, reserved)), data.draw(st.integers(0, fee_cap))
    setting_aside = reserve(wallet="wa-1", network=NETWORK, asset=asset, amount=reserved, fee_cap=fee_cap)
    ending = settle(wallet="wa-1", network=NETWORK, asset=asset, reserved=reserved, paid=paid, fee_cap=fee_cap, fee=fee)
    for lines in (setting_aside, ending):
        check_balanced(lines)
    check_balanced(settle_mismatch(wallet="wa-1", network=NETWORK, asset=asset, paid=paid, fee_cap=fee_cap, fee=fee))
    left = net((*setting_aside, *ending))
    assert not any(kind == "reserved" for _, _, kind in left)
    assert -sum(value for (owner, _, _), value in left.items() if owner == "wa-1") == paid + fee


@given(asset=assets, amount=st.integers(1, 2**256 - 1), off=st.integers(1, 10))
def test_an_entry_whose_sides_differ_is_refused(asset: str, amount: int, off: int) -> None:
    one, other = inflow(wallet="wa-1", network=NETWORK, asset=asset, amount=amount)
    (more, _) = inflow(wallet="wa-1", network=NETWORK, asset=asset, amount=amount + off)
    with pytest.raises(InvariantBroken):
        check_balanced([more, other])
    with pytest.raises(InvariantBroken):
        check_balanced([one])


def test_assets_and_networks_do_not_balance_each_other() -> None:
    credit, debit = inflow(wallet="wa-1", network=NETWORK, asset=TOKEN, amount=5)
    _, coins = inflow(wallet="wa-1", network=NETWORK, asset="native", amount=5)
    _, elsewhere = inflow(wallet="wa-1", network="Base", asset=TOKEN, amount=5)
    check_balanced([credit, debit])
    for wrong in (coins, elsewhere):
        with pytest.raises(InvariantBroken):
            check_balanced([credit, wrong])
