"""The lane as a small model: two payouts on one wallet, two workers, a signer with its journal, a chain that
reorganises, nodes that lose, delay and omit. Every rule that keeps a payout from being paid twice, lost or ended
wrongly can be broken by its name.

A step is what cannot be interrupted in the product either: one database unit, one commit of the signer's journal, one
change of the chain. Where a step joins a call with the unit after it, a fault leaves the second half out. Some
steps of the environment are faults, of which a run has a bounded number.

What a node says is asked of two providers. One of them may lag or omit; a fact is what both tell, so an omission
tells nothing: it is a step only where a broken rule believes one provider alone.
"""

from collections.abc import Iterator
from functools import cache
from typing import Final, NamedTuple

A, B = 0, 1
"""The payouts. A is bumped, canceled and may revert; B has one attempt and is there to be hurt by it."""

FIRST, BUMP, VOID, LATER = range(4)
"""Attempts of a slot in the order of their fees: the first, a bump, a void, and a payout attempt after the void."""

BOUND, STORED, SENT, MINED, CLOSED = "bound", "stored", "sent", "mined", "closed"
OPEN, CONFIRMED, FAILED, CANCELED = "open", "confirmed", "failed", "canceled"
IDLE, LEADS, ASKS, MAY_RELEASE, HAS_READ = "idle", "leads", "asks", "may release", "has read"

BROKEN: Final = {
    "read_write": "the nonce is read in one unit and written in another, without looking again",
    "timeout_fails": "a send without an answer has failed: bind another nonce",
    "missing_dead": "a transaction one provider does not know is dead: bind another nonce",
    "too_low_again": "nonce too low: bind another nonce",
    "bump_new_nonce": "a bump takes a nonce of its own",
    "first_receipt": "confirmed at the first receipt",
    "late_save": "bytes are sent before they are stored",
    "no_signer_fence": "the signer follows any worker",
    "no_database_fence": "the database follows any worker",
    "blind_release": "a binding is undone without asking the journal",
    "release_old_fence": "the journal is asked under the fence under which a request may still be on its way",
    "cancel_bound": "a bound payout is canceled without asking the journal",
    "void_not_final": "canceled as soon as the void is mined",
    "after_void": "the engine raises fees of a payout that is being voided",
    "signer_after_void": "the signer signs a payout attempt after a void",
    "revert_retry": "a reverted payout is tried again before the revert is final",
    "one_null": "one provider's missing receipt is believed",
    "second_slot": "the signer gives one externalId a second slot",
    "shared_slot": "the signer signs two payouts for one slot",
    "no_recovery": "an older copy of the database goes on as if nothing was missing",
    "recovery_old_fence": "recovery reads the journal while requests from before may still be signed",
    "early_answer": "the signer answers before its journal is kept",
}
"""Rule broken -> what then happens."""

Attempt = tuple[int, int, int]
"""Nonce, payout, number."""


class Slot(NamedTuple):
    """A nonce of the lane, as the database has it."""

    payout: int
    state: str
    rows: tuple[tuple[int, bool], ...]  #: number of each attempt, and whether its bytes are stored


class Worker(NamedTuple):
    """One worker's memory."""

    fence: int = 0  #: of the lease it believes to have
    does: str = IDLE
    what: tuple[int, ...] = ()


class State(NamedTuple):
    """Everything."""

    ends: tuple[str, str]
    slots: tuple[Slot, ...]
    fence: int  #: of the lane's lease
    recovering: bool  #: an older copy of the database was put back: nothing goes on before the journal was read
    workers: tuple[Worker, Worker]
    journal: frozenset[Attempt]
    signer_fence: int
    late: tuple[int, Attempt] | None  #: a request on its way, with its fence, for whose answer nobody waits any more
    known: frozenset[Attempt]  #: at large: some node has it, so it can be mined
    chain: tuple[tuple[int, int, bool], ...]  #: by nonce: payout, attempt, whether it was executed
    final: int  #: so many of them are final


INITIAL: Final = State((OPEN, OPEN), (), 0, False, (Worker(), Worker()), frozenset(), 0, None, frozenset(), (), 0)
Step = tuple[str, State, bool]
"""What happened, the state after it, whether it is a fault."""


