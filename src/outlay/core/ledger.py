"""The shapes of ledger entries: which accounts each money event touches.

Postings of one entry sum to zero for each asset of each network; ``check_balanced`` is asked before any is kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from outlay.core.asset import NATIVE
from outlay.core.errors import InvariantBroken

Side = Literal["debit", "credit"]

SUPPOSED = "recovery"
"""Why a posting was made that rests on nothing but a signature in the signer's journal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """One line of an entry: ``amount`` base units on one side of one account."""

    owner: str  #: wallet id, or the network's name for the accounts of the world
    network: str
    asset: str
    kind: str  #: spendable, reserved; outside, paid, fees
    side: Side
    amount: int
    why: str

    @property
    def account_id(self) -> str:
        """The account's name."""
        return f"{self.owner}/{self.asset}/{self.kind}"


def _move(
    source: tuple[str, str], target: tuple[str, str], *, network: str, asset: str, amount: int, why: str
) -> tuple[Posting, Posting]:
    """Credit ``source`` and debit ``target``, each (owner, kind)."""
    if amount < 0:
        raise InvariantBroken("a posting is never negative")
    return (
        Posting(
            owner=source[0],
            kind=source[1],
            side="credit",
            network=network,
            asset=asset,
            amount=amount,
            why=why,
        ),
        Posting(
            owner=target[0],
            kind=target[1],
            side="debit",
            network=network,
            asset=asset,
            amount=amount,
            why=why,
        ),
    )


def inflow(*, wallet: str, network: str, asset: str, amount: int) -> tuple[Posting, ...]:
    """Money arrived from outside."""
    return _move((network, "outside"), (wallet, "spendable"), network=network, asset=asset, amount=amount, why="inflow")


def written_off(*, wallet: str, network: str, asset: str, amount: int) -> tuple[Posting, ...]:
    """Money left without us, and a person accepted that."""
    return _move(
        (wallet, "spendable"), (network, "outside"), network=network, asset=asset, amount=amount, why="written_off"
    )


def supposed(*, wallet: str, network: str, asset: str, amount: int) -> tuple[Posting, ...]:
    """Recovery found this much signed away that the ledger does not have; negative: the chain shows it was less."""
    outside, spendable = (network, "outside"), (wallet, "spendable")
    source, target = (outside, spendable) if amount >= 0 else (spendable, outside)
    return _move(source, target, network=network, asset=asset, amount=abs(amount), why=SUPPOSED)


def reserve(*, wallet: str, network: str, asset: str, amount: int, fee_cap: int) -> tuple[Posting, ...]:
    """Set aside what a payout and its dearest attempt can take."""
    spendable, reserved = (wallet, "spendable"), (wallet, "reserved")
    return (
        *_move(spendable, reserved, network=network, asset=asset, amount=amount, why="reserve"),
        *_move(spendable, reserved, network=network, asset=NATIVE, amount=fee_cap, why="reserve"),
    )


def release(*, wallet: str, network: str, asset: str, amount: int, fee_cap: int) -> tuple[Posting, ...]:
    """Give back what was set aside: nothing was ever signed for it."""
    spendable, reserved = (wallet, "spendable"), (wallet, "reserved")
    return (
        *_move(reserved, spendable, network=network, asset=asset, amount=amount, why="release"),
        *_move(reserved, spendable, network=network, asset=NATIVE, amount=fee_cap, why="release"),
    )


def settle(
    *, wallet: str, network: str, asset: str, reserved: int, paid: int, fee_cap: int, fee: int
) -> tuple[Posting, ...]:
    """The slot is final: post what left, and give the rest back.

    Args:
        wallet: the paying wallet's id.
        network: the network's name.
        asset: key of the paid asset.
        reserved: base units of the asset set aside at binding.
        paid: base units that left, at most ``reserved``; 0 for a revert.
        fee_cap: native base units set aside for fees.
        fee: native base units the chain took, at most ``fee_cap``.
    """
    if not 0 <= paid <= reserved or not 0 <= fee <= fee_cap:
        raise InvariantBroken(f"more left the wallet than was reserved: {paid}/{reserved}, fee {fee}/{fee_cap}")
    spendable, held = (wallet, "spendable"), (wallet, "reserved")
    return (
        *_move(held, (network, "paid"), network=network, asset=asset, amount=paid, why="paid"),
        *_move(held, spendable, network=network, asset=asset, amount=reserved - paid, why="release"),
        *_move(held, (network, "fees"), network=network, asset=NATIVE, amount=fee, why="fee"),
        *_move(held, spendable, network=network, asset=NATIVE, amount=fee_cap - fee, why="release"),
    )


def settle_mismatch(*, wallet: str, network: str, asset: str, paid: int, fee_cap: int, fee: int) -> tuple[Posting, ...]:
    """A final effect that is not the intended one: post the true outflow, give nothing of the asset back."""
    spendable, held = (wallet, "spendable"), (wallet, "reserved")
    return (
        *_move(held, (network, "paid"), network=network, asset=asset, amount=paid, why="paid"),
        *_move(held, (network, "fees"), network=network, asset=NATIVE, amount=fee, why="fee"),
        *_move(held, spendable, network=network, asset=NATIVE, amount=fee_cap - fee, why="release"),
    )


def overrun(*, wallet: str, network: str, fee: int) -> tuple[Posting, ...]:
    """The chain took more than was set aside for fees: native base units, from what is spendable."""
    return _move((wallet, "spendable"), (network, "fees"), network=network, asset=NATIVE, amount=fee, why="fee")


def check_balanced(postings: Sequence[Posting]) -> None:
    """Refuse an entry whose sides differ for any asset.

    Raises:
        InvariantBroken: they differ.
    """
    sums: dict[tuple[str, str], int] = {}
    for line in postings:
        key = (line.network, line.asset)
        sums[key] = sums.get(key, 0) + (line.amount if line.side == "debit" else -line.amount)
    if any(sums.values()):
        raise InvariantBroken("a ledger entry does not sum to zero")
