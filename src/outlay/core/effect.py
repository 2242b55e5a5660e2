"""What a final transaction really did, compared with what its transfer says."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["exact", "nothing", "mismatch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement:
    """One token movement as the receipt's log tells it."""

    contract: str
    sender: str
    recipient: str
    amount: int  #: base units


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """The verdict on one final transaction."""

    kind: Kind
    outflow: int  #: base units of the asset that left the wallet
    why: str = ""


def native_effect(*, status: int, amount: int) -> Effect:
    """Return the effect of a plain payment: the signed bytes fix recipient and value, the status says if it ran."""
    if status == 1:
        return Effect(kind="exact", outflow=amount)
    return Effect(kind="nothing", outflow=0)


def token_effect(
    movements: Iterable[Movement], *, status: int, contract: str, wallet: str, recipient: str, amount: int
) -> Effect:
    """Return the effect of a token payment by its ``Transfer`` logs; the status alone proves nothing.

    Exact is one log of the contract from wallet to recipient over the amount, and no other that takes from the
    wallet. A reverted transaction did nothing. Anything else is a mismatch: a fee taken on the way, no log, a wrong
    recipient.
    """
    if status != 1:
        return Effect(kind="nothing", outflow=0)
    left = [each for each in movements if each.contract == contract and each.sender == wallet]
    outflow = sum(each.amount for each in left)
    if len(left) == 1 and left[0].recipient == recipient and left[0].amount == amount:
        return Effect(kind="exact", outflow=amount)
    told = ", ".join(f"{each.amount} to {each.recipient}" for each in left) or "no movement"
    return Effect(kind="mismatch", outflow=outflow, why=f"asked: {amount} to {recipient}; the token reports: {told}")
