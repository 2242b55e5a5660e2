"""Fixed prices that are checked against ones that are told live: what is found can withhold a price, never change it.

Payouts are judged by the fixed prices, because these are signed and the signer judges by the same. A live price says
whether a fixed one may still be used. While it was told lately and the fixed one lies within its band, the fixed one is
used; else there is no price, and every rule that needs one triggers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from outlay.core.asset import Asset
from outlay.core.price import Quote
from outlay.core.seams import SECOND, Instant

STALE, OFF = "stale", "off"
"""Why a price is withheld: nothing was told lately; what was told lies outside the band."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """How one symbol is checked."""

    max_age: Instant  #: an older answer counts for nothing
    band: Decimal  #: how far the live price may be from the fixed one, as a part of the fixed one


@dataclass(frozen=True, slots=True, kw_only=True)
class Withheld:
    """A price that may not be used."""

    symbol: str
    reason: str  #: ``STALE`` or ``OFF``
    age: Instant  #: of the newest answer; without one, since the checks began
    fixed: Decimal
    live: Decimal | None  #: None: nothing was ever told


class CheckedPrices:
    """The ``[prices.static]`` table, each symbol of ``[prices.live]`` checked."""

    def __init__(self, fixed: Mapping[str, Decimal], checks: Mapping[str, Check], *, began: Instant) -> None:
        """Keep the parts; every symbol that is checked has a fixed price."""
        self._fixed, self._checks, self._began = dict(fixed), dict(checks), began
        self._told: dict[str, tuple[Decimal, Instant]] = {}

    def tell(self, symbol: str, price: Decimal, at: Instant) -> None:
        """Take note of a live price that was told at ``at``."""
        self._told[symbol] = (price, at)

    def find(self, asset: Asset, now: Instant) -> Quote | None:
        """Return the fixed price of the asset's symbol, or None: there is none, or it may not be used."""
        price = self._fixed.get(asset.symbol)
        if price is None or self.withheld(asset.symbol, now) is not None:
            return None
        return Quote(price=price, source="static", at=now)

    def withheld(self, symbol: str, now: Instant) -> Withheld | None:
        """Return why the price of a symbol may not be used, or None."""
        check = self._checks.get(symbol)
        if check is None:
            return None
        fixed, (live, at) = self._fixed[symbol], self._told.get(symbol, (None, self._began))
        is_fresh = live is not None and now - at <= check.max_age
        is_near = live is not None and abs(live - fixed) <= fixed * check.band
        if is_fresh and is_near:
            return None
        return Withheld(symbol=symbol, reason=OFF if is_fresh else STALE, age=now - at, fixed=fixed, live=live)

    def checked(self) -> list[str]:
        """Return the symbols that are checked, in order."""
        return sorted(self._checks)

    def ages(self, now: Instant) -> dict[str, float]:
        """Return how old the newest answer about each symbol is, in seconds; 0 for one that is not checked."""
        found = {symbol: self._told.get(symbol, (None, self._began))[1] for symbol in self._checks}
        return {symbol: max(0, now - found.get(symbol, now)) / SECOND for symbol in sorted(self._fixed)}
