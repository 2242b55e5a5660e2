"""How much a refill is, and what a mandate may say."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay.codec.evm import erc20_transfer
from outlay.core.errors import InvalidInput
from outlay.core.mandate import (
    Levels,
    Mandate,
    Situation,
    activity_of,
    call_data,
    hours_to_empty,
    is_low,
    mandate_named,
    parse_mandate,
    plan,
)
from outlay.core.policy import WALLETS_REFILL, WALLETS_SIGN
from outlay.core.seams import HOUR

ID = "md-aaaaa-bbbbb-cccccccccccccccc"
WALLET, OTHER = "wa-aaaaa-bbbbb-cccccccccccccccc", "wa-ddddd-bbbbb-cccccccccccccccc"
TOKEN = "0x" + "11" * 20


def document(**changes: Any) -> dict[str, Any]:
    """Return a mandate's document; a member that is None is left out."""
    given = {
        "name": "dollars",
        "kind": "Refill",
        "network": "Ethereum",
        "asset": TOKEN,
        "treasury": {"walletId": WALLET},
        "wallets": {"walletIds": [OTHER]},
        "min": "100",
        "target": "500",
        "max": "1000",
        "perRefillMax": "300",
        "window": {"amount": "2000", "count": 5, "minutes": 60},
        **changes,
    }
    return {name: each for name, each in given.items() if each is not None}


def mandate(**changes: Any) -> Mandate:
    return parse_mandate(document(**changes), id=ID)


def decide(found: Mandate, spendable: int, **more: Any) -> tuple[int, int, str | None]:
    """Return what is wanted, what goes, and why not more."""
    answer = plan(found, found.levels_at(7), Situation(spendable=spendable, **more))
    return answer.wanted, answer.amount, answer.reason


# --- documents -----------------------------------------------------------------------------------------------------


def test_a_document_is_kept_as_it_was_said() -> None:
    assert mandate().document() == {**document(), "unit": "base"}
    written = mandate(asset=TOKEN.upper().replace("X", "x")).document()
    assert written["asset"] == TOKEN
    assert parse_mandate(written, id=ID).document() == written


