"""One decision about everything that waits in a batch: what it does for each payout, and what it does for no other."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from outlay.actions.decide_batch import decide_batch
from outlay.core.errors import ApprovalChanged, InvalidInput, NotFound, NotPermitted, PreconditionFailed
from outlay.evidence.assertion import Assertion
from outlay.evidence.batch import held_digest, held_rows
from outlay.evidence.canonical import digest
from outlay.evidence.challenge import action_challenge
from outlay.evidence.history import verify_history
from outlay.evidence.report import ProofBroken
from outlay.evidence.sign import sign_challenge
from outlay.signer import Why
from outlay.store import approvals
from tests.actions.documents import ALWAYS, ask, group, over
from tests.actions.messages import Document, item, pay, pay_batch
from tests.actions.proof import Stage
from tests.actions.world import ALICE, DOLLAR, Actor
from tests.signer.bank import Bank, paid

VOTE = "Policies:Evaluations:Vote"


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Bank]:
    """Return an organization and its signer, both empty but for an admin."""
    opened = Bank(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def bot(bank: Bank) -> Actor:
    return bank.world.service_account("payouts bot")


@pytest.fixture
def one(bank: Bank) -> Actor:
    return bank.world.person("one@example.com")


@pytest.fixture
def two(bank: Bank) -> Actor:
    return bank.world.person("two@example.com")


@pytest.fixture
def wallet(bank: Bank) -> str:
    return bank.wallet("payouts")


def at_once(*groups: Any, **more: Any) -> Document:
    """Return an action whose groups may decide about a whole batch."""
    return {**ask(*groups, **more), "per": "batch"}


def batch(bank: Bank, bot: Actor, wallet: str, *dollars: int, name: str = "row") -> Document:
    """Return a batch of payouts of so many dollars."""
    rows = [item(wallet, each, external_id=f"{name}-{at}") for at, each in enumerate(dollars)]
    return pay_batch(bank.world, bot, rows)


def ids(answer: Document) -> list[str]:
    return [each["payout"]["id"] for each in answer["items"]]


def states(bank: Bank, answer: Document) -> list[str]:
    return [bank.world.state(each) for each in ids(answer)]


def decide(bank: Bank, by: Actor, batch_id: str, value: str = "Approved", **more: Any) -> Any:
    payload = {"value": value, **more}
    path = f"/v1/payouts/batch/{batch_id}/decisions"
    return bank.world.call(
        by, "POST", path, payload, VOTE, lambda act: decide_batch(act, batch_id, value=value, reason=more.get("reason"))
    )


def decisions(bank: Bank, transfer_id: str) -> list[str]:
    """Return the ids of the decisions about a payout."""
    with bank.world.unit() as unit:
        found = approvals.find_of(unit, transfer_id)
        assert found is not None
        return [each.id for each in approvals.decisions(unit, found.id)]


# What it does


def test_one_signature_lets_go_what_waits_and_the_signer_agrees(
    bank: Bank, bot: Actor, one: Actor, wallet: str
) -> None:
    bank.world.policy(over(3), at_once(group(one)))
    made = batch(bank, bot, wallet, 1, 5, 6, 7)
    assert states(bank, made) == ["ready", "held", "held", "held"]
    answer = decide(bank, one, made["id"], reason="salaries")
    assert [each["payout"]["state"] for each in answer["items"]] == ["ready"] * 4
    for transfer_id, dollars in zip(ids(made), (1, 5, 6, 7), strict=True):
        assert paid(bank.sign(transfer_id)) == (ALICE, dollars * DOLLAR)
    with pytest.raises(PreconditionFailed, match="nothing in this batch"):
        decide(bank, one, made["id"])


def test_a_quorum_of_two_and_a_denial(bank: Bank, bot: Actor, one: Actor, two: Actor, wallet: str) -> None:
    bank.world.policy(ALWAYS, at_once(group(one, two, quorum=2)))
    first, second = (batch(bank, bot, wallet, 1, 2, name=name) for name in ("first", "second"))
    decide(bank, one, first["id"])
    assert states(bank, first) == ["held", "held"]
    bank.refuse(ids(first)[0], Why.NOT_AGREED, "quorum")
    decide(bank, two, first["id"])
    assert states(bank, first) == ["ready", "ready"]
    bank.sign(ids(first)[1])
    decide(bank, one, second["id"], "Denied", reason="twice")
    assert states(bank, second) == ["rejected", "rejected"]


def test_rows_that_were_decided_alone_are_left_out(bank: Bank, bot: Actor, one: Actor, two: Actor, wallet: str) -> None:
    world = bank.world
    world.policy(ALWAYS, at_once(group(one, two, quorum=2)))
    made = batch(bank, bot, wallet, 1, 2, 3)
    denied, agreed, open_ = ids(made)
    world.decide(one, denied, "Denied")
    world.decide(one, agreed)
    decide(bank, one, made["id"])
    assert [len(decisions(bank, each)) for each in (denied, agreed, open_)] == [1, 1, 1]
    decide(bank, two, made["id"])
    assert states(bank, made) == ["rejected", "ready", "ready"]
    for each in (agreed, open_):
        bank.sign(each)


def test_only_where_every_policy_that_asks_lets_it(bank: Bank, bot: Actor, one: Actor, wallet: str) -> None:
    world = bank.world
    batchwise = world.policy(over(3), at_once(group(one)))
    world.policy(over(6), ask(group(one)))
    made = batch(bank, bot, wallet, 5, 7)
    decide(bank, one, made["id"])
    assert states(bank, made) == ["ready", "held"]
    with pytest.raises(PreconditionFailed):
        decide(bank, one, made["id"])
    world.decide(one, ids(made)[1])
    assert states(bank, made) == ["ready", "ready"]
    bank.sign(ids(made)[1])
    # A policy that does not let it any more asks anew.
    other = batch(bank, bot, wallet, 5, name="other")
    world.replace_policy(batchwise, over(3), ask(group(one)))
    with pytest.raises(PreconditionFailed):
        decide(bank, one, other["id"])
    bank.refuse(ids(made)[0], Why.NOT_AGREED)


def test_rows_that_ask_others_come_one_after_the_other(
    bank: Bank, bot: Actor, one: Actor, two: Actor, wallet: str
) -> None:
    world = bank.world
    world.policy(over(3), at_once(group(one)))
    world.policy(over(6), at_once(group(one, two)))
    made = batch(bank, bot, wallet, 5, 7, 8, 4)
    decide(bank, one, made["id"])
    assert sorted(states(bank, made)) == ["held", "held", "ready", "ready"]
    decide(bank, one, made["id"])
    assert states(bank, made) == ["ready"] * 4


def test_who_may_not_decide_may_not_decide_at_once(bank: Bank, bot: Actor, one: Actor, two: Actor, wallet: str) -> None:
    bank.world.policy(ALWAYS, at_once(group(one)))
    made = batch(bank, bot, wallet, 1, 2)
    for actor in (two, bot):
        with pytest.raises(NotPermitted):
            decide(bank, actor, made["id"])
    with pytest.raises(NotFound):
        decide(bank, one, "bat-00000-00000-0000000000000000")
    with pytest.raises(InvalidInput):
        decide(bank, one, made["id"], "Maybe")
    assert states(bank, made) == ["held", "held"]


def test_what_changed_after_it_was_signed_is_decided_anew(bank: Bank, bot: Actor, one: Actor, wallet: str) -> None:
    world = bank.world
    world.policy(ALWAYS, at_once(group(one)))
    made = batch(bank, bot, wallet, 1, 2)
    path, payload = f"/v1/payouts/batch/{made['id']}/decisions", {"value": "Approved"}
    call = world.sign(one, "POST", path, payload)
    world.decide(one, ids(made)[0])
    with pytest.raises(ApprovalChanged):
        world.send(
            one, call, "POST", path, payload, VOTE,
            lambda act: decide_batch(act, made["id"], value="Approved", reason=None),
        )  # fmt: skip
    assert states(bank, made) == ["ready", "held"]


def test_one_decision_is_a_policys_choice_and_about_payouts_only(bank: Bank, one: Actor) -> None:
    for action in (
        {**ask(group(one)), "per": "week"},
        {"kind": "Block", "per": "batch"},
        {"kind": "NoAction", "per": "row"},
    ):
        with pytest.raises(InvalidInput):
            bank.world.policy(ALWAYS, action)
    policy = bank.world.policy(ALWAYS, {**ask(group(one)), "per": "row"})
    assert "per" not in verify_history(bank.records(), bank.world.root).policies[policy].document["action"]


# What it does for no other


@pytest.fixture
def agreed(bank: Bank, bot: Actor, one: Actor, wallet: str) -> Document:
    """Return a batch of three payouts that were let go at once."""
    bank.world.policy(ALWAYS, at_once(group(one)))
    made = batch(bank, bot, wallet, 1, 2, 3)
    decide(bank, one, made["id"])
    return made


def edit(bank: Bank, subject: str, change: Any) -> None:
    document = copy.deepcopy(bank.evidence(subject))
    change(document)
    bank.write_evidence(subject, document)


@pytest.mark.parametrize(
    "change",
    [
        lambda call: call["row"].update(index=(call["row"]["index"] + 1) % 3),
        lambda call: call["row"].update(count=2),
        lambda call: call["row"].update(path=call["row"]["path"][:-1]),
        lambda call: call["row"].update(extra=1),
        lambda call: call.pop("row"),
        lambda call: call.update(row={"index": 0, "count": 1, "path": []}),
        lambda call: call.update(row=None),
        lambda call: call["payload"].update(value="Denied"),
        lambda call: call["preimage"].update(path="/v2/policy-approvals/ap-x/decisions"),
    ],
)
def test_an_edited_decision_is_refused(bank: Bank, agreed: Document, change: Any) -> None:
    first = ids(agreed)[0]
    (decision,) = decisions(bank, first)
    edit(bank, decision, change)
    bank.refuse(first, Why.EVIDENCE)
    bank.sign(ids(agreed)[1])


def test_a_decision_about_one_batch_is_none_about_another(
    bank: Bank, bot: Actor, wallet: str, agreed: Document
) -> None:
    other = batch(bank, bot, wallet, 1, 2, 3, name="other")
    alone = pay(bank.world, bot, item(wallet, 1, external_id="alone"))["id"]
    demand = bank.demand(ids(agreed)[0])
    for held in (ids(other)[0], alone):
        wanted = replace(bank.demand(held), decisions=demand.decisions, asked=demand.asked)
        bank.refuse(held, Why.EVIDENCE, "", demand=wanted)
    assert paid(bank.sign(ids(agreed)[0])) == (ALICE, DOLLAR)


def test_a_decision_about_a_batch_is_used_once_for_each_payout(bank: Bank, bot: Actor, agreed: Document) -> None:
    """Its place in the batch is spent with it; its neighbours have places of their own."""
    first, second, _ = ids(agreed)
    bank.sign(first)
    bank.sign(second)
    bank.sql("UPDATE transfer SET id = 'xfr-copy' WHERE id = :id", id=first)
    demand = bank.demand(second)
    bank.refuse("xfr-copy", Why.CONFLICT, demand=demand)


def test_where_no_policy_lets_it_a_decision_about_a_batch_is_refused(
    bank: Bank, bot: Actor, one: Actor, wallet: str
) -> None:
    """Whoever owns the server has a person sign about a batch what is asked about one by one."""
    world = bank.world
    world.policy(ALWAYS, ask(group(one)))
    made = batch(bank, bot, wallet, 1, 2)
    intents = [world.row(each).intent_digest for each in ids(made)]
    for each in ids(made):
        world.decide(one, each)
    first = ids(made)[0]
    demand = bank.demand(first)
    (genuine,) = demand.decisions
    preimage: Any = {
        "intent_digest": held_digest(made["digest"], intents),
        "groups_digest": digest(list(world.approval(first).groups)),
    }
    path = f"/v1/payouts/batch/{made['id']}/decisions"
    call = world.sign(one, "POST", path, {"value": "Approved"})
    forged = sign_as(one, replace(call.preimage, **preimage))
    wrong = {**genuine, **forged, "payload": {"value": "Approved"}, "row": held_rows(intents)[0]}
    bank.refuse(first, Why.EVIDENCE, "nothing lets it", demand=replace(demand, decisions=[wrong]))
    bank.sign(first)


def sign_as(actor: Actor, preimage: Any) -> Document:
    """Return a preimage with its signature."""
    answer = sign_challenge(actor.private_key, actor.credential_id, action_challenge(preimage))
    return {"preimage": preimage.document(), "assertion": Assertion.from_document(answer).document()}


def test_the_proof_of_a_payout_holds_the_decision_about_its_batch(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    try:
        world = stage.world
        world.policy(over(3), at_once(group(stage.one, stage.two, quorum=2)))
        rows = [item(stage.wallet, dollars, external_id=f"row-{dollars}") for dollars in (5, 6, 7)]
        made = pay_batch(world, stage.bot, rows)
        path, payload = f"/v1/payouts/batch/{made['id']}/decisions", {"value": "Approved", "reason": "checked"}
        world.call(
            stage.one, "POST", path, payload, VOTE,
            lambda act: decide_batch(act, made["id"], value="Approved", reason="checked"),
        )  # fmt: skip
        paid_row = made["items"][1]["payout"]["id"]
        world.decide(stage.two, paid_row)  # about this one alone
        stage.sign(paid_row)
        document = stage.proof(paid_row)
        report = stage.verify(document)
        assert [each.by.name for each in report.approvals] == ["approver.one@example.com", "approver.two@example.com"]
        assert ["row" in each for each in document["decisions"]] == [True, False]
        changes: list[Document] = [{"index": 0}, {"count": 4}, {"path": []}]
        for wrong in changes:
            broken = copy.deepcopy(document)
            broken["decisions"][0]["row"].update(wrong)
            with pytest.raises(ProofBroken):
                stage.verify(broken)
    finally:
        stage.world.close()
