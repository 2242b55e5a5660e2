"""Where prices come from. A source that does not know answers None, and the rules that need it trigger."""

from typing import Protocol

from outlay.core.asset import Asset
from outlay.core.price import Quote
from outlay.core.seams import Instant


class Prices(Protocol):
    """A source of fresh prices."""

    def find(self, asset: Asset, now: Instant) -> Quote | None:
        """Return the price of ``asset`` in USD, or None when there is none that is fresh."""
        ...
