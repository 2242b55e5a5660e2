"""One decision about a whole file: what it does for each payout, and what it does for no other."""

import asyncio
import copy
from dataclasses import replace
from typing import Any

import pytest

from outlay.actions.decide_whole import decide_whole
from outlay.actions.present_batches import batch_now
from outlay.core.errors import ApprovalChanged, NotFound, NotPermitted, PreconditionFailed
from outlay.engine import admit_batches
from outlay.evidence.canonical import digest
from outlay.evidence.submission import read_submission
from outlay.signer import Why
from outlay.store import approvals, submissions
from tests.actions.documents import ALWAYS, ask, group, over
from tests.actions.messages import item, pay_batch
from tests.actions.world import ALICE, DOLLAR, Actor, World
from tests.batches import filed
from tests.batches.filed import Document, decide, file_in, paper, payouts, rows_of, states, submit, upload
from tests.signer.bank import Bank, paid
from tests.signer.test_batch_decisions import sign_as


def at_once(*groups: Any, **more: Any) -> Document:
    """Return an action whose groups may decide about a whole file."""
    return {**ask(*groups, **more), "per": "batch"}


def test_one_decision_lets_go_what_waits_and_the_signer_agrees(
    bank: Bank, bot: Actor, one: Actor, wallet: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admit_batches, "SETTLED", 2)
    world = bank.world
    world.policy(over(3), at_once(group(one)))
    batch_id = file_in(world, bot, wallet, rows_of(1, 5, 6, 7, 2, 8))
    assert states(world, batch_id) == ["ready", "held", "held", "held", "ready", "held"]
    answer = decide(world, one, batch_id, reason="salaries")
    assert (answer["settling"], "decision" in answer) == (1, False)
    assert states(world, batch_id).count("held") == 4  # it is carried out afterwards
    with pytest.raises(PreconditionFailed, match="nothing in this batch"):
        decide(world, one, batch_id)
    filed.settle(world)
    assert states(world, batch_id) == ["ready"] * 6
    for transfer_id, dollars in zip(payouts(world, batch_id), (1, 5, 6, 7, 2, 8), strict=True):
        assert paid(bank.sign(transfer_id)) == (ALICE, dollars * DOLLAR)
    with world.unit() as unit:
        assert submissions.unsettled(unit) == []


def test_a_quorum_of_two_and_a_denial(bank: Bank, bot: Actor, one: Actor, two: Actor, wallet: str) -> None:
    world = bank.world
    world.policy(ALWAYS, at_once(group(one, two, quorum=2)))
    first = file_in(world, bot, wallet, rows_of(1, 2, name="first"))
    second = file_in(world, bot, wallet, rows_of(1, 2, name="second"))
    decide(world, one, first)
    filed.settle(world)
    assert states(world, first) == ["held", "held"]
    with pytest.raises(PreconditionFailed, match="nothing in this batch"):
        decide(world, one, first)  # once is enough
    bank.refuse(payouts(world, first)[0], Why.NOT_AGREED, "quorum")
    decide(world, two, first)
    decide(world, one, second, "Denied", reason="twice")
    filed.settle(world)
    assert states(world, first) == ["ready", "ready"]
    assert states(world, second) == ["rejected", "rejected"]
    bank.sign(payouts(world, first)[1])
    assert world.row(payouts(world, second)[0]).reason == "Denied by one@example.com: twice"


