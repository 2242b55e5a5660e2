"""The signer itself: what it knows, and each thing it can be asked. Synchronous, one call at a time, no threads.

Everything it believes is in its journal file: keys, what was signed, what is stopped, and the records it accepted. What
it holds in memory follows from that file and is thrown away whenever a unit fails.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from outlay.core.errors import InvalidInput, InvariantBroken, SignerRefused
from outlay.core.faultpoint import fault
from outlay.core.ids import KEY, new_id
from outlay.core.seams import Clock, Instant
from outlay.evidence.canonical import digest, read_canonical
from outlay.evidence.history import History, Replay
from outlay.evidence.record import CHANGE_APPLIED, RecordBroken, record_hash
from outlay.evidence.state import Reseed
from outlay.settings import SignerSettings
from outlay.signer import Demand, Freeze, JournalSlot, PublicKey, Scope, Signed, SignerStatus, SignRequest, Why
from outlay.signer.backend import Keys
from outlay.signer.batch import Batch
from outlay.signer.checks import check_id
from outlay.signer.journal import Journal
from outlay.signer.journal_rows import FREEZE, LIFTED, RESEEDED, Entry, KeyRow, Rows, SlotRow
from outlay.signer.memory import Reseeding, State, follow_fence, moment, read_state, unseeded
from outlay.signer.windows import Windows

_PAGE_MAX: Final = 1000
_FREEZE_PREFIX: Final = "frz"


class SignerCore:
    """A signer with its keys and its journal."""

    def __init__(self, keys: Keys, journal: Journal, *, settings: SignerSettings, clock: Clock) -> None:
        """Take the unlocked keys and their journal.

        Args:
            keys: where signatures come from.
            journal: the one journal of these keys.
            settings: the signer's own limits.
            clock: the time written into journal entries, never before that of the newest.

        Raises:
            InvariantBroken: the journal belongs to other keys, or the records in it do not verify.
            SignerUnavailable: the journal cannot be read.
        """
        if journal.keystore_id != keys.id:
            raise InvariantBroken("the journal belongs to another keystore")
        self._keys, self._journal, self._settings, self._clock = keys, journal, settings, clock
        self._state: State | None = None
        self._replay = Replay(journal.root)
        self._is_replay_whole = False
        self._version = -1
        self._verified: set[str] = set()
        with journal.reading() as rows:
            self._known(rows)

    def __repr__(self) -> str:
        """Name the keystore."""
        return f"{type(self).__name__}({self._keys.id})"

    # --- what is known --------------------------------------------------------------------------------------------

    def _known(self, rows: Rows) -> State:
        """Return what follows from the file, read again if a unit failed or somebody else wrote."""
        version = rows.version()
        if version != self._version:
            self._state, self._is_replay_whole = None, False
        state = self._state or read_state(rows, self._settings)
        if not self._is_replay_whole:
            self._load_records(rows)
        self._state, self._version = state, version
        return state

    def _load_records(self, rows: Rows) -> None:
        replay = Replay(self._journal.root)
        try:
            for text in rows.records():
                document = read_canonical(text.encode(), field="record")
                assert isinstance(document, dict)
                replay.add(document)
        except InvalidInput as error:
            raise InvariantBroken(f"the records in the signer's journal do not verify: {error.message}") from error
        self._replay, self._is_replay_whole = replay, True

    def _now(self, state: State) -> Instant:
        return moment(state, self._clock)

    def status(self) -> SignerStatus:
        """Return the signer's identity, its positions and what it stopped."""
        with self._journal.reading() as rows:
            return self._status(self._known(rows))

    def _status(self, state: State) -> SignerStatus:
        history = self._replay.history
        return SignerStatus(
            root=self._journal.root,
            keystore_id=self._keys.id,
            journal_id=self._journal.journal_id,
            seeded=state.is_seeded,
            keys=len(state.keys),
            sequence=state.newest.seq,
            head=state.newest.hash,
            record_seq=self._replay.newest,
            record_head="" if history is None else history.head,
            freezes=tuple(state.freezes),
        )

    # --- keys -----------------------------------------------------------------------------------------------------

    def create_key(self, wallet_id: str) -> PublicKey:
        """Return the key of ``wallet_id``, allocating it on the first call; see ``Signer``.

        Raises:
            SignerRefused: the wallet id is malformed, or the journal is a new one and does not know which keys are
                taken.
        """
        check_id(wallet_id, "wallet_id")
        with self._writing() as (rows, state):
            row = state.keys.get(wallet_id)
            if row is None:
                if not state.is_seeded:
                    raise unseeded()
                index = 1 + max((each.index for each in state.keys.values()), default=-1)
                row = self._keep_key(rows, state, wallet_id, index)
            self._check_key(row)
        return PublicKey(key_id=key_id(row.public_key), address=row.address, public_key_hex=row.public_key)

    def _keep_key(self, rows: Rows, state: State, wallet_id: str, index: int) -> KeyRow:
        made = self._keys.make(wallet_id, index)
        row = KeyRow(
            wallet_id=wallet_id,
            index=index,
            reference=made.reference,
            address=made.address,
            public_key=made.public_key_hex,
        )
        rows.add_key(row)
        state.keys[wallet_id] = row
        return row

    def _check_key(self, row: KeyRow) -> None:
        """Compare once what the journal says about a key with the key itself."""
        if row.wallet_id in self._verified:
            return
        made = self._keys.find(row.reference)
        if (made.address, made.public_key_hex) != (row.address, row.public_key):
            raise InvariantBroken(f"the journal's address of wallet {row.wallet_id} is not this keystore's")
        self._verified.add(row.wallet_id)

    # --- records --------------------------------------------------------------------------------------------------

    def accept_records(self, documents: Sequence[str]) -> SignerStatus:
        """Take the records that follow the newest one; see ``Signer``."""
        problem: InvalidInput | None = None
        with self._writing() as (rows, state):
            self._is_replay_whole = False  # until all of this is on disk
            fresh: dict[int, dict[str, Any]] = {}
            for text in documents:
                try:
                    document = self._accept(rows, text)
                except InvalidInput as error:
                    problem = error
                    break
                if document is not None:
                    fresh[document["seq"]] = document
            if self._replay.history is not None:
                self._follow(rows, state, self._replay.history, fresh)
        if problem is not None:
            # The history may hold half of the record that was refused: it is read again.
            raise SignerRefused(problem.message, field=problem.field, why=Why.EVIDENCE) from problem
        self._is_replay_whole = True
        return self.status()

    def _accept(self, rows: Rows, text: str) -> dict[str, Any] | None:
        """Add one record to the history and return it, or None if it was known."""
        if not isinstance(text, str) or not text.isascii():
            raise RecordBroken("is not canonical text", field="record")
        document = read_canonical(text.encode("ascii"), field="record")
        if not isinstance(document, dict) or type(document.get("seq")) is not int:
            raise RecordBroken("is not a record", field="record")
        number = document["seq"]
        if 0 <= number <= self._replay.newest:
            known = self._replay.history
            if known is None or known.numbers.get(record_hash(document)) != number:
                raise RecordBroken(f"the signer has accepted another record {number}: it never goes back", field="seq")
            return None
        rows.add_record(number, self._replay.add(document), text)
        return document

    def _follow(self, rows: Rows, state: State, history: History, fresh: Mapping[int, dict[str, Any]]) -> None:
        """Do what newly accepted records say to the signer itself."""
        for freeze in list(state.freezes):
            number = history.lifted.get(freeze.id, -1)
            # Whoever signed that something may go on has to have meant just that.
            if number in fresh and _names(fresh[number], freeze):
                self._write(rows, state, LIFTED, {"freezeId": freeze.id, "record": number})
                rows.remove_freeze(freeze.id)
                state.freezes.remove(freeze)
        for reseed in history.reseeds:
            if reseed.number in fresh and reseed.journal_id == self._journal.journal_id and not state.is_seeded:
                self._reseed(rows, state, history, reseed)

    def _reseed(self, rows: Rows, state: State, history: History, reseed: Reseed) -> None:
        body = {"record": reseed.number, "journalId": reseed.journal_id, "minNonces": dict(reseed.min_nonces)}
        entry = self._write(rows, state, RESEEDED, body)
        state.is_seeded = True
        state.reseeding = Reseeding(number=reseed.number, min_nonces=dict(reseed.min_nonces), at=entry.at)
        state.windows = Windows(self._settings.caps, full_from=entry.at)
        for wallet_id in sorted(reseed.min_nonces):
            self._find_key(rows, state, wallet_id, history.wallets[wallet_id].public_key, limit=len(history.wallets))

    def _find_key(self, rows: Rows, state: State, wallet_id: str, public_key: str, *, limit: int) -> None:
        """Find again which key a wallet has, after the journal that knew it was lost."""
        taken = {each.index for each in state.keys.values()}
        # Keys may have been made for wallets that were then never recorded.
        for index in range(limit + _PAGE_MAX):
            if index not in taken and self._keys.make(wallet_id, index).public_key_hex == public_key:
                self._keep_key(rows, state, wallet_id, index)
                return

    # --- signing --------------------------------------------------------------------------------------------------

    def sign(self, requests: Sequence[SignRequest]) -> list[Signed | SignerRefused]:
        """Check, sign, journal in one commit, answer; see ``Signer``."""
        with self._writing() as (rows, state):
            for wallet_id in {request.wallet_id for request in requests if isinstance(request.wallet_id, str)}:
                if wallet_id in state.keys:
                    self._check_key(state.keys[wallet_id])
            batch = Batch(
                rows, state, self._replay.history, keys=self._keys, settings=self._settings, clock=self._clock
            )
            answers = [batch.answer(request) for request in requests]
            if batch.has_signed:
                fault("signer.before_journal")
        if batch.has_signed:
            fault("signer.after_journal")
        return answers

    def journaled(self, wallet_id: str, fence: int, transfer_ids: Sequence[str]) -> frozenset[str]:
        """Return which transfers may have been signed, and follow no lower fence from now on; see ``Signer``."""
        check_id(wallet_id, "wallet_id")
        if type(fence) is not int or not 0 <= fence < 2**53:
            raise SignerRefused("fence must be an integer from 0 to 2^53 - 1", field="fence")
        with self._writing() as (rows, state):
            key = state.keys.get(wallet_id)
            if key is None:
                raise SignerRefused(f"wallet {wallet_id} has no key here", field="wallet_id")
            follow_fence(rows, state, key, fence)
            return frozenset(each for each in set(transfer_ids) if rows.slot_of_transfer(each) is not None)

    def slots(self, *, after: int = 0, limit: int = 100) -> list[JournalSlot]:
        """Return slots whose first attempt has a number above ``after``, in that order; see ``Signer``."""
        with self._journal.reading() as rows:
            return [_told(rows, slot) for slot in rows.slots(after=after, limit=max(0, min(limit, _PAGE_MAX)))]

    def touched(self, *, after: int = 0, limit: int = 100) -> list[JournalSlot]:
        """Return the slot of each attempt with a number above ``after``, in the order of attempts; see ``Signer``."""
        with self._journal.reading() as rows:
            return [_told(rows, slot) for slot in rows.touched(after=after, limit=max(0, min(limit, _PAGE_MAX)))]

    def records(self, *, after: int = -1, limit: int = 100) -> list[str]:
        """Return the texts of accepted records with a number above ``after``, in order; see ``Signer``."""
        with self._journal.reading() as rows:
            return rows.records(after=after, limit=max(0, min(limit, _PAGE_MAX)))

    # --- stopping -------------------------------------------------------------------------------------------------

    def freeze(self, scope: Scope, subject: str, reason: str) -> Freeze:
        """Stop signing for ``scope`` at once, durably; see ``Signer``.

        Raises:
            SignerRefused: everything is stopped without a subject, anything else by its id; a reason is text.
        """
        scope = Scope(scope)
        if scope is Scope.ALL and subject != "":
            raise SignerRefused("everything has no subject", field="subject")
        if scope is not Scope.ALL:
            check_id(subject, "subject")
        if not isinstance(reason, str) or len(reason) > 1000:
            raise SignerRefused("the reason is a text of at most 1000 characters", field="reason")
        with self._writing() as (rows, state):
            known = next((each for each in state.freezes if (each.scope, each.subject) == (scope, subject)), None)
            if known is not None:
                return known
            self._check_subject(state, scope, subject)
            at = self._now(state)
            body: dict[str, Any] = {"scope": scope.value, "subject": subject, "reason": reason}
            named = digest([self._journal.journal_id, state.newest.hash, at, body])
            made = Freeze(
                id=new_id(_FREEZE_PREFIX, _Fixed(bytes.fromhex(named))),
                scope=scope,
                subject=subject,
                reason=reason,
                at=at,
            )
            self._write(rows, state, FREEZE, {"freezeId": made.id, **body})
            rows.add_freeze(made)
            state.freezes.append(made)
        return made

    def _check_subject(self, state: State, scope: Scope, subject: str) -> None:
        """Refuse to stop what there is not: whoever mistypes it must not believe that it is stopped.

        Raises:
            SignerRefused: neither keys nor records know it.
        """
        history = self._replay.history
        if history is None or scope is Scope.ALL:
            return
        networks = history.money_settings.get("networks", {})
        known = {
            Scope.WALLET: subject in state.keys or subject in history.wallets,
            Scope.NETWORK: subject in networks or any(each.network == subject for each in history.wallets.values()),
            Scope.IDENTITY: subject in history.identities or subject in history.mandates,
        }
        if not known[scope]:
            raise SignerRefused(f"there is no {scope} {subject!r}: give its id as the lists show it", field="subject")

    # --- units ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _writing(self) -> Iterator[tuple[Rows, State]]:
        """Run one durable unit; if it fails, what is in memory is read again from the file."""
        try:
            with self._journal.unit() as rows:
                yield rows, self._known(rows)
        except BaseException:
            self._state = None
            raise

    def _write(self, rows: Rows, state: State, kind: str, body: dict[str, Any]) -> Entry:
        state.newest = rows.add_entry(state.newest, kind, body, at=self._now(state))
        return state.newest


