"""JSON-RPC over several endpoints of one network.

What decides is told alike by two endpoints; other reads go to the first that gives a usable answer; sends go to
all. Endpoints are named by their place in the configuration, for their URLs may hold keys.
"""

import asyncio
from collections.abc import Sequence
from typing import TypeVar

import structlog

from outlay.chains import CallReverted, Head, SendAnswer, SendKind
from outlay.chains.answers import merge
from outlay.chains.endpoint import Endpoint, Watcher
from outlay.chains.jsonrpc import Call, WrongShape, octets, quantity
from outlay.chains.transport import EndpointFailed, HttpTransport, Throttled, Transport
from outlay.core.errors import ChainUnavailable, InvalidInput

__all__ = ["Call", "EndpointFailed", "HttpTransport", "JsonRpc", "Transport", "WrongShape", "octets", "quantity"]

T = TypeVar("T")
log = structlog.get_logger()

_GRACE_S = 1.0


class JsonRpc:
    """The endpoints of one network."""

    def __init__(
        self,
        urls: Sequence[str],
        transport: Transport,
        *,
        chain_id: int,
        agreement: bool = False,
        batch_size: int = 100,
        watcher: Watcher | None = None,
    ) -> None:
        """Keep the endpoints; nothing is asked yet.

        Args:
            urls: endpoints in order of preference, at least one.
            transport: how requests travel.
            chain_id: what every endpoint must answer to ``eth_chainId``.
            agreement: whether what decides must be told alike by two endpoints; else any one is believed.
            batch_size: calls in one request, >= 1; public providers allow about 100.
            watcher: is told of each request, for figures.

        Raises:
            InvalidInput: no endpoint, or one alone that should agree with another.
        """
        if not urls:
            raise InvalidInput("give at least one RPC URL", field="rpc_urls")
        if agreement and len(urls) < 2:
            raise InvalidInput("two endpoints are needed to agree", field="rpc_urls")
        self.chain_id = chain_id
        self.agreement = agreement
        self._endpoints = [
            Endpoint(number, url, transport, chain_id=chain_id, batch_size=batch_size, watcher=watcher)
            for number, url in enumerate(urls, 1)
        ]

    def standing(self, now: float) -> list[tuple[int, bool, Head | None]]:
        """Return of each endpoint its number, whether it works, and its newest block as it last said.

        Args:
            now: of the event loop's clock; may be asked from any thread.
        """
        return [(each.number, not each.rests_at(now), each.head) for each in self._endpoints]

    async def read(self, calls: Sequence[Call[T]]) -> list[T]:
        """Return the parsed result of every call, in order, as one endpoint tells it. Nothing is decided by it.

        Raises:
            CallReverted: an ``eth_call`` or ``eth_estimateGas`` was executed and failed.
            ChainUnavailable: no endpoint gave a usable answer to all of them.
        """
        if not calls:
            return []
        failures = []
        order = self._order()
        attempts = [(endpoint, len(order) == 1) for endpoint in order]
        for endpoint, patient in attempts:
            try:
                told = await endpoint.read(calls, patient=patient)
                if not self.agreement:
                    endpoint.note_heads(told)
                return told
            except EndpointFailed as failure:
                if isinstance(failure, Throttled) and not patient:
                    attempts.append((endpoint, True))  # waited for, should the others fail
                else:
                    failures.append(f"endpoint {endpoint.number}: {failure}")
        raise ChainUnavailable("no RPC endpoint gave a usable answer: " + "; ".join(failures))

    async def agreed(self, calls: Sequence[Call[T]]) -> list[T]:
        """Return the result of every call, in order, as two endpoints tell it (one, where that is enough).

        Where two differ, a third is asked: what two tell alike counts. None beside one value is None in the end, which
        decides nothing.

        Raises:
            CallReverted: an ``eth_call`` was executed and failed.
            ChainUnavailable: no two of those that differ tell the same, or fewer than two gave a usable answer.
        """
        if not self.agreement:
            return await self.read(calls)
        votes: list[list[tuple[int, T]]] = [[] for _ in calls]
        failures: list[str] = []
        queue = self._believed()
        answered = 0
        while queue and (unsettled := [n for n, cast in enumerate(votes) if not _is_settled(cast)]):
            wave, queue = queue[: max(1, 2 - answered)], queue[max(1, 2 - answered) :]
            asked = [calls[n] for n in unsettled]
            told = await asyncio.gather(*(_told(endpoint, asked) for endpoint in wave))
            for endpoint, answers in zip(wave, told, strict=True):
                if isinstance(answers, CallReverted):
                    raise answers
                if isinstance(answers, EndpointFailed):
                    failures.append(f"endpoint {endpoint.number}: {answers}")
                    continue
                answered += 1
                for n, answer in zip(unsettled, answers, strict=True):
                    votes[n].append((endpoint.number, answer))
        for call, cast in zip(calls, votes, strict=True):
            self._check_unity(call.method, cast)
        if calls and answered < 2:
            raise ChainUnavailable("two RPC endpoints have to agree: " + "; ".join(failures or ["one alone is usable"]))
        return [_outcome(cast) for cast in votes]

    def _check_unity(self, method: str, cast: Sequence[tuple[int, object]]) -> None:
        """Raise ChainUnavailable if endpoints told different things and no two of them the same: nothing is decided."""
        told = [(number, answer) for number, answer in cast if answer is not None]
        if any(answer != told[0][1] for _, answer in told):
            numbers = sorted(number for number, _ in told)
            log.warning("rpc_disagreement", chain_id=self.chain_id, method=method, endpoints=numbers)
            if _agreement(cast) is not None:
                return
            raise ChainUnavailable(f"endpoints {' and '.join(map(str, numbers))} disagree about {method}")

    async def agreed_head(self, calls: Sequence[Call[Head]]) -> Head | int:
        """Ask every endpoint and return the highest block that two of them have reached.

        Args:
            calls: the newest block, and last the block that counts (the same call, or another).

        Returns:
            That block if two endpoints told it; else its number, to be asked for.

        Raises:
            ChainUnavailable: two endpoints differ about it, or fewer than two gave a usable answer.
        """
        told: list[tuple[int, Head]] = []
        polled, failures = await self._poll(calls)
        for endpoint, heads in polled:
            self._observe(endpoint, heads[0])
        told = [(endpoint.number, heads[-1]) for endpoint, heads in polled if not self._went_back(endpoint)]
        if len(told) < 2:
            raise ChainUnavailable("two RPC endpoints have to agree: " + "; ".join(failures or ["one alone is usable"]))
        number = sorted(head.number for _, head in told)[-2]
        same = [(endpoint, head) for endpoint, head in told if head.number == number]
        self._check_unity("eth_getBlockByNumber", same)
        return _agreement(same) or number

    async def _poll(self, calls: Sequence[Call[Head]]) -> tuple[list[tuple[Endpoint, list[Head]]], list[str]]:
        """Ask all endpoints at once; those that are much slower than two others are not waited for."""
        awake = [endpoint for endpoint in self._endpoints if not endpoint.rests]
        asked = awake if len(awake) > 1 else self._endpoints
        tasks = [asyncio.ensure_future(_told(endpoint, calls)) for endpoint in asked]
        try:
            pending = set(tasks)
            while pending:
                enough = sum(isinstance(task.result(), list) for task in tasks if task.done()) > 1
                _, pending = await asyncio.wait(
                    pending,
                    timeout=_GRACE_S if enough else None,
                    return_when=asyncio.ALL_COMPLETED if enough else asyncio.FIRST_COMPLETED,
                )
                if enough:
                    break
        finally:
            late = [task for task in tasks if not task.done()]
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        polled, failures = [], []
        for endpoint, task in zip(asked, tasks, strict=True):
            if task in late:
                if not endpoint.is_busy:
                    endpoint.fail(hung=True)
                continue
            answers = task.result()
            if isinstance(answers, list):
                polled.append((endpoint, answers))
            else:
                failures.append(f"endpoint {endpoint.number}: {answers}")
        return polled, failures

    def _observe(self, endpoint: Endpoint, head: Head) -> None:
        trusted = not self._went_back(endpoint)
        endpoint.head, endpoint.highest = head, max(endpoint.highest, head.number)
        if trusted and self._went_back(endpoint):
            log.warning("rpc_went_back", chain_id=self.chain_id, endpoint=endpoint.number, block=head.number)

    def _went_back(self, endpoint: Endpoint) -> bool:
        """Whether its head is behind one it told before (and others told too): it is not believed until it is back."""
        others = max((each.highest for each in self._endpoints if each is not endpoint), default=0)
        return endpoint.head is not None and endpoint.head.number < min(endpoint.highest, others)

    def _order(self) -> list[Endpoint]:
        """Return all endpoints, the ones to be asked first in front."""
        return sorted(self._endpoints, key=lambda endpoint: (endpoint.rests, endpoint.is_busy))

    def _believed(self) -> list[Endpoint]:
        """Return the endpoints whose word counts, in order: laggards do not while two others are there."""
        sound = [endpoint for endpoint in self._order() if not self._went_back(endpoint)]
        heads = [endpoint.head for endpoint in sound if endpoint.head is not None]
        best = max(heads, key=lambda head: head.number, default=None)
        current = [endpoint for endpoint in sound if best is None or not endpoint.lags(best)]
        return current if sum(not endpoint.rests for endpoint in current) > 1 else sound

    async def send(self, raws: Sequence[bytes]) -> list[SendAnswer]:
        """Send signed transactions to every endpoint and return one answer each, in order.

        Returns as soon as every endpoint answered, or every transaction is in some pool and the slower
        endpoints had a second more.
        """
        if not raws:
            return []
        tasks = [asyncio.ensure_future(endpoint.send(raws)) for endpoint in self._endpoints]
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


