"""A day's work from the command line, against a real server: what is asked, what is signed, what is said."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from outlay.cli.profile import Caller
from tests.cli.commands import PUBLIC_URL, outlay, profile_of, url_of
from tests.door import NETWORK, PAYER, RECIPIENT, TOKEN, Door, Who, fresh_id, open_door_now

APPROVER = ("Policies:Evaluations:Read", "Policies:Evaluations:Vote", "Policies:Read", "Wallets:Transfers:Read")
SHOWN = "0x1a1A1A1A1a1A1A1a1A1a1a1a1a1a1a1A1A1a1a1a"
"""The recipient, as people compare it."""


@dataclass(frozen=True, kw_only=True)
class Office:
    """A server with a policy that asks about more than 100 dollars, and who works with it."""

    door: Door
    wallet: str
    admin: Path  #: profiles
    bot: Path
    approver: Path
    approver_id: str

    def ask(self, *more: str, amount: str = "1250.50", external_id: str | None = None) -> Any:
        """Ask for a payout as the program would, and return it."""
        words = ("--recipient", RECIPIENT, "--asset", "USDC", "--wallet", self.wallet, "--amount", amount, *more)
        named = ("--external-id", external_id or fresh_id(), "--yes", "--json")
        return outlay(self.bot, "payouts", "create", *words, *named).document


def policy(approver: Who, limit: int) -> dict[str, Any]:
    """Return a policy that asks one person."""
    group = {"quorum": 1, "approvers": {"userId": {"in": [approver.user_id]}}}
    return {
        "name": "large payouts",
        "activityKind": "Wallets:Sign",
        "rule": {"kind": "TransactionAmountLimit", "configuration": {"limit": limit, "currency": "USD"}},
        "action": {"kind": "RequestApproval", "approvalGroups": [group], "autoRejectTimeout": 60},
    }


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    folder = tmp_path_factory.mktemp("office")
    with open_door_now(folder) as door:
        approver = door.person("treasury@example.com", APPROVER)
        bot = door.service_account("payouts bot", PAYER)
        admin = profile_of(door, door.admin, folder / "admin")
        (folder / "policy.json").write_text(json.dumps(policy(approver, 100)))
        outlay(admin, "policies", "create", str(folder / "policy.json"), "--yes").ok()
        yield Office(
            door=door,
            wallet=door.wallet("payouts")["id"],
            admin=admin,
            bot=profile_of(door, bot, folder / "bot"),
            approver=profile_of(door, approver, folder / "approver"),
            approver_id=approver.user_id,
        )


# Payouts


def test_a_payout_is_shown_before_it_is_asked_for(office: Office) -> None:
    words = ("payouts", "create", "--recipient", RECIPIENT, "--asset", "usdc", "--wallet", office.wallet)
    ran = outlay(office.bot, *words, "--amount", "1.5", typed="no\n")
    assert ran.code == 1 and ran.out == "" and "nothing was done" in ran.err
    assert "1.5 USDC" in ran.err and f"1,500,000 base units of {TOKEN}" in ran.err and SHOWN in ran.err
    assert outlay(office.bot, *words, "--amount", "1.5").code == 2, "nobody can be asked"
    assert outlay(office.bot, "payouts", "list", "--recipient", RECIPIENT, "--json").document["items"] == []
    ran = outlay(office.bot, *words, "--amount", "1.5", typed="yes\n")
    assert ran.code == 0 and "1.5 USDC" in ran.out and "ready" in ran.out


@pytest.mark.parametrize(
    ("amount", "exact"), [("12.34", "12340000"), ("0.000001", "1"), ("1000000", "1000000000000"), ("7.100", "7100000")]
)
def test_amounts_are_exact(office: Office, amount: str, exact: str) -> None:
    assert office.ask(amount=amount)["amount"] == exact


@pytest.mark.parametrize("amount", ["0", "-1", "1e3", "1,5", "0.0000001", "", "\uff11", "nan", " 1"])
def test_what_is_no_amount_asks_for_nothing(office: Office, amount: str) -> None:
    words = ("--recipient", RECIPIENT, "--asset", "USDC", "--wallet", office.wallet, f"--amount={amount}", "--yes")
    ran = outlay(office.bot, "payouts", "create", *words, "--external-id", "never")
    assert ran.code in (1, 2), ran
    assert outlay(office.bot, "payouts", "list", "--external-id", "never", "--json").document["items"] == []


def test_the_same_external_id_is_the_same_payout(office: Office) -> None:
    first = office.ask(external_id="invoice-7", amount="2")
    assert office.ask(external_id="invoice-7", amount="2")["id"] == first["id"]
    words = ("--recipient", RECIPIENT, "--asset", "USDC", "--wallet", office.wallet, "--external-id", "invoice-7")
    ran = outlay(office.bot, "payouts", "create", *words, "--amount", "3", "--yes", "--json")
    assert (ran.code, ran.out, ran.error["duplicate"]["id"]) == (1, "", first["id"])


def test_a_held_payout_says_what_is_next_and_who_may_take_it_back(office: Office) -> None:
    paid = office.ask()
    shown = outlay(office.bot, "payouts", "show", paid["id"]).ok()
    assert f"Next: outlay approvals show {paid['approvalId']}" in shown
    assert all(len(line) <= 80 for line in shown.splitlines())
    refused = outlay(office.admin, "payouts", "cancel", paid["id"])
    assert refused.code == 3 and f"outlay approvals deny {paid['approvalId']}" in refused.err
    assert "canceled; nothing was signed" in outlay(office.bot, "payouts", "cancel", paid["id"]).ok()
    over = outlay(office.bot, "payouts", "cancel", paid["id"])
    assert over.code == 1 and f"outlay explain {paid['id']}" in over.err


def test_lists_fold_in_a_narrow_terminal_and_are_whole(office: Office) -> None:
    paid = office.ask()
    for columns in (40, 80, 200):
        shown = outlay(office.bot, "payouts", "list", "--limit", "1", columns=columns).ok()
        assert paid["id"] in shown and SHOWN in shown and "1,250.5 USDC" in shown
    listed = outlay(office.bot, "payouts", "list", "--state", "held", "--limit", "2", "--json").document["items"]
    assert listed[0]["id"] == paid["id"] and len(listed) <= 2


# Approvals


def test_an_approval_is_read_in_full_and_signed(office: Office) -> None:
    paid = office.ask("--memo", "invoice 2041")
    approval = paid["approvalId"]
    assert approval in outlay(office.approver, "approvals", "list").ok()
    shown = outlay(office.approver, "approvals", "show", approval, "--json").document
    words = shown["words"]
    ran = outlay(office.approver, "approvals", "approve", approval, "--words", "other words", "--yes")
    assert ran.code == 1 and "nothing was signed" in ran.err
    ran = outlay(office.approver, "approvals", "approve", approval, "--reason", "checked", typed="no\n")
    assert ran.code == 1
    for told in (SHOWN, "1,250.5 USDC", "1250500000 base units", "invoice 2041", words, office.approver_id, "why held"):
        assert told in ran.err, told
    assert outlay(office.approver, "approvals", "show", approval, "--json").document["status"] == "Pending"
    ran = outlay(office.approver, "approvals", "approve", approval, "--words", words.upper(), typed="yes\n")
    assert "it is Approved" in ran.ok()
    assert outlay(office.bot, "payouts", "show", paid["id"], "--json").document["state"] == "ready"
    again = outlay(office.approver, "approvals", "deny", approval, "--reason", "late", "--yes")
    assert again.code == 1 and "it is decided: Approved" in again.err


def test_one_denial_ends_it(office: Office) -> None:
    paid = office.ask()
    ran = outlay(office.approver, "approvals", "deny", paid["approvalId"], "--reason", "nobody knows this", "--yes")
    assert "it is Denied" in ran.ok()
    assert "nobody knows this" in outlay(office.admin, "explain", paid["id"]).ok()


def test_who_may_not_vote_is_told_so(office: Office) -> None:
    paid = office.ask()
    ran = outlay(office.bot, "approvals", "approve", paid["approvalId"], "--yes", "--json")
    assert (ran.code, ran.out, ran.error["exitCode"]) == (3, "", 3)


# Policies


def test_a_policy_is_changed_after_its_difference_was_shown(
    office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "policy.json"
    found = outlay(office.admin, "policies", "list", "--json").document["items"][0]
    document = {**found, "rule": {**found["rule"], "configuration": {"limit": 90, "currency": "USD"}}}
    file.write_text(json.dumps(found))
    assert "nothing was done" in outlay(office.admin, "policies", "update", found["id"], str(file)).ok()
    file.write_text(json.dumps(document))
    ran = outlay(office.admin, "policies", "update", found["id"], str(file), typed="no\n")
    changed = [line for line in ran.err.splitlines() if line[:1] in "+-"]
    assert ran.code == 1 and changed == ['-      "limit": 100', '+      "limit": 90']
    assert "version 2" in outlay(office.admin, "policies", "update", found["id"], str(file), typed="yes\n").ok()
    shown = outlay(office.admin, "policies", "show", found["id"]).ok()
    assert '"limit": 90' in shown
    file.write_text(json.dumps(found))
    with monkeypatch.context() as patch:

        def elsewhere(*_: Any, **__: Any) -> None:
            patch.undo()
            other = tmp_path / "other.json"
            other.write_text(json.dumps({**document, "name": "Changed meanwhile"}))
            outlay(office.admin, "policies", "update", found["id"], str(other), "--yes").ok()

        patch.setattr(Caller, "confirm", elsewhere)
        ran = outlay(office.admin, "policies", "update", found["id"], str(file), "--yes")
    assert ran.code == 1 and "to version 3: nothing was done" in ran.err
    assert "Changed meanwhile" in outlay(office.admin, "policies", "show", found["id"]).ok()
    file.write_text(json.dumps({**document, "rule": {"kind": "Nonsense"}}))
    assert outlay(office.admin, "policies", "update", found["id"], str(file), "--yes").code == 1
    file.write_text("{")
    assert "not JSON" in outlay(office.admin, "policies", "create", str(file), "--yes").err


# People and programs


def test_a_person_is_invited_registers_and_is_vouched_for(office: Office, tmp_path: Path) -> None:
    made = outlay(office.admin, "users", "invite", "--email", "ops@example.com", "--json").document
    assert made["link"] == (f"{PUBLIC_URL}/dashboard/join#username=ops%40example.com&code={made['registrationCode']}")
    key = tmp_path / "ops.pem"
    words = ("--url", url_of(office.door), "--email", "ops@example.com", "--key-file", str(key))
    registered = outlay(None, "users", "register", *words, f"--code={made['registrationCode']}", "--json").document
    assert key.stat().st_mode & 0o777 == 0o600
    profile = tmp_path / "ops.toml"
    words = ("--url", url_of(office.door), "--username", "ops@example.com", "--key-file", str(key))
    outlay(profile, "login", *words, "--public-url", PUBLIC_URL).ok()
    user = made["userId"]
    assert outlay(office.admin, "users", "activate", user).code == 1, "nobody compared"
    wrong = outlay(office.admin, "users", "activate", user, "--fingerprint", "0" * 64)
    assert wrong.code == 1 and registered["fingerprint"] in wrong.err
    outlay(office.admin, "users", "activate", user, "--fingerprint", registered["fingerprint"]).ok()
    ((text,),) = office.door.rows("SELECT document FROM record ORDER BY seq DESC LIMIT 1")
    signed = json.loads(text)["evidence"]["payload"]
    assert signed == {"fingerprints": [registered["fingerprint"]]}, "what was compared is what is signed"
    assert registered["fingerprint"] in outlay(office.admin, "users", "show", user).ok()
    outlay(office.admin, "users", "deactivate", user).ok()
    assert outlay(profile, "freezes", "list").code == 3
    assert outlay(office.admin, "users", "remove", user).code == 2
    assert "ops@example.com is removed" in outlay(office.admin, "users", "remove", user, "--yes").ok()


def test_a_program_gets_key_token_and_permission_and_pays(office: Office, tmp_path: Path) -> None:
    words = [word for name in PAYER for word in ("--operation", name)]
    permission = outlay(office.admin, "permissions", "create", "--name", "payer", *words, "--json").document["id"]
    key, token = tmp_path / "bot.pem", tmp_path / "bot.token"
    words = ["--name", "second bot", "--new-key", str(key), "--new-token", str(token)]
    ran = outlay(office.admin, "service-accounts", "create", *words, "--json")
    account = ran.document["userInfo"]["userId"]
    assert token.read_text().strip() not in ran.out and token.read_text().count(".") == 2
    assert key.stat().st_mode & 0o777 == token.stat().st_mode & 0o777 == 0o600
    assert outlay(office.admin, "service-accounts", "create", *words).code == 2, "no file is written over"
    credential = ran.document["accessTokens"][0]["credId"]
    profile = tmp_path / "bot.toml"
    words = [
        "--url",
        url_of(office.door),
        "--token-file",
        str(token),
        "--key-file",
        str(key),
        "--public-url",
        PUBLIC_URL,
    ]
    outlay(profile, "login", *words, f"--credential={credential}").ok()
    assert outlay(profile, "payouts", "list").code == 3
    outlay(office.admin, "permissions", "assign", permission, account).ok()
    outlay(profile, "payouts", "list").ok()
    words = ["--recipient", RECIPIENT, "--asset", "native", "--base-units", "5", "--wallet", office.wallet, "--yes"]
    assert "0.000000000000000005 ETH" in outlay(profile, "payouts", "create", *words).ok()
    assert account in outlay(office.admin, "permissions", "show", permission).ok()
    outlay(office.admin, "permissions", "revoke", permission, account).ok()
    assert outlay(profile, "payouts", "list").code == 3
    assert outlay(office.admin, "permissions", "revoke", permission, account).code == 4
    outlay(office.admin, "service-accounts", "deactivate", account).ok()
    assert "off" in outlay(office.admin, "service-accounts", "show", account).ok()


# Wallets, pools, webhooks, settings, events


def test_wallets_and_pools_are_made_tagged_and_drained(office: Office) -> None:
    words = ("--network", NETWORK, "--name", "hot-2", "--tag", "europe")
    wallet = outlay(office.admin, "wallets", "create", *words, "--json").document["id"]
    outlay(office.admin, "wallets", "tag", wallet, "one", "two").ok()
    outlay(office.admin, "wallets", "untag", wallet, "one").ok()
    shown = outlay(office.admin, "wallets", "show", wallet, "--json").document
    assert sorted(shown["tags"]) == ["europe", "two"] and [each["symbol"] for each in shown["assets"]] == [
        "ETH",
        "USDC",
    ]
    words = ("--name", "europe", "--network", NETWORK, "--tag", "europe")
    pool = outlay(office.admin, "pools", "create", *words, "--json").document["id"]
    assert wallet in outlay(office.admin, "pools", "show", pool).ok()
    outlay(office.admin, "wallets", "drain", wallet, "--reason", "moved").ok()
    assert "moved" in outlay(office.admin, "wallets", "show", wallet).ok()
    outlay(office.admin, "wallets", "resume", wallet).ok()
    outlay(office.admin, "pools", "archive", pool).ok()
    assert outlay(office.admin, "wallets", "unfreeze", wallet, "--reason", "x").code == 1
    assert outlay(office.admin, "unfreeze", "--wallet", wallet, "--all", "--reason", "x").code == 2


def test_a_webhook_is_made_tried_and_given_a_new_secret(office: Office) -> None:
    words = ("--endpoint", "https://hooks.example.com/x", "--event", "wallet.transfer.confirmed")
    made = outlay(office.admin, "webhooks", "create", *words, "--json").document
    assert outlay(office.admin, "webhooks", "test", made["id"]).ok() == "taken\n"
    shown = outlay(office.admin, "webhooks", "show", made["id"]).ok()
    assert "https://hooks.example.com/x" in shown and made["secret"] not in shown
    rotated = outlay(office.admin, "webhooks", "rotate", made["id"], "--json").document
    assert rotated["secret"] != made["secret"]
    assert outlay(office.admin, "webhooks", "replay", made["id"]).code == 2
    assert "0 events" in outlay(office.admin, "webhooks", "replay", made["id"], "--failed").ok()
    outlay(office.admin, "webhooks", "disable", made["id"]).ok()
    outlay(office.admin, "webhooks", "remove", made["id"]).ok()
    assert outlay(office.admin, "webhooks", "show", made["id"]).code == 4


def test_events_are_followed_from_now_on_and_from_the_start(office: Office) -> None:
    office.ask()
    every = outlay(office.admin, "events", "tail", "--once", "--from-start", "--json").ok().splitlines()
    assert len(every) > 2 and all("kind" in json.loads(line) for line in every)
    behind = json.loads(every[-1])["cursor"]
    assert outlay(office.admin, "events", "tail", "--once", "--after", behind).ok() == ""
    assert outlay(office.admin, "events", "tail", "--once").ok() == ""
    paid = office.ask()
    told = outlay(office.admin, "events", "tail", "--once", "--payout", paid["id"]).ok()
    assert paid["id"] in told and "policy.approval.pending" in told


def test_reads_of_every_other_group_answer(office: Office) -> None:
    for words in (
        ("assets", "list"),
        ("audit", "state"),
        ("freezes", "list"),
        ("mandates", "list"),
        ("permissions", "list"),
        ("pools", "list"),
        ("service-accounts", "list"),
        ("settings", "show"),
        ("signers", "show"),
        ("users", "list"),
        ("wallets", "list"),
        ("wallets", "reconcile"),
        ("webhooks", "list"),
    ):
        text = outlay(office.admin, *words).ok()
        assert text and "None" not in text, words
        assert isinstance(outlay(office.admin, *words, "--json").document, dict)


# How it ends


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("payouts", "show", "xfr-00000-00000-0000000000000000"), 4),
        (("payouts", "list", "--state", "nonsense"), 2),
        (("payouts", "nonsense"), 2),
        (("nonsense",), 2),
        (("payouts", "list", "--recipient", "nobody"), 1),
        (("evidence", "verify", "/nonexistent", "--root", "x"), 2),
        (("audit", "verify", "/nonexistent"), 2),
        (("policies", "create", "/nonexistent", "--yes"), 1),
    ],
)
def test_what_goes_wrong_is_a_line_and_a_code(office: Office, words: tuple[str, ...], code: int) -> None:
    ran = outlay(office.admin, *words)
    assert ran.code == code, ran
    assert "Traceback" not in ran.err and 1 <= len(ran.err.strip().splitlines()) <= 2
    if words[0] in ("evidence", "audit"):
        return  # these print what they verify for themselves
    as_json = outlay(office.admin, *words, "--json")
    assert (as_json.code, as_json.out, as_json.error["exitCode"]) == (code, "", code)


def test_unreadable_answers_to_a_write_are_unknown_not_failed(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    from outlay.client import calls

    real = calls._OPENER.open

    def cut(request: Any, *arguments: Any, **named: Any) -> Any:
        answer = real(request, *arguments, **named)
        if request.full_url.endswith("/tags"):
            raise ConnectionResetError("hung up")
        return answer

    monkeypatch.setattr(calls._OPENER, "open", cut)
    ran = outlay(office.admin, "wallets", "tag", office.wallet, "late")
    assert ran.code == 5 and "look before you repeat it" in ran.err
    monkeypatch.undo()
    assert "late" in outlay(office.admin, "wallets", "show", office.wallet).ok(), "it had happened"


def start(office: Office, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "outlay", *words, "--profile", str(office.admin)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Tests that run in the background of a shell have Ctrl-C switched off, and would hand that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def test_nobody_reading_and_ctrl_c_are_quiet(office: Office) -> None:
    office.ask()
    tail = start(office, "events", "tail", "--from-start")
    assert tail.stdout is not None and tail.stdout.readline()
    tail.send_signal(2)
    _, told = tail.communicate(timeout=30)
    assert (tail.returncode, told) == (130, "")
    deaf = start(office, "events", "tail", "--from-start", "--json")
    assert deaf.stdout is not None and deaf.stderr is not None
    deaf.stdout.close()
    deadline = time.monotonic() + 30
    while deaf.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (deaf.returncode, deaf.stderr.read()) == (0, "")
    deaf.stderr.close()


def test_a_stack_trace_only_for_who_asks_for_one(office: Office, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "outlay", "payouts", "list", "--profile", str(tmp_path / "none")]
    for value, wanted in (("", False), ("1", True)):
        ran = subprocess.run(
            command, env={"OUTLAY_DEBUG": value}, capture_output=True, text=True, check=False, timeout=60
        )
        assert ("Traceback" in ran.stderr) == wanted
