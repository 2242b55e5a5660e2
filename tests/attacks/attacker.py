"""What the attacks share: calls that must leave nothing behind, and every operation there is."""

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from tests.door import Answer, Door, Who, check_refusal
from tests.e2e.test_bad_calls import UNKNOWN, a_body, described

__all__ = ["Call", "calls", "named", "refused", "untouched"]

Call = tuple[str, str, Any, Any]
"""Method, path of an object that does not exist, a good body or None, and the operation's description."""


@contextlib.contextmanager
def untouched(door: Door) -> Iterator[None]:
    """Check that the block stored nothing and spent no challenge."""
    before, spent = door.stored(), door.spent
    yield
    assert door.stored() == before
    assert door.spent == spent


def refused(answer: Answer, status: int, code: str) -> Answer:
    """Check that an answer is this refusal."""
    check_refusal(answer)
    assert (answer.status, answer.code) == (status, code), answer.raw
    return answer


def named(path: str) -> str:
    """Return a described path with identifiers that name nothing."""
    return re.sub(r"\{(\w+)\}", lambda match: f"{UNKNOWN[match[1]]}-00000-00000-0000000000000000", path)


def calls(door: Door) -> Iterator[Call]:
    """Yield every operation of the API with a good body."""
    for method, path, operation in described(door):
        yield method.upper(), named(path), a_body(operation), operation


def signed(door: Door, who: Who, method: str, path: str, body: Any) -> Answer:
    """Sign and make a call; what no challenge is to be had for is made with a made-up action token."""
    opened = door.open(who, method, path, body)
    if opened.status != 200:
        return door.call(method, path, body, token=who.token, action="none")
    token = door.answer(who, opened.body["challengeIdentifier"], opened.body["challenge"]).ok()["userAction"]
    return door.call(method, path, body, token=who.token, action=token)