async def _told(endpoint: Endpoint, calls: Sequence[Call[T]]) -> list[T] | EndpointFailed | CallReverted:
    """Return what an endpoint tells, or how it failed."""
    try:
        return await endpoint.read(calls)
    except (EndpointFailed, CallReverted) as failure:
        return failure


def _is_settled(cast: Sequence[tuple[int, object]]) -> bool:
    """Whether no further endpoint needs to be asked: two told the same, or two told nothing and nobody a value."""
    told = [answer for _, answer in cast if answer is not None]
    return _agreement(cast) is not None or (not told and len(cast) > 1)


def _agreement(cast: Sequence[tuple[int, T]]) -> T | None:
    """Return what two told alike while nobody else was believed by two; None: there is no such value."""
    told = [answer for _, answer in cast if answer is not None]
    alike = [answer for n, answer in enumerate(told) if told.count(answer) > 1 and answer not in told[:n]]
    return alike[0] if len(alike) == 1 else None


def _outcome(cast: Sequence[tuple[int, T]]) -> T:
    """Return what two told alike; None if some told nothing and no two told a value."""
    agreed = _agreement(cast)
    return agreed if agreed is not None else next(answer for _, answer in cast if answer is None)


def _merged(tasks: Sequence["asyncio.Task[list[SendAnswer | None]]"], count: int) -> list[SendAnswer]:
    """Return the answers so far, of all endpoints together."""
    rows = [task.result() for task in tasks if task.done() and not task.cancelled()]
    late = [SendAnswer(SendKind.UNKNOWN, "an endpoint has not answered")] * (len(tasks) - len(rows))
    return [merge([*(a for row in rows if (a := row[n]) is not None), *late]) for n in range(count)]


def _all_taken(answers: Sequence[SendAnswer]) -> bool:
    return all(answer.kind in (SendKind.ACCEPTED, SendKind.KNOWN) for answer in answers)
