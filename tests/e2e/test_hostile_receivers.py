"""Receivers that mean harm (F80 to F90): each attempt ends in time, and nothing inside is ever connected to.

The Internet is made up: names lead to public addresses, and a connection to one of these arrives at a server of the
test. What is connected to is written down, and a trap listens on the loopback addresses.
"""

import asyncio
import contextlib
import datetime
import gzip
import ipaddress
import socket
import ssl
import struct
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from outlay.core.errors import InvalidInput
from outlay.engine.egress import Answer, Egress

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

PUBLIC = "8.8.8.8"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CONNECT_S, TOTAL_S = 1.0, 2.0
SLACK_S = 8.0
"""What a busy machine may add."""

LATE = "the endpoint did not answer in time"
BROKE = "the connection broke before an answer came"
CERTIFICATE = "the endpoint's certificate is not valid"
NO_TLS = "no TLS connection could be made"
INSIDE = "the endpoint's address is not one that endpoints may have"


@dataclass
class Internet:
    """Where names lead, who was connected to, and what the trap caught."""

    names: dict[str, list[list[str]]] = field(default_factory=dict)  #: answers in order, the last for ever
    connected: list[str] = field(default_factory=list)
    caught: int = 0
    trap: int = 0  #: its port

    async def look_up(self, host: str) -> list[str]:
        """Return the next answer for a name; every other leads to the public address."""
        answers = self.names.get(host, [[PUBLIC]])
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def check(self) -> None:
        """Check that nothing inside was connected to."""
        assert self.caught == 0, "the trap was connected to"
        assert set(self.connected) <= {PUBLIC}, self.connected


