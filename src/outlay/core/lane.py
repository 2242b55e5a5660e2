"""What to do with a slot that was sent and is not mined: wait, raise its fees, or void it.

Pure rules; the engine supplies what it sees. Whatever is decided, the nonce stays, and everything signed for the
slot before stays live: at most one of it is mined.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from outlay.core.fees import Fees, Offer, ceiling_per_gas, next_offer, void_offer
from outlay.core.seams import SECOND, Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How patient to be; seconds."""

    bump_after_s: int  #: after the first send
    bump_every_s: int  #: after each further one
    void_after_s: int  #: that the head of the lane may sit at its cap


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One slot that was sent."""

    offers: tuple[Offer, ...]  #: everything signed for it, in order; at least one
    voided: bool  #: the newest of them is a void
    to_void: bool  #: somebody asked for a void
    sent_at: Instant  #: when the newest was first sent
    is_head: bool  #: nothing below it is unmined
    fee_cap: int  #: wei


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """What is to be signed next for a slot."""

    purpose: Literal["payout", "void"]
    offer: Offer
    reason: str = ""  #: of a void


def is_due(slot: Slot, *, now: Instant, pace: Pace) -> bool:
    """Tell whether a slot has waited long enough to look at its fees again."""
    patience = pace.bump_after_s if len(slot.offers) == 1 else pace.bump_every_s
    return (slot.to_void and not slot.voided) or now - slot.sent_at >= patience * SECOND


def replacement(slot: Slot, *, fees: Fees, tip: int, data_fee: int, now: Instant, pace: Pace) -> Replacement | None:
    """Return what is to be signed for a slot that is due, or None: it waits.

    Args:
        slot: what stands.
        fees: what the network asks now.
        tip: wei per gas, for the priority the transfer asked for.
        data_fee: wei that a transaction costs beside its gas now.
        now: the current instant.
        pace: how patient to be.
    """
    newest = slot.offers[-1]
    if slot.to_void and not slot.voided:
        return _void(slot, fees, tip, data_fee, "It was to be canceled")
    if not slot.is_head and newest.max_fee_per_gas >= fees.base_fee + fees.tip_slow:
        return None  # it can be mined as soon as those before it are
    if slot.voided:
        return _void(slot, fees, tip, data_fee, "")
    ceiling = ceiling_per_gas(fee_cap=max(0, slot.fee_cap - data_fee), gas_limit=newest.gas_limit)
    offer = next_offer(slot.offers, base_fee=fees.base_fee, tip=tip, gas_limit=newest.gas_limit, ceiling=ceiling)
    if offer is not None:
        return Replacement(purpose="payout", offer=offer)
    if slot.is_head and now - slot.sent_at >= pace.void_after_s * SECOND:
        return _void(slot, fees, tip, data_fee, "It could not be mined within its fee cap")
    return None


def _void(slot: Slot, fees: Fees, tip: int, data_fee: int, reason: str) -> Replacement | None:
    cap = max(0, slot.fee_cap - data_fee)
    offer = void_offer(slot.offers, base_fee=fees.base_fee, tip=tip, fee_cap=cap)
    return None if offer is None else Replacement(purpose="void", offer=offer, reason=reason)


def find_gap(nonces: Sequence[int], *, first: int, end: int) -> int | None:
    """Return the lowest nonce from ``first`` to below ``end`` that no slot has, or None."""
    held = set(nonces)
    return next((nonce for nonce in range(first, end) if nonce not in held), None)
