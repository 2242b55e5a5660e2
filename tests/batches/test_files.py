"""A file of payouts from its signature to the signer: what is admitted, what is refused, and what nobody gets past."""

import asyncio
import copy
from pathlib import Path
from typing import Any

import pytest
import structlog

from outlay.actions import submissions as actions
from outlay.actions.admit_rows import admit_rows
from outlay.actions.decide_whole import carry_out
from outlay.actions.present_batches import batch_now
from outlay.cli.batches import _batch_told
from outlay.core.errors import Conflict, InvalidInput, NotFound, NotPermitted, PreconditionFailed
from outlay.evidence.canonical import canonical
from outlay.evidence.merkle import Tree, leaf, paths_of
from outlay.evidence.report import ProofBroken
from outlay.evidence.submission import open_row
from outlay.signer import Why
from tests.actions.documents import ALWAYS, ask, group, over
from tests.actions.messages import item, pay
from tests.actions.proof import Stage
from tests.actions.world import ALICE, BOB, DOLLAR, USDC, Actor, World
from tests.batches import filed
from tests.batches.filed import Document, cells, file_in, paper, payouts, rows_of, states, submit, upload
from tests.signer.bank import Bank, paid


@pytest.mark.parametrize("as_message", [False, True])
def test_one_signature_pays_every_row(bank: Bank, bot: Actor, wallet: str, as_message: bool) -> None:
    """By the handshake as a passkey does it, and as one HTTP message."""
    world = bank.world
    rows = rows_of(1, 2, 3, 4, 5)
    rows[1] |= {"asset": USDC, "recipient": BOB, "memo": "Löhne für März"}
    batch_id = file_in(world, bot, wallet, rows, as_message=as_message)
    row = filed.batch(world, batch_id)
    assert (row.state, row.admitted, row.refused, row.value) == ("done", 5, 0, str(15 * 10**8))
    assert states(world, batch_id) == ["ready"] * 5
    for transfer_id, each in zip(payouts(world, batch_id), rows, strict=True):
        assert paid(bank.sign(transfer_id)) == (each["recipient"], int(each["amount"]))
        assert bank.world.row(transfer_id).batch_id == batch_id
    assert bank.world.row(payouts(world, batch_id)[1]).intent["memo"] == "Löhne für März"


def test_nothing_is_asked_for_before_every_row_is_there(world: World, bot: Actor, wallet: str) -> None:
    rows = rows_of(1, 2, 3)
    made = submit(world, bot, paper(rows, wallet))
    assert (made["state"], made["uploaded"]) == ("uploading", 0)
    assert upload(world, bot, made["id"], rows[:2])["uploaded"] == 2
    filed.settle(world)
    assert payouts(world, made["id"]) == [None, None]
    # What was sent before is passed over; what is missing is told.
    assert upload(world, bot, made["id"], rows[1:2], first=1)["uploaded"] == 2
    with pytest.raises(Conflict) as refused:
        upload(world, bot, made["id"], rows[2:], first=3)
    assert refused.value.details["uploaded"] == 2
    answer = upload(world, bot, made["id"], rows, first=0)
    assert (answer["state"], answer["totals"][0]["amount"]) == ("admitting", str(6 * DOLLAR))
    filed.settle(world)
    assert states(world, made["id"]) == ["ready"] * 3


def test_rows_that_were_not_signed_are_refused_whole(world: World, bot: Actor, wallet: str) -> None:
    rows = rows_of(1, 2, 3)
    wrong: list[list[Document]] = [
        [rows[0], rows[1], cells(4, name="row-2")],
        [rows[1], rows[0], rows[2]],
        [*rows[:2], {**rows[2], "recipient": BOB}],
        [*rows[:2], {**rows[2], "memo": "more"}],
    ]
    for at, sent in enumerate(wrong):
        made = submit(world, bot, paper(rows, wallet, name=f"salaries {at}"))
        answer = upload(world, bot, made["id"], sent)
        assert (answer["state"], "not those that were signed" in answer["reason"]) == ("refused", True)
        filed.settle(world)
        assert payouts(world, made["id"]) == []  # dropped
    made = submit(world, bot, paper(rows, wallet))
    with pytest.raises(InvalidInput, match="these are more"):
        upload(world, bot, made["id"], rows_of(1, 2, 3, 4))
    # A count that was not signed covers other rows.
    short = submit(world, bot, paper(rows, wallet, count=2))
    assert upload(world, bot, short["id"], rows[:2])["state"] == "refused"