def test_nothing_is_decided_while_rows_are_still_admitted(
    world: World, bot: Actor, one: Actor, wallet: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.policy(ALWAYS, at_once(group(one)))
    rows = rows_of(1, 2)
    made = submit(world, bot, paper(rows, wallet))
    upload(world, bot, made["id"], rows)
    with pytest.raises(PreconditionFailed, match="still being admitted"):
        decide(world, one, made["id"])
    monkeypatch.setattr(admit_batches, "GROUP", 1)
    asyncio.run(filed.step_of(world).step())
    assert (states(world, made["id"]), "decision" in shown(world, one, made["id"])) == (["held", None], False)
    filed.settle(world)
    assert shown(world, one, made["id"])["decision"]["waiting"] == 2
    assert "decision" in shown(world, one, made["id"])
    decide(world, one, made["id"])


def shown(world: World, to: Actor, batch_id: str) -> Document:
    """Return a file as somebody sees it."""
    with world.unit() as unit:
        row = submissions.get(unit, batch_id)
        return batch_now(unit, row, world.config, user_id=to.user_id, now=world.clock.now())


def test_only_who_may_decide_is_told_that_a_file_waits_for_them(
    world: World, bot: Actor, one: Actor, two: Actor, wallet: str
) -> None:
    world.policy(ALWAYS, at_once(group(one)))
    batch_id = file_in(world, bot, wallet, rows_of(1, 2))
    assert ["decision" in shown(world, each, batch_id) for each in (one, two)] == [True, False]
    assert "decision" in shown(world, bot, batch_id), "who submitted it may still deny it"


def test_who_may_not_decide_may_not_decide_at_once(
    world: World, bot: Actor, one: Actor, two: Actor, wallet: str
) -> None:
    world.policy(ALWAYS, at_once(group(one)))
    batch_id = file_in(world, bot, wallet, rows_of(1, 2))
    for actor in (two, bot):
        with pytest.raises(NotPermitted):
            decide(world, actor, batch_id)
    with pytest.raises(NotFound):
        decide(world, one, "bat-00000-00000-0000000000000000")
    filed.settle(world)
    assert states(world, batch_id) == ["held", "held"]


def test_who_was_switched_off_before_it_is_carried_out_does_not_count(
    world: World, bot: Actor, one: Actor, wallet: str
) -> None:
    world.policy(ALWAYS, at_once(group(one)))
    batch_id = file_in(world, bot, wallet, rows_of(1, 2))
    decide(world, one, batch_id)
    world.deactivate(one)
    filed.settle(world)
    assert states(world, batch_id) == ["held", "held"]


def test_only_where_every_policy_that_asks_lets_it(bank: Bank, bot: Actor, one: Actor, wallet: str) -> None:
    world = bank.world
    world.policy(over(3), at_once(group(one)))
    world.policy(over(6), ask(group(one)))
    batch_id = file_in(world, bot, wallet, rows_of(5, 7))
    decide(world, one, batch_id)
    filed.settle(world)
    assert states(world, batch_id) == ["ready", "held"]
    with pytest.raises(PreconditionFailed):
        decide(world, one, batch_id)


def test_rows_that_ask_others_come_one_after_the_other(
    world: World, bot: Actor, one: Actor, two: Actor, wallet: str
) -> None:
    world.policy(over(3), at_once(group(one)))
    world.policy(over(6), at_once(group(one, two)))
    batch_id = file_in(world, bot, wallet, rows_of(5, 7, 8, 4))
    decide(world, one, batch_id)
    filed.settle(world)
    assert sorted(states(world, batch_id)) == ["held", "held", "ready", "ready"]
    decide(world, one, batch_id)
    filed.settle(world)
    assert states(world, batch_id) == ["ready"] * 4


def test_groups_that_changed_after_it_was_signed_are_decided_anew(
    world: World, bot: Actor, one: Actor, two: Actor, wallet: str
) -> None:
    policy = world.policy(ALWAYS, at_once(group(one)))
    batch_id = file_in(world, bot, wallet, rows_of(1))
    path, payload = f"/v1/batches/{batch_id}/decisions", {"value": "Approved"}
    call = world.sign(one, "POST", path, payload)
    world.replace_policy(policy, ALWAYS, at_once(group(one, two)))
    with pytest.raises(ApprovalChanged):
        world.send(
            one, call, "POST", path, payload, filed.VOTE,
            lambda act: decide_whole(act, batch_id, value="Approved", reason=None),
        )  # fmt: skip


# What it does for no other


@pytest.mark.parametrize(
    "change",
    [
        lambda call: call["payload"].update(value="Denied"),
        lambda call: call["preimage"].update(path="/v2/policy-approvals/ap-x/decisions"),
        lambda call: call.update(row={"index": 0, "count": 3, "path": []}),
        lambda call: call["preimage"].update(intentDigest="0" * 64),
    ],
)
def test_an_edited_decision_is_refused(bank: Bank, bot: Actor, one: Actor, wallet: str, change: Any) -> None:
    world = bank.world
    world.policy(ALWAYS, at_once(group(one)))
    batch_id = file_in(world, bot, wallet, rows_of(1, 2, 3))
    decide(world, one, batch_id)
    filed.settle(world)
    first, second, _ = payouts(world, batch_id)
    approval_id = world.approval(first).id
    with world.unit() as unit:
        (decision,) = approvals.decisions(unit, approval_id)
    document = copy.deepcopy(bank.evidence(decision.id))
    change(document)
    bank.write_evidence(decision.id, document)
    bank.refuse(first, Why.EVIDENCE)
    bank.sign(second)


def test_a_decision_about_a_file_is_none_about_another(bank: Bank, bot: Actor, one: Actor, wallet: str) -> None:
    """Nor about what came in another kind of batch."""
    world = bank.world
    world.policy(ALWAYS, at_once(group(one)))
    batch_id = file_in(world, bot, wallet, rows_of(1, 2))
    decide(world, one, batch_id)
    filed.settle(world)
    demand = bank.demand(payouts(world, batch_id)[0])
    other = file_in(world, bot, wallet, rows_of(1, 2, name="other"))
    renamed = file_in(world, bot, wallet, rows_of(3, 4, name="more"), name="bonuses")
    signed = pay_batch(world, bot, [item(wallet, 1, external_id="signed")])["items"][0]["payout"]["id"]
    for held in (payouts(world, other)[0], payouts(world, renamed)[0], signed):
        bank.refuse(held, Why.EVIDENCE, "", demand=replace(bank.demand(held), decisions=demand.decisions))
    assert paid(bank.sign(payouts(world, batch_id)[0])) == (ALICE, DOLLAR)


def test_what_a_decision_covers_names_everything_about_a_file(wallet: str) -> None:
    signed = {"name": "a", "walletId": "wa-1", "digest": "0" * 64, "count": 2}
    seen = {read_submission(signed, "").subject(org="or", initiator="us")}
    changes: list[Document] = [{"name": "b"}, {"walletId": "wa-2"}, {"digest": "1" * 64}, {"count": 3}]
    for change in changes:
        seen.add(read_submission({**signed, **change}, "").subject(org="or", initiator="us"))
    pooled = {**{key: value for key, value in signed.items() if key != "walletId"}, "poolId": "wa-1"}
    seen.add(read_submission(pooled, "").subject(org="or", initiator="us"))
    seen.add(read_submission(signed, "").subject(org="other", initiator="us"))
    seen.add(read_submission(signed, "").subject(org="or", initiator="other"))
    assert len(seen) == 8


def test_where_no_policy_lets_it_a_decision_about_a_file_is_refused(
    bank: Bank, bot: Actor, one: Actor, wallet: str
) -> None:
    """Whoever owns the server has a person sign about a file what is asked about one by one."""
    world = bank.world
    world.policy(ALWAYS, ask(group(one)))
    batch_id = file_in(world, bot, wallet, rows_of(1, 2))
    first, second = payouts(world, batch_id)
    world.decide(one, first)
    demand = bank.demand(first)
    (genuine,) = demand.decisions
    call = world.sign(one, "POST", f"/v1/batches/{batch_id}/decisions", {"value": "Approved"})
    preimage = replace(
        call.preimage,
        intent_digest=filed.batch(world, batch_id).subject,
        groups_digest=digest(list(world.approval(first).groups)),
    )
    wrong = {**genuine, **sign_as(one, preimage), "payload": {"value": "Approved"}}
    bank.refuse(first, Why.EVIDENCE, "nothing lets it", demand=replace(demand, decisions=[wrong]))
    bank.sign(first)
    bank.refuse(second, Why.NOT_AGREED)
