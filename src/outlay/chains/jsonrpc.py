"""JSON-RPC bodies: calls written, answers taken apart. Whatever came back, it is a checked value or an exception."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from outlay.chains import CallReverted, SendKind
from outlay.chains.answers import classify, shorten
from outlay.chains.transport import EndpointFailed, Throttled, TooLarge

T = TypeVar("T")

MISSING: object = object()
"""Stands for an answer that did not come back."""

_REVERT_CODES = (3, -32015)
_REVERT_TEXTS = (
    "revert",
    "insufficient funds",
    "gas required exceeds",
    "out of gas",
    "outofgas",
    "opcode",
    "evm error",
    "vm execution",
    "stack underflow",
    "stack overflow",
    "bad jump",
    "invalid jump",
    "bad instruction",
)
# EIP-1474 gives -32005 to "limit exceeded"; providers also put the HTTP status where the code stands.
_THROTTLE_CODES = (-32005, 429)
# geth (rpc/errors.go) answers the first call of the batch alone; Besu's RpcErrorType speaks of the max batch size.
_TOO_LARGE_TEXTS = ("batch too large", "max batch size")


class WrongShape(Exception):
    """A node's answer is not what the method promises. Stays inside ``chains``."""


class NodeRefused(EndpointFailed):
    """The node answered with an error of its own: this call does not work here and now; the endpoint does."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One read: what to ask, and how its result must look."""

    method: str
    params: Sequence[Any]
    parse: Callable[[object], T]  #: returns the value or raises ``WrongShape``
    none_if_reverted: bool = False  #: an ``eth_call`` that reverts gives None, and the others their answers


@dataclass(frozen=True, slots=True)
class NodeError:
    """A JSON-RPC error object."""

    code: int
    message: str

    @property
    def reverted(self) -> bool:
        """Whether a call or estimate was executed and failed, which another endpoint would only repeat."""
        lowered = self.message.lower()
        return self.code in _REVERT_CODES or any(text in lowered for text in _REVERT_TEXTS)

    @property
    def throttled(self) -> bool:
        """Whether the call was refused only because too much was asked."""
        kind = classify(self.message).kind
        return kind is SendKind.RATE_LIMITED or (kind is SendKind.UNKNOWN and self.code in _THROTTLE_CODES)

    @property
    def too_large(self) -> bool:
        """Whether too many calls stood in one request."""
        return any(text in self.message.lower() for text in _TOO_LARGE_TEXTS)


def request_body(calls: Sequence[tuple[str, Sequence[Any]]]) -> bytes:
    """Return the body that asks these calls, numbered from 1; a single call is no batch."""
    batch = [
        {"jsonrpc": "2.0", "id": number, "method": method, "params": list(params)}
        for number, (method, params) in enumerate(calls, 1)
    ]
    return json.dumps(batch if len(batch) > 1 else batch[0]).encode()


def read_answers(body: bytes, count: int, *, partial: bool) -> list[object]:
    """Return each call's result or ``NodeError``, in order; with ``partial``, ``MISSING`` where none came back.

    Raises:
        Throttled, TooLarge: the request was refused as a whole for being one too many, or too long.
        EndpointFailed: not JSON-RPC, or answers are missing.
    """
    found = _answers_by_id(body)
    answers = [found.get(number, MISSING) for number in range(1, count + 1)]
    whole = found.get(None, answers[0] if count > 1 and len(found) == 1 else None)
    if isinstance(whole, NodeError):
        if whole.too_large and count > 1:  # first, for Besu gives it the code of a limit exceeded
            raise TooLarge(shorten(whole.message))
        if whole.throttled:
            raise Throttled(shorten(whole.message))
    if MISSING in answers and not partial:
        raise EndpointFailed(shorten(whole.message) if isinstance(whole, NodeError) else "answers are missing")
    return answers


def _answers_by_id(body: bytes) -> dict[int | None, object]:
    """Return result or error by request number; an error without number under None."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise EndpointFailed("the answer is not JSON") from None
    found: dict[int | None, object] = {}
    for item in document if isinstance(document, list) else [document]:
        if not isinstance(item, dict):
            raise EndpointFailed("the answer is not JSON-RPC")
        number = item.get("id")
        if isinstance(number, bool) or not isinstance(number, int | None) or number in found:
            raise EndpointFailed("the answer has a wrong or repeated id")
        if item.get("error") is not None:
            found[number] = _node_error(item["error"])
        elif "result" in item and number is not None:
            found[number] = item["result"]
        else:
            raise EndpointFailed("the answer has neither result nor error")
    return found


def _node_error(error: object) -> NodeError:
    code = error.get("code") if isinstance(error, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    return NodeError(code if isinstance(code, int) else 0, message if isinstance(message, str) else "")


def parsed(call: Call[T], answer: object) -> T:
    """Return the value of one answer.

    Raises:
        CallReverted: an ``eth_call`` or ``eth_estimateGas`` was executed and failed.
        NodeRefused: the node answered with another error.
        EndpointFailed: the answer has another shape than the method promises.
    """
    try:
        if not isinstance(answer, NodeError):
            return call.parse(answer)
        text = shorten(answer.message) or f"error {answer.code}"
        if call.method in ("eth_call", "eth_estimateGas") and answer.reverted:
            raise CallReverted(f"{call.method} failed: {text}")
    except WrongShape as problem:
        raise EndpointFailed(f"{call.method}: {problem}") from None
    except CallReverted:
        if call.none_if_reverted:
            return cast(T, None)
        raise
    raise NodeRefused(f"{call.method}: {text}")


def quantity(value: object, *, most: int = 2**256 - 1) -> int:
    """Return the number in a JSON-RPC quantity: 0x and 1 to 64 hex digits.

    Args:
        value: part of a node's answer.
        most: the largest number that makes sense.

    Raises:
        WrongShape: anything else.
    """
    digits = _hex_digits(value)
    if not 1 <= len(digits) <= 64:
        raise WrongShape("a quantity of 1 to 64 hex digits was expected")
    number = int(digits, 16)
    if number > most:
        raise WrongShape(f"a number of at most {most} was expected")
    return number


def octets(value: object, size: int | None = None) -> bytes:
    """Return the bytes in JSON-RPC data: 0x and an even number of hex digits.

    Args:
        value: part of a node's answer.
        size: the exact number of bytes, or None for any.

    Raises:
        WrongShape: anything else.
    """
    digits = _hex_digits(value)
    if len(digits) % 2 or (size is not None and len(digits) != 2 * size):
        raise WrongShape(f"{'whole bytes' if size is None else f'{size} bytes'} in hex were expected")
    return bytes.fromhex(digits)


def _hex_digits(value: object) -> str:
    if not isinstance(value, str) or not value.startswith("0x") or not _HEX.issuperset(value[2:]):
        raise WrongShape("a hex string was expected")
    return value[2:]


_HEX = frozenset("0123456789abcdefABCDEF")