class Model:
    """The steps of the lane under the design's rules, but for those that are broken."""

    def __init__(
        self, broken: frozenset[str] = frozenset(), *, slots_max: int = 2, notes_mined: bool = False, late: bool = False
    ) -> None:
        """Keep the rules.

        Args:
            broken: names in ``BROKEN``.
            slots_max: nonces there are: as many as payouts is enough, unless a broken rule binds one of them anew.
            notes_mined: the state between sent and final is kept as well. It changes nothing that is signed or
                sent, but for what is not done in it, and has to be left again after a reorganisation.
            late: a request may reach the signer long after its worker gave up, once at a time.
        """
        assert broken <= BROKEN.keys()
        self._broken = broken
        self._slots_max = slots_max
        self._notes_mined = notes_mined
        self._late = late

    def steps(self, s: State, may_fail: bool) -> Iterator[Step]:
        """Yield every step that can be next; faults only if one may still happen."""
        yield from self._chain(s, may_fail)
        if s.late is not None:
            label, after = self._signed(s, *s.late)
            yield f"the late request arrives: {label}", after._replace(late=None), False
        if s.recovering:
            fence = s.signer_fence
            if "recovery_old_fence" not in self._broken:
                # So far above what the signer has seen that no lease was ever given a higher one.
                fence = max(fence, 0 if s.late is None else s.late[0]) + 1
            yield "recovery reads the journal", _recovered(s, fence), False
            return
        yield from self._people(s)
        if may_fail and s.slots:
            yield from self._restored(s)
        for at, worker in enumerate(s.workers):
            if at and worker == s.workers[0]:
                continue  # the other does the same
            yield from self._worker(s, at, worker, may_fail)

    # The chain and its nodes

    def _chain(self, s: State, may_fail: bool) -> Iterator[Step]:
        height = len(s.chain)
        for nonce, payout, number in s.known:
            if nonce == height:
                for ok in (True, False) if payout == A and number != VOID else (True,):
                    mined = (*s.chain, (payout, number, ok))
                    yield (
                        f"mined: {_name((nonce, payout, number))}{'' if ok else ', reverted'}",
                        s._replace(chain=mined),
                        False,
                    )
        if s.final < height:
            yield f"nonce {s.final} is final", s._replace(final=s.final + 1), False
        if not may_fail:
            return
        if s.final < height:
            newest = (height - 1, *s.chain[-1][:2])
            shorter = s._replace(chain=s.chain[:-1])
            yield "REORGANISATION: the newest waits again", shorter, True
            yield "REORGANISATION: the newest is lost", shorter._replace(known=s.known - {newest}), True
            if height - s.final > 1:
                yield (
                    "REORGANISATION: all that is not final waits again",
                    s._replace(chain=s.chain[: s.final]),
                    True,
                )
        for each in s.known:
            if each[0] >= height:
                yield f"DROPPED: {_name(each)}", s._replace(known=s.known - {each}), True

    # People, and the database's past

    def _people(self, s: State) -> Iterator[Step]:
        slot = _slot_of(s, A)
        if s.ends[A] != OPEN:
            return
        if slot is None:
            yield "A is withdrawn", s._replace(ends=_ended(s, A, CANCELED)), False
            return
        at = s.slots.index(slot)
        if slot.state == SENT and all(stored for _, stored in slot.rows) and not _has(slot, VOID):
            yield "A is to be canceled", _with_slot(s, at, slot._replace(rows=(*slot.rows, (VOID, False)))), False
        if "cancel_bound" in self._broken and slot.state == BOUND:
            yield "A is canceled unasked", s._replace(slots=s.slots[:at], ends=_ended(s, A, CANCELED)), False

    def _restored(self, s: State) -> Iterator[Step]:
        """An older copy of the database is put back; every process starts anew."""
        last = len(s.slots) - 1
        copies = [s.slots[:cut] for cut in range(last + 1)]
        if s.slots[last].state not in (BOUND, CLOSED):
            copies.append((*s.slots[:last], Slot(s.slots[last].payout, BOUND, ((FIRST, False),))))
        for slots in copies:
            gone = {slot.payout for slot in s.slots[len(slots) :]}
            ends = tuple(OPEN if payout in gone else end for payout, end in enumerate(s.ends))
            yield (
                f"RESTORED: a copy with {len(slots)} slots",
                s._replace(
                    ends=(ends[0], ends[1]),
                    slots=slots,
                    fence=0 if "no_recovery" not in self._broken else s.signer_fence,
                    recovering="no_recovery" not in self._broken,
                    workers=(Worker(), Worker()),
                ),
                True,
            )

    # Workers

    def _worker(self, s: State, at: int, worker: Worker, may_fail: bool) -> Iterator[Step]:
        if worker.does == IDLE:
            held = any(each.fence == s.fence for each in s.workers if each.does != IDLE)
            if not held or may_fail:
                leads = s._replace(fence=s.fence + 1)
                label = "LEASE EXPIRED: a second worker leads" if held else "a worker leads"
                yield label, _with_worker(leads, at, Worker(s.fence + 1, LEADS)), held
            return
        if worker.does != LEADS and may_fail:
            # Who only leads has nothing in memory to lose.
            yield "WORKER DIES", _with_worker(s, at, Worker()), True
        idle = _with_worker(s, at, Worker())
        leads = _with_worker(s, at, Worker(worker.fence, LEADS))
        fenced = worker.fence == s.fence or "no_database_fence" in self._broken
        if worker.does == ASKS:
            nonce, payout, number = worker.what
            yield from self._sign(leads, worker, (nonce, payout, number), may_fail, fenced=fenced)
        elif worker.does == HAS_READ:
            (payout,) = worker.what
            bound = (*s.slots, Slot(payout, BOUND, ((FIRST, False),)))
            yield f"writes: {'AB'[payout]} has nonce {len(s.slots)}", leads._replace(slots=bound), False
        elif not fenced:
            yield "a worker's unit is refused: another leads", idle, False
        elif worker.does == MAY_RELEASE:
            (nonce,) = worker.what
            if all(slot.state == BOUND for slot in s.slots[nonce:]):
                yield f"releases from nonce {nonce}", leads._replace(slots=s.slots[:nonce]), False
            else:
                yield "does not release: it was signed since", leads, False
        else:
            yield from self._lead(s, at, worker, may_fail)

    def _lead(self, s: State, at: int, worker: Worker, may_fail: bool) -> Iterator[Step]:
        for payout in (A, B):
            if s.ends[payout] == OPEN and _slot_of(s, payout) is None and len(s.slots) < self._slots_max:
                if "read_write" in self._broken:
                    yield f"reads the next nonce for {'AB'[payout]}", _does(s, at, HAS_READ, payout), False
                else:
                    slot = Slot(payout, BOUND, ((FIRST, False),))
                    yield f"binds {'AB'[payout]} to nonce {len(s.slots)}", s._replace(slots=(*s.slots, slot)), False
        settled = all_signed = True
        for nonce, slot in enumerate(s.slots):
            all_signed = all_signed and slot.state != BOUND
            if slot.state == CLOSED:
                continue
            for number, stored in slot.rows:
                lower_signed = all(each.state != BOUND for each in s.slots[:nonce])
                if not stored and (number != FIRST or lower_signed):
                    label = f"asks for a signature: {_name((nonce, slot.payout, number))}"
                    yield label, _does(s, at, ASKS, nonce, slot.payout, number), False
            yield from self._send(s, nonce, slot, may_fail)
            yield from self._watch(s, nonce, slot, may_fail, settled=settled)
            settled = False
        if not all_signed:
            yield from self._release(s, at, worker)

    def _release(self, s: State, at: int, worker: Worker) -> Iterator[Step]:
        first = len(s.slots)
        while first and s.slots[first - 1].state == BOUND:
            first -= 1
        for nonce in range(first, len(s.slots)):
            held = any(each[0] >= nonce for each in s.journal)
            fence = worker.fence
            if "blind_release" in self._broken:
                yield f"means to release from nonce {nonce}", _does(s, at, MAY_RELEASE, nonce), False
                continue
            if "release_old_fence" not in self._broken:
                fence += 1  # what this worker asked for before must be refused like what others did
            if fence >= s.signer_fence and not held:
                told = s._replace(fence=fence, signer_fence=fence)
                label = f"the journal has nothing from nonce {nonce} on"
                yield label, _with_worker(told, at, Worker(fence, MAY_RELEASE, (nonce,))), False

    # The signer

    def _signed(self, s: State, fence: int, wanted: Attempt) -> tuple[str, State]:
        """Return what the signer does with one request."""
        name = _name(wanted)
        if wanted in s.journal:
            return f"signed before: {name}", s
        if fence < s.signer_fence and "no_signer_fence" not in self._broken:
            return f"the signer refuses {name}: fenced", s
        seen = s._replace(signer_fence=max(s.signer_fence, fence))
        if self._conflict(seen, wanted):
            return f"the signer refuses {name}: conflict", seen
        return f"signed: {name}", seen._replace(journal=s.journal | {wanted})

    def _sign(self, s: State, worker: Worker, wanted: Attempt, may_fail: bool, *, fenced: bool) -> Iterator[Step]:
        """One request reaches the signer; ``s`` is the state in which the worker has its answer."""
        label, after = self._signed(s, worker.fence, wanted)
        if self._late and may_fail and s.late is None:
            yield f"NO ANSWER YET, and nobody waits: {_name(wanted)}", s._replace(late=(worker.fence, wanted)), True
        if wanted not in after.journal:
            yield label, after, False
            return
        stored = _stored(after, wanted) if fenced else None
        yield label if stored is None else f"{label}, and stored", stored or after, False
        if "late_save" in self._broken:
            yield f"{label}, and sent", after._replace(known=s.known | {wanted}), False
        if may_fail and wanted not in s.journal:
            yield f"ANSWER LOST: {label}, not stored", after, True
            if stored is not None and "early_answer" in self._broken:
                died = stored._replace(journal=s.journal)
                yield f"SIGNER DIES before its journal is kept: {label}, and stored", died, True

    def _conflict(self, s: State, wanted: Attempt) -> bool:
        nonce, payout, number = wanted
        for other_nonce, other, other_number in s.journal:
            if other_nonce == nonce and other != payout and "shared_slot" not in self._broken:
                return True
            if other_nonce != nonce and other == payout and "second_slot" not in self._broken:
                return True
            after_void = other_nonce == nonce and other_number == VOID and number != VOID
            if after_void and "signer_after_void" not in self._broken:
                return True
        return False

    # The network

    def _send(self, s: State, nonce: int, slot: Slot, may_fail: bool) -> Iterator[Step]:
        ready = [number for number, stored in slot.rows if stored]
        if not ready or slot.state == MINED:
            return
        wanted = (nonce, slot.payout, ready[-1])
        sent = _with_slot(s, nonce, slot._replace(state=SENT))
        if len(s.chain) > nonce:
            if slot.state != SENT:
                yield f"sent: {_name(wanted)}: nonce too low", sent, False
            if "too_low_again" in self._broken:
                yield f"sent: {_name(wanted)}: nonce too low, so it is bound anew", _abandoned(s, nonce), False
            return
        taken = s.known | {wanted}
        if wanted not in s.known or slot.state != SENT:
            yield f"sent: {_name(wanted)}", sent._replace(known=taken), False
            if "timeout_fails" in self._broken:
                label = f"sent without an answer: {_name(wanted)}: taken, but bound anew"
                yield label, _abandoned(s._replace(known=taken), nonce), False
            if may_fail and slot.state != SENT:
                yield f"LOST on the way: {_name(wanted)}", sent, True
                if wanted not in s.known:
                    label = f"WORKER DIES after it sent {_name(wanted)}"
                    yield label, s._replace(known=taken), True

    def _watch(self, s: State, nonce: int, slot: Slot, may_fail: bool, *, settled: bool) -> Iterator[Step]:
        if slot.state not in (SENT, MINED):
            return
        mined = s.chain[nonce] if nonce < len(s.chain) else None
        if mined is not None and slot.state == SENT and self._notes_mined:
            yield f"sees nonce {nonce} in a block", _with_slot(s, nonce, slot._replace(state=MINED)), False
        if mined is None and slot.state == MINED:
            yield f"sees nonce {nonce} reorganised away", _with_slot(s, nonce, slot._replace(state=SENT)), False
        if mined is not None and settled and mined[0] == slot.payout:
            payout, number, ok = mined
            is_final = nonce < s.final or "first_receipt" in self._broken
            if is_final or ("void_not_final" in self._broken and number == VOID):
                end = CANCELED if number == VOID else CONFIRMED if ok else FAILED
                yield f"{'AB'[payout]} is {end}", _closed(s, nonce, end), False
            if "revert_retry" in self._broken and not ok:
                yield f"{'AB'[payout]} reverted: it is bound anew", _abandoned(s, nonce), False
            if "one_null" in self._broken and nonce < s.final and may_fail:
                yield (
                    f"OMITTED: no receipt for nonce {nonce}, which is used: failed",
                    _closed(s, nonce, FAILED),
                    True,
                )
        if "missing_dead" in self._broken and mined is None and may_fail:
            yield f"OMITTED: nonce {nonce} is in no pool: it is bound anew", _abandoned(s, nonce), True
        if slot.payout == A and slot.state == SENT and all(stored for _, stored in slot.rows):
            number = LATER if _has(slot, VOID) else BUMP
            if not _has(slot, number) and (number == BUMP or "after_void" in self._broken):
                if "bump_new_nonce" in self._broken and len(s.slots) < self._slots_max:
                    other = Slot(slot.payout, BOUND, ((FIRST, False),))
                    yield f"bumps nonce {nonce} by another", s._replace(slots=(*s.slots, other)), False
                row = slot._replace(rows=(*slot.rows, (number, False)))
                yield f"raises the fees of nonce {nonce}", _with_slot(s, nonce, row), False


