"""An upgrade without a pause, rehearsed: ``pre`` beside processes of the version before, then new ones, then ``post``.

The next version is this one with two more revisions and a column that its programs read and write. What is rehearsed
is what this version promises: its processes go on paying on a database that the next one has added to.
"""

import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import outlay
from outlay.store.migrate import _chain
from tests.fleet.fleet import Fleet
from tests.fleet.load import Asked, Load, recipient
from tests.fleet.oracle import Oracle
from tests.world import ETH, NETWORK, USDC, Receiver, until

PAUSE_S = 0.4
"""Between two payouts of the load that goes on all the time: less than one lane can send."""

PATIENCE_S = 120.0
MORE = 5
"""Payouts that have to be confirmed in each phase."""

REVISION = '''\
"""Of the next version."""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{before}"
branch_labels = None
depends_on = None
phase = "{phase}"


def upgrade() -> None:
    """Apply."""
    {change}
'''
PRE = 'op.add_column("transfer", sa.Column("colour", sa.Text(), nullable=True, server_default="blue"))'
POST = 'op.drop_index("ix_transfer_wallet_id", "transfer")'
"""What only the version before needs: an index, here."""

COLUMN, NEW_COLUMN = '    _opt("waiting_reason", Text),\n', '    _opt("colour", Text, server_default="blue"),\n'


def next_version(folder: Path) -> Path:
    """Return where the program of the next version is."""
    package = folder / "next" / "outlay"
    shutil.copytree(Path(str(outlay.__file__)).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    schema = package / "store" / "schema.py"
    text = schema.read_text()
    assert text.count(COLUMN) == 1
    schema.write_text(text.replace(COLUMN, COLUMN + NEW_COLUMN))
    newest = _chain(folder)[-1][0]
    for revision, before, phase, change in (("9001", newest, "pre", PRE), ("9002", "9001", "post", POST)):
        text = REVISION.format(revision=revision, before=before, phase=phase, change=change)
        (package / "store" / "migrations" / "versions" / f"{revision}_next.py").write_text(text)
    return package.parent


@dataclass
class Rehearsal:
    """A fleet that pays all the time."""

    fleet: Fleet
    load: Load
    payer: Any
    wallet: Any
    _ended: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        """Begin to ask."""
        self._thread = threading.Thread(target=self._pay_for_ever)
        self._thread.start()

    def finish(self) -> None:
        """Ask for no more, and wait for the answers; doing it twice is harmless."""
        self._ended.set()
        self._thread.join()
        self.load.close()

    def _pay_for_ever(self) -> None:
        """Ask for one payout after the other until it is over."""
        chance = random.Random("upgrade")
        while not self._ended.wait(PAUSE_S):
            number = len(self.load.asked)
            wanted = Asked(
                external_id=f"upgrade-{number}",
                by=self.payer,
                wallet=self.wallet,
                to=recipient(chance),
                amount=USDC + number,
                contract=self.fleet.world.token,
            )
            self.load.ask([wanted])

    def see_more(self, what: str) -> None:
        """Wait until payouts asked for from now on are confirmed."""
        since = time.time_ns() // 1000
        query = "SELECT count(*) AS n FROM transfer WHERE state = 'confirmed' AND requested_at > %s"
        until(lambda: self.fleet.rows(query, since)[0]["n"] >= MORE, f"payouts {what}", timeout_s=PATIENCE_S)

    def outlay(self, *words: str, source: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run ``outlay``, of this version or of another one."""
        environment = {**os.environ} if source is None else {**os.environ, "PYTHONPATH": str(source)}
        directory = str(self.fleet.world.deployment.directory)
        command = [sys.executable, "-m", "outlay", *words, "--dir", directory]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE_S)


def words(text: str) -> str:
    """Return what a terminal broke into lines as one."""
    return " ".join(text.split())


@contextmanager
def rehearsal(folder: Path, *, sqlite: bool) -> Iterator[tuple[Rehearsal, Oracle]]:
    """Start processes of this version, and a load that does not end before the block does."""
    with Fleet.open(folder, apis=1, workers=1, sqlite=sqlite) as fleet:
        world, receiver = fleet.world, Receiver()
        world.admin.sdk.webhooks.create_webhook({"url": receiver.url, "events": ["*"]})
        wallet = world.admin.sdk.wallets.create_wallet({"network": NETWORK, "name": "hot", "tags": ["none"]})
        world.chain.fund(wallet["address"], 10 * ETH)
        world.chain.mint(world.token, wallet["address"], 10**6 * USDC)
        payer = world.service_account("payouts bot")
        load = Load(fleet, random.Random(0), threads=2)
        playing = Rehearsal(fleet, load, payer, wallet)
        oracle = Oracle(fleet=fleet, wallets=[wallet], receivers=[receiver], amount_cap=10**12, count_cap=0)
        try:
            yield playing, oracle
        finally:
            playing.finish()
            receiver.close()


@pytest.mark.parametrize(
    "database", [pytest.param("sqlite", marks=pytest.mark.long), pytest.param("postgresql", marks=pytest.mark.ci)]
)
def test_a_version_replaces_the_one_before_while_payouts_flow(tmp_path: Path, database: str) -> None:
    source = next_version(tmp_path)
    with rehearsal(tmp_path, sqlite=database == "sqlite") as (playing, oracle):
        fleet, old = playing.fleet, list(playing.fleet.of("api") + playing.fleet.of("worker"))
        playing.see_more("by the version before")
        early = playing.outlay("worker", source=source)
        assert early.returncode != 0
        assert "this version needs 9001: run `outlay migrate --phase pre`" in words(early.stderr)
        done = playing.outlay("migrate", "--phase", "pre", source=source)
        assert done.returncode == 0, done.stderr
        playing.see_more("by the version before, after what the next one added")
        fleet.add("worker-next", source=source)
        fleet.add("api-next", source=source)
        until(fleet._answers, "the new API", timeout_s=PATIENCE_S)
        playing.see_more("with both versions side by side")
        assert all(each.starts == 1 for each in old), "no process of the version before fell over"
        for each in old:
            fleet.remove(each)
        done = playing.outlay("migrate", "--phase", "post", source=source)
        assert done.returncode == 0, done.stderr
        playing.see_more("by the new version alone")
        late = playing.outlay("worker")
        assert late.returncode != 0
        assert "was upgraded to revision 9002, for a newer version" in words(late.stderr)
        playing.finish()
        oracle.come_to_rest()
        oracle.check(playing.load.asked)
        assert fleet.rows("SELECT count(*) AS n FROM transfer WHERE colour = 'blue'")[0]["n"] > 0
