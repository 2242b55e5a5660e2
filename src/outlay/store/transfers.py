"""Transfers, their transitions and the evaluations that judged them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import sqlalchemy as sa

from outlay.core import turns
from outlay.core.audit import ENGINE, PAYOUT_REQUESTED, Entry, standing
from outlay.core.errors import InvariantBroken, NotFound
from outlay.core.pool import Route
from outlay.core.transfer import ENDS, MISMATCH, Event, State, next_state
from outlay.store import audit, tally
from outlay.store.database import Unit
from outlay.store.paging import page
from outlay.store.prepared import Prepared
from outlay.store.schema import evaluation, transaction, transfer, transition, wallet

_ADD = sa.insert(transfer).returning(transfer)
_FIND = sa.select(transfer).where(transfer.c.id == sa.bindparam("id"))
_FIND_BY_EXTERNAL_IDS = sa.select(transfer).where(transfer.c.external_id.in_(sa.bindparam("names", expanding=True)))
_FIND_BY_EXTERNAL_ID = sa.select(transfer).where(transfer.c.external_id == sa.bindparam("external_id"))
_IN_STATE = (
    sa.select(transfer)
    .where(transfer.c.state == sa.bindparam("state"))
    .order_by(transfer.c.ready_at, transfer.c.id)
    .limit(sa.bindparam("most"))
)
# Among those that have been mined for longest: what has another effect stays so until a person resolves it.
MISMATCHED_MAX, _MINED_MAX = 20, 10_000
_MINED_LONG = sa.select(transfer.c.id).where(transfer.c.state == sa.bindparam("state")).order_by(transfer.c.ready_at)
_MISMATCHED = (
    sa.select(transfer)
    .where(transfer.c.id.in_(_MINED_LONG.limit(_MINED_MAX)), transfer.c.flag == sa.bindparam("flag"))
    .order_by(transfer.c.ready_at, transfer.c.id)
    .limit(sa.bindparam("most"))
)
# What waits in the queue of a pool only counts for its wallet.
_OF_WALLET_IN_STATE = _IN_STATE.where(transfer.c.wallet_id == sa.bindparam("wallet_id"), transfer.c.route == Route.LANE)
# Spelled out, for so are the conditions of the indexes ``transfer_to_send`` and ``transfer_put_off``.
_TO_SEND = sa.text("transfer.state = 'ready' AND transfer.route = 'lane'")
_WAITS = {False: transfer.c.waiting_reason.is_(None), True: transfer.c.waiting_reason.is_not(None)}
_TURN = sa.tuple_(transfer.c.asset, transfer.c.flow, transfer.c.level)
_NEXT_QUEUE = {
    waits: sa.select(transfer.c.asset, transfer.c.flow, transfer.c.level)
    .where(
        transfer.c.wallet_id == sa.bindparam("wallet_id"),
        _TO_SEND,
        condition,
        sa.tuple_(
            sa.bindparam("asset", type_=sa.Text),
            sa.bindparam("flow", type_=sa.Text),
            sa.bindparam("level", type_=sa.Integer),
        )
        < _TURN,
    )
    .order_by(transfer.c.asset, transfer.c.flow, transfer.c.level)
    .limit(1)
    for waits, condition in _WAITS.items()
}
_QUEUED = {
    waits: sa.select(transfer)
    .where(
        transfer.c.wallet_id == sa.bindparam("wallet_id"),
        _TO_SEND,
        condition,
        transfer.c.asset == sa.bindparam("asset"),
        transfer.c.flow == sa.bindparam("flow"),
        transfer.c.level == sa.bindparam("level"),
        sa.tuple_(transfer.c.ready_at, transfer.c.id)
        > sa.tuple_(sa.bindparam("ready_at", type_=sa.BigInteger), sa.bindparam("id", type_=sa.Text)),
    )
    .order_by(transfer.c.ready_at, transfer.c.id)
    .limit(sa.bindparam("most"))
    for waits, condition in _WAITS.items()
}
_WALLETS_WITH = {
    # That there is an asset says nothing new, but lets SQLite see which index is meant.
    waits: sa.select(wallet.c.id).where(
        sa.exists().where(transfer.c.wallet_id == wallet.c.id, _TO_SEND, condition, transfer.c.asset > "")
    )
    for waits, condition in _WAITS.items()
}
_CHANGE = sa.update(transfer).where(transfer.c.id == sa.bindparam("of_id"))
_ANNOTATE = Prepared(_CHANGE)
_ADVANCE = Prepared(
    _CHANGE.where(transfer.c.version == sa.bindparam("read_version"), transfer.c.state == sa.bindparam("read_state"))
)
_FIND_MANY = sa.select(transfer).where(transfer.c.id.in_(sa.bindparam("ids", expanding=True)))
_ADD_MANY = Prepared(sa.insert(transfer))
_ADD_TRANSITION = Prepared(sa.insert(transition))
_ADD_EVALUATIONS = Prepared(sa.insert(evaluation))
_EVALUATIONS = (
    sa.select(evaluation)
    .where(evaluation.c.transfer_id == sa.bindparam("transfer_id"))
    .order_by(evaluation.c.at, evaluation.c.policy_id)
)
_JUDGED_BY = sa.select(evaluation.c.transfer_id, evaluation.c.policy_id).where(
    evaluation.c.transfer_id.in_(sa.bindparam("ids", expanding=True)), evaluation.c.moment == sa.bindparam("moment")
)
_AS_ASKED = sa.func.coalesce(transfer.c.flag, "") != MISMATCH
_EVALUATIONS_AT = _EVALUATIONS.where(evaluation.c.moment == sa.bindparam("moment"))


NEW: Mapping[str, Any] = {**{column.name: None for column in transfer.c if column.nullable}, "route": Route.LANE}
"""What a transfer's columns hold unless something else is said; the others have to be given."""

