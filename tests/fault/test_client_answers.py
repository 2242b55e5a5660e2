"""What the client makes of a connection that breaks: it may have happened, so it says so and nothing else."""

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from outlay.client import ApiError, call
from outlay.core.errors import OutcomeUnknown


class BrokenServer:
    """Takes one request, answers the given bytes and hangs up."""

    def __init__(self, answer: bytes) -> None:
        """Listen, in a thread of its own."""
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, args=(answer,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def _serve(self, answer: bytes) -> None:
        connection, _ = self._socket.accept()
        with connection:
            received = b""
            while b"{}" not in received:
                received += connection.recv(65536)
            connection.sendall(answer)

    def close(self) -> None:
        """Stop listening."""
        self._thread.join(5)
        self._socket.close()


@pytest.fixture
def broken(request: pytest.FixtureRequest) -> Iterator[BrokenServer]:
    """Run a server with the parameter as its answer."""
    server = BrokenServer(request.param)
    yield server
    server.close()


def post(server: BrokenServer) -> Any:
    """Make one call."""
    return call(server.url, "POST", "/wallets/x/transfers", {})


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b'HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{"id": "xfr',
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"i',
        b'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n{"id',
        b'HTTP/1.1 503 Unavailable\r\nContent-Length: 90\r\n\r\n{"error',
        b"SSH-2.0-OpenSSH\r\n",
    ],
    indirect=True,
    ids=("hangs up", "half a header", "half a body", "half a chunk", "half an object", "half an error", "not HTTP"),
)
def test_a_broken_answer_is_an_unknown_outcome(broken: BrokenServer) -> None:
    with pytest.raises(OutcomeUnknown):
        post(broken)


@pytest.mark.parametrize(
    "broken",
    [b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/elsewhere\r\nContent-Length: 0\r\n\r\n"],
    indirect=True,
)
def test_a_redirect_is_not_followed_with_the_token(broken: BrokenServer) -> None:
    with pytest.raises(ApiError) as refused:
        post(broken)
    assert refused.value.status == 302


def test_a_refused_connection_is_an_unknown_outcome() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(OutcomeUnknown):
        call(f"http://127.0.0.1:{port}", "POST", "/wallets/x/transfers", {})


@pytest.mark.parametrize("broken", [b"HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\n\r\n{}"], indirect=True)
def test_a_whole_refusal_is_the_servers_word(broken: BrokenServer) -> None:
    with pytest.raises(ApiError) as refused:
        post(broken)
    assert refused.value.status == 409
