"""Files of payouts over real HTTP and by the command line: checked, signed once, uploaded, followed, reported."""

import asyncio
import contextlib
import csv
import io
import json
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from outlay.actions.present_batches import batch_now
from outlay.cli import batches
from outlay.core.seams import SECOND
from outlay.engine.admit_batches import AdmitBatches
from outlay.evidence.canonical import canonical
from outlay.evidence.http_signature import sign_message
from outlay.evidence.merkle import digest_of, leaf
from outlay.web.body import BATCH_BODY_MAX
from tests.cli.commands import outlay, profile_of
from tests.door import NETWORK, PAYER, RECIPIENT, Answer, Door, Who, check_refusal, fresh_id, open_door

PATH = "/v1/batches"


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with open_door(tmp_path_factory.mktemp("door")) as opened:
        yield opened


@pytest.fixture(scope="module")
def bot(door: Door) -> Who:
    return door.service_account("payouts bot", PAYER)


@pytest.fixture(scope="module")
def wallet(door: Door, bot: Who) -> str:
    made = door.wallet("payouts")
    door.clock.instant += 2 * SECOND
    return str(made["id"])


def cells(**changes: Any) -> dict[str, Any]:
    given = {"externalId": fresh_id(), "network": NETWORK, "asset": "USDC", "recipient": RECIPIENT, "amount": "1000"}
    return {name: value for name, value in {**given, **changes}.items() if value is not None}


def paper(rows: list[dict[str, Any]], wallet: str, **changes: Any) -> dict[str, Any]:
    digest = digest_of([leaf(canonical(each)) for each in rows])
    return {"name": f"file {fresh_id()}", "walletId": wallet, "digest": digest, "count": len(rows), **changes}


def upload(door: Door, who: Who, batch_id: str, rows: Any, first: int = 0) -> Answer:
    return door.call("PUT", f"{PATH}/{batch_id}/rows", {"from": first, "rows": rows}, token=who.token)


def admit(door: Door) -> None:
    """Run the engine's step until there is nothing left to do."""
    gate = door.gate
    step = AdmitBatches(gate.db, gate.clock, gate.entropy, gate.config, gate.price_of)

    async def run() -> None:
        while await step.step():
            pass

    asyncio.run(run())


