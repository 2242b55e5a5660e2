"""Velocity in the database: entries, counters with running totals, corrections.

Read ``core.velocity`` first. Signing is the only thing that adds to a running total, and nothing ever changes one:
what was signed within a window is the newest total less the total at the window's start, less the corrections whose
signatures lie in the window. Counters are always touched in the order of (policy, scope key).

A signature's instant is later than that of every signature before it in the whole organization, whatever the clock
does. All counters of one payout carry the same instant, so a counter that is rebuilt from entries is the counter
that would have been there all along.

``last_at`` of a counter is the newest instant at which anything was signed or judged before binding. Judging moves it
too: a payout that was found to fit while the clock was ahead must not be signed at an earlier instant, into a window
nobody looked at.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import sqlalchemy as sa

from outlay.core.errors import InvariantBroken
from outlay.core.mandate import activity_of
from outlay.core.policy import Policy, RequestApproval, Velocity, counts
from outlay.core.seams import Instant
from outlay.core.transfer import State
from outlay.core.velocity import (
    CLOCK_STEPS,
    EMPTY,
    Scope,
    Window,
    countable,
    entry_of,
    next_instant,
    scope_key,
    window_start,
)
from outlay.store.schema import (
    counter_correction,
    counter_entry,
    organization,
    transfer,
    velocity_counter,
    velocity_entry,
)

Unit = sa.Connection


def _of_counter(table: sa.Table, prefix: str = "") -> sa.ColumnElement[bool]:
    """Return what picks a counter's rows; ``prefix`` keeps its parameters apart from columns that are set."""
    return sa.and_(
        table.c.policy_id == sa.bindparam(f"{prefix}policy_id"), table.c.scope_key == sa.bindparam(f"{prefix}scope_key")
    )


AWAKE_EVERY = 10_000
"""Entries that are added up between two words to the database, which ends transactions that say nothing for long."""

