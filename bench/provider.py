"""A JSON-RPC endpoint before the node that misbehaves as told: ``python -m bench.provider PORT NODE_URL``.

It answers no more requests a second than allowed, with 429 and Retry-After beyond, as public providers do; and it may
swallow the transactions of one sender: it answers their hash and passes nothing on, so they are never mined.
``PUT /`` with JSON {"per_second": n or null, "swallow": address or null} sets it; ``GET /`` answers what it counted.
"""

import contextlib
import json
import sys
import time
from typing import Any

import aiohttp
from aiohttp import web
from coincurve import PublicKey

from outlay.codec.evm import address_of, tx_hash
from outlay.codec.signed import read_signed
from outlay.core.errors import OutlayError

_SEND = "eth_sendRawTransaction"
_RETRY_AFTER = "1"


class Provider:
    """One endpoint."""

    def __init__(self, node: str) -> None:
        """Stand before the node at a URL."""
        self._node = node
        self._per_second: float | None = None
        self._swallow: str | None = None
        self._tokens, self._at = 0.0, time.monotonic()
        self._session: aiohttp.ClientSession | None = None
        self._counts = {"answered": 0, "refused": 0, "calls": 0, "swallowed": 0}

    async def set(self, request: web.Request) -> web.Response:
        """Take settings, and count anew."""
        given = await request.json()
        self._per_second, self._swallow = given["per_second"], given["swallow"]
        self._tokens, self._at = float(self._per_second or 0), time.monotonic()
        self._counts = dict.fromkeys(self._counts, 0)
        return web.json_response({})

    async def show(self, _request: web.Request) -> web.Response:
        """Answer what was counted."""
        return web.json_response(self._counts)

    async def call(self, request: web.Request) -> web.Response:
        """Pass one request on, or refuse it."""
        if not self._take():
            self._counts["refused"] += 1
            return web.Response(status=429, headers={"Retry-After": _RETRY_AFTER})
        self._counts["answered"] += 1
        body = json.loads(await request.read())
        calls = body if isinstance(body, list) else [body]
        self._counts["calls"] += len(calls)
        answers: dict[Any, Any] = {}
        passed = []
        for each in calls:
            swallowed = self._swallowed(each)
            if swallowed is None:
                passed.append(each)
            else:
                answers[each["id"]] = {"jsonrpc": "2.0", "id": each["id"], "result": swallowed}
        if passed:
            answers.update({each["id"]: each for each in await self._ask(passed)})
        listed = [answers[each["id"]] for each in calls]
        return web.json_response(listed if isinstance(body, list) else listed[0])

    async def close(self) -> None:
        """Let go of the node."""
        if self._session is not None:
            await self._session.close()

    def _take(self) -> bool:
        """Take one of the requests that are allowed now: as many at once as in a second."""
        if self._per_second is None:
            return True
        now = time.monotonic()
        self._tokens = min(self._per_second, self._tokens + (now - self._at) * self._per_second)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _swallowed(self, call: dict[str, Any]) -> str | None:
        """Return the hash of a transaction that is not passed on; None for anything else."""
        if self._swallow is None or call.get("method") != _SEND:
            return None
        raw = bytes.fromhex(call["params"][0][2:])
        with contextlib.suppress(OutlayError):
            if address_of(read_signed(raw, recover=_recover).public_key) == self._swallow:
                self._counts["swallowed"] += 1
                return tx_hash(raw)
        return None

    async def _ask(self, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if self._session is None:
            self._session = aiohttp.ClientSession(trust_env=False)
        async with self._session.post(self._node, json=calls) as answer:
            listed: list[dict[str, Any]] = await answer.json(content_type=None)
            return listed


def _recover(digest: bytes, signature: bytes) -> bytes:
    return PublicKey.from_signature_and_message(signature, digest, hasher=None).format(compressed=False)


def main() -> None:
    """Serve until ended."""
    provider = Provider(sys.argv[2])
    app = web.Application(client_max_size=2**28)
    app.add_routes([web.put("/", provider.set), web.get("/", provider.show), web.post("/", provider.call)])
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)


if __name__ == "__main__":
    main()
