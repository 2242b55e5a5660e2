"""What the Python client makes of answers that say nothing of what became of a payout."""

import pytest

from outlay.client import ApiError
from outlay.client.calls import error_of
from outlay.core.errors import OutcomeUnknown

OURS = {"error": {"code": "unavailable", "message": "try again", "details": {}}}
UNKNOWN = {"error": {"code": "outcome_unknown", "message": "look", "details": {}}}


@pytest.mark.parametrize(("status", "body"), [(502, {}), (504, {"message": "gateway"}), (503, UNKNOWN)])
def test_a_write_that_may_have_happened_is_not_called_refused(status: int, body: dict[str, object]) -> None:
    assert isinstance(error_of(status, body, is_write=True), OutcomeUnknown)


@pytest.mark.parametrize(("status", "body", "is_write"), [(503, OURS, True), (409, {}, True), (504, {}, False)])
def test_what_surely_did_nothing_is(status: int, body: dict[str, object], is_write: bool) -> None:
    assert isinstance(error_of(status, body, is_write=is_write), ApiError)