def test_what_is_wrong_with_a_row_is_told_before_anything_is_kept(world: World, bot: Actor, wallet: str) -> None:
    rows = rows_of(1, 2)
    made = submit(world, bot, paper(rows, wallet))
    for change, field in (
        ({"network": "Ethereum"}, "rows[0].network"),
        ({"asset": "DOGE"}, "rows[0].asset"),
        ({"asset": "0x" + "77" * 20}, "rows[0].asset"),
    ):
        with pytest.raises(InvalidInput) as refused:
            upload(world, bot, made["id"], [{**rows[0], **change}])
        assert refused.value.field == field
    changes: list[Document] = [{"amount": "1.5"}, {"amount": "0"}, {"recipient": "0x12"}, {"externalId": "a b"}]
    for wrong in [*changes, {"memo": "a\nb"}, {"walletId": wallet}, {"memo": "x" * 201}]:
        with pytest.raises(InvalidInput):
            upload(world, bot, made["id"], [{**rows[0], **wrong}])
    assert filed.batch(world, made["id"]).uploaded == 0


def test_only_who_submitted_a_file_uploads_and_cancels_it(world: World, bot: Actor, one: Actor, wallet: str) -> None:
    rows = rows_of(1, 2)
    made = submit(world, bot, paper(rows, wallet))
    with pytest.raises(NotPermitted):
        upload(world, one, made["id"], rows)
    with pytest.raises(NotPermitted):
        cancel(world, one, made["id"])
    with pytest.raises(NotFound):
        cancel(world, bot, "bat-00000-00000-0000000000000000")
    with pytest.raises(NotFound):
        submit(world, bot, paper(rows, "wa-00000-00000-0000000000000000"))


def shown(world: World, to: Actor, batch_id: str) -> Document:
    """Return a file as somebody sees it."""
    row = filed.batch(world, batch_id)
    with world.unit() as unit:
        return batch_now(unit, row, world.config, user_id=to.user_id, now=world.clock.now())


def cancel(world: World, by: Actor, batch_id: str) -> Any:
    return world.call(
        by, "POST", f"/v1/batches/{batch_id}/cancel", {}, "Wallets:Transfers:Abort",
        lambda act: actions.cancel(act, batch_id),
    )  # fmt: skip


def test_the_same_file_goes_on_until_it_has_ended_well(world: World, bot: Actor, one: Actor, wallet: str) -> None:
    rows = rows_of(1, 2)
    made = submit(world, bot, paper(rows, wallet))
    assert submit(world, bot, paper(rows, wallet))["id"] == made["id"]
    others = [
        submit(world, bot, paper(rows, wallet, name="bonuses"))["id"],
        submit(world, one, paper(rows, wallet))["id"],
        submit(world, bot, paper(rows, world.wallet()))["id"],
    ]
    assert len({made["id"], *others}) == 4
    upload(world, bot, made["id"], rows)
    filed.settle(world)
    assert submit(world, bot, paper(rows, wallet))["state"] == "done"
    # What was asked for before is the same payout, whichever file asks for it.
    upload(world, bot, others[0], rows)
    filed.settle(world)
    assert payouts(world, others[0]) == payouts(world, made["id"])
    canceled = cancel(world, bot, others[2])
    assert canceled["state"] == "canceled"
    assert submit(world, bot, paper(rows, filed.batch(world, others[2]).wallet_id))["id"] != others[2]
    with pytest.raises(PreconditionFailed):
        cancel(world, bot, made["id"])


