"""Checks an answer against the types that the official SDK was generated with, and against the contract's formats.

The SDK validates nothing at run time, so its declarations serve as an oracle that nobody here wrote.
"""

import re
from collections.abc import Collection
from typing import Any, Literal, NotRequired, Union, get_args, get_origin

_PLAIN = (str, int, bool, list)
_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def wire_name(name: str) -> str:
    """Return the camel-case spelling of a declared name: ``is_s_s_o_required`` is ``isSSORequired``."""
    first, *rest = name.split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in rest)


def assert_conforms(answer: Any, declared: type, *, also: Collection[str] = ()) -> Any:
    """Check that ``answer`` has every required member, no unknown one, and declared values; return it.

    Args:
        answer: an object as the SDK returned it.
        declared: one of the SDK's response types.
        also: members of our own that may be there besides.
    """
    known = {}
    for name, hint in declared.__annotations__.items():
        wire = wire_name(name)
        form: Any = get_origin(hint)
        optional = form is NotRequired
        known[wire] = get_args(hint)[0] if optional else hint
        assert optional or wire in answer, f"{declared.__name__}.{wire} is required: {answer}"
    for name, value in answer.items():
        assert name in known or name in also, f"{declared.__name__} has no member {name}: {answer}"
        if name in known:
            assert _fits(value, known[name]), f"{declared.__name__}.{name} is not {known[name]}: {value!r}"
        if name.startswith("date"):
            assert _DATE.fullmatch(value), f"{name} is not a date: {value!r}"
    return answer


def _fits(value: Any, hint: Any) -> bool:
    origin = get_origin(hint)
    if origin is Literal:
        return value in get_args(hint)
    if origin is Union:
        return any(_fits(value, each) for each in get_args(hint))
    if origin is list:
        return isinstance(value, list) and all(_fits(each, get_args(hint)[0]) for each in value)
    # `dict[str, Any]` stands for anything the generator could not name, plain text included.
    return type(value) is hint if hint in _PLAIN else True


def assert_id(text: str, prefix: str) -> None:
    """Check that ``text`` is an identifier of the kind that ``prefix`` names."""
    assert re.fullmatch(prefix + r"-[a-z0-9]{5}-[a-z0-9]{5}-[a-z0-9]{14,16}", text), text
