"""Windows of many payouts that are judged again in one unit; read ``store.velocity`` first.

``velocity.windows(..., before_admitted=place)`` asks the database about each payout by itself. Here each counter is
read once, and the sums of what was admitted earlier are carried from one payout to the next: cheapest if they are asked
about in the order of admission.
"""

from collections import deque
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from outlay.core.policy import Policy, RequestApproval, Velocity
from outlay.core.seams import Instant
from outlay.core.transfer import State
from outlay.core.velocity import EMPTY, Window, countable, window_start
from outlay.store.database import Unit
from outlay.store.schema import counter_correction, counter_entry, transfer, velocity_counter
from outlay.store.velocity import Counted, key_of


def _mine(table: sa.Table) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.policy_id == sa.bindparam("policy_id"), table.c.scope_key == sa.bindparam("scope_key"))


_LOCK = sa.select(velocity_counter).where(_mine(velocity_counter)).with_for_update()
_JUDGED_AT = (
    sa.update(velocity_counter)
    .where(
        velocity_counter.c.policy_id == sa.bindparam("of_policy"),
        velocity_counter.c.scope_key == sa.bindparam("of_key"),
    )
    .values(last_at=sa.bindparam("now"))
)
_TOTAL_BEFORE = (
    sa.select(counter_entry.c.total_value, counter_entry.c.total_count, counter_entry.c.total_unknown)
    .where(_mine(counter_entry), counter_entry.c.signed_at <= sa.bindparam("start"))
    .order_by(counter_entry.c.signed_at.desc())
    .limit(1)
)
_CORRECTED = sa.select(counter_correction.c.transfer_id, counter_correction.c.value).where(
    _mine(counter_correction), counter_correction.c.signed_at > sa.bindparam("start")
)
_OPEN = sa.and_(_mine(counter_entry), counter_entry.c.signed_at.is_(None))
# One by one: asked for together they would be looked for among all open entries.
_FIRST, _LAST = (sa.select(end(counter_entry.c.admitted)).where(_OPEN) for end in (sa.func.min, sa.func.max))
_OPEN_BETWEEN = sa.select(counter_entry.c.value).where(
    _OPEN, counter_entry.c.admitted >= sa.bindparam("first"), counter_entry.c.admitted < sa.bindparam("end")
)
_OPEN_AHEAD = _OPEN_BETWEEN.add_columns(counter_entry.c.admitted).order_by(counter_entry.c.admitted)
# By the payouts, which are few, and not through all of the counter (see ``velocity_signing``).
_BOUND = sa.select(counter_entry.c.admitted, counter_entry.c.value, counter_entry.c.signed_at).where(
    counter_entry.c.policy_id.concat("") == sa.bindparam("policy_id"),
    counter_entry.c.scope_key.concat("") == sa.bindparam("scope_key"),
    counter_entry.c.transfer_id.in_(sa.select(transfer.c.id).where(transfer.c.state == State.ASSIGNED)),
)
_SIGNED_FROM = sa.select(counter_entry.c.transfer_id, counter_entry.c.admitted, counter_entry.c.value).where(
    _mine(counter_entry),
    sa.text("counter_entry.state = 'signed'"),  # spelled out, for so is the condition of its index
    counter_entry.c.admitted >= sa.bindparam("place"),
    counter_entry.c.signed_at > sa.bindparam("start"),
)


