"""The class of an error says what to do about it, the code names it for programs."""

import re
from collections import Counter

import pytest

from outlay.core import errors

CLASSES = [
    value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.OutlayError)
]


def test_every_code_is_its_own() -> None:
    doubled = {code: count for code, count in Counter(cls.code for cls in CLASSES).items() if count > 1}

    assert doubled == {}


@pytest.mark.parametrize("error", CLASSES)
def test_every_error_is_described_and_named(error: type[errors.OutlayError]) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", error.code)
    assert (error.__doc__ or "").strip().endswith(".")


@pytest.mark.parametrize("error", CLASSES)
def test_the_status_follows_the_family(error: type[errors.OutlayError]) -> None:
    if issubclass(error, errors.Refused):
        assert 400 <= error.status < 500
    elif issubclass(error, errors.Unavailable | errors.OutcomeUnknown):
        assert error.status == 503
    else:
        assert error.status == 500


def test_a_caller_can_tell_nothing_happened_from_nobody_knows() -> None:
    assert not issubclass(errors.OutcomeUnknown, errors.Unavailable)
    assert not issubclass(errors.OutcomeUnknown, errors.Refused)
    assert not issubclass(errors.InvariantBroken, errors.Refused | errors.Unavailable)


def test_an_error_carries_message_field_and_details() -> None:
    error = errors.Conflict("already paid", field="externalId", duplicate={"id": "xfr-1"})

    assert str(error) == error.message == "already paid"
    assert error.field == "externalId"
    assert error.details == {"field": "externalId", "duplicate": {"id": "xfr-1"}}


def test_an_error_without_a_field_names_none() -> None:
    error = errors.NotFound("no such wallet")

    assert error.field is None
    assert error.details == {}
