"""One RPC endpoint: its chain id is checked, its pace kept, and what it last said of its head remembered."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from outlay.chains import Head, SendAnswer, SendKind
from outlay.chains.answers import classify, shorten
from outlay.chains.jsonrpc import (
    Call,
    NodeError,
    NodeRefused,
    WrongShape,
    parsed,
    quantity,
    read_answers,
    request_body,
)
from outlay.chains.pace import Pace
from outlay.chains.transport import EndpointFailed, Throttled, TooLarge, Transport
from outlay.codec.evm import tx_hash

T = TypeVar("T")
Asked = tuple[str, Sequence[Any]]  # method and parameters
Watcher = Callable[[int, str, float], None]
"""Is told of each request: the endpoint's number, how it went, and the seconds it took."""

REST_S: Final = 5.0
"""Seconds a failed endpoint is asked last; doubled with each failure that follows, up to ``REST_MAX_S``."""

REST_MAX_S: Final = 80.0
_REFUSALS_MAX: Final = 20  # in a row, for the same calls: some two minutes
_RETRY_AFTER_MAX_S: Final = 60.0  # who asks for more has no capacity left today: others are asked
_LAG_BLOCKS: Final = 3
_LAG_S: Final = 30

_UNDER_WAY: object = object()


class Endpoint:
    """One endpoint of a network. Nothing it raises or shows contains its URL."""

    def __init__(
        self,
        number: int,
        url: str,
        transport: Transport,
        *,
        chain_id: int,
        batch_size: int,
        watcher: Watcher | None = None,
    ) -> None:
        """Keep the parts; nothing is asked yet.

        Args:
            number: place in the configuration, from 1: the endpoint's name in messages.
            url: where it is.
            transport: how requests travel.
            chain_id: what it must answer to ``eth_chainId``.
            batch_size: calls in one request, >= 1; it shrinks to what the endpoint takes.
            watcher: is told of each request.
        """
        self.number = number
        self.head: Head | None = None  #: its newest block as it last said
        self.highest = 0  #: the highest block number it ever said
        self._url, self._transport, self._chain_id, self._watcher = url, transport, chain_id, watcher
        self._batch_max = self._batch = batch_size
        self._pace = Pace()
        self._checked = False  # its chain id was right and nothing failed since
        self._checking: asyncio.Task[EndpointFailed | None] | None = None
        self._failures = 0  # since the last answer
        self._hangs = 0
        self._rests_until = 0.0

    @property
    def rests(self) -> bool:
        """Whether it failed a short while ago."""
        return self.rests_at(asyncio.get_running_loop().time())

    def rests_at(self, now: float) -> bool:
        """Tell the same as of an instant of the event loop's clock."""
        return self._rests_until > now

    @property
    def is_busy(self) -> bool:
        """Whether it wants to be left alone for now."""
        return self._pace.is_closed

    def lags(self, best: Head) -> bool:
        """Whether what it last said is too far behind ``best`` to be asked beside others."""
        if self.head is None:
            return False
        return best.number - self.head.number > _LAG_BLOCKS or best.timestamp - self.head.timestamp > _LAG_S

    def note_heads(self, told: Sequence[object]) -> None:
        """Keep the highest block among answers: where one endpoint is believed, nobody else tells its head."""
        for each in told:
            if isinstance(each, Head) and each.number >= self.highest:
                self.head, self.highest = each, each.number

    def fail(self, *, hung: bool = False, at_least_s: float = 0.0) -> None:
        """Note a failure: ask it last for a while, and for its chain id again."""
        now = asyncio.get_running_loop().time()
        if now >= self._rests_until:
            self._failures += 1
        rest = max(at_least_s, min(REST_MAX_S, REST_S * 2 ** min(self._failures - 1, 10)))
        self._rests_until = max(self._rests_until, now + rest)
        self._checked = False
        self._hangs += hung

    async def read(self, calls: Sequence[Call[T]], *, patient: bool = True) -> list[T]:
        """Return the parsed result of every call, in order.

        Args:
            calls: what to ask.
            patient: wait as long as the endpoint says that it is asked too often; else that is a failure.

        Raises:
            CallReverted: an ``eth_call`` or ``eth_estimateGas`` was executed and failed.
            EndpointFailed: no usable answer to one of them.
        """
        found: dict[int, object] = {}
        try:
            await self._check(patient=patient)
            await self._ask([(call.method, call.params) for call in calls], found, patient=patient)
            return [parsed(call, found[n]) for n, call in enumerate(calls)]
        except EndpointFailed as failure:
            self._note(failure)
            raise

    async def send(self, raws: Sequence[bytes]) -> list[SendAnswer | None]:
        """Return what it says of each signed transaction; None where that certainly did not reach it."""
        found: dict[int, object] = {}
        lost = None
        try:
            await self._check()
            await self._ask([("eth_sendRawTransaction", ["0x" + raw.hex()]) for raw in raws], found, partial=True)
        except EndpointFailed as failure:
            self._note(failure)
            if failure.delivered:
                kind = SendKind.RATE_LIMITED if isinstance(failure, Throttled) else SendKind.UNKNOWN
                lost = SendAnswer(kind, f"endpoint {self.number}: {failure}")
        return [self._send_answer(raw, found.get(n), lost) for n, raw in enumerate(raws)]

    def _send_answer(self, raw: bytes, item: object, lost: SendAnswer | None) -> SendAnswer | None:
        if item is None or item is _UNDER_WAY:
            return lost if item is _UNDER_WAY else None
        if isinstance(item, NodeError):
            answer = classify(item.message)
            throttled = answer.kind is SendKind.UNKNOWN and item.throttled
            return SendAnswer(SendKind.RATE_LIMITED, answer.text) if throttled else answer
        # A node that names another hash did not take these bytes, or lies: either way nothing is known.
        if isinstance(item, str) and item.lower() == tx_hash(raw):
            return SendAnswer(SendKind.ACCEPTED)
        return SendAnswer(SendKind.UNKNOWN, "the node did not answer with the hash of what was sent")

    def _note(self, failure: EndpointFailed) -> None:
        # What a node refuses to answer, or wants to be asked later, says nothing against the endpoint.
        if isinstance(failure, Throttled):
            if (failure.retry_after_s or 0) > _RETRY_AFTER_MAX_S:
                self.fail(at_least_s=min(failure.retry_after_s or 0, 3600))
        elif not isinstance(failure, NodeRefused):
            self.fail(hung=failure.hung)

    async def _check(self, *, patient: bool = True) -> None:
        """Make sure the endpoint serves this chain, unless that is known since its last failure."""
        refusals = 0
        while not self._checked:
            if self._checking is None or self._checking.done():
                self._checking = asyncio.ensure_future(self._find_fault())
            # One question serves all who wait for it; the one who asked first may be gone by then.
            fault = await asyncio.shield(self._checking)
            refusals += 1
            if fault is None:
                self._checked = True
            elif not (isinstance(fault, Throttled) and patient and refusals <= _REFUSALS_MAX):
                raise fault.before_use()

    async def _find_fault(self) -> EndpointFailed | None:
        """Return why the endpoint cannot be used for this chain, or None."""
        found: dict[int, object] = {}
        try:
            await self._ask([("eth_chainId", [])], found, patient=False)
            chain_id = None if isinstance(found[0], NodeError) else quantity(found[0])
        except EndpointFailed as failure:
            return failure
        except WrongShape:
            chain_id = None
        if chain_id is None:
            return EndpointFailed("it does not tell its chain id")
        if chain_id != self._chain_id:
            return EndpointFailed(f"it serves chain {chain_id}, not {self._chain_id}")
        return None

    async def _ask(
        self, calls: Sequence[Asked], found: dict[int, object], *, partial: bool = False, patient: bool = True
    ) -> None:
        """Put the answer of each call into ``found``, by place; waits while the endpoint is asked too often.

        Raises:
            EndpointFailed: some have no answer; those that may have reached the endpoint are marked in ``found``.
        """
        waiting, refusals = list(range(len(calls))), 0
        while waiting:
            batch = waiting[: self._batch]
            found.update(dict.fromkeys(batch, _UNDER_WAY))
            try:
                answers = await self._exchange([calls[n] for n in batch], partial=partial)
            except TooLarge:
                if len(batch) == 1:
                    raise
                self._batch_max = self._batch = len(batch) // 2
                continue
            except Throttled as refusal:
                refusals += 1
                if not patient or refusals > _REFUSALS_MAX or (refusal.retry_after_s or 0) > _RETRY_AFTER_MAX_S:
                    raise
                # It may count the calls: then only fewer at once get through.
                self._batch = max(1, len(batch) // 2)
                continue
            found.update(zip(batch, answers, strict=True))
            again = [n for n in batch if _is_throttled(found[n])]
            none_passed = len(again) == len(batch)
            refusals = refusals + 1 if none_passed else 0
            self._batch = max(1, len(batch) // 2) if none_passed else min(self._batch_max, self._batch + 1)
            if again and (not patient or refusals > _REFUSALS_MAX):
                raise Throttled(_text(found[again[0]]))
            waiting = again + waiting[len(batch) :]

    async def _exchange(self, calls: Sequence[Asked], *, partial: bool) -> list[object]:
        """Ask once, in turn, and note how it went for the pace."""
        hangs = self._hangs
        async with self._pace.turn() as started:
            if self._hangs != hangs:
                raise EndpointFailed("it hung while this waited", delivered=False)
            outcome = "failed"
            try:
                body = await self._transport.post(self._url, request_body(calls))
                answers = read_answers(body, len(calls), partial=partial)
                outcome = "throttled" if any(_is_throttled(answer) for answer in answers) else "answered"
            except Throttled as refusal:
                outcome = "throttled"
                wait = refusal.retry_after_s
                if wait is None or wait <= _RETRY_AFTER_MAX_S:
                    self._pace.refused(started, wait)
                raise
            except TooLarge:
                outcome = "too_large"
                raise
            except asyncio.CancelledError:
                outcome = "abandoned"  # others have answered
                raise
            finally:
                if self._watcher is not None:
                    self._watcher(self.number, outcome, asyncio.get_running_loop().time() - started)
        if outcome == "throttled":
            self._pace.refused(started, None)
        else:
            self._pace.answered()
        self._failures = 0
        return answers


def _is_throttled(answer: object) -> bool:
    return isinstance(answer, NodeError) and answer.throttled


def _text(answer: object) -> str:
    return shorten(answer.message) if isinstance(answer, NodeError) else ""
