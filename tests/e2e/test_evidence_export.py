"""The proof of a payout from a live server: exported, checked by the command and by the single file."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.world import USDC, World

RECIPIENT = "0x" + "5e" * 20


@pytest.fixture(scope="module")
def paid(world: World) -> Any:
    """Return a payout that a person approved and the chain has executed."""
    approver = world.person("proof.approver@example.com")
    world.watch("proved", {"userId": {"in": [approver.user_id]}})
    wallet = world.wallet("proved", tags=("proved",))
    bot = world.service_account("proved payouts bot")
    transfer = world.pay(bot, wallet, RECIPIENT, 5 * USDC, "proof-1", contract=world.token)
    assert transfer["status"] == "Pending"
    assert read(world, bot.token, transfer["id"])[0] == 403  # the records tell of more than payouts
    assert read(world, world.admin.token, transfer["id"])[0] == 412
    approval = world.admin.sdk.wallets.get_transfer(wallet["id"], transfer["id"])["approvalId"]
    approver.sdk.policies.create_approval_decision(approval, {"value": "Approved", "reason": "as agreed"})
    return world.wait_for(transfer, "Confirmed")


def read(world: World, token: str, transfer_id: str) -> tuple[int, bytes]:
    request = urllib.request.Request(
        f"{world.url}/v1/evidence/transfers/{transfer_id}", headers={"authorization": f"Bearer {token}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False, timeout=60)


def outlay(*words: str) -> subprocess.CompletedProcess[str]:
    return run("-m", "outlay", "evidence", *words)


def test_a_payout_is_proved_away_from_the_server(world: World, paid: Any, tmp_path: Path) -> None:
    token, proof, program = tmp_path / "token", tmp_path / "proof.json", tmp_path / "outlay_verify.py"
    token.write_text(world.admin.token)
    root = world.made["rootFingerprint"]
    asked = ("export", paid["id"], "--url", world.url, "--token-file", str(token))
    exported = outlay(*asked, "--out", str(proof))
    assert exported.returncode == 0, exported.stderr
    assert proof.stat().st_mode & 0o777 == 0o600
    assert outlay(*asked).stdout.encode() == proof.read_bytes() == read(world, world.admin.token, paid["id"])[1]

    told = outlay("verify", str(proof), "--root", root)
    assert told.returncode == 0, told.stdout + told.stderr
    for said in (paid["txHash"], "5 USDC", "proof.approver@example.com", 'saying "as agreed"', "proved payouts bot"):
        assert said in told.stdout
    program.write_text(outlay("verifier").stdout)
    alone = run(str(program), "--root", root, str(proof))
    assert (alone.returncode, alone.stdout) == (0, told.stdout), alone.stderr


def test_a_changed_proof_is_refused_by_both(world: World, paid: Any, tmp_path: Path) -> None:
    token, wrong, program = tmp_path / "token", tmp_path / "wrong.json", tmp_path / "outlay_verify.py"
    token.write_text(world.admin.token)
    proof = outlay("export", paid["id"], "--url", world.url, "--token-file", str(token)).stdout
    program.write_text(outlay("verifier").stdout)
    wrong.write_text(proof.replace(RECIPIENT, "0x" + "66" * 20))
    assert wrong.read_text() != proof
    root = world.made["rootFingerprint"]
    for ran in (outlay("verify", str(wrong), "--root", root), run(str(program), "--root", root, str(wrong))):
        assert ran.returncode == 1
        assert "FAIL requester" in ran.stdout
        assert "THE PAYOUT IS NOT PROVED" in ran.stdout


def test_what_cannot_be_exported_is_said(world: World, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(world.admin.token)
    unknown = outlay("export", "xfr-00000-00000-0000000000000000", "--url", world.url, "--token-file", str(token))
    assert unknown.returncode == 4
    assert "no such transfer" in unknown.stderr
    status, body = read(world, world.admin.token, "xfr-00000-00000-0000000000000000")
    assert (status, json.loads(body)["error"]["code"]) == (404, "not_found")
