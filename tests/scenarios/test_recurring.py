"""Recurring payouts end to end: calendar, policies, signer, chain, ledger."""

import json
from typing import Any

import pytest
import sqlalchemy as sa

from outlay.actions.explain import NEEDED, explain
from outlay.actions.export import export_payout
from outlay.core.asset import NATIVE
from outlay.evidence.canonical import canonical
from outlay.evidence.payout import verify_payout
from outlay.evidence.report import ProofBroken, Standing
from tests import recurrences
from tests.actions.documents import ALWAYS, BLOCK, ask, at_most, group
from tests.actions.world import USDC
from tests.recurrences import LANDLORD, document
from tests.scenarios.stage import DOLLAR, Stage


def make(stage: Stage, **given: Any) -> str:
    """Create a mandate and return its id."""
    given = given if "poolId" in given else {"walletId": stage.wallet, **given}
    return recurrences.create(stage.world, document(**given))


def settle(stage: Stage) -> None:
    """Let what is under way become final."""
    stage.run(2)
    stage.mine(5)
    stage.run(2)


def events(stage: Stage, kind: str) -> list[dict[str, Any]]:
    """Return what was told of a kind, in order."""
    text = sa.text("SELECT data FROM event WHERE kind = :kind ORDER BY seq")
    return [json.loads(row.data) for row in stage.unit(lambda unit: unit.execute(text, {"kind": kind}).all())]


def rent(stage: Stage, recipient: str = LANDLORD) -> int:
    """Return the whole dollars that were paid."""
    return stage.balance(recipient, native=False) // DOLLAR


def agrees(stage: Stage) -> None:
    """Check ledger against chain for the wallet."""
    for asset, native in ((NATIVE, True), (USDC, False)):
        assert stage.held(asset) == {"spendable": stage.balance(stage.address(), native=native), "reserved": 0}


def test_thirteen_months_with_the_server_down_in_between(stage: Stage) -> None:
    """Each month's last weekday at nine in Berlin, winter and summer; two runs fall into a time without a server."""
    recurrences.at(stage.world, "2027-02-10 12:00")
    made = make(
        stage,
        calendar={"every": "month", "day": "last", "at": "09:00", "adjust": "previous"},
        **{"from": "2027-02-01", "until": "2028-02-29"},
    )
    expected = [
        *("2027-02-26", "2027-03-31", "2027-04-30", "2027-05-31", "2027-06-30", "2027-07-30", "2027-08-31"),
        *("2027-09-30", "2027-10-29", "2027-11-30", "2027-12-31", "2028-01-31", "2028-02-29"),
    ]
    assert [each["date"] for each in recurrences.shown(stage.world, made)["next"]] == expected[:5]
    down = {"2027-05-31", "2027-06-30"}
    for date in expected:
        if date in down:
            continue
        recurrences.at(stage.world, f"{date} 08:59")
        stage.run(1)
        before = rent(stage)
        recurrences.at(stage.world, f"{date} 09:00")
        settle(stage)
        assert rent(stage) == before + 7, date
    recurrences.at(stage.world, "2028-06-01 09:00")
    settle(stage)
    found = recurrences.runs(stage.world, made)
    assert [(date, status, state) for date, status, state in found] == [
        (date, "Missed", None) if date in down else (date, "Made", "confirmed") for date in expected
    ]
    told = [each["run"] for each in events(stage, "mandate.run.missed")]
    assert [each["date"] for each in told] == sorted(down)
    assert told[0]["local"] == "2027-05-31T09:00:00+02:00"
    assert told[0]["dateDue"] == "2027-05-31T07:00:00.000Z"
    assert "not running" in told[0]["reason"]
    assert recurrences.shown(stage.world, made)["next"] == []
    assert rent(stage) == 7 * 11
    agrees(stage)