class _Counter:
    """One counter as a policy's window sees it."""

    def __init__(self, unit: Unit, policy: Policy, key: str, now: Instant, *, last: int) -> None:
        assert isinstance(policy.rule, Velocity)
        self._last = last
        self._ahead: deque[Any] = deque()  # open entries from ``_at`` on, before ``_read_to``
        self._unit, self._mine = unit, {"policy_id": policy.id, "scope_key": key}
        self._asks_people = isinstance(policy.action, RequestApproval)
        self._start = {**self._mine, "start": window_start(now, policy.rule.timeframe)}
        self._bound: list[Any] | None = None
        self._signed_from: tuple[int, list[Any]] | None = None
        row = unit.execute(_LOCK, self._mine).first()
        self._exists = row is not None
        if row is None:
            return
        if row.last_at < now:
            # What was found to fit now must not be signed at an earlier instant, into a window nobody looked at.
            unit.execute(_JUDGED_AT, {"of_policy": policy.id, "of_key": key, "now": now})
        self._open = Window(row.open_value, row.open_count, row.open_unknown)
        before = unit.execute(_TOTAL_BEFORE, self._start).first()
        signed = Window(row.signed_value, row.signed_count, row.signed_unknown)
        signed = signed if before is None else signed.minus(Window(*before))
        corrected = unit.execute(_CORRECTED, self._start).all()
        self._corrected = {each.transfer_id for each in corrected}
        self._signed = signed.minus(_sum(each.value for each in corrected))
        self._at: int = unit.execute(_FIRST, self._mine).scalar_one() or 0
        self._end: int = (unit.execute(_LAST, self._mine).scalar_one() or 0) + 1
        self._read_to = self._at
        self._earlier = EMPTY  # open entries admitted before ``_at``

    def window(self, place: int) -> Window:
        """Return what counts beside the payout that was admitted at ``place``."""
        if not self._exists:
            return EMPTY
        answer = self._opened_before(place).plus(self._signed)
        if not self._asks_people:
            return answer.plus(_sum(each.value for each in self._bound_now() if each.admitted > place))
        return answer.minus(_sum(each.value for each in self._signed_since(place) if each.admitted >= place))

    def _opened_before(self, place: int) -> Window:
        if self._at <= place <= self._end - (place - self._at):
            self._earlier, self._at = self._earlier.plus(self._next_before(place)), place
            return self._earlier
        if place < self._at:
            self._earlier, self._at = self._earlier.minus(self._between(place, self._at)), place
        else:
            self._earlier, self._at = self._open.minus(self._between(place, self._end)), place  # nearer from the end
        self._ahead.clear()
        self._read_to = place
        return self._earlier

    def _next_before(self, place: int) -> Window:
        """Return the open entries from ``_at`` on that come before ``place``; what follows is asked for next."""
        if place > self._read_to:
            end = max(place, self._last)
            self._ahead.extend(self._unit.execute(_OPEN_AHEAD, {**self._mine, "first": self._read_to, "end": end}))
            self._read_to = end
        passed: list[int | None] = []
        while self._ahead and self._ahead[0].admitted < place:
            passed.append(self._ahead.popleft().value)
        return _sum(passed)

    def _between(self, first: int, end: int) -> Window:
        if first >= end:
            return EMPTY
        return _sum(self._unit.execute(_OPEN_BETWEEN, {**self._mine, "first": first, "end": end}).scalars())

    def _bound_now(self) -> list[Any]:
        """A nonce is bound to them, so they may be signed at any moment, whatever is judged now."""
        if self._bound is None:
            self._bound = [each for each in self._unit.execute(_BOUND, self._mine) if each.signed_at is None]
        return self._bound

    def _signed_since(self, place: int) -> list[Any]:
        if self._signed_from is None or place < self._signed_from[0]:
            rows = self._unit.execute(_SIGNED_FROM, {**self._start, "place": place})
            self._signed_from = place, [each for each in rows if each.transfer_id not in self._corrected]
        return self._signed_from[1]


class BindingWindows:
    """What counts beside payouts that are judged again; as long as no entry is opened, signed or given back."""

    def __init__(self, unit: Unit, now: Instant, *, last: int = 0) -> None:
        """Keep the unit, which may write, its instant, and the last place that is going to be asked about."""
        self._unit, self._now, self._last = unit, now, last
        self._counters: dict[tuple[str, str], _Counter] = {}

    def of(self, policies: Iterable[Policy], payout: Counted, place: int) -> dict[str, Window]:
        """Return what ``velocity.windows`` does for a payout that was admitted at ``place``; locks the counters."""
        answer: dict[str, Window] = {}
        for policy in sorted(policies, key=lambda each: each.id):
            if not isinstance(policy.rule, Velocity):
                continue
            name = policy.id, key_of(policy, payout)
            if name not in self._counters:
                self._counters[name] = _Counter(self._unit, policy, name[1], self._now, last=self._last)
            answer[policy.id] = self._counters[name].window(place)
        return answer


def _sum(values: Iterable[int | None]) -> Window:
    # Added up here: SQLite keeps these numbers as text and would add them as floats.
    known, count, unknown = 0, 0, 0
    for each in map(countable, values):
        count += 1
        if each is None:
            unknown += 1
        else:
            known += each
    return Window(known, count, unknown)