NAMES_MAX = 500
"""External ids looked up with one statement."""


def add_many(
    unit: Unit,
    rows: Sequence[Mapping[str, Any]],
    transitions: Sequence[Mapping[str, Any]],
    proofs: Sequence[str],
    *,
    now: int,
) -> None:
    """Insert transfers with all their columns and what has happened to them so far.

    Args:
        unit: the database unit.
        rows: the columns of each.
        transitions: of all of them.
        proofs: of each the SHA-256 of the evidence it was asked for with.
        now: the current instant.
    """
    if rows:
        whole = [{**row, **turns.columns_of(row)} for row in rows]
        # What is empty in all of them is left out: most columns are, and each costs time for each row.
        given = sorted({name for row in whole for name, value in row.items() if value is not None})
        _ADD_MANY.run(unit, [{name: row[name] for name in given} for row in whole])
        _ADD_TRANSITION.run(unit, transitions)
        tally.note_new(unit, rows, transitions)
        asked = [_asked(row, evidence=proof) for row, proof in zip(rows, proofs, strict=True)]
        audit.add_many(unit, asked, now=now)


def _asked(row: Mapping[str, Any], *, evidence: str | None = None) -> Entry:
    after = {
        "amount": str(row["amount"]),
        "asset": row["asset"],
        "intent": row["intent_digest"],
        "network": row["network"],
        "recipient": row["recipient"],
        "state": str(row["state"]),
        "version": row["version"],
        "wallet": row["wallet_id"],
    }
    return Entry(row["initiator_id"], PAYOUT_REQUESTED, row["id"], after=after, evidence=evidence)


def add(unit: Unit, **values: Any) -> sa.Row[Any]:
    """Insert a transfer in state requested, version 1, and return it."""
    whole = {**values, **turns.columns_of(values), "state": State.REQUESTED, "version": 1}
    row = unit.execute(_ADD, whole).one()
    tally.note_new(unit, [values], ())
    audit.add(unit, _asked(whole), now=values["requested_at"])
    return row


def find(unit: Unit, transfer_id: str) -> sa.Row[Any] | None:
    """Return the transfer, or None."""
    return unit.execute(_FIND, {"id": transfer_id}).one_or_none()


def get(unit: Unit, transfer_id: str) -> sa.Row[Any]:
    """Return the transfer.

    Raises:
        NotFound: there is none.
    """
    row = find(unit, transfer_id)
    if row is None:
        raise NotFound("no such transfer")
    return row


def find_by_external_id(unit: Unit, external_id: str) -> sa.Row[Any] | None:
    """Return the transfer that holds ``external_id``, or None."""
    return unit.execute(_FIND_BY_EXTERNAL_ID, {"external_id": external_id}).one_or_none()


def find_by_external_ids(unit: Unit, external_ids: Collection[str]) -> list[sa.Row[Any]]:
    """Return the transfers that hold one of these external ids."""
    names = sorted(external_ids)
    found: list[sa.Row[Any]] = []
    for at in range(0, len(names), NAMES_MAX):
        found += unit.execute(_FIND_BY_EXTERNAL_IDS, {"names": names[at : at + NAMES_MAX]})
    return found


def list_page(
    unit: Unit, wallet_id: str, *, limit: int | None, token: str | None
) -> tuple[Sequence[sa.Row[Any]], str | None]:
    """Return one page of a wallet's transfers."""
    query = sa.select(transfer).where(transfer.c.wallet_id == wallet_id)
    return page(unit, query, order=transfer.c.requested_at, key=transfer.c.id, limit=limit, token=token)


