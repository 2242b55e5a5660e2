"""Payouts that name a pool: which wallets the signer lets pay them, whatever the database says."""

import json
from typing import Any

import pytest

from outlay.actions.demand import demand_of
from outlay.signer import Demand, Signed, Why
from outlay.store import transfers, wallets
from tests.actions.documents import BLOCK, ask, group, over
from tests.actions.world import ALICE, DOLLAR, NETWORK, SETTINGS
from tests.signer.bank import Bank, paid
from tests.signer.conftest import Found

TAG = "hot"
NOT_OF_IT = "the paying wallet was not of the pool"


def pooled(bank: Bank, count: int = 2) -> tuple[str, list[str]]:
    """Return a pool and its wallets."""
    found = [bank.wallet(TAG) for _ in range(count)]
    return bank.world.pool(TAG), found


def pay(bank: Bank, pool: str, dollars: int = 5) -> str:
    return str(bank.world.pay_pool(bank.world.admin, pool, dollars)["id"])


def test_any_wallet_of_the_pool_may_pay(bank: Bank) -> None:
    pool, hot = pooled(bank, 3)
    for wallet in hot:
        assert paid(bank.sign(pay(bank, pool), wallet_id=wallet)) == (ALICE, 5 * DOLLAR)


def test_one_payout_is_signed_for_one_wallet(bank: Bank) -> None:
    """A worker asks for one wallet, then for another; and the other way round, nothing changes."""
    pool, hot = pooled(bank)
    first = pay(bank, pool)
    bank.sign(first, wallet_id=hot[0])
    bank.refuse(first, Why.CONFLICT, f"was signed at nonce 0 of wallet {hot[0]}", wallet_id=hot[1])
    bank.restart()
    bank.refuse(first, Why.CONFLICT, f"was signed at nonce 0 of wallet {hot[0]}", wallet_id=hot[1])
    # Under another name it is the same: its externalId has paid, and so has what was signed.
    bank.refuse(first, Why.CONFLICT, "was signed for transfer", wallet_id=hot[1], transfer_id="xfr-other")


def test_what_was_refused_for_one_wallet_may_go_to_another(bank: Bank) -> None:
    """The journal holds nothing of it, and whoever asked for the first wallet asks in vain from then on."""
    pool, hot = pooled(bank)
    bank.push()
    payout = pay(bank, pool)
    bank.push()
    late = bank.request(payout, wallet_id=hot[0])
    assert bank.core.journaled(hot[0], 2, [payout]) == frozenset()
    signed = bank.sign(payout, wallet_id=hot[1])
    (answer,) = bank.core.sign([late])
    assert not isinstance(answer, Signed)
    assert answer.why is Why.FENCED
    assert paid(signed) == (ALICE, 5 * DOLLAR)


def test_a_wallet_of_no_pool_does_not_pay(bank: Bank) -> None:
    pool, _ = pooled(bank)
    stranger, other = bank.wallet(), bank.wallet("cold")
    assert bank.world.pool("cold")
    payout = pay(bank, pool)
    for wallet in (stranger, other):
        bank.refuse(payout, Why.NOT_AGREED, NOT_OF_IT, wallet_id=wallet)


def test_a_tag_in_the_database_makes_no_member(bank: Bank) -> None:
    pool, _ = pooled(bank)
    stranger = bank.wallet()
    with bank.world.unit() as unit:
        wallets.add_tags(unit, stranger, [TAG], since=0)
    payout = pay(bank, pool)
    bank.edit_row(payout, wallet_id=stranger)
    bank.refuse(payout, Why.NOT_AGREED, NOT_OF_IT)


def test_another_pool_in_the_row_changes_nothing(bank: Bank) -> None:
    pool, hot = pooled(bank)
    cold = bank.wallet("cold")
    other = bank.world.pool("cold")
    payout = pay(bank, pool)
    bank.edit_row(payout, pool_id=other, wallet_id=cold)
    bank.refuse(payout, Why.NOT_AGREED, NOT_OF_IT)
    bank.edit_row(payout, wallet_id=hot[1])
    bank.sign(payout)


