"""The units of sending: bind a nonce, release it unsigned, store signed bytes, bump, void, note a send."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from outlay.actions.change import change, change_many
from outlay.actions.judge import BINDING, Judgement, keep, keep_many, open_approval
from outlay.actions.organization import require_applied
from outlay.actions.rejudge import Rejudgement, Rejudging
from outlay.actions.replacements import tell_replacements
from outlay.actions.work import Work
from outlay.config import Config
from outlay.core import ids
from outlay.core.asset import NATIVE
from outlay.core.errors import InvariantBroken
from outlay.core.fees import Offer
from outlay.core.ledger import release, reserve
from outlay.core.mandate import is_refill
from outlay.core.pool import Route
from outlay.core.transfer import RESTORED, Event, State
from outlay.store import lanes, ledger, mandates, stops, transfers, velocity_signing, wallets
from outlay.store.database import Row
from outlay.store.transfers import Change

PAYOUT, VOID = lanes.PAYOUT, lanes.VOID
"""What an attempt is for."""

WAITING_MAX, QUEUES_MAX = 100, 20
"""Transfers of one queue whose reason to wait is written in one unit, and queues of which it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A ready transfer and what the chain says about sending it now."""

    transfer_id: str
    offer: Offer | None  #: None: it has to wait
    waiting_reason: str | None = None


@dataclass(frozen=True, slots=True)
class _Going:
    """A ready transfer that may go."""

    row: Row
    offer: Offer
    fee_cap: int


def bind(work: Work, wallet_id: str, fence: int, candidates: Sequence[Candidate], *, room: int) -> int:
    """Judge candidates again and give those that may go a nonce and their funds; return how many.

    Args:
        work: the unit.
        wallet_id: who pays.
        fence: of the lane.
        candidates: in the order in which they should go.
        room: how many may be bound at most.

    Raises:
        Unavailable: the lane belongs to another worker now, or the settings are not the signed ones.
    """
    require_applied(work.unit, work.config)
    lanes.hold(work.unit, wallet_id, fence=fence)
    wallet = wallets.find(work.unit, wallet_id)
    if wallet is None:
        return 0
    book = ledger.Book(work.unit, now=work.now, entropy=work.entropy)
    choice = _choose(work, wallet, candidates, book, room=room)
    allowed = _judge(work, [each.row for each in choice.going])
    going = [each for each in choice.going if each.row.id in allowed]
    if going:
        _bind(work, wallet, fence, going, book)
    change_many(work, choice.never)
    wait_many(work, choice.waiting)
    if len(going) == len(choice.going):  # else there is more than it seemed: those behind are looked at again
        wait_many(work, choice.short)
    return len(going)


@dataclass(frozen=True, slots=True)
class _Choice:
    """What becomes of candidates, before they are judged."""

    going: list[_Going] = field(default_factory=list)
    waiting: list[tuple[Row, str]] = field(default_factory=list)  #: and why
    short: list[tuple[Row, str]] = field(default_factory=list)  #: what is left of the funds does not do for these
    never: list[Change] = field(default_factory=list)  #: those that end


def _choose(work: Work, wallet: Row, candidates: Sequence[Candidate], book: ledger.Book, *, room: int) -> _Choice:
    """Return which candidates could go now, beside each other."""
    rows = transfers.find_many(work.unit, [each.transfer_id for each in candidates])
    obstacles = _Obstacles(work, wallet)
    funds = _Funds(work, wallet.id, book)
    choice = _Choice()
    for candidate in candidates:
        row = rows.get(candidate.transfer_id)
        if row is None or State(row.state) is not State.READY or row.wallet_id != wallet.id:
            continue
        if row.route != Route.LANE:
            continue
        obstacle, lack = obstacles.of(row), funds.lack_of(row)
        # What the wallet lacks is told before what the node says: it words that as a revert.
        reason = obstacle or lack or candidate.waiting_reason
        ending = _never_goes(work, row, reason)
        if ending is not None:
            values = {"reason": ending, "waiting_reason": None}
            choice.never.append(Change(row=row, event=Event.NEVER_EXECUTABLE, values=values))
        elif reason is not None:
            (choice.short if reason == lack else choice.waiting).append((row, reason))
        elif len(choice.going) < room and candidate.offer is not None:
            funds.take(row)
            choice.going.append(_Going(row, candidate.offer, work.config.fee_cap(row.network, row.asset)))
    return choice


def _never_goes(work: Work, row: Row, waits: str | None) -> str | None:
    """Return why a ready transfer can never be paid any more, or None; nothing was signed for it."""
    if work.config.find_asset(row.network, row.asset) is None:
        return "The asset is no longer configured; nothing was signed."
    network = work.config.network(row.network)
    if waits is None and (network is None or network.chain_id != row.intent["chainId"]):
        return "The network now stands for another chain; nothing was signed."
    return None


class _Obstacles:
    """What is stopped or frozen now, read once a unit."""

    def __init__(self, work: Work, wallet: Row) -> None:
        self._unit, self._wallet, self._stops = work.unit, wallet, stops.Stops(work.unit)
        self._frozen = {(row.network, row.asset): row.reason for row in wallets.frozen_assets(work.unit)}

    def of(self, row: Row) -> str | None:
        """Return what keeps a transfer of the wallet from going, whatever it is worth; None: nothing."""
        stopped = self._stops.why(network=row.network, wallet_id=self._wallet.id, identity_id=row.initiator_id)
        if stopped is not None:
            return stopped
        if row.flag == RESTORED:
            return (
                "the database was restored from an older copy: its program has to ask for it once more, by the same id"
            )
        if self._wallet.frozen_reason is not None:
            return f"the wallet is frozen: {self._wallet.frozen_reason}"
        if self._wallet.drained_reason is not None:
            return f"the wallet is drained: {self._wallet.drained_reason}"
        if self._wallet.status != "Active":
            return f"the wallet is {self._wallet.status}"
        frozen = self._frozen.get((row.network, row.asset))
        if frozen is not None:
            return f"the asset is frozen: {frozen}"
        return self._of_filled(row) if is_refill(row.initiator_id) else None

    def _of_filled(self, row: Row) -> str | None:
        """Return what keeps the wallet that a refill goes to from being filled, or None."""
        filled = mandates.filled_by(self._unit, row)
        if filled is None or filled.status != "Active":
            return "the wallet it fills is not in use any more"
        stopped = self._stops.why(network=filled.network, wallet_id=filled.id, identity_id=row.initiator_id)
        why = filled.frozen_reason or filled.drained_reason or stopped
        return None if why is None else f"the wallet it fills is stopped: {why}"


class _Funds:
    """What a wallet has left while payouts are chosen."""

    def __init__(self, work: Work, wallet_id: str, book: ledger.Book) -> None:
        self._config, self._wallet_id, self._book = work.config, wallet_id, book
        self._taken: dict[str, int] = {}

    def lack_of(self, row: Row) -> str | None:
        """Return what the wallet lacks for a payout, or None."""
        for asset, amount in needs(self._config, row).items():
            held = self._book.holdings(wallet_id=self._wallet_id, asset=asset).spendable - self._taken.get(asset, 0)
            if held < amount:
                what = self._config.find_asset(row.network, asset)
                name = what.symbol if what is not None else asset
                return f"the wallet needs {amount} base units of {name} and has {held} spendable"
        return None

    def take(self, row: Row) -> None:
        """Count a payout as going."""
        for asset, amount in needs(self._config, row).items():
            self._taken[asset] = self._taken.get(asset, 0) + amount


def wait_many(work: Work, waits: Sequence[tuple[Row, str]]) -> None:
    """Say why ready transfers do not move."""
    changed = [{"of_id": row.id, "waiting_reason": reason} for row, reason in waits if row.waiting_reason != reason]
    transfers.annotate_many(work.unit, changed)


def wait_all(work: Work, wallet_id: str, reason: str) -> None:
    """Say of ready transfers of a wallet that have no reason to wait yet why they do not move."""
    for queue in transfers.queues(work.unit, wallet_id, waits=False, limit=QUEUES_MAX):
        rows = transfers.queued(work.unit, wallet_id, queue, waits=False, limit=WAITING_MAX)
        wait_many(work, [(row, reason) for row in rows])


def _judge(work: Work, rows: Sequence[Row]) -> set[str]:
    """Judge again; what may no longer go is moved where it belongs. Return the ids of those that may go.

    In the order of admission: each is judged beside what was admitted before it, so beside all that go with it.
    """
    allowed: set[str] = set()
    kept: list[tuple[Judgement, Row]] = []
    judging = Rejudging(work, rows)
    for row in judging.rows:
        again = judging.judge(row)
        if again.kind == "go":
            allowed.add(row.id)
            kept.append((again.judgement, row))
        else:
            _turn_back(work, row, again)
            judging.forget_windows()
    keep_many(work, kept, moment=BINDING)
    return allowed


def _turn_back(work: Work, row: Row, again: Rejudgement) -> None:
    """Move a ready transfer that may not go where it belongs."""
    reasons = again.judgement.verdict.reasons
    if again.kind == "wait":  # there was room for it at admission, and there will be again
        wait_many(work, [(row, " ".join(reasons))])
        return
    keep(work, again.judgement, row, moment=BINDING)
    if again.kind == "hold":
        held = change(work, row, Event.HELD, detail={"reasons": list(reasons)}, waiting_reason=None)
        open_approval(work, held, again.groups, again.asking)
    else:
        change(work, row, Event.BLOCKED, reason=" ".join(reasons), waiting_reason=None)


def _bind(work: Work, wallet: Row, fence: int, going: Sequence[_Going], book: ledger.Book) -> None:
    names = [ids.new_id(ids.TRANSACTION, work.entropy) for _ in going]
    slots = [
        {"id": name, "transfer_id": each.row.id, "fee_cap": each.fee_cap, "created_at": work.now}
        for name, each in zip(names, going, strict=True)
    ]
    lanes.bind(work.unit, wallet_id=wallet.id, fence=fence, slots=slots)
    legacy = is_legacy(work.config, wallet.network)
    attempts = [
        lanes.new_attempt(
            id=name,
            transaction_id=name,
            number=1,
            purpose=PAYOUT,
            offer=each.offer,
            legacy=legacy,
            now=work.now,
        )
        for name, each in zip(names, going, strict=True)
    ]
    lanes.add_attempts(work.unit, attempts)
    for each in going:
        place = {"wallet": wallet.id, "network": each.row.network, "asset": each.row.asset}
        book.post(reserve(**place, amount=each.row.amount, fee_cap=each.fee_cap), transfer_id=each.row.id)
    book.write()
    changes = [
        Change(row=each.row, event=Event.ASSIGNED, values={"transaction_id": name, "waiting_reason": None})
        for name, each in zip(names, going, strict=True)
    ]
    change_many(work, changes)


def is_legacy(config: Config, network: str) -> bool:
    """Tell whether transactions of a network name one gas price."""
    found = config.network(network)
    return found is not None and found.fee_model == "legacy"


def release_tail(work: Work, wallet_id: str, fence: int, nonce: int, reasons: Mapping[str, str]) -> None:
    """Take back every slot from ``nonce`` on: the signer's journal proves that nothing was signed for them.

    Args:
        work: the unit.
        wallet_id: whose lane.
        fence: of the lane.
        nonce: the first slot that goes.
        reasons: by transfer id, why it waits now.

    Raises:
        InvariantBroken: one of them was signed. Unavailable: the lane belongs to another worker now.
    """
    lanes.hold(work.unit, wallet_id, fence=fence)
    slots = lanes.transactions_from(work.unit, wallet_id, nonce)
    if any(row.state != "bound" for row in slots):
        raise InvariantBroken(f"a slot of {wallet_id} from nonce {nonce} on was signed: it is not taken back")
    wallet = wallets.find(work.unit, wallet_id)
    assert wallet is not None
    rows = transfers.get_many(work.unit, [slot.transfer_id for slot in slots if slot.transfer_id is not None])
    paid = {row.id: row for row in rows}
    book = ledger.Book(work.unit, now=work.now, entropy=work.entropy)
    for slot in slots:
        row = paid.get(slot.transfer_id)
        lines = release(
            wallet=wallet.id,
            network=wallet.network,
            asset=NATIVE if row is None else row.asset,
            amount=0 if row is None else row.amount,
            fee_cap=slot.fee_cap,
        )
        book.post(lines, transfer_id=slot.transfer_id)
    book.write()
    lanes.unbind(work.unit, wallet_id=wallet_id, fence=fence, nonce=nonce)
    changes = [
        Change(row=row, event=Event.RELEASED, values={"transaction_id": None, "waiting_reason": reasons.get(row.id)})
        for row in rows
    ]
    change_many(work, changes)


def add_attempt(
    work: Work, slot: Row, *, purpose: str, offer: Offer, legacy: bool, asked_by: str | None = None
) -> str | None:
    """Add a bump or a void to a slot that was signed for; return its id.

    Nothing is added, and None returned, if something is to be signed for it already or it was mined meanwhile.
    Once a slot is to be voided, nothing that pays is added to it any more.

    Raises:
        InvariantBroken: there is no such slot any more, or it is to be voided.
    """
    row = lanes.find_transaction(work.unit, slot.id)
    if row is None:
        raise InvariantBroken(f"slot {slot.id} is gone: nothing is added to it")
    if row.state not in ("signed", "sent"):
        return None
    known = lanes.attempts(work.unit, slot.id)
    if any(each.raw is None for each in known):
        return None
    if purpose == PAYOUT and (row.void_reason is not None or any(each.purpose == VOID for each in known)):
        raise InvariantBroken(f"slot {slot.id} is to be voided: it pays nobody any more")
    attempt_id = ids.new_id(ids.TRANSACTION, work.entropy)
    lanes.add_attempt(
        work.unit,
        id=attempt_id,
        transaction_id=slot.id,
        number=known[-1].number + 1,
        purpose=purpose,
        offer=offer,
        legacy=legacy,
        now=work.now,
        asked_by=asked_by,
    )
    return attempt_id


def begin_void(work: Work, slot: Row, *, offer: Offer, legacy: bool, reason: str, asked_by: str | None) -> str | None:
    """Say that a slot is to be voided, and add the void; see ``add_attempt``."""
    attempt_id = add_attempt(work, slot, purpose=VOID, offer=offer, legacy=legacy, asked_by=asked_by)
    if attempt_id is not None and slot.void_reason is None:
        lanes.touch(work.unit, slot.id, void_reason=reason)
    return attempt_id


def drop_refused(work: Work, wallet_id: str, fence: int, attempt_ids: list[str]) -> None:
    """Forget bumps and voids that the signer refused; what was signed before them stays under way."""
    lanes.hold(work.unit, wallet_id, fence=fence)
    for attempt_id in attempt_ids:
        lanes.drop_attempt(work.unit, attempt_id)


def fill_gap(work: Work, wallet: Row, fence: int, nonce: int, *, offer: Offer, legacy: bool, fee_cap: int) -> str:
    """Add a void for a nonce of the lane that no slot has, so that those behind it can be mined; return the slot's id.

    Raises:
        Unavailable: the lane belongs to another worker now. IntegrityError: the wallet cannot pay for it.
    """
    slot_id = ids.new_id(ids.TRANSACTION, work.entropy)
    lanes.fill(
        work.unit, wallet_id=wallet.id, fence=fence, nonce=nonce, id=slot_id, fee_cap=fee_cap, created_at=work.now
    )
    lanes.add_attempt(
        work.unit,
        id=slot_id,
        transaction_id=slot_id,
        number=1,
        purpose=VOID,
        offer=offer,
        legacy=legacy,
        now=work.now,
    )
    lines = reserve(wallet=wallet.id, network=wallet.network, asset=NATIVE, amount=0, fee_cap=fee_cap)
    ledger.post(work.unit, lines, transfer_id=None, now=work.now, entropy=work.entropy)
    return slot_id


def needs(config: Config, row: Row) -> dict[str, int]:
    """Return what a payout takes out of the spendable funds, base units by asset: its amount and its fee cap."""
    return needs_of(config, network=row.network, asset=row.asset, amount=row.amount)


def needs_of(config: Config, *, network: str, asset: str, amount: int) -> dict[str, int]:
    """Return the same of a payout that is not stored yet."""
    needed = {NATIVE: config.fee_cap(network, asset)}
    needed[asset] = needed.get(asset, 0) + amount
    return needed


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedBytes:
    """What came back from the signer for one attempt."""

    attempt_id: str
    raw: bytes
    hash: str
    sequence: int  #: number of the journal entry that holds it


def store_signed(work: Work, wallet_id: str, fence: int, signed: Sequence[SignedBytes], *, journal_id: str) -> None:
    """Store signed bytes, before anything is sent."""
    lanes.hold(work.unit, wallet_id, fence=fence)
    known = lanes.find_attempts(work.unit, [each.attempt_id for each in signed])
    for each in signed:
        if each.attempt_id not in known:
            raise InvariantBroken(f"attempt {each.attempt_id} of {wallet_id} was signed, and is not stored any more")
    fresh = [(known[each.attempt_id], each) for each in signed if known[each.attempt_id].raw is None]
    lanes.keep_signed(work.unit, [(row.id, each.raw, each.hash) for row, each in fresh], now=work.now)
    bound = [{"id": row.transaction_id} for row, _ in fresh if row.slot_state == "bound"]
    lanes.change_many(work.unit, bound, before="bound", after="signed")
    hashes = {
        row.transfer_id: each.hash for row, each in fresh if row.purpose == PAYOUT and row.transfer_id is not None
    }
    _note_signed(work, hashes)
    if signed:
        stops.set_mark(work.unit, journal_id=journal_id, sequence=max(each.sequence for each in signed))


def _note_signed(work: Work, hashes: Mapping[str, str]) -> None:
    paid = transfers.get_many(work.unit, list(hashes))
    first = [row for row in paid if State(row.state) is State.ASSIGNED]
    velocity_signing.sign(work.unit, [row.id for row in first], work.now)
    changes = [
        Change(row=row, event=Event.SIGNED, values={"tx_hash": hashes[row.id], "signed_at": work.now}) for row in first
    ]
    change_many(work, changes)
    again = [{"of_id": row.id, "tx_hash": hashes[row.id]} for row in paid if State(row.state) is not State.ASSIGNED]
    transfers.annotate_many(work.unit, again)


def note_sent(work: Work, wallet_id: str, fence: int, answers: Sequence[tuple[str, str]]) -> None:
    """Record that a send was attempted, whatever the answer: (attempt id, answer) each."""
    lanes.hold(work.unit, wallet_id, fence=fence)
    known = lanes.find_attempts(work.unit, [attempt_id for attempt_id, _ in answers])
    told = [(known[attempt_id], text) for attempt_id, text in answers if attempt_id in known]
    told = [(attempt, text) for attempt, text in told if attempt.slot_state != "final"]
    touched = [
        {
            "of_id": attempt.id,
            "sent_at": work.now,
            "first_sent_at": work.now if attempt.first_sent_at is None else attempt.first_sent_at,
            "last_answer": text,
        }
        for attempt, text in told
    ]
    lanes.touch_attempts(work.unit, touched)
    first = {each.transaction_id: each.transfer_id for each, _ in told if each.slot_state == "signed"}
    lanes.change_many(work.unit, [{"id": slot_id} for slot_id in first], before="signed", after="sent")
    paid = transfers.get_many(work.unit, [each for each in first.values() if each is not None])
    change_many(work, [Change(row=row, event=Event.SENT, values={"broadcast_at": work.now}) for row in paid])
    asked = [attempt for attempt, _ in told if attempt.asked_by is not None and attempt.first_sent_at is None]
    if asked:
        slots, only = [each.transaction_id for each in asked], [each.id for each in asked]
        tell_replacements(work, slots, "wallet.transaction.broadcasted", only=only)
