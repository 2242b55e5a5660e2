"""Amounts and values as integers. No float and no rounding down is ever applied to money.

An *amount* counts base units of an asset (0 < amount < 2**256). A *value* is what an amount is worth,
in units of 10**-8 of a currency, rounded up. Prices and limits are read from their decimal text.
"""

import re
from decimal import Context, Decimal, Inexact

from outlay.core.errors import InvalidInput

AMOUNT_MAX = 2**256 - 1
VALUE_UNIT = 10**8
_DIGITS = re.compile(r"[1-9][0-9]{0,77}")
_DECIMAL = re.compile(r"(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?")
_LITERAL = re.compile(r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,9})?")


def parse_amount(text: object, *, field: str = "amount") -> int:
    """Return the amount written in ``text``: plain ASCII digits, base units, 1 to 2**256 - 1.

    Raises:
        InvalidInput: not a string of digits, zero, a leading zero, a sign, a space, another script, or too large.
    """
    if not isinstance(text, str):
        raise InvalidInput("an amount is a string of digits in the asset's smallest unit", field=field)
    if text == "0":
        raise InvalidInput("an amount of 0 pays nobody: send at least 1 base unit", field=field)
    if _DIGITS.fullmatch(text) is None:
        raise InvalidInput(
            "an amount is a string of ASCII digits in the asset's smallest unit,"
            " without sign, point, exponent, space or leading zero",
            field=field,
        )
    amount = int(text)
    if amount > AMOUNT_MAX:
        raise InvalidInput("an amount is at most 2^256 - 1", field=field)
    return amount


def parse_decimal(text: str, *, field: str, positive: bool = True) -> Decimal:
    """Return the decimal number written in ``text``: digits with at most one point, no sign, no exponent.

    Raises:
        InvalidInput: another spelling, or zero where ``positive``.
    """
    if _DECIMAL.fullmatch(text) is None:
        raise InvalidInput("write a plain decimal number such as 12.50", field=field)
    number = Decimal(text)
    if positive and number == 0:
        raise InvalidInput("must be greater than 0", field=field)
    return number


def value_of(amount: int, *, decimals: int, price: Decimal) -> int:
    """Return what ``amount`` base units are worth, in 10**-8 of the price's currency, rounded up.

    Args:
        amount: base units, >= 0.
        decimals: decimal places of the asset, 0 to 77.
        price: currency per whole unit of the asset, > 0.
    """
    numerator, denominator = price.as_integer_ratio()
    scaled = amount * numerator * VALUE_UNIT
    value: int = -(-scaled // (denominator * 10**decimals))
    return value


def limit_value(text: str, *, field: str) -> int:
    """Return a currency limit, read from its decimal text, in 10**-8 of the currency.

    Raises:
        InvalidInput: not a number in ASCII digits, signed, or finer than 10**-8.
    """
    # ``Decimal`` alone would also read other scripts, spaces and underscores.
    number = Decimal(text) if _LITERAL.fullmatch(text) else None
    if number is None or abs(number.adjusted()) > 30:
        raise InvalidInput("a limit is a plain number of dollars, 0 or more", field=field)
    try:
        scaled = Context(prec=100, traps=[Inexact]).multiply(number, Decimal(VALUE_UNIT))
    except Inexact:
        scaled = None
    if scaled is None or scaled != scaled.to_integral_value():
        raise InvalidInput("a limit has at most 8 decimal places", field=field)
    return int(scaled)


def format_units(amount: int, decimals: int) -> str:
    """Return ``amount`` base units as decimal text for people, without trailing zeros."""
    whole, part = divmod(amount, 10**decimals)
    fraction = str(part).rjust(decimals, "0").rstrip("0") if decimals else ""
    return f"{whole:,}.{fraction}" if fraction else f"{whole:,}"


def format_dollars(value: str) -> str:
    """Return a value as the API writes it, ``1250.50000000``, as people read it: ``1,250.50``."""
    whole, _, part = value.partition(".")
    return f"{int(whole):,}.{part.rstrip('0').ljust(2, '0')}"


def format_value(value: int) -> str:
    """Return a value (10**-8 of a currency) as plain decimal text, without trailing zeros."""
    whole, part = divmod(value, VALUE_UNIT)
    fraction = str(part).rjust(8, "0").rstrip("0")
    return f"{whole}.{fraction}" if fraction else str(whole)
