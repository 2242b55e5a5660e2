"""JSON-RPC over HTTP to several endpoints of one network.

Reads go to the first endpoint that gives a well-formed answer; sends go to all. An endpoint is asked for its
chain id before its first use and again after every failure. Nothing that leaves this module contains a URL:
providers put API keys into it, so endpoints are named by their place in the configuration.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import aiohttp

from outlay.chains import CallReverted, SendAnswer, SendKind
from outlay.chains.answers import classify, merge, shorten
from outlay.codec.evm import tx_hash
from outlay.core.errors import ChainUnavailable, InvalidInput

T = TypeVar("T")

_REST_S = 5.0
_GRACE_S = 1.0
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


class EndpointFailed(Exception):
    """One endpoint gave no usable answer. Stays inside ``chains``."""

    def __init__(self, reason: str, *, delivered: bool = True) -> None:
        super().__init__(reason)
        self.delivered = delivered  #: False only if the request certainly never arrived


class WrongShape(Exception):
    """A node's answer is not what the method promises. Stays inside ``chains``."""


class Transport(Protocol):
    """How a request travels: the seam a simulator replaces."""

    async def post(self, url: str, body: bytes) -> bytes:
        """Return the body of the answer to a POST of JSON.

        Raises:
            EndpointFailed: no complete answer; ``delivered`` tells whether the request may have arrived.
        """
        ...


