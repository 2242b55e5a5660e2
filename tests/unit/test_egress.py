"""No endpoint makes us talk to our own network, follow it elsewhere, or wait for it."""

import asyncio
import contextlib
import datetime
import ipaddress
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from outlay.core.errors import InvalidInput
from outlay.engine.egress import Answer, Egress, permitted, read_url
from outlay.engine.lookup import SystemLookup

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

PUBLIC = ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700:4700::1111", "2001:4860:4860::8888"]
PRIVATE = [
    "127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1",
    "100.127.255.255", "::1", "fc00::1", "fd12:3456::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:7f00:1",
]  # fmt: skip
NEVER = [
    "0.0.0.0", "0.1.2.3", "169.254.169.254", "::ffff:169.254.169.254", "168.63.129.16", "100.100.100.200",
    "192.0.0.8", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1",
    "239.255.255.255", "240.0.0.1", "255.255.255.255",
    "::", "::127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1", "100::1",
    "2001::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::", "3fff::1", "5f00::1", "fe80::1", "fe80::1%eth0",
    "fec0::1", "ff02::1", "2606:4700::1%eth0", "fd00:ec2::254", "fd20:ce::254",
    "", "localhost", "2130706433", "0177.0.0.1", "127.1",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_permitted(address: str) -> None:
    assert permitted(address, allow_private=False)
    assert permitted(address, allow_private=True)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_need_the_setting(address: str) -> None:
    assert not permitted(address, allow_private=False)
    assert permitted(address, allow_private=True)


@pytest.mark.parametrize("address", NEVER)
def test_some_addresses_are_never_permitted(address: str) -> None:
    assert not permitted(address, allow_private=False)
    assert not permitted(address, allow_private=True)


@pytest.mark.parametrize(
    "text",
    [
        "https://example.com", "HTTPS://Example.com:8443/a/b?c=%20d", "http://8.8.8.8/", "http://[2606:4700::1]:80/",
        "https://a_b.example.com./x", "https://xn--bcher-kva.example/@me?to=a@b", "https://1a.example.1com",
    ],
)  # fmt: skip
def test_ordinary_urls_are_read(text: str) -> None:
    assert read_url(text).host


@pytest.mark.parametrize(
    "text",
    [
        "", "example.com", "//example.com/", "/hook", "https:", "https://", "https:///hook", "ftp://example.com/",
        "file:///etc/passwd", "gopher://example.com/", "javascript:alert(1)", "unix:///run/x.sock",
        "https://user:secret@example.com/", "https://user@example.com/", "https://@example.com/", "https://:@example.com/",
        "https://good\\@evil.example/", "https://good.example\\.evil.example/", "https://good@evil.example/",
        "https://example.com/a\\b", "https://example.com?a\\b",
        "https://example.com/#x", "https://example.com#", "https://exam ple.com/", " https://example.com/",
        "https://example.com/\n", "https://example.com/a\tb", "https://example.com/\x00", "https://bücher.example/",
        "https://\uff11\uff12\uff17.0.0.1/", "https://ⅷ.example/", "https://example.com/ü", "https://exa%6dple.com/", "https://a..b/",
        "https://.example.com/", "https://-a.example/", "https://a.example-/", "https://*.example.com/",
        "https://example.com:0/", "https://example.com:65536/", "https://example.com:x/", "https://[::1", "https://[::1]x/",
        "https://[fe80::1%25eth0]/", "https://[v1.x]/",
        "http://2130706433/", "http://0177.0.0.1/", "http://127.1/", "http://0x7f.0.0.1/", "http://0x7f000001/",
        "http://127.0.0.01/", "http://127.0.0.1./", "http://1.2.3.4.5/", "http://256.1.1.1/", "http://a.0x7f/",
        "https://example.com/" + "a" * 2048,
    ],
)  # fmt: skip
def test_urls_that_parsers_read_differently_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_url(text)
    assert caught.value.field == "url"


class FakeNames:
    """A resolver whose answers change from one question to the next; the last one stays."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str) -> list[str]:
        """Return the next answer; none at all is an error, as in libc."""
        self.asked.append(host)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if not answer:
            raise OSError("no address")
        return answer


@contextlib.asynccontextmanager
async def egress(
    *, allow: bool = False, lookup: FakeNames | None = None, connect_s: float = 1, total_s: float = 2
) -> AsyncIterator[Egress]:
    client = Egress(allow_private_addresses=allow, lookup=lookup, connect_s=connect_s, total_s=total_s)
    try:
        yield client
    finally:
        await client.close()


@contextlib.asynccontextmanager
async def raw_server(handler: Handler, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve raw connections on a free port; at the end no connection is waited for."""
    tasks: set[asyncio.Task[None]] = set()

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await handler(reader, writer)
        writer.close()

    server = await asyncio.start_server(run, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    return head + await reader.readexactly(length)


def answering(answer: bytes, seen: list[bytes]) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                seen.append(await read_request(reader))
            except asyncio.IncompleteReadError:
                return
            writer.write(answer)
            await writer.drain()

    return handle


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def test_what_is_posted_arrives_as_it_is() -> None:
    seen: list[bytes] = []
    async with raw_server(answering(OK, seen)) as port, egress(allow=True) as client:
        answer = await client.post(f"http://127.0.0.1:{port}/h?a=%2F", b'{"a":1}', {"webhook-id": "evt-1"})
    assert answer == Answer(status="200", error=None)
    assert seen[0].startswith(b"POST /h?a=%2F HTTP/1.1\r\n")
    assert b"\r\nwebhook-id: evt-1\r\n" in seen[0]
    assert seen[0].endswith(b'\r\n\r\n{"a":1}')


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "[::ffff:127.0.0.1]", "[::1]", "localhost", "LOCALHOST", "2130706433", "0177.0.0.1", "127.1", "0"],
)
async def test_no_spelling_of_a_private_address_is_called(host: str) -> None:
    seen: list[bytes] = []
    async with raw_server(answering(OK, seen)) as port, egress() as client:
        answer = await client.post(f"http://{host}:{port}/", b"{}", {})
        with pytest.raises(InvalidInput):
            await client.check_url(f"http://{host}:{port}/")
    what = "address" if host.strip("[]").lower() in ("127.0.0.1", "::ffff:127.0.0.1", "::1", "localhost") else "URL"
    assert answer == Answer(status="0", error=f"the endpoint's {what} is not one that endpoints may have")
    assert seen == []


