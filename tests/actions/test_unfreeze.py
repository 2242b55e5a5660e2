"""Letting go what was stopped is an activity: policies say who has to agree, and the records show that they did."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from outlay.actions import govern, lift, organization, policies, reseed, wallets
from outlay.core.asset import NATIVE
from outlay.core.errors import Conflict, InvalidInput, NotFound, NotPermitted, PreconditionFailed
from outlay.evidence.bundle import EvidenceBroken
from outlay.evidence.record import RecordBroken
from outlay.store import changes as change_rows
from outlay.store import stops
from outlay.store import wallets as wallet_rows
from tests.actions.council import Council, ask, written
from tests.actions.world import ALICE, NETWORK, Actor

ALWAYS = {"kind": "AlwaysTrigger"}
STOP = "frz-aaaaa-bbbbb-cccccccccccccccc"
WHY = "looked at it: a wrong alarm"
KINDS = ("wallet", "asset", "network", "stop")


@pytest.fixture
def council(tmp_path: Path) -> Iterator[Council]:
    opened = Council(tmp_path)
    yield opened
    opened.close()


def guard_unfreezing(council: Council, quorum: int = 2, action: dict[str, Any] | None = None) -> str:
    document = written("Outlay:Unfreeze", ALWAYS, action or ask(*council.approvers, quorum=quorum))
    path, operation = "/v2/policies", "Policies:Create"
    answer = council.call(council.admin, "POST", path, document, operation, lambda act: policies.create(act, document))
    council.agree(answer)  # the guard asks about every new policy that governs
    return str(answer["entityId"])


def stop(council: Council, *, reason: str = "an alarm", scope: str = "wallet", subject: str | None = None) -> None:
    """Stop a wallet, an asset, a network, and something by the signer."""
    now = council.clock.now()
    with council.unit() as unit:
        wallet_rows.freeze(unit, council.paying, reason)
        wallet_rows.freeze_asset(unit, network=NETWORK, asset=NATIVE, reason=reason, now=now)
        stops.note_final(unit, NETWORK, number=1, hash="0x01")
        stops.freeze_network(unit, NETWORK, reason=reason, now=now)
        named = council.paying if subject is None else subject
        stops.replace(unit, [{"id": STOP, "scope": scope, "subject": named, "reason": reason, "at": now}])


def stopped(council: Council) -> dict[str, int]:
    """Return how much of each kind is stopped."""
    with council.unit() as unit:
        return {name: len(found) for name, found in lift.everything_stopped(unit).items() if found}


def let_go(council: Council, kind: str, *, by: Actor | None = None) -> Any:
    """Ask for one of the four to be let go."""
    paying = council.paying
    lifted = {"scope": "wallet", "subject": paying, "reason": WHY}
    calls: dict[str, tuple[str, dict[str, Any], str, Callable[[Any], Any]]] = {
        "wallet": (
            f"/v1/wallets/{paying}/unfreeze",
            {"reason": WHY},
            "Wallets:Unfreeze",
            lambda act: wallets.unfreeze(act, paying, reason=WHY),
        ),
        "asset": (
            "/v1/assets/unfreeze",
            {"network": NETWORK, "asset": NATIVE, "reason": WHY},
            "Wallets:Unfreeze",
            lambda act: wallets.unfreeze_asset(act, network=NETWORK, asset=NATIVE, reason=WHY),
        ),
        "network": (
            "/v1/networks/unfreeze",
            {"network": NETWORK, "reason": WHY},
            "Outlay:Unfreeze",
            lambda act: lift.unfreeze_network(act, network=NETWORK, reason=WHY),
        ),
        "stop": (
            f"/v1/freezes/{STOP}/lift",
            lifted,
            "Outlay:Unfreeze",
            lambda act: lift.lift(act, STOP, **lifted),
        ),
    }
    path, payload, operation, action = calls[kind]
    return council.call(by or council.admin, "PUT", path, payload, operation, action)


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_policy_one_person_lets_go(council: Council, kind: str) -> None:
    stop(council)
    before = stopped(council)
    answer = let_go(council, kind)
    assert "approvalId" not in answer
    assert sum(stopped(council).values()) == sum(before.values()) - 1
    assert council.replayed().lifted.keys() == ({STOP} if kind == "stop" else set())


@pytest.mark.parametrize("kind", KINDS)
def test_a_policy_asks_people_who_need_not_wait_after_their_quorum(council: Council, kind: str) -> None:
    guard_unfreezing(council)
    stop(council)
    before = stopped(council)
    waiting = let_go(council, kind)
    assert (waiting["status"], waiting["loosens"]) == ("Pending", False)
    council.vote(waiting, council.first)
    assert stopped(council) == before
    assert STOP not in council.replayed().lifted
    council.vote(waiting, council.second)
    assert council.status(waiting) == "Applied"
    assert sum(stopped(council).values()) == sum(before.values()) - 1
    assert (STOP in council.replayed().lifted) is (kind == "stop")


@pytest.mark.parametrize("kind", KINDS)
def test_a_denial_leaves_it_stopped(council: Council, kind: str) -> None:
    guard_unfreezing(council)
    stop(council)
    before = stopped(council)
    waiting = let_go(council, kind)
    council.vote(waiting, council.third, "Denied")
    assert council.status(waiting) == "Rejected" and stopped(council) == before
    council.replayed()


def test_a_policy_may_block_it(council: Council) -> None:
    guard_unfreezing(council, action={"kind": "Block"})
    stop(council)
    for kind in KINDS:
        with pytest.raises(NotPermitted, match="blocks this change"):
            let_go(council, kind)
    assert len(stopped(council)) == 4


@pytest.mark.parametrize("kind", ["wallet", "asset", "network"])
def test_what_was_stopped_again_for_another_reason_is_not_what_they_agreed_on(council: Council, kind: str) -> None:
    guard_unfreezing(council)
    stop(council)
    waiting = let_go(council, kind)
    with council.unit() as unit:
        wallet_rows.update(unit, council.paying, frozen_reason=None)
        wallet_rows.unfreeze_asset(unit, network=NETWORK, asset=NATIVE)
        stops.unfreeze_network(unit, NETWORK)
    stop(council, reason="a real one")
    council.agree(waiting)
    assert council.status(waiting) == "Failed" and len(stopped(council)) == 4
    council.replayed()


def test_several_wait_beside_each_other_but_the_same_only_once(council: Council) -> None:
    guard_unfreezing(council)
    stop(council)
    settings = {**council.config.money_settings(), "default": "block"}
    council.call(
        council.admin,
        "PUT",
        "/v1/config",
        {"moneySettings": settings},
        "Config:Apply",
        lambda act: organization.apply_config(act, settings=settings),
    )
    waiting = [let_go(council, kind) for kind in KINDS]
    for kind in KINDS:
        with pytest.raises(Conflict, match="waits for approval already"):
            let_go(council, kind)
    for change in waiting:
        council.agree(change)
    assert stopped(council) == {}
    # What was agreed on about the organization meanwhile does not hide the settings that were signed.
    assert council.replayed().money_settings == council.config.money_settings()
    with council.unit() as unit:
        assert change_rows.money_settings(unit) == council.config.money_settings()


def test_a_server_that_leaves_the_people_out_is_found_out(council: Council) -> None:
    guard_unfreezing(council)
    stop(council)
    with pytest.MonkeyPatch.context() as hostile:
        hostile.setattr(govern, "check_record", lambda *args, **kwargs: None)
        let_go(council, "stop")
    with pytest.raises(EvidenceBroken, match="needed an approval"):
        council.replayed()


def test_what_is_not_stopped_is_not_let_go(council: Council) -> None:
    for kind, error in zip(KINDS, (PreconditionFailed, NotFound, NotFound, NotFound), strict=True):
        with pytest.raises(error):
            let_go(council, kind)


def test_a_freeze_is_lifted_by_who_knows_what_it_stops(council: Council) -> None:
    stop(council, scope="all", subject="")
    with pytest.raises(InvalidInput, match="this freeze stops all"):
        let_go(council, "stop")
    assert stopped(council)["freezes"] == 1


@pytest.mark.parametrize("scope", ["all", "wallet", "network", "identity"])
def test_nothing_is_admitted_that_is_stopped_and_the_answer_says_why(council: Council, scope: str) -> None:
    bot, other = council.first, council.second
    subject = {"all": "", "wallet": council.paying, "network": NETWORK, "identity": bot.user_id}[scope]
    row = {"id": STOP, "scope": scope, "subject": subject, "reason": "an alarm", "at": council.clock.now()}
    kept = council.pay(bot, council.paying, 5, external_id="before")
    with council.unit() as unit:
        stops.replace(unit, [row])
    with pytest.raises(PreconditionFailed, match="is frozen: an alarm"):
        council.pay(bot, council.paying, 5, to=ALICE)
    assert council.pay(bot, council.paying, 5, external_id="before")["id"] == kept["id"]
    if scope == "identity":
        council.pay(other, council.paying, 5)
    if scope == "wallet":
        council.pay(bot, council.wallet("payouts", dollars=0), 5)
    with council.unit() as unit:
        stops.replace(unit, [])
    council.pay(bot, council.paying, 5)


def test_nothing_is_admitted_on_a_frozen_network(council: Council) -> None:
    with council.unit() as unit:
        stops.note_final(unit, NETWORK, number=1, hash="0x01")
        stops.freeze_network(unit, NETWORK, reason="a deep reorganisation", now=council.clock.now())
    with pytest.raises(PreconditionFailed, match="deep reorganisation"):
        council.pay(council.first, council.paying, 5)


# The signer's journal


def seed(council: Council, nonces: dict[str, int], journal: str = "journal-2") -> Any:
    payload = {"journalId": journal, "minNonces": nonces, "reason": "the disk was lost"}
    return council.call(
        council.admin,
        "PUT",
        "/v1/signer/reseed",
        payload,
        "Signer:Reseed",
        lambda act: reseed.reseed(act, journal_id=journal, min_nonces=nonces, reason="the disk was lost"),
    )


def test_guards_of_policies_agree_to_a_new_journal_and_need_not_wait(council: Council) -> None:
    waiting = seed(council, {council.paying: 7})
    assert waiting["status"] == "Pending" and council.replayed().reseeds == []
    with pytest.raises(Conflict):
        seed(council, {council.paying: 8})
    council.agree(waiting)
    assert council.status(waiting) == "Applied"
    (found,) = council.replayed().reseeds
    assert (found.journal_id, found.min_nonces) == ("journal-2", {council.paying: 7})
    assert found.number == len(council.replayed().instants) - 1


def test_a_new_journal_names_every_wallet_and_nothing_below_what_was_signed(council: Council) -> None:
    council.lease(council.paying)
    with council.unit() as unit:
        unit.exec_driver_sql("UPDATE lane SET settled_nonce = 5, next_nonce = 5")
    with pytest.raises(PreconditionFailed, match="below 5"):
        seed(council, {council.paying: 4})
    for nonces in ({}, {council.paying: 5, "wa-other": 1}, {council.paying: -1}, {council.paying: 2**53}):
        with pytest.raises(InvalidInput):
            seed(council, nonces)
    council.agree(seed(council, {council.paying: 5}))
    assert council.replayed().reseeds[0].min_nonces == {council.paying: 5}


def test_a_new_journal_that_leaves_out_a_wallet_does_not_replay(council: Council) -> None:
    with pytest.MonkeyPatch.context() as hostile:
        hostile.setattr(wallet_rows, "everything", lambda unit: [])
        waiting = seed(council, {})
        council.agree(waiting)
    with pytest.raises(RecordBroken, match="every wallet"):
        council.replayed()
