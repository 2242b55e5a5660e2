"""A signer in this process: the core, with its blocking work in a thread."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

from outlay.core.seams import Clock
from outlay.settings import SignerSettings
from outlay.signer import Freeze, JournalSlot, PublicKey, Scope, Signed, SignerRefused, SignerStatus, SignRequest
from outlay.signer.backend import Keys
from outlay.signer.core import SignerCore, key_id
from outlay.signer.journal import Journal

__all__ = ["LocalSigner", "SignerCore", "key_id"]

P = ParamSpec("P")
T = TypeVar("T")


class LocalSigner:
    """Implements ``Signer`` with keys and a journal in this process; one call at a time, each in a thread."""

    def __init__(self, keys: Keys, journal: Journal, *, settings: SignerSettings, clock: Clock) -> None:
        """Take the unlocked keys and their journal; see ``SignerCore``."""
        self.core = SignerCore(keys, journal, settings=settings, clock=clock)
        self._turn = threading.Lock()

    def __repr__(self) -> str:
        """Name the keystore."""
        return f"LocalSigner({self.core!r})"

    async def _call(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        def call() -> T:
            with self._turn:
                return method(*args, **kwargs)

        return await asyncio.to_thread(call)

    async def create_key(self, wallet_id: str) -> PublicKey:
        """Return the key of ``wallet_id``, allocating it on the first call; see ``Signer``."""
        return await self._call(self.core.create_key, wallet_id)

    async def accept_records(self, documents: Sequence[str]) -> SignerStatus:
        """Take the records that follow the newest one; see ``Signer``."""
        return await self._call(self.core.accept_records, list(documents))

    async def sign(self, requests: Sequence[SignRequest]) -> list[Signed | SignerRefused]:
        """Check, sign, journal in one commit, answer; see ``Signer``."""
        return await self._call(self.core.sign, list(requests))

    async def journaled(self, wallet_id: str, fence: int, transfer_ids: Sequence[str]) -> frozenset[str]:
        """Return which of these transfers may have been signed; see ``Signer``."""
        return await self._call(self.core.journaled, wallet_id, fence, list(transfer_ids))

    async def slots(self, *, after: int = 0, limit: int = 100) -> list[JournalSlot]:
        """Return slots of the journal in the order of signing; see ``Signer``."""
        return await self._call(self.core.slots, after=after, limit=limit)

    async def touched(self, *, after: int = 0, limit: int = 100) -> list[JournalSlot]:
        """Return the slots of new attempts; see ``Signer``."""
        return await self._call(self.core.touched, after=after, limit=limit)

    async def records(self, *, after: int = -1, limit: int = 100) -> list[str]:
        """Return accepted records in order; see ``Signer``."""
        return await self._call(self.core.records, after=after, limit=limit)

    async def freeze(self, scope: Scope, subject: str, reason: str) -> Freeze:
        """Stop signing for ``scope`` at once, durably; see ``Signer``."""
        return await self._call(self.core.freeze, scope, subject, reason)

    async def status(self) -> SignerStatus:
        """Return the signer's identity, its positions and what it stopped; see ``Signer``."""
        return await self._call(self.core.status)