def confirmed_page(
    unit: Unit, wallet_id: str, *, kind: str | None, asset: str | None, limit: int | None, token: str | None
) -> tuple[Sequence[sa.Row[Any]], str | None]:
    """Return one page of what a wallet paid, newest first; each row also has the ``block_number`` it is in.

    Args:
        unit: the database unit.
        wallet_id: the payer.
        kind: only ``Native`` or ``Erc20``; None for both.
        asset: only this asset, as ``transfer.asset`` spells it; None for all.
        limit: rows at most.
        token: of the page before.
    """
    query = (
        sa.select(transfer, transaction.c.block_number)
        .join(transaction, transaction.c.id == transfer.c.transaction_id)
        # What had another effect, and a person calls paid, is no item: its amount is not what left.
        .where(transfer.c.wallet_id == wallet_id, transfer.c.state == State.CONFIRMED, _AS_ASKED)
    )
    if kind is not None:
        query = query.where(transfer.c.kind == kind)
    if asset is not None:
        query = query.where(transfer.c.asset == asset)
    return page(unit, query, order=transfer.c.confirmed_at, key=transfer.c.id, limit=limit, token=token)


def in_state(unit: Unit, state: State, *, limit: int, wallet_id: str | None = None) -> Sequence[sa.Row[Any]]:
    """Return transfers in ``state``, longest ready first."""
    if wallet_id is None:
        return unit.execute(_IN_STATE, {"state": state, "most": limit}).all()
    return unit.execute(_OF_WALLET_IN_STATE, {"state": state, "most": limit, "wallet_id": wallet_id}).all()


def mismatched(unit: Unit) -> Sequence[sa.Row[Any]]:
    """Return transfers that are final with another effect than was asked for, a few of those that wait longest."""
    return unit.execute(_MISMATCHED, {"state": State.MINED, "flag": MISMATCH, "most": MISMATCHED_MAX}).all()


@dataclass(frozen=True, slots=True, order=True)
class Queue:
    """Ready transfers of one wallet that differ only in how long they have been ready."""

    asset: str
    flow: str
    level: int


FIRST = Queue("", "", -1)
"""Before every queue."""
OLDEST: tuple[int, str] = (-1, "")
"""Before every transfer of a queue: instant since which it is ready, and id."""


def queues(unit: Unit, wallet_id: str, *, waits: bool, after: Queue = FIRST, limit: int) -> list[Queue]:
    """Return up to ``limit`` queues of a wallet that come after one, in their order.

    Args:
        unit: the database unit.
        wallet_id: whose.
        waits: those with a reason to wait, or those without.
        after: the queue to begin behind.
        limit: how many at most.
    """
    found: list[Queue] = []
    while len(found) < limit:
        place = {"asset": after.asset, "flow": after.flow, "level": after.level}
        row = unit.execute(_NEXT_QUEUE[waits], {"wallet_id": wallet_id, **place}).first()
        if row is None:
            break
        after = Queue(*row)
        found.append(after)
    return found


def queued(
    unit: Unit, wallet_id: str, queue: Queue, *, waits: bool, after: tuple[int, str] = OLDEST, limit: int
) -> Sequence[sa.Row[Any]]:
    """Return up to ``limit`` transfers of a queue, longest ready first, behind (``ready_at``, id) ``after``."""
    place = {"asset": queue.asset, "flow": queue.flow, "level": queue.level, "ready_at": after[0], "id": after[1]}
    return unit.execute(_QUEUED[waits], {"wallet_id": wallet_id, **place, "most": limit}).all()


def wallets_with_ready(unit: Unit) -> dict[str, bool]:
    """Return the ids of wallets that have a transfer to send, and whether one of them has no reason to wait yet."""
    found = dict.fromkeys(unit.execute(_WALLETS_WITH[True]).scalars(), False)
    return found | dict.fromkeys(unit.execute(_WALLETS_WITH[False]).scalars(), True)


def find_many(unit: Unit, transfer_ids: Sequence[str]) -> dict[str, sa.Row[Any]]:
    """Return the transfers that there are, by id."""
    if not transfer_ids:
        return {}
    return {row.id: row for row in unit.execute(_FIND_MANY, {"ids": list(transfer_ids)})}


