"""The proof of a payout that one signed HTTP message asked for, alone or as a row of a batch: checked offline."""

import copy
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from outlay.core.seams import SECOND
from outlay.evidence.canonical import canonical
from outlay.evidence.payout import verify_payout
from outlay.evidence.report import ProofBroken
from tests import tools
from tests.actions.documents import BLOCK, ask, group, over
from tests.actions.messages import Document, head_of, item, message, pay, pay_batch
from tests.actions.proof import Stage
from tests.actions.world import ALICE, BOB


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Return an organization with a wallet, a bot and two people; no policies yet."""
    opened = Stage(tmp_path)
    yield opened
    opened.world.close()


def proved(stage: Stage, *approvers: Any, names_head: bool = True, dollars: int = 5) -> Document:
    """Return the proof of a payout that one message asked for."""
    made = pay(stage.world, stage.bot, item(stage.wallet, dollars, memo="für März"), names_head=names_head)["id"]
    for each in approvers:
        stage.world.decide(each, made)
    stage.sign(made)
    return stage.proof(made)


def proved_row(stage: Stage, *, count: int = 5, at: int = 2) -> Document:
    """Return the proof of one row of a batch."""
    items = [item(stage.wallet, number + 1, external_id=f"row-{number}") for number in range(count)]
    made = pay_batch(stage.world, stage.bot, items)["items"][at]["payout"]["id"]
    stage.sign(made)
    return stage.proof(made)


def refused(stage: Stage, document: Any, step: str | None = None, match: str | None = None) -> None:
    with pytest.raises(ProofBroken, match=match) as caught:
        verify_payout(document if isinstance(document, bytes) else canonical(document), stage.world.root)
    assert step in (None, caught.value.step), (caught.value.step, caught.value.message)


def test_a_message_and_a_row_are_proved_without_the_others(stage: Stage) -> None:
    stage.world.policy(over(1000), ask(group(stage.one)), tags=["payouts"])
    report = stage.verify(proved(stage, stage.one, dollars=5000))
    assert (report.intent.amount, report.intent.recipient, report.intent.memo) == ("5000000000", ALICE, "für März")
    assert report.requester.name == "payouts bot"
    assert [each.by.name for each in report.approvals] == ["approver.one@example.com"]
    assert not any("names none" in each for each in report.unproven)
    document = proved_row(stage)
    assert "row-2" in canonical(document).decode() and "row-3" not in canonical(document).decode()
    assert stage.verify(document).intent.amount == "3000000"


def test_a_message_that_names_no_records_is_proved_with_a_reservation(stage: Stage) -> None:
    """Records may be cut off behind it, and nobody could tell: that is said."""
    stage.world.clock.step(micros=SECOND)
    document = proved(stage, names_head=False)
    report = stage.verify(document)
    assert any("names none" in each for each in report.unproven)
    assert "names none" in report.text()
    named = proved_small(stage)
    refused(stage, {**named, "records": named["records"][:-1]}, "records", "does not hold")


def test_records_that_hang_on_behind_a_message_are_seen(stage: Stage) -> None:
    stage.world.clock.step(micros=SECOND)
    documents = [proved(stage, names_head=False), proved_row(stage)]
    stage.world.clock.step(minutes=1)
    stage.world.policy(over(1), BLOCK)
    for document in documents:
        assert stage.verify(document)
        refused(stage, {**document, "records": stage.records()}, "records", "covered by no signature")


def test_a_policy_of_before_the_message_is_seen(stage: Stage) -> None:
    world = stage.world
    good = stage.verify(proved(stage))
    assert good
    world.policy(over(3), BLOCK)
    world.clock.step(minutes=1)
    for names_head in (False, True):
        body = item(stage.wallet, 5, external_id="x")
        call = message(world, stage.bot, "/v1/payouts", body, names_head=names_head)
        document = {**proved_small(stage), "payout": call.proof(), "records": stage.records()}
        refused(stage, document, "policies", "blocks")


def proved_small(stage: Stage) -> Document:
    """Return a proof that a policy lets through, to put other requests into."""
    items = [item(stage.wallet, 1, external_id=f"small-{stage.world.clock.step(micros=SECOND)}")]
    made = pay_batch(stage.world, stage.bot, items)["items"][0]["payout"]["id"]
    stage.sign(made)
    return stage.proof(made)


def test_a_message_over_older_records_is_seen(stage: Stage) -> None:
    world = stage.world
    old = head_of(world)
    world.clock.step(minutes=1)
    world.policy(over(3), BLOCK)
    world.clock.step(minutes=20)
    call = message(world, stage.bot, "/v1/payouts", item(stage.wallet, 5), records_head=old)
    document = {**proved_small(stage), "payout": call.proof(), "records": stage.records()}
    refused(stage, document, "records", "covered by no signature")
    # Nor does the newest record, covered by somebody's vote, help.
    vote = stage.vote(stage.one, stage.request(stage.bot))
    refused(stage, {**document, "decisions": [vote]}, "requester", "not the newest")


@pytest.mark.parametrize("kind", ["body", "row"])
def test_no_byte_of_a_message_is_free(stage: Stage, kind: str) -> None:
    """Whatever is changed in the request, the proof does not hold: some bytes in each run, seeded."""
    data = canonical(proved(stage) if kind == "body" else proved_row(stage))
    first = data.index(b'"payout":{')
    last = data.index(b',"records":[', first)
    seed = random.randrange(2**32)
    dice = random.Random(seed)
    for at in dice.sample(range(first, last), min(tools.examples(150), last - first)):
        other = dice.choice([each for each in b'0aZ"-{} ' if each != data[at]])
        with pytest.raises(ProofBroken):
            verify_payout(data[:at] + bytes([other]) + data[at + 1 :], stage.world.root)
            print(f"seed {seed}: byte {at}")


@pytest.mark.parametrize(
    "change",
    [
        lambda call: call["row"]["item"].update(recipient=BOB),
        lambda call: call["row"].update(index=3),
        lambda call: call["row"].update(count=4),
        lambda call: call["message"].pop("batchDigest"),
        lambda call: call.update(body="{}"),
        lambda call: call.pop("row"),
        lambda call: call["message"].update(targetUri="http://localhost:8000/v1/payouts"),
        lambda call: call.update(credential={}),
        lambda call: call.update(policySet=""),
    ],
)
def test_a_row_that_was_changed_is_refused(stage: Stage, change: Any) -> None:
    document = copy.deepcopy(proved_row(stage))
    change(document["payout"])
    refused(stage, document)


def test_the_row_of_another_batch_does_not_fit(stage: Stage) -> None:
    one = proved_row(stage)
    items = [item(stage.wallet, number + 1, external_id=f"other-{number}") for number in range(5)]
    made = pay_batch(stage.world, stage.bot, items)["items"][2]["payout"]["id"]
    stage.sign(made)
    other = stage.proof(made)
    for part in ("message", "row"):
        refused(stage, {**one, "payout": {**one["payout"], part: other["payout"][part]}}, None)
    # The whole call of the other one asks for an equal payout: their transactions differ by the nonce only.
    assert stage.verify({**one, "payout": other["payout"], "transaction": other["transaction"]})
