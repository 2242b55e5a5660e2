"""Money is exact: what is read is what was written, and a worth is never rounded down."""

from decimal import Decimal
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from outlay.core.errors import InvalidInput
from outlay.core.money import (
    AMOUNT_MAX,
    VALUE_UNIT,
    format_units,
    format_value,
    limit_value,
    parse_amount,
    parse_decimal,
    value_of,
)

amounts = st.integers(min_value=1, max_value=AMOUNT_MAX)
decimal_places = st.integers(min_value=0, max_value=77)
prices = st.decimals(min_value=Decimal("1e-18"), max_value=10**12, places=18)


@given(amounts)
@example(1)
@example(AMOUNT_MAX)
def test_an_amount_reads_back_exactly(amount: int) -> None:
    assert parse_amount(str(amount)) == amount


@pytest.mark.parametrize(
    "text",
    [
        *("", "0", "00", "01", "-1", "+1", " 1", "1 ", "1\n", "1.0", "1e3", "0x10", "1_000", "1,000", "ten"),
        *("\u0661", "\uff11", "\u00b2", "1\u200b", "1\x00"),  # digits of other scripts, invisible characters
        str(AMOUNT_MAX + 1),
        "9" * 78,
        "1" * 5000,
    ],
)
def test_any_other_spelling_of_an_amount_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        parse_amount(text, field="body.amount")

    assert refusal.value.field == "body.amount"


@pytest.mark.parametrize("value", [1, 1.0, True, None, b"1", ["1"], Decimal(1)])
def test_an_amount_that_is_not_text_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput, match="string of digits"):
        parse_amount(value)


@given(st.text(max_size=20))
def test_no_text_makes_reading_an_amount_fail_in_another_way(text: str) -> None:
    try:
        amount = parse_amount(text)
    except InvalidInput:
        return
    assert str(amount) == text


@given(st.decimals(min_value=0, max_value=10**30, places=12))
def test_a_decimal_reads_back_exactly(number: Decimal) -> None:
    text = f"{number:f}"

    assert parse_decimal(text, field="price", positive=False) == number


@pytest.mark.parametrize(
    "text", ["", ".5", "5.", "-1", "+1", "01", "1e3", "NaN", "Infinity", " 1", "1\n", "1,5", "1_0", "\u0661"]
)
def test_any_other_spelling_of_a_decimal_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        parse_decimal(text, field="price")

    assert refusal.value.field == "price"


@pytest.mark.parametrize("text", ["0", "0.0", "0.000000"])
def test_zero_is_refused_only_where_it_must_be_positive(text: str) -> None:
    assert parse_decimal(text, field="price", positive=False) == 0
    with pytest.raises(InvalidInput, match="greater than 0"):
        parse_decimal(text, field="price")


@given(st.integers(min_value=0, max_value=AMOUNT_MAX), decimal_places, prices)
@example(1, 77, Decimal("1e-18"))
@example(AMOUNT_MAX, 0, Decimal(10**12))
@example(3, 0, Decimal("0.333333333333333333"))
def test_a_value_is_the_exact_worth_rounded_up(amount: int, decimals: int, price: Decimal) -> None:
    exact = Fraction(amount, 10**decimals) * Fraction(price) * VALUE_UNIT

    assert value_of(amount, decimals=decimals, price=price) == ceil(exact)


@given(amounts, decimal_places, prices)
def test_something_is_never_worth_nothing(amount: int, decimals: int, price: Decimal) -> None:
    assert value_of(amount, decimals=decimals, price=price) >= 1


@given(amounts, amounts, decimal_places, prices)
def test_splitting_a_payout_never_makes_it_cheaper(first: int, second: int, decimals: int, price: Decimal) -> None:
    whole = value_of(first + second, decimals=decimals, price=price)
    parts = [value_of(part, decimals=decimals, price=price) for part in (first, second)]

    assert whole <= sum(parts) <= whole + 1


@pytest.mark.parametrize(
    ("amount", "decimals", "price", "value"),
    [
        (1_000_000, 6, "1", 100_000_000),  # one dollar
        (1, 6, "1", 100),
        (1, 18, "3000", 1),  # a wei is worth less than the unit: rounded up
        (10**18, 18, "3000", 300_000_000_000),
        (0, 6, "1", 0),
    ],
)
def test_known_values(amount: int, decimals: int, price: str, value: int) -> None:
    assert value_of(amount, decimals=decimals, price=Decimal(price)) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("10000", 10_000 * VALUE_UNIT),
        ("10000.00", 10_000 * VALUE_UNIT),
        ("1e4", 10_000 * VALUE_UNIT),
        ("0.00000001", 1),
        ("1E-8", 1),
        ("0.1", VALUE_UNIT // 10),
        ("9007199254740993", 9_007_199_254_740_993 * VALUE_UNIT),  # one more than a double can hold
    ],
)
def test_a_limit_is_read_from_its_text(text: str, value: int) -> None:
    assert limit_value(text, field="limit") == value


@pytest.mark.parametrize(
    "text",
    [
        *("", "-1", "NaN", "Infinity", "-Infinity", "sNaN", "ten", "1e31", "1e999999999", "1e-999999999"),
        *("0.000000001", "1e-9", "1.234567891"),
        "1." + "0" * 150 + "1",  # finer than any precision a careless calculation would choose
    ],
)
def test_a_limit_that_cannot_be_kept_exactly_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        limit_value(text, field="limit")

    assert refusal.value.field == "limit"


@given(st.integers(min_value=0, max_value=10**38))
def test_a_value_written_for_people_reads_back_as_the_same_limit(value: int) -> None:
    text = format_value(value)

    assert not ("." in text and text.endswith("0"))
    assert limit_value(text, field="limit") == value
    assert Fraction(text) * VALUE_UNIT == value


@given(st.integers(min_value=0, max_value=AMOUNT_MAX), decimal_places)
def test_units_written_for_people_mean_the_same_amount(amount: int, decimals: int) -> None:
    text = format_units(amount, decimals)

    assert Fraction(text.replace(",", "")) * 10**decimals == amount
    assert not ("." in text and text.endswith("0"))


@pytest.mark.parametrize(
    ("amount", "decimals", "text"),
    [
        (1_234_567_890, 6, "1,234.56789"),
        (5, 6, "0.000005"),
        (7, 0, "7"),
        (1_000_000, 6, "1"),
        (0, 18, "0"),
    ],
)
def test_known_texts(amount: int, decimals: int, text: str) -> None:
    assert format_units(amount, decimals) == text
