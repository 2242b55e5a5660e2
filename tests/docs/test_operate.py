"""The pages for the night: every command on them is run against a server with a stuck payout."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from outlay.cli.profile import Profile, write_profile
from tests.world import USDC, World, until

ROOT = Path(__file__).resolve().parents[2]
RUNNABLE = re.compile(r"^```sh runnable\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Night:
    """A server, a wallet, and a shell with the names the pages use."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world, self._folder = world, folder
        self.payer = world.service_account("payouts bot")
        self.wallet = world.wallet("hot")
        for name in ("backup", "rehearsal"):
            (folder / name).mkdir()
        (folder / "token").write_text(world.admin.token)
        (folder / "key.pem").write_text(world.admin.private_key)
        write_profile(
            folder / "profile.toml",
            Profile(
                url=world.url,
                token_file=folder / "token",
                key_file=folder / "key.pem",
                credential=world.admin.credential_id,
            ),
        )
        self._names = {
            "DIR": str(world.deployment.directory),
            "OUTLAY_PROFILE": str(folder / "profile.toml"),
            "WALLET": self.wallet["id"],
            "BACKUP": str(folder / "backup"),
            "REHEARSAL": str(folder / "rehearsal"),
        }

    def pay(self, external_id: str) -> Any:
        """Ask for a small payout."""
        return self.world.pay(
            self.payer, self.wallet, "0x" + "ab" * 20, 5 * USDC, external_id, contract=self.world.token
        )

    def is_canceling(self, paid: Any) -> bool:
        """Tell whether a void was sent for a payout."""
        return bool(
            self.world.rows(
                'SELECT 1 FROM attempt a JOIN "transaction" t ON t.id = a.transaction_id'
                " WHERE t.transfer_id = ? AND a.purpose = 'void' AND a.sent_at IS NOT NULL",
                paid["id"],
            )
        )

    def run(self, page: str, **names: str) -> str:
        """Run every runnable block of a page in one shell; return what was printed."""
        blocks = RUNNABLE.findall((ROOT / "docs/operate" / page).read_text())
        assert blocks, f"{page} has no command"
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        ran = subprocess.run(
            ["bash", "-euo", "pipefail"],
            input="\n".join(blocks),
            env={**os.environ, "PATH": path, **self._names, **names},
            cwd=self._folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ran.returncode == 0, f"{page}: {ran.stdout}{ran.stderr}"
        return ran.stdout


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    """Open a server, with a directory beside it for copies."""
    folder = tmp_path_factory.mktemp("night")
    with World.open(folder, preset="none") as world:
        (folder / "desk").mkdir()
        yield Night(world, folder / "desk")


def test_a_stuck_payout_is_looked_at_sped_up_and_canceled(night: Night) -> None:
    world = night.world
    with world.no_blocks():
        paid = night.pay("stuck-1")
        world.wait_for(paid, "Broadcasted")
        said = night.run("stuck-payout.md", PAYOUT=paid["id"])
        assert "broadcast" in said
        assert "no policy was about it, and the default decided" in said and "What happened:" in said
        until(lambda: night.is_canceling(paid), "the void to be sent")
    done = world.wait_for(paid, "Failed", "Confirmed")
    assert done["status"] == "Failed"
    assert "nothing was paid" in done["reason"]


def test_a_wallet_is_frozen_and_let_go_again(night: Night) -> None:
    said = night.run("frozen-wallet.md")
    assert f"frozen: wallet {night.wallet['id']}" in said
    assert "agree" in said
    night.world.wait_for(night.pay("after-the-freeze"), "Confirmed")


def test_copies_are_made_and_a_rehearsal_opens_the_keys(night: Night) -> None:
    restored = night.run("restore.md")
    assert "agree" in restored
    assert "0 wrong" in restored
    assert "records are in order and signed" in restored
    said = night.run("key-backup.md")
    assert night.wallet["id"] in said
    assert night.wallet["address"].lower() in said.lower()
    assert "the journal is whole" in said


def test_both_phases_of_an_upgrade_can_be_run_beside_what_runs(night: Night) -> None:
    assert night.run("upgrade.md").count("the database") >= 2
    night.world.wait_for(night.pay("after-the-upgrade"), "Confirmed")
