"""Mandates: a standing, admin-signed authority to keep wallets filled from a treasury, and how much a refill is.

Nobody asks for a refill one by one, so its bounds are what people signed: whom it fills, from where, with what, between
which amounts, how much at once and how much in a stretch of time. The signer checks all of these but the balances,
which it cannot see.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from outlay.core import ids
from outlay.core.address import parse_address
from outlay.core.asset import NATIVE
from outlay.core.errors import InvalidInput
from outlay.core.fields import amount, identifier, members, one_of, text, whole
from outlay.core.policy import WALLETS_REFILL, WALLETS_SIGN
from outlay.core.seams import MINUTE, Instant
from outlay.core.velocity import TIMEFRAME_MAX

REFILL, GAS_TOP_UP = "Refill", "GasTopUp"
"""Kinds: any asset up to amounts; the network's coin for wallets that pay with tokens."""

BASE, PAYOUTS = "base", "payouts"
"""What ``min``, ``target`` and ``max`` of a gas top-up count: base units, or payouts at the highest fee cap."""

NAME_MAX, WALLETS_MAX, COUNT_MAX = 200, 1000, 1_000_000
_TAG_MAX = 64
_WALLETS = ("walletIds", "tag", "poolId")
EXTERNAL_PREFIX = "refill/"
"""What every ``externalId`` of a refill begins with, and none that a caller chooses."""
_EXTERNAL_ID = re.compile(EXTERNAL_PREFIX + r"(?P<mandate>[a-z0-9-]+)/(?P<number>[1-9][0-9]{0,9})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """Which wallets a mandate fills: exactly one member is given."""

    wallet_ids: tuple[str, ...] | None = None
    tag: str | None = None  #: every wallet of the network that carries it
    pool_id: str | None = None  #: every wallet of the pool

    def match(self, wallet_id: str, tags: Collection[str], *, pool_tag: str | None = None) -> bool:
        """Tell whether a wallet of the mandate's network is one of them; ``pool_tag`` is that of the pool named."""
        if self.wallet_ids is not None:
            return wallet_id in self.wallet_ids
        wanted = self.tag if self.tag is not None else pool_tag
        return wanted is not None and wanted in tags


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """When a wallet is filled and how far, base units."""

    least: int  #: below it, it is filled
    target: int  #: up to here
    most: int  #: never above


@dataclass(frozen=True, slots=True, kw_only=True)
class Mandate:
    """One mandate. It never changes: another one takes its place."""

    id: str
    name: str
    kind: str
    network: str
    asset: str  #: ``native`` or the contract
    treasury: str | None  #: wallet id
    external: str | None  #: address of a treasury that is not ours; then a refill is only proposed
    targets: Targets
    unit: str
    levels: Levels  #: in ``unit``
    per_refill: int  #: base units
    window_amount: int  #: base units of all its refills together within ``minutes``
    window_count: int
    minutes: int

    @property
    def window(self) -> Instant:
        """The stretch of time in microseconds."""
        return self.minutes * MINUTE

    @property
    def largest(self) -> int:
        """The most one refill can be, base units, as far as the mandate alone says."""
        return min(self.per_refill, self.levels.most) if self.unit == BASE else self.per_refill

    def levels_at(self, fee_cap: int) -> Levels:
        """Return the levels in base units; ``fee_cap`` is the highest of the network's assets, native base units."""
        if self.unit == BASE:
            return self.levels
        return Levels(
            least=self.levels.least * fee_cap, target=self.levels.target * fee_cap, most=self.levels.most * fee_cap
        )

    def external_id(self, number: int) -> str:
        """Return the ``externalId`` of its refill ``number``, counted from 1."""
        return f"{self.external_prefix}{number}"

    @property
    def external_prefix(self) -> str:
        """What the ``externalId`` of each of its refills, and of no other's, begins with."""
        return f"{EXTERNAL_PREFIX}{self.id}/"

    def document(self) -> dict[str, Any]:
        """Return the mandate as it is kept, signed over and answered."""
        who = {"walletIds": self.targets.wallet_ids, "tag": self.targets.tag, "poolId": self.targets.pool_id}
        given = {name: list(each) if isinstance(each, tuple) else each for name, each in who.items()}
        return {
            "name": self.name,
            "kind": self.kind,
            "network": self.network,
            "asset": self.asset,
            "treasury": {"external": self.external} if self.treasury is None else {"walletId": self.treasury},
            "wallets": {name: each for name, each in given.items() if each is not None},
            "unit": self.unit,
            "min": str(self.levels.least),
            "target": str(self.levels.target),
            "max": str(self.levels.most),
            "perRefillMax": str(self.per_refill),
            "window": {"amount": str(self.window_amount), "count": self.window_count, "minutes": self.minutes},
        }


def is_refill(initiator_id: str) -> bool:
    """Tell whether what this initiator asked for is a refill: then a mandate asked, and no person."""
    return ids.is_id(initiator_id, ids.MANDATE)


def activity_of(initiator_id: str) -> str:
    """Return the kind of activity that policies judge what this initiator asked for as."""
    return WALLETS_REFILL if is_refill(initiator_id) else WALLETS_SIGN


def mandate_named(external_id: str | None) -> str | None:
    """Return the mandate whose refill an ``externalId`` is, or None where it is none."""
    found = None if external_id is None else _EXTERNAL_ID.fullmatch(external_id)
    return None if found is None else found["mandate"]


# Reading


def parse_mandate(document: object, *, id: str) -> Mandate:
    """Return the mandate a request describes, or a record holds.

    Args:
        document: as parsed JSON; members that are null are as if they were not there.
        id: of the mandate.

    Raises:
        InvalidInput: names the member, for example ``window.count``, and says what to do.
    """
    known = ("name", "kind", "network", "asset", "treasury", "wallets", "unit", "min", "target", "max")
    fields = members(document, "", (*known, "perRefillMax", "window"))
    kind = fields.get("kind")
    if kind not in (REFILL, GAS_TOP_UP):
        raise InvalidInput(f"use {REFILL} or {GAS_TOP_UP}", field="kind")
    treasury = one_of(fields.get("treasury"), "treasury", ("walletId", "external"))
    window = members(fields.get("window"), "window", ("amount", "count", "minutes"))
    external = treasury.get("external")
    mandate = Mandate(
        id=id,
        name=text(fields.get("name"), "name", NAME_MAX),
        kind=kind,
        network=text(fields.get("network"), "network", 64),
        asset=_asset(fields.get("asset"), kind),
        treasury=identifier(treasury["walletId"], "treasury.walletId", ids.WALLET) if "walletId" in treasury else None,
        external=None if external is None else parse_address(external, field="treasury.external"),
        targets=_targets(fields.get("wallets")),
        unit=_unit(fields.get("unit"), kind),
        levels=Levels(least=amount(fields, "min"), target=amount(fields, "target"), most=amount(fields, "max")),
        per_refill=amount(fields, "perRefillMax"),
        window_amount=amount(window, "amount", "window."),
        window_count=whole(window.get("count"), "window.count", COUNT_MAX),
        minutes=whole(window.get("minutes"), "window.minutes", TIMEFRAME_MAX),
    )
    _check(mandate)
    return mandate


def _check(mandate: Mandate) -> None:
    levels = mandate.levels
    if levels.target < levels.least:
        raise InvalidInput("must be at least min: a refill ends there", field="target")
    if levels.most < levels.target:
        raise InvalidInput("must be at least target: nothing is filled above it", field="max")
    if mandate.window_amount < mandate.per_refill:
        raise InvalidInput(
            "must be at least perRefillMax, or no refill of that size could ever go", field="window.amount"
        )
    if mandate.treasury is not None and mandate.treasury in (mandate.targets.wallet_ids or ()):
        raise InvalidInput("lists the treasury, which cannot fill itself", field="wallets.walletIds")


def _targets(value: object) -> Targets:
    found = one_of(value, "wallets", _WALLETS)
    if "tag" in found:
        return Targets(tag=text(found["tag"], "wallets.tag", _TAG_MAX))
    if "poolId" in found:
        return Targets(pool_id=identifier(found["poolId"], "wallets.poolId", ids.POOL))
    listed = found["walletIds"]
    if not isinstance(listed, list) or not 1 <= len(listed) <= WALLETS_MAX:
        raise InvalidInput(f"list 1 to {WALLETS_MAX} wallets", field="wallets.walletIds")
    named = tuple(identifier(each, f"wallets.walletIds[{at}]", ids.WALLET) for at, each in enumerate(listed))
    if len(set(named)) != len(named):
        raise InvalidInput("lists a wallet twice", field="wallets.walletIds")
    return Targets(wallet_ids=named)


def _asset(value: object, kind: str) -> str:
    if kind == GAS_TOP_UP:
        if value not in (None, NATIVE):
            raise InvalidInput(f"a gas top-up is of the network's coin: leave it out or write {NATIVE}", field="asset")
        return NATIVE
    if value == NATIVE:
        return NATIVE
    if not isinstance(value, str):
        raise InvalidInput(f"is {NATIVE} or the address of a token", field="asset")
    return parse_address(value, field="asset")


def _unit(value: object, kind: str) -> str:
    if value is None:
        return BASE
    if value not in (BASE, PAYOUTS) or (value == PAYOUTS and kind != GAS_TOP_UP):
        raise InvalidInput(f"is {BASE}, or {PAYOUTS} for a {GAS_TOP_UP}", field="unit")
    return str(value)


# How much


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What a decision about one wallet rests on, base units."""

    spendable: int  #: of the wallet, beyond what is set aside
    urgent: int = 0  #: what payouts that wait need at least, where that is known
    treasury: int | None = None  #: what the treasury can give away; None: it is not ours
    spent: int = 0  #: of the mandate's window, what was signed or may be
    count: int = 0  #: refills of the same


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be done for one wallet."""

    wanted: int  #: what would fill it; 0: it needs nothing
    amount: int  #: what goes now; 0: nothing
    reason: str | None = None  #: why less than is needed, or nothing, goes


def is_low(levels: Levels, spendable: int, urgent: int = 0) -> bool:
    """Tell whether a wallet is to be filled."""
    return spendable < max(levels.least, min(urgent, levels.most))


def plan(mandate: Mandate, levels: Levels, situation: Situation) -> Plan:
    """Return how much goes to a wallet now.

    It is filled up to its target, as far as perRefillMax, the window and the treasury allow. Where these allow less
    than brings it back to its minimum (or less than one whole refill), nothing goes: many small refills cost fees and
    fill nothing.
    """
    floor = max(levels.least, min(situation.urgent, levels.most))
    if situation.spendable >= floor:
        return Plan(wanted=0, amount=0)
    wanted = min(max(levels.target, floor), levels.most) - situation.spendable
    whole = min(wanted, mandate.per_refill)
    enough = min(whole, floor - situation.spendable)
    left = mandate.window_amount - situation.spent
    if situation.count >= mandate.window_count or left < enough:
        minutes = mandate.minutes
        return Plan(wanted=wanted, amount=0, reason=f"the mandate's limit for {minutes} minutes is reached")
    given = min(whole, left)
    if situation.treasury is not None and situation.treasury < given:
        if situation.treasury < enough:
            text = f"the treasury can give {max(0, situation.treasury)} base units, and {enough} are needed"
            return Plan(wanted=wanted, amount=0, reason=text)
        given = situation.treasury
    return Plan(wanted=wanted, amount=given)


def hours_to_empty(spendable: int, outflow: int, over: Instant) -> int | None:
    """Return in how many whole hours a wallet is empty if it pays on as it did; None: nothing left.

    Args:
        spendable: base units.
        outflow: base units that left within ``over``.
        over: microseconds.
    """
    if outflow <= 0:
        return None
    return spendable * over // (outflow * 60 * MINUTE)


def call_data(to: str, amount: int) -> str:
    """Return the data of a token's ``transfer(address,uint256)``, 0x and hex, for whoever pastes it elsewhere."""
    return f"0xa9059cbb{to.removeprefix('0x').lower():0>64}{amount:064x}"
