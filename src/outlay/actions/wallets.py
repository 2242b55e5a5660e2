"""Hot wallets and the tags that policies filter by. Every change is a signed record."""

import re
from collections.abc import Sequence
from typing import Any

from outlay.actions import present
from outlay.actions.act import Act
from outlay.actions.alarms import wallet_unfrozen
from outlay.actions.organization import require_applied
from outlay.actions.policies import recount_velocity
from outlay.config import Config
from outlay.core import ids
from outlay.core.errors import InvalidInput, NotFound, PreconditionFailed
from outlay.core.seams import Entropy
from outlay.store import organizations, wallets, webhooks
from outlay.store.database import Row, Unit

TAGS_MAX = 50
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9:_./ -]{0,62}[A-Za-z0-9]|[A-Za-z0-9]")


def get(unit: Unit, wallet_id: str) -> Row:
    """Return the wallet.

    Raises:
        NotFound: there is none.
    """
    row = wallets.find(unit, wallet_id)
    if row is None:
        raise NotFound("no such wallet")
    return row


def check_network(config: Config, network: str) -> None:
    """Refuse a network that the configuration does not list.

    Raises:
        InvalidInput: with the networks there are.
    """
    if config.network(network) is None:
        known = ", ".join(sorted(config.networks)) or "none"
        raise InvalidInput(f"is not configured here; configured are: {known}", field="network")


def create(
    act: Act,
    *,
    wallet_id: str,
    network: str,
    key_id: str,
    address: str,
    public_key: str,
    name: str | None,
    external_id: str | None,
    tags: Sequence[str],
) -> dict[str, Any]:
    """Create a wallet around a key the signer made."""
    check_network(act.config, network)
    require_applied(act.unit, act.config)  # the record names the chain id, which must be the signed one
    names = parse_tags(tags) if tags else []
    if names:
        act.caller.require("Wallets:Tags:Add")
    act.record(
        "wallet.created",
        wallet_id,
        {
            "network": network,
            "chainId": act.config.networks[network].chain_id,
            "address": address,
            "keyId": key_id,
            "publicKey": public_key,
            "name": name,
            "tags": names,
        },
    )
    wallets.add(
        act.unit,
        id=wallet_id,
        network=network,
        chain_id=act.config.networks[network].chain_id,
        address=address,
        key_id=key_id,
        public_key=public_key,
        status="Active",
        name=name,
        external_id=external_id,
        created_at=act.now,
    )
    wallets.add_tags(act.unit, wallet_id, names, since=organizations.get(act.unit).head_seq)
    act.result_id = wallet_id
    document = present.wallet(act.unit, get(act.unit, wallet_id))
    _emit(act, "wallet.created", wallet_id, {"wallet": document})
    return document


def rename(act: Act, wallet_id: str, *, changes: dict[str, str | None]) -> dict[str, Any]:
    """Change a wallet's name or correlation id (``name``, ``external_id``; None clears it)."""
    get(act.unit, wallet_id)
    act.record(
        "wallet.renamed",
        wallet_id,
        {"externalId" if key == "external_id" else key: value for key, value in changes.items()},
    )
    if changes:
        wallets.update(act.unit, wallet_id, **changes)
    act.result_id = wallet_id
    return present.wallet(act.unit, get(act.unit, wallet_id))


def unfreeze(act: Act, wallet_id: str, *, reason: str) -> dict[str, Any]:
    """Let a wallet pay again after a person has looked at why it was stopped; the reason is recorded.

    What the chain shows then is accepted: a loss is written off by the next comparison of ledger and chain.
    """
    row = get(act.unit, wallet_id)
    check_reason(reason)
    if row.frozen_reason is None:
        raise PreconditionFailed("this wallet is not frozen")
    act.record("wallet.unfrozen", wallet_id, {"reason": reason, "stopped": row.frozen_reason})
    wallets.update(act.unit, wallet_id, frozen_reason=None, compared_block=None)
    wallet_unfrozen(act.work, wallet_id, reason=reason, stopped=row.frozen_reason, by=act.caller.user_id)
    act.result_id = wallet_id
    return present.wallet(act.unit, get(act.unit, wallet_id))


