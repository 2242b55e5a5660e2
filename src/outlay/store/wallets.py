"""Wallets, their tags, and assets that are frozen."""

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from outlay.store.database import Unit
from outlay.store.paging import page
from outlay.store.schema import frozen_asset, wallet, wallet_tag

_FIND = sa.select(wallet).where(wallet.c.id == sa.bindparam("id"))
_EVERYTHING = sa.select(wallet).order_by(wallet.c.created_at, wallet.c.id)
_FIND_MANY = sa.select(wallet).where(wallet.c.id.in_(sa.bindparam("ids", expanding=True)))
_TAGS_OF = sa.select(wallet_tag).where(wallet_tag.c.wallet_id.in_(sa.bindparam("ids", expanding=True)))
_TAGS = sa.select(wallet_tag.c.tag).where(wallet_tag.c.wallet_id == sa.bindparam("wallet_id"))
_FIND_FROZEN_ASSET = sa.select(frozen_asset).where(
    frozen_asset.c.network == sa.bindparam("network"), frozen_asset.c.asset == sa.bindparam("asset")
)


def add(unit: Unit, **values: Any) -> None:
    """Insert a wallet."""
    unit.execute(sa.insert(wallet).values(**values))


def find(unit: Unit, wallet_id: str) -> sa.Row[Any] | None:
    """Return the wallet, or None."""
    return unit.execute(_FIND, {"id": wallet_id}).one_or_none()


def find_many(unit: Unit, wallet_ids: Collection[str]) -> Sequence[sa.Row[Any]]:
    """Return those of the named wallets that exist."""
    return unit.execute(_FIND_MANY, {"ids": sorted(wallet_ids)}).all() if wallet_ids else []


def update(unit: Unit, wallet_id: str, **values: Any) -> None:
    """Change columns of a wallet."""
    unit.execute(sa.update(wallet).where(wallet.c.id == wallet_id).values(**values))


def everything(unit: Unit) -> Sequence[sa.Row[Any]]:
    """Return every wallet."""
    return unit.execute(_EVERYTHING).all()


def list_page(unit: Unit, *, limit: int | None, token: str | None) -> tuple[Sequence[sa.Row[Any]], str | None]:
    """Return one page of wallets."""
    return page(unit, sa.select(wallet), order=wallet.c.created_at, key=wallet.c.id, limit=limit, token=token)


def tags(unit: Unit, wallet_id: str) -> tuple[str, ...]:
    """Return the wallet's tags, sorted."""
    rows = unit.execute(_TAGS, {"wallet_id": wallet_id})
    return tuple(sorted(row.tag for row in rows))


def tags_of(unit: Unit, wallet_ids: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Return the tags of each named wallet, sorted."""
    found: dict[str, list[str]] = {wallet_id: [] for wallet_id in wallet_ids}
    if wallet_ids:
        for row in unit.execute(_TAGS_OF, {"ids": sorted(wallet_ids)}):
            found[row.wallet_id].append(row.tag)
    return {wallet_id: tuple(sorted(names)) for wallet_id, names in found.items()}


def all_tags(unit: Unit) -> dict[str, frozenset[str]]:
    """Return the tags of every wallet by wallet id; a wallet without tags has an empty set."""
    found: dict[str, set[str]] = {row.id: set() for row in unit.execute(sa.select(wallet.c.id))}
    for row in unit.execute(sa.select(wallet_tag)):
        found[row.wallet_id].add(row.tag)
    return {wallet_id: frozenset(names) for wallet_id, names in found.items()}


def add_tags(unit: Unit, wallet_id: str, names: Collection[str], *, since: int) -> None:
    """Put tags on a wallet that does not carry them; ``since`` is the number of the record that says so."""
    for name in names:
        unit.execute(sa.insert(wallet_tag).values(wallet_id=wallet_id, tag=name, since=since))


def remove_tags(unit: Unit, wallet_id: str, names: Collection[str]) -> None:
    """Take tags off a wallet."""
    unit.execute(sa.delete(wallet_tag).where(wallet_tag.c.wallet_id == wallet_id, wallet_tag.c.tag.in_(list(names))))


def freeze(unit: Unit, wallet_id: str, reason: str) -> None:
    """Stop a wallet until a person has looked; the first reason stays."""
    unit.execute(
        sa.update(wallet).where(wallet.c.id == wallet_id, wallet.c.frozen_reason.is_(None)).values(frozen_reason=reason)
    )


def freeze_asset(unit: Unit, *, network: str, asset: str, reason: str, now: int) -> None:
    """Stop every payout of an asset until a person has looked; the first reason stays."""
    if find_frozen_asset(unit, network=network, asset=asset) is None:
        unit.execute(sa.insert(frozen_asset).values(network=network, asset=asset, reason=reason, at=now))


def unfreeze_asset(unit: Unit, *, network: str, asset: str) -> None:
    """Let an asset be paid again."""
    unit.execute(sa.delete(frozen_asset).where(frozen_asset.c.network == network, frozen_asset.c.asset == asset))


def frozen_assets(unit: Unit) -> Sequence[Any]:
    """Return every frozen asset with its reason."""
    return unit.execute(sa.select(frozen_asset)).all()


def find_frozen_asset(unit: Unit, *, network: str, asset: str) -> sa.Row[Any] | None:
    """Return why an asset is frozen, or None."""
    return unit.execute(_FIND_FROZEN_ASSET, {"network": network, "asset": asset}).one_or_none()
