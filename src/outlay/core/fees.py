"""What gas costs, and what one attempt may offer for it within the cap that was frozen when its nonce was bound."""

from dataclasses import dataclass

BUMP_NUMERATOR, BUMP_DENOMINATOR = 9, 8
"""A replacement must raise tip and cap by at least 12.5 %, whatever the node's own floor is."""

NATIVE_GAS = 21_000
"""What paying a plain account costs, in gas: the least any transaction costs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fees:
    """What a transaction costs now, in wei per gas."""

    block_number: int  #: the newest block the node looked at
    base_fee: int  #: of the block after it
    tip_slow: int
    tip_standard: int  #: >= tip_slow
    tip_fast: int  #: >= tip_standard

    def tips(self) -> dict[str, int]:
        """Return the tip of every priority a transfer may ask for."""
        return {"Slow": self.tip_slow, "Standard": self.tip_standard, "Fast": self.tip_fast}


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Fee fields of one EIP-1559 transaction."""

    gas_limit: int  #: gas
    max_fee_per_gas: int  #: wei per gas
    max_priority_fee_per_gas: int  #: wei per gas, at most ``max_fee_per_gas``


def ceiling_per_gas(*, fee_cap: int, gas_limit: int) -> int:
    """Return the most a payout attempt may offer per gas, wei.

    Two bumps of room are left under the cap, so that a void can still outbid the last attempt.
    """
    return fee_cap * BUMP_DENOMINATOR**2 // (BUMP_NUMERATOR**2 * gas_limit)


def first_offer(*, base_fee: int, tip: int, gas_limit: int, fee_cap: int) -> Offer | None:
    """Return the first offer, or None while the network asks more than the cap allows.

    The cap per gas is twice the base fee plus the tip, which stays valid for six full blocks in a row.

    Args:
        base_fee: wei per gas of the next block.
        tip: wei per gas wanted as priority fee.
        gas_limit: gas, at least 21,000.
        fee_cap: native base units the whole payout may cost in fees.
    """
    ceiling = ceiling_per_gas(fee_cap=fee_cap, gas_limit=gas_limit)
    if base_fee + tip > ceiling or ceiling < 1:
        return None
    return Offer(
        gas_limit=gas_limit, max_fee_per_gas=max(1, min(2 * base_fee + tip, ceiling)), max_priority_fee_per_gas=tip
    )