class HttpTransport:
    """POST with aiohttp: no proxy from the environment, no redirects, a time limit and a size limit.

    The session opens with the first request, inside the running loop; ``close`` ends it.
    """

    def __init__(self, *, timeout_s: float = 10.0, answer_max: int = 32 * 2**20) -> None:
        """Keep the limits.

        Args:
            timeout_s: seconds for the whole exchange, > 0.
            answer_max: bytes of an answer after decompression, > 0.
        """
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, connect=min(timeout_s, 5.0))
        self._answer_max = answer_max
        self._session: aiohttp.ClientSession | None = None

    async def post(self, url: str, body: bytes) -> bytes:
        """Return the body of the answer; see ``Transport``."""
        if self._session is None:
            self._session = aiohttp.ClientSession(trust_env=False, timeout=self._timeout)
        headers = {"Content-Type": "application/json"}
        reason, delivered = "", True
        try:
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
                if answer.status != 200:
                    raise EndpointFailed(f"HTTP status {answer.status}")
                return await self._read(answer)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL) as error:
            reason, delivered = f"no connection ({type(error).__name__})", False
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            reason = f"no answer ({type(error).__name__})"
        # Raised out here so that the client's error, which may quote the URL, is not attached to it.
        raise EndpointFailed(reason, delivered=delivered)

    async def _read(self, answer: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for chunk in answer.content.iter_chunked(64 * 1024):
            body += chunk
            if len(body) > self._answer_max:
                raise EndpointFailed(f"the answer is larger than {self._answer_max} bytes")
        return bytes(body)

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One read: what to ask, and how its result must look."""

    method: str
    params: Sequence[Any]
    parse: Callable[[object], T]  #: returns the value or raises ``WrongShape``


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


@dataclass(slots=True)
class _Endpoint:
    number: int  #: place in the configuration, from 1
    url: str = field(repr=False)
    checked: bool = False  #: its chain id was right and nothing failed since
    rests_until: float = 0.0  #: loop time; until then it is asked last


class JsonRpc:
    """The endpoints of one network."""

    def __init__(self, urls: Sequence[str], transport: Transport, *, chain_id: int, batch_size: int = 100) -> None:
        """Keep the endpoints; nothing is asked yet.

        Args:
            urls: endpoints in order of preference, at least one.
            transport: how requests travel.
            chain_id: what every endpoint must answer to ``eth_chainId``.
            batch_size: calls in one request, >= 1; public providers allow about 100.

        Raises:
            InvalidInput: no endpoint.
        """
        if not urls:
            raise InvalidInput("give at least one RPC URL", field="rpc_urls")
        self.chain_id = chain_id
        self._transport = transport
        self._batch_size = batch_size
        self._endpoints = [_Endpoint(number, url) for number, url in enumerate(urls, 1)]

    async def read(self, calls: Sequence[Call[T]]) -> list[T]:
        """Return the parsed result of every call, in order.

        Calls beyond the batch size are split; one request is answered by one endpoint.

        Raises:
            CallReverted: an ``eth_call`` or ``eth_estimateGas`` was executed and failed.
            ChainUnavailable: no endpoint gave a usable answer to all of them.
        """
        results: list[T] = []
        for start in range(0, len(calls), self._batch_size):
            results += await self._read_batch(calls[start : start + self._batch_size])
        return results

    async def _read_batch(self, calls: Sequence[Call[T]]) -> list[T]:
        failures = []
        now = asyncio.get_running_loop().time()
        for endpoint in sorted(self._endpoints, key=lambda e: e.rests_until > now):
            try:
                await self._check(endpoint)
                answers = await self._exchange(endpoint, [(call.method, call.params) for call in calls])
                return [_parsed(call, answer) for call, answer in zip(calls, answers, strict=True)]
            except EndpointFailed as failure:
                self._rest(endpoint)
                failures.append(f"endpoint {endpoint.number}: {failure}")
        raise ChainUnavailable("no RPC endpoint gave a usable answer: " + "; ".join(failures))

    async def send(self, raws: Sequence[bytes]) -> list[SendAnswer]:
        """Send signed transactions to every endpoint and return one answer each, in order.

        Returns as soon as every endpoint answered, or every transaction is in some pool and the slower
        endpoints had a second more.
        """
        if not raws:
            return []
        tasks = [asyncio.ensure_future(self._send_to(endpoint, raws)) for endpoint in self._endpoints]
        try:
            pending = set(tasks)
            while pending:
                taken = _all_taken(_merged(tasks, len(raws)))
                _, pending = await asyncio.wait(
                    pending,
                    timeout=_GRACE_S if taken else None,
                    return_when=asyncio.ALL_COMPLETED if taken else asyncio.FIRST_COMPLETED,
                )
                if taken:
                    break
            return _merged(tasks, len(raws))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send_to(self, endpoint: _Endpoint, raws: Sequence[bytes]) -> list[SendAnswer | None]:
        """Return this endpoint's answers; None where the transaction certainly did not reach it."""
        answers: list[SendAnswer | None] = []
        try:
            await self._check(endpoint)
        except EndpointFailed:
            self._rest(endpoint)
            return [None] * len(raws)
        for start in range(0, len(raws), self._batch_size):
            batch = raws[start : start + self._batch_size]
            try:
                calls = [("eth_sendRawTransaction", ["0x" + raw.hex()]) for raw in batch]
                items = await self._exchange(endpoint, calls, partial=True)
            except EndpointFailed as failure:
                self._rest(endpoint)
                lost = SendAnswer(SendKind.UNKNOWN, f"endpoint {endpoint.number}: {failure}")
                answers += [lost if failure.delivered else None] * len(batch)
                break  # the rest is not sent here: the endpoint would have to be checked again first
            else:
                answers += [_send_answer(raw, item) for raw, item in zip(batch, items, strict=True)]
        return answers + [None] * (len(raws) - len(answers))

    def _rest(self, endpoint: _Endpoint) -> None:
        endpoint.checked = False
        endpoint.rests_until = asyncio.get_running_loop().time() + _REST_S

    async def _check(self, endpoint: _Endpoint) -> None:
        """Make sure the endpoint serves this chain, unless that is known since its last failure."""
        if endpoint.checked:
            return
        (answer,) = await self._exchange(endpoint, [("eth_chainId", [])])
        try:
            found = None if isinstance(answer, NodeError) else quantity(answer)
        except WrongShape:
            found = None
        if found is None:
            raise EndpointFailed("it does not tell its chain id", delivered=False)
        if found != self.chain_id:
            raise EndpointFailed(f"it serves chain {found}, not {self.chain_id}", delivered=False)
        endpoint.checked = True

    async def _exchange(
        self, endpoint: _Endpoint, calls: Sequence[tuple[str, Sequence[Any]]], *, partial: bool = False
    ) -> list[object]:
        """Return each call's result or ``NodeError``; with ``partial``, ``_MISSING`` where none came back."""
        batch = [
            {"jsonrpc": "2.0", "id": number, "method": method, "params": list(params)}
            for number, (method, params) in enumerate(calls, 1)
        ]
        body = json.dumps(batch if len(batch) > 1 else batch[0]).encode()
        found = _answers_by_id(await self._transport.post(endpoint.url, body))
        answers = [found.get(number, _MISSING) for number in range(1, len(batch) + 1)]
        if _MISSING in answers and not partial:
            reason = found.get(None)
            text = shorten(reason.message) if isinstance(reason, NodeError) else "answers are missing"
            raise EndpointFailed(text)
        return answers


_MISSING: object = object()


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


def _parsed(call: Call[T], answer: object) -> T:
    if isinstance(answer, NodeError):
        text = shorten(answer.message) or f"error {answer.code}"
        if call.method in ("eth_call", "eth_estimateGas") and answer.reverted:
            raise CallReverted(f"{call.method} failed: {text}")
        raise EndpointFailed(f"{call.method}: {text}")
    try:
        return call.parse(answer)
    except WrongShape as problem:
        raise EndpointFailed(f"{call.method}: {problem}") from None


def _send_answer(raw: bytes, item: object) -> SendAnswer:
    if isinstance(item, NodeError):
        return classify(item.message)
    # A node that names another hash did not take these bytes, or lies: either way nothing is known.
    if isinstance(item, str) and item.lower() == tx_hash(raw):
        return SendAnswer(SendKind.ACCEPTED)
    return SendAnswer(SendKind.UNKNOWN, "the node did not answer with the hash of what was sent")


def _merged(tasks: Sequence["asyncio.Task[list[SendAnswer | None]]"], count: int) -> list[SendAnswer]:
    """Return the answers so far, of all endpoints together."""
    rows = [task.result() for task in tasks if task.done() and not task.cancelled()]
    late = [SendAnswer(SendKind.UNKNOWN, "an endpoint has not answered")] * (len(tasks) - len(rows))
    return [merge([*(a for row in rows if (a := row[n]) is not None), *late]) for n in range(count)]


def _all_taken(answers: Sequence[SendAnswer]) -> bool:
    return all(answer.kind in (SendKind.ACCEPTED, SendKind.KNOWN) for answer in answers)


def quantity(value: object) -> int:
    """Return the number in a JSON-RPC quantity: 0x and 1 to 64 hex digits.

    Raises:
        WrongShape: anything else.
    """
    digits = _hex_digits(value)
    if not 1 <= len(digits) <= 64:
        raise WrongShape("a quantity of 1 to 64 hex digits was expected")
    return int(digits, 16)


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