_AWAKE = sa.select(sa.literal(1))
_FIND_ENTRY = sa.select(velocity_entry).where(velocity_entry.c.transfer_id == sa.bindparam("transfer_id"))
_NEXT_PLACE = sa.update(organization).values(admitted=organization.c.admitted + 1).returning(organization.c.admitted)
_ADD_ENTRY = sa.insert(velocity_entry)
_WRITE_ENTRY = sa.update(velocity_entry).where(velocity_entry.c.transfer_id == sa.bindparam("of_transfer"))
_NEWEST_SIGNATURE = sa.select(sa.func.max(velocity_entry.c.signed_at))
_FIND_COUNTER = sa.select(velocity_counter).where(_of_counter(velocity_counter))
# The lock keeps what is judged true until the unit ends; SQLite has one writer and ignores it.
_LOCK_COUNTER = _FIND_COUNTER.with_for_update()
_ADD_COUNTER = sa.insert(velocity_counter)
_WRITE_COUNTER = sa.update(velocity_counter).where(_of_counter(velocity_counter, "of_"))
_COUNTERS_OF = (
    sa.select(velocity_counter)
    .join(
        counter_entry,
        sa.and_(
            counter_entry.c.policy_id == velocity_counter.c.policy_id,
            counter_entry.c.scope_key == velocity_counter.c.scope_key,
            counter_entry.c.transfer_id == sa.bindparam("transfer_id"),
        ),
    )
    .order_by(velocity_counter.c.policy_id, velocity_counter.c.scope_key)
    .with_for_update(of=velocity_counter)
)
_ADD_COUNTER_ENTRY = sa.insert(counter_entry)
_SIGN_COUNTER_ENTRY = sa.update(counter_entry).where(
    _of_counter(counter_entry, "of_"), counter_entry.c.transfer_id == sa.bindparam("of_transfer")
)
_TOTAL_BEFORE = (
    sa.select(counter_entry.c.total_value, counter_entry.c.total_count, counter_entry.c.total_unknown)
    .where(_of_counter(counter_entry), counter_entry.c.signed_at <= sa.bindparam("start"))
    .order_by(counter_entry.c.signed_at.desc())
    .limit(1)
)
_CORRECTED_SINCE = sa.select(counter_correction.c.value).where(
    _of_counter(counter_correction), counter_correction.c.signed_at > sa.bindparam("start")
)
_OPENED_EARLIER = sa.select(counter_entry.c.value).where(
    _of_counter(counter_entry), counter_entry.c.signed_at.is_(None), counter_entry.c.admitted < sa.bindparam("place")
)
# A nonce is bound to them, so they may be signed at any moment, whatever is judged now.
_BOUND_BUT_LATER = (
    sa.select(counter_entry.c.value)
    .join(transfer, transfer.c.id == counter_entry.c.transfer_id)
    .where(
        _of_counter(counter_entry),
        counter_entry.c.signed_at.is_(None),
        counter_entry.c.admitted > sa.bindparam("place"),
        transfer.c.state == State.ASSIGNED,
    )
)
_SIGNED_BUT_LATER = (
    sa.select(counter_entry.c.value)
    .outerjoin(
        counter_correction,
        sa.and_(_of_counter(counter_correction), counter_correction.c.transfer_id == counter_entry.c.transfer_id),
    )
    .where(
        _of_counter(counter_entry),
        counter_entry.c.signed_at > sa.bindparam("start"),
        counter_entry.c.admitted >= sa.bindparam("place"),
        counter_correction.c.transfer_id.is_(None),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What one payout takes out of every window it falls into."""

    transfer_id: str
    admitted: int  #: the place in the order of admission, 1-based
    wallet_id: str
    recipient: str
    initiator_id: str
    value: int | None  #: 10**-8 USD; None: not known
    state: str  #: open, signed, returned or corrected
    signed_at: Instant | None


def find_entry(unit: Unit, transfer_id: str) -> Entry | None:
    """Return the entry of a payout; None if it was never admitted."""
    row = unit.execute(_FIND_ENTRY, {"transfer_id": transfer_id}).first()
    return None if row is None else Entry(**row._mapping)


def admit(
    unit: Unit,
    policies: Iterable[Policy],
    *,
    transfer_id: str,
    wallet_id: str,
    tags: Collection[str],
    recipient: str,
    initiator_id: str,
    value: int | None,
) -> Entry:
    """Open the entry of a payout that was allowed or held, and count it wherever it counts.

    Args:
        unit: the database unit.
        policies: all active policies; those that do not count this payout are passed over.
        transfer_id: the payout.
        wallet_id: the wallet that pays.
        tags: the wallet's tags now.
        recipient: canonical address.
        initiator_id: who asked.
        value: 10**-8 USD, or None if it is not known.
    """
    place = unit.execute(_NEXT_PLACE).scalar_one()
    entry = Entry(
        transfer_id=transfer_id,
        admitted=place,
        wallet_id=wallet_id,
        recipient=recipient,
        initiator_id=initiator_id,
        value=countable(value),
        state="open",
        signed_at=None,
    )
    unit.execute(_ADD_ENTRY, columns_of(entry))
    for policy in sorted(policies, key=lambda each: each.id):
        if counts(policy, wallet_id, tags, activity=activity_of(initiator_id)):
            _open(unit, policy.id, key_of(policy, entry), entry)
    return entry


def windows(
    unit: Unit,
    policies: Iterable[Policy],
    *,
    wallet_id: str,
    recipient: str,
    initiator_id: str,
    now: Instant,
    before_admitted: int | None = None,
) -> dict[str, Window]:
    """Return what counts beside a payout, for each velocity policy that judges it, by policy id.

    Locks the counters. Judging again (``before_admitted``) also moves their ``last_at`` to ``now``, which needs a
    unit that may write.

    Args:
        unit: the database unit.
        policies: the policies that judge: at admission those that match; before binding those that match now and
            those that matched at admission. Rules without a window are passed over.
        wallet_id: the wallet that pays.
        recipient: canonical address.
        initiator_id: who asked.
        now: the database's clock.
        before_admitted: as for ``window``.
    """
    answer: dict[str, Window] = {}
    for policy in sorted(policies, key=lambda each: each.id):
        if not isinstance(policy.rule, Velocity):
            continue
        key = scope_key(policy.rule.scope, wallet_id=wallet_id, recipient=recipient, initiator_id=initiator_id)
        counter = _find_counter(unit, policy.id, key, lock=True)
        if counter is not None and before_admitted is not None and counter.last_at < now:
            _write_counter(unit, counter, last_at=now)
        answer[policy.id] = _window(unit, policy, counter, now, before_admitted)
    return answer


def window(unit: Unit, policy: Policy, key: str, *, now: Instant, before_admitted: int | None = None) -> Window:
    """Return what counts in one counter's window beside the payout that is judged.

    Without ``before_admitted`` (at admission) that is every open entry and everything signed within the window.
    With it (judging again, before binding) open entries count only if admitted earlier, and for a
    ``RequestApproval`` rule signed ones too: what was asked for later never holds what was asked for earlier.
    Every other rule keeps counting all that was signed, for that has left, and what was admitted later but has a
    nonce already (after a retag or an edit of the policy), for that is about to.

    Args:
        unit: the database unit.
        policy: a policy with a velocity rule.
        key: its counter, from ``core.velocity.scope_key``.
        now: the database's clock.
        before_admitted: ``Entry.admitted`` of the payout that is judged again.

    Raises:
        InvariantBroken: the policy has no velocity rule, or a sum would be negative.
    """
    return _window(unit, policy, _find_counter(unit, policy.id, key), now, before_admitted)


def sign(unit: Unit, transfer_id: str, now: Instant) -> Instant:
    """Move a payout's entry from open to signed, in every counter; return the instant it carries from now on.

    Only the first signature counts: a call for an entry that was signed before changes nothing.

    Raises:
        InvariantBroken: the payout was never admitted, or its entry was given back.
    """
    entry = _get_entry(unit, transfer_id)
    if entry.state in ("signed", "corrected") and entry.signed_at is not None:
        return entry.signed_at
    if entry.state != "open":
        raise InvariantBroken(f"transfer {transfer_id} was signed after its entry was {entry.state}")
    counters = _counters_of(unit, transfer_id)
    newest = unit.execute(_NEWEST_SIGNATURE).scalar_one()
    last_at = max([newest or 0, *(counter.last_at for counter in counters)])
    at = next_instant(now, last_at)
    this = entry_of(entry.value)
    for counter in counters:
        total = _totals_of(counter).plus(this)
        _write_counter(
            unit,
            counter,
            last_at=at,
            **_open_columns(_open_of(counter).minus(this)),
            **_signed_columns(total),
        )
        row = {"of_policy_id": counter.policy_id, "of_scope_key": counter.scope_key, "of_transfer": transfer_id}
        unit.execute(_SIGN_COUNTER_ENTRY, {**row, "state": "signed", "signed_at": at, **_total_columns(total)})
    _write_entry(unit, transfer_id, state="signed", signed_at=at)
    return at


def give_back(unit: Unit, transfer_id: str) -> bool:
    """Take an entry that was never signed out of every counter; return False if that was done before.

    Raises:
        InvariantBroken: it was signed (only ``correct`` may follow) or never admitted.
    """
    entry = _get_entry(unit, transfer_id)
    if entry.state == "returned":
        return False
    if entry.state != "open":
        raise InvariantBroken(f"transfer {transfer_id} was {entry.state}: it cannot be given back as unsigned")
    this = entry_of(entry.value)
    for counter in _counters_of(unit, transfer_id):
        _write_counter(unit, counter, **_open_columns(_open_of(counter).minus(this)))
    # It never entered a running total, so nothing is left to remember in the counters.
    unit.execute(sa.delete(counter_entry).where(counter_entry.c.transfer_id == transfer_id))
    _write_entry(unit, transfer_id, state="returned")
    return True


def correct(unit: Unit, transfer_id: str) -> bool:
    """Take a signed entry out of every window, after final proof that nothing left; False if done before.

    The correction carries the instant of the signature, so both leave every window together.

    Raises:
        InvariantBroken: it was never signed (``give_back`` is for that) or never admitted.
    """
    entry = _get_entry(unit, transfer_id)
    if entry.state == "corrected":
        return False
    if entry.state != "signed":
        raise InvariantBroken(f"transfer {transfer_id} is {entry.state}: only a signed entry is corrected")
    for counter in _counters_of(unit, transfer_id):
        unit.execute(
            sa.insert(counter_correction).values(**_correction_row(counter.policy_id, counter.scope_key, entry))
        )
    _write_entry(unit, transfer_id, state="corrected")
    return True


def rebuild(unit: Unit, policy: Policy, *, wallets_matching_now: Collection[str], now: Instant) -> None:
    """Write a policy's counters anew from the stored entries, after it or any wallet's tags changed.

    Counted are the entries of wallets that match now (of all wallets with scope ``organization``) and the entries
    the policy has counted so far, whatever their wallet's tags are now: taking a tag off forgets nothing.

    Args:
        unit: the database unit that makes the change.
        policy: the policy as it is now; without a velocity rule its counters are removed.
        wallets_matching_now: ids of all wallets its filters match.
        now: the database's clock.
    """
    mine = counter_entry.c.policy_id == policy.id
    counted = set(unit.execute(sa.select(counter_entry.c.transfer_id).where(mine)).scalars())
    judged = sa.select(velocity_counter.c.scope_key, velocity_counter.c.last_at).where(
        velocity_counter.c.policy_id == policy.id
    )
    last_at: dict[str, Instant] = {row.scope_key: row.last_at for row in unit.execute(judged)}
    for table in (counter_correction, counter_entry, velocity_counter):
        unit.execute(sa.delete(table).where(table.c.policy_id == policy.id))
    if not isinstance(policy.rule, Velocity):
        return
    everyone = policy.rule.scope is Scope.ORGANIZATION
    activity = policy.activity_kind
    opened: dict[str, Window] = {}
    totals: dict[str, Window] = {}
    rows, corrections = [], []
    for entry in _recent_entries(unit, window_start(now, policy.rule.timeframe) - CLOCK_STEPS):
        if activity_of(entry.initiator_id) != activity:
            continue
        if not (everyone or entry.wallet_id in wallets_matching_now or entry.transfer_id in counted):
            continue
        key, this = key_of(policy, entry), entry_of(entry.value)
        opened.setdefault(key, EMPTY)
        if entry.signed_at is None:
            opened[key] = opened[key].plus(this)
            rows.append(counter_row(policy.id, key, entry, None))
            continue
        totals[key] = totals.get(key, EMPTY).plus(this)
        last_at[key] = max(last_at.get(key, 0), entry.signed_at)
        rows.append(counter_row(policy.id, key, entry, totals[key]))
        if entry.state == "corrected":
            corrections.append(_correction_row(policy.id, key, entry))
    counters = [
        {
            "policy_id": policy.id,
            "scope_key": key,
            "last_at": last_at.get(key, 0),
            **_open_columns(opened[key]),
            **_signed_columns(totals.get(key, EMPTY)),
        }
        for key in opened
    ]
    for table, found in ((velocity_counter, counters), (counter_entry, rows), (counter_correction, corrections)):
        if found:
            unit.execute(sa.insert(table), found)


def _recent_entries(unit: Unit, start: Instant) -> Iterator[Entry]:
    """Yield the entries that a window reaches from ``start`` on, open ones and then signed ones by instant."""
    recent = velocity_entry.c.signed_at > start
    kept = sa.or_(velocity_entry.c.state == "open", recent)
    order = (velocity_entry.c.signed_at, velocity_entry.c.admitted)
    for number, row in enumerate(unit.execute(sa.select(velocity_entry).where(kept).order_by(*order))):
        if number % AWAKE_EVERY == 0:
            unit.execute(_AWAKE)
        yield Entry(**row._mapping)


# --- counters ----------------------------------------------------------------------------------------------------


class Counted(Protocol):
    """What decides which counter of a policy a payout belongs to."""

    @property
    def wallet_id(self) -> str:
        """Who pays."""

    @property
    def recipient(self) -> str:
        """Canonical address."""

    @property
    def initiator_id(self) -> str:
        """Who asked."""


def key_of(policy: Policy, entry: Counted) -> str:
    """Return the scope key of a payout's counter of a velocity policy."""
    if not isinstance(policy.rule, Velocity):
        raise InvariantBroken(f"policy {policy.id} has no counter")
    return scope_key(
        policy.rule.scope,
        wallet_id=entry.wallet_id,
        recipient=entry.recipient,
        initiator_id=entry.initiator_id,
    )


def columns_of(entry: Entry) -> dict[str, Any]:
    """Return an entry as it is stored."""
    return {column.name: getattr(entry, column.name) for column in velocity_entry.c}


def _find_counter(unit: Unit, policy_id: str, key: str, *, lock: bool = False) -> sa.Row[Any] | None:
    return unit.execute(_LOCK_COUNTER if lock else _FIND_COUNTER, {"policy_id": policy_id, "scope_key": key}).first()


def _window(
    unit: Unit, policy: Policy, counter: sa.Row[Any] | None, now: Instant, before_admitted: int | None
) -> Window:
    if not isinstance(policy.rule, Velocity):
        raise InvariantBroken(f"policy {policy.id} has no window")
    if counter is None:
        return EMPTY
    start = window_start(now, policy.rule.timeframe)
    signed = _signed_since(unit, counter, start)
    if before_admitted is None:
        return _open_of(counter).plus(signed)
    mine = {"policy_id": counter.policy_id, "scope_key": counter.scope_key, "place": before_admitted}
    answer = _sum(unit.execute(_OPENED_EARLIER, mine).scalars()).plus(signed)
    if not isinstance(policy.action, RequestApproval):
        return answer.plus(_sum(unit.execute(_BOUND_BUT_LATER, mine).scalars()))
    return answer.minus(_sum(unit.execute(_SIGNED_BUT_LATER, {**mine, "start": start}).scalars()))


def _counters_of(unit: Unit, transfer_id: str) -> list[sa.Row[Any]]:
    """Return, locked and in order, every counter that counts a payout."""
    return list(unit.execute(_COUNTERS_OF, {"transfer_id": transfer_id}))


def _open(unit: Unit, policy_id: str, key: str, entry: Entry) -> None:
    counter, this = _find_counter(unit, policy_id, key, lock=True), entry_of(entry.value)
    if counter is None:
        fresh = {"policy_id": policy_id, "scope_key": key, "last_at": 0}
        unit.execute(_ADD_COUNTER, {**fresh, **_open_columns(this), **_signed_columns(EMPTY)})
    else:
        _write_counter(unit, counter, **_open_columns(_open_of(counter).plus(this)))
    unit.execute(_ADD_COUNTER_ENTRY, counter_row(policy_id, key, entry, None))


def counter_row(policy_id: str, key: str, entry: Entry, total: Window | None) -> dict[str, Any]:
    """Return a counter's entry as it is stored; ``total`` is the running total after its signature, if it is signed."""
    return {
        "policy_id": policy_id,
        "scope_key": key,
        "transfer_id": entry.transfer_id,
        "admitted": entry.admitted,
        "value": entry.value,
        "state": "open" if entry.signed_at is None else "signed",
        "signed_at": entry.signed_at,
        **_total_columns(total),
    }


def _correction_row(policy_id: str, key: str, entry: Entry) -> dict[str, Any]:
    return {
        "policy_id": policy_id,
        "scope_key": key,
        "transfer_id": entry.transfer_id,
        "signed_at": entry.signed_at,
        "value": entry.value,
    }


def _signed_since(unit: Unit, counter: sa.Row[Any], start: Instant) -> Window:
    """Return what was signed after ``start``, less its corrections."""
    mine = {"policy_id": counter.policy_id, "scope_key": counter.scope_key, "start": start}
    before = unit.execute(_TOTAL_BEFORE, mine).first()
    signed = _totals_of(counter)
    if before is not None:
        signed = signed.minus(Window(*before))
    return signed.minus(_sum(unit.execute(_CORRECTED_SINCE, mine).scalars()))


def _sum(values: Iterable[int | None]) -> Window:
    # Added up here: SQLite keeps these numbers as text and would add them as floats.
    total = EMPTY
    for value in values:
        total = total.plus(entry_of(value))
    return total


def _open_of(counter: sa.Row[Any]) -> Window:
    return Window(counter.open_value, counter.open_count, counter.open_unknown)


def _totals_of(counter: sa.Row[Any]) -> Window:
    return Window(counter.signed_value, counter.signed_count, counter.signed_unknown)


def _open_columns(window: Window) -> dict[str, int]:
    return {"open_value": window.value, "open_count": window.count, "open_unknown": window.unknown}


def _signed_columns(window: Window) -> dict[str, int]:
    return {"signed_value": window.value, "signed_count": window.count, "signed_unknown": window.unknown}


def _total_columns(window: Window | None) -> dict[str, int | None]:
    if window is None:
        return {"total_value": None, "total_count": None, "total_unknown": None}
    return {"total_value": window.value, "total_count": window.count, "total_unknown": window.unknown}


def _write_counter(unit: Unit, counter: sa.Row[Any], **values: int) -> None:
    unit.execute(_WRITE_COUNTER, {"of_policy_id": counter.policy_id, "of_scope_key": counter.scope_key, **values})


# --- entries ------------------------------------------------------------------------------------------------------


def _get_entry(unit: Unit, transfer_id: str) -> Entry:
    entry = find_entry(unit, transfer_id)
    if entry is None:
        raise InvariantBroken(f"transfer {transfer_id} has no velocity entry")
    return entry


def _write_entry(unit: Unit, transfer_id: str, **values: Any) -> None:
    unit.execute(_WRITE_ENTRY, {"of_transfer": transfer_id, **values})
