"""``outlay approvals show`` works out, from what the API answers, exactly what decisions sign."""

import json
from pathlib import Path
from typing import Any

import pytest

from outlay.actions import present_changes, present_payouts
from outlay.cli.approvals import content_of, intent_of
from outlay.core.errors import InvariantBroken
from outlay.evidence.canonical import digest
from outlay.evidence.words import words, words_of_change, words_of_payout
from tests.actions.council import Council, limit, written
from tests.actions.world import Actor, World


def answered(document: Any) -> Any:
    """Return a document as a client has it."""
    return json.loads(json.dumps(document))


def test_of_payouts_of_every_kind(world: World, bot: Actor) -> None:
    wallet_id = world.wallet("hot")
    pool_id = world.pool("hot")
    for paid in (
        world.pay(bot, wallet_id, 12),
        world.pay(bot, wallet_id, 0, units=5, native=True),
        world.pay_pool(bot, pool_id, 7),
        world.pay_pool(bot, pool_id, 0, units=9, native=True),
    ):
        row = world.row(paid["id"])
        shown = answered(present_payouts.payout(row, world.config))
        intent = intent_of(shown, org=world.org_id, chain_id=31337)
        assert digest(intent.document()) == row.intent_digest
        assert words_of_payout(intent) == words(row.intent_digest)
        lie = {**shown, "recipient": "0x" + "ee" * 20}
        assert words_of_payout(intent_of(lie, org=world.org_id, chain_id=31337)) != words(row.intent_digest)


def test_of_changes_of_many_kinds(tmp_path: Path) -> None:
    council = Council(tmp_path)
    other = council.create(written("Wallets:Sign", limit(7), {"kind": "Block"}, walletTags={"hasAny": ["payouts"]}))
    asked = [
        council.set_cap(1000.5),
        council.archive(other),
        council.assign(council.permission("Policies:Evaluations:Vote"), council.admin.user_id),
        council.untag(council.paying, "payouts"),
    ]
    for change in asked:
        row = council.request(change)
        with council.unit() as unit:
            shown = answered(present_changes.change(unit, row))
        content = content_of(shown, org=council.org_id)
        assert digest(content) == row.digest
        assert content == json.loads(row.content)
        assert words_of_change(content) == words(row.digest)
        with pytest.raises(InvariantBroken):
            content_of({**shown, "after": {**shown["after"], "x": 1}}, org=council.org_id)
    council.close()


def test_a_policy_that_is_shown_otherwise_than_signed_is_found(tmp_path: Path) -> None:
    council = Council(tmp_path)
    change = council.replace(council.cap, written("Wallets:Sign", limit(5000), {"kind": "Block"}))
    row = council.request(change)
    with council.unit() as unit:
        shown = answered(present_changes.change(unit, row))
    assert shown["after"]["rule"]["configuration"]["limit"] == "5000"
    shown["after"]["rule"]["configuration"]["limit"] = "100"
    with pytest.raises(InvariantBroken, match="do not decide"):
        content_of(shown, org=council.org_id)
    council.close()
