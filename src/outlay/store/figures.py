"""What gauges show, read from one snapshot with statements that look at few rows, however many payouts there were.

What could be many is counted up to ``COUNT_MAX``; oldest instants are those of the ``LOOK_MAX`` first rows that an
index gives.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from outlay.core.policy import AmountVelocity, CountVelocity, Policy
from outlay.core.seams import Instant
from outlay.core.transfer import ENDS, State
from outlay.core.velocity import Scope
from outlay.store import audit, lanes, velocity
from outlay.store.database import Unit
from outlay.store.policies import active_policies
from outlay.store.schema import (
    account,
    approval,
    delivery,
    frozen_asset,
    lane,
    network_state,
    stop,
    transaction,
    transfer,
    velocity_counter,
    wallet,
    webhook,
)
from outlay.store.webhooks import ENABLED, FAILED, PENDING

COUNT_MAX = 100_000
LOOK_MAX = 10_000
COUNTERS_MAX = 200
"""Counters of one policy of which the fullest is looked for."""

PARKED_MAX = 1000
"""Failed attempts of one endpoint, the newest, among which those that were given up are counted."""

GOING = tuple(state for state in State if state not in ENDS and state is not State.REQUESTED)
"""The states in which transfers are counted."""

_WAITS: Mapping[str, Sequence[tuple[State, str]]] = {
    "decide": ((State.HELD, "requested_at"),),
    "sign": ((State.READY, "ready_at"), (State.ASSIGNED, "ready_at")),
    "broadcast": ((State.SIGNED, "signed_at"),),
    "confirm": ((State.BROADCAST, "broadcast_at"), (State.MINED, "broadcast_at")),
}
"""Stage -> states in which transfers wait for its end, and since when."""


def _oldest(state: State, column: str) -> sa.Select[Any]:
    first = sa.select(transfer.c[column]).where(transfer.c.state == state).order_by(transfer.c.ready_at)
    found = first.limit(LOOK_MAX).subquery()
    return sa.select(sa.func.min(found.c[column]))


def _bounded(query: sa.Select[Any]) -> sa.Select[Any]:
    return sa.select(sa.func.count()).select_from(query.limit(COUNT_MAX).subquery())


_OLDEST = {stage: [_oldest(*each) for each in states] for stage, states in _WAITS.items()}
_COUNT = {state: _bounded(sa.select(sa.literal(1)).where(transfer.c.state == state)) for state in GOING}
_DELAYED = _bounded(sa.select(sa.literal(1)).where(sa.text("transfer.delayed_at IS NOT NULL")).select_from(transfer))
_ANY = sa.select(sa.literal(1)).select_from(transfer).limit(1)
_WALLETS = sa.select(wallet.c.id, wallet.c.network, wallet.c.status, wallet.c.frozen_reason)
_LANES = sa.select(lane.c.wallet_id, lane.c.next_nonce, lane.c.settled_nonce)
_IN_FLIGHT = (
    sa.select(transaction.c.wallet_id, sa.func.count().label("flying"))
    .where(transaction.c.state.in_(lanes.UNSETTLED))
    .group_by(transaction.c.wallet_id)
)
_HELD = sa.select(account).where(account.c.kind.in_(("spendable", "reserved")))
_PENDING_APPROVALS = (
    sa.select(approval.c.created_at).where(approval.c.status == "Pending").limit(LOOK_MAX).subquery("waiting")
)
_APPROVALS = sa.select(sa.func.count(), sa.func.min(_PENDING_APPROVALS.c.created_at))
_STOPS = sa.select(stop.c.scope, stop.c.subject)
_NETWORKS = sa.select(sa.func.count()).select_from(network_state).where(network_state.c.frozen_reason.is_not(None))
_ASSETS = sa.select(sa.func.count()).select_from(frozen_asset)
_WEBHOOKS = sa.select(webhook.c.id, webhook.c.status).where(webhook.c.deleted_at.is_(None))
_OF_WEBHOOK = delivery.c.webhook_id == sa.bindparam("webhook_id")
_UNDELIVERED_ROWS = (
    sa.select(delivery.c.first_due_at)
    .where(delivery.c.state == PENDING, _OF_WEBHOOK)
    .order_by(delivery.c.due_at)
    .limit(LOOK_MAX)
    .subquery()
)
_UNDELIVERED = sa.select(sa.func.min(_UNDELIVERED_ROWS.c.first_due_at))
_LATER = delivery.alias("later")
_FAILED = (
    sa.select(delivery.c.webhook_id, delivery.c.event_id, delivery.c.attempt, delivery.c.next_attempt_at)
    .where(delivery.c.state == FAILED, _OF_WEBHOOK)
    .order_by(delivery.c.due_at.desc())
    .limit(PARKED_MAX)
    .subquery()
)
_PARKED = (
    sa.select(sa.func.count())
    .select_from(_FAILED)
    .where(
        _FAILED.c.next_attempt_at.is_(None),
        ~sa.exists().where(
            _LATER.c.webhook_id == _FAILED.c.webhook_id,
            _LATER.c.event_id == _FAILED.c.event_id,
            _LATER.c.attempt > _FAILED.c.attempt,
        ),
    )
)
_COUNTERS = (
    sa.select(velocity_counter.c.scope_key)
    .where(velocity_counter.c.policy_id == sa.bindparam("policy_id"))
    .order_by(velocity_counter.c.scope_key)
    .limit(COUNTERS_MAX)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WalletFigures:
    """One wallet."""

    id: str
    network: str
    is_active: bool
    is_frozen: bool  #: here, or by the signer
    in_flight: int
    gap: int  #: nonces between the lane's ends that no transaction has
    held: Mapping[str, tuple[int, int]]  #: asset key -> spendable and reserved, base units


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookFigures:
    """One endpoint."""

    id: str
    is_enabled: bool
    oldest: Instant | None  #: since when the oldest event waits to be told
    parked: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one look shows."""

    oldest: Mapping[str, Instant | None]  #: stage -> since when the oldest transfer waits for its end
    payouts: Mapping[str, int]  #: state -> transfers in it
    delayed: int
    wallets: Sequence[WalletFigures]
    stops: Mapping[str, int]  #: what is frozen: scope -> how many
    approvals: int
    approval_oldest: Instant | None
    webhooks: Sequence[WebhookFigures]
    audit_verified_at: Instant  #: when the audit log was last found whole; 0: never yet
    audit_broken: bool