def canonical(s: State) -> State:
    """Return the one state that stands for all that differ from ``s`` in nothing that can ever matter.

    Of fences only the order counts. Below finality nothing can be mined any more: which attempt took a nonce, and
    which others there were, is of no more interest, but for what it did.
    """
    one, two = s.workers
    ranked = _ranked((s.fence, s.signer_fence, one.fence, two.fence, 0 if s.late is None else s.late[0]))
    if ranked is not None:
        s = s._replace(
            fence=ranked[0],
            signer_fence=ranked[1],
            workers=(one._replace(fence=ranked[2]), two._replace(fence=ranked[3])),
            late=None if s.late is None else (ranked[4], s.late[1]),
        )
    if s.final and (any(each[0] < s.final for each in s.known) or any(e[0] < s.final and e[2] for e in s.journal)):
        s = s._replace(
            known=frozenset(each for each in s.known if each[0] >= s.final),
            journal=frozenset((n, payout, number if n >= s.final else FIRST) for n, payout, number in s.journal),
            chain=tuple(
                (payout, number if n >= s.final or number == VOID else FIRST, ok)
                for n, (payout, number, ok) in enumerate(s.chain)
            ),
            slots=tuple(
                slot._replace(rows=((FIRST, True),)) if n < s.final and slot.state in (STORED, SENT, MINED) else slot
                for n, slot in enumerate(s.slots)
            ),
        )
    return s