def test_few_files_of_one_user_are_open(world: World, bot: Actor, one: Actor, wallet: str) -> None:
    for at in range(actions.UPLOADS_MAX):
        submit(world, bot, paper(rows_of(at + 1), wallet))
    with pytest.raises(PreconditionFailed):
        submit(world, bot, paper(rows_of(100), wallet))
    submit(world, one, paper(rows_of(100), wallet))


def test_a_file_that_is_left_in_the_middle_is_refused_and_dropped(world: World, bot: Actor, wallet: str) -> None:
    rows = rows_of(1, 2, 3)
    made = submit(world, bot, paper(rows, wallet))
    world.clock.step(minutes=23 * 60)
    upload(world, bot, made["id"], rows[:1])
    world.clock.step(minutes=23 * 60)
    filed.settle(world)
    assert filed.batch(world, made["id"]).state == "uploading"
    world.clock.step(minutes=2 * 60)
    filed.settle(world)
    row = filed.batch(world, made["id"])
    assert (row.state, row.is_kept, payouts(world, made["id"])) == ("refused", False, [])
    assert upload(world, bot, made["id"], rows)["state"] == "refused"


def test_rows_are_admitted_in_groups_and_in_order(
    world: World, bot: Actor, wallet: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outlay.engine.admit_batches.GROUP", 2)
    rows = rows_of(*range(1, 8))
    made = submit(world, bot, paper(rows, wallet))
    upload(world, bot, made["id"], rows)
    step = filed.step_of(world)
    seen = []
    for _ in range(4):
        asyncio.run(step.step())
        seen.append(filed.batch(world, made["id"]).admitted)
    assert seen == [2, 4, 6, 7]
    assert filed.batch(world, made["id"]).state == "done"


def test_policies_and_history_judge_each_row(world: World, bot: Actor, wallet: str) -> None:
    world.policy(over(5), {"kind": "Block"})
    taken = pay(world, bot, item(wallet, 9, external_id="row-1", amount=str(DOLLAR)))["id"]
    rows = rows_of(1, 2, 6)
    rows.append(cells(1, name="row-3", recipient="0x" + "00" * 20))
    batch_id = file_in(world, bot, wallet, rows)
    assert states(world, batch_id) == ["ready", "conflict", "rejected", "invalid_input"]
    found = filed.outcomes(world, batch_id)
    assert found[1].error["details"]["duplicate"]["id"] == taken
    assert found[3].error["details"]["field"] == "recipient"
    row = filed.batch(world, batch_id)
    assert (row.state, row.refused) == ("done", 2)
    # What was refused may be asked for again: that is another batch.
    assert submit(world, bot, paper(rows, wallet))["id"] != batch_id


@pytest.mark.parametrize("what", ["policy", "key", "permission"])
def test_what_changes_in_the_middle_stops_the_rest(
    world: World, bot: Actor, one: Actor, wallet: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outlay.engine.admit_batches.GROUP", 2)
    rows = rows_of(1, 2, 3, 4)
    made = submit(world, bot, paper(rows, wallet))
    upload(world, bot, made["id"], rows)
    asyncio.run(filed.step_of(world).step())
    if what == "policy":
        world.policy(over(100), {"kind": "Block"})
    elif what == "key":
        world.deactivate(bot, service_account=True)
    else:
        world.forbid(bot)
    filed.settle(world)
    code = {"policy": "head_moved", "key": "not_authenticated", "permission": "not_permitted"}[what]
    assert states(world, made["id"]) == ["ready", "ready", code, code]


def test_canceled_in_the_middle_nothing_more_is_asked_for(
    world: World, bot: Actor, wallet: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outlay.engine.admit_batches.GROUP", 2)
    rows = rows_of(1, 2, 3, 4)
    made = submit(world, bot, paper(rows, wallet))
    upload(world, bot, made["id"], rows)
    asyncio.run(filed.step_of(world).step())
    tree = Tree(b"".join(leaf(canonical(each)) for each in rows))
    cancel(world, bot, made["id"])
    filed.settle(world)
    with world.work() as work:  # the step had begun before it was canceled
        assert admit_rows(work, made["id"], tree, limit=2, quote_of=world.quote) == 0
    # What nobody looked at is not kept.
    assert (states(world, made["id"]), filed.batch(world, made["id"]).is_kept) == (["ready", "ready"], False)


def test_rows_that_nobody_will_look_at_are_dropped_in_parts(
    world: World, bot: Actor, wallet: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outlay.engine.admit_batches.GROUP", 2)
    monkeypatch.setattr("outlay.engine.admit_batches.DROPPED", 3)
    rows = rows_of(*range(1, 10))
    made = [submit(world, bot, paper(rows, wallet, name=name))["id"] for name in ("begun", "half", "never")]
    upload(world, bot, made[0], rows)
    asyncio.run(filed.step_of(world).step())
    upload(world, bot, made[1], rows[:5])
    for each in made:
        cancel(world, bot, each)
    filed.settle(world)
    assert [len(filed.outcomes(world, each)) for each in made] == [2, 0, 0]
    found = shown(world, bot, made[0])
    assert (found["states"], found["count"]) == ({"ready": 2, "canceled": 7}, 9)
    filed.settle(world)
    assert len(filed.outcomes(world, made[0])) == 2


@pytest.mark.parametrize("places", [(0, 1), (0, 2), (1, 3)])
def test_a_reference_twice_refuses_the_file_and_nothing_else(
    world: World, bot: Actor, wallet: str, places: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one upload or in two, in one group or in two."""
    monkeypatch.setattr("outlay.engine.admit_batches.GROUP", 2)
    monkeypatch.setattr("outlay.store.submissions._CHUNK", 2)
    rows = rows_of(1, 2, 3, 4)
    rows[places[1]] = dict(rows[places[0]])
    made = submit(world, bot, paper(rows, wallet))
    upload(world, bot, made["id"], rows[:2])
    upload(world, bot, made["id"], rows[2:], first=2)
    other = file_in(world, bot, wallet, rows_of(5, 6, name="other"))
    row = filed.batch(world, made["id"])
    reason = f"rows {places[0] + 1} and {places[1] + 1} have the same reference; nothing was asked for"
    assert (row.state, row.reason, row.admitted) == ("refused", reason, 0)
    assert payouts(world, made["id"]) == []
    assert states(world, other) == ["ready", "ready"]


def test_what_is_wrong_with_one_file_does_not_stop_the_others(
    bank: Bank, bot: Actor, one: Actor, wallet: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows, and a decision about a whole file: whatever it is, the others go on."""
    world = bank.world
    world.policy(over(4), {**ask(group(one)), "per": "batch"})
    decided = [file_in(world, bot, wallet, rows_of(5, name=name), name=name) for name in ("first", "second")]
    for each in decided:
        filed.decide(world, one, each)
    rows = [rows_of(1, name=name) for name in ("third", "fourth")]
    made = [submit(world, bot, paper(each, wallet, name=each[0]["externalId"]))["id"] for each in rows]
    for each, uploaded in zip(made, rows, strict=True):
        upload(world, bot, each, uploaded)
    bank.sql("UPDATE submission_row SET item = 'no item' WHERE submission_id = :id", id=made[0])

    def fails_for_one(work: Any, decision: Any, *, limit: int) -> int:
        assert decision.submission_id != decided[0]
        return carry_out(work, decision, limit=limit)

    monkeypatch.setattr("outlay.engine.admit_batches.carry_out", fails_for_one)
    with structlog.testing.capture_logs() as told:
        filed.settle(world)
    assert {(each["event"], each["batch"]) for each in told} == {
        ("batch_step_failed", made[0]),
        ("batch_step_failed", decided[0]),
    }
    assert [states(world, each) for each in (made[1], decided[1])] == [["ready"], ["ready"]]


def test_a_file_is_worth_nothing_that_is_not_known(world: World, bot: Actor, wallet: str) -> None:
    rows = rows_of(1, 2)
    rows.append(cells(1, name="coin", asset="native", amount="1000"))
    priced = shown(world, bot, file_in(world, bot, wallet, rows[:2]))
    assert (priced["valueUsd"], "worth      3.00 USD" in _batch_told(priced)) == ("3.00000000", True)
    world.prices.clear()
    unpriced = shown(world, bot, file_in(world, bot, wallet, rows_of(3, 4, name="later")))
    assert ("valueUsd" in unpriced, "worth      no price" in _batch_told(unpriced)) == (False, True)


def test_one_row_without_a_price_leaves_the_whole_without_one(
    world: World, bot: Actor, wallet: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outlay.engine.admit_batches.GROUP", 1)
    rows = rows_of(1, 2, 3)
    made = submit(world, bot, paper(rows, wallet))
    upload(world, bot, made["id"], rows)
    prices = dict(world.prices)
    step = filed.step_of(world)
    for each, worth in ((prices, "1.00000000"), ({}, None), (prices, None)):
        world.prices.clear()
        world.prices.update(each)
        asyncio.run(step.step())
        assert shown(world, bot, made["id"]).get("valueUsd") == worth


# What the signer sees through


@pytest.mark.parametrize("as_message", [False, True])
def test_a_row_that_was_edited_behind_the_server_is_refused(
    bank: Bank, bot: Actor, wallet: str, as_message: bool
) -> None:
    """Whoever owns the database changes a row, its place, the count, the signed call, or adds one of his own."""
    world = bank.world
    batch_id = file_in(world, bot, wallet, rows_of(1, 2, 3), as_message=as_message)
    other = file_in(world, bot, wallet, rows_of(7, name="other"), as_message=as_message)
    first, second, _ = payouts(world, batch_id)
    genuine = bank.evidence(first)

    def changed(change: Any) -> Document:
        document = copy.deepcopy(genuine)
        change(document)
        return document

    edits: list[Any] = [
        lambda call: call["row"]["item"].update(amount=str(9 * DOLLAR)),
        lambda call: call["row"]["item"].update(recipient=BOB),
        lambda call: call["row"]["item"].update(memo="x"),
        lambda call: call["row"].update(index=1),
        lambda call: call["row"].update(count=2),
        lambda call: call["row"].update(path=call["row"]["path"][:-1]),
        lambda call: call["row"].update(path=[*call["row"]["path"], call["row"]["path"][0]]),
        lambda call: call["row"].update(extra=1),
        lambda call: call.pop("row"),
        lambda call: call.update(row=bank.evidence(payouts(world, other)[0])["row"]),
    ]
    if not as_message:
        edits.append(lambda call: call["payload"].update(count=4))
        edits.append(lambda call: call["payload"].update(walletId="wa-00000-00000-0000000000000000"))
    for change in edits:
        bank.write_evidence(first, changed(change))
        bank.refuse(first, Why.EVIDENCE)
    bank.write_evidence(first, genuine)
    # A row of another place pays what it says, and not what this transfer says.
    assert paid(bank.sign(first)) == (ALICE, DOLLAR)
    # One signed row is good once, whatever the transfer is called.
    bank.sql("UPDATE transfer SET id = 'xfr-copy' WHERE id = :id", id=second)
    bank.refuse("xfr-copy", Why.CONFLICT, demand=bank.demand(first))


def test_a_row_is_for_the_network_it_names(bank: Bank, bot: Actor, wallet: str) -> None:
    world = bank.world
    rows = rows_of(1)
    made = submit(world, bot, paper(rows, wallet))
    upload(world, bot, made["id"], rows)
    bank.sql("UPDATE submission SET network = 'Ethereum'")
    filed.settle(world)
    assert states(world, made["id"]) == ["invalid_input"]
    assert "pays on" in filed.outcomes(world, made["id"])[0].error["message"]


def test_the_signer_checks_the_network_of_a_row(
    bank: Bank, bot: Actor, wallet: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server lets a row pass that was signed for another network."""
    world = bank.world
    monkeypatch.setattr(actions, "asset_of", lambda *_: None)
    rows = [cells(1, network="Ethereum")]
    made = submit(world, bot, paper(rows, wallet))
    upload(world, bot, made["id"], rows)
    bank.sql("UPDATE submission SET network = 'Ethereum'")
    filed.settle(world)
    assert states(world, made["id"]) == ["ready"]
    bank.refuse(payouts(world, made["id"])[0], Why.EVIDENCE, "another network")


def test_the_number_of_rows_that_was_signed_is_the_one_of_the_digest() -> None:
    rows = rows_of(1, 2, 3)
    leaves = [leaf(canonical(each)) for each in rows]
    row = {"index": 0, "count": 3, "path": paths_of(leaves)[0], "item": rows[0]}
    assert open_row(paper(rows, "wa-1"), row, "payout")[1:] == (0, rows[0])
    with pytest.raises(InvalidInput):
        open_row(paper(rows, "wa-1", count=2), row, "payout")


def test_rows_that_a_database_adds_are_not_admitted_with_good_evidence(bank: Bank, bot: Actor, wallet: str) -> None:
    """The rows are changed after their digest was compared: the signer compares it again."""
    world = bank.world
    rows = rows_of(1, 2)
    made = submit(world, bot, paper(rows, wallet))
    upload(world, bot, made["id"], rows)
    bank.sql("UPDATE submission_row SET item = replace(item, :old, :new) WHERE place = 1", old='"row-1"', new='"row-9"')
    filed.settle(world)
    good, bad = payouts(world, made["id"])
    assert paid(bank.sign(good)) == (ALICE, DOLLAR)
    bank.refuse(bad, Why.EVIDENCE, "not in the file")


def test_a_proof_of_a_row_is_checked_offline(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    try:
        world = stage.world
        world.policy(ALWAYS, {**ask(group(stage.one, stage.two, quorum=2)), "per": "batch"})
        batch_id = file_in(world, stage.bot, stage.wallet, rows_of(5, 6, 7))
        filed.decide(world, stage.one, batch_id, reason="checked")
        filed.settle(world)
        world.clock.step(minutes=1)
        paid_row = payouts(world, batch_id)[1]
        world.decide(stage.two, paid_row)  # about this one alone
        stage.sign(paid_row)
        document = stage.proof(paid_row)
        report = stage.verify(document)
        assert [each.by.name for each in report.approvals] == ["approver.one@example.com", "approver.two@example.com"]
        assert [each["preimage"]["path"].split("/")[1] for each in document["decisions"]] == ["v1", "v2"]
        wrong: list[Any] = [
            lambda call: call["payout"]["row"].update(index=0),
            lambda call: call["payout"]["row"]["item"].update(amount="1"),
            lambda call: call["payout"]["payload"].update(name="other"),
            lambda call: call["decisions"][0]["preimage"].update(path="/v1/batches/bat-x/decisions"),
            lambda call: call["decisions"].pop(0),
        ]
        for change in wrong:
            broken = copy.deepcopy(document)
            change(broken)
            with pytest.raises(ProofBroken):
                stage.verify(broken)
    finally:
        stage.world.close()


def test_the_signature_is_looked_at_again_for_each_group(
    bank: Bank, bot: Actor, wallet: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = bank.world
    rows = rows_of(1, 2)
    made = submit(world, bot, paper(rows, wallet))
    upload(world, bot, made["id"], rows)
    bank.sql("UPDATE submission SET document = replace(document, :old, :new)", old='"nonce":"', new='"nonce":"A')
    filed.settle(world)
    assert states(world, made["id"]) == ["action_signature_invalid"] * 2
