"""When a call is made again: by what ended it, how often, and after how long."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from dfns_sdk import DfnsError

from outlay.client import ApiError, Retry
from outlay.client.retry import Again, describe, may_repeat
from outlay.core.errors import InvalidInput, OutcomeUnknown


def api(status: int, code: str = "x", retry_after_s: float | None = None) -> ApiError:
    return ApiError(status, {"error": {"message": "no", "code": code}}, retry_after_s=retry_after_s)


def dfns(status: int | None, code: str | None = None) -> DfnsError:
    return DfnsError(message="no", status_code=status, error_code=code)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (api(429, retry_after_s=7), Again(after_s=7)),
        (api(503), Again()),
        (api(500), Again(is_unknown=True)),
        (api(400), None),
        (api(403), None),
        (api(409), None),
        (dfns(429), Again()),
        (dfns(503), Again()),
        (dfns(503, "outcome_unknown"), Again(is_unknown=True)),
        (dfns(502), Again(is_unknown=True)),
        (dfns(404), None),
        (dfns(None, "SIGNER_REQUIRED"), None),
        (httpx.ReadTimeout("slow"), Again(is_unknown=True)),
        (httpx.ConnectError("gone"), Again(is_unknown=True)),
        (OutcomeUnknown("?"), Again(is_unknown=True)),
        (ConnectionResetError(), Again(is_unknown=True)),
        (TimeoutError(), Again(is_unknown=True)),
        (InvalidInput("typo"), None),
        (KeyError("id"), None),
    ],
)
def test_what_may_be_repeated(error: Exception, expected: Again | None) -> None:
    assert may_repeat(error) == expected


def test_waits_grow_are_spread_and_never_end_before_the_server_asked() -> None:
    halves = Retry(first_s=1, longest_s=4, chance=lambda: 0.5)
    assert [halves.wait_s(attempt, None) for attempt in (1, 2, 3, 4, 5)] == [0.5, 1, 2, 2, 2]
    assert halves.wait_s(1, 10) == 10.5
    assert Retry(chance=lambda: 0).wait_s(9, 3) == 3


def attempts(errors: list[Exception], **settings: Any) -> tuple[Callable[[], str], Retry, list[float]]:
    """Return a call that fails so often, a retry with a clock of its own, and where its waits are kept."""
    left, slept = list(errors), list[float]()

    def call() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return call, Retry(sleep=slept.append, chance=lambda: 1.0, **settings), slept


def test_a_call_is_made_until_it_is_answered() -> None:
    call, retry, slept = attempts([api(503), OutcomeUnknown("?"), api(429, retry_after_s=5)], first_s=1)
    assert retry(call) == "done"
    assert slept == [1, 2, 9]


def test_what_could_happen_twice_is_not_repeated_once_it_may_have_happened() -> None:
    call, retry, slept = attempts([api(503), OutcomeUnknown("?")])
    with pytest.raises(OutcomeUnknown):
        retry(call, is_repeatable=False)
    assert len(slept) == 1


def test_a_refusal_ends_it_and_so_does_the_last_attempt() -> None:
    call, retry, slept = attempts([api(400)])
    with pytest.raises(ApiError):
        retry(call)
    assert slept == []
    call, retry, slept = attempts([api(503)] * 9, attempts=3)
    with pytest.raises(ApiError):
        retry(call)
    assert len(slept) == 2


def test_a_refusal_after_an_unknown_outcome_leaves_it_unknown() -> None:
    call, retry, _ = attempts([OutcomeUnknown("?"), api(401)])
    with pytest.raises(OutcomeUnknown):
        retry(call)
    call, retry, _ = attempts([api(503), api(401)])
    with pytest.raises(ApiError):
        retry(call)


@pytest.mark.parametrize("body", [{"error": "rate limited"}, {"error": None}, {"error": {"details": [1]}}, {}])
def test_an_answer_of_something_between_is_an_error_like_any_other(body: dict[str, Any]) -> None:
    assert may_repeat(ApiError(429, body)) == Again()


def test_an_error_is_described_whoever_raised_it() -> None:
    assert describe(api(409, "duplicate")) == {
        "kind": "ApiError",
        "message": "no",
        "status": 409,
        "code": "duplicate",
    }
    assert describe(dfns(400, "bad"))["code"] == "bad"
    assert describe(KeyError("id")) == {"kind": "KeyError", "message": "'id'", "status": None, "code": None}