@contextlib.contextmanager
def engine(door: Door) -> Iterator[None]:
    """Admit rows beside the calls, as the server's own loop does."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(0.05):
            admit(door)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


# The routes


def test_a_file_over_http_from_its_check_to_its_report(door: Door, bot: Who, wallet: str) -> None:
    rows = [cells(memo="=1+1"), cells(asset="native", memo="M\u00e4rz"), cells(amount="5")]
    checked = door.call("POST", f"{PATH}/check", {"walletId": wallet, "rows": rows}, token=bot.token).ok()
    assert [each["result"] for each in checked["rows"]] == ["new"] * 3
    assert [(each["asset"], each["count"], each["amount"]) for each in checked["totals"]] == [
        ("USDC", 2, "1005"),
        ("native", 1, "1000"),
    ]
    made = door.write(bot, "POST", PATH, paper(rows, wallet)).ok()
    assert upload(door, bot, made["id"], rows[:2]).ok()["uploaded"] == 2
    assert upload(door, bot, made["id"], rows[2:], first=2).ok()["state"] == "admitting"
    assert door.get(f"{PATH}/{made['id']}", bot).ok()["states"] == {"waiting": 3}
    admit(door)
    found = door.get(f"{PATH}/{made['id']}", bot).ok()
    assert (found["state"], found["states"], found["admitted"]) == ("done", {"ready": 3}, 3)
    listed = door.get(f"{PATH}/{made['id']}/rows?limit=2", bot).ok()
    assert ([each["state"] for each in listed["items"]], listed["next"]) == (["ready", "ready"], 2)
    rest = door.get(f"{PATH}/{made['id']}/rows?from=2&state=ready", bot).ok()
    assert [each["externalId"] for each in rest["items"]] == [rows[2]["externalId"]]
    assert door.get(f"{PATH}/{made['id']}/rows?state=held", bot).ok() == {"items": []}
    paid = door.get(f"/v1/payouts?batchId={made['id']}", bot).ok()["items"]
    assert {each["id"] for each in paid} == {each["payoutId"] for each in (*listed["items"], *rest["items"])}
    assert door.get(f"{PATH}?state=done&limit=1", bot).ok()["items"][0]["id"] == made["id"]
    again = door.call("POST", f"{PATH}/check", {"walletId": wallet, "rows": rows}, token=bot.token).ok()
    assert ([each["result"] for each in again["rows"]], again["totals"]) == (["same"] * 3, [])
    changed = [{**rows[0], "amount": "7"}]
    conflict = door.call("POST", f"{PATH}/check", {"walletId": wallet, "rows": changed}, token=bot.token).ok()
    assert conflict["rows"] == [{"index": 0, "result": "conflict", "valueUsd": "0.00000700"}]
    report = door.get(f"{PATH}/{made['id']}/report.csv", bot)
    assert report.headers["content-type"] == "text/csv; charset=utf-8"
    lines = list(csv.reader(io.StringIO(report.raw.decode())))
    assert (len(lines), lines[1][8], lines[1][6], lines[2][8]) == (4, "'=1+1", "0.001", "M\u00e4rz")


def test_one_http_message_submits_a_file(door: Door, bot: Who, wallet: str) -> None:
    rows = [cells()]
    raw = json.dumps(paper(rows, wallet)).encode()
    headers = sign_message(
        bot.key,
        bot.credential_id,
        method="POST",
        target_uri="http://localhost:8000" + PATH,
        body=raw,
        created=door.clock.now() // SECOND,
        nonce=secrets.token_urlsafe(18),
    )
    made = door.send("POST", PATH, raw, {"content-type": "application/json", **headers}).ok()
    upload(door, bot, made["id"], rows).ok()
    admit(door)
    assert door.get(f"{PATH}/{made['id']}", bot).ok()["states"] == {"ready": 1}


def test_what_is_wrong_is_named(door: Door, bot: Who, wallet: str) -> None:
    rows = [cells()]
    good = paper(rows, wallet)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"digest": "x"}, "digest"),
        ({"count": 0}, "count"),
        ({"count": 100_001}, "count"),
        ({"name": ""}, "name"),
        ({"poolId": "pool-00000-00000-0000000000000000"}, "walletId"),
        ({"walletId": None}, "walletId"),
        ({"more": 1}, "more"),
    ]
    for change, field in wrong:
        answer = door.write(bot, "POST", PATH, {**good, **change})
        check_refusal(answer)
        assert (answer.status, answer.field) == (400, field), change
    assert door.write(bot, "POST", PATH, {**good, "walletId": "wa-00000-00000-0000000000000000"}).status == 404
    made = door.write(bot, "POST", PATH, good).ok()
    before = door.stored()
    bad: list[tuple[Any, int, str]] = [
        ([], 0, "rows"),
        (rows * 1001, 0, "rows"),
        (rows, -1, "from"),
        (rows, 100_000, "from"),
        ([cells(amount="1.5")], 0, "rows[0].amount"),
        ([*rows, cells(recipient="0x1")], 0, "rows[1].recipient"),
        ([cells(network="Ethereum")], 0, "rows[0].network"),
        ([cells(extra="1")], 0, "rows[0]"),
        ([cells(asset=None)], 0, "rows[0].asset"),
        ([cells(memo="x" * 201)], 0, "rows[0].memo"),
    ]
    for given, first, field in bad:
        answer = upload(door, bot, made["id"], given, first)
        check_refusal(answer)
        assert (answer.status, answer.field) == (400, field), (given[:1], answer.raw)
    other = door.service_account(f"bot {fresh_id()}", PAYER)
    assert [upload(door, other, made["id"], rows).status, upload(door, bot, made["id"], rows, 1).status] == [403, 409]
    assert door.call("PUT", f"{PATH}/{made['id']}/rows", {"rows": rows}).status == 401
    seen = [door.get(f"{PATH}/{made['id']}/rows?{query}", bot).field for query in ("from=x", "state=x", "limit=0")]
    assert seen == ["from", "state", "limit"]
    after = door.stored()
    assert after["submission"] == before["submission"] and after["submission_row"] == before["submission_row"]
    door.write(bot, "POST", f"{PATH}/{made['id']}/cancel").ok()


def test_a_thousand_of_the_longest_rows_fit_and_more_bytes_do_not(door: Door, bot: Who, wallet: str) -> None:
    rows = [cells(memo="\U0001f9e7" * 40, amount="9" * 77, externalId=f"{at:0>50}") for at in range(1000)]
    made = door.write(bot, "POST", PATH, paper(rows, wallet)).ok()
    raw = json.dumps({"rows": rows}).encode()
    answer = door.call("PUT", f"{PATH}/{made['id']}/rows", raw.ljust(BATCH_BODY_MAX + 1), token=bot.token)
    assert (answer.status, answer.code) == (413, "body_too_large")
    assert upload(door, bot, made["id"], rows).ok()["state"] == "admitting"
    door.write(bot, "POST", f"{PATH}/{made['id']}/cancel").ok()


# The command line


def written(folder: Path, lines: list[str], name: str = "payroll.csv") -> str:
    path = folder / name
    path.write_text("\n".join(["reference,recipient,network,asset,amount,memo", *lines]) + "\n")
    return str(path)


@pytest.fixture
def profile(door: Door, bot: Who, tmp_path: Path) -> Path:
    folder = tmp_path / "profile"
    folder.mkdir()
    return profile_of(door, bot, folder)


def test_three_hundred_rows_from_a_file_to_a_report(door: Door, wallet: str, profile: Path, tmp_path: Path) -> None:
    name = fresh_id()
    file = written(tmp_path, [f"{name}-{at},{RECIPIENT},{NETWORK},USDC,0.{at + 1:03d},m{at}" for at in range(300)])
    checked = outlay(profile, "batches", "check", file, "--wallet", wallet, "--json").document
    assert (checked["rows"], checked["results"], checked["problemCount"]) == (300, {"new": 300}, 0)
    assert checked["totals"][0]["amount"] == str(sum(range(1, 301)) * 1000)
    with engine(door):
        made = outlay(profile, "batches", "submit", file, "--wallet", wallet, "--yes", "--json").document
    assert (made["state"], made["states"]) == ("done", {"ready": 300})
    # Run again, it is the same batch, and nothing is asked for twice.
    again = outlay(profile, "batches", "submit", file, "--wallet", wallet, "--yes", "--json").document
    assert (again["id"], again["states"]) == (made["id"], {"ready": 300})
    assert made["id"] in outlay(profile, "batches", "list").ok()
    assert "ready" in outlay(profile, "batches", "show", made["id"]).ok()
    out = tmp_path / "report.csv"
    outlay(profile, "batches", "report", made["id"], "--out", str(out)).ok()
    with out.open(newline="") as report:
        lines = list(csv.DictReader(report))
    assert [each["reference"] for each in lines] == [f"{name}-{at}" for at in range(300)]
    assert {each["state"] for each in lines} == {"ready"}
    each = outlay(profile, "batches", "report", made["id"], "--format", "jsonl").ok().splitlines()
    assert json.loads(each[299])["externalId"] == f"{name}-299"


def test_a_bad_file_is_told_row_by_row_and_asks_for_nothing(
    door: Door, wallet: str, profile: Path, tmp_path: Path
) -> None:
    before = door.stored()["submission"]
    file = written(tmp_path, [f'a,{RECIPIENT},{NETWORK},USDC,"1,5",', f"a,0x12,{NETWORK},DOGE,1,"])
    ran = outlay(profile, "batches", "submit", file, "--wallet", wallet, "--yes")
    assert ran.code == 1
    for said in ("comma", "reference of row 2", "40 hexadecimal", "DOGE is not listed"):
        assert said in ran.out
    assert outlay(profile, "batches", "check", file, "--wallet", wallet).code == 1
    assert outlay(profile, "batches", "check", str(tmp_path / "none.csv"), "--wallet", wallet).code != 0
    assert outlay(profile, "batches", "check", file).code in (1, 2)
    good = written(tmp_path, [f"{fresh_id()},{RECIPIENT},{NETWORK},USDC,1,"], "good.csv")
    assert outlay(profile, "batches", "submit", good, "--wallet", wallet).code == 2  # nobody can be asked
    assert door.stored()["submission"] == before


def test_an_upload_that_broke_off_goes_on(door: Door, bot: Who, wallet: str, profile: Path, tmp_path: Path) -> None:
    """As after the kill of the command: the same file under the same name is the same batch."""
    name = fresh_id()
    file = written(tmp_path, [f"{name}-{at},{RECIPIENT},{NETWORK},USDC,1," for at in range(5)], f"{name}.csv")
    rows = [cells(externalId=f"{name}-{at}", amount="1000000") for at in range(5)]
    made = door.write(bot, "POST", PATH, paper(rows, wallet, name=f"{name}.csv")).ok()
    upload(door, bot, made["id"], rows[:3]).ok()
    with engine(door):
        again = outlay(profile, "batches", "submit", file, "--wallet", wallet, "--yes", "--json").document
    assert (again["id"], again["states"]) == (made["id"], {"ready": 5})


def test_a_file_that_is_canceled_while_it_is_followed_is_no_success(
    door: Door, wallet: str, profile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow = batches._follow

    def canceled_first(caller: Any, made: dict[str, Any]) -> dict[str, Any]:
        outlay(profile, "batches", "cancel", made["id"], "--yes").ok()
        return follow(caller, made)

    monkeypatch.setattr(batches, "_follow", canceled_first)
    file = written(tmp_path, [f"{fresh_id()},{RECIPIENT},{NETWORK},USDC,1,"])
    ran = outlay(profile, "batches", "submit", file, "--wallet", wallet, "--yes", "--json")
    assert (ran.code, ran.document["state"]) == (1, "canceled")
    admit(door)
    out = tmp_path / "report.csv"
    assert outlay(profile, "batches", "report", ran.document["id"], "--out", str(out), "--json").document["rows"] == 0


def test_the_words_of_a_file_are_worked_out_here(
    door: Door, bot: Who, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    approver = door.person("approver@example.com", ("Policies:Evaluations:Read", "Policies:Evaluations:Vote", PAYER[2]))
    paying = door.wallet("asked")["id"]
    policy = {
        "name": "one looks at files",
        "activityKind": "Wallets:Sign",
        "rule": {"kind": "AlwaysTrigger", "configuration": {}},
        "action": {
            "kind": "RequestApproval",
            "approvalGroups": [{"quorum": 1, "approvers": {"userId": {"in": [approver.user_id]}}}],
            "per": "batch",
        },
        "filters": {"walletTags": {"hasAny": ["asked"]}},
    }
    door.write(door.admin, "POST", "/v2/policies", policy).ok()
    rows = [cells(), cells()]
    made = door.write(bot, "POST", PATH, paper(rows, paying)).ok()
    upload(door, bot, made["id"], rows).ok()
    admit(door)
    folder = tmp_path / "approver"
    folder.mkdir()
    mine = profile_of(door, approver, folder)
    words = outlay(mine, "batches", "show", made["id"], "--json").document["decision"]["words"]
    ran = outlay(mine, "batches", "decide", made["id"], "approve", "--words", "other words", "--yes")
    assert ran.code == 1 and "nothing was signed" in ran.err
    # A server that shows one file and asks about another.
    told = batch_now

    def another(*given: Any, **more: Any) -> dict[str, Any]:
        return {**told(*given, **more), "digest": "0" * 64}

    with monkeypatch.context() as patched:
        patched.setattr("outlay.actions.present_batches.batch_now", another)
        for command in (("show", made["id"]), ("decide", made["id"], "approve", "--yes")):
            ran = outlay(mine, "batches", *command)
            assert ran.code != 0 and "do not decide" in ran.err
    assert door.get(f"{PATH}/{made['id']}", bot).ok()["states"] == {"held": 2}
    outlay(mine, "batches", "decide", made["id"], "approve", "--words", words.upper(), "--yes").ok()
    admit(door)
    assert door.get(f"{PATH}/{made['id']}", bot).ok()["states"] == {"ready": 2}


def test_a_file_is_canceled(door: Door, bot: Who, wallet: str, profile: Path) -> None:
    made = door.write(bot, "POST", PATH, paper([cells()], wallet)).ok()
    assert "canceled" in outlay(profile, "batches", "cancel", made["id"], "--yes").ok()
    assert outlay(profile, "batches", "cancel", made["id"], "--yes").code == 1
    assert outlay(profile, "batches", "show", "bat-00000-00000-0000000000000000").code == 4
