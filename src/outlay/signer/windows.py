"""The signer's own caps: what may leave within a window, in base units, whatever policies and approvals say.

They are computed from the journal, so nobody but the signer's host can reset them. What was signed counts for the
whole window, also if it is voided or fails: the signer believes nobody about the chain.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from outlay.core.seams import SECOND, Instant
from outlay.settings import SignerCap

FEES = "fees"
"""What a cap names as asset to bound what transactions may cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spend:
    """What one slot may cost at most."""

    network: str
    asset: str | None  #: ``native`` or a contract; None: a void of a gap, which pays nobody
    recipient: str = ""
    amount: int = 0  #: base units
    fee_cap: int  #: native base units
    at: Instant  #: of the first signature, or of now


class Windows:
    """All caps of a signer, and what counts against each. Spends are added in the order of their instants."""

    def __init__(self, caps: Iterable[SignerCap], *, full_from: Instant | None = None) -> None:
        """Begin with nothing spent.

        Args:
            caps: as configured.
            full_from: when a new journal was put in the place of a lost one: every window counts as spent from then
                on, until it has passed once.
        """
        self._windows = [_Window(cap, full_from) for cap in caps]

    @property
    def longest(self) -> Instant:
        """The longest window, microseconds."""
        return max((each.length for each in self._windows), default=0)

    def refusal(self, spend: Spend) -> str | None:
        """Return why ``spend`` would go over a cap, or None."""
        return next((why for each in self._windows if (why := each.refusal(spend)) is not None), None)

    def add(self, spend: Spend) -> None:
        """Count what was signed."""
        for each in self._windows:
            each.add(spend)


class _Window:
    """One cap: the sum, the sums by recipient and the count of ``(now - window, now]``."""

    def __init__(self, cap: SignerCap, full_from: Instant | None) -> None:
        self.length: Instant = cap.window_s * SECOND
        self._cap = cap
        self._full_until = None if full_from is None else full_from + self.length
        self._spends: deque[tuple[Instant, str, int]] = deque()
        self._total = 0
        self._by_recipient: dict[str, int] = {}

    def _counted(self, spend: Spend) -> int | None:
        """Return how much of a spend counts here; None: it is about something else."""
        if spend.network != self._cap.network:
            return None
        if self._cap.asset == FEES:
            return spend.fee_cap
        return spend.amount if spend.asset == self._cap.asset else None

    def _advance(self, now: Instant) -> None:
        while self._spends and self._spends[0][0] <= now - self.length:
            _, recipient, amount = self._spends.popleft()
            self._total -= amount
            left = self._by_recipient.get(recipient, 0) - amount
            if left:
                self._by_recipient[recipient] = left
            else:
                self._by_recipient.pop(recipient, None)

    def refusal(self, spend: Spend) -> str | None:
        amount, cap = self._counted(spend), self._cap
        if amount is None:
            return None
        self._advance(spend.at)
        what = f"of {cap.asset} on {cap.network}"
        if cap.per_payout is not None and amount > cap.per_payout:
            return f"the signer's own limit of one payout {what} is {cap.per_payout}"
        limited = (cap.per_recipient, cap.total, cap.count) != (None, None, None)
        if limited and self._full_until is not None and spend.at < self._full_until:
            return f"the journal was lost: the signer's own limits {what} count as spent for {cap.window_s} seconds"
        to_one = self._by_recipient.get(spend.recipient, 0) + amount
        if cap.per_recipient is not None and to_one > cap.per_recipient:
            return f"the signer's own limit to one recipient {what} is {cap.per_recipient} in {cap.window_s} seconds"
        if cap.total is not None and self._total + amount > cap.total:
            return f"the signer's own limit {what} is {cap.total} in {cap.window_s} seconds"
        if cap.count is not None and len(self._spends) + 1 > cap.count:
            return f"the signer's own limit {what} is {cap.count} transactions in {cap.window_s} seconds"
        return None

    def add(self, spend: Spend) -> None:
        amount = self._counted(spend)
        if amount is None:
            return
        self._spends.append((spend.at, spend.recipient, amount))
        self._total += amount
        self._by_recipient[spend.recipient] = self._by_recipient.get(spend.recipient, 0) + amount
