"""What gas costs, and what one attempt may offer for it within the cap that was frozen when its nonce was bound."""

from collections.abc import Sequence
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


VOID_GAS = NATIVE_GAS
"""What a void costs: paying nothing to oneself."""


def ceiling_per_gas(*, fee_cap: int, gas_limit: int) -> int:
    """Return the most a payout attempt may offer per gas, wei.

    Two bumps of room are left under the cap, so that a void can still outbid the last attempt.
    """
    return fee_cap * BUMP_DENOMINATOR**2 // (BUMP_NUMERATOR**2 * gas_limit)


def first_offer(*, base_fee: int, tip: int, gas_limit: int, fee_cap: int) -> Offer | None:
    """Return the first offer, or None while the network asks more than the cap allows.

    The cap per gas is twice the base fee plus the tip, which stays valid for six full blocks in a row.

    Args:
        base_fee: wei per gas of the next block; 0 on a chain without EIP-1559.
        tip: wei per gas wanted as priority fee; the gas price on a chain without EIP-1559.
        gas_limit: gas, at least 21,000.
        fee_cap: native base units the whole payout may cost in fees.
    """
    ceiling = ceiling_per_gas(fee_cap=fee_cap, gas_limit=gas_limit)
    if base_fee + tip > ceiling or ceiling < 1:
        return None
    fee = max(1, min(2 * base_fee + tip, ceiling))
    # Without a base fee the tip is the whole price: one number on a chain that knows only one.
    return Offer(gas_limit=gas_limit, max_fee_per_gas=fee, max_priority_fee_per_gas=tip if base_fee else fee)


def next_offer(before: Sequence[Offer], *, base_fee: int, tip: int, gas_limit: int, ceiling: int) -> Offer | None:
    """Return an offer that replaces all earlier ones of its slot, or None if the ceiling does not allow one.

    Both fees rise by at least 12.5 % over each earlier attempt, and to the market of now where that is more.

    Args:
        before: every attempt signed for the slot so far.
        base_fee: wei per gas of the next block.
        tip: wei per gas wanted as priority fee now.
        gas_limit: gas.
        ceiling: wei per gas that may not be exceeded.
    """
    floor_tip = max((_raised(each.max_priority_fee_per_gas) for each in before), default=0)
    floor_fee = max((_raised(each.max_fee_per_gas) for each in before), default=1)
    wanted_tip = max(tip, floor_tip)
    least = max(floor_fee, wanted_tip)
    if least > ceiling:
        # The market's tip may be what does not fit; the least that replaces may still.
        wanted_tip, least = floor_tip, max(floor_fee, floor_tip)
    if least > ceiling:
        return None
    return Offer(
        gas_limit=gas_limit,
        max_fee_per_gas=min(max(least, 2 * base_fee + wanted_tip), ceiling),
        max_priority_fee_per_gas=wanted_tip,
    )


def void_offer(before: Sequence[Offer], *, base_fee: int, tip: int, fee_cap: int) -> Offer | None:
    """Return the offer of a void that replaces every attempt of its slot, or None if the cap does not allow one."""
    return next_offer(before, base_fee=base_fee, tip=tip, gas_limit=VOID_GAS, ceiling=fee_cap // VOID_GAS)


def _raised(fee: int) -> int:
    """Return the least fee that is 12.5 % above ``fee``, and above it at all."""
    return max(fee + 1, -(-fee * BUMP_NUMERATOR // BUMP_DENOMINATOR))