def test_gas_is_counted_in_coins_or_payouts() -> None:
    found = mandate(kind="GasTopUp", asset=None, unit="payouts", min="2", target="5", max="10")
    assert found.asset == "native"
    assert found.levels_at(7) == Levels(least=14, target=35, most=70)
    assert found.largest == 300
    assert mandate(kind="GasTopUp", asset="native").levels_at(7) == Levels(least=100, target=500, most=1000)
    assert mandate(perRefillMax="2000").largest == 1000


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("kind", {"kind": "Sweep"}),
        ("more", {"more": 1}),
        ("body", {"": 1}),
        ("name", {"name": " "}),
        ("asset", {"asset": None}),
        ("asset", {"asset": "dollars"}),
        ("asset", {"kind": "GasTopUp"}),
        ("unit", {"unit": "payouts"}),
        ("unit", {"unit": "dollars"}),
        ("treasury", {"treasury": {}}),
        ("treasury", {"treasury": {"walletId": WALLET, "external": TOKEN}}),
        ("treasury.walletId", {"treasury": {"walletId": "us-aaaaa-bbbbb-cccccccccccccccc"}}),
        ("treasury.external", {"treasury": {"external": "0x1"}}),
        ("wallets", {"wallets": {"walletIds": [OTHER], "tag": "payouts"}}),
        ("wallets.walletIds", {"wallets": {"walletIds": []}}),
        ("wallets.walletIds", {"wallets": {"walletIds": [OTHER, OTHER]}}),
        ("wallets.walletIds", {"wallets": {"walletIds": [WALLET]}}),
        ("wallets.poolId", {"wallets": {"poolId": OTHER}}),
        ("min", {"min": 100}),
        ("min", {"min": "0"}),
        ("min", {"min": "0100"}),
        ("target", {"target": "99"}),
        ("max", {"max": "499"}),
        ("window.amount", {"window": {"amount": "299", "count": 5, "minutes": 60}}),
        ("window.count", {"window": {"amount": "2000", "count": 0, "minutes": 60}}),
        ("window.count", {"window": {"amount": "2000", "count": True, "minutes": 60}}),
        ("window.minutes", {"window": {"amount": "2000", "count": 5, "minutes": 43201}}),
        ("window.hours", {"window": {"amount": "2000", "count": 5, "hours": 1}}),
    ],
)
def test_what_a_mandate_may_not_say(field: str, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as refused:
        mandate(**changes)
    assert refused.value.field == field


def test_refills_are_named_after_their_mandate() -> None:
    name = mandate().external_id(12)
    assert (mandate_named(name), len(name) <= 50) == (ID, True)
    assert [mandate_named(each) for each in (None, "refill/1", f"refill/{ID}/01", f"refill/{ID}/")] == [None] * 4
    assert activity_of(ID) == WALLETS_REFILL
    assert activity_of("us-aaaaa-bbbbb-cccccccccccccccc") == WALLETS_SIGN


# --- decisions -----------------------------------------------------------------------------------------------------


def test_a_wallet_is_filled_below_its_minimum_up_to_its_target() -> None:
    found = mandate(perRefillMax="2000")
    assert decide(found, 100) == (0, 0, None)
    assert decide(found, 99) == (401, 401, None)
    assert decide(found, 0) == (500, 500, None)


def test_limits_cut_a_refill_and_what_would_not_help_does_not_go() -> None:
    found = mandate()
    assert decide(found, 0) == (500, 300, None)
    assert decide(found, 0, treasury=150) == (500, 150, None)
    assert decide(found, 0, treasury=99) == (500, 0, "the treasury can give 99 base units, and 100 are needed")
    assert decide(found, 0, spent=1900) == (500, 100, None)
    assert decide(found, 0, spent=1901)[:2] == (500, 0)
    assert decide(found, 0, count=5)[:2] == (500, 0)
    assert decide(mandate(perRefillMax="10"), 0, treasury=10) == (500, 10, None)


def test_a_payout_that_waits_for_gas_is_helped_up_to_the_maximum() -> None:
    found = mandate(perRefillMax="2000")
    assert decide(found, 600, urgent=700) == (100, 100, None)
    assert decide(found, 600, urgent=5000) == (400, 400, None)
    assert decide(found, 1000, urgent=5000) == (0, 0, None)
    assert is_low(found.levels, 600, 700)


@given(
    spendable=st.integers(0, 2000),
    urgent=st.integers(0, 2000),
    treasury=st.none() | st.integers(0, 2000),
    spent=st.integers(0, 2500),
    count=st.integers(0, 6),
    per_refill=st.integers(1, 2000),
)
def test_no_refill_breaks_a_bound(
    spendable: int, urgent: int, treasury: int | None, spent: int, count: int, per_refill: int
) -> None:
    found = mandate(perRefillMax=str(per_refill))
    situation = Situation(spendable=spendable, urgent=urgent, treasury=treasury, spent=spent, count=count)
    answer = plan(found, found.levels, situation)
    if not answer.amount:
        assert answer.wanted == 0 or answer.reason is not None
        return
    assert 0 < answer.amount <= min(answer.wanted, per_refill, found.window_amount - spent)
    assert spendable + answer.amount <= found.levels.most
    assert count < found.window_count
    assert treasury is None or answer.amount <= treasury


def test_hours_to_empty_are_exact() -> None:
    assert hours_to_empty(10**30, 10**29, 6 * HOUR) == 60
    assert hours_to_empty(99, 100, 6 * HOUR) == 5
    assert hours_to_empty(0, 100, 6 * HOUR) == 0
    assert hours_to_empty(99, 0, 6 * HOUR) is None


def test_what_a_multisignature_wallet_pastes_is_what_we_would_send() -> None:
    assert call_data(TOKEN, 12345) == "0x" + erc20_transfer(TOKEN, 12345).hex()