def test_another_pool_in_the_request_breaks_its_signature(bank: Bank) -> None:
    pool, _ = pooled(bank)
    cold = bank.wallet("cold")
    payout = pay(bank, pool)
    forged: dict[str, Any] = bank.evidence(payout)
    forged["payload"]["poolId"] = bank.world.pool("cold")
    bank.write_evidence(payout, forged)
    bank.refuse(payout, Why.EVIDENCE, wallet_id=cold)


@pytest.mark.parametrize("is_back", [False, True])
def test_a_wallet_that_lost_the_tag_since_does_not_pay(bank: Bank, is_back: bool) -> None:
    """Also when it has it back: between, it was in no pool, and no proof could say that it was."""
    pool, hot = pooled(bank)
    payout = pay(bank, pool)
    bank.world.untag(hot[0], TAG)
    if is_back:
        bank.world.tag(hot[0], TAG)
    bank.refuse(payout, Why.NOT_AGREED, NOT_OF_IT, wallet_id=hot[0])
    bank.sign(payout, wallet_id=hot[1])


def test_a_wallet_that_joined_since_does_not_pay(bank: Bank) -> None:
    pool, _ = pooled(bank)
    payout = pay(bank, pool)
    bank.refuse(payout, Why.NOT_AGREED, NOT_OF_IT, wallet_id=bank.wallet(TAG))


def test_a_wallet_of_another_network_is_of_no_pool_here(found: Found) -> None:
    network = SETTINGS[SETTINGS.index("[networks") : SETTINGS.index("[[assets")]
    bank = found(settings=network.replace(NETWORK, "Polygon").replace("31337", "137") + 'trust = "single"\n' + SETTINGS)
    pool, hot = pooled(bank)
    abroad = bank.wallet(TAG, network="Polygon")
    payout = pay(bank, pool)
    bank.refuse(payout, Why.NOT_AGREED, NOT_OF_IT, wallet_id=abroad)
    bank.sign(payout, wallet_id=hot[0])


def test_an_archived_pool_pays_what_it_was_asked_for(bank: Bank) -> None:
    pool, hot = pooled(bank)
    payout = pay(bank, pool)
    bank.world.archive_pool(pool)
    bank.sign(payout, wallet_id=hot[1])


# Policies: strict over every wallet that could have paid


def test_what_one_wallet_may_not_pay_the_pool_may_not(bank: Bank) -> None:
    """The server lets it in all the same; the signer looks at every wallet of the pool as of the request."""
    pool, hot = pooled(bank)
    bank.world.policy(over(10), BLOCK, only=[hot[1]])
    blocked = pay(bank, pool, 20)
    assert bank.world.state(blocked) == "rejected"
    bank.edit_row(blocked, state="ready")
    bank.refuse(blocked, Why.NOT_AGREED, "blocks this payout", wallet_id=hot[0])
    bank.sign(pay(bank, pool, 10), wallet_id=hot[0])


def test_what_asks_people_for_one_wallet_asks_for_the_pool(bank: Bank) -> None:
    pool, hot = pooled(bank)
    one = bank.world.person("approver@example.com")
    bank.world.policy(over(10), ask(group(one)), only=[hot[1]])
    held = pay(bank, pool, 20)
    assert bank.world.state(held) == "held"
    bank.refuse(held, Why.NOT_AGREED, "and was not asked", wallet_id=hot[0], demand=_unasked(bank, held))
    bank.world.decide(one, held)
    bank.sign(held, wallet_id=hot[0])


def _unasked(bank: Bank, transfer_id: str) -> Any:
    """Return what justifies a payout, as if nobody had had to be asked."""
    with bank.world.unit() as unit:
        parts = demand_of(unit, transfers.get(unit, transfer_id))
    return Demand(**json.loads(json.dumps({**parts, "asked": [], "decisions": []})))


def test_a_wallet_that_no_policy_is_about_opens_no_way_where_the_default_blocks(found: Found) -> None:
    bank = found(settings=SETTINGS.replace('default = "allow"', 'default = "block"'))
    pool, hot = pooled(bank)
    bank.world.policy(over(100), BLOCK, only=[hot[0]])
    payout = pay(bank, pool)
    assert bank.world.state(payout) == "rejected"
    bank.edit_row(payout, state="ready")
    for wallet in hot:
        bank.refuse(payout, Why.NOT_AGREED, "no policy is about this wallet", wallet_id=wallet)
