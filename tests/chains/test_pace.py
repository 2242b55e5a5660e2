"""Providers that allow only so much: what is too much waits, and nothing of it is lost. All in virtual time."""

import asyncio
import itertools
import json
import random
from collections import deque
from typing import Any

import pytest

from outlay.chains import Finality, SendKind
from outlay.chains.evm import EvmChain
from outlay.chains.pace import START_WIDTH, Pace
from outlay.chains.rpc import EndpointFailed, JsonRpc
from outlay.chains.transport import Throttled, TooLarge
from outlay.core.errors import ChainUnavailable
from tests.chains.nodes import COIN, DEAD, NONCE, OWNER, Error, FakeNodes, node, rpc_of
from tests.chains.test_sends import TAKES
from tests.sim.loop import VirtualLoop


def in_virtual_time(main: Any) -> float:
    """Run ``main`` under virtual time and return the seconds it took."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main)
        return float(runner.get_loop().time())


class Limited(FakeNodes):
    """Allows ``per_second`` requests (or calls) in any second, and says so in one of the ways providers do."""

    def __init__(
        self, *, per_second: int, says: str = "status", counts: str = "requests", delay: float = 0.05, **nodes: Any
    ) -> None:
        super().__init__(**nodes)
        self.per_second, self.says, self.counts, self.delay = per_second, says, counts, delay
        self.let_through: deque[float] = deque()
        self.refused = 0
        self.sizes: list[int] = []

    async def post(self, url: str, body: bytes) -> bytes:
        """Answer, or refuse."""
        now = asyncio.get_running_loop().time()
        document = json.loads(body)
        calls = document if isinstance(document, list) else [document]
        cost = len(calls) if self.counts == "calls" else 1
        while self.let_through and self.let_through[0] <= now - 1:
            self.let_through.popleft()
        if len(self.let_through) + cost > self.per_second:
            self.refused += 1
            if self.says == "status":
                raise Throttled("HTTP status 429")
            if self.says == "retry-after":
                raise Throttled("HTTP status 429", retry_after_s=1)
            errors = [{"id": call["id"], "error": {"code": -32005, "message": "slow down"}} for call in calls]
            return json.dumps(errors if isinstance(document, list) else errors[0]).encode()
        self.let_through.extend([now] * cost)
        self.sizes.append(len(calls))
        await asyncio.sleep(self.delay)
        return await super().post(url, body)


@pytest.mark.parametrize("says", ["status", "retry-after", "error"])
def test_a_hundred_workers_get_through_ten_requests_a_second(says: str) -> None:
    nodes = Limited(per_second=10, says=says, a=node(eth_getBalance="0x5", eth_sendRawTransaction=_takes))

    async def work() -> None:
        chain = EvmChain(rpc_of(nodes), Finality(blocks=1))

        async def pay(number: int) -> None:
            (answer,) = await chain.send_raw([bytes([2, number])])
            assert answer.kind is SendKind.ACCEPTED
            assert await chain.balance_at(OWNER, COIN, 9) == 5

        await asyncio.gather(*(pay(number) for number in range(100)))

    seconds = in_virtual_time(work())
    # 201 requests take 20 s at best. Much is used of what is allowed, and little asked in vain.
    print(f"{seconds:.0f} s, {nodes.refused} refused")
    assert seconds < 35
    assert nodes.refused < 60


def _takes(raw: str) -> Any:
    return TAKES("eth_sendRawTransaction", [raw])


def test_where_calls_are_counted_batches_shrink_until_they_fit() -> None:
    for says in ("status", "error"):
        nodes = Limited(per_second=10, says=says, counts="calls", a=node(eth_getTransactionCount="0x5"))

        async def read(nodes: Limited = nodes) -> None:
            assert await rpc_of(nodes).read([NONCE] * 95) == [5] * 95

        assert in_virtual_time(read()) < 60
        assert sum(nodes.sizes) == 96
        assert max(nodes.sizes) <= 10


class Small(FakeNodes):
    """Takes seven calls at once."""

    def __init__(self, says: str, **nodes: Any) -> None:
        super().__init__(**nodes)
        self.says = says
        self.refused: list[int] = []

    async def post(self, url: str, body: bytes) -> bytes:
        """Answer, or refuse."""
        document = json.loads(body)
        if not isinstance(document, list) or len(document) <= 7:
            return await super().post(url, body)
        self.refused.append(len(document))
        if self.says == "status":
            raise TooLarge("HTTP status 413")
        # geth answers the first call alone; Besu gives it the code of a limit exceeded.
        error = {"code": -32005, "message": "Number of requests exceeds max batch size"}
        return json.dumps(
            [{"id": 1, "error": error}] if self.says == "first" else {"id": None, "error": error}
        ).encode()


@pytest.mark.parametrize("says", ["status", "first", "whole"])
def test_a_batch_that_is_too_large_is_halved_once_and_for_all(says: str) -> None:
    async def read() -> None:
        rpc = rpc_of(nodes)
        assert await rpc.read([NONCE] * 250) == [5] * 250
        assert await rpc.read([NONCE] * 250) == [5] * 250

    nodes = Small(says, a=node(eth_getTransactionCount="0x5"))
    assert in_virtual_time(read()) == 0
    assert nodes.refused == [100, 50, 25, 12]


def test_only_the_calls_of_a_batch_that_were_refused_are_asked_again() -> None:
    asked: list[str] = []

    def balance(address: str, tag: str) -> str:
        asked.append(tag)
        if asked.count(tag) == 1 and int(tag, 16) % 2:
            raise Error("project ID request rate exceeded", -32005)
        return tag

    async def read() -> None:
        chain = EvmChain(rpc_of(FakeNodes(a=node(eth_getBalance=balance))), Finality(blocks=1))
        calls = [chain.balance_at(OWNER, COIN, 7)]
        assert await asyncio.gather(*calls) == [7]

    in_virtual_time(read())
    assert asked == ["0x7", "0x7"]


def test_a_send_that_is_refused_for_the_pace_is_sent_again() -> None:
    seen: list[str] = []

    def picky(raw: str) -> Any:
        seen.append(raw)
        if raw == "0x0202" and seen.count(raw) < 3:
            raise Error("429 Too Many Requests: over rate limit")
        return _takes(raw)

    async def send() -> None:
        answers = await rpc_of(FakeNodes(a=node(eth_sendRawTransaction=picky))).send([b"\2\1", b"\2\2", b"\2\3"])
        assert [answer.kind for answer in answers] == [SendKind.ACCEPTED] * 3

    in_virtual_time(send())
    assert sorted(seen) == ["0x0201", "0x0202", "0x0202", "0x0202", "0x0203"]


class Full(FakeNodes):
    """Has nothing left today."""

    def __init__(self, wait: float | None) -> None:
        super().__init__(a=node())
        self.wait, self.posts = wait, 0

    async def post(self, url: str, body: bytes) -> bytes:
        """Tell the chain id alone."""
        self.posts += 1
        if b"eth_chainId" in body:
            return await super().post(url, body)
        raise Throttled("HTTP status 429", retry_after_s=self.wait)


def test_a_refusal_with_the_code_of_a_limit_is_a_refusal() -> None:
    """Besu gives -32005 to a gas limit above that of the block: sending it again would help nobody."""
    seen: list[str] = []

    def refuses(raw: str) -> Any:
        seen.append(raw)
        raise Error("Transaction gas limit exceeds block gas limit", -32005)

    async def send() -> None:
        (answer,) = await rpc_of(FakeNodes(a=node(eth_sendRawTransaction=refuses))).send([b"\2\1"])
        assert answer.kind is SendKind.REFUSED

    assert in_virtual_time(send()) == 0
    assert seen == ["0x0201"]


@pytest.mark.parametrize(("wait", "most"), [(None, 22), (30.0, 22), (7200.0, 2)])
def test_who_is_throttled_for_long_is_told_so(wait: float | None, most: int) -> None:
    async def ask() -> None:
        rpc = rpc_of(nodes)
        with pytest.raises(ChainUnavailable, match="endpoint 1: HTTP status 429"):
            await rpc.read([NONCE])
        assert nodes.posts <= most
        (answer,) = await rpc.send([b"\2"])
        assert answer.kind is SendKind.RATE_LIMITED

    nodes = Full(wait)
    assert in_virtual_time(ask()) < 50 * ((wait or 8) if most > 2 else 1)


def test_an_endpoint_that_is_throttled_leaves_the_question_to_another() -> None:
    class Busy(FakeNodes):
        """The first endpoint wants a minute for itself."""

        async def post(self, url: str, body: bytes) -> bytes:
            if url == next(iter(self.nodes)) and b"eth_chainId" not in body:
                raise Throttled("HTTP status 429", retry_after_s=60)
            return await super().post(url, body)

    async def ask() -> None:
        rpc = rpc_of(Busy(a=node(eth_getTransactionCount="0x5"), b=node(eth_getTransactionCount="0x6")))
        for _ in range(3):
            assert await rpc.read([NONCE]) == [6]

    assert in_virtual_time(ask()) == 0


def test_a_throttled_endpoint_is_waited_for_when_the_others_fail() -> None:
    """The only one that works wants five seconds for itself."""

    class Busy(FakeNodes):
        """The first endpoint is throttled until then."""

        async def post(self, url: str, body: bytes) -> bytes:
            if url == next(iter(self.nodes)) and asyncio.get_running_loop().time() < 5:
                raise Throttled("HTTP status 429")
            return await super().post(url, body)

    async def ask() -> None:
        assert await rpc_of(Busy(a=node(eth_getTransactionCount="0x5"), b=DEAD)).read([NONCE]) == [5]

    assert 5 <= in_virtual_time(ask()) < 15


def test_an_error_of_the_node_is_no_failure_of_the_endpoint() -> None:
    """An internal error for one call must not send all others elsewhere, nor slow them down."""
    nodes = FakeNodes(
        a=node(eth_getTransactionCount="0x5", eth_getBalance=Error("internal error", -32603)),
        b=node(eth_getTransactionCount="0x6", eth_getBalance="0x7"),
    )

    async def ask() -> None:
        chain = EvmChain(rpc_of(nodes), Finality(blocks=1))
        for _ in range(50):
            assert await chain.balances(OWNER, [COIN]) == [7]
            assert await chain.nonce_at(OWNER) == 5

    assert in_virtual_time(ask()) == 0
    assert [name for name, method in nodes.asked if method == "eth_chainId"] == ["a", "b"]


def test_an_endpoint_gets_no_more_at_once_than_its_width() -> None:
    class Counting(FakeNodes):
        """Counts the requests in flight."""

        async def post(self, url: str, body: bytes) -> bytes:
            flying.append(1)
            most.append(len(flying))
            try:
                await asyncio.sleep(1)
                return await super().post(url, body)
            finally:
                flying.pop()

    async def ask() -> None:
        rpc = rpc_of(Counting(a=node(eth_getTransactionCount="0x5")))
        await rpc.read([NONCE])
        await asyncio.gather(*(rpc.read([NONCE]) for _ in range(200)))

    flying: list[int] = []
    most: list[int] = []
    in_virtual_time(ask())
    assert START_WIDTH <= max(most) < 2 * START_WIDTH


def test_the_pace_rises_slowly_and_falls_at_once() -> None:
    async def go() -> None:
        pace = Pace()
        for _ in range(20):
            async with pace.turn() as started:
                pace.answered()
        width = pace.width
        assert START_WIDTH < width < START_WIDTH + 2
        pace.refused(started, None)
        assert (pace.width, pace.rate) == (width / 2, 14)
        pace.refused(started, None)  # asked before the pace fell: the same refusal once more
        assert (pace.width, pace.rate) == (width / 2, 14)
        assert pace.is_closed
        began = asyncio.get_running_loop().time()
        async with pace.turn() as started:
            assert started - began == 0.25
        pace.refused(started, 3)
        assert pace.rate == pytest.approx(9.8)
        async with pace.turn() as started:
            assert started - began == 3.25
        for _ in range(20_000):
            pace.answered()
        assert pace.rate is None

    in_virtual_time(go())


def test_a_turn_that_is_given_up_is_taken_by_the_next() -> None:
    seed = random.SystemRandom().randrange(2**32)
    dice = random.Random(seed)

    async def go() -> None:
        pace = Pace()
        pace.width = 3.0
        done = 0

        async def work() -> None:
            nonlocal done
            async with pace.turn():
                await asyncio.sleep(dice.random())
            done += 1

        tasks = [asyncio.ensure_future(work()) for _ in range(300)]
        given_up = 0
        for task in tasks:
            await asyncio.sleep(0.1 * dice.random())
            if dice.random() < 0.5 and not task.done():
                given_up += task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert done + given_up == 300, seed
        async with asyncio.timeout(5):
            await asyncio.gather(*(work() for _ in range(3)))

    in_virtual_time(go())


def test_failures_rest_longer_each_time() -> None:
    """A dead endpoint in first place may not cost every read its timeout."""

    class Dies(FakeNodes):
        """The first endpoint hangs for ten seconds."""

        async def post(self, url: str, body: bytes) -> bytes:
            if url == next(iter(self.nodes)):
                hung.append(asyncio.get_running_loop().time())
                await asyncio.sleep(10)
                raise EndpointFailed("no answer (TimeoutError)", hung=True)
            return await super().post(url, body)

    async def ask() -> None:
        rpc: JsonRpc = rpc_of(Dies(a=node(), b=node(eth_getTransactionCount="0x6")))
        while asyncio.get_running_loop().time() < 1000:
            assert await rpc.read([NONCE]) == [6]
            await asyncio.sleep(1)

    hung: list[float] = []
    in_virtual_time(ask())
    pauses = [round(later - earlier) for earlier, later in itertools.pairwise(hung)]
    assert pauses[:5] == [15, 20, 30, 50, 90]
    assert len(hung) < 20
