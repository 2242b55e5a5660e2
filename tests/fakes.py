"""Fake networks for tests: fast, and over real HTTP where a server of ours has to reach them."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from coincurve import PublicKey

from outlay.chains.fake import FakeNetwork, FakeNode, Way
from outlay.codec.evm import Eip1559, Legacy
from outlay.codec.signed import SignedTransaction, read_signed
from outlay.core.keccak import keccak
from outlay.signer.keys import SigningKey

GWEI = 10**9
COIN = 10**18


def read_fast(raw: bytes) -> SignedTransaction:
    """Read signed bytes with a C library's recovery: 100 times as fast as our own."""

    def recover(digest: bytes, signature: bytes) -> bytes:
        return PublicKey.from_signature_and_message(signature, digest, hasher=None).format(compressed=False)

    return read_signed(raw, recover=recover)


def network(**settings: Any) -> FakeNetwork:
    """Return a fake network that reads transactions fast; arguments as ``FakeNetwork``."""
    return FakeNetwork(read=read_fast, **settings)


class Payer:
    """A key that signs plain transactions; the same name is the same key."""

    def __init__(self, name: str = "payer", *, chain_id: int = 31337) -> None:
        self.key = SigningKey(keccak(name.encode()))
        self.address = self.key.address
        self._chain_id = chain_id

    def sign(self, nonce: int = 0, **changes: Any) -> bytes:
        """Return a signed payment of 5 wei to a fixed address, with some members changed."""
        members: dict[str, Any] = {
            "chain_id": self._chain_id,
            "nonce": nonce,
            "max_priority_fee_per_gas": 1 * GWEI,
            "max_fee_per_gas": 10 * GWEI,
            "gas_limit": 21_000,
            "to": "0x" + "0c" * 20,
            "value": 5,
            **changes,
        }
        return self._signed(Eip1559(**members))

    def sign_legacy(self, nonce: int = 0, **changes: Any) -> bytes:
        """Return the same payment without EIP-1559."""
        members: dict[str, Any] = {
            "chain_id": self._chain_id,
            "nonce": nonce,
            "gas_price": 10 * GWEI,
            "gas_limit": 21_000,
            "to": "0x" + "0c" * 20,
            "value": 5,
            **changes,
        }
        return self._signed(Legacy(**members))

    def _signed(self, transaction: Eip1559 | Legacy) -> bytes:
        return transaction.encode(self.key.sign(transaction.signing_hash()))


@dataclass(frozen=True)
class Served:
    """A fake network behind real HTTP."""

    urls: list[str]  #: of every node, in order
    lock: threading.RLock  #: hold it to change the network meanwhile


@contextmanager
def serve_http(network: FakeNetwork) -> Iterator[Served]:
    """Serve every node of a network on a port of its own of 127.0.0.1; requests are carried out one at a time."""
    lock = threading.RLock()
    servers = [_NodeServer(node, lock) for node in network.nodes]
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield Served([f"http://127.0.0.1:{server.server_port}" for server in servers], lock)
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


class _NodeServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, node: FakeNode, lock: threading.RLock) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.node, self.lock = node, lock


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _NodeServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            mood = self.server.node.mood_for(body)
            carried_out = mood.status == 200 and mood.way not in (Way.NO_CONNECTION, Way.REQUEST_LOST)
            answer = self.server.node.answer(body, mood) if carried_out else b""
        time.sleep(mood.delay_s)
        if mood.way in (Way.NO_CONNECTION, Way.REQUEST_LOST, Way.ANSWER_LOST):
            self.close_connection = True
            return
        self.send_response(mood.status)
        if mood.retry_after_s is not None:
            self.send_header("Retry-After", str(mood.retry_after_s))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(b"<" + answer[1:] if mood.way is Way.GARBLED else answer)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""
