"""The signer inline: the real core on a real journal file, reached over a line that fails, dying where it is told."""

import asyncio
import random
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from outlay.config import Config
from outlay.core.errors import SignerRefused, SignerUnavailable
from outlay.core.seams import Clock, Entropy
from outlay.signer import Freeze, JournalSlot, PublicKey, Scope, Signed, SignerStatus, SignRequest
from outlay.signer.journal import Journal
from outlay.signer.keystore import KdfParams, Keystore
from outlay.signer.local import SignerCore
from tests.sim.loop import Dead, Process

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class SignerFiles:
    """What a signer starts from."""

    keys: Keystore
    journal: bytes
    root: str


class Founding:
    """The signer of the organization that every run copies."""

    def __init__(self, folder: Path, root: str, config: Config, clock: Clock, entropy: Entropy) -> None:
        self._path, self._root = folder / "journal.db", root
        params = KdfParams(memory_kib=8, time=1)
        self._keys = Keystore.create(folder / "keys.json", b"passphrase", entropy, params=params)
        journal_id = entropy.token(16).hex()
        self._journal = Journal.create(self._path, root=root, keystore_id=self._keys.id, journal_id=journal_id)
        self._core = SignerCore(self._keys, self._journal, settings=config.signer, clock=clock)

    def create_key(self, wallet_id: str) -> PublicKey:
        return self._core.create_key(wallet_id)

    def close(self, records: Sequence[str]) -> SignerFiles:
        """Let the signer have the records, and return its files."""
        self._core.accept_records(records)
        self._journal.close()
        return SignerFiles(keys=self._keys, journal=self._path.read_bytes(), root=self._root)


class SignerHost:
    """The signer's process: at most one at a time, on one journal."""

    def __init__(
        self,
        files: SignerFiles,
        folder: Path,
        config: Config,
        clock: Clock,
        *,
        on_journaled: Callable[[str], None],
        on_signed: Callable[[SignRequest, Signed], None],
    ) -> None:
        self._files, self._config, self._clock = files, config, clock
        self._on_journaled, self._on_signed = on_journaled, on_signed
        self._path = folder / "journal.db"
        self._path.write_bytes(files.journal)
        self.process = Process("signer")
        self.core: SignerCore | None = None
        self.busy = False  #: within a call: a dying process then lets go of its file by itself
        self._journal: Journal | None = None

    def start(self) -> None:
        """Start the process anew on what its predecessor left."""
        self.stop()
        self.process = Process("signer")
        self._journal = Journal.open(self._path, root=self._files.root, keystore_id=self._files.keys.id)
        self.core = SignerCore(self._files.keys, self._journal, settings=self._config.signer, clock=self._clock)

    def stop(self) -> None:
        """End the process, however it stands."""
        self.process.kill()
        self.core = None
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    @contextmanager
    def full_disk(self) -> Iterator[None]:
        """Let no commit of the journal succeed."""
        connection = self._connection()
        if connection is None:
            yield
            return
        connection.set_authorizer(_no_commit)
        try:
            yield
        finally:
            if connection is self._connection():
                connection.set_authorizer(None)

    def _connection(self) -> sqlite3.Connection | None:
        return None if self._journal is None else self._journal._connection

    def run(self, work: Callable[[SignerCore], T]) -> T:
        """Do one call, unless the process is down or dies with it."""
        if self.core is None:
            raise SignerUnavailable("the signer does not answer")
        self.busy = True
        try:
            with self.process.entered():
                return work(self.core)
        except Dead:
            raise SignerUnavailable("the signer died") from None
        finally:
            self.busy = False
            if not self.process.alive:
                self.stop()

    def slots(self) -> list[JournalSlot]:
        """Return everything the journal holds."""
        if self.core is None:
            self.start()
        assert self.core is not None
        found: list[JournalSlot] = []
        while part := self.core.slots(after=found[-1].attempts[0].sequence if found else 0):
            found += part
        return found

    def tell(self, after: int, limit: int) -> list[JournalSlot]:
        """Return slots of the journal: what was signed leaves the signer in this way too."""
        return self._told(self.run(lambda core: core.slots(after=after, limit=limit)))

    def tell_touched(self, after: int, limit: int) -> list[JournalSlot]:
        """Return slots of new attempts, as ``tell`` does."""
        return self._told(self.run(lambda core: core.touched(after=after, limit=limit)))

    def _told(self, found: list[JournalSlot]) -> list[JournalSlot]:
        for slot in found:
            for each in slot.attempts:
                request = SignRequest(
                    wallet_id=slot.wallet_id,
                    nonce=slot.nonce,
                    fence=0,
                    gas_limit=each.gas_limit,
                    max_fee_per_gas=each.max_fee_per_gas,
                    max_priority_fee_per_gas=each.max_priority_fee_per_gas,
                    fee_cap=slot.fee_cap,
                    purpose=each.purpose,
                    transfer_id=slot.transfer_id,
                )
                self._on_signed(request, Signed(raw=each.raw, hash=each.hash, sequence=each.sequence))
        return found

    def sign(self, requests: Sequence[SignRequest]) -> list[Signed | SignerRefused]:
        try:
            answers = self.run(lambda core: core.sign(requests))
        except SignerUnavailable:
            self._tell_what_was_left()
            raise
        for request, answer in zip(requests, answers, strict=True):
            if isinstance(answer, Signed):
                self._on_signed(request, answer)
        return answers

    def _tell_what_was_left(self) -> None:
        """Tell what the file holds of a process that has died: it is decided, though nobody has the bytes yet."""
        if self.core is not None:
            return
        with closing(sqlite3.connect(self._path)) as file:
            for (transfer_id,) in file.execute("SELECT transfer_id FROM slot WHERE transfer_id IS NOT NULL"):
                self._on_journaled(transfer_id)