def test_a_worker_that_dies_and_comes_back_pays_each_date_once(stage: Stage) -> None:
    recurrences.at(stage.world, "2027-03-01 08:00")
    made = make(stage, runsMax=3, **{"from": "2027-03-01"})
    for day in range(1, 6):
        recurrences.at(stage.world, f"2027-03-{day:02d} 09:30")
        stage.start()
        settle(stage)
        stage.start()
        settle(stage)
    assert recurrences.runs(stage.world, made) == [(f"2027-03-0{day}", "Made", "confirmed") for day in (1, 2, 3)]
    assert rent(stage) == 21
    agrees(stage)


def test_policies_judge_each_run_when_it_is_due(stage: Stage) -> None:
    recurrences.at(stage.world, "2027-03-01 08:00")
    person = stage.world.person("approver@example.com")
    made = make(stage, **{"from": "2027-03-01"})
    recurrences.at(stage.world, "2027-03-01 09:00")
    settle(stage)
    asking = stage.world.policy(ALWAYS, ask(group(person)))
    recurrences.at(stage.world, "2027-03-02 09:00")
    settle(stage)
    *_, held = recurrences.payouts(stage.world, made)
    assert held.state == "held"
    stage.world.decide(person, held.id)
    settle(stage)
    stage.world.archive_policy(asking)
    stage.world.policy(at_most(0), BLOCK)
    recurrences.at(stage.world, "2027-03-03 09:00")
    settle(stage)
    found = recurrences.payouts(stage.world, made)
    assert [row.state for row in found] == ["confirmed", "confirmed", "rejected"]
    assert "limit" in str(found[2].reason)
    assert events(stage, "mandate.run.missed") == []
    assert rent(stage) == 14
    agrees(stage)


def test_a_run_is_proved_offline_and_explained(stage: Stage) -> None:
    recurrences.at(stage.world, "2027-03-01 08:00")
    person = stage.world.person("approver@example.com")
    stage.world.policy(ALWAYS, ask(group(person)))
    made = make(stage, **{"from": "2027-03-01"})
    recurrences.at(stage.world, "2027-03-01 09:00")
    settle(stage)
    (held,) = recurrences.payouts(stage.world, made)
    stage.world.decide(person, held.id)
    settle(stage)
    recurrences.archive(stage.world, made)  # later: it was in force when it was signed
    proof = stage.unit(lambda unit: export_payout(unit, held.id))
    report = verify_payout(proof, stage.world.root)
    assert isinstance(report.requester, Standing)
    assert (report.requester.mandate_id, str(report.requester.run)) == (made, "2027-03-01")
    assert f"mandate 'rent' ({made}), its run of 2027-03-01; on record" in report.text()
    assert [each.by.user_id for each in report.approvals] == [person.user_id]
    told = stage.unit(lambda unit: explain(unit, held.id, stage.config, NEEDED))
    assert f"asked for by mandate {made}, its run of 2027-03-01, at" in told["words"][0]
    whole = json.loads(proof)
    for change in (
        {"amount": "8000000"},
        {"recipient": "0x" + "2b" * 20},
        {"externalId": f"recurring/{made}/20270302"},
    ):
        forged = {**whole, "payout": {**whole["payout"], "intent": {**whole["payout"]["intent"], **change}}}
        with pytest.raises(ProofBroken):
            verify_payout(canonical(forged), stage.world.root)
    with pytest.raises(ProofBroken):  # without the approval
        verify_payout(canonical({**whole, "decisions": []}), stage.world.root)
    cut = {**whole, "records": whole["records"][:-1]}
    with pytest.raises(ProofBroken):  # without what the approval, or the mandate, stands on
        verify_payout(canonical(cut), stage.world.root)


def test_a_pool_pays_and_a_wallet_without_funds_is_passed_over(stage: Stage) -> None:
    recurrences.at(stage.world, "2027-03-01 08:00")
    stage.new_wallet("payroll", dollars=0)
    full = stage.new_wallet("payroll")
    pool = stage.world.pool("payroll")
    made = make(stage, poolId=pool, memo="rent, March", **{"from": "2027-03-01"})
    recurrences.at(stage.world, "2027-03-01 09:00")
    settle(stage)
    (paid,) = recurrences.payouts(stage.world, made)
    assert (paid.state, paid.wallet_id, paid.pool_id) == ("confirmed", full, pool)
    assert rent(stage) == 7


