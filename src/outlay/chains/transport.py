"""How a request travels to an endpoint, and what it means when no answer comes back.

Nothing raised here contains a URL: providers put API keys into it.
"""

from typing import Protocol

import aiohttp


class EndpointFailed(Exception):
    """One endpoint gave no usable answer. Stays inside ``chains``."""

    def __init__(self, reason: str, *, delivered: bool = True, hung: bool = False) -> None:
        super().__init__(reason)
        self.delivered = delivered  #: False only if the request certainly never arrived
        self.hung = hung  #: it took all the time there was

    def before_use(self) -> "EndpointFailed":
        """Return the same failure for a request that was not even sent because of it."""
        return EndpointFailed(str(self), delivered=False, hung=self.hung)


class Throttled(EndpointFailed):
    """The endpoint was asked too often. It works; it wants to be asked later."""

    def __init__(self, reason: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s  #: seconds it asked to be left alone, if it said so

    def before_use(self) -> "Throttled":
        """Return the same failure for a request that was not even sent because of it."""
        failure = Throttled(str(self), retry_after_s=self.retry_after_s)
        failure.delivered = False
        return failure


class TooLarge(EndpointFailed):
    """The endpoint does not take so many calls at once."""


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
            # Each endpoint bounds its own requests; a bound over all would let one that hangs starve the others.
            connector = aiohttp.TCPConnector(limit=0)
            self._session = aiohttp.ClientSession(trust_env=False, timeout=self._timeout, connector=connector)
        headers = {"Content-Type": "application/json"}
        reason, delivered, hung = "", True, False
        try:
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
                if answer.status != 200:
                    raise refusal(answer.status, answer.headers.get("Retry-After"))
                return await self._read(answer)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL) as error:
            reason, delivered = f"no connection ({type(error).__name__})", False
            hung = isinstance(error, TimeoutError)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            reason, hung = f"no answer ({type(error).__name__})", isinstance(error, TimeoutError)
        # Raised out here so that the client's error, which may quote the URL, is not attached to it.
        raise EndpointFailed(reason, delivered=delivered, hung=hung)

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


def refusal(status: int, retry_after: str | None) -> EndpointFailed:
    """Return what an HTTP status other than 200 means. Dates in Retry-After are left unread: clocks differ."""
    reason = f"HTTP status {status}"
    wait = float(retry_after) if retry_after is not None and retry_after.isascii() and retry_after.isdigit() else None
    if status == 429 or (status == 503 and wait is not None):
        return Throttled(reason, retry_after_s=wait)
    return TooLarge(reason) if status == 413 else EndpointFailed(reason)