def key_id(public_key_hex: str) -> str:
    """Return the identifier of a key, which follows from its public point."""
    return new_id(KEY, _Fixed(hashlib.sha256(b"outlay.key.v1\n" + public_key_hex.encode()).digest()))


def _names(record: Mapping[str, Any], freeze: Freeze) -> bool:
    """Tell whether a record that lifts a freeze says what the freeze stops."""
    body = record["body"]["body"] if record["kind"] == CHANGE_APPLIED else record["body"]
    return (body["scope"], body["subject"]) == (freeze.scope.value, freeze.subject)


def _told(rows: Rows, slot: SlotRow) -> JournalSlot:
    return JournalSlot(
        wallet_id=slot.wallet_id,
        nonce=slot.nonce,
        transfer_id=slot.transfer_id,
        external_id=slot.external_id,
        intent=slot.intent,
        demand=None if slot.demand is None else _demand(slot.demand),
        fee_cap=slot.fee_cap,
        attempts=tuple(each.attempt() for each in rows.entries_of(slot.wallet_id, slot.nonce)),
    )


def _demand(text: str) -> Demand:
    document = read_canonical(text.encode(), field="demand")
    assert isinstance(document, dict)
    return Demand(**document)


class _Fixed:
    """Stands in for entropy where an identifier must follow from its content."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    def token(self, size: int) -> bytes:
        """Return the first ``size`` of the given bytes."""
        return self._octets[:size]
