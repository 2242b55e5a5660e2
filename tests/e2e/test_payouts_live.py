"""Payouts in our own words on a live server: as the how-to says, down to the chain and the offline proof."""

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from outlay.client import ApiError, Client
from tests import tools
from tests.world import USDC, Identity, World, until

PAGE = (tools.ROOT / "docs/how-to/pay-with-one-signed-request.md").read_text()
RECIPIENT = "0x" + "6b" * 20


def snippets(kind: str) -> list[str]:
    return re.findall(rf"^```{kind} runnable\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def bot(world: World) -> Identity:
    return world.service_account("one-call payouts bot")


@pytest.fixture(scope="module")
def wallet(world: World, bot: Identity) -> Any:
    return world.wallet("one call", tags=("one-call",))


def names(world: World, bot: Identity, wallet: Any) -> dict[str, Any]:
    return {
        "URL": world.url,
        "CREDENTIAL": bot.credential_id,
        "KEY_PEM": bot.private_key,
        "TOKEN": bot.token,
        "WALLET": wallet["id"],
        "RECIPIENT": RECIPIENT,
    }


def confirmed(client: Client, payout_id: str) -> dict[str, Any]:
    def read() -> dict[str, Any] | None:
        found = client.read(f"/v1/payouts/{payout_id}")
        assert found["state"] not in ("failed", "rejected"), found
        return found if found["state"] == "confirmed" else None

    paid: dict[str, Any] = until(read, f"{payout_id} to be confirmed")
    return paid


def test_the_python_of_the_page_pays_and_the_proofs_hold(
    world: World, bot: Identity, wallet: Any, tmp_path: Path
) -> None:
    known = names(world, bot, wallet)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        for code in snippets("python"):
            exec(code, known)
    assert out.getvalue().split("\n")[:2] == ["ready", "salary-0 ready"]
    client, single, batch = known["client"], known["payout"], known["answer"]
    ids = [single["id"], *(each["payout"]["id"] for each in batch["items"])]
    for each in ids:
        paid = confirmed(client, each)
        assert paid["txHash"].startswith("0x")
    assert world.chain.token_balance(world.token, RECIPIENT) == (25 + 3) * USDC
    assert client.pay_batch([item_of(world, wallet, number) for number in range(3)])["id"] == batch["id"]
    root, token = world.made["rootFingerprint"], tmp_path / "token"
    token.write_text(world.admin.token)
    program = tmp_path / "outlay_verify.py"
    program.write_text(outlay("verifier").stdout)
    for each in (ids[0], ids[2]):
        proof = tmp_path / f"{each}.json"
        exported = outlay("export", each, "--url", world.url, "--token-file", str(token), "--out", str(proof))
        assert exported.returncode == 0, exported.stderr
        told = outlay("verify", str(proof), "--root", root)
        assert told.returncode == 0, told.stdout + told.stderr
        assert "one-call payouts bot" in told.stdout
        ran = [sys.executable, str(program), "--root", root, str(proof)]
        alone = subprocess.run(ran, capture_output=True, text=True, check=False, timeout=60)
        assert (alone.returncode, alone.stdout) == (0, told.stdout), alone.stderr
    assert "Invoice 2041" in (tmp_path / f"{ids[0]}.json").read_text()
    row = json.loads((tmp_path / f"{ids[2]}.json").read_text())["payout"]["row"]
    assert (row["index"], row["count"], row["item"]["externalId"]) == (1, 3, "salary-1")


def item_of(world: World, wallet: Any, number: int) -> dict[str, Any]:
    return {
        "externalId": f"salary-{number}",
        "walletId": wallet["id"],
        "asset": "USDC",
        "recipient": RECIPIENT,
        "amount": str(USDC),
    }


def outlay(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "outlay", "evidence", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.ci
def test_the_shell_of_the_page_pays(world: World, bot: Identity, wallet: Any, tmp_path: Path) -> None:
    missing = [program for program in ("bash", "curl", "openssl") if shutil.which(program) is None]
    assert not missing, f"the page's commands need {missing}: install them, or run `make test`, which leaves this out"
    (tmp_path / "key.pem").write_text(bot.private_key)
    known = {name: value for name, value in names(world, bot, wallet).items() if name != "KEY_PEM"}
    (code,) = snippets("sh")

    def pay() -> dict[str, Any] | None:
        ran = subprocess.run(
            ["bash", "-euo", "pipefail"],
            input=code,
            cwd=tmp_path,
            env={**os.environ, **known, "KEY_FILE": "key.pem"},
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert ran.returncode == 0, ran.stderr
        answer: dict[str, Any] = json.loads(ran.stdout)
        if "error" in answer:  # a record was made within the same second
            assert answer["error"]["code"] == "head_moved", answer
            return None
        return answer

    made = until(pay, "a second without changes")
    assert (made["externalId"], made["amount"]) == ("invoice-2042", str(USDC))
    client = Client(world.url, credential_id=bot.credential_id, private_key=bot.private_key, token=bot.token)
    assert confirmed(client, made["id"])["batchId"] if "batchId" in made else True


def test_the_client_signs_again_where_records_moved_on(world: World, bot: Identity, wallet: Any) -> None:
    for token in (bot.token, ""):
        client = Client(world.url, credential_id=bot.credential_id, private_key=bot.private_key, token=token)
        for number in range(2):
            made = client.pay(
                external_id=f"moved-{bool(token)}-{number}",
                wallet_id=wallet["id"],
                asset="native",
                recipient=RECIPIENT,
                amount="1",
                priority="Fast",
            )
            assert made["state"] == "ready"
            world.service_account(f"somebody else {time.monotonic()}", None)
    with pytest.raises(ApiError, match="is not listed"):
        client.pay(external_id="x", wallet_id=wallet["id"], asset="DOGE", recipient=RECIPIENT, amount="1")


def test_every_route_of_the_page_is_described(world: World) -> None:
    described = Client(world.url, credential_id="", private_key="").read("/openapi.json")
    for path, item in described["paths"].items():
        if path.startswith("/v1/payouts"):
            for method, operation in item.items():
                content = operation["responses"]["200"]["content"]["application/json"]
                assert content["example"], (method, path)
    single = described["paths"]["/v1/payouts"]["post"]
    assert {"httpSignature": []} in single["security"]
    assert single["requestBody"]["content"]["application/json"]["example"]["externalId"]
    check: Callable[[str], bool] = described["components"]["securitySchemes"].__contains__
    assert check("httpSignature")