def look(unit: Unit) -> Figures:
    """Return the figures as of this unit."""
    oldest = {
        stage: min((at for query in queries if (at := unit.execute(query).scalar()) is not None), default=None)
        for stage, queries in _OLDEST.items()
    }
    stops = {"all": 0, "network": 0, "wallet": 0, "identity": 0}
    stopped = unit.execute(_STOPS).all()
    for row in stopped:
        stops[row.scope] += 1
    wallets = _wallets(unit, {row.subject for row in stopped if row.scope == "wallet"})
    stops["network"] += unit.execute(_NETWORKS).scalar_one()
    stops["wallet"] = sum(each.is_frozen for each in wallets)
    stops["asset"] = unit.execute(_ASSETS).scalar_one()
    approvals, approval_oldest = unit.execute(_APPROVALS).one()
    checked = audit.state(unit)
    return Figures(
        oldest=oldest,
        payouts={state.value: unit.execute(query).scalar_one() for state, query in _COUNT.items()},
        delayed=unit.execute(_DELAYED).scalar_one(),
        wallets=wallets,
        stops=stops,
        approvals=approvals,
        approval_oldest=approval_oldest,
        webhooks=[_webhook(unit, row) for row in unit.execute(_WEBHOOKS).all()],
        audit_verified_at=checked.verified_at,
        audit_broken=checked.broken is not None,
    )


def has_payouts(unit: Unit) -> bool:
    """Tell whether anything was ever asked for."""
    return unit.execute(_ANY).first() is not None


def _wallets(unit: Unit, stopped: Collection[str]) -> list[WalletFigures]:
    held: dict[str, dict[str, dict[str, int]]] = {}
    for row in unit.execute(_HELD):
        held.setdefault(row.owner, {}).setdefault(row.asset, {})[row.kind] = row.debits - row.credits
    spans = {row.wallet_id: row.next_nonce - row.settled_nonce for row in unit.execute(_LANES)}
    flying = {row.wallet_id: row.flying for row in unit.execute(_IN_FLIGHT)}
    return [
        WalletFigures(
            id=row.id,
            network=row.network,
            is_active=row.status == "Active",
            is_frozen=row.frozen_reason is not None or row.id in stopped,
            in_flight=flying.get(row.id, 0),
            gap=max(0, spans.get(row.id, 0) - flying.get(row.id, 0)),
            held={
                asset: (kinds.get("spendable", 0), kinds.get("reserved", 0))
                for asset, kinds in held.get(row.id, {}).items()
            },
        )
        for row in unit.execute(_WALLETS)
    ]


def _webhook(unit: Unit, row: Any) -> WebhookFigures:
    name = {"webhook_id": row.id}
    return WebhookFigures(
        id=row.id,
        is_enabled=row.status == ENABLED,
        oldest=unit.execute(_UNDELIVERED, name).scalar(),
        parked=unit.execute(_PARKED, name).scalar_one(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """The fullest window of a velocity policy."""

    policy: Policy
    rule: AmountVelocity | CountVelocity
    key: str  #: of its counter; empty: nothing was counted yet
    counted: int  #: what is in it, as its limit is written: 10**-8 USD, or payouts
    unknown: int  #: payouts in it of unknown value: while there are any, the rule triggers

    @property
    def used(self) -> float:
        """Return how full it is, 1.0 at its limit."""
        return self.counted / self.rule.limit


def caps(unit: Unit, *, now: Instant) -> list[Cap]:
    """Return the fullest window of each velocity policy.

    Policies with a counter for each recipient are left out: there are as many as recipients.
    """
    found = []
    for policy in active_policies(unit):
        rule = policy.rule
        if not isinstance(rule, AmountVelocity | CountVelocity) or rule.scope is Scope.RECIPIENT or rule.limit <= 0:
            continue
        fullest = Cap(policy=policy, rule=rule, key="", counted=0, unknown=0)
        for key in unit.execute(_COUNTERS, {"policy_id": policy.id}).scalars().all():
            window = velocity.window(unit, policy, key, now=now)
            counted = window.value if isinstance(rule, AmountVelocity) else window.count
            if not fullest.key or (counted, window.unknown) > (fullest.counted, fullest.unknown):
                fullest = Cap(policy=policy, rule=rule, key=key, counted=counted, unknown=window.unknown)
        found.append(fullest)
    return found


def caps_used(unit: Unit, *, now: Instant) -> dict[tuple[str, str], float]:
    """Return how full the fullest window of each velocity policy is, 1.0 at its limit; by policy id and scope."""
    return {(cap.policy.id, str(cap.rule.scope)): cap.used for cap in caps(unit, now=now)}
