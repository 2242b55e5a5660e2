"""Which of a wallet's ready payouts are to be bound next: whose turn it is, and what the wallet can pay."""

from collections.abc import Mapping, Sequence

from outlay.actions import sending
from outlay.config import Config
from outlay.core.seams import SECOND, Clock, Instant
from outlay.core.turns import Turns, page_size
from outlay.store import lanes, ledger, stops, transfers
from outlay.store.database import Row, Unit
from outlay.store.transfers import FIRST, Queue

STEP_MAX = 256
"""Slots of one wallet that are signed, or sent, in one step."""
LOOK_AHEAD = 512
"""Ready transfers of one wallet that are looked at in one step; those behind them wait for their turn."""
QUEUES_MAX = 128
"""Queues of one wallet (asset, initiator, batch, priority) that are looked at in one step; others in the next."""


class Choosing:
    """Looks through the queues of wallets; remembers whose turn it was and where it looked, and may forget both."""

    def __init__(self, config: Config, clock: Clock, *, refused: Mapping[str, tuple[Instant, Instant]]) -> None:
        """Keep the parts; ``refused`` tells until when (second) a transfer that the signer refused is left alone."""
        self._config, self._clock, self._refused = config, clock, refused
        self._poll: Instant = int(config.sending.poll_s * SECOND)
        self._turns: dict[str, Turns] = {}  # by wallet
        self._queues_after: dict[tuple[str, bool], Queue] = {}  # by wallet: where looking at its queues goes on
        self._put_off_after: dict[tuple[str, Queue], tuple[int, str]] = {}  # and at what waits in one of them
        self._look_at: dict[str, Instant] = {}  # when waiting transfers of a wallet are looked at again

    def looks(self, wallet_id: str, now: Instant) -> bool:
        """Tell whether what waits in a wallet's queues is to be looked at again."""
        return self._look_at.get(wallet_id, 0) <= now

    def choose(self, unit: Unit, wallet: Row) -> tuple[int, list[Row], list[Row]]:
        """Return how many may be bound now, the transfers the node is asked about, and those that have to wait.

        In the order of ``core.turns``, but what the wallet cannot pay lets others pass; so do those the node or the
        signer refused before, which are asked about again once a poll, or later.
        """
        now = self._clock.now()
        look = self.looks(wallet.id, now)
        if look:
            self._look_at[wallet.id] = now + self._poll
        room = self._room(unit, wallet.id)
        if room <= 0 and not look:
            return 0, [], []  # a full lane is looked at often, and what waits behind it may be long
        turns = self._turns.setdefault(wallet.id, Turns())
        stopped = wallet.frozen_reason is not None or wallet.drained_reason is not None or wallet.status != "Active"
        known = stops.Stops(unit)
        left: dict[str, int] = {}
        going: list[Row] = []
        waiting: list[Row] = []
        for waits in (False, True) if look else (False,):
            free = room
            for row in turns.order(self._ready(unit, wallet.id, waits=waits), now):
                if waits and self._refused.get(row.id, (0, 0))[1] > now:
                    continue
                needed = sending.needs(self._config, row)
                for asset in sorted(needed.keys() - left.keys()):
                    left[asset] = ledger.holdings(unit, wallet_id=wallet.id, asset=asset).spendable
                why = known.why(network=row.network, wallet_id=wallet.id, identity_id=row.initiator_id)
                if stopped or why is not None or any(left[asset] < amount for asset, amount in needed.items()):
                    waiting.append(row)
                elif free > 0:
                    free -= 1
                    left.update({asset: left[asset] - amount for asset, amount in needed.items()})
                    going.append(row)
                    turns.took(row)
        return room, going, waiting

    def _room(self, unit: Unit, wallet_id: str) -> int:
        """Return how many slots may be bound now: what is bound is signed and sent before much more is."""
        lane = lanes.find(unit, wallet_id)
        unsettled = 0 if lane is None else lane.next_nonce - lane.settled_nonce
        bound = lanes.count_transactions(unit, wallet_id, "bound")
        return min(self._config.sending.in_flight_max - unsettled, STEP_MAX - bound)

    def _ready(self, unit: Unit, wallet_id: str, *, waits: bool) -> list[Row]:
        """Return ready transfers of a wallet, the longest ready ones of each queue.

        Of those with a reason to wait also some further back, others each time: what waits for something else than
        the first of a queue must not wait for ever behind them.
        """
        place = wallet_id, waits
        queues = transfers.queues(
            unit, wallet_id, waits=waits, after=self._queues_after.get(place, FIRST), limit=QUEUES_MAX
        )
        if len(queues) < QUEUES_MAX and place in self._queues_after:  # round to the first ones again
            known = set(queues)
            first = transfers.queues(unit, wallet_id, waits=waits, limit=QUEUES_MAX - len(queues))
            queues += [each for each in first if each not in known]
        if len(queues) == QUEUES_MAX:
            self._queues_after[place] = queues[-1]
        else:
            self._queues_after.pop(place, None)
        size = page_size(queues, least=4, all_of_them=LOOK_AHEAD)
        rows: list[Row] = []
        for queue in queues:
            head = transfers.queued(unit, wallet_id, queue, waits=waits, limit=size)
            rows += head
            if waits:
                rows += self._further_back(unit, wallet_id, queue, head, size)
        return rows

    def _further_back(self, unit: Unit, wallet_id: str, queue: Queue, head: Sequence[Row], size: int) -> Sequence[Row]:
        place = wallet_id, queue
        if len(head) < size:
            self._put_off_after.pop(place, None)
            return []
        end = (head[-1].ready_at, head[-1].id)
        after = max(end, self._put_off_after.get(place, end))
        rows = transfers.queued(unit, wallet_id, queue, waits=True, after=after, limit=size)
        if len(rows) < size:
            self._put_off_after.pop(place, None)
        else:
            self._put_off_after[place] = (rows[-1].ready_at, rows[-1].id)
        return rows
