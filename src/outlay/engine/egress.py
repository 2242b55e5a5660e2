"""Calls to addresses that a user named: no endpoint may make Outlay talk to its own network.

Three gates, because each has been passed somewhere by a spelling the others miss. The text of the URL is refused
unless every parser reads it alike. Every address a name resolves to is judged, at each attempt, without a cache.
And the address a socket is about to connect to is judged once more, which also covers addresses written in the URL.
"""

import asyncio
import ipaddress
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from outlay.core.errors import InvalidInput
from outlay.core.event import NO_ANSWER
from outlay.engine.lookup import SystemLookup

CONNECT_S, TOTAL_S = 3.0, 10.0
"""Limits of one call: until connected (names included), and altogether."""
ANSWER_MAX = 4096
"""Bytes of an answer's body that are read; nothing in them is used."""
DRAIN_S = 1.0
"""How long the rest of an answer is waited for, so that its connection can be used again."""
URL_MAX = 2048

Lookup = Callable[[str], Awaitable[list[str]]]
"""Resolves a host name to the text of all its addresses; raises OSError."""

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_URL = re.compile(
    r"(?i:https?)://"
    r"(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?\.?)"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?:[/?].*)?"
)
_NUMERIC = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9a-fA-F]*)\.?")


def _networks(*texts: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


# Written out: what the standard library calls global differs between versions of Python.
_PRIVATE = _networks(
    "10.0.0.0/8",
    "100.64.0.0/10",  # carrier-grade NAT
    "127.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "::1/128",
    "fc00::/7",  # unique local
)
_NEVER = _networks(
    "0.0.0.0/8",
    "100.100.100.200/32",  # instance metadata, Alibaba Cloud
    "168.63.129.16/32",  # platform address, Azure
    "169.254.0.0/16",  # link-local; instance metadata of most clouds
    "192.0.0.0/24",
    "192.0.2.0/24",  # documentation
    "192.88.99.0/24",  # 6to4 relays
    "198.18.0.0/15",  # benchmarks
    "198.51.100.0/24",  # documentation
    "203.0.113.0/24",  # documentation
    "224.0.0.0/4",  # multicast
    "240.0.0.0/4",  # reserved, broadcast
    "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarks
    "2001:db8::/32",  # documentation
    "2002::/16",  # 6to4: carries an IPv4 address
    "3fff::/20",  # documentation
    "fd00:ec2::/32",  # instance metadata, AWS
    "fd20:ce::/32",  # instance metadata, Google Cloud
)
# All that is routed of IPv6. NAT64 (64:ff9b::/96), IPv4-compatible, link-local, site-local and multicast are outside.
_ROUTED_V6 = ipaddress.IPv6Network("2000::/3")


class AddressRefused(OSError):
    """A socket was about to be opened to an address that endpoints may not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of a call."""

    status: str  #: the HTTP status, or "0" when there was none
    error: str | None  #: what went wrong, for people; None exactly if the status is 200

    @property
    def ok(self) -> bool:
        """Tell whether the endpoint took it: exactly 200."""
        return self.error is None


def permitted(address: str, *, allow_private: bool) -> bool:
    """Tell whether an endpoint may have ``address``.

    Args:
        address: text of an IPv4 or IPv6 address; one inside ``::ffff:0:0/96`` is judged as the IPv4 it stands for.
        allow_private: also permit loopback, private, carrier-grade NAT and unique local addresses. Link-local
            (where clouds keep credentials), multicast, reserved and translated ones stay refused.
    """
    try:
        parsed: _Address = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.scope_id is not None:
            return False
        parsed = parsed.ipv4_mapped or parsed
    if any(parsed in network for network in _NEVER):
        return False
    if any(parsed in network for network in _PRIVATE):
        return allow_private
    return isinstance(parsed, ipaddress.IPv4Address) or parsed in _ROUTED_V6


def read_url(text: str, *, field: str = "url") -> URL:
    """Return ``text`` parsed by the parser that will also be used to call it; path and query stay as written.

    Raises:
        InvalidInput: not an absolute http or https URL in plain ASCII, with user info, a backslash, a fragment,
            port 0, or a host that some parser may read as another.
    """

    def refuse(why: str) -> InvalidInput:
        return InvalidInput(f"the URL of an endpoint {why}", field=field)

    if len(text) > URL_MAX:
        raise refuse(f"has at most {URL_MAX} characters")
    if not all("!" <= char <= "~" for char in text) or "\\" in text:
        raise refuse("is printable ASCII without spaces and backslashes: write other hosts in punycode")
    if "#" in text:
        raise refuse("has no fragment (#...)")
    parts = _URL.fullmatch(text)
    if parts is None:
        raise refuse("is like https://example.com/hook: http or https, a host, no user name and password")
    host, port = parts["host"].lower(), parts["port"]
    if port is not None and not 0 < int(port) < 65536:
        raise refuse("has a port from 1 to 65535")
    if host.startswith("["):
        host = host[1:-1]
        if _literal(host) is None:
            raise refuse("has a host that is not an address")
    elif ".." in host:
        raise refuse("has a host with an empty part")
    elif _NUMERIC.fullmatch(host) is not None and _literal(host) is None:
        raise refuse("writes an IPv4 address as four decimal numbers without leading zeros")
    try:
        url = URL(text, encoded=True)
    except ValueError:
        raise refuse("is like https://example.com/hook") from None
    if (url.raw_host or "").lower() != host:
        raise refuse("names its host unambiguously")
    return url


def _literal(host: str) -> _Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


class _GuardedResolver(AbstractResolver):
    """Gives the connector the addresses of a name, all of them permitted, or none."""

    def __init__(self, lookup: Lookup, judge: Callable[[Iterable[str]], None]) -> None:
        self._lookup = lookup
        self._judge = judge

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Look ``host`` up and judge every answer: one bad one refuses the name."""
        addresses = await self._lookup(host)
        self._judge(addresses)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Do nothing: the lookup belongs to the egress."""


class Egress:
    """A client for endpoints that users named. Needs a running event loop; close it when done."""

    def __init__(
        self,
        *,
        allow_private_addresses: bool = False,
        lookup: Lookup | None = None,
        trust: ssl.SSLContext | None = None,
        connect_s: float = CONNECT_S,
        total_s: float = TOTAL_S,
    ) -> None:
        """Prepare a client; ``lookup``, ``trust`` (of certificates) and the limits (seconds) are for tests."""
        self._allow_private = allow_private_addresses
        self._system = None if lookup is not None else SystemLookup()
        self._lookup: Lookup = lookup or self._system  # type: ignore[assignment]  # one of them is set
        self._connect_s = connect_s
        connector = aiohttp.TCPConnector(
            resolver=_GuardedResolver(self._lookup, self._judge),
            use_dns_cache=False,
            socket_factory=self._socket,
            ssl=trust or True,
            limit=0,  # whoever calls bounds what it has in flight for each endpoint
            keepalive_timeout=2,  # below what common servers use, so that an idle connection is ours to close
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=total_s, connect=connect_s, sock_connect=connect_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "outlay-webhooks/1", "Accept-Encoding": "identity"},
            trust_env=False,
            auto_decompress=False,
        )

    async def check_url(self, text: str, *, field: str = "url") -> None:
        """Check a URL when it is registered: its text, and every address its host has now.

        A name that does not resolve now is accepted: there is nothing to judge, and each attempt judges again.

        Raises:
            InvalidInput: the text is wrong, or an address is not one that endpoints may have.
        """
        host = str(read_url(text, field=field).raw_host)
        try:
            async with asyncio.timeout(self._connect_s):
                self._judge([host] if _literal(host) else await self._lookup(host))
        except AddressRefused as error:
            raise InvalidInput(
                "the URL of an endpoint must lead to public addresses; "
                "set webhooks.allow_private_addresses to reach your own network",
                field=field,
            ) from error
        except OSError:  # TimeoutError is one: the name does not resolve now
            return

    async def post(self, url: str, body: bytes, headers: dict[str, str]) -> Answer:
        """Send ``body`` once and say what became of it; never raises for anything the endpoint or network does."""
        try:
            async with self._session.post(_target(url), data=body, headers=headers, allow_redirects=False) as answer:
                await _drain(answer)
                if answer.status == 200:
                    return Answer(status="200", error=None)
                return Answer(status=str(answer.status), error=f"the endpoint answered {answer.status}, not 200")
        except (aiohttp.ClientError, OSError, InvalidInput) as error:
            return Answer(status=NO_ANSWER, error=_reason(error))

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()
        if self._system is not None:
            self._system.close()

    def _judge(self, addresses: Iterable[str]) -> None:
        for address in addresses:
            if not permitted(address, allow_private=self._allow_private):
                raise AddressRefused("not an address that endpoints may have")

    def _socket(self, info: tuple[int, int, int, str, tuple[object, ...]]) -> socket.socket:
        family, kind, protocol, _, address = info
        self._judge([str(address[0])])
        made = socket.socket(family=family, type=kind, proto=protocol)
        made.setblocking(False)
        return made


