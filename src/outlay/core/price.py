"""A price as it was when it was used: kept with every decision that rested on it."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from outlay.core.seams import Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """What one whole unit of an asset is worth."""

    price: Decimal  #: USD, greater than 0
    source: str
    at: Instant

    def document(self) -> dict[str, Any]:
        """Return the quote as it is stored."""
        return {"price": format(self.price, "f"), "source": self.source, "at": self.at}
