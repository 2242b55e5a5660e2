"""How requests reach fake nodes: the transport a simulator gives to ``JsonRpc``."""

import asyncio

from outlay.chains.fake.network import FakeNetwork
from outlay.chains.fake.node import Way
from outlay.chains.transport import EndpointFailed, refusal


class FakeTransport:
    """Carries requests to the nodes of a fake network, or loses them, as each node's mood says."""

    def __init__(self, network: FakeNetwork) -> None:
        """Keep the network."""
        self._nodes = {node.url: node for node in network.nodes}

    async def post(self, url: str, body: bytes) -> bytes:
        """Return the body of a node's answer; see ``Transport``.

        It lets other tasks run at least once before the request arrives and once before the answer does.
        """
        node = self._nodes.get(url)
        if node is None:
            raise EndpointFailed("no connection (no such node)", delivered=False)
        mood = node.mood_for(body)
        await asyncio.sleep(mood.delay_s)
        if mood.way is Way.NO_CONNECTION:
            raise EndpointFailed("no connection (refused)", delivered=False)
        if mood.way is Way.REQUEST_LOST:
            raise EndpointFailed("no answer (TimeoutError)")
        if mood.status != 200:
            raise refusal(mood.status, None if mood.retry_after_s is None else str(mood.retry_after_s))
        answer = node.answer(body, mood)
        await asyncio.sleep(0)
        if mood.way is Way.ANSWER_LOST:
            raise EndpointFailed("no answer (TimeoutError)")
        return b"<html>" + answer[:20] if mood.way is Way.GARBLED else answer

    async def close(self) -> None:
        """Do nothing: there is no connection."""
