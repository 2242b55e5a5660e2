"""A signer of a few lines, and a server round it in a thread's own loop, for tests of what lies between."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from outlay.signer import (
    Demand,
    Freeze,
    JournalSlot,
    PublicKey,
    Purpose,
    Scope,
    Signed,
    SignedAttempt,
    SignerRefused,
    SignerStatus,
    SignRequest,
    Why,
)
from outlay.signer.process import SignerServer


def request(wallet: str = "wa-1", nonce: int = 0, *, note: str = "") -> SignRequest:
    """Return a request whose demand holds ``note``."""
    return SignRequest(
        wallet_id=wallet,
        nonce=nonce,
        fence=7,
        gas_limit=21_000,
        max_fee_per_gas=2**200,
        max_priority_fee_per_gas=1,
        fee_cap=2**220,
        transfer_id=f"tr-{wallet}-{nonce}",
        demand=Demand(payout={"payload": {"note": note, "share": 0.5}}, decisions=({"vote": "Approve"},)),
    )


@dataclass
class StubSigner:
    """Signs everything but what ``refuse`` names, and remembers what it was asked."""

    refuse: Callable[[SignRequest], SignerRefused | None] = lambda _: None
    problem: Exception | None = None
    delay_s: float = 0.0
    batches: list[list[SignRequest]] = field(default_factory=list)
    documents: list[str] = field(default_factory=list)
    frozen_after: int | None = None  #: batches signed before the freeze
    kept: list[JournalSlot] = field(default_factory=list)
    busy: int = 0
    most_at_once: int = 0

    async def create_key(self, wallet_id: str) -> PublicKey:
        """Make up a key."""
        if self.problem is not None:
            raise self.problem
        return PublicKey(key_id=f"key-{wallet_id}", address="0x" + "ab" * 20, public_key_hex="02" + "cd" * 32)

    async def accept_records(self, documents: Sequence[str]) -> SignerStatus:
        """Keep them."""
        self.documents += documents
        return await self.status()

    async def sign(self, requests: Sequence[SignRequest]) -> list[Signed | SignerRefused]:
        """Answer each; the bytes say which it was."""
        self.busy += 1
        self.most_at_once = max(self.most_at_once, self.busy)
        if self.problem is not None:
            raise self.problem
        self.batches.append(list(requests))
        await asyncio.sleep(self.delay_s)
        self.busy -= 1
        refused: set[str] = set()
        answers: list[Signed | SignerRefused] = []
        for each in requests:
            refusal = SignerRefused("later", why=Why.AFTER_REFUSAL) if each.wallet_id in refused else self.refuse(each)
            if refusal is not None:
                refused.add(each.wallet_id)
            raw = f"{each.wallet_id} {each.nonce}".encode()
            answers.append(refusal or Signed(raw=raw, hash="0x" + "00" * 32, sequence=2**60))
        return answers

    async def journaled(self, wallet_id: str, fence: int, transfer_ids: Sequence[str]) -> frozenset[str]:
        """Say that it holds every second."""
        if fence < 7:
            raise SignerRefused("another worker leads this lane", field="fence", why=Why.FENCED)
        return frozenset(transfer_ids[::2])

    async def slots(self, *, after: int = 0, limit: int = 100) -> list[JournalSlot]:
        """Return slots that were put in."""
        return [slot for slot in self.kept if slot.attempts[0].sequence > after][:limit]

    async def touched(self, *, after: int = 0, limit: int = 100) -> list[JournalSlot]:
        """Return the slots that were put in of each attempt."""
        found = [(each.sequence, slot) for slot in self.kept for each in slot.attempts if each.sequence > after]
        return [slot for _, slot in sorted(found, key=lambda each: each[0])][:limit]

    async def records(self, *, after: int = -1, limit: int = 100) -> list[str]:
        """Return what it accepted."""
        return self.documents[after + 1 : after + 1 + limit]

    async def freeze(self, scope: Scope, subject: str, reason: str) -> Freeze:
        """Note when it was asked."""
        self.frozen_after = len(self.batches)
        return Freeze(id="fz-1", scope=scope, subject=subject, reason=reason, at=2**60)

    async def status(self) -> SignerStatus:
        """Make up a status."""
        return SignerStatus(
            root="ab" * 32,
            keystore_id="ks",
            journal_id="jo",
            seeded=True,
            keys=1,
            sequence=len(self.batches),
            head="cd" * 32,
            record_seq=len(self.documents) - 1,
            record_head="",
            freezes=(Freeze(id="fz", scope=Scope.ALL, subject="", reason="é", at=1),),
        )


def slot(number: int, *, note: str) -> JournalSlot:
    """Return a slot as large as its note."""
    attempt = SignedAttempt(
        sequence=number,
        purpose=Purpose.PAYOUT,
        gas_limit=21_000,
        max_fee_per_gas=1,
        max_priority_fee_per_gas=1,
        legacy=False,
        raw=b"\x02",
        hash="0x",
        at=1,
    )
    return JournalSlot(
        wallet_id="wa-1",
        nonce=number,
        transfer_id=None,
        external_id=None,
        intent={"note": note},
        demand=None,
        fee_cap=2**100,
        attempts=(attempt,),
    )


class Served:
    """A running server of a signer; ``async with`` it."""

    def __init__(self, signer: Any, path: Path, **settings: Any) -> None:
        """Describe it."""
        self.path = path
        self._server = SignerServer(signer, **settings)
        self._end = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Served":
        """Start it."""
        ready = asyncio.Event()
        self._task = asyncio.create_task(self._server.serve(self.path, until=self._end, ready=ready.set))
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait([self._task, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self._task.done():
            self._task.result()
        return self

    async def __aexit__(self, *_: object) -> None:
        """End it."""
        self._end.set()
        assert self._task is not None
        await self._task
