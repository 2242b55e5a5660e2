"""HTTP: limits, failures, and what they say about delivery."""

import asyncio
import traceback
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from outlay.chains.rpc import EndpointFailed, HttpTransport
from outlay.chains.transport import Throttled, TooLarge


class Server:
    """A real HTTP server whose behaviour a test sets."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[str] = []
        self.reply: Callable[[web.Request], Any] = lambda request: web.Response(text="{}")

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        self.requests.append(request.path)
        reply = self.reply(request)
        response: web.StreamResponse = await reply if asyncio.iscoroutine(reply) else reply
        return response


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """Run a server on a free port."""
    server = Server()
    app = web.Application()
    app.router.add_post("/{path:.*}", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/canary-key"
    yield server
    await runner.cleanup()


@pytest.fixture
async def transport() -> AsyncIterator[HttpTransport]:
    """Return a transport with short limits."""
    transport = HttpTransport(timeout_s=0.5, answer_max=1000)
    yield transport
    await transport.close()


async def failure(transport: HttpTransport, url: str) -> EndpointFailed:
    """Return how a POST fails, after checking that it shows no URL."""
    with pytest.raises(EndpointFailed) as failed:
        await transport.post(url, b"{}")
    shown = "".join(traceback.format_exception(failed.value))
    assert "canary" not in shown
    assert failed.value.__context__ is None
    return failed.value


async def test_http_brings_the_answer(server: Server, transport: HttpTransport) -> None:
    async def echo(request: web.Request) -> web.Response:
        assert request.content_type == "application/json"
        return web.Response(body=await request.read() * 2)

    server.reply = echo
    assert await transport.post(server.url, b"{}") == b"{}{}"


async def test_http_ignores_proxies_of_the_environment(
    server: Server, transport: HttpTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert await transport.post(server.url, b"{}") == b"{}"


async def test_http_follows_no_redirect(server: Server, transport: HttpTransport) -> None:
    server.reply = lambda request: web.Response(status=307, headers={"Location": "/elsewhere"})
    assert "HTTP status 307" in str(await failure(transport, server.url))
    assert server.requests == ["/canary-key"]


async def test_http_reads_no_more_than_the_limit(server: Server, transport: HttpTransport) -> None:
    server.reply = lambda request: web.Response(text="x" * 1001)
    assert "larger than 1000" in str(await failure(transport, server.url))
    server.reply = lambda request: web.Response(text="x" * 1000)
    assert len(await transport.post(server.url, b"{}")) == 1000

    def bomb(request: web.Request) -> web.Response:
        response = web.Response(text="x" * 1_000_000)
        response.enable_compression(web.ContentCoding.gzip)
        return response

    server.reply = bomb
    assert "larger than 1000" in str(await failure(transport, server.url))


async def test_http_gives_up_in_time_and_then_anything_may_have_happened(
    server: Server, transport: HttpTransport
) -> None:
    async def stall(request: web.Request) -> web.Response:
        await asyncio.sleep(2)
        return web.Response()

    server.reply = stall
    failed = await failure(transport, server.url)
    assert failed.delivered
    assert "no answer" in str(failed)


async def test_http_tells_when_nothing_was_delivered(transport: HttpTransport, unused_tcp_port: int) -> None:
    for url in (f"http://127.0.0.1:{unused_tcp_port}/canary-key", "nonsense-canary", "http://[canary"):
        assert not (await failure(transport, url)).delivered


async def test_http_calls_a_cut_connection_unknown(server: Server, transport: HttpTransport) -> None:
    def cut(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    server.reply = cut
    assert (await failure(transport, server.url)).delivered


async def test_http_errors_are_failures(server: Server, transport: HttpTransport) -> None:
    server.reply = lambda request: web.Response(status=int(request.path.rsplit("/")[-1]), text="{}")
    for status in (400, 401, 404, 500, 502, 503):
        failed = await failure(transport, f"{server.url}/{status}")
        assert str(failed) == f"HTTP status {status}"
        assert not isinstance(failed, Throttled | TooLarge)


@pytest.mark.parametrize(
    ("status", "headers", "wait"),
    [
        (429, {}, None),
        (429, {"Retry-After": "7"}, 7),
        (429, {"Retry-After": "0"}, 0),
        (429, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        (429, {"Retry-After": "-5"}, None),
        (429, {"Retry-After": "1e9"}, None),
        (503, {"Retry-After": "3"}, 3),
    ],
)
async def test_http_tells_that_it_is_asked_too_often(
    server: Server, transport: HttpTransport, status: int, headers: dict[str, str], wait: float | None
) -> None:
    server.reply = lambda request: web.Response(status=status, headers=headers)
    failed = await failure(transport, server.url)
    assert isinstance(failed, Throttled)
    assert failed.retry_after_s == wait


async def test_http_tells_that_too_much_was_asked_at_once(server: Server, transport: HttpTransport) -> None:
    server.reply = lambda request: web.Response(status=413)
    assert isinstance(await failure(transport, server.url), TooLarge)


async def test_http_connections_that_hang_take_no_place_from_others(server: Server) -> None:
    async def reply(request: web.Request) -> web.Response:
        if request.path == "/canary-key/hang":
            await let_go.wait()
        return web.Response(text="{}")

    let_go, transport = asyncio.Event(), HttpTransport(timeout_s=60)
    server.reply = reply
    hanging = [asyncio.ensure_future(transport.post(server.url + "/hang", b"{}")) for _ in range(150)]
    async with asyncio.timeout(30):
        assert await transport.post(server.url, b"{}") == b"{}"
        while server.requests.count("/canary-key/hang") < 150:
            await asyncio.sleep(0.01)
    let_go.set()
    assert await asyncio.gather(*hanging) == [b"{}"] * 150
    await transport.close()
