"""Payouts and lanes that do not get on: each is told of once, and only reads that an index answers look for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import structlog

from outlay.actions.alarms import about_payout, wallet_stuck
from outlay.actions.work import Work, open_work
from outlay.config import Config
from outlay.core.event import iso
from outlay.core.lane import find_gap
from outlay.core.seams import SECOND, Clock, Entropy, Instant
from outlay.core.transfer import UNATTENDED, State
from outlay.settings import Network, Sending
from outlay.store import delays, lanes, transfers, webhooks
from outlay.store.database import Database, Unit

log = structlog.get_logger()

EVERY: Instant = 5 * SECOND
PAGE = 500
"""Payouts of a stage that are looked at in one step; the next one goes on behind them."""

TIMES = 3
"""A payout is late when it has been in a stage so many times as long as it should be."""

SIGNING_S = 10
"""Seconds a payout may be bound before it is signed, and signed before it is sent."""
BLOCK_S = 15
"""Seconds between two blocks, where a rule counts blocks: on the slowest of the usual chains."""
TAG_S: Mapping[str, int] = {"latest": BLOCK_S, "safe": 600, "finalized": 1200}
"""Seconds until a block has a tag."""


def expected_s(state: State, network: Network, sending: Sending) -> int | None:
    """Return how many seconds a payout should be in a state at most; None: as long as people take.

    Args:
        state: where it stands.
        network: its finality rule.
        sending: how long a transaction may stay unmined before its fees are raised.
    """
    match state:
        case State.READY:
            return sending.bump_after_s
        case State.ASSIGNED | State.SIGNED:
            return SIGNING_S
        case State.BROADCAST:
            return sending.bump_after_s + sending.bump_every_s
        case State.MINED:
            rule, polls = network.finality, round(2 * sending.poll_s)
            return polls + (rule.blocks * BLOCK_S if rule.blocks else TAG_S.get(rule.tag or "", TAG_S["finalized"]))
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Late:
    """A payout that is late."""

    id: str
    version: int
    state: State
    since: Instant
    expected_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stuck:
    """A lane that does not move."""

    nonce: int
    transfer_id: str | None
    since: Instant
    why: str


class Delays:
    """Finds what is late or stuck."""

    def __init__(self, db: Database, clock: Clock, entropy: Entropy, config: Config) -> None:
        """Keep the parts."""
        self._db, self._clock, self._entropy, self._config = db, clock, entropy, config
        self._next: Instant = 0
        self._after: dict[State, tuple[int, str]] = {}  # where the next step goes on
        self._heads: dict[str, tuple[int, Instant]] = {}  # by wallet: the lowest nonce, and since when it is
        self._gaps: dict[str, tuple[int, Instant]] = {}  # by wallet: a nonce that no slot has, and since when

    async def step(self) -> bool:
        """Look, if it is time; tell whether something new is late, stuck, or moves again."""
        now = self._clock.now()
        if now < self._next:
            return False
        self._next = now + EVERY
        late, stuck, known = await self._db.read(self._look)
        fresh = {wallet_id: each for wallet_id, each in stuck.items() if known.get(wallet_id) != each.nonce}
        moving = sorted(known.keys() - stuck.keys())
        if not (late or fresh or moving):
            return False
        return await self._db.write(partial(self._tell, late, fresh, moving))

    def _look(self, unit: Unit) -> tuple[list[_Late], dict[str, _Stuck], dict[str, int]]:
        now = self._clock.now()
        late = [each for state in UNATTENDED for each in self._late(unit, state, now)]
        return late, self._stuck(unit, now), delays.stuck(unit)

    # Payouts

    def _late(self, unit: Unit, state: State, now: Instant) -> list[_Late]:
        """Return the late ones of the next page of a stage."""
        networks, sending = self._config.networks, self._config.sending
        limits = {name: expected_s(state, network, sending) or 0 for name, network in networks.items()}
        if not limits:
            return []
        patience = TIMES * min(limits.values()) * SECOND
        after = self._after.get(state, delays.FIRST)
        rows = delays.staying(unit, state, ready_before=now - patience, after=after, limit=PAGE)
        # Those that wait for somebody's decision are marked with why.
        found = [
            _Late(id=row.id, version=row.version, state=state, since=row.since, expected_s=limits[row.network])
            for row in rows
            if row.delayed_at is None and row.flag is None and row.network in limits
        ]
        # Behind the last one the walk begins anew: who came back into the stage since stands where it was.
        self._after[state] = (rows[-1].ready_at, rows[-1].id) if len(rows) == PAGE else delays.FIRST
        return [each for each in found if now - each.since >= TIMES * each.expected_s * SECOND]

    # Lanes

    def _stuck(self, unit: Unit, now: Instant) -> dict[str, _Stuck]:
        found: dict[str, _Stuck] = {}
        in_flight = lanes.wallets_in_flight(unit)
        self._heads = {name: self._heads[name] for name in in_flight if name in self._heads}
        self._gaps = {name: self._gaps[name] for name in in_flight if name in self._gaps}
        for wallet_id in in_flight:
            stuck = self._gap(unit, wallet_id, now) or self._head(unit, wallet_id, now)
            if stuck is not None:
                found[wallet_id] = stuck
        return found

    def _gap(self, unit: Unit, wallet_id: str, now: Instant) -> _Stuck | None:
        """Return a nonce that no slot has, if it has been missing for long: the engine fills it otherwise."""
        lane = lanes.find(unit, wallet_id)
        if lane is None:
            return None
        first, end = lane.settled_nonce, lane.next_nonce
        gap = None
        if lanes.count_transactions(unit, wallet_id, *lanes.UNSETTLED) < end - first:
            nonces = [row.nonce for row in lanes.transactions(unit, wallet_id, *lanes.UNSETTLED)]
            gap = find_gap(nonces, first=first, end=end)
        if gap is None:
            self._gaps.pop(wallet_id, None)
            return None
        nonce, since = self._gaps.get(wallet_id, (gap, now))
        if nonce != gap:
            since = now
        self._gaps[wallet_id] = (gap, since)
        if now - since < TIMES * SIGNING_S * SECOND:
            return None
        why = f"Nonce {gap} is missing: nothing behind it can be mined."
        return _Stuck(nonce=gap, transfer_id=None, since=since, why=why)

    def _head(self, unit: Unit, wallet_id: str, now: Instant) -> _Stuck | None:
        """Return the lowest nonce that was sent and is in no block, if that is so for long."""
        head = next(iter(lanes.transactions(unit, wallet_id, "sent", limit=1)), None)
        if head is None:
            self._heads.pop(wallet_id, None)
            return None
        seen = self._heads.get(wallet_id)
        if seen is not None and seen[0] == head.nonce:
            since = seen[1]
        elif seen is not None:
            since = now  # the lane moves: what stood behind another has its own time from now on
        else:
            sent = (each.first_sent_at for each in lanes.attempts(unit, head.id) if each.first_sent_at is not None)
            since = min(sent, default=now)
        self._heads[wallet_id] = (head.nonce, since)
        sending = self._config.sending
        limit = sending.bump_after_s + sending.bump_every_s
        if now - since < TIMES * limit * SECOND:
            return None
        why = f"Nonce {head.nonce} was sent and is in no block after {TIMES} times the {limit} seconds it should take."
        return _Stuck(nonce=head.nonce, transfer_id=head.transfer_id, since=since, why=why)

    # Telling

    def _tell(self, late: list[_Late], stuck: Mapping[str, _Stuck], moving: list[str], unit: Unit) -> bool:
        work = open_work(unit, now=self._clock.now(), entropy=self._entropy, config=self._config)
        marked = [each for each in late if delays.mark(unit, each.id, version=each.version, now=work.now)]
        _tell_late(work, marked)
        for wallet_id, each in sorted(stuck.items()):
            delays.stick(unit, wallet_id, each.nonce)
            log.warning("wallet_stuck", wallet=wallet_id, nonce=each.nonce, payout=each.transfer_id)
            wallet_stuck(
                work, wallet_id, nonce=each.nonce, transfer_id=each.transfer_id, since=each.since, why=each.why
            )
        for wallet_id in moving:
            delays.stick(unit, wallet_id, None)
        return bool(marked or stuck or moving)


def _tell_late(work: Work, marked: list[_Late]) -> None:
    rows = transfers.find_many(work.unit, [each.id for each in marked])
    raised = []
    for each in marked:
        more = {"stage": str(each.state), "since": iso(each.since), "expectedSeconds": each.expected_s}
        log.warning("payout_delayed", payout=each.id, stage=str(each.state))
        raised.append(about_payout(work, "payout.delayed", rows[each.id], **more))
    webhooks.emit_many(work.unit, raised, now=work.now, entropy=work.entropy)
