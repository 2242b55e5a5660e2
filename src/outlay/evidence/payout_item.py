"""What a request of a payout says in our own words, read by the server and by everybody who checks it later alike."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from outlay.core.asset import NATIVE
from outlay.core.errors import InvalidInput
from outlay.evidence.shape import members

SINGLE_PATH, BATCH_PATH = "/v1/payouts", "/v1/payouts/batch"

_TEXTS: Mapping[str, type] = {"asset": str, "recipient": str, "amount": str}
_CHOICES: Mapping[str, type] = dict.fromkeys(("externalId", "walletId", "poolId", "memo", "priority"), str)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One payout as it is asked for. Nothing about its texts has been checked but that they are texts."""

    external_id: str | None
    wallet_id: str | None  #: either this
    pool_id: str | None  #: or this
    asset: str  #: ``native``, a contract, or the symbol of a listed asset
    recipient: str
    amount: str
    memo: str
    priority: str | None

    @property
    def symbol(self) -> str | None:
        """The symbol that names the asset, where one does."""
        return None if self.asset == NATIVE or self.asset[:2] in ("0x", "0X") else self.asset

    @property
    def contract(self) -> str | None:
        """The contract that names the asset, where one does."""
        return self.asset if self.symbol is None and self.asset != NATIVE else None


def read_item(payload: object, field: str) -> Item:
    """Read a request; a member that may be left out may be null.

    Args:
        payload: the parsed object.
        field: its path, put before the member's name in errors; empty for none.

    Raises:
        InvalidInput: a member is missing, unknown or no text; or not exactly one of wallet and pool is named.
    """
    stated = (
        {name: value for name, value in payload.items() if value is not None or name not in _CHOICES}
        if isinstance(payload, dict)
        else payload
    )
    given: dict[str, Any] = members(stated, field, _TEXTS, _CHOICES)
    if ("walletId" in given) == ("poolId" in given):
        raise InvalidInput("name either walletId or poolId", field=f"{field}.walletId" if field else "walletId")
    return Item(
        external_id=given.get("externalId"),
        wallet_id=given.get("walletId"),
        pool_id=given.get("poolId"),
        asset=given["asset"],
        recipient=given["recipient"],
        amount=given["amount"],
        memo=given.get("memo", ""),
        priority=given.get("priority"),
    )
