"""The signer's socket: who may connect, what may be asked, one request at a time."""

import asyncio
import contextlib
import json
import os
import socket
import struct
import sys
from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path
from typing import Any, Final

from outlay.core.errors import OutlayError, SignerUnavailable
from outlay.signer import Signed, Signer, SignerRefused, SignRequest, Why
from outlay.signer.client import short
from outlay.signer.wire import (
    FRAME_MAX,
    LENGTH_SIZE,
    METHODS,
    TOO_LARGE,
    VERSION,
    FrameTooLargeError,
    frame,
    pack,
    pack_error,
    parameters,
    read_message,
    unpack,
)

CONNECTIONS_MAX: Final = 64
_CREDENTIALS: Final = struct.Struct("3i")
"""What SO_PEERCRED gives: process, user, group. Source: unix(7)."""


def log(event: str, **fields: Any) -> None:
    """Write one JSON line to standard error."""
    sys.stderr.write(json.dumps({"event": event, "part": "signer", **fields}) + "\n")
    sys.stderr.flush()


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


class SignerServer:
    """Answers on a Unix socket for a signer in this process."""

    def __init__(self, signer: Signer, *, allow_uids: Collection[int] = (), batch_max: int | None = None) -> None:
        """Take the signer.

        Args:
            signer: who is asked, one call at a time.
            allow_uids: users that may connect beside this process's own and root.
            batch_max: requests signed at a time; a slow key service must not make a freeze wait. None: any number.
        """
        self._signer = signer
        self._uids = frozenset({0, os.geteuid(), *allow_uids})
        self._shared = bool(allow_uids)
        self._batch_max = batch_max
        self._lock = asyncio.Lock()
        self._urgent = 0
        self._connections: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}

    async def serve(self, path: Path, *, until: asyncio.Event, ready: Callable[[], None]) -> None:
        """Listen at ``path`` until the event is set; call ``ready`` once connections are accepted.

        Whoever calls this holds the journal's lock: a socket that lies there belongs to a process that has ended.

        Raises:
            SignerUnavailable: the socket cannot be made.
        """
        server = await asyncio.start_unix_server(self._connection, sock=self._listening(path), limit=FRAME_MAX)
        try:
            ready()
            await until.wait()
        finally:
            server.close()
            _remove(path)
            async with self._lock:  # what is being signed is finished and journaled
                for writer in self._connections.values():
                    writer.close()
            await asyncio.gather(*self._connections, return_exceptions=True)

    def _listening(self, path: Path) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _remove(path)
            with short(path) as name:
                listener.bind(name)
            # Other users are let through to the check of who they are, if there are any.
            path.chmod(0o666 if self._shared else 0o600)
        except OSError as error:
            listener.close()
            raise SignerUnavailable(f"cannot listen at {path}: {error.strerror}") from error
        return listener

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or not self._is_allowed(writer):
            writer.close()
            return
        if len(self._connections) >= CONNECTIONS_MAX:
            # Whoever fills all places must not keep out a freeze: the one that was silent longest has to go.
            silent = next(iter(self._connections))
            log("connection_dropped", connections=len(self._connections))
            self._connections.pop(silent).close()
        self._connections[task] = writer
        try:
            while True:
                size = int.from_bytes(await reader.readexactly(LENGTH_SIZE), "big")
                if size > FRAME_MAX:
                    log("frame_too_large", size=size)
                    return
                content = await reader.readexactly(size)
                if self._connections.pop(task, None) is None:
                    return
                self._connections[task] = writer  # the last to have spoken
                writer.write(await self._answer(content))
                await writer.drain()
        except (OSError, EOFError):
            return  # the other side hung up
        finally:
            self._connections.pop(task, None)
            writer.close()

    def _is_allowed(self, writer: asyncio.StreamWriter) -> bool:
        peer = writer.get_extra_info("socket")
        _, uid, _ = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        if uid not in self._uids:
            log("peer_refused", uid=uid)
        return uid in self._uids

    async def _answer(self, content: bytes) -> bytes:
        try:
            message = read_message(content, frozenset({"method", "params"}))
            result = await self._called(message["method"], message["params"])
            return frame({"result": pack(result), "v": VERSION})
        except OutlayError as error:
            return frame({"error": pack_error(error), "v": VERSION})
        except FrameTooLargeError:
            too_large = SignerUnavailable("the answer is larger than a message: ask for less")
            return frame({"error": {**pack_error(too_large), "code": TOO_LARGE}, "v": VERSION})
        except Exception as error:
            # The last line: nothing of what was asked is known to have happened, and the caller may ask again.
            log("failed", error=repr(error))
            problem = SignerUnavailable(f"the signer failed ({type(error).__name__}); see its log")
            return frame({"error": pack_error(problem), "v": VERSION})

    async def _called(self, method: Any, params: Any) -> Any:
        if method not in METHODS:
            raise SignerRefused("there is no such method", field="method", why=Why.INVALID)
        kinds = parameters(method)
        if not isinstance(params, dict) or params.keys() != kinds.keys():
            raise SignerRefused(f"{method} takes exactly: {', '.join(kinds) or 'nothing'}", field="params")
        arguments = {name: unpack(kind, params[name], name) for name, kind in kinds.items()}
        if method == "sign":
            return await self._sign(arguments["requests"])
        async with self._turn(urgent=method == "freeze"):
            result = await getattr(self._signer, method)(**arguments)
        if method == "freeze":
            log("frozen", id=result.id, scope=result.scope, subject=result.subject)
        return result

    async def _sign(self, requests: list[SignRequest]) -> list[Signed | SignerRefused]:
        """Sign a batch in parts, between which a freeze may come; after a refusal nothing of that wallet follows."""
        size = self._batch_max or max(len(requests), 1)
        answers: list[Signed | SignerRefused] = []
        refused: set[str] = set()
        for start in range(0, len(requests), size):
            part = requests[start : start + size]
            asked = [request for request in part if request.wallet_id not in refused]
            async with self._turn():
                told = iter(await self._signer.sign(asked))
            after = SignerRefused("a lower nonce of this wallet was refused", why=Why.AFTER_REFUSAL)
            answers += [after if request.wallet_id in refused else next(told) for request in part]
            refused |= {r.wallet_id for r, a in zip(part, answers[start:], strict=True) if isinstance(a, SignerRefused)}
        return answers

    @contextlib.asynccontextmanager
    async def _turn(self, *, urgent: bool = False) -> AsyncIterator[None]:
        """Wait for one's turn. The lock is fair; whoever is not urgent goes to its end while somebody urgent waits."""
        self._urgent += urgent
        try:
            await self._lock.acquire()
            while self._urgent and not urgent:
                self._lock.release()
                await asyncio.sleep(0)
                await self._lock.acquire()
            try:
                yield
            finally:
                self._lock.release()
        finally:
            self._urgent -= urgent
