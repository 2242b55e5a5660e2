"""Recovery: before anything is admitted or signed, the database is made to know all that the signer knows.

An older copy of the database may have been restored, or the database lost altogether. The signer's journal knows what
was signed, and its copy of the records who is who. Each step may be interrupted anywhere and is done again then.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import structlog

from outlay.actions.readmit import Kept, SignedBefore, readmit, take_back
from outlay.actions.rebuild import apply_records, replace_token
from outlay.actions.work import Work
from outlay.config import Config
from outlay.core.errors import InvalidInput, InvariantBroken, SignerRefused
from outlay.core.faultpoint import fault
from outlay.core.seams import Clock, Entropy
from outlay.engine.guard import freeze
from outlay.evidence.canonical import read_canonical
from outlay.evidence.history import History, Replay
from outlay.evidence.record import record_hash
from outlay.signer import JournalSlot, SignedAttempt, Signer, SignerStatus, Why
from outlay.store import lanes, organizations, recovery, stops, wallets
from outlay.store.database import Database, Row, Unit

log = structlog.get_logger()

PAGE = 50
"""Records, or slots, handed over in one call and written in one unit."""
FENCE_MAX = 2**52
FENCE_GAP = 1000
"""More leases than can have been taken since the signer last heard of one."""


class Knows(Enum):
    """What the tables know of what the signer's journal holds."""

    ALL = auto()
    SLOTS = auto()  #: everything that was asked of the signer, perhaps not its answers: what a crash leaves
    LESS = auto()  #: they are an older copy


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What recovery had to do."""

    records: int  #: that the signer had and the database had not
    slots: int  #: of the journal that the database did not have, or not as far


class Recover:
    """Makes the database know what the signer knows."""

    def __init__(
        self,
        db: Database,
        signer: Signer,
        config: Config,
        clock: Clock,
        entropy: Entropy,
        *,
        keep_token: Callable[[str, dict[str, Any]], None] | None = None,
    ) -> None:
        """Keep the parts.

        Args:
            db: the database, perhaps an empty one.
            signer: who knows what was signed.
            config: the configuration.
            clock: the time.
            entropy: for identifiers.
            keep_token: is given user id and claims of a new bearer token for each service account whose own was lost
                with the database; called before the token is stored, and again if that fails.
        """
        self._db, self._signer, self._config, self._clock, self._entropy = db, signer, config, clock, entropy
        self._keep_token = keep_token

    async def run(self) -> Recovered:
        """Recover, if anything is missing, and say what was.

        Raises:
            SignerUnavailable: the signer does not answer.
            InvariantBroken: database and signer contradict each other; says what to do. Nothing may be served then.
        """
        status = await self._signer.status()
        history, applied = await self._recover_records(status)
        await self._push_records(status)
        await self._replace_tokens()
        if not status.seeded:
            log.warning("journal_not_seeded", journal=status.journal_id)
            return Recovered(records=applied, slots=0)
        # First of all: what somebody asked of the signer before must not be signed behind the journal's back.
        fences = await self._outrun(Knows.LESS if applied else await self._how_far(status))
        status = await self._signer.status()
        missing = await self._recover_slots(status, history, fences)
        await self._begin_lanes(status, history)
        await self._raise_fences(fences)
        await self._db.write(lambda unit: stops.set_mark(unit, journal_id=status.journal_id, sequence=status.sequence))
        if applied or missing:
            log.warning("recovered", records=applied, slots=missing)
        return Recovered(records=applied, slots=missing)

    def _work(self, unit: Unit) -> Work:
        return Work(unit=unit, now=self._clock.now(), entropy=self._entropy, config=self._config)

    # Records

    async def _recover_records(self, status: SignerStatus) -> tuple[History, int]:
        """Apply the records that only the signer has; return what all of them say and how many that were."""
        here = await self._db.read(recovery.all_record_texts)
        replay = Replay(status.root)
        hashes = [_add(replay, text) for text in here]
        if 0 <= status.record_seq < len(hashes) and hashes[status.record_seq] != status.record_head:
            raise InvariantBroken(
                f"record {status.record_seq} is another one here than at the signer: this database and this signer do"
                " not belong together, or one of them went on after a copy of it was restored elsewhere. Restore the"
                " database that the signer knows, or none at all"
            )
        fresh: list[str] = []
        while len(here) + len(fresh) <= status.record_seq:
            page = await self._signer.records(after=len(here) + len(fresh) - 1, limit=PAGE)
            if not page:
                raise InvariantBroken("the signer does not give the records it says it has: its journal is damaged")
            fresh += page
        for text in fresh:
            _add(replay, text)
        if replay.history is None:
            raise InvalidInput(
                "neither the database nor the signer holds an organization: run outlay init", field="dir"
            )
        if fresh:
            documents = [_document(text) for text in fresh]

            def run(unit: Unit) -> None:
                if here:
                    recovery.doubt_unsigned(unit, now=self._clock.now())
                apply_records(self._work(unit), fresh, documents)
                # Not compared yet is said of a wallet that a person let go; this one was compared before.
                recovery.mark_compared(unit)

            await self._db.write(run)
            fault("recover.after_records")
        return replay.history, len(fresh)

    async def _push_records(self, status: SignerStatus) -> None:
        after = status.record_seq
        while True:
            texts = await self._db.read(
                lambda unit, after=after: organizations.record_texts(unit, after=after, limit=PAGE)  # type: ignore[misc]
            )
            if not texts:
                return
            try:
                after = (await self._signer.accept_records(texts)).record_seq
            except SignerRefused as refused:
                raise InvariantBroken(
                    f"the signer does not accept this database's records: {refused.message}"
                ) from None

    async def _replace_tokens(self) -> None:
        """Make tokens for service accounts that have none: no record holds them, and a machine cannot log in."""
        if self._keep_token is None:
            return
        keep_token = self._keep_token
        for user_id in await self._db.read(recovery.machines_without_token):

            def run(unit: Unit, user_id: str = user_id) -> None:
                claims = replace_token(self._work(unit), user_id)
                if claims is not None:
                    keep_token(user_id, claims)

            await self._db.write(run)

    # Lanes

    async def _begin_lanes(self, status: SignerStatus, history: History) -> None:
        """Skip the nonces that a lost journal may have signed."""
        named = [each.min_nonces for each in history.reseeds if each.journal_id == status.journal_id]

        def run(unit: Unit) -> None:
            for wallet_id, nonce in sorted(named[-1].items()):
                recovery.begin_lane_at(unit, wallet_id, nonce=nonce)

        if named:
            await self._db.write(run)

    async def _how_far(self, status: SignerStatus) -> Knows:
        """Return what the tables know of what the journal holds."""
        journal_id, after = await self._db.read(stops.mark)
        if await self._db.read(recovery.doubted_slots) or journal_id != status.journal_id:
            return Knows.LESS
        if after == status.sequence:
            return Knows.ALL
        seen = after
        while page := await self._signer.touched(after=seen, limit=PAGE):

            def is_older(unit: Unit, page: Sequence[JournalSlot] = page) -> bool:
                return any(_is_unknown(unit, slot, after=after) for slot in page)

            if await self._db.read(is_older):
                return Knows.LESS
            for slot in page:
                seen = slot.next_after(seen)
        return Knows.SLOTS

    async def _outrun(self, knows: Knows) -> dict[str, int]:
        """Tell the signer of higher fences where that is needed, and return them by wallet.

        Those of an older copy of the database are too low. And where the journal knows more, requests may still be
        under way that this database does not know of: the new fence is far above any that they can carry. Where all
        that was asked for is known, what is under way may be the work of a process that lives: it keeps its lanes.
        """
        raised = {}
        for wallet in await self._db.read(wallets.everything):
            lane = await self._db.read(lambda unit, wallet_id=wallet.id: lanes.find(unit, wallet_id))  # type: ignore[misc]
            before = 0 if lane is None else int(lane.fence)
            fence = await self._accepted_fence(wallet.id, before)
            is_held = lane is not None and (lane.leased_until or 0) > self._clock.now()
            is_behind = knows is Knows.LESS or (knows is Knows.SLOTS and not is_held)
            if fence is not None and (is_behind or fence > before):
                raised[wallet.id] = fence + FENCE_GAP
                await self._signer.journaled(wallet.id, raised[wallet.id], [])
        return raised

    async def _raise_fences(self, fences: dict[str, int]) -> None:
        """Lease every lane from now on with fences that the signer follows."""

        def run(unit: Unit) -> None:
            for wallet_id, fence in sorted(fences.items()):
                recovery.raise_fence(unit, wallet_id, fence=fence)

        if fences:
            await self._db.write(run)

    async def _accepted_fence(self, wallet_id: str, least: int) -> int | None:
        """Return the lowest of ``least`` and the powers of two above it that the signer follows; None: no key there."""
        fence = least
        while fence <= FENCE_MAX:
            try:
                await self._signer.journaled(wallet_id, fence, [])
                return fence
            except SignerRefused as refused:
                if refused.why != Why.FENCED:
                    return None  # it never signed for this wallet
            fence = 1 << fence.bit_length()
        raise InvariantBroken(f"the signer follows no fence of {wallet_id}")

    # Slots

    async def _recover_slots(self, status: SignerStatus, history: History, fences: dict[str, int]) -> int:
        journal_id, after = await self._db.read(stops.mark)
        if journal_id != status.journal_id:
            after = 0
        slots = [] if after == status.sequence else await self._touched(after)

        def doubt(unit: Unit) -> None:
            if any(_is_unknown(unit, slot, after=after) for slot in slots):
                recovery.doubt_unsigned(unit, now=self._clock.now())

        if slots:
            await self._db.write(doubt)
        await self._take_back(fences)
        missing = 0
        for start in range(0, len(slots), PAGE):
            page = slots[start : start + PAGE]
            missing += await self._readmit(history, page)
            fault("recover.after_slots")
        return missing

    async def _take_back(self, fences: dict[str, int]) -> None:
        """Undo the bindings of payouts in doubt, unless the journal shows that they were signed."""
        # A wallet without a fence is none of this signer's.
        doubted = [slot for slot in await self._db.read(recovery.doubted_slots) if slot.wallet_id in fences]
        asked = {slot.id for slot in doubted}
        signed: set[str] = set()
        for wallet_id in sorted({slot.wallet_id for slot in doubted}):
            names = [slot.transfer_id for slot in doubted if slot.wallet_id == wallet_id]
            signed |= await self._signer.journaled(wallet_id, fences[wallet_id], names)

        def run(unit: Unit) -> None:
            work = self._work(unit)
            organizations.lock_shared(unit)
            for slot in recovery.doubted_slots(unit):
                if slot.transfer_id in signed:
                    recovery.trust_again(unit, slot.transfer_id)
                elif slot.id in asked:
                    take_back(work, slot)

        if doubted:
            await self._db.write(run)

    async def _touched(self, after: int) -> list[JournalSlot]:
        """Return the slots that have attempts above ``after``, in the order of their first ones."""
        found: dict[tuple[str, int], JournalSlot] = {}
        while page := await self._signer.touched(after=after, limit=PAGE):
            for slot in page:
                found[slot.wallet_id, slot.nonce] = slot
                after = slot.next_after(after)
        return sorted(found.values(), key=lambda slot: slot.attempts[0].sequence)

    async def _readmit(self, history: History, slots: Sequence[JournalSlot]) -> int:
        """Write a page of slots, each in a unit of its own only where one of them contradicts the tables."""

        def run(unit: Unit, part: Sequence[JournalSlot] = slots) -> int:
            work, changed = self._work(unit), 0
            organizations.lock_shared(unit)
            for slot in part:
                changed += readmit(work, history, _kept(slot))
                if slot.transfer_id is not None:
                    recovery.trust_again(unit, slot.transfer_id)
                recovery.advance_lane(unit, slot.wallet_id, nonce=slot.nonce)
            return changed

        try:
            return await self._db.write(run)
        except (InvariantBroken, InvalidInput):
            changed = 0
            for slot in slots:
                try:
                    changed += await self._db.write(lambda unit, slot=slot: run(unit, [slot]))  # type: ignore[misc]
                except (InvariantBroken, InvalidInput) as error:
                    # Such a wallet pays nothing more until a person has looked; the others go on.
                    about = {"wallet": slot.wallet_id, "nonce": slot.nonce, "payout": slot.transfer_id}
                    log.error("slot_not_recovered", **about, message=error.message)
                    reason = f"nonce {slot.nonce} was not recovered: {error.message}"
                    await freeze(self._db, self._clock, self._entropy, slot.wallet_id, reason)
            return changed


def _document(text: str) -> dict[str, object]:
    document = read_canonical(text.encode(), field="record")
    if not isinstance(document, dict):
        raise InvariantBroken("a stored record is not a record")
    return document


def _add(replay: Replay, text: str) -> str:
    """Check a record against those before and return its hash.

    Raises:
        InvariantBroken: it does not follow them, or is not signed by who was entitled to it.
    """
    document = _document(text)
    try:
        replay.add(document)
    except InvalidInput as error:
        raise InvariantBroken(
            f"the records do not verify from root {replay.root} on: {error.message}. This database was altered, or"
            " belongs to another deployment than the signer's journal"
        ) from error
    return record_hash(document)


def _kept(slot: JournalSlot) -> Kept:
    demand = slot.demand
    return Kept(
        wallet_id=slot.wallet_id,
        nonce=slot.nonce,
        transfer_id=slot.transfer_id,
        intent=slot.intent,
        payout=None if demand is None else demand.payout,
        asked=() if demand is None else demand.asked,
        decisions=() if demand is None else demand.decisions,
        fee_cap=slot.fee_cap,
        attempts=tuple(
            SignedBefore(
                purpose=str(each.purpose),
                gas_limit=each.gas_limit,
                max_fee_per_gas=each.max_fee_per_gas,
                max_priority_fee_per_gas=each.max_priority_fee_per_gas,
                legacy=each.legacy,
                raw=each.raw,
                hash=each.hash,
                at=each.at,
            )
            for each in slot.attempts
        ),
    )


def _is_unknown(unit: Unit, slot: JournalSlot, *, after: int) -> bool:
    """Tell whether the signer was asked for something that is not in the tables: then they are an older copy.

    What is asked for is stored before, so a crash leaves of it what was to be signed, if not the bytes. Only of what is
    final that was dropped.

    Args:
        unit: the database unit.
        slot: that has attempts above ``after``.
        after: how far the journal is known.
    """
    row = recovery.find_slot(unit, slot.wallet_id, slot.nonce)
    if row is None or row.transfer_id != slot.transfer_id:
        return True
    if row.state == "final":
        return False
    here = lanes.attempts(unit, row.id)
    stored = {each.hash for each in here if each.raw is not None}
    asked = {_asked(each) for each in here if each.raw is None}
    fresh = [each for each in slot.attempts if each.sequence > after and each.hash not in stored]
    # There is never more than one to be signed for a slot.
    return len(fresh) > 1 or any(_asked(each) not in asked for each in fresh)


def _asked(attempt: Row | SignedAttempt) -> tuple[str | int, ...]:
    """Return what an attempt was asked for with, of a row or of the journal."""
    fees = (attempt.gas_limit, attempt.max_fee_per_gas, attempt.max_priority_fee_per_gas)
    return (str(attempt.purpose), *fees)
