"""The signer in a process of its own, as seen by those who ask it."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence, Set
from pathlib import Path
from typing import Any, Final

from outlay.core.errors import InvalidInput, SignerRefused, SignerUnavailable
from outlay.evidence.canonical import canonical
from outlay.signer import Freeze, JournalSlot, PublicKey, Scope, Signed, SignerStatus, SignRequest, Why
from outlay.signer.wire import (
    FRAME_MAX,
    LENGTH_SIZE,
    TOO_LARGE,
    VERSION,
    FrameTooLargeError,
    answer_type,
    frame,
    framed,
    pack,
    read_message,
    unpack,
    unpack_error,
)

CALL_TIMEOUT_S: Final = 60.0
"""Until an answer has to be here. A key service needs a tenth of a second for each signature."""

_PIECE_MAX: Final = FRAME_MAX - 1024
"""Bytes of a message's list of items; the rest is for what is around them."""


class SignerClient:
    """Implements ``Signer`` over the Unix socket of ``outlay signer``.

    One call at a time; the connection is made when it is needed, and anew after anything went wrong with it.
    """

    def __init__(self, path: Path) -> None:
        """Remember where the signer listens."""
        self._path = path
        self.on_refusal: Callable[[str], None] | None = None  #: is told why, for each request that is refused
        self._turn = asyncio.Lock()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def create_key(self, wallet_id: str) -> PublicKey:
        """Return the key of ``wallet_id``; see ``Signer``."""
        made: PublicKey = await self._call("create_key", {"wallet_id": wallet_id})
        return made

    async def accept_records(self, documents: Sequence[str]) -> SignerStatus:
        """Send records in order; see ``Signer``."""
        status: SignerStatus | None = None
        for part in _parts([canonical(document) for document in documents]):
            status = await self._send("accept_records", _listed("accept_records", "documents", part))
        return await self.status() if status is None else status

    async def sign(self, requests: Sequence[SignRequest]) -> list[Signed | SignerRefused]:
        """Have a batch signed; see ``Signer``. A batch larger than a message goes in several, in order."""
        answers: list[Signed | SignerRefused] = []
        refused: set[str] = set()
        for part in _parts([canonical(pack(request)) for request in requests]):
            asked = requests[len(answers) : len(answers) + len(part)]
            answers += await self._sign_part(part, asked, refused)
            self._tell_refusals(answers[-len(asked) :])
            refused |= {r.wallet_id for r, a in zip(asked, answers[-len(asked) :], strict=True) if not _is_signed(a)}
        return answers

    def _tell_refusals(self, answers: Sequence[Signed | SignerRefused]) -> None:
        # What follows a refusal was not looked at.
        for each in answers:
            if isinstance(each, SignerRefused) and each.why != Why.AFTER_REFUSAL and self.on_refusal is not None:
                self.on_refusal(str(each.why))

    async def _sign_part(
        self, pieces: Sequence[bytes], asked: Sequence[SignRequest], refused: Set[str]
    ) -> list[Signed | SignerRefused]:
        # What follows a refusal in an earlier message must not be looked at either.
        sent = [piece for piece, request in zip(pieces, asked, strict=True) if request.wallet_id not in refused]
        told: list[Signed | SignerRefused] = []
        if sent and len(sent[0]) > _PIECE_MAX:
            told = [SignerRefused("the request is larger than a message", field="demand", why=Why.INVALID)]
        elif sent:
            told = await self._send("sign", _listed("sign", "requests", sent))
        if len(told) != len(sent):
            raise SignerUnavailable("the signer's answer is not one to this batch: ask again")
        answers = iter(told)
        return [_after_refusal() if request.wallet_id in refused else next(answers) for request in asked]

    async def journaled(self, wallet_id: str, fence: int, transfer_ids: Sequence[str]) -> frozenset[str]:
        """Return which transfers the journal holds; see ``Signer``."""
        params = {"wallet_id": wallet_id, "fence": str(fence), "transfer_ids": list(transfer_ids)}
        held: frozenset[str] = await self._call("journaled", params)
        return held

    async def slots(self, *, after: int = 0, limit: int = 100) -> list[JournalSlot]:
        """Return slots of the journal; see ``Signer``."""
        found: list[JournalSlot] = []
        while len(found) < limit:
            page, size = await self._page("slots", after, limit - len(found))
            found += page
            if len(page) < size:
                break
            after = page[-1].attempts[0].sequence
        return found

    async def touched(self, *, after: int = 0, limit: int = 100) -> list[JournalSlot]:
        """Return the slots of new attempts; see ``Signer``."""
        found: list[JournalSlot] = []
        while len(found) < limit:
            page, size = await self._page("touched", after, limit - len(found))
            found += page
            if len(page) < size:
                break
            for slot in page:
                after = slot.next_after(after)
        return found

    async def records(self, *, after: int = -1, limit: int = 100) -> list[str]:
        """Return records the signer keeps; see ``Signer``."""
        found: list[str] = []
        while len(found) < limit:
            page, size = await self._page("records", after + len(found), limit - len(found))
            found += page
            if len(page) < size:
                break
        return found

    async def freeze(self, scope: Scope, subject: str, reason: str) -> Freeze:
        """Stop signing; see ``Signer``."""
        made: Freeze = await self._call("freeze", {"scope": str(scope), "subject": subject, "reason": reason})
        return made

    async def status(self) -> SignerStatus:
        """Return what the signer says about itself."""
        status: SignerStatus = await self._call("status", {})
        return status

    async def close(self) -> None:
        """Close the connection; the next call makes another."""
        async with self._turn:
            self._hang_up()

    async def _page(self, method: str, after: int, limit: int) -> tuple[list[Any], int]:
        """Return a page and how many it was asked for: fewer each time the answer did not fit into a message."""
        while True:
            try:
                return await self._call(method, {"after": str(after), "limit": str(limit)}), limit
            except SignerUnavailable as error:
                if error.details.get("reason") != TOO_LARGE or limit == 1:
                    raise
                limit //= 2

    async def _call(self, method: str, params: dict[str, Any]) -> Any:
        try:
            request = frame({"method": method, "params": params, "v": VERSION})
        except FrameTooLargeError:
            raise InvalidInput(f"{method} asks for more than a message holds", field=method) from None
        return await self._send(method, request)

    async def _send(self, method: str, request: bytes) -> Any:
        async with self._turn, self._connected() as (reader, writer):
            writer.write(request)
            await writer.drain()
            size = int.from_bytes(await reader.readexactly(LENGTH_SIZE), "big")
            if size > FRAME_MAX:
                raise InvalidInput("the answer is larger than a message", field="answer")
            content = await reader.readexactly(size)
            if content.startswith(b'{"error":'):
                error = unpack_error(read_message(content, frozenset({"error"}))["error"])
            else:
                return unpack(answer_type(method), read_message(content, frozenset({"result"}))["result"], method)
        raise error

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Give the connection; whatever goes wrong with it ends it, since what comes next could answer this call."""
        whole = False
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                if self._streams is None:
                    with short(self._path) as path:
                        self._streams = await asyncio.open_unix_connection(path, limit=FRAME_MAX)
                yield self._streams
            whole = True
        except (OSError, EOFError, TimeoutError, InvalidInput) as error:
            problem = error.message if isinstance(error, InvalidInput) else str(error) or type(error).__name__
            raise SignerUnavailable(f"the signer at {self._path} does not answer ({problem}): ask again") from error
        finally:
            if not whole:
                self._hang_up()

    def _hang_up(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


@contextlib.contextmanager
def short(path: Path) -> Iterator[str]:
    """Give a name of a socket that the system takes: at most 107 bytes, however deep the folder is."""
    if len(os.fsencode(path)) < 108:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _parts(pieces: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Cut a list into runs that fit into a message each; one that does not fit by itself is a run of its own."""
    part: list[bytes] = []
    size = 0
    for piece in pieces:
        if part and size + len(piece) + 1 > _PIECE_MAX:
            yield part
            part, size = [], 0
        part.append(piece)
        size += len(piece) + 1
    if part:
        yield part


def _listed(method: str, name: str, pieces: Sequence[bytes]) -> bytes:
    content = b'{"method":"%b","params":{"%b":[%b]},"v":%d}'
    try:
        return framed(content % (method.encode(), name.encode(), b",".join(pieces), VERSION))
    except FrameTooLargeError:
        raise InvalidInput(f"{name} holds one that is larger than a message", field=name) from None


def _after_refusal() -> SignerRefused:
    return SignerRefused("a lower nonce of this wallet was refused: this one was not looked at", why=Why.AFTER_REFUSAL)


def _is_signed(answer: Signed | SignerRefused) -> bool:
    return isinstance(answer, Signed)