@pytest.fixture
async def internet(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Internet]:
    made = Internet()

    async def catch(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.caught += 1
        writer.write(OK)
        writer.close()

    loop = asyncio.get_running_loop()
    connect = loop.sock_connect

    async def route(sock: socket.socket, address: Any) -> None:
        made.connected.append(str(address[0]))
        await connect(sock, ("127.0.0.1", *address[1:]) if address[0] == PUBLIC else address)

    monkeypatch.setattr(loop, "sock_connect", route)
    trap = await asyncio.start_server(catch, "127.0.0.1", 0)
    made.trap = trap.sockets[0].getsockname()[1]
    with contextlib.suppress(OSError):  # a machine without IPv6 cannot be reached by it either
        second = await asyncio.start_server(catch, "::1", made.trap)
        made.names["localhost"] = [["127.0.0.1"], ["::1"]]
        async with second, trap:
            yield made
        return
    async with trap:
        yield made


@contextlib.asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve until the block ends; yield the port."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The loop of the test may end before what hangs.
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await handler(reader, writer)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@contextlib.asynccontextmanager
async def client(internet: Internet, trust: ssl.SSLContext | None = None) -> AsyncIterator[Egress]:
    """Yield an egress as in production, but for the limits and where names are looked up."""
    made = Egress(lookup=internet.look_up, trust=trust, connect_s=CONNECT_S, total_s=TOTAL_S)
    try:
        yield made
    finally:
        await made.close()


async def post(egress: Egress, url: str) -> Answer:
    """Make one attempt; it must end in time."""
    began = time.monotonic()
    answer = await egress.post(url, b'{"id":"whe-1"}', {"Content-Type": "application/json"})
    assert time.monotonic() - began < TOTAL_S + SLACK_S, url
    return answer


async def request(reader: asyncio.StreamReader) -> None:
    """Read one request."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))


def says(*parts: bytes, pause_s: float = 0.0, again: bool = False, close: bool = False) -> Handler:
    """Return a server that answers each request with these parts, over and over if ``again``; ``close``: once."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_open = True
        while is_open:
            await request(reader)
            while is_open:
                for part in parts:
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(pause_s)
                if not again:
                    break
            is_open = not close

    return handler


async def hang(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request(reader)
    made = writer.get_extra_info("socket")
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def silent_after_request(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await request(reader)
    await asyncio.sleep(60)


def bomb(encoding: bytes, packed: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Encoding: %b\r\nContent-Length: %d\r\n\r\n%b" % (encoding, len(packed), packed)


ZEROS = bytes(50_000_000)
HEAD = b"HTTP/1.1 200 OK\r\n"

# What the server does, and what becomes of the attempt: a status, or the reason why there is none.
BEHAVIOURS: dict[str, tuple[Handler, str]] = {
    "takes it": (says(OK), "200"),
    "never says anything": (hang, LATE),
    "reads and is silent": (silent_after_request, LATE),
    "a byte now and then": (says(*[bytes([each]) for each in HEAD + b"X: " + b"a" * 500], pause_s=0.05), LATE),
    "a header now and then": (says(HEAD, *[b"a: b\r\n"] * 200, pause_s=0.05), LATE),
    "an endless body": (says(HEAD + b"\r\n", b"x" * 65536, again=True), "200"),
    "an endless body in chunks": (
        says(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"4000\r\n" + b"x" * 0x4000 + b"\r\n", again=True),
        "200",
    ),
    "a body of a byte now and then": (says(HEAD + b"Content-Length: 999\r\n\r\n", *[b"x"] * 200, pause_s=0.05), "200"),
    "endless headers": (says(HEAD, b"a: b\r\n" * 1000, again=True), "0"),
    "a header of a megabyte": (says(HEAD + b"a: " + b"x" * 1_000_000 + b"\r\n\r\n"), "0"),
    "a reason of a megabyte": (says(b"HTTP/1.1 200 " + b"x" * 1_000_000 + b"\r\n\r\n"), "0"),
    "a gzip bomb": (says(bomb(b"gzip", gzip.compress(ZEROS, 1))), "200"),
    "a deflate bomb": (says(bomb(b"deflate", zlib.compress(ZEROS, 1))), "200"),
    "an unknown encoding": (says(bomb(b"br, gzip, gzip", b"nonsense")), "200"),
    "a reset": (reset, BROKE),
    "a hang-up": (says(b"", close=True), BROKE),
    "half a head": (says(HEAD + b"Content-Le", close=True), BROKE),
    "half a body": (says(HEAD + b"Content-Length: 99\r\n\r\nx", close=True), "200"),
    "no HTTP": (says(b"220 mail.example ESMTP\r\n"), BROKE),
    "binary": (says(bytes(range(256)) * 10), "0"),
    "no status": (says(b"HTTP/1.1 OK\r\n\r\n"), "0"),
    "a status of four digits": (says(b"HTTP/1.1 2000 OK\r\n\r\n"), "0"),
    "another protocol": (says(b"HTTP/9.9 200 OK\r\nContent-Length: 0\r\n\r\n"), "0"),
    "a negative length": (says(HEAD + b"Content-Length: -1\r\n\r\n"), "0"),
    "two lengths": (says(HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"), "0"),
    "chunks that are none": (says(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"), BROKE),
    "go on, then no": (says(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"), "500"),
    "go on for ever": (says(b"HTTP/1.1 100 Continue\r\n\r\n", again=True, pause_s=0.01), LATE),
    "other protocols": (says(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), "101"),
    "authentication": (says(b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"), "401"),
    "a proxy's authentication": (
        says(b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"),
        "407",
    ),
    "nothing to say": (says(b"HTTP/1.1 204 None\r\n\r\n"), "204"),
}


def test_there_are_thirty_ways_to_misbehave() -> None:
    assert len(BEHAVIOURS) >= 30


async def test_every_attempt_ends_in_time_whatever_the_receiver_does(internet: Internet) -> None:
    wrong: list[tuple[str, Answer]] = []

    async def attempt(egress: Egress, name: str) -> None:
        handler, wanted = BEHAVIOURS[name]
        async with serving(handler) as port:
            for _ in range(2):  # what the first left behind must not decide the second
                answer = await post(egress, f"http://receiver.example:{port}/hook")
                if wanted not in (answer.status, answer.error) or answer.ok != (answer.status == "200"):
                    wrong.append((name, answer))

    async with client(internet) as egress:
        await asyncio.gather(*(attempt(egress, name) for name in BEHAVIOURS))
    assert not wrong, "\n".join(map(str, wrong))
    internet.check()


async def test_an_answer_that_was_sent_ahead_is_no_answer(internet: Internet) -> None:
    """One attempt is answered twice; the second answer must not count for the next event."""
    asked = 0

    async def twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        while True:
            await request(reader)
            asked += 1
            writer.write(OK + OK if asked == 1 else b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")

    async with client(internet) as egress, serving(twice) as port:
        answers = [await post(egress, f"http://receiver.example:{port}/hook") for _ in range(2)]
    assert [answer.status for answer in answers] == ["200", "500"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_leads_nowhere(internet: Internet, status: int) -> None:
    inside = internet.trap
    places = (
        f"http://127.0.0.1:{inside}/",
        f"http://localhost:{inside}/",
        f"//127.0.0.1:{inside}/",
        f"http://[::1]:{inside}/",
        f"http://[::ffff:127.0.0.1]:{inside}/",
        f"http://2130706433:{inside}/",
        "http://169.254.169.254/latest/meta-data/",
        f"http://receiver.example:{inside}/",
    )
    async with client(internet) as egress:
        for place in places:
            for header in ("Location", "Refresh", "Alt-Svc", "Content-Location"):
                reply = f"HTTP/1.1 {status} Go\r\n{header}: {place}\r\nContent-Length: 0\r\n\r\n"
                async with serving(says(reply.encode())) as port:
                    assert (await post(egress, f"http://receiver.example:{port}/hook")).status == str(status)
    internet.check()


ADDRESSES_INSIDE = (
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "169.254.169.254",
    "168.63.129.16", "100.100.100.200", "198.18.0.1", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fc00::1",
    "fd00:ec2::254", "fec0::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:169.254.169.254", "::127.0.0.1",
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::7f00:1", "2002:7f00:1::", "2002:a9fe:a9fe::1",
    "2001:0:7f00:1::", "2001:db8::1",
)  # fmt: skip


@pytest.mark.parametrize("allow_private", [False, True])
async def test_a_name_that_leads_inside_is_not_followed(internet: Internet, allow_private: bool) -> None:
    """Alone, and among public addresses: one bad answer refuses the name. Some are refused whatever is set."""
    always = {
        "0.0.0.0",
        "169.254.169.254",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::1",
    }
    egress = Egress(
        allow_private_addresses=allow_private, lookup=internet.look_up, connect_s=CONNECT_S, total_s=TOTAL_S
    )
    for address in always if allow_private else ADDRESSES_INSIDE:
        for answer in ([address], [PUBLIC, address], [address, PUBLIC]):
            internet.names["inside.example"] = [answer]
            assert (await post(egress, f"http://inside.example:{internet.trap}/")).error == INSIDE, answer
            with pytest.raises(InvalidInput):
                await egress.check_url(f"http://inside.example:{internet.trap}/")
    await egress.close()
    internet.check()


async def test_an_address_in_the_url_is_judged_as_well_however_it_is_written(internet: Internet) -> None:
    spelled = (
        "2130706433", "0177.0.0.1", "127.1", "0x7f.1", "0x7f000001", "127.0.0.1.", "localhost", "LOCALHOST",
        "localhost.", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[::]",
        "0", "0.0.0.0", "user@127.0.0.1", "8.8.8.8\\@127.0.0.1", "8.8.8.8#@127.0.0.1", "①②⑦.⓪.⓪.①",
    )  # fmt: skip
    internet.names.update({name: [["127.0.0.1"]] for name in ("localhost", "LOCALHOST", "localhost.")})
    async with client(internet) as egress:
        for host in spelled:
            url = f"http://{host}:{internet.trap}/"
            assert not (await post(egress, url)).ok, url
            with pytest.raises(InvalidInput):
                await egress.check_url(url)
    internet.check()


async def test_a_name_that_is_rebound_gets_no_connection(internet: Internet) -> None:
    """Public when it is checked and when it is first called, inside afterwards: the next connection is refused."""
    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    async with client(internet) as egress, serving(says(closing)) as port:
        url = f"http://rebound.example:{port}/"
        internet.names["rebound.example"] = [
            [PUBLIC],
            [PUBLIC],
            ["127.0.0.1"],
            ["::ffff:127.0.0.1"],
            ["169.254.169.254"],
        ]
        await egress.check_url(url)
        assert (await post(egress, url)).ok
        for _ in range(3):
            assert (await post(egress, url)).error == INSIDE
    internet.check()


# TLS


@dataclass
class Authority:
    """A certificate authority of the test."""

    folder: Path
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def __post_init__(self) -> None:
        """Write its certificate."""
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority of the test")])
        self.file = self.folder / "authority.pem"
        built = self._built(self.name, self.key, days=(-2, 2)).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.file.write_bytes(built.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def _built(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, days: tuple[int, int]
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=days[0]))
            .not_valid_after(now + datetime.timedelta(days=days[1]))
        )

    def server(self, host: str, *, days: tuple[int, int] = (-1, 1), self_signed: bool = False) -> ssl.SSLContext:
        """Return what a server with a certificate for ``host`` listens with."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        built = self._built(subject, key, days=days)
        try:
            named: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            named = x509.DNSName(host)
        built = built.add_extension(x509.SubjectAlternativeName([named]), critical=False)
        signed = built.sign(key if self_signed else self.key, hashes.SHA256())
        file = self.folder / f"{host}{days}{self_signed}.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + signed.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[Authority]:
    yield Authority(tmp_path)


async def test_only_a_certificate_for_the_name_that_is_called_is_good(internet: Internet, authority: Authority) -> None:
    seen: list[str] = []

    def heard(name: str) -> Handler:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request(reader)
            seen.append(name)
            writer.write(OK)

        return handler

    host = "receiver.example"
    servers: dict[str, tuple[ssl.SSLContext | None, Handler, tuple[str, ...]]] = {
        "good": (authority.server(host), heard("good"), ("200",)),
        "another name": (authority.server("other.example"), heard("another name"), (CERTIFICATE,)),
        "the address alone": (authority.server(PUBLIC), heard("the address alone"), (CERTIFICATE,)),
        "expired": (authority.server(host, days=(-3, -1)), heard("expired"), (CERTIFICATE,)),
        "of tomorrow": (authority.server(host, days=(1, 3)), heard("of tomorrow"), (CERTIFICATE,)),
        "signed by itself": (authority.server(host, self_signed=True), heard("signed by itself"), (CERTIFICATE,)),
        "a handshake that hangs": (None, hang, (LATE,)),
        "no TLS at all": (None, says(OK), (NO_TLS, LATE)),
        "a handshake that is cut off": (None, _cut_off, (NO_TLS, BROKE, "the endpoint could not be reached")),
    }
    trust = ssl.create_default_context(cafile=str(authority.file))

    async def attempt(egress: Egress, name: str) -> None:
        tls, handler, wanted = servers[name]
        async with serving(handler, tls) as port:
            answer = await post(egress, f"https://{host}:{port}/")
        assert answer.status in wanted or answer.error in wanted, (name, answer)

    async with client(internet, trust) as egress:
        await asyncio.gather(*(attempt(egress, name) for name in servers))
    assert seen == ["good"], "nothing is sent to a server that is not who it says"
    internet.check()


async def _cut_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(10)
    writer.transport.abort()
