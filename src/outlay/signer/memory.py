"""What the signer holds in memory: nothing that does not follow from its journal file."""

from dataclasses import dataclass, replace
from typing import Final

from outlay.core.errors import SignerRefused
from outlay.core.seams import SECOND, Clock, Instant
from outlay.settings import SignerSettings
from outlay.signer import Freeze, Why
from outlay.signer.journal_rows import RESEEDED, Entry, KeyRow, Rows, SlotRow
from outlay.signer.windows import Spend, Windows

CLOCK_BACK_MAX: Final[Instant] = 5 * SECOND
"""How far the clock may lie behind the newest journal entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reseeding:
    """How a new journal was put in the place of a lost one."""

    number: int  #: of the record
    min_nonces: dict[str, int]  #: of every wallet there was
    at: Instant  #: by the signer's clock


@dataclass(slots=True, kw_only=True)
class State:
    """What follows from the journal file, beside the records."""

    newest: Entry
    keys: dict[str, KeyRow]
    freezes: list[Freeze]
    windows: Windows
    is_seeded: bool
    reseeding: Reseeding | None


def read_state(rows: Rows, settings: SignerSettings) -> State:
    """Read it."""
    reseeding = None
    for entry in rows.entries_of_kind(RESEEDED):
        body = entry.body
        reseeding = Reseeding(number=body["record"], min_nonces=body["minNonces"], at=entry.at)
    windows = Windows(settings.caps, full_from=None if reseeding is None else reseeding.at)
    newest = rows.newest()
    for slot in rows.slots_since(newest.at - windows.longest):
        windows.add(spend_of(slot))
    return State(
        newest=newest,
        keys=rows.keys(),
        freezes=rows.freezes(),
        windows=windows,
        is_seeded=rows.was_made_seeded() or reseeding is not None,
        reseeding=reseeding,
    )


def spend_of(slot: SlotRow) -> Spend:
    """Return what a slot counts for."""
    if slot.intent is None:
        return Spend(network=slot.network, asset=None, fee_cap=slot.fee_cap, at=slot.first_at)
    return Spend(
        network=slot.network,
        asset=slot.intent["asset"],
        recipient=slot.intent["recipient"],
        amount=int(slot.intent["amount"]),
        fee_cap=slot.fee_cap,
        at=slot.first_at,
    )


FENCE_STEP_MAX: Final = 2**32
"""How much higher than the highest seen a fence may be: it is kept for ever, and numbers end at 2^53."""


def moment(state: State, clock: Clock) -> Instant:
    """Return the time, never before that of the newest entry."""
    return max(clock.now(), state.newest.at)


def check_clock(state: State, clock: Clock) -> None:
    """Refuse to sign by a clock that was set back: windows and ages would be wrong.

    Raises:
        SignerRefused: it was.
    """
    behind = state.newest.at - clock.now()
    if behind > CLOCK_BACK_MAX:
        message = f"the signer's clock is {behind // SECOND} seconds behind its journal: set this machine's clock right"
        raise SignerRefused(message, field="clock", why=Why.INVALID)


def follow_fence(rows: Rows, state: State, key: KeyRow, fence: int) -> KeyRow:
    """Follow whoever leads a lane now, and nobody who led it before.

    Raises:
        SignerRefused: ``Why.FENCED``, the fence is lower than one seen before; ``Why.INVALID``, it is so much higher
            that whoever asks can only mean that nobody is to follow.
    """
    if fence > key.fence + FENCE_STEP_MAX:
        message = f"no lane is led {FENCE_STEP_MAX} times at once: fence {key.fence} was seen, this is {fence}"
        raise SignerRefused(message, field="fence", why=Why.INVALID)
    if fence < key.fence:
        message = f"another worker leads the lane of {key.wallet_id}: fence {key.fence} was seen, this is {fence}"
        raise SignerRefused(message, field="fence", why=Why.FENCED)
    if fence > key.fence:
        rows.set_fence(key.wallet_id, fence)
        key = state.keys[key.wallet_id] = replace(key, fence=fence)
    return key


def unseeded() -> SignerRefused:
    """Return the refusal of a journal that was made after another was lost."""
    message = (
        "the journal was lost: nothing is signed before people agree on a signer.reseeded record that names this one"
    )
    return SignerRefused(message, field="journal", why=Why.UNSEEDED)