class SignerLine:
    """What a worker or the API has of the signer; implements ``Signer``."""

    def __init__(
        self, host: SignerHost, process: Process, chance: random.Random, ask: Callable[[str], str | None]
    ) -> None:
        self._host, self._process, self._chance, self._ask = host, process, chance, ask

    async def _call(self, work: Callable[[SignerHost], T]) -> T:
        self._process.check()
        await asyncio.sleep(self._delay())
        self._process.check()
        fault = self._ask("signer")
        if fault == "signer.unreachable":
            raise SignerUnavailable("the signer does not answer")
        if fault == "signer.disk_full":
            with self._host.full_disk():
                answer = work(self._host)
        else:
            answer = work(self._host)
        await asyncio.sleep(self._delay())
        self._process.check()
        if fault == "signer.answer_lost":
            raise SignerUnavailable("the connection to the signer broke")
        return answer

    def _delay(self) -> float:
        if self._ask("delay") is not None:
            return self._chance.uniform(1.0, 20.0)
        return self._chance.random() * 0.02

    async def create_key(self, wallet_id: str) -> PublicKey:
        return await self._call(lambda host: host.run(lambda core: core.create_key(wallet_id)))

    async def accept_records(self, documents: Sequence[str]) -> SignerStatus:
        return await self._call(lambda host: host.run(lambda core: core.accept_records(documents)))

    async def sign(self, requests: Sequence[SignRequest]) -> list[Signed | SignerRefused]:
        return await self._call(lambda host: host.sign(requests))

    async def journaled(self, wallet_id: str, fence: int, transfer_ids: Sequence[str]) -> frozenset[str]:
        return await self._call(lambda host: host.run(lambda core: core.journaled(wallet_id, fence, transfer_ids)))

    async def slots(self, *, after: int = 0, limit: int = 100) -> list[JournalSlot]:
        return await self._call(lambda host: host.tell(after, limit))

    async def touched(self, *, after: int = 0, limit: int = 100) -> list[JournalSlot]:
        return await self._call(lambda host: host.tell_touched(after, limit))

    async def records(self, *, after: int = -1, limit: int = 100) -> list[str]:
        return await self._call(lambda host: host.run(lambda core: core.records(after=after, limit=limit)))

    async def freeze(self, scope: Scope, subject: str, reason: str) -> Freeze:
        return await self._call(lambda host: host.run(lambda core: core.freeze(scope, subject, reason)))

    async def status(self) -> SignerStatus:
        return await self._call(lambda host: host.run(lambda core: core.status()))


def _no_commit(action: int, argument: str | None, *_rest: str | None) -> int:
    refused = action == sqlite3.SQLITE_TRANSACTION and argument == "COMMIT"
    return sqlite3.SQLITE_DENY if refused else sqlite3.SQLITE_OK


def found_signer(folder: Path, root: str, config: Config, clock: Any, entropy: Entropy) -> Founding:
    """Make keys and journal for an organization."""
    return Founding(folder, root, config, clock, entropy)