def get_many(unit: Unit, transfer_ids: Sequence[str]) -> list[sa.Row[Any]]:
    """Return the transfers in the order of ``transfer_ids``.

    Raises:
        NotFound: one of them does not exist.
    """
    found = find_many(unit, transfer_ids)
    if not found.keys() >= set(transfer_ids):
        raise NotFound("no such transfer")
    return [found[each] for each in transfer_ids]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What happened to a transfer."""

    row: sa.Row[Any]  #: as it was read in this unit
    event: Event
    detail: Mapping[str, Any] | None = None  #: for the audit entry
    values: Mapping[str, Any] = field(default_factory=dict)  #: columns beside the state

    @property
    def after(self) -> State:
        """Where the transfer stands then.

        Raises:
            IllegalTransition: its state does not accept the event.
        """
        return next_state(State(self.row.state), self.event, transfer_id=self.row.id)


def advance(unit: Unit, changes: Sequence[Change], *, now: int, actor: str = ENGINE) -> list[sa.Row[Any]]:
    """Move transfers along the table, guarded by the versions they were read at, and keep the audit entries.

    Args:
        unit: the database unit.
        changes: what happened.
        now: the current instant.
        actor: who did it.

    Returns:
        the rows as they are then, in the same order; a transfer may be named once.

    Raises:
        IllegalTransition: a state does not accept its event.
        InvariantBroken: a row changed since it was read (one writer, so this is our fault).
    """
    # Rows that set the same columns go in one statement.
    alike: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    entries, logged, moved = [], [], []
    for each in changes:
        before, after = State(each.row.state), each.after
        ended = {"ended_from": before} if after in ENDS else {}
        written = {**ended, **each.values, "state": after, "version": each.row.version + 1}
        guard = {"of_id": each.row.id, "read_version": each.row.version, "read_state": before}
        alike.setdefault(tuple(sorted(written)), []).append({**guard, **written})
        moved.append(_with(each.row, written))
        entries.append(
            {
                "transfer_id": each.row.id,
                "seq": each.row.version,
                "event": each.event,
                "from_state": before,
                "to_state": after,
                "detail": dict(each.detail) if each.detail else None,
                "at": now,
            }
        )
        was = standing(before, each.row.version)
        stands = standing(after, each.row.version + 1, tx_hash=each.values.get("tx_hash"), detail=each.detail)
        logged.append(Entry(actor, f"payout.{each.event}", each.row.id, before=was, after=stands))
    for rows in alike.values():
        if _ADVANCE.run(unit, rows) != len(rows):
            raise InvariantBroken(f"a transfer changed underneath: one of {', '.join(row['of_id'] for row in rows)}")
    if entries:
        _ADD_TRANSITION.run(unit, entries)
        audit.add_many(unit, logged, now=now)
    tally.note_changes(unit, ((each.row, each.event, each.after) for each in changes), now=now)
    return moved


def _with(row: Any, values: Mapping[str, Any]) -> Any:
    """Return a transfer as it stands once ``values`` are written: the guard holds, so there is nothing to be read."""
    known = vars(row) if isinstance(row, SimpleNamespace) else row._mapping
    return SimpleNamespace(**{**known, **values})


def annotate(unit: Unit, transfer_id: str, **values: Any) -> None:
    """Change columns that are not the state, such as the reason a transfer waits for."""
    annotate_many(unit, [{"of_id": transfer_id, **values}])


def annotate_many(unit: Unit, changes: Sequence[Mapping[str, Any]]) -> None:
    """Do that for many: ``of_id`` of each and the columns, the same ones of all."""
    _ANNOTATE.run(unit, changes)


def transitions(unit: Unit, transfer_id: str) -> Sequence[sa.Row[Any]]:
    """Return the transfer's audit entries in order."""
    return unit.execute(
        sa.select(transition).where(transition.c.transfer_id == transfer_id).order_by(transition.c.seq)
    ).all()


def add_evaluations(unit: Unit, rows: Sequence[Mapping[str, Any]]) -> None:
    """Keep what policies said about a transfer."""
    _ADD_EVALUATIONS.run(unit, rows)


def evaluations(unit: Unit, transfer_id: str, *, moment: str | None = None) -> Sequence[sa.Row[Any]]:
    """Return the evaluations of a transfer, oldest first."""
    if moment is None:
        return unit.execute(_EVALUATIONS, {"transfer_id": transfer_id}).all()
    return unit.execute(_EVALUATIONS_AT, {"transfer_id": transfer_id, "moment": moment}).all()


def judged_by(unit: Unit, transfer_ids: Sequence[str], *, moment: str) -> dict[str, frozenset[str]]:
    """Return the ids of the policies that judged each transfer at ``moment``; without those that none did."""
    found: dict[str, set[str]] = {}
    for row in unit.execute(_JUDGED_BY, {"ids": list(transfer_ids), "moment": moment}) if transfer_ids else ():
        found.setdefault(row.transfer_id, set()).add(row.policy_id)
    return {transfer_id: frozenset(names) for transfer_id, names in found.items()}


def ready_before(unit: Unit, instant: int, *, limit: int) -> Sequence[sa.Row[Any]]:
    """Return transfers that have been ready since before ``instant``."""
    return unit.execute(
        sa.select(transfer)
        .where(transfer.c.state == State.READY, transfer.c.ready_at <= instant)
        .order_by(transfer.c.ready_at)
        .limit(limit)
    ).all()