@pytest.mark.parametrize("spelling", ["2130706433", "0177.0.0.1", "127.1", "0x7f000001", "0"])
async def test_what_the_system_makes_of_odd_spellings_is_refused(spelling: str) -> None:
    lookup = SystemLookup()
    found = await lookup(spelling)
    lookup.close()
    assert found
    assert not any(permitted(address, allow_private=False) for address in found)


async def test_one_private_answer_among_public_ones_refuses_the_name() -> None:
    names = FakeNames(["8.8.8.8", "2606:4700::1", "::ffff:10.0.0.1"])
    async with egress(lookup=names) as client:
        with pytest.raises(InvalidInput):
            await client.check_url("https://mixed.example/")
        answer = await client.post("https://mixed.example/", b"{}", {})
    assert answer == Answer(status="0", error="the endpoint's address is not one that endpoints may have")


async def test_no_address_of_a_name_with_a_bad_one_is_called() -> None:
    seen: list[bytes] = []
    names = FakeNames(["127.0.0.1", "169.254.169.254"])
    async with raw_server(answering(OK, seen)) as port, egress(allow=True, lookup=names) as client:
        answer = await client.post(f"http://mixed.example:{port}/", b"{}", {})
    assert answer == Answer(status="0", error="the endpoint's address is not one that endpoints may have")
    assert seen == []


async def test_every_new_connection_asks_for_the_address_again() -> None:
    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    names = FakeNames(["127.0.0.1"])
    async with raw_server(answering(closing, [])) as port, egress(allow=True, lookup=names) as client:
        for _ in range(3):
            assert (await client.post(f"http://name.example:{port}/", b"{}", {})).ok
    assert names.asked == ["name.example"] * 3


async def test_a_name_that_is_rebound_after_the_check_is_refused_at_the_call() -> None:
    seen: list[bytes] = []
    names = FakeNames(["8.8.8.8"], ["127.0.0.1"])
    async with raw_server(answering(OK, seen)) as port, egress(lookup=names) as client:
        await client.check_url(f"http://rebound.example:{port}/")
        for _ in range(2):
            answer = await client.post(f"http://rebound.example:{port}/", b"{}", {})
            assert "not one that endpoints may have" in str(answer.error)
    assert seen == []
    assert names.asked == ["rebound.example"] * 3, "every attempt asks again"


async def test_the_socket_itself_refuses_what_slips_through() -> None:
    async with egress() as client:
        with pytest.raises(OSError, match="not an address"):
            client._socket((2, 1, 6, "", ("169.254.169.254", 80)))


