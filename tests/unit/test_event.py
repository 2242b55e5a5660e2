"""The envelope, its bytes, subscriptions and the retry schedule."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay.core.errors import InvalidInput, InvariantBroken
from outlay.core.event import (
    EVENT_KINDS,
    RETRY_SCHEDULE_S,
    check_subscription,
    encode,
    envelope,
    iso,
    plain,
    retry_at,
)
from outlay.core.seams import SECOND

RAISED = 1767323045_678_901  # 2026-01-02T03:04:05.678901Z
EXACT = 2**53 - 1

portable = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-EXACT, EXACT)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def test_body_is_the_worked_vector_of_the_contract() -> None:
    body = envelope(
        delivery_id="whe-3qkbm-9a1fp-8j7q6m8vloghg1p5",
        kind="wallet.transfer.confirmed",
        raised_at=RAISED,
        data={"transferRequest": {"id": "xfr-1vs8g-c1ub1-9m2q6m8vloghg1p5", "status": "Confirmed"}},
        sent_at=1767323046_999_999,
        attempt=1,
    )
    assert encode(body) == (
        b'{"id":"whe-3qkbm-9a1fp-8j7q6m8vloghg1p5","kind":"wallet.transfer.confirmed",'
        b'"date":"2026-01-02T03:04:05.678Z","data":{"transferRequest":{"id":"xfr-1vs8g-c1ub1-9m2q6m8vloghg1p5",'
        b'"status":"Confirmed"}},"timestampSent":1767323046,"deliveryAttempt":1}'
    )


def test_a_retry_names_the_attempt_before_it() -> None:
    body = envelope(
        delivery_id="whe-2",
        kind="wallet.created",
        raised_at=RAISED,
        data={},
        sent_at=RAISED,
        attempt=2,
        retry_of="whe-1",
    )
    assert (body["deliveryAttempt"], body["retryOf"]) == (2, "whe-1")


@pytest.mark.parametrize(
    ("instant", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (999, "1970-01-01T00:00:00.000Z"),
        (1_000, "1970-01-01T00:00:00.001Z"),
        (RAISED, "2026-01-02T03:04:05.678Z"),
        (1_767_323_045_999_999, "2026-01-02T03:04:05.999Z"),
        (253_402_300_799_999_999, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_dates_are_milliseconds_rounded_down(instant: int, text: str) -> None:
    assert iso(instant) == text


@given(portable)
def test_a_receiver_that_serialises_again_in_python_gets_the_same_bytes(value: Any) -> None:
    body = encode({"data": value})
    assert body.isascii()
    assert json.dumps(json.loads(body), separators=(",", ":")).encode() == body


@given(portable)
def test_plain_data_stays_as_it_is_when_stored_and_read(value: Any) -> None:
    once = plain(value)
    assert plain(json.loads(json.dumps(once))) == once


@pytest.mark.parametrize(("value", "text"), [(1.0, b"1"), (-0.0, b"0"), (1e15, b"1000000000000000"), (0.1, b"0.1")])
def test_numbers_are_written_as_javascript_writes_them(value: float, text: bytes) -> None:
    assert encode({"n": value}) == b'{"n":' + text + b"}"


@pytest.mark.parametrize(
    "value", [2**53, -(2**53), float("nan"), float("inf"), b"x", {1: 2}, ..., [{"a": {2}}]], ids=repr
)
def test_data_that_is_not_portable_is_refused(value: object) -> None:
    with pytest.raises(InvariantBroken):
        plain({"data": value})


def test_a_subscription_keeps_its_order_and_drops_repetitions() -> None:
    kinds = ["wallet.transfer.failed", "*", "wallet.transfer.failed", "policy.triggered"]
    assert check_subscription(kinds) == ["wallet.transfer.failed", "*", "policy.triggered"]
    assert check_subscription(EVENT_KINDS) == list(EVENT_KINDS)


@pytest.mark.parametrize("kinds", [[], ["key.created"], ["wallet.*"], [""], [7], [None], ["webhook.ping"]], ids=repr)
def test_a_subscription_to_what_is_never_sent_is_refused(kinds: list[object]) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_subscription(kinds)
    assert caught.value.field == "events"


def test_the_schedule_counts_from_the_first_attempt() -> None:
    first, latency = 1_000 * SECOND, 3 * SECOND
    sent, times = first, []
    for attempt in range(1, 6):
        next_at = retry_at(RETRY_SCHEDULE_S, attempt=attempt, first=first, sent=sent)
        times.append(None if next_at is None else (next_at - first) // SECOND)
        sent = (next_at or 0) + latency
    assert times == [60, 720, 7200, 86400, None]


def test_offsets_that_have_passed_are_not_made_up_for_in_a_burst() -> None:
    sent = 100_000 * SECOND
    assert retry_at(RETRY_SCHEDULE_S, attempt=2, first=0, sent=sent) == sent + 60 * SECOND
    assert retry_at([], attempt=1, first=0, sent=sent) is None