@cache
def _ranked(fences: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return small numbers in the same order, 0 staying 0; None if these are as small as can be."""
    order = sorted({0, *fences})
    ranked = tuple(order.index(fence) for fence in fences)
    return None if ranked == fences else ranked


def _name(attempt: Attempt) -> str:
    nonce, payout, number = attempt
    return f"{'AB'[payout]} {('first', 'bump', 'void', 'attempt after the void')[number]} at nonce {nonce}"


def _has(slot: Slot, number: int) -> bool:
    return any(each == number for each, _ in slot.rows)


def _slot_of(s: State, payout: int) -> Slot | None:
    """Return the slot a payout is bound to; a closed one binds nothing any more."""
    return next((slot for slot in s.slots if slot.payout == payout and slot.state != CLOSED), None)


def _with_slot(s: State, nonce: int, slot: Slot) -> State:
    return s._replace(slots=(*s.slots[:nonce], slot, *s.slots[nonce + 1 :]))


def _with_worker(s: State, at: int, worker: Worker) -> State:
    """Change one worker. They are interchangeable, so they stand in order."""
    other = s.workers[1 - at]
    return s._replace(workers=(other, worker) if other < worker else (worker, other))


def _does(s: State, at: int, does: str, *what: int) -> State:
    return _with_worker(s, at, Worker(s.workers[at].fence, does, what))


def _ended(s: State, payout: int, end: str) -> tuple[str, str]:
    return (end, s.ends[B]) if payout == A else (s.ends[A], end)


def _closed(s: State, nonce: int, end: str) -> State:
    slot = s.slots[nonce]
    return _with_slot(s, nonce, Slot(slot.payout, CLOSED, ()))._replace(ends=_ended(s, slot.payout, end))


def _abandoned(s: State, nonce: int) -> State:
    """A broken rule gives the slot up and lets its payout be bound again."""
    return _with_slot(s, nonce, Slot(s.slots[nonce].payout, CLOSED, ()))


def _stored(s: State, wanted: Attempt) -> State | None:
    """Store the bytes of an attempt, if its row is still there."""
    nonce, payout, number = wanted
    slot = s.slots[nonce] if nonce < len(s.slots) else None
    if slot is None or slot.payout != payout or (number, False) not in slot.rows:
        return None
    rows = tuple((each, stored or each == number) for each, stored in slot.rows)
    return _with_slot(s, nonce, Slot(payout, STORED if slot.state == BOUND else slot.state, rows))


def _recovered(s: State, fence: int) -> State:
    """Give the database every slot and all bytes the journal holds, before anything else goes on.

    The signer is told the fence first, so that nothing asked for before can be signed behind the reader's back.
    """
    slots = list(s.slots)
    for nonce in sorted({each[0] for each in s.journal}):
        held = sorted(each for each in s.journal if each[0] == nonce)
        found = Slot(held[0][1], STORED, tuple((number, True) for _, _, number in held))
        if nonce < len(slots):
            slots[nonce] = slots[nonce] if slots[nonce].state == CLOSED else found
        else:
            slots.append(found)
    taken = {slot.payout for nonce, slot in enumerate(slots) if any(each[0] == nonce for each in s.journal)}
    # What was bound but never signed yields to what was.
    while slots and slots[-1].state == BOUND and slots[-1].payout in taken:
        slots.pop()
    return s._replace(slots=tuple(slots), recovering=False, fence=fence, signer_fence=fence)