async def test_a_name_without_addresses_is_accepted_now_and_fails_later() -> None:
    async with egress(lookup=FakeNames([])) as client:
        await client.check_url("https://nowhere.example/")
        answer = await client.post("https://nowhere.example/", b"{}", {})
    assert answer == Answer(status="0", error="the endpoint's name does not resolve")


async def test_a_name_whose_servers_are_silent_is_bounded() -> None:
    async def silent(host: str) -> list[str]:
        await asyncio.sleep(60)
        return [host]

    client = Egress(lookup=silent, connect_s=0.1, total_s=5)
    start = time.monotonic()
    await client.check_url("https://silent.example/")
    answer = await client.post("https://silent.example/", b"{}", {})
    await client.close()
    assert answer == Answer(status="0", error="the endpoint did not answer in time")
    assert time.monotonic() - start < 2


@pytest.mark.parametrize("status", [201, 202, 204, 301, 302, 307, 308, 400, 410, 500, 503])
async def test_anything_but_200_is_a_failure_and_no_redirect_is_followed(status: int) -> None:
    elsewhere: list[bytes] = []
    async with raw_server(answering(OK, elsewhere)) as other:
        reply = f"HTTP/1.1 {status} X\r\nLocation: http://127.0.0.1:{other}/\r\nContent-Length: 0\r\n\r\n"
        async with raw_server(answering(reply.encode(), [])) as port, egress(allow=True) as client:
            answer = await client.post(f"http://127.0.0.1:{port}/", b"{}", {})
    assert answer == Answer(status=str(status), error=f"the endpoint answered {status}, not 200")
    assert elsewhere == []


async def test_an_endpoint_that_drips_its_answer_is_bounded() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for byte in b"HTTP/1.1 200 OK\r\nX: " + b"a" * 1000:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.05)

    start = time.monotonic()
    async with raw_server(drip) as port, egress(allow=True, total_s=0.5) as client:
        answer = await client.post(f"http://127.0.0.1:{port}/", b"{}", {})
    assert answer == Answer(status="0", error="the endpoint did not answer in time")
    assert time.monotonic() - start < 2


@pytest.mark.parametrize("pause", [0.0, 0.02])
async def test_an_endless_answer_is_cut_and_its_status_counts(pause: float) -> None:
    written = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 999999999\r\n\r\n")
        while True:
            chunk = b"\x1f\x8b" + b"a" * (2 if pause else 16_382)
            writer.write(chunk)
            await writer.drain()
            written += len(chunk)
            await asyncio.sleep(pause)

    start = time.monotonic()
    async with raw_server(endless) as port, egress(allow=True, total_s=5) as client:
        answer = await client.post(f"http://127.0.0.1:{port}/", b"{}", {})
        assert answer == Answer(status="200", error=None)
        await asyncio.sleep(0.05)
        stopped_at = written
        await asyncio.sleep(0.1)
        assert written == stopped_at, "the connection is closed"
    assert time.monotonic() - start < 2


async def test_a_short_answer_keeps_the_connection_and_a_closed_port_fails() -> None:
    connections = 0
    seen: list[bytes] = []
    plain = answering(OK, seen)

    async def counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await plain(reader, writer)

    async with egress(allow=True) as client:
        async with raw_server(counted) as port:
            for _ in range(5):
                assert (await client.post(f"http://127.0.0.1:{port}/", b"{}", {})).ok
        assert connections == 1
        assert len(seen) == 5
        answer = await client.post(f"http://127.0.0.1:{port}/", b"{}", {})
    assert answer.status == "0"
    assert not answer.ok


async def test_garbage_and_hang_ups_are_failures() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)

    for handler in (hang_up, answering(b"no http at all\r\n\r\n", [])):
        async with raw_server(handler) as port, egress(allow=True) as client:
            answer = await client.post(f"http://127.0.0.1:{port}/", b"{}", {})
            assert answer == Answer(status="0", error="the connection broke before an answer came")


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    proxied: list[bytes] = []
    async with raw_server(answering(OK, proxied)) as proxy, raw_server(answering(OK, [])) as port:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        async with egress(allow=True) as client:
            assert (await client.post(f"http://127.0.0.1:{port}/", b"{}", {})).ok
    assert proxied == []


def self_signed(folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(alternative, critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "server.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


async def test_a_certificate_nobody_vouches_for_is_a_failure(tmp_path: Path) -> None:
    seen: list[bytes] = []
    async with raw_server(answering(OK, seen), self_signed(tmp_path)) as port, egress(allow=True) as client:
        answer = await client.post(f"https://127.0.0.1:{port}/", b"{}", {})
    assert answer == Answer(status="0", error="the endpoint's certificate is not valid")
    assert seen == []