def test_a_frozen_wallet_is_waited_for_as_long_as_the_mandate_says(stage: Stage) -> None:
    recurrences.at(stage.world, "2027-03-01 08:00")
    hot = stage.new_wallet()
    made = make(stage, walletId=hot, **{"from": "2027-03-01"})
    freeze = sa.text("UPDATE wallet SET frozen_reason = :why WHERE id = :id")
    stage.unit(lambda unit: unit.execute(freeze, {"why": "looked odd", "id": hot}))
    recurrences.at(stage.world, "2027-03-01 09:00")
    stage.run(2)
    (waiting,) = recurrences.shown(stage.world, made)["items"]
    assert (waiting["status"], "looked odd" in waiting["reason"]) == ("Due", True)
    recurrences.at(stage.world, "2027-03-01 11:01")
    stage.run(1)
    (missed,) = [each["run"] for each in events(stage, "mandate.run.missed")]
    assert "looked odd" in missed["reason"]
    assert recurrences.runs(stage.world, made) == [("2027-03-01", "Missed", None)]
    recurrences.at(stage.world, "2027-03-02 09:00")
    stage.run(2)
    stage.unit(lambda unit: unit.execute(freeze, {"why": None, "id": hot}))
    recurrences.at(stage.world, "2027-03-02 10:00")
    settle(stage)
    assert recurrences.runs(stage.world, made)[1:] == [("2027-03-02", "Made", "confirmed")]
    assert rent(stage) == 7
    stage.unit(lambda unit: unit.execute(freeze, {"why": "looked odd", "id": hot}))
    recurrences.at(stage.world, "2027-03-03 09:00")
    stage.run(1)
    recurrences.archive(stage.world, made)
    stage.unit(lambda unit: unit.execute(freeze, {"why": None, "id": hot}))
    recurrences.at(stage.world, "2027-03-03 09:05")
    settle(stage)
    assert recurrences.runs(stage.world, made)[2:] == [("2027-03-03", "Missed", None)]
    assert "archived" in events(stage, "mandate.run.missed")[1]["run"]["reason"]
    assert rent(stage) == 7


def test_archiving_withdraws_what_is_not_signed_and_ends_the_calendar(stage: Stage) -> None:
    recurrences.at(stage.world, "2027-03-01 08:00")
    person = stage.world.person("approver@example.com")
    stage.world.policy(ALWAYS, ask(group(person)))
    made = make(stage, **{"from": "2027-03-01"})
    recurrences.at(stage.world, "2027-03-01 09:00")
    settle(stage)
    recurrences.archive(stage.world, made)
    recurrences.at(stage.world, "2027-03-02 09:00")
    settle(stage)
    assert recurrences.runs(stage.world, made) == [("2027-03-01", "Made", "canceled")]
    assert recurrences.shown(stage.world, made)["next"] == []
    assert rent(stage) == 0


def test_what_nobody_decided_about_in_time_is_missed(stage: Stage) -> None:
    recurrences.at(stage.world, "2027-03-01 08:00")
    person = stage.world.person("approver@example.com")
    asking = {**ask(group(person)), "autoRejectTimeout": 60 * 24 * 20}
    stage.world.policy(ALWAYS, asking)
    made = make(stage, runsMax=1, **{"from": "2027-03-01"})
    recurrences.at(stage.world, "2027-03-01 09:00")
    settle(stage)
    recurrences.at(stage.world, "2027-03-08 11:02")
    settle(stage)
    assert recurrences.runs(stage.world, made) == [("2027-03-01", "Missed", "canceled")]
    (told,) = events(stage, "mandate.run.missed")
    assert "waited for too long" in told["run"]["reason"]