@lru_cache(maxsize=1024)
def _target(text: str) -> URL:
    """Return a URL as ``read_url`` does. The text alone decides, and every attempt at an endpoint has the same."""
    return read_url(text)


async def _drain(answer: aiohttp.ClientResponse) -> None:
    """Read the end of a short answer, so that its connection is kept; that of any other is dropped on release.

    The status has decided already: a body that is endless, slow or broken changes nothing.
    """
    if answer.content.is_eof():
        return
    left = ANSWER_MAX
    try:
        async with asyncio.timeout(DRAIN_S):
            while left > 0 and not answer.content.at_eof():
                left -= len(await answer.content.read(left))
    except (aiohttp.ClientError, OSError):
        return


def _reason(error: Exception) -> str:
    """Say what went wrong in words that name no address: what a name resolves to inside is nobody's business."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, AddressRefused):
        return "the endpoint's address is not one that endpoints may have"
    if isinstance(error, InvalidInput | aiohttp.InvalidURL):
        return "the endpoint's URL is not one that endpoints may have"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "the endpoint's name does not resolve"
    if isinstance(error, aiohttp.ClientConnectorCertificateError | ssl.CertificateError):
        return "the endpoint's certificate is not valid"
    if isinstance(error, aiohttp.ClientConnectorSSLError | ssl.SSLError):
        return "no TLS connection could be made"
    if isinstance(error, TimeoutError):
        return "the endpoint did not answer in time"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "the endpoint could not be reached"
    return "the connection broke before an answer came"
