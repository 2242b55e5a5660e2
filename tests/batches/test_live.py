"""A long file at a whole deployment: server, signer, chain; the server is killed while it admits rows."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from outlay.engine.admit_batches import GROUP
from tests.cli.commands import outlay
from tests.world import NETWORK, Identity, World, until

ROWS = 10_000
PAID = 20
"""Rows that there is money for."""


def written(folder: Path) -> Path:
    path = folder / "payroll.csv"
    with path.open("w") as file:
        file.write("reference,recipient,network,asset,amount,memo\n")
        for at in range(ROWS):
            file.write(f"salary-{at},0x{at + 1:040x},{NETWORK},USDC,1,\n")
    return path


def profile_of(world: World, who: Identity, folder: Path) -> Path:
    (folder / "key.pem").write_text(who.private_key)
    (folder / "token").write_text(who.token)
    path = folder / "profile.toml"
    told = ("--url", world.url, "--token-file", str(folder / "token"), "--key-file", str(folder / "key.pem"))
    outlay(path, "login", *told, f"--credential={who.credential_id}", "--public-url", world.url).ok()
    return path


@pytest.mark.ci
def test_ten_thousand_rows_are_each_one_payout_whatever_dies(tmp_path: Path) -> None:
    folder = tmp_path / "world"
    folder.mkdir()
    with World.open(folder, preset="none") as world:
        operations = ("Wallets:Read", "Wallets:Transfers:Create", "Wallets:Transfers:Read", "Pools:Read")
        bot = world.service_account("payouts bot", operations)
        wallet = world.wallet("payouts", dollars=PAID * 10**6)["id"]
        file, profile = written(tmp_path), profile_of(world, bot, tmp_path)
        killed = threading.Thread(target=kill_in_the_middle, args=(world,))
        killed.start()
        began = time.monotonic()
        first = outlay(profile, "batches", "submit", str(file), "--wallet", wallet, "--yes", "--json")
        killed.join()
        again = outlay(profile, "batches", "submit", str(file), "--wallet", wallet, "--yes", "--json").document
        print(f"{ROWS} rows in {time.monotonic() - began:.1f} s; the first command ended with {first.code}")
        assert (again["state"], again["admitted"], again["refused"]) == ("done", ROWS, 0)
        (found,) = world.rows("SELECT count(*) AS n, count(DISTINCT external_id) AS names FROM transfer")
        assert (found["n"], found["names"]) == (ROWS, ROWS)
        assert len(world.rows("SELECT 1 FROM submission")) == 1

        def confirmed() -> list[Any]:
            return world.rows("SELECT recipient FROM transfer WHERE state = 'confirmed'")

        until(lambda: len(confirmed()) == PAID, "all there is money for", timeout_s=120)
        assert len({each["recipient"] for each in confirmed()}) == PAID


def kill_in_the_middle(world: World) -> None:
    """Kill the server once some rows are admitted and others are not, and start it again."""

    def admitted() -> int:
        found = world.rows("SELECT admitted FROM submission")
        return int(found[0]["admitted"]) if found else 0

    until(lambda: GROUP <= admitted() < ROWS, "the middle of the file", timeout_s=240)
    world.kill()
    world.start()