def unfreeze_asset(act: Act, *, network: str, asset: str, reason: str) -> dict[str, Any]:
    """Let an asset be paid again after a person has looked at why it was stopped; the reason is recorded."""
    check_reason(reason)
    frozen = wallets.find_frozen_asset(act.unit, network=network, asset=asset)
    if frozen is None:
        raise NotFound("this asset is not frozen")
    body = {"network": network, "asset": asset, "reason": reason, "stopped": frozen.reason}
    act.record("asset.unfrozen", act.org.id, body)
    wallets.unfreeze_asset(act.unit, network=network, asset=asset)
    act.result_id = act.org.id
    return {"network": network, "asset": asset}


def check_reason(reason: str) -> None:
    """Refuse to let go without saying why. Raises InvalidInput."""
    if not 1 <= len(reason.strip()) <= 1000 or not reason.isprintable():
        raise InvalidInput("say in 1 to 1000 printable characters what you found", field="reason")


def parse_tags(tags: Sequence[str]) -> list[str]:
    """Return the tags sorted, each once.

    Raises:
        InvalidInput: none, too many, or a tag that is not 1 to 64 plain characters.
    """
    if not 1 <= len(tags) <= TAGS_MAX:
        raise InvalidInput(f"give 1 to {TAGS_MAX} tags", field="tags")
    for index, tag in enumerate(tags):
        if _TAG.fullmatch(tag) is None:
            raise InvalidInput(
                "a tag is 1 to 64 letters, digits, spaces and : _ . / - , and begins and ends with a letter or digit",
                field=f"tags[{index}]",
            )
    return sorted(set(tags))


def add_tags(act: Act, wallet_id: str, tags: Sequence[str]) -> dict[str, Any]:
    """Put tags on a wallet; tags it carries already stay."""
    get(act.unit, wallet_id)
    added = [tag for tag in parse_tags(tags) if tag not in wallets.tags(act.unit, wallet_id)]
    return _change_tags(act, wallet_id, added=added, removed=[])


def remove_tags(act: Act, wallet_id: str, tags: Sequence[str]) -> dict[str, Any]:
    """Take tags off a wallet; tags it does not carry are ignored."""
    get(act.unit, wallet_id)
    removed = [tag for tag in parse_tags(tags) if tag in wallets.tags(act.unit, wallet_id)]
    return _change_tags(act, wallet_id, added=[], removed=removed)


def _change_tags(act: Act, wallet_id: str, *, added: list[str], removed: list[str]) -> dict[str, Any]:
    act.result_id = wallet_id
    before = wallets.tags(act.unit, wallet_id)
    act.record("wallet.tags.modified", wallet_id, {"added": added, "removed": removed})
    if added or removed:
        wallets.add_tags(act.unit, wallet_id, added, since=organizations.get(act.unit).head_seq)
        wallets.remove_tags(act.unit, wallet_id, removed)
        recount_velocity(act.unit, wallet_id, before=before, now=act.now)
        document = present.wallet(act.unit, get(act.unit, wallet_id))
        _emit(
            act,
            "wallet.tags.modified",
            wallet_id,
            {"wallet": document, "tagsAdded": added, "tagsRemoved": removed},
        )
    return {}


def _emit(act: Act, kind: str, wallet_id: str, data: dict[str, Any]) -> None:
    webhooks.emit(act.unit, kind=kind, subject=wallet_id, data=data, now=act.now, entropy=act.entropy)


def new_wallet_id(entropy: Entropy) -> str:
    """Return an identifier for a wallet that is about to be made."""
    return ids.new_id(ids.WALLET, entropy)
