"""A running deployment loses things: an older database, no database, no journal; and people let go what was stopped."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests import tools
from tests.recovery.copies import copy_database
from tests.world import USDC, Identity, World, until

AMOUNT = 3 * USDC


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World.open(tmp_path_factory.mktemp("world"), preset="none") as opened:
        yield opened


@pytest.fixture(scope="module")
def bot(world: World) -> Identity:
    return world.service_account("payouts bot")


def recipient() -> str:
    return "0x" + os.urandom(20).hex()


def database(world: World) -> Path:
    return world.deployment.directory / "data" / "outlay.db"


def lose(*paths: Path) -> None:
    for path in paths:
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)


def outlay(world: World, *words: str, signed: bool = True, code: int = 0) -> str:
    """Run a command as the admin and return what it printed."""
    folder = world.deployment.directory.parent
    token, key = folder / "admin.token", folder / "admin.pem"
    token.write_text(world.admin.token)
    key.write_text(world.admin.private_key)
    options = ["--url", world.url, "--token-file", str(token)]
    if signed:
        options += ["--key-file", str(key), f"--credential={world.admin.credential_id}"]
    return run(*words, *options, code=code)


def run(*words: str, code: int = 0) -> str:
    command = [sys.executable, "-m", "outlay", *words]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == code, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


def come_back(world: World) -> None:
    """Start the server on what is left, and log in again."""
    world.start()
    world.admin = world.log_in(replace(world.admin, username="admin@localhost"))


def agrees(world: World) -> str:
    """Wait until ledger, journal and chain agree, as the command says it."""
    tools.mine(world.chain.url, 1)

    def said() -> str:
        text = outlay(world, "wallets", "reconcile", signed=False, code=0)
        return text if "arriving" not in text and "settl" not in text.replace("settled", "") else ""

    return str(until(said, "a quiet comparison"))


def pay(world: World, payer: Identity, wallet: Any, to: str, name: str) -> Any:
    return world.pay(payer, wallet, to, AMOUNT, name, contract=world.token)


@pytest.mark.parametrize("loss", [pytest.param("older", marks=pytest.mark.long), "none"])
def test_a_database_that_was_lost_comes_back_from_the_signer(world: World, bot: Identity, loss: str) -> None:
    wallet = world.wallet(f"lost {loss}")
    paid = {f"{loss}-{number}": recipient() for number in range(3)}
    made = {"before": pay(world, bot, wallet, paid[f"{loss}-0"], f"{loss}-0")}
    world.wait_for(made["before"], "Confirmed")
    copy = database(world).with_name(f"{loss}.copy")
    copy_database(database(world), copy)
    made["after"] = pay(world, bot, wallet, paid[f"{loss}-1"], f"{loss}-1")
    world.wait_for(made["after"], "Confirmed")
    with world.no_blocks():
        made["under way"] = pay(world, bot, wallet, paid[f"{loss}-2"], f"{loss}-2")
        world.wait_for(made["under way"], "Broadcasted")
        world.kill()
    lose(database(world))
    if loss == "older":
        copy_database(copy, database(world))
    come_back(world)
    payer = bot
    if loss == "none":
        (file,) = (world.deployment.directory / "secrets" / "tokens").iterdir()
        assert file.stat().st_mode & 0o777 == 0o600
        token = file.read_text()
        payer = replace(
            bot, token=token, sdk=world.client(token, credential_id=bot.credential_id, private_key=bot.private_key)
        )
    again = [pay(world, payer, wallet, to, name) for name, to in paid.items()]
    assert [each["id"] for each in again] == [each["id"] for each in made.values()]
    for each in again:
        world.wait_for(each, "Confirmed")
    for to in paid.values():
        assert world.chain.token_balance(world.token, to) == AMOUNT
    assert "ledger, journal and chain agree" in agrees(world)


def test_what_was_frozen_by_the_operator_is_let_go_by_a_signature(world: World) -> None:
    bot = world.service_account("stopped bot")
    wallet = world.wallet("stopped")
    directory = str(world.deployment.directory)
    run("freeze", "--dir", directory, "--wallet", wallet["id"], "--reason", "a drill")
    until(lambda: "a drill" in outlay(world, "freezes", "list", signed=False), "the freeze")
    with pytest.raises(Exception, match="frozen: a drill"):
        pay(world, bot, wallet, recipient(), "stopped")
    said = outlay(world, "unfreeze", "--wallet", wallet["id"], "--reason", "the drill is over")
    assert said == f"wallet {wallet['id']}: let go\n"
    assert outlay(world, "freezes", "list", signed=False) == "nothing is stopped\n"
    world.wait_for(pay(world, bot, wallet, recipient(), "let-go"), "Confirmed")
    assert "none of what is stopped" in outlay(world, "unfreeze", "--all", "--reason", "once more", code=4)


@pytest.mark.long
def test_a_journal_that_was_lost_is_put_in_place_by_an_admin(world: World) -> None:
    bot = world.service_account("patient bot")
    wallet, to = world.wallet("journal lost"), recipient()
    done = pay(world, bot, wallet, to, "journal-0")
    world.wait_for(done, "Confirmed")
    directory = world.deployment.directory
    root = world.made["rootFingerprint"]
    world.deployment.stop()
    lose(directory / "data" / "signer-journal.db")
    run("signer", "--dir", str(directory), "--new-journal", "--root", root)
    come_back(world)
    pay(world, bot, wallet, to, "journal-1")
    until(lambda: '"why": "unseeded"' in world.log, "a refusal")
    said = outlay(world, "signers", "reseed", "--reason", "the disk was lost", "--yes")
    assert said == "the signer goes on\n"
    world.wait_for(pay(world, bot, wallet, recipient(), "journal-2"), "Confirmed")
    assert pay(world, bot, wallet, to, "journal-0")["id"] == done["id"]
    assert world.chain.token_balance(world.token, to) == AMOUNT
    agrees(world)


def test_money_that_is_missing_is_told_and_ends_the_command_with_1(world: World) -> None:
    wallet = world.wallet("robbed")
    world.chain.rpc("anvil_setBalance", wallet["address"], hex(1))
    tools.mine(world.chain.url, 1)

    def told() -> str:
        text = run_reconcile(world)
        return text if "MISSING ON THE CHAIN" in text else ""

    text = str(until(told, "the finding"))
    assert "DIFFERS ETH: the chain shows 1, the ledger" in text and "1 DIFFER" in text


def run_reconcile(world: World) -> str:
    folder = world.deployment.directory.parent
    command = [sys.executable, "-m", "outlay", "wallets", "reconcile", "--url", world.url]
    command += ["--token-file", str(folder / "admin.token")]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == ("DIFFER" in ran.stdout)
    return ran.stdout
