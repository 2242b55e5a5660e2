"""Reading documents of parsed JSON member by member, so that every refusal names the member."""

from collections.abc import Collection, Mapping
from typing import Any

from outlay.core import ids
from outlay.core.errors import InvalidInput
from outlay.core.money import parse_amount


def members(value: object, field: str, allowed: Collection[str]) -> Mapping[str, Any]:
    """Return the members of an object that are given; null is as if it were not there."""
    if not isinstance(value, Mapping):
        raise InvalidInput("must be a JSON object", field=field or "body")
    for name in value:
        if name not in allowed:
            named = f"{field}.{name}" if field else name or "body"
            raise InvalidInput("is not known here: use " + ", ".join(allowed), field=named)
    return {name: each for name, each in value.items() if each is not None}


def one_of(value: object, field: str, names: Collection[str]) -> Mapping[str, Any]:
    """Return an object that has exactly one of some members."""
    found = members(value, field, names)
    if len(found) != 1:
        raise InvalidInput("give one of " + ", ".join(names), field=field)
    return found


def amount(fields: Mapping[str, Any], name: str, place: str = "") -> int:
    """Return a positive amount of base units; ``place`` is put before the name in refusals."""
    value = fields.get(name)
    if not isinstance(value, str):
        raise InvalidInput("is a string of digits", field=f"{place}{name}")
    return parse_amount(value, field=f"{place}{name}")


def whole(value: object, field: str, most: int) -> int:
    """Return a whole number from 1 to ``most``."""
    if type(value) is not int or not 1 <= value <= most:
        raise InvalidInput(f"must be a whole number from 1 to {most}", field=field)
    return value


def text(value: object, field: str, length_max: int) -> str:
    """Return a text that says something."""
    if not isinstance(value, str) or not value.strip() or len(value) > length_max:
        raise InvalidInput(f"must be a text of 1 to {length_max} characters", field=field)
    return value


def identifier(value: object, field: str, prefix: str) -> str:
    """Return an identifier with a prefix."""
    if not isinstance(value, str) or not ids.is_id(value, prefix):
        raise InvalidInput(f"is an identifier that begins with {prefix}-", field=field)
    return value
