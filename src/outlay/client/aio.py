"""The client for ``asyncio``: the same calls, awaited."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from outlay.client.answers import Payout, PayoutBatch
from outlay.client.pace import Pace
from outlay.client.retry import Retry
from outlay.client.sync import Client

T = TypeVar("T")
_END = object()


class AsyncClient:
    """``Client`` for ``asyncio``; it works in threads of its own, so no other library is needed.

    A call that is cancelled may go on: what became of it is unknown. Repeat it with the same ``external_id``.
    """

    def __init__(
        self,
        url: str,
        *,
        credential_id: str,
        private_key: str,
        token: str = "",
        public_url: str | None = None,
        retry: Retry | None = None,
        pace: Pace | None = None,
        connections: int = 16,
    ) -> None:
        """Keep who calls, as ``Client`` does; ``connections`` calls are made at the same time at most."""
        self._client = Client(
            url,
            credential_id=credential_id,
            private_key=private_key,
            token=token,
            public_url=public_url,
            retry=retry,
            pace=pace,
        )
        self._threads = ThreadPoolExecutor(connections, thread_name_prefix="outlay-client")

    async def read(self, path: str) -> dict[str, Any]:
        """Return the answer of a GET."""
        return await self._run(self._client.read, path)

    async def write(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Sign a call and make it. See ``Client.write``."""
        return await self._run(self._client.write, method, path, body)

    async def pay(
        self,
        *,
        asset: str,
        recipient: str,
        amount: str,
        external_id: str | None = None,
        wallet_id: str | None = None,
        pool_id: str | None = None,
        memo: str | None = None,
        priority: str | None = None,
    ) -> Payout:
        """Request one payout with one signed call. See ``Client.pay``."""
        return await self._run(
            functools.partial(
                self._client.pay,
                asset=asset,
                recipient=recipient,
                amount=amount,
                external_id=external_id,
                wallet_id=wallet_id,
                pool_id=pool_id,
                memo=memo,
                priority=priority,
            )
        )

    async def pay_batch(self, items: Sequence[Mapping[str, Any]]) -> PayoutBatch:
        """Request up to 1,000 payouts under one signature. See ``Client.pay_batch``."""
        return await self._run(self._client.pay_batch, items)

    async def items(self, path: str, **query: str | int | None) -> AsyncIterator[dict[str, Any]]:
        """Yield what a list has, page by page. See ``Client.items``."""
        found: Iterator[dict[str, Any]] = self._client.items(path, **query)
        while (item := await self._run(next, found, _END)) is not _END:
            yield cast(dict[str, Any], item)

    async def payouts(self, **query: str | int | None) -> AsyncIterator[Payout]:
        """Yield payouts, the newest first. See ``Client.payouts``."""
        async for item in self.items("/v1/payouts", **query):
            yield cast(Payout, item)

    async def _run(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    async def close(self) -> None:
        """Wait for the calls that are under way, and end the threads."""
        await asyncio.to_thread(self._threads.shutdown)

    async def __aenter__(self) -> Self:
        """Use it in ``async with``."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        await self.close()
