"""Prices written into the configuration: for development chains and for coins pegged to the dollar."""

from collections.abc import Mapping
from decimal import Decimal

from outlay.core.asset import Asset
from outlay.core.price import Quote
from outlay.core.seams import Instant


class StaticPrices:
    """The ``[prices.static]`` table."""

    def __init__(self, prices: Mapping[str, Decimal]) -> None:
        self._prices = dict(prices)

    def find(self, asset: Asset, now: Instant) -> Quote | None:
        """Return the configured price of the asset's symbol, or None."""
        price = self._prices.get(asset.symbol)
        return None if price is None else Quote(price=price, source="static", at=now)
